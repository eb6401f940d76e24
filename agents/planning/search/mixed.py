"""mixed: mppi with a share of candidates from a prior policy.

Source: TD-MPC (Hansen et al. 2022, "Temporal difference learning for model predictive control"),
which mixes samples of a policy into the planner's population. The prior policy takes a single
observation at a time, which is too slow for every candidate. It is therefore rolled out once in a
decision, and the other candidates of its share are noisy copies of that plan.
"""

from dataclasses import replace

import torch
from torch import Tensor

from agents.planning.search import Proposal, sample_gaussian, searches
from agents.planning.search.mppi import Mppi

PRIOR_SHARE = 0.25  # share of the candidates from the prior policy
PRIOR_STD_SCALE = 0.5  # spread of the copies, relative to that of the proposal


@searches.add("mixed")
class Mixed(Mppi):
    """Path integral control with a prior policy."""

    needs_prior = True

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        candidates = super().propose(proposal, generator)
        if proposal.prior_plan is not None:
            count = max(1, int(PRIOR_SHARE * len(candidates)))
            prior = Proposal(proposal.prior_plan, PRIOR_STD_SCALE * proposal.std)
            candidates[1 : 1 + count] = sample_gaussian(prior, count, generator, self._basis)
        return candidates

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        return replace(super().update(proposal, candidates, costs), prior_plan=proposal.prior_plan)
