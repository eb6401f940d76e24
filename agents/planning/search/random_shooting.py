"""random: sample from a fixed distribution, and take the best. A lower bound for search methods."""

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchMethod, sample_gaussian, searches


@searches.add("random")
class RandomShooting(SearchMethod):
    """Random shooting: samples of a wide Gaussian of zero mean, clipped to the limits."""

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        wide = Proposal(torch.zeros_like(proposal.mean), torch.ones_like(proposal.std))
        candidates = sample_gaussian(wide, self.config.samples, generator)
        candidates[0] = proposal.mean
        return candidates

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        return Proposal(candidates[costs.argmin()], proposal.std)
