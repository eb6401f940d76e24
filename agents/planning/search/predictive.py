"""predictive: perturb the best plan so far, and keep what is better (Howell et al. 2022, "Predictive sampling").

The paper's noise has one size, to be tuned for each task; here samples have sizes from a twentieth of the spread to all of it, so
that both small and large steps are tried.
"""

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchConfig, SmoothSearch, sample_gaussian, searches

MIN_NOISE_SCALE = 0.05  # size of the smallest noise, of the spread


@searches.add("predictive")
class PredictiveSampling(SmoothSearch):
    def __init__(self, config: SearchConfig | None = None) -> None:
        super().__init__(config)
        self._sizes = torch.logspace(torch.tensor(MIN_NOISE_SCALE).log10().item(), 0, self.config.samples)[:, None, None]

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        around = Proposal(torch.zeros_like(proposal.mean), proposal.std)
        noise = self._sizes * sample_gaussian(around, self.config.samples, generator, self._basis)
        return (proposal.mean + noise).clamp(-1, 1)

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        return Proposal(candidates[costs.argmin()], proposal.std)
