"""beam: a tree search over actions that the scene proposes, for actions that are whole skills.

Each iteration is one level of the tree. It extends the best plans so far by one proposed action
each, and keeps the best of them. The proposals after a plan are made from the state that the model
predicts there. Without proposals of a scene the method equals icem.
"""

from dataclasses import replace

import torch
from torch import Tensor

from agents.planning.search import Proposal, searches
from agents.planning.search.icem import ImprovedCrossEntropy

BEAM_WIDTH = 6  # plans that are kept after each level


@searches.add("beam")
class BeamSearch(ImprovedCrossEntropy):
    """Beam search over proposed actions; the number of iterations is the depth of the tree."""

    uses_scene_actions = True

    def count_actions(self, proposal: Proposal) -> int:
        """Count the actions to propose after each elite of a proposal."""
        return self.config.samples // max(1, len(proposal.elites) if proposal.iterations else 1)

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        if proposal.actions is None:
            return super().propose(proposal, generator)
        count = proposal.actions.shape[1]
        actions = proposal.actions.flatten(0, 1)[:, None]
        if not proposal.iterations:
            return actions
        return torch.cat([proposal.elites.repeat_interleave(count, 0), actions], 1)

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        if proposal.actions is None:
            return super().update(proposal, candidates, costs)
        best = costs.argsort(stable=True)[:BEAM_WIDTH]
        iterations = proposal.iterations + 1
        return replace(proposal, elites=candidates[best], elite_indices=best, actions=None, iterations=iterations)

    def make_warm_start(self, proposal: Proposal) -> Proposal:
        if not self.is_tree(proposal):
            return super().make_warm_start(proposal)
        return self.make_initial_proposal(proposal.mean.shape[1])

    @staticmethod
    def is_tree(proposal: Proposal) -> bool:
        """Return True if a proposal's candidates come from the scene."""
        return proposal.actions is not None or proposal.elite_indices is not None
