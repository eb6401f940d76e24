"""random: draw once, keep the best. The floor for search methods."""

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchMethod, sample_gaussian, searches


@searches.add("random")
class RandomShooting(SearchMethod):
    """Uniform in spirit: a wide Gaussian clipped to the limits, every iteration drawn anew around zero."""

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        fresh = sample_gaussian(
            Proposal(torch.zeros_like(proposal.mean), torch.ones_like(proposal.std)), self.config.samples, generator
        )
        fresh[0] = proposal.mean
        return fresh

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        return Proposal(candidates[costs.argmin()], proposal.std)
