"""Model + task cost + candidate actions → cost of each candidate."""

from collections.abc import Mapping
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
from worldmodels.model import WorldModel

GOAL_MARGIN_M = 0.03  # a plan has to reach the goal by this much: at its rim a small error of the model looks like success
TERMINAL_WEIGHT = 1.0  # of the last step's cost, against the mean of all steps


@dataclass(frozen=True)
class Evaluation:
    """What candidates are expected to do."""

    costs: Tensor  # (B,) one number per candidate, in the unit of the task's costs
    step_costs: Tensor  # (B, H) cost and risk of each step: cost until the goal is reached, risk until it was held
    bodies: Bodies  # (P, B, H, M, ...)

    def compute_disagreement(self, index: int) -> float | None:
        """How far apart the particles see what the robot does not steer, along one candidate, averaged over time and bodies [m];
        None for a single particle."""
        if self.bodies.pose.shape[0] == 1:
            return None
        places, there = self.bodies.pose[:, index, :, LOAD:, :2], self.bodies.present[0, index, :, LOAD:]
        spread = (places - places.mean(0)).square().sum(-1).mean(0).sqrt()
        return float((spread * there).sum() / there.sum().clamp(min=1))


class Objective:
    """The task's cost and risk along imagined futures: their mean, plus the last step's, which stands for all that comes later,
    plus the worst risk on the way: a violation is one, however soon it is over."""

    def __init__(self, model: WorldModel[Any], task: Task, hold_steps: int = 0) -> None:
        """hold_steps: after its first one, for which success has to last before an episode ends."""
        self.model, self._task, self._hold_steps = model, task, hold_steps
        self._cost_fields: tuple[CostField, CostField] | None = None
        self._belief: Any = None

    def start_episode(self, start: EpisodeStart) -> None:
        """Told before each episode."""
        self._belief = None
        self.model.start_episode(start)

    def observe(self, observation: Mapping[str, np.ndarray], steps: int = 0) -> None:
        """Look at the present, once every control step: the model's first state, for plans of at most so many steps, and the
        field of this space and goal."""
        self._belief = self.model.update_belief(observation, self._belief)
        self.state = self.model.encode(observation, steps, self._belief)
        field = self._task.get_cost_field(Bodies.from_observation(observation), observation["goal"])
        if self._cost_fields is None or self._cost_fields[0] is not field:
            self._cost_fields = (field, field.map(torch.as_tensor))
        self.goal = torch.as_tensor(observation["goal"])
        self._command_matrix = torch.as_tensor(observation["action_twist"][PLANAR_TWIST])

    @property
    def action_size(self) -> int:
        """How many numbers an action has."""
        return int(self._command_matrix.shape[1])

    @property
    def cost_field(self) -> CostField:
        """Of the space and goal given to `begin`, in torch."""
        assert self._cost_fields is not None, "call begin first"
        return self._cost_fields[1]

    def imagine_policy(self, policy: Policy, observation: Observation, horizon: int) -> Tensor:
        """(H, A): what a policy does on imagined observations, from this one on; of several particles it sees the first."""
        plan = []
        for _ in range(horizon):
            action, _ = policy.predict(observation)
            plan.append(torch.as_tensor(action, dtype=torch.float32).clamp(-1, 1))
            twice = plan[-1].expand(2, 1, -1)  # a compiled model would be compiled anew for a single candidate
            after = self.model.rollout(self.model.encode(observation), twice)
            movers, observation = self.model.select_bodies(observation), dict(observation)
            for name in ("pose", "twist"):
                observation[name] = observation[name].copy()
                observation[name][movers] = getattr(after, name)[0, 0, 0].numpy()
        return torch.stack(plan)

    def evaluate(self, actions: Tensor) -> Evaluation:
        """Candidates (B, H, A) from the state given to `begin`; costs can be differentiated where the actions want gradients."""
        with torch.inference_mode(not actions.requires_grad):
            return self.evaluate_bodies(actions, self.model.rollout(self.state, actions))

    def evaluate_bodies(self, actions: Tensor, bodies: Bodies) -> Evaluation:
        """Candidates whose rollout is known."""
        later_s = CONTROL_DT_S * torch.arange(actions.shape[1])
        risk = torch.as_tensor(self._task.compute_violation_penalty(bodies, actions @ self._command_matrix.T, self.cost_field))
        risk = risk * torch.exp(-later_s / self._task.risk_time_constant_s)
        cost = self._task.compute_cost(bodies, actions, self.goal, self.cost_field)
        done = torch.cummax(
            self._find_held_success(self._task.is_success(bodies, self.goal, GOAL_MARGIN_M).to(cost.dtype)), 2
        ).values
        ended = F.pad(done, (1 + self._hold_steps, 0))[..., : done.shape[2]]  # a violation in the last state still counts
        risk = risk * (1 - ended)
        running, worst = (cost * (1 - done) + risk).mean(0), risk.amax(-1).mean(0)
        return Evaluation(running.mean(1) + TERMINAL_WEIGHT * running[:, -1] + worst, running, bodies)

    def _find_held_success(self, success: Tensor) -> Tensor:
        """(P, B, H) 1 where a success begins that lasts as long as it has to, or to the end of the plan."""
        if not self._hold_steps:
            return success
        return F.pad(success, (0, self._hold_steps), value=1.0).unfold(2, self._hold_steps + 1, 1).amin(-1)
