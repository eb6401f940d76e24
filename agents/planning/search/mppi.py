"""mppi: average candidates by the exponential of their cost (Williams et al. 2017, "Information theoretic MPC").

A share of the samples starts from standing still instead of from the last plan, so that a new idea can win. The temperature is
relative to the spread of the costs, so that one value fits every task: the paper, with one update per decision and a fixed spread
of the noise, tunes it for each. The values are our own.
"""

import torch
from torch import Tensor

from agents.planning.search import Proposal, SmoothSearch, sample_gaussian, searches

TEMPERATURE = 0.1  # of the standard deviation of the costs
ZERO_MEAN_SHARE = 0.25
STD_DECAY = 0.7  # the spread, from one iteration to the next, as elites do it for cem


@searches.add("mppi")
class Mppi(SmoothSearch):
    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        fresh = int(ZERO_MEAN_SHARE * self.config.samples)
        near = sample_gaussian(proposal, self.config.samples - fresh, generator, self._basis)
        if not fresh:
            return near
        blank = Proposal(torch.zeros_like(proposal.mean), torch.ones_like(proposal.std))
        return torch.cat([near, sample_gaussian(blank, fresh, generator, self._basis)])

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        scale = TEMPERATURE * costs.std(correction=0) + 1e-6
        weights = torch.softmax(-(costs - costs.min()) / scale, 0)
        return Proposal(torch.einsum("b,bha->ha", weights, candidates), STD_DECAY * proposal.std)
