"""icem: cross-entropy method with coloured noise, reused elites and a shrinking population.

Source of the method and its values: Pinneri et al. 2020, "Sample-efficient cross-entropy method for
real-time planning". The iterations of a decision have as many candidates in total as those of the
other methods, so that methods are compared at equal numbers of model steps.
"""

from dataclasses import replace

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchConfig, SearchMethod, searches
from agents.planning.search.cem import refit, select_elites

REUSED_ELITE_SHARE = 0.3  # share of the elites that are candidates of the next iteration or decision
NOISE_EXPONENT = 2.0  # the power of the noise is proportional to frequency ** -NOISE_EXPONENT
POPULATION_DECAY = 1.25  # the population is divided by this factor from iteration to iteration


@searches.add("icem")
class ImprovedCrossEntropy(SearchMethod):
    """Cross-entropy method of Pinneri et al."""

    def __init__(self, config: SearchConfig | None = None) -> None:
        super().__init__(config)
        self._colour = make_colouring_matrix(self.config.horizon, NOISE_EXPONENT)
        self._populations = compute_populations(self.config.samples, self.config.iterations)

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        population = self._populations[min(proposal.iterations, len(self._populations) - 1)]
        white = torch.randn(population, *proposal.mean.shape, generator=generator)
        candidates = (proposal.mean + (self._colour @ white) * proposal.std).clamp(-1, 1)
        candidates[0] = proposal.mean
        reused_elites = proposal.elites[: population - 1]
        candidates[1 : 1 + len(reused_elites)] = reused_elites
        return candidates

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        elites = select_elites(candidates, costs)
        reused_elites = elites[: max(1, int(REUSED_ELITE_SHARE * len(elites)))]
        return replace(refit(proposal, elites), elites=reused_elites, iterations=proposal.iterations + 1)


def compute_populations(samples: int, iterations: int) -> list[int]:
    """Compute the number of candidates of each iteration: at least 2, and `samples` on average."""
    shares = [POPULATION_DECAY**-i for i in range(iterations)]
    counts = [2 + int((samples - 2) * iterations * share / sum(shares)) for share in shares]
    counts[0] += samples * iterations - sum(counts)
    return counts


def make_colouring_matrix(horizon: int, exponent: float) -> Tensor:
    """Make the matrix that turns white noise over time into coloured noise of unit variance.

    Args:
        horizon: number of steps H.
        exponent: the power of the noise is proportional to frequency ** -exponent.

    Returns:
        (H, H) matrix.
    """
    # The constant component has the power of the lowest frequency.
    frequencies = torch.fft.rfftfreq(horizon).clamp(min=1 / horizon)
    spectrum = torch.fft.rfft(torch.eye(horizon), dim=0) * frequencies[:, None] ** (-exponent / 2)
    matrix = torch.fft.irfft(spectrum, n=horizon, dim=0)
    return matrix / matrix.square().sum(1, keepdim=True).sqrt()
