"""predictive: perturb the best plan, and take the best candidate as the next plan.

Source: Howell et al. 2022, "Predictive sampling: real-time behaviour synthesis with MuJoCo". The
noise of the paper has a single scale, which is tuned for each task. Here the scales of the samples
range from MIN_NOISE_SCALE to 1, so that small and large changes are tried.
"""

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchConfig, SearchMethod, sample_gaussian, searches

MIN_NOISE_SCALE = 0.05  # scale of the smallest noise, relative to the proposal's spread


@searches.add("predictive")
class PredictiveSampling(SearchMethod):
    """Predictive sampling with smooth noise of several scales."""

    def __init__(self, config: SearchConfig | None = None) -> None:
        super().__init__(config)
        self._scales = torch.logspace(torch.tensor(MIN_NOISE_SCALE).log10().item(), 0, self.config.samples)[:, None, None]

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        zero_mean = Proposal(torch.zeros_like(proposal.mean), proposal.std)
        noise = self._scales * sample_gaussian(zero_mean, self.config.samples, generator, self._basis)
        return (proposal.mean + noise).clamp(-1, 1)

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        return Proposal(candidates[costs.argmin()], proposal.std)
