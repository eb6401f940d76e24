"""mixed: what a policy would do is a candidate, and so are plans near it, beside those of mppi (after TD-MPC, Hansen et al. 2022,
"Temporal difference learning for model predictive control", whose planner mixes samples of a policy into its population).

The policy, the planner's guide, acts on imagined observations. It takes one observation at a time, too slow for every candidate:
it is rolled out once per decision, and its plan's neighbours are noisy copies of that. It wins only where the model says so.
"""

from dataclasses import replace

import torch
from torch import Tensor

from agents.planning.search import Proposal, sample_gaussian, searches
from agents.planning.search.mppi import Mppi

PRIOR_SHARE = 0.25  # of the candidates
PRIOR_STD_SCALE = 0.5  # spread of the copies, of the search's


@searches.add("mixed")
class Mixed(Mppi):
    needs_prior = True

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        candidates = super().propose(proposal, generator)
        if proposal.prior_plan is not None:
            guided = max(1, int(PRIOR_SHARE * len(candidates)))
            near = Proposal(proposal.prior_plan, PRIOR_STD_SCALE * proposal.std)
            candidates[1 : 1 + guided] = sample_gaussian(near, guided, generator, self._basis)
        return candidates

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        return replace(super().update(proposal, candidates, costs), prior_plan=proposal.prior_plan)
