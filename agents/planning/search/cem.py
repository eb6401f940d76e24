"""cem: refit a Gaussian to the best tenth (Rubinstein 1999, "The cross-entropy method"; elites and the part that is kept as in
PETS, Chua et al. 2018, which stops where the spread gets small; here it stays above a twelfth of what it begins with)."""

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchMethod, sample_gaussian, searches

ELITE_SHARE = 0.1
MOMENTUM = 0.1  # of the old mean and spread in the new ones
MIN_STD = 0.05  # so that the next decision, and a bad fit to few elites, can be left


@searches.add("cem")
class CrossEntropy(SearchMethod):
    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        return sample_gaussian(proposal, self.config.samples, generator)

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        return refit(proposal, select_elites(candidates, costs))


def select_elites(candidates: Tensor, costs: Tensor) -> Tensor:
    """The elites (E, H, A), the cheapest first."""
    return candidates[costs.topk(max(2, int(ELITE_SHARE * len(costs))), largest=False).indices]


def refit(proposal: Proposal, elites: Tensor) -> Proposal:
    """Mean and spread of the elites, with a part of the old ones."""
    mean = torch.lerp(elites.mean(0), proposal.mean, MOMENTUM)
    return Proposal(mean, torch.lerp(elites.std(0), proposal.std, MOMENTUM).clamp(min=MIN_STD))
