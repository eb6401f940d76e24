"""The one receding-horizon loop: warm start, propose, imagine, update, act; within a time budget."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.objective import Imagined, Objective
from agents.search import Proposal, SearchMethod
from sim.env import Observation
from sim.policy import EpisodeStart

EXPLORATION = 0.2  # standard deviation of the disturbance when data is collected


@dataclass(frozen=True)
class Decision:
    """What the planner thought at one step."""

    plan: Tensor  # (H, A) the chosen actions
    cost: float  # predicted for the whole plan
    running: Tensor  # (H,) predicted cost of each step [m]
    seconds: float
    model_seconds: float  # of it inside the objective
    iterations: int
    disagreement: float | None  # mean over the plan [m]


class Planner:
    """A policy that imagines. Same generator, same plan; `budget_s` None means all iterations, whatever they take."""

    def __init__(self, objective: Objective, search: SearchMethod, budget_s: float | None = None) -> None:
        self.objective, self.search, self.budget_s = objective, search, budget_s
        self.last: Decision | None = None
        self.watch: Callable[[Tensor, Imagined], None] | None = None  # is shown all candidates, and what they would do
        self._proposal: Proposal | None = None
        self._generator = torch.Generator()

    def begin(self, start: EpisodeStart) -> None:
        self._generator.manual_seed(start.seed)
        self._proposal = None
        self.last = None
        self.objective.model.start_episode(start)

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """The first action of the plan; with `deterministic=False` (as data is collected) disturbed, so that its
        neighbourhood is covered too."""
        self.last = self.decide(observation)
        action = self.last.plan[0]
        if not deterministic:
            action = action + EXPLORATION * torch.randn(action.shape, generator=self._generator)
        return action.clamp(-1, 1).numpy(), state

    def decide(self, observation: Observation) -> Decision:
        """Search from this observation; the best candidate seen is the plan."""
        begun = time.perf_counter()
        imagining = 0.0
        self.objective.begin(observation)
        proposal = self.search.start(2) if self._proposal is None else self.search.renew(self._proposal)
        best: tuple[float, Tensor, Tensor, float | None] | None = None
        done = 0
        for _ in range(self.search.config.iterations):
            candidates = self.search.propose(proposal, self._generator)
            before = time.perf_counter()
            imagined = self.objective.evaluate(candidates)
            imagining += time.perf_counter() - before
            if self.watch is not None:
                self.watch(candidates, imagined)
            best = self._better(best, candidates, imagined)
            proposal = self.search.update(proposal, candidates, imagined.costs)
            done += 1
            spent = time.perf_counter() - begun
            if self.budget_s is not None and spent * (1 + 1 / done) > self.budget_s:
                break  # one more iteration would not fit
        assert best is not None
        cost, plan, running, disagreement = best
        self._proposal = Proposal(plan, proposal.std)
        return Decision(plan, cost, running, time.perf_counter() - begun, imagining, done, disagreement)

    def _better(self, best: Any, candidates: Tensor, imagined: Imagined) -> Any:
        index = int(imagined.costs.argmin())
        cost = float(imagined.costs[index])
        if best is not None and best[0] <= cost:
            return best
        return cost, candidates[index], imagined.running[index], imagined.disagreement(index)
