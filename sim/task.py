"""Tasks: cost, success and violations as pure functions of bodies, one definition for environment, planner and report.

All functions take any batch shape `...`, numpy arrays and torch tensors alike. Goals are poses (x [m], y [m], yaw [rad]): `goal` is
(3,) in scenes with one goal, and (G, 3) in scenes with several, whose rows are NaN where a layout has fewer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies
from sim.contacts import Contact
from sim.geometry.arrays import Array, get_namespace
from sim.geometry.rotations import compute_yaw, rotate


class CostField(Protocol):
    """Cost-to-go of one layout and goal as lookup tables, all numpy or all torch; `origin` is the centre of cell (0, 0)."""

    origin: tuple[float, float]  # [m]
    cell_m: float
    min_cost: Array  # (X, Y) least cost-to-go from each cell [m]

    def map(self, convert: Callable[[Array], Array]) -> Self:
        """Apply a function to every table."""


class Task(Protocol):
    """The objective of a scene."""

    num_goal_features: int  # length of `compute_goal_features`

    @property
    def cost_unit_m(self) -> float:
        """Metres in one unit of cost, so that thresholds of planners fit every scene."""

    @property
    def risk_time_constant_s(self) -> float:
        """Time after which a predicted penalty counts 1/e: plans are renewed every step, and what is later can still be avoided.

        A robot that wants a whole plan to be safe, whatever others do, stands still (Trautman and Krause 2010, "Unfreezing the
        robot").
        """

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> Any:
        """Get the cost field of a layout and goal, which is cached; None in tasks without one."""

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: Any) -> Array:
        """Compute the cost (...) in cost units; 0 at the goal. The environment's reward is minus this and the penalty.

        Args:
            bodies: (..., N) as in an observation, the robot first.
            action: (..., n) in [-1, 1].
            goal: as in an observation.
            field: as of `get_cost_field`.
        """

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: Any) -> Array | float:
        """Compute the expected cost (...) of a violation in a state; planners also pay for the largest one of a plan.

        Args:
            bodies: (..., N) as in an observation.
            command: (..., 3) speeds that the last action commanded, robot frame: forward, left [m/s], turn [rad/s].
            field: as of `get_cost_field`.
        """

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """Test whether the goal is reached (...), by at least a margin."""

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> Mapping[str, bool]:
        """Find the violations of one state, by kind.

        Args:
            bodies: (N,) as in an observation.
            contacts: of the last control step.
            is_inside: whether the robot is inside the hall.
        """

    def predict_violations(self, bodies: Bodies) -> Mapping[str, Array]:
        """Test (...) for those violations that poses alone tell, by kind: a plan can be known to lead to them."""

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Compute what a planner knows of goal and field, robot frame, for policies on a flat observation.

        Returns:
            (num_goal_features,)
        """


@dataclass(frozen=True)
class GoalDistanceTask:
    """Bring bodies to their goals; cost is the mean distance to them, without any cost-to-go field.

    Args:
        rows: the body that each goal is for: 0 is the robot, loads follow.
        goal_radius_m: distance from its goal at which a body has reached it.
        max_contact_force_n: a larger force between a moving and a static body is a violation.
    """

    rows: tuple[int, ...] = (LOAD,)
    goal_radius_m: float = 0.15
    max_contact_force_n: float = 50.0
    cost_unit_m = 1.0
    risk_time_constant_s = 1.0

    @property
    def num_goal_features(self) -> int:
        """Two for each goal."""
        return 2 * len(self.rows)

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> None:
        """Return None: straight distances need no field."""

    def _compute_offsets(self, bodies: Bodies, goal: Array) -> Array:
        """Compute the vectors (..., G, 2) from each body to its goal; zero where there is no goal."""
        xp = get_namespace(bodies.pose)
        goals = goal if goal.ndim > 1 else goal[None]
        offsets = goals[: len(self.rows), :2] - bodies.pose[..., list(self.rows), :2]
        return xp.where(xp.isnan(offsets), xp.zeros_like(offsets), offsets)

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: None) -> Array:
        """Compute the mean distance (...) of the bodies to their goals [m]."""
        offsets = self._compute_offsets(bodies, goal)
        return get_namespace(offsets).hypot(offsets[..., 0], offsets[..., 1]).mean(-1)

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: None) -> Array:
        """Return zeros (...): distances tell nothing of contact."""
        return 0 * bodies.pose[..., ROBOT, 0]

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """Test whether every body is within its goal's radius (...)."""
        offsets = self._compute_offsets(bodies, goal)
        distance = get_namespace(offsets).hypot(offsets[..., 0], offsets[..., 1])
        return (distance < self.goal_radius_m - margin_m).all(-1)

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> dict[str, bool]:
        """Find hard contacts with static bodies, and a robot outside the hall."""
        hard = [contact for contact in contacts if contact.is_static and contact.force_n > self.max_contact_force_n]
        return {
            "robot_collision": any(contact.first == ROBOT for contact in hard),
            "load_collision": any(contact.first >= LOAD for contact in hard),
            "robot_outside_hall": not is_inside,
        }

    def predict_violations(self, bodies: Bodies) -> dict[str, Array]:
        """Return nothing: poses alone tell none of the violations."""
        return {}

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Compute the vectors from each body to its goal, robot frame [m]."""
        yaw = compute_yaw(bodies.pose[ROBOT, 3:])
        offsets = self._compute_offsets(bodies, goal)
        return np.asarray(rotate(offsets, -np.broadcast_to(yaw, len(self.rows))).ravel())
