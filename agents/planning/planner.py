"""The one receding-horizon loop: warm start, propose, imagine, update, act; within a time budget.

Who imagines is left open: `decide` asks the planner's own objective, `agents.planning.batch` a model for many planners at once.
"""

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.planning.objective import Evaluation, Objective
from agents.planning.search import Proposal, SearchMethod
from sim.bodies import Observation
from sim.policy import EpisodeStart, Policy

EXPLORATION_STD = 0.2  # standard deviation of the disturbance when data is collected
MIN_PROGRESS = 0.05  # a plan that ends less than this below where it begins leads nowhere; in the unit of the task's costs
STALLED_DECISIONS = 5  # decisions in a row without progress before the planner looks further ahead


@dataclass(frozen=True)
class Decision:
    """What the planner thought at one step."""

    plan: Tensor  # (H, A) the chosen actions
    cost: float  # predicted for the whole plan
    step_costs: Tensor  # (H,) predicted cost of each step
    seconds: float
    model_seconds: float  # of it waiting for what candidates would do
    iterations: int
    disagreement: float | None  # mean over the plan [m]


class Planner:
    """A policy that imagines. Same generator, same plan; `budget_s` None means all iterations, whatever they take.

    far: searches instead where plans of the usual horizon lead nowhere, until the cost is below what it was then. A detour costs
    before it pays: a load can have to be pushed aside to get behind it.
    guide: a policy whose imagined behaviour is a plan to start from, for searches that want one.
    """

    def __init__(
        self,
        objective: Objective,
        search: SearchMethod,
        budget_s: float | None = None,
        long_horizon_search: SearchMethod | None = None,
        prior_policy: Policy | None = None,
    ) -> None:
        self.objective, self.search, self.budget_s, self.long_horizon_search, self.prior_policy = (
            objective,
            search,
            budget_s,
            long_horizon_search,
            prior_policy,
        )
        self.on_evaluation: Callable[[Tensor, Evaluation], None] | None = None  # is shown all candidates, and what they would do
        self._generator = torch.Generator()
        self._reset()

    def start_episode(self, start: EpisodeStart) -> None:
        self._generator.manual_seed(start.seed)
        self._start = start
        self._reset()
        self.objective.start_episode(start)

    def _reset(self) -> None:
        self.last_decision: Decision | None = None
        self._proposal: Proposal | None = None
        self._stalled_decisions, self._long_horizon_decisions_left, self._target_cost = (
            0,
            0,
            0.0,
        )  # decisions without progress, decisions left to look far, cost then

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """The first action of the plan; with `deterministic=False` (as data is collected) disturbed, so that its
        neighbourhood is covered too."""
        return self.act(self.decide(observation), deterministic), state

    def act(self, decision: Decision, deterministic: bool = True) -> np.ndarray:
        """Carry out a decision."""
        self.last_decision = decision
        self._update_horizon(decision)
        action = decision.plan[0]
        if not deterministic:
            action = action + EXPLORATION_STD * torch.randn(action.shape, generator=self._generator)
        return action.clamp(-1, 1).numpy()

    def decide(self, observation: Observation) -> Decision:
        """Search from this observation; the best candidate seen is the plan."""
        thinking = self.plan_step(observation)
        candidates = next(thinking)
        while True:
            try:
                candidates = thinking.send(self.objective.evaluate(candidates))
            except StopIteration as end:
                return end.value

    def plan_step(self, observation: Observation) -> Generator[Tensor, Evaluation, Decision]:
        """The search as a conversation: it gives candidates (B, H, A), and is sent what they would do."""
        begun = time.perf_counter()
        imagining = 0.0
        search = (
            self.long_horizon_search
            if self._long_horizon_decisions_left and self.long_horizon_search is not None
            else self.search
        )
        self.objective.observe(observation, search.config.horizon)
        proposal = (
            search.make_initial_proposal(self.objective.action_size)
            if self._proposal is None
            else search.make_warm_start(self._proposal)
        )
        if self.prior_policy is not None:
            self.prior_policy.start_episode(
                self._start
            )  # the guide sees each decision anew: what it remembers would be of other futures
            proposal = replace(
                proposal, prior_plan=self.objective.imagine_policy(self.prior_policy, observation, search.config.horizon)
            )
        best: tuple[float, Tensor, Tensor, float | None] | None = None
        done = 0
        for _ in range(search.config.iterations):
            candidates = search.propose(proposal, self._generator).requires_grad_(search.needs_gradient)
            before = time.perf_counter()
            imagined = yield candidates
            imagining += time.perf_counter() - before
            if self.on_evaluation is not None:
                self.on_evaluation(candidates, imagined)
            best = self._keep_best(best, candidates, imagined)
            proposal = search.update(proposal, candidates, imagined.costs)
            done += 1
            spent = time.perf_counter() - begun
            if self.budget_s is not None and spent * (1 + 1 / done) > self.budget_s:
                break  # one more iteration would not fit
        assert best is not None
        cost, plan, running, disagreement = best
        self._proposal = replace(proposal, mean=plan)
        return Decision(plan, cost, running, time.perf_counter() - begun, imagining, done, disagreement)

    def _update_horizon(self, decision: Decision) -> None:
        """Change between the usual horizon and the far one, and forget far plans that lead nowhere."""
        now, end = float(decision.step_costs[0]), float(decision.step_costs[-1])
        nowhere = now - end < MIN_PROGRESS and end > 0
        if self._long_horizon_decisions_left:
            self._long_horizon_decisions_left -= 1
            if nowhere or now < self._target_cost or not self._long_horizon_decisions_left:
                self._proposal = None
            if now < self._target_cost:
                self._stalled_decisions = self._long_horizon_decisions_left = 0
            return
        self._stalled_decisions = self._stalled_decisions + 1 if nowhere else 0
        if self._stalled_decisions >= STALLED_DECISIONS and self.long_horizon_search is not None:
            self._stalled_decisions, self._long_horizon_decisions_left = 0, 4 * self.long_horizon_search.config.horizon
            self._target_cost, self._proposal = now - MIN_PROGRESS, None

    def _keep_best(self, best: Any, candidates: Tensor, imagined: Evaluation) -> Any:
        index = int(imagined.costs.argmin())
        cost = float(imagined.costs[index].detach())
        if best is not None and best[0] <= cost:
            return best
        return cost, candidates[index].detach(), imagined.step_costs[index].detach(), imagined.compute_disagreement(index)
