"""gradient: Adam through the model from several starts at once (as in gradient-based trajectory optimisation with learned models,
e.g. Parmas et al. 2018, "PIPPS"; Bharadhwaj et al. 2020, "Model-predictive control via cross-entropy and gradient-based
optimization"). Steps are clipped to the action limits.

A gradient follows the model into its own errors where it leads there, and sees no way around a wall: starts are therefore many
and smooth in time, and a share of them is drawn anew at each decision.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from agents.planning.search import Proposal, SmoothSearch, sample_gaussian, searches

STEP_SIZE = 0.1  # of a step, where actions are in [-1, 1]: a few iterations have to cross them; our own
BETAS, EPSILON = (0.9, 0.999), 1e-8  # Kingma and Ba 2015, "Adam"
KEPT_SHARE = 0.25  # of the plans, starts of the next decision


@dataclass(frozen=True)
class DescentProposal(Proposal):
    """Plans on their way down, as `elites`, and Adam's two averages of their gradients."""

    first: Tensor = field(default_factory=lambda: torch.zeros(()))
    second: Tensor = field(default_factory=lambda: torch.zeros(()))
    steps: int = 0


@searches.add("gradient")
class GradientDescent(SmoothSearch):
    needs_gradient = True

    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        candidates = sample_gaussian(proposal, self.config.samples, generator, self._basis)
        kept = proposal.elites[1 : self.config.samples]  # the first is the mean
        candidates[1 : 1 + len(kept)] = kept
        return candidates

    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        if not costs.requires_grad:
            return DescentProposal(candidates[costs.argmin()], proposal.std, candidates[costs.argsort()])
        (slope,) = torch.autograd.grad(costs.sum(), candidates)
        slope = slope.nan_to_num(0.0, 0.0, 0.0)
        before = (
            proposal if isinstance(proposal, DescentProposal) and proposal.steps else DescentProposal(proposal.mean, proposal.std)
        )
        first = torch.lerp(slope, before.first.expand_as(slope), BETAS[0])
        second = torch.lerp(slope.square(), before.second.expand_as(slope), BETAS[1])
        steps = before.steps + 1
        step = first / (1 - BETAS[0] ** steps) / ((second / (1 - BETAS[1] ** steps)).sqrt() + EPSILON)
        order = costs.detach().argsort()
        plans = (candidates.detach() - STEP_SIZE * step).clamp(-1, 1)[order]
        return DescentProposal(plans[0], proposal.std, plans, first[order], second[order], steps)

    def make_warm_start(self, proposal: Proposal) -> Proposal:
        moved = super().make_warm_start(proposal)
        kept = moved.elites[: max(1, int(KEPT_SHARE * self.config.samples))]
        return Proposal(moved.mean, moved.std, torch.cat([moved.mean[None], kept]))
