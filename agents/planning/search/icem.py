"""icem: the cross-entropy method with noise coloured in time, elites that are kept, and a population that shrinks from one
iteration to the next (Pinneri et al. 2020, "Sample-efficient cross-entropy method for real-time planning"; its values).

All iterations together have as many candidates as those of other methods, so that methods are compared at equal model calls.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchConfig, SearchMethod, searches
from agents.planning.search.cem import refit, select_elites

KEPT_ELITE_SHARE = 0.3  # of the elites: candidates again, in the next iteration and in the next decision
NOISE_EXPONENT = 2.0  # power falls with frequency to this power
POPULATION_DECAY = 1.25  # the population, by this factor from one iteration to the next


@dataclass(frozen=True)
class IteratedProposal(Proposal):
    """A proposal that knows how many iterations of its decision were made."""

    iterations: int = 0


@searches.add("icem")
class ImprovedCrossEntropy(SearchMethod):
    def __init__(self, config: SearchConfig | None = None) -> None:
        super().__init__(config)
        self._colour = make_colouring_matrix(self.config.horizon, NOISE_EXPONENT)
        self._populations = compute_populations(self.config.samples, self.config.iterations)

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        population = self._populations[min(_get_iterations(proposal), len(self._populations) - 1)]
        white = torch.randn(population, *proposal.mean.shape, generator=generator)
        candidates = (proposal.mean + (self._colour @ white) * proposal.std).clamp(-1, 1)
        candidates[0] = proposal.mean
        kept = proposal.elites[: population - 1]
        candidates[1 : 1 + len(kept)] = kept
        return candidates

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        elites = select_elites(candidates, costs)
        fitted, kept = refit(proposal, elites), elites[: max(1, int(KEPT_ELITE_SHARE * len(elites)))]
        return IteratedProposal(fitted.mean, fitted.std, kept, iterations=_get_iterations(proposal) + 1)


def compute_populations(samples: int, iterations: int) -> list[int]:
    """Candidates of each iteration: at least two, and `samples` on average."""
    shares = [POPULATION_DECAY**-i for i in range(iterations)]
    counts = [2 + int((samples - 2) * iterations * share / sum(shares)) for share in shares]
    counts[0] += samples * iterations - sum(counts)
    return counts


def _get_iterations(proposal: Proposal) -> int:
    """None yet where a decision begins: what moves on in time forgets them."""
    return proposal.iterations if isinstance(proposal, IteratedProposal) else 0


def make_colouring_matrix(horizon: int, exponent: float) -> Tensor:
    """(H, H) that turns white noise over time into noise of unit variance whose power falls as frequency ** -exponent."""
    frequencies = torch.fft.rfftfreq(horizon).clamp(min=1 / horizon)  # the mean varies as the slowest wave does
    spectrum = torch.fft.rfft(torch.eye(horizon), dim=0) * frequencies[:, None] ** (-exponent / 2)
    matrix = torch.fft.irfft(spectrum, n=horizon, dim=0)
    return matrix / matrix.square().sum(1, keepdim=True).sqrt()
