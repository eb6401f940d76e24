"""icem: the cross-entropy method with noise coloured in time and elites that are kept (Pinneri et al. 2020, "Sample-efficient
cross-entropy method for real-time planning"; its values).

The paper also lets the population shrink from one iteration to the next. Here every iteration has as many candidates, so that
methods are compared at equal model calls.
"""

from dataclasses import replace

import torch
from torch import Tensor

from agents.search import Proposal, SearchConfig, SearchMethod, searches
from agents.search.cem import best, refit

KEPT = 0.3  # of the elites: candidates again, in the next iteration and in the next decision
COLOUR = 2.0  # power falls with frequency to this power


@searches.add("icem")
class ImprovedCrossEntropy(SearchMethod):
    def __init__(self, config: SearchConfig | None = None) -> None:
        super().__init__(config)
        self._colour = colouring(self.config.horizon, COLOUR)

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        white = torch.randn(self.config.samples, *proposal.mean.shape, generator=generator)
        candidates = (proposal.mean + (self._colour @ white) * proposal.std).clamp(-1, 1)
        candidates[0] = proposal.mean
        kept = proposal.elites[: self.config.samples - 1]
        candidates[1 : 1 + len(kept)] = kept
        return candidates

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        elites = best(candidates, costs)
        return replace(refit(proposal, elites), elites=elites[: max(1, int(KEPT * len(elites)))])


def colouring(horizon: int, exponent: float) -> Tensor:
    """(H, H) that turns white noise over time into noise of unit variance whose power falls as frequency ** -exponent."""
    frequencies = torch.fft.rfftfreq(horizon).clamp(min=1 / horizon)  # the mean varies as the slowest wave does
    spectrum = torch.fft.rfft(torch.eye(horizon), dim=0) * frequencies[:, None] ** (-exponent / 2)
    matrix = torch.fft.irfft(spectrum, n=horizon, dim=0)
    return matrix / matrix.square().sum(1, keepdim=True).sqrt()
