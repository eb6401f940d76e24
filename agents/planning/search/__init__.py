"""Search methods: each proposes candidates, and updates its proposal by their costs.

Each module of this package registers one method.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sim.utils.errors import GroundError
from sim.utils.registry import Registry

NUM_KNOTS = 6  # knots of the linear spline of smooth noise


@dataclass(frozen=True)
class Proposal:
    """A diagonal Gaussian over action sequences, and sequences that some methods evaluate again.

    Attributes:
        mean: (H, A) actions in [-1, 1].
        std: (H, A) standard deviations.
        elites: (E, H, A) sequences of low cost, the best first.
        prior_plan: (H, A) rollout of the planner's prior policy, for methods that need it.
        iterations: completed iterations of the decision, for methods that count them.
        actions: (E, K, A) actions that the scene proposes after each elite, or (1, K, A) at the
            start, for methods that use them.
        elite_indices: (E,) rows of the elites in the last candidates, for these methods.
    """

    mean: Tensor
    std: Tensor
    elites: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1))
    prior_plan: Tensor | None = field(default=None, kw_only=True)
    iterations: int = field(default=0, kw_only=True)
    actions: Tensor | None = field(default=None, kw_only=True)
    elite_indices: Tensor | None = field(default=None, kw_only=True)

    def shift(self) -> "Proposal":
        """Shift by one control step: remove the first action, and repeat the last action."""
        elites = torch.cat([self.elites[:, 1:], self.elites[:, -1:]], 1) if len(self.elites) else self.elites
        return Proposal(torch.cat([self.mean[1:], self.mean[-1:]]), torch.cat([self.std[1:], self.std[-1:]]), elites)


@dataclass(frozen=True)
class SearchConfig:
    """Budget and spread of a search.

    A decision takes samples × horizon × iterations model steps, and 2 × horizon more with a prior
    policy. The default values are our own. A slow CPU core decides in less than 0.1 s with them,
    and 2.5 s are enough to drive around a load and push it.
    """

    samples: int = 128  # candidates of an iteration, on average
    iterations: int = 2
    horizon: int = 25  # control steps
    std: float = 0.6  # initial standard deviation of actions

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("iterations", 1), ("horizon", 1)):
            if getattr(self, name) < least:
                raise GroundError(f"search {name} {getattr(self, name)} must be at least {least}")
        if not 0 < self.std <= 10:
            raise GroundError(f"search std {self.std} must be in (0, 10]")


class SearchMethod(ABC):
    """Base of the search methods, which share the planner's loop.

    A method is defined by `propose` and `update`.
    """

    needs_prior = False  # proposals need a prior plan
    needs_gradient = False  # `update` differentiates the costs with respect to the candidates
    uses_scene_actions = False  # candidates are actions that the scene proposes

    def __init__(self, config: SearchConfig | None = None) -> None:
        self.config = config or SearchConfig()
        # Of smooth noise: a spline through few knots, as in a real manoeuvre.
        self._basis = make_spline_basis(self.config.horizon, min(NUM_KNOTS, self.config.horizon))

    def make_initial_proposal(self, action_size: int) -> Proposal:
        """Make the first proposal of an episode: zero mean, and the configured spread."""
        shape = (self.config.horizon, action_size)
        return Proposal(torch.zeros(shape), torch.full(shape, self.config.std))

    @abstractmethod
    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        """Propose the candidates of an iteration.

        Returns:
            (B, H, A) candidates in [-1, 1]; the first candidate is the proposal's mean.
        """

    @abstractmethod
    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        """Compute the next proposal.

        Args:
            proposal: the proposal that the candidates were made from.
            candidates: (B, H, A) in [-1, 1].
            costs: (B,) in the task's cost unit.
        """

    def make_warm_start(self, proposal: Proposal) -> Proposal:
        """Make the warm start of the next decision: the shifted mean and the configured spread."""
        return replace(proposal.shift(), std=torch.full_like(proposal.std, self.config.std))


def make_spline_basis(horizon: int, knots: int) -> Tensor:
    """Make the matrix that interpolates knots linearly over time.

    Returns:
        (H, K) weights of K knots in H steps.
    """
    position = torch.linspace(0, knots - 1, horizon)[:, None]
    return (1 - (position - torch.arange(knots)).abs()).clamp(min=0)


def sample_gaussian(proposal: Proposal, samples: int, generator: torch.Generator, basis: Tensor | None = None) -> Tensor:
    """Sample candidates from a proposal, clipped to the action limits.

    Args:
        proposal: mean and std (H, A).
        samples: number of candidates B.
        generator: source of randomness.
        basis: (H, K) from `make_spline_basis`, for smooth noise; None: independent noise.

    Returns:
        (B, H, A) candidates in [-1, 1]; the first candidate is the mean.
    """
    horizon, actions = proposal.mean.shape
    if basis is None:
        noise = torch.randn(samples, horizon, actions, generator=generator)
    else:
        noise = basis @ torch.randn(samples, basis.shape[1], actions, generator=generator)
    noise[0] = 0
    return (proposal.mean + noise * proposal.std).clamp(-1, 1)


searches: Registry[type[SearchMethod]] = Registry("search method", "agents.planning.search")
