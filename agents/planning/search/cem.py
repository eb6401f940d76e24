"""cem: refit a Gaussian to the best tenth of the candidates.

Source: Rubinstein 1999, "The cross-entropy method for combinatorial and continuous optimization".
The share of elites and the momentum are those of PETS (Chua et al. 2018). PETS stops when the
spread is small; here the spread has a lower limit.
"""

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchMethod, sample_gaussian, searches

ELITE_SHARE = 0.1
MOMENTUM = 0.1  # weight of the previous mean and spread in the new mean and spread
MIN_STD = 0.05  # lets the search leave a bad fit to few elites


@searches.add("cem")
class CrossEntropy(SearchMethod):
    """Cross-entropy method with independent noise."""

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        return sample_gaussian(proposal, self.config.samples, generator)

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        return refit(proposal, select_elites(candidates, costs))


def select_elites(candidates: Tensor, costs: Tensor) -> Tensor:
    """Select the candidates of lowest cost.

    Args:
        candidates: (B, H, A).
        costs: (B,).

    Returns:
        (E, H, A) elites, the best first.
    """
    return candidates[costs.topk(max(2, int(ELITE_SHARE * len(costs))), largest=False).indices]


def refit(proposal: Proposal, elites: Tensor) -> Proposal:
    """Fit mean and spread to elites, with momentum.

    Args:
        proposal: the previous proposal.
        elites: (E, H, A).
    """
    mean = torch.lerp(elites.mean(0), proposal.mean, MOMENTUM)
    return Proposal(mean, torch.lerp(elites.std(0), proposal.std, MOMENTUM).clamp(min=MIN_STD))
