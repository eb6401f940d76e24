"""mppi: average the candidates, weighted by the exponential of their negative cost.

Source: Williams et al. 2017, "Information theoretic MPC for model-based reinforcement learning".
A share of the samples has zero mean instead of the last plan, so that different plans can win. The
temperature is relative to the spread of the costs, so that one value fits every task. The paper has
one update in a decision and a fixed spread of the noise, and tunes the temperature for each task.
The values are our own.
"""

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchMethod, sample_gaussian, searches

TEMPERATURE = 0.1  # relative to the standard deviation of the costs
ZERO_MEAN_SHARE = 0.25  # share of the samples with zero mean
STD_DECAY = 0.7  # factor on the spread in each iteration


@searches.add("mppi")
class Mppi(SearchMethod):
    """Model predictive path integral control with smooth noise."""

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        num_zero_mean = int(ZERO_MEAN_SHARE * self.config.samples)
        candidates = sample_gaussian(proposal, self.config.samples - num_zero_mean, generator, self._basis)
        if not num_zero_mean:
            return candidates
        zero_mean = Proposal(torch.zeros_like(proposal.mean), torch.ones_like(proposal.std))
        return torch.cat([candidates, sample_gaussian(zero_mean, num_zero_mean, generator, self._basis)])

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        scale = TEMPERATURE * costs.std(correction=0) + 1e-6
        weights = torch.softmax(-(costs - costs.min()) / scale, 0)
        return Proposal(torch.einsum("b,bha->ha", weights, candidates), STD_DECAY * proposal.std)
