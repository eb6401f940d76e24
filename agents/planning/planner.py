"""Receding-horizon planning of an episode or a batch: propose, predict, update, act."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.planning.objective import Evaluation, Objective, evaluate_batch
from agents.planning.search import Proposal, SearchMethod
from agents.planning.search.beam import BeamSearch
from sim.bodies import Observation
from sim.policy import EpisodeStart, Policy
from sim.utils.errors import GroundError

EXPLORATION_STD = 0.2  # standard deviation of the noise on actions in data collection
MIN_PROGRESS = 0.05  # decrease of cost along a plan below which the planner is stalled [cost unit]
STALLED_DECISIONS = 5  # consecutive stalled decisions before the long-horizon search is used


@dataclass(frozen=True)
class Decision:
    """The plan of one control step, and the compute costs of its search."""

    plan: Tensor  # (H, A) actions in [-1, 1]
    cost: float  # predicted cost of the whole plan
    step_costs: Tensor  # (H,) predicted costs
    seconds: float
    model_seconds: float  # part of `seconds` spent on predictions
    iterations: int
    disagreement: float | None  # spread of the particles, mean over the plan [m]


@dataclass(eq=False)
class Planner:
    """A policy that plans with a world model. Equal seeds give equal plans.

    Attributes:
        objective: evaluates candidates.
        search: proposes candidates.
        budget_s: time limit of a decision; None: all iterations run.
        long_horizon_search: fallback for a stalled planner, used until the cost falls below its
            value at that time. A detour raises the cost at first: the robot may have to push a
            load aside to get behind it.
        prior_policy: for search methods that need a prior plan, which is the policy's rollout in
            the model.
        on_evaluation: called with all candidates and their evaluation, in each iteration.
        propose_actions: (observation, number, generator) -> (K, A) sensible actions, K at most the
            number, for search methods that use them.
    """

    objective: Objective
    search: SearchMethod
    budget_s: float | None = None
    long_horizon_search: SearchMethod | None = None
    prior_policy: Policy | None = None
    on_evaluation: Callable[[Tensor, Evaluation], None] | None = None
    propose_actions: Callable[[Observation, int, np.random.Generator], np.ndarray] | None = None

    def __post_init__(self) -> None:
        self.generator = torch.Generator()
        self._reset()

    def start_episode(self, start: EpisodeStart) -> None:
        """Forget the last episode, and seed the generator with the episode's seed."""
        self.generator.manual_seed(start.seed)
        self._start = start
        self._reset()
        self.objective.start_episode(start)

    def _reset(self) -> None:
        self.last_decision: Decision | None = None
        self.last_proposal: Proposal | None = None  # from which the next decision starts
        self._stalled = 0  # consecutive decisions without progress
        self._long_horizon_left = 0  # remaining decisions with the long horizon
        self._target_cost = 0.0  # cost below which the usual horizon is used again

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Plan, and return the first action.

        Args:
            observation: dictionary observation of GroundEnv.
            state: returned unchanged.
            episode_start: unused.
            deterministic: False adds noise, so that collected data varies around plans.

        Returns:
            Action (A,) in [-1, 1], and `state`.
        """
        return self.act(self.decide(observation), deterministic), state

    def decide(self, observation: Observation) -> Decision:
        """Plan from one observation."""
        return plan([self], [observation])[0]

    def act(self, decision: Decision, deterministic: bool = True) -> np.ndarray:
        """Take the first action of a decision, and remember the decision.

        Args:
            decision: the plan of this control step.
            deterministic: False adds noise, as in `predict`.

        Returns:
            Action (A,) in [-1, 1].
        """
        self.last_decision = decision
        self._update_horizon(decision)
        action = decision.plan[0]
        if not deterministic:
            action = action + EXPLORATION_STD * torch.randn(action.shape, generator=self.generator)
        return action.clamp(-1, 1).numpy()

    def make_proposal(self, observation: Observation) -> tuple[SearchMethod, Proposal]:
        """Select the search method, observe, and make the proposal that the search starts from."""
        search = self.search
        if self._long_horizon_left and self.long_horizon_search is not None:
            search = self.long_horizon_search
        self.objective.observe(observation, search.config.horizon)
        if self.last_proposal is None:
            proposal = search.make_initial_proposal(self.objective.action_size)
        else:
            proposal = search.make_warm_start(self.last_proposal)
        if self.prior_policy is not None:
            # Its state belongs to the predictions of the last decision.
            self.prior_policy.start_episode(self._start)
            prior_plan = self.objective.imagine_policy(self.prior_policy, observation, search.config.horizon)
            proposal = replace(proposal, prior_plan=prior_plan)
        return search, self.add_actions(proposal, search, [observation])

    def add_actions(self, proposal: Proposal, search: SearchMethod, observations: Sequence[Observation]) -> Proposal:
        """Add the actions that the scene proposes, for methods that use them.

        Args:
            observations: the state after each elite; the current one at the start.
        """
        if self.propose_actions is None or not isinstance(search, BeamSearch):
            return proposal
        rng = np.random.default_rng(int(torch.randint(2**31, (1,), generator=self.generator)))
        count = search.count_actions(proposal)
        actions = [self.propose_actions(observation, count, rng) for observation in observations]
        most = max(map(len, actions))  # fewer are repeated
        rows = [np.resize(group, (most, group.shape[1])) for group in actions]
        return replace(proposal, actions=torch.as_tensor(np.stack(rows), dtype=torch.float32))

    def _update_horizon(self, decision: Decision) -> None:
        """Change between the usual and the long horizon; discard stalled long plans."""
        first_cost = float(decision.step_costs[0])
        last_cost = float(decision.step_costs[-1])
        is_stalled = first_cost - last_cost < MIN_PROGRESS and last_cost > 0
        if self._long_horizon_left:
            self._long_horizon_left -= 1
            if is_stalled or first_cost < self._target_cost or not self._long_horizon_left:
                self.last_proposal = None
            if first_cost < self._target_cost:
                self._stalled = self._long_horizon_left = 0
            return
        self._stalled = self._stalled + 1 if is_stalled else 0
        if self._stalled >= STALLED_DECISIONS and self.long_horizon_search is not None:
            self._stalled = 0
            self._long_horizon_left = 4 * self.long_horizon_search.config.horizon
            self._target_cost = first_cost - MIN_PROGRESS
            self.last_proposal = None


class _Search:
    """The search of one planner for one decision."""

    def __init__(self, planner: Planner, observation: Observation) -> None:
        self.planner = planner
        self._start_s = time.perf_counter()
        self.method, self._proposal = planner.make_proposal(observation)
        self._observation = observation
        self._model_s = 0.0
        self._iterations = 0
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
        if math.isnan(cost):  # `argmin` finds a NaN first
            raise GroundError("the model predicts NaN as the cost of a candidate: it may have diverged in training")
        is_longer = self._best is not None and candidates.shape[1] > len(self._best.plan)
        if self._best is None or is_longer or cost < self._best.cost:
            disagreement = evaluation.compute_disagreement(index)
            step_costs = evaluation.step_costs[index].detach()
            self._best = Decision(candidates[index].detach(), cost, step_costs, 0.0, 0.0, 0, disagreement)
        self._proposal = self.method.update(self._proposal, candidates, evaluation.costs)
        self._iterations += 1
        # The expected time after one more iteration.
        next_s = (time.perf_counter() - self._start_s) * (1 + 1 / self._iterations)
        is_late = self.planner.budget_s is not None and next_s > self.planner.budget_s
        self.is_done = self._iterations >= self.method.config.iterations or is_late
        if not self.is_done and (elites := self._proposal.elite_indices) is not None:
            observations = [self.planner.objective.predict_observation(self._observation, evaluation, int(row)) for row in elites]
            self._proposal = self.planner.add_actions(self._proposal, self.method, observations)

    def decide(self) -> Decision:
        assert self._best is not None
        self.planner.last_proposal = replace(self._proposal, mean=self._best.plan)
        seconds = time.perf_counter() - self._start_s
        return replace(self._best, seconds=seconds, model_seconds=self._model_s, iterations=self._iterations)


def plan(planners: Sequence[Planner], observations: Sequence[Observation]) -> list[Decision]:
    """Plan for E episodes in a batch: each iteration evaluates the candidates of all episodes.

    Args:
        planners: E planners. Where all share a model, each iteration is one rollout.
        observations: E dictionary observations.

    Returns:
        E decisions. The plan is the best evaluated candidate. The times are those of the batch.
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
    """Compute the actions of E episodes. If all policies are planners, they plan in a batch.

    Args:
        policies: E policies.
        observations: E dictionary observations.

    Returns:
        E actions (A,) in [-1, 1].
    """
    planners = [policy for policy in policies if isinstance(policy, Planner)]
    if len(planners) < max(2, len(policies)):
        return [policy.predict(observation)[0] for policy, observation in zip(policies, observations, strict=True)]
    return [planner.act(decision) for planner, decision in zip(planners, plan(planners, observations), strict=True)]
