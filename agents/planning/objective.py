"""Objective: from a model's prediction to the cost of each candidate."""

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

GOAL_MARGIN_M = 0.03  # a plan must reach the goal by this much: at its rim a small error of the model looks like success
TERMINAL_WEIGHT = 1.0  # of the last step's cost, or of the predicted value, against the mean of all steps


@dataclass(frozen=True)
class Evaluation:
    """Costs of B candidates over H steps, in the task's cost unit."""

    costs: Tensor  # (B,)
    step_costs: Tensor  # (B, H) task cost until the goal is reached, and violation penalty until it was held
    bodies: Bodies | None  # (P, B, H, M, ...)

    def compute_disagreement(self, index: int) -> float | None:
        """Compute how far apart the particles see all bodies but the robot along one candidate, mean over time and bodies.

        Returns:
            Standard deviation [m]; None for a single particle, or where the model predicts no bodies.
        """
        if self.bodies is None or self.bodies.pose.shape[0] == 1:
            return None
        places, present = self.bodies.pose[:, index, :, LOAD:, :2], self.bodies.present[0, index, :, LOAD:]
        spread = (places - places.mean(0)).square().sum(-1).mean(0).sqrt()
        return float((spread * present).sum() / present.sum().clamp(min=1))


class Objective:
    """Cost of a candidate: the mean over its steps, plus the last step's, which stands for all that comes later, plus the largest
    violation penalty on the way, since a violation is one however soon it is over.

    The task judges predicted bodies. Where a model predicts no bodies, its own heads for cost, violation and value count.
    """

    def __init__(self, model: WorldModel[Any], task: Task, hold_steps: int = 0) -> None:
        """Combine a model and a task.

        Args:
            hold_steps: steps after its first one for which success must last before an episode ends.
        """
        self.model, self._task, self._hold_steps = model, task, hold_steps
        self._cost_fields: tuple[CostField | None, CostField | None] = (None, None)  # in numpy and in torch
        self._belief: Any = None

    def start_episode(self, start: EpisodeStart) -> None:
        """Forget the last episode, and let the model prepare."""
        self._belief = None
        self.model.start_episode(start)

    def observe(self, observation: Mapping[str, np.ndarray], steps: int = 0) -> None:
        """Encode the present, once every control step.

        Args:
            observation: as of GroundEnv.
            steps: the longest candidates that will be evaluated.
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
        """How many numbers an action has."""
        return int(self._command_matrix.shape[1])

    @property
    def cost_field(self) -> CostField | None:
        """Cost field of the layout and goal last observed, in torch; None where the task has none."""
        return self._cost_fields[1]

    def imagine_policy(self, policy: Policy, observation: Observation, horizon: int) -> Tensor:
        """Roll a policy out on predicted observations.

        Args:
            policy: sees the first particle.
            observation: the first one.
            horizon: number of steps H.

        Returns:
            Its actions (H, A).
        """
        plan = []
        for _ in range(horizon):
            action, _ = policy.predict(observation)
            plan.append(torch.as_tensor(action, dtype=torch.float32).clamp(-1, 1))
            pair = plan[-1].expand(2, 1, -1)  # a model would be compiled anew for a single candidate
            predicted = self.model.rollout(self.model.encode(observation), pair).bodies
            assert predicted is not None, "a prior policy needs predicted bodies"
            rows, observation = self.model.select_bodies(observation), dict(observation)
            for name in ("pose", "twist"):
                observation[name] = observation[name].copy()
                observation[name][rows] = getattr(predicted, name)[0, 0, 0].numpy()
        return torch.stack(plan)

    def evaluate(self, actions: Tensor) -> Evaluation:
        """Evaluate candidates (B, H, A) from the last observation; differentiable where they want gradients."""
        with torch.inference_mode(not actions.requires_grad):
            return self.judge(actions, self.model.rollout(self.state, actions))

    def judge(self, actions: Tensor, prediction: Prediction) -> Evaluation:
        """Compute the costs of candidates (B, H, A) from their prediction."""
        if prediction.bodies is None:
            return _judge_heads(prediction)
        bodies, field = prediction.bodies, self.cost_field
        later_s = CONTROL_DT_S * torch.arange(actions.shape[1])
        penalty = self._task.compute_violation_penalty(bodies, actions @ self._command_matrix.T, field)
        penalty = torch.as_tensor(penalty) * torch.exp(-later_s / self._task.risk_time_constant_s)
        cost = self._task.compute_cost(bodies, actions, self.goal, field)
        reached = self._task.is_success(bodies, self.goal, GOAL_MARGIN_M).to(cost.dtype)
        done = torch.cummax(self._find_held_success(reached), 2).values
        ended = F.pad(done, (1 + self._hold_steps, 0))[..., : done.shape[2]]  # a violation in the last state still counts
        penalty = penalty * (1 - ended)
        step_costs, worst = (cost * (1 - done) + penalty).mean(0), penalty.amax(-1).mean(0)
        return Evaluation(step_costs.mean(1) + TERMINAL_WEIGHT * step_costs[:, -1] + worst, step_costs, bodies)

    def _find_held_success(self, success: Tensor) -> Tensor:
        """Mark (P, B, H) with 1 where a success begins that lasts `hold_steps`, or to the end of the plan."""
        if not self._hold_steps:
            return success
        return F.pad(success, (0, self._hold_steps), value=1.0).unfold(2, self._hold_steps + 1, 1).amin(-1)


def _judge_heads(prediction: Prediction) -> Evaluation:
    """Compute costs from a model's own heads; a predicted cost includes the penalty of violations."""
    assert prediction.cost is not None, "a model predicts bodies or costs"
    step_costs = prediction.cost.mean(0)
    last = step_costs[:, -1] if prediction.value is None else prediction.value.mean(0)
    worst = 0.0 if prediction.violation is None else prediction.violation.mean(0).amax(-1)
    return Evaluation(step_costs.mean(1) + TERMINAL_WEIGHT * last + worst, step_costs, None)


def evaluate_batch(objectives: Sequence[Objective], candidates: Sequence[Tensor]) -> list[Evaluation]:
    """Evaluate candidates (B, H, A) of E episodes, in one rollout where they share a model.

    Numbers may differ in their last digits from those of episodes evaluated alone, since sums are taken in another order.
    Candidates that want gradients are evaluated one episode after the other, since each search takes its own.
    """
    model = objectives[0].model
    pairs = list(zip(objectives, candidates, strict=True))
    is_shared = all(objective.model is model and not actions.requires_grad for objective, actions in pairs)
    if len(pairs) == 1 or not is_shared:
        return [objective.evaluate(actions) for objective, actions in pairs]
    with torch.inference_mode():
        predictions = model.rollout_batch([objective.state for objective in objectives], candidates)
        return [objective.judge(actions, p) for (objective, actions), p in zip(pairs, predictions, strict=True)]
