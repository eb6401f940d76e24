"""One file per search method: how to propose candidate action sequences, and how to learn from their costs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sim.utils.errors import GroundError
from sim.utils.registry import Registry

NUM_KNOTS = 6  # of the spline that smooth noise is


@dataclass(frozen=True)
class Proposal:
    """A diagonal Gaussian over action sequences, and sequences that were good, for methods that try them again."""

    mean: Tensor  # (H, A)
    std: Tensor  # (H, A)
    elites: Tensor = field(default_factory=lambda: torch.zeros(0, 1, 1))  # (E, H, A), the best first
    prior_plan: Tensor | None = field(
        default=None, kw_only=True
    )  # (H, A) what the planner's guide would do, for methods that want one

    def shift(self) -> "Proposal":
        """One control step later: the first action is spent, the last one is repeated."""
        elites = torch.cat([self.elites[:, 1:], self.elites[:, -1:]], 1) if len(self.elites) else self.elites
        return Proposal(torch.cat([self.mean[1:], self.mean[-1:]]), torch.cat([self.std[1:], self.std[-1:]]), elites)


@dataclass(frozen=True)
class SearchConfig:
    """Budget and spread of a search. One decision costs samples × horizon × iterations model steps; with a guide, 2 × horizon
    more. The values are our own: what a slow core decides with in less than a tenth of a second, over the 2.5 s in which a load
    is driven around and pushed, and a spread of 0.6 of the limits."""

    samples: int = 128  # on average over the iterations
    iterations: int = 2
    horizon: int = 25
    std: float = 0.6

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("iterations", 1), ("horizon", 1)):
            if getattr(self, name) < least:
                raise GroundError(f"search {name} {getattr(self, name)} must be at least {least}")
        if not 0 < self.std <= 10:
            raise GroundError(f"search std {self.std} must be in (0, 10]")


class SearchMethod(ABC):
    """`propose` and `update` are all that distinguishes one method from another; the planner's loop is shared."""

    needs_prior = False  # whether proposals should hold a guide's guess
    needs_gradient = False  # whether `update` differentiates the costs with respect to the candidates

    def __init__(self, config: SearchConfig | None = None) -> None:
        self.config = config or SearchConfig()

    def make_initial_proposal(self, action_size: int) -> Proposal:
        shape = (self.config.horizon, action_size)
        return Proposal(torch.zeros(shape), torch.full(shape, self.config.std))

    @abstractmethod
    def propose(self, proposal: Proposal, generator: torch.Generator) -> Tensor:
        """Candidates (B, H, A) in [-1, 1]; the first one is the proposal's mean."""

    @abstractmethod
    def update(self, proposal: Proposal, candidates: Tensor, costs: Tensor) -> Proposal:
        """The next proposal, from candidates (B, H, A) and their costs (B,)."""

    def make_warm_start(self, proposal: Proposal) -> Proposal:
        """The warm start of the next decision: the mean moved on in time, the spread as at the start."""
        return replace(proposal.shift(), std=torch.full_like(proposal.std, self.config.std))


def make_spline_basis(horizon: int, knots: int) -> Tensor:
    """(H, K) weights that interpolate K knots linearly over H steps: smooth noise from few numbers."""
    at = torch.linspace(0, knots - 1, horizon)[:, None]
    return (1 - (at - torch.arange(knots)).abs()).clamp(min=0)


class SmoothSearch(SearchMethod):
    """A method whose noise is a spline through few knots, so that a sample is a manoeuvre and not a tremble."""

    def __init__(self, config: SearchConfig | None = None) -> None:
        super().__init__(config)
        self._basis = make_spline_basis(self.config.horizon, min(NUM_KNOTS, self.config.horizon))


def sample_gaussian(proposal: Proposal, samples: int, generator: torch.Generator, basis: Tensor | None = None) -> Tensor:
    """The mean and samples - 1 draws around it, clipped to the action limits; smooth in time where a basis is given."""
    horizon, actions = proposal.mean.shape
    if basis is None:
        noise = torch.randn(samples, horizon, actions, generator=generator)
    else:
        noise = basis @ torch.randn(samples, basis.shape[1], actions, generator=generator)
    noise[0] = 0
    return (proposal.mean + noise * proposal.std).clamp(-1, 1)


searches: Registry[type[SearchMethod]] = Registry("search method", "agents.planning.search")
