"""The receding-horizon loop: warm start, propose, predict, update, act; for one or many episodes at once."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.planning.objective import Evaluation, Objective, evaluate_batch
from agents.planning.search import Proposal, SearchMethod
from sim.bodies import Observation
from sim.policy import EpisodeStart, Policy

EXPLORATION_STD = 0.2  # of the noise on actions when data is collected
MIN_PROGRESS = 0.05  # in the task's cost unit: a plan that lowers the cost by less leads nowhere
STALLED_DECISIONS = 5  # in a row without progress before the planner looks further ahead


@dataclass(frozen=True)
class Decision:
    """A plan, and what the search cost."""

    plan: Tensor  # (H, A) the chosen actions
    cost: float  # predicted, of the whole plan
    step_costs: Tensor  # (H,) predicted
    seconds: float
    model_seconds: float  # part of `seconds` spent on predictions
    iterations: int
    disagreement: float | None  # of the particles, mean over the plan [m]


class Planner:
    """A policy that plans one episode with a world model. Equal generators give equal plans."""

    def __init__(
        self,
        objective: Objective,
        search: SearchMethod,
        budget_s: float | None = None,
        long_horizon_search: SearchMethod | None = None,
        prior_policy: Policy | None = None,
    ) -> None:
        """Combine an objective and a search method.

        Args:
            budget_s: of a decision; None: all iterations, however long they take.
            long_horizon_search: searches where plans of the usual horizon lead nowhere, until the cost is below what it was then.
                A detour costs before it pays: the robot may have to push a load aside to get behind it.
            prior_policy: its predicted behaviour is a plan to start from, for search methods that need one.
        """
        self.objective = objective
        self.search = search
        self.budget_s = budget_s
        self.long_horizon_search = long_horizon_search
        self.prior_policy = prior_policy
        self.on_evaluation: Callable[[Tensor, Evaluation], None] | None = None  # called with all candidates and their costs
        self.generator = torch.Generator()
        self._reset()

    def start_episode(self, start: EpisodeStart) -> None:
        """Forget the last episode; the generator is seeded by the episode's seed."""
        self.generator.manual_seed(start.seed)
        self._start = start
        self._reset()
        self.objective.start_episode(start)

    def _reset(self) -> None:
        self.last_decision: Decision | None = None
        self._proposal: Proposal | None = None
        self._stalled = 0  # decisions in a row without progress
        self._long_horizon_left = 0  # decisions left with the long horizon
        self._target_cost = 0.0  # below which the usual horizon is taken again

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Plan, and return the first action (A,) and the state.

        Args:
            deterministic: False adds noise to the action, so that data covers the neighbourhood of plans.
        """
        return self.act(self.decide(observation), deterministic), state

    def decide(self, observation: Observation) -> Decision:
        """Plan from one observation."""
        return plan([self], [observation])[0]

    def act(self, decision: Decision, deterministic: bool = True) -> np.ndarray:
        """Return the first action (A,) of a decision."""
        self.last_decision = decision
        self._update_horizon(decision)
        action = decision.plan[0]
        if not deterministic:
            action = action + EXPLORATION_STD * torch.randn(action.shape, generator=self.generator)
        return action.clamp(-1, 1).numpy()

    def make_proposal(self, observation: Observation) -> tuple[SearchMethod, Proposal]:
        """Observe, and make the proposal that a search starts from."""
        search = self.search
        if self._long_horizon_left and self.long_horizon_search is not None:
            search = self.long_horizon_search
        self.objective.observe(observation, search.config.horizon)
        if self._proposal is None:
            proposal = search.make_initial_proposal(self.objective.action_size)
        else:
            proposal = search.make_warm_start(self._proposal)
        if self.prior_policy is not None:
            self.prior_policy.start_episode(self._start)  # its memory would be of other predictions
            prior_plan = self.objective.imagine_policy(self.prior_policy, observation, search.config.horizon)
            proposal = replace(proposal, prior_plan=prior_plan)
        return search, proposal

    def keep_proposal(self, proposal: Proposal) -> None:
        """Keep a proposal as the warm start of the next decision."""
        self._proposal = proposal

    def _update_horizon(self, decision: Decision) -> None:
        """Change between the usual and the long horizon; forget long plans that lead nowhere."""
        now, end = float(decision.step_costs[0]), float(decision.step_costs[-1])
        is_stalled = now - end < MIN_PROGRESS and end > 0
        if self._long_horizon_left:
            self._long_horizon_left -= 1
            if is_stalled or now < self._target_cost or not self._long_horizon_left:
                self._proposal = None
            if now < self._target_cost:
                self._stalled = self._long_horizon_left = 0
            return
        self._stalled = self._stalled + 1 if is_stalled else 0
        if self._stalled >= STALLED_DECISIONS and self.long_horizon_search is not None:
            self._stalled, self._long_horizon_left = 0, 4 * self.long_horizon_search.config.horizon
            self._target_cost, self._proposal = now - MIN_PROGRESS, None


class _Search:
    """The search of one planner for one decision."""

    def __init__(self, planner: Planner, observation: Observation) -> None:
        self.planner = planner
        self._start_s = time.perf_counter()
        self.method, self._proposal = planner.make_proposal(observation)
        self._model_s, self._iterations = 0.0, 0
        self._best: Decision | None = None
        self.is_done = False

    def propose(self) -> Tensor:
        candidates = self.method.propose(self._proposal, self.planner.generator)
        return candidates.requires_grad_(self.method.needs_gradient)

    def update(self, candidates: Tensor, evaluation: Evaluation, model_s: float) -> None:
        self._model_s += model_s
        if self.planner.on_evaluation is not None:
            self.planner.on_evaluation(candidates, evaluation)
        index = int(evaluation.costs.argmin())
        cost = float(evaluation.costs[index].detach())
        if self._best is None or cost < self._best.cost:
            steps, disagreement = evaluation.step_costs[index].detach(), evaluation.compute_disagreement(index)
            self._best = Decision(candidates[index].detach(), cost, steps, 0.0, 0.0, 0, disagreement)
        self._proposal = self.method.update(self._proposal, candidates, evaluation.costs)
        self._iterations += 1
        spent_s, budget_s = time.perf_counter() - self._start_s, self.planner.budget_s
        has_time = budget_s is None or spent_s * (1 + 1 / self._iterations) <= budget_s  # for one more iteration
        self.is_done = self._iterations >= self.method.config.iterations or not has_time

    def decide(self) -> Decision:
        assert self._best is not None
        self.planner.keep_proposal(replace(self._proposal, mean=self._best.plan))
        seconds = time.perf_counter() - self._start_s
        return replace(self._best, seconds=seconds, model_seconds=self._model_s, iterations=self._iterations)


def plan(planners: Sequence[Planner], observations: Sequence[Observation]) -> list[Decision]:
    """Plan for E episodes at once: each iteration is one rollout of the candidates of all.

    Args:
        planners: one for each episode; those of one model share its rollouts.
        observations: one for each episode.

    Returns:
        E decisions. The best candidate seen is the plan; seconds are those of all episodes together.
    """
    searches = [_Search(planner, observation) for planner, observation in zip(planners, observations, strict=True)]
    while active := [search for search in searches if not search.is_done]:
        candidates = [search.propose() for search in active]
        start_s = time.perf_counter()
        evaluations = evaluate_batch([search.planner.objective for search in active], candidates)
        model_s = time.perf_counter() - start_s
        for search, actions, evaluation in zip(active, candidates, evaluations, strict=True):
            search.update(actions, evaluation, model_s)
    return [search.decide() for search in searches]


def act_batch(policies: Sequence[Policy], observations: Sequence[Observation]) -> list[np.ndarray]:
    """Act in E episodes: planners plan together, other policies one after the other."""
    planners = [policy for policy in policies if isinstance(policy, Planner)]
    if len(planners) < max(2, len(policies)):
        return [policy.predict(observation)[0] for policy, observation in zip(policies, observations, strict=True)]
    return [planner.act(decision) for planner, decision in zip(planners, plan(planners, observations), strict=True)]
