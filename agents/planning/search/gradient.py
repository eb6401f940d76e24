"""gradient: optimise many candidates with Adam, by gradients through the model.

Gradient-based trajectory optimisation with learned models: e.g. Parmas et al. 2018, "PIPPS";
Bharadhwaj et al. 2020, "Model-predictive control via cross-entropy and gradient-based
optimization". Actions are clipped to their limits after each step.

A gradient can lead into errors of the model, and finds no route around a wall. There are therefore
many initial candidates, smooth in time, and a share of them is resampled in each decision.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from agents.planning.search import Proposal, SearchMethod, sample_gaussian, searches

STEP_SIZE = 0.1  # our own value: few iterations must cross the range [-1, 1] of actions
BETAS = (0.9, 0.999)  # Kingma and Ba 2015, "Adam"
EPSILON = 1e-8  # as BETAS
REUSED_SHARE = 0.25  # share of the plans that are candidates of the next decision


@dataclass(frozen=True)
class DescentProposal(Proposal):
    """Partly optimised plans, as `elites`, and the state of Adam."""

    first_moment: Tensor = field(default_factory=lambda: torch.zeros(()))  # (B, H, A)
    second_moment: Tensor = field(default_factory=lambda: torch.zeros(()))  # (B, H, A)
    steps: int = 0


@searches.add("gradient")
class GradientDescent(SearchMethod):
    """Gradient descent from several initial candidates."""

    needs_gradient = True

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        candidates = sample_gaussian(proposal, self.config.samples, generator, self._basis)
        retained_candidates = proposal.elites[1 : self.config.samples]  # the first elite is the mean
        candidates[1 : 1 + len(retained_candidates)] = retained_candidates
        return candidates

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        if not costs.requires_grad:
            return DescentProposal(candidates[costs.argmin()], proposal.std, candidates[costs.argsort()])
        (gradient,) = torch.autograd.grad(costs.sum(), candidates)
        gradient = gradient.nan_to_num(0.0, 0.0, 0.0)
        if not isinstance(proposal, DescentProposal):
            proposal = DescentProposal(proposal.mean, proposal.std)
        first = torch.lerp(gradient, proposal.first_moment.expand_as(gradient), BETAS[0])
        second = torch.lerp(gradient.square(), proposal.second_moment.expand_as(gradient), BETAS[1])
        steps = proposal.steps + 1
        step = first / (1 - BETAS[0] ** steps) / ((second / (1 - BETAS[1] ** steps)).sqrt() + EPSILON)
        order = costs.detach().argsort()
        plans = (candidates.detach() - STEP_SIZE * step).clamp(-1, 1)[order]
        return DescentProposal(plans[0], proposal.std, plans, first[order], second[order], steps)

    def make_warm_start(self, proposal: Proposal) -> Proposal:
        shifted = super().make_warm_start(proposal)
        reused_plans = shifted.elites[: max(1, int(REUSED_SHARE * self.config.samples))]
        return Proposal(shifted.mean, shifted.std, torch.cat([shifted.mean[None], reused_plans]))
