"""Objective: the cost of candidate action sequences, computed from a model's prediction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from sim.actions import PLANAR_TWIST
from sim.bodies import CONTROL_DT_S, LOAD, Bodies, Observation
from sim.policy import EpisodeStart, Policy
from sim.task import CostField, Task
from worldmodels.model import Prediction, WorldModel

# A plan must reach the goal by this margin: at its rim a small model error looks like success.
GOAL_MARGIN_M = 0.03
# Weight of the last step's cost, or of the predicted value, relative to the mean of all steps.
TERMINAL_WEIGHT = 1.0
VIOLATION_COST = 3.0  # of a violation that a model's own head predicts for certain [cost unit]


@dataclass(frozen=True)
class Evaluation:
    """Costs of B candidates over H steps, in the task's cost unit; P is the number of particles."""

    costs: Tensor  # (B,)
    # (B, H) task cost until the goal is reached, plus violation penalty until success has lasted
    step_costs: Tensor
    bodies: Bodies | None  # (P, B, H, M, ...) predicted bodies; None where a model predicts none
    violation: Tensor | None = None  # (P, B, H) probability, where the model predicts it beside bodies

    def compute_disagreement(self, index: int) -> float | None:
        """Compute the spread of the particles' positions of all bodies but the robot.

        Args:
            index: the candidate.

        Returns:
            Standard deviation [m], mean over time and bodies. None for a single particle, or where
            the model predicts no bodies.
        """
        if self.bodies is None or self.bodies.pose.shape[0] == 1:
            return None
        positions = self.bodies.pose[:, index, :, LOAD:, :2]
        present = self.bodies.present[0, index, :, LOAD:]
        spread = (positions - positions.mean(0)).square().sum(-1).mean(0).sqrt()
        return float((spread * present).sum() / present.sum().clamp(min=1))


class Objective:
    """Cost function over candidates: a sum of three terms.

    - The mean cost over the steps.
    - The cost of the last step, which stands for all later steps.
    - The largest violation penalty, because a short violation also counts.

    The task judges predicted bodies; the model's violation and value heads add to that. For a model
    without bodies, the predictions of its cost, violation and value heads are used.
    """

    def __init__(self, model: WorldModel[Any], task: Task, hold_steps: int = 0) -> None:
        """Combine a model and a task.

        Args:
            model: predicts the outcome of candidates.
            task: judges predicted bodies.
            hold_steps: number of steps for which success must last, after its first step, before an
                episode ends.
        """
        self.model = model
        self._task = task
        self._hold_steps = hold_steps
        self._cost_fields: tuple[CostField | None, CostField | None] = (None, None)  # numpy, torch
        self._belief: Any = None

    def start_episode(self, start: EpisodeStart) -> None:
        """Forget the last episode, and start one in the model."""
        self._belief = None
        self.model.start_episode(start)

    def observe(self, observation: Mapping[str, np.ndarray], steps: int = 0) -> None:
        """Encode the current observation. To be called once in each control step.

        Args:
            observation: dictionary observation of GroundEnv.
            steps: length of the longest candidates that will be evaluated.
        """
        self._belief = self.model.update_belief(observation, self._belief)
        self.state = self.model.encode(observation, steps, self._belief)
        field = self._task.get_cost_field(Bodies.from_observation(observation), observation["goal"])
        if self._cost_fields[0] is not field:
            self._cost_fields = field, None if field is None else field.map(torch.as_tensor)
        self.goal = torch.as_tensor(observation["goal"])
        self._command_matrix = torch.as_tensor(observation["action_twist"][PLANAR_TWIST])

    @property
    def action_size(self) -> int:
        """Number of components A of an action."""
        return int(self._command_matrix.shape[1])

    @property
    def cost_field(self) -> CostField | None:
        """Cost field of the last observation, as torch tensors; None where the task has none."""
        return self._cost_fields[1]

    def imagine_policy(self, policy: Policy, observation: Observation, horizon: int) -> Tensor:
        """Roll out a policy on predicted observations.

        Args:
            policy: receives the observations that the first particle predicts.
            observation: dictionary observation at the start.
            horizon: number of steps H.

        Returns:
            (H, A) actions of the policy in [-1, 1].
        """
        plan = []
        for _ in range(horizon):
            action, _ = policy.predict(observation)
            plan.append(torch.as_tensor(action, dtype=torch.float32).clamp(-1, 1))
            pair = plan[-1].expand(2, 1, -1)  # a compiled model recompiles for a single candidate
            predicted = self.model.rollout(self.model.encode(observation), pair).bodies
            assert predicted is not None, "a prior policy needs predicted bodies"
            rows = self.model.select_bodies(observation)
            observation = dict(observation)
            for name in ("pose", "twist"):
                observation[name] = observation[name].copy()
                observation[name][rows] = getattr(predicted, name)[0, 0, 0].numpy()
        return torch.stack(plan)

    def predict_observation(self, observation: Observation, evaluation: Evaluation, index: int) -> Observation:
        """Make the observation at the end of a candidate, as the model's first particle predicts.

        Args:
            observation: the current observation.
            evaluation: evaluation of candidates from there.
            index: the candidate.
        """
        assert evaluation.bodies is not None, "proposed actions need predicted bodies"
        rows = self.model.select_bodies(observation)
        predicted = dict(observation)
        for name in ("pose", "twist", "present"):
            predicted[name] = observation[name].copy()
            predicted[name][rows] = getattr(evaluation.bodies, name)[0, index, -1].numpy()
        return predicted

    def evaluate(self, actions: Tensor) -> Evaluation:
        """Evaluate candidates from the last observation.

        Args:
            actions: (B, H, A) candidates in [-1, 1].

        Returns:
            Evaluation; differentiable where `actions` requires gradients.
        """
        with torch.inference_mode(not actions.requires_grad):
            return self.judge(actions, self.model.rollout(self.state, actions))

    def judge(self, actions: Tensor, prediction: Prediction) -> Evaluation:
        """Compute the costs of candidates from their prediction.

        Args:
            actions: (B, H, A) candidates in [-1, 1].
            prediction: the model's prediction for them.

        Returns:
            Evaluation of the candidates.
        """
        bodies = prediction.bodies
        if bodies is None:
            return _judge_heads(prediction)
        field = self.cost_field
        later_s = CONTROL_DT_S * torch.arange(actions.shape[1])
        penalty = self._task.compute_violation_penalty(bodies, actions @ self._command_matrix.T, field)
        penalty = torch.as_tensor(penalty) * torch.exp(-later_s / self._task.risk_time_constant_s)
        if prediction.violation is not None:
            penalty = penalty + VIOLATION_COST * prediction.violation
        cost = self._task.compute_cost(bodies, actions, self.goal, field)
        reached = self._task.is_success(bodies, self.goal, GOAL_MARGIN_M).to(cost.dtype)
        # 1 where a success (P, B, H) lasts `hold_steps`, or to the end of the plan.
        held = F.pad(reached, (0, self._hold_steps), value=1.0).unfold(2, self._hold_steps + 1, 1).amin(-1)
        done = torch.cummax(held, 2).values
        # The shift by one step keeps a violation in the last state of the episode.
        ended = F.pad(done, (1 + self._hold_steps, 0))[..., : done.shape[2]]
        penalty = penalty * (1 - ended)
        step_costs = (cost * (1 - done) + penalty).mean(0)
        costs = step_costs.mean(1) + TERMINAL_WEIGHT * step_costs[:, -1] + penalty.amax(-1).mean(0)
        if prediction.value is not None:
            costs = costs + TERMINAL_WEIGHT * prediction.value.mean(0)
        return Evaluation(costs, step_costs, bodies, prediction.violation)


def _judge_heads(prediction: Prediction) -> Evaluation:
    """Compute costs from a model's own heads. A predicted cost includes violation penalties."""
    assert prediction.cost is not None, "a model predicts bodies or costs"
    step_costs = prediction.cost.mean(0)
    last = step_costs[:, -1] if prediction.value is None else prediction.value.mean(0)
    worst = 0.0 if prediction.violation is None else prediction.violation.mean(0).amax(-1)
    return Evaluation(step_costs.mean(1) + TERMINAL_WEIGHT * last + worst, step_costs, None)


def evaluate_batch(objectives: Sequence[Objective], candidates: Sequence[Tensor]) -> list[Evaluation]:
    """Evaluate candidates of E episodes, in one rollout where all objectives share a model.

    Costs may differ in their last digits from those of `Objective.evaluate`, because the order of
    sums differs. Candidates that require gradients are evaluated episode by episode, because each
    search differentiates its own costs.

    Args:
        objectives: E objectives, after `observe`.
        candidates: E tensors (B, H, A) in [-1, 1].

    Returns:
        E evaluations.
    """
    model = objectives[0].model
    pairs = list(zip(objectives, candidates, strict=True))
    is_shared = all(objective.model is model and not actions.requires_grad for objective, actions in pairs)
    if len(pairs) == 1 or not is_shared:
        return [objective.evaluate(actions) for objective, actions in pairs]
    with torch.inference_mode():
        predictions = model.rollout_batch([objective.state for objective in objectives], candidates)
        return [objective.judge(actions, p) for (objective, actions), p in zip(pairs, predictions, strict=True)]
