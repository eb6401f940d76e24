"""Tasks: cost, success and violations as pure functions of bodies.

Environment, planner and report share these functions. They take numpy arrays and torch tensors of
any batch shape `...`. Goals are poses x [m], y [m], yaw [rad]. `goal` is (3,) in scenes with a
single goal and (G, 3) in scenes with several goals. Its rows are MISSING_GOAL for goals that a
layout lacks.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies
from sim.contacts import Contact, find_hard_contacts
from sim.geometry.arrays import Array, get_namespace, split_coordinates
from sim.geometry.rotations import compute_yaw, rotate

MISSING_GOAL = 1e4  # x, y and yaw of a goal that a layout lacks: finite, as all observations


class CostField(Protocol):
    """Cost-to-go of a layout and goal, as lookup tables in numpy or torch.

    Attributes:
        origin: x, y of the centre of cell (0, 0) [m].
        cell_m: size of a cell.
        min_cost: (X, Y) least cost-to-go from each cell [m].
    """

    origin: tuple[float, float]
    cell_m: float
    min_cost: Array

    def map(self, convert: Callable[[Array], Array]) -> Self:
        """Apply a function to each table.

        Args:
            convert: from a table to its new value.
        """


class Task(Protocol):
    """The objective of a scene."""

    num_goal_features: int  # length of `compute_goal_features`

    @property
    def cost_unit_m(self) -> float:
        """Length of a cost unit [m], so that the thresholds of planners fit every scene."""

    @property
    def risk_time_constant_s(self) -> float:
        """Time constant of the exponential discount of predicted violation penalties.

        Plans are renewed in each step, so a later violation can still be avoided. Without discount,
        a robot among agents stands still (Trautman and Krause 2010, "Unfreezing the robot").
        """

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> Any:
        """Get the cached cost field of a layout and goal.

        Args:
            bodies: (N,) as in an observation.
            goal: as in an observation.

        Returns:
            The cost field; None in tasks without a cost field.
        """

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: Any) -> Array:
        """Compute the cost. The reward is minus the sum of cost and violation penalty.

        Args:
            bodies: (..., N) as in an observation.
            action: (..., n) in [-1, 1].
            goal: as in an observation.
            field: result of `get_cost_field`.

        Returns:
            (...) cost in cost units, 0 at the goal.
        """

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: Any) -> Array | float:
        """Compute the expected cost of violations in a state.

        Planners add the largest penalty of a plan to its cost.

        Args:
            bodies: (..., N) as in an observation.
            command: (..., 3) commanded velocities in the robot frame: forward, left [m/s], turn
                [rad/s].
            field: result of `get_cost_field`.

        Returns:
            (...) penalty in cost units.
        """

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """Test for success.

        Args:
            bodies: (..., N) as in an observation.
            goal: as in an observation.
            margin_m: margin by which the goal must be reached.

        Returns:
            (...) bool.
        """

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> Mapping[str, bool]:
        """Find the violations in a state.

        Args:
            bodies: (N,) as in an observation.
            contacts: contacts of the last control step.
            is_inside: the robot is inside the hall.

        Returns:
            True or False for each kind of violation.
        """

    def predict_violations(self, bodies: Bodies) -> Mapping[str, Array]:
        """Find the violations in predicted states, for those kinds that poses alone determine.

        Args:
            bodies: (..., N) as in an observation.

        Returns:
            (...) bool for each kind.
        """

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Compute features of goal and cost field, for policies on a flat observation.

        Args:
            bodies: (N,) as in an observation.
            goal: as in an observation.

        Returns:
            (num_goal_features,) features in the robot frame.
        """


def is_at_goal(bodies: Bodies, row: int, goal: Array, radius_m: float) -> Array:
    """Find out whether a body's centre is within a radius of its goal.

    Args:
        bodies: (..., N) bodies.
        row: the body's index.
        goal: (3,) x, y, yaw of the goal [m, rad].
        radius_m: largest distance, itself excluded.

    Returns:
        (...) bool.
    """
    x, y = split_coordinates(bodies.pose[..., row, :2])
    goal_x, goal_y = split_coordinates(goal[..., :2])
    return get_namespace(x).hypot(x - goal_x, y - goal_y) < radius_m


@dataclass(frozen=True)
class GoalDistanceTask:
    """Task to bring bodies to their goals. The cost is their mean distance, without a cost field.

    Attributes:
        rows: index of the body of each goal: 0 is the robot, loads follow.
        goal_radius_m: a body within this distance has reached its goal.
        max_contact_force_n: a larger force between a dynamic and a static body is a violation.
    """

    rows: tuple[int, ...] = (LOAD,)
    goal_radius_m: float = 0.15
    max_contact_force_n: float = 50.0
    cost_unit_m = 1.0
    risk_time_constant_s = 1.0

    @property
    def num_goal_features(self) -> int:
        """Number of features: two for each goal."""
        return 2 * len(self.rows)

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> None:
        """Return None: distances need no cost field.

        Args:
            bodies: unused.
            goal: unused.
        """

    def _compute_offsets(self, bodies: Bodies, goal: Array) -> Array:
        """Compute the vectors (..., G, 2) from each body to its goal [m]; zero without a goal."""
        xp = get_namespace(bodies.pose)
        goals = goal if goal.ndim > 1 else goal[None]
        goals = goals[: len(self.rows), :2]
        offsets = goals - bodies.pose[..., list(self.rows), :2]
        return xp.where(goals >= MISSING_GOAL, xp.zeros_like(offsets), offsets)

    def _compute_distances(self, bodies: Bodies, goal: Array) -> Array:
        """Compute the distance (..., G) of each body to its goal [m]."""
        offsets = self._compute_offsets(bodies, goal)
        return get_namespace(offsets).hypot(offsets[..., 0], offsets[..., 1])

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: None) -> Array:
        """Compute the mean distance of the bodies to their goals.

        Args:
            bodies: (..., N) as in an observation.
            action: unused.
            goal: as in an observation.
            field: unused.

        Returns:
            (...) distance [m].
        """
        return self._compute_distances(bodies, goal).mean(-1)

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: None) -> Array:
        """Return zeros: the task predicts no violations.

        Args:
            bodies: (..., N) as in an observation.
            command: unused.
            field: unused.

        Returns:
            (...) zeros.
        """
        return 0 * bodies.pose[..., ROBOT, 0]

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """Test whether all bodies are within the radius of their goals.

        Args:
            bodies: (..., N) as in an observation.
            goal: as in an observation.
            margin_m: margin within the radius.

        Returns:
            (...) bool.
        """
        return (self._compute_distances(bodies, goal) < self.goal_radius_m - margin_m).all(-1)

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> dict[str, bool]:
        """Find hard contacts with static bodies, and a robot outside the hall."""
        return {**find_hard_contacts(contacts, self.max_contact_force_n), "robot_outside_hall": not is_inside}

    def predict_violations(self, bodies: Bodies) -> dict[str, Array]:
        """Return an empty mapping: poses alone determine none of the violations.

        Returns:
            Empty mapping.
        """
        return {}

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Compute the vectors from each body to its goal, in the robot frame.

        Args:
            bodies: (N,) as in an observation.
            goal: as in an observation.

        Returns:
            (2 G,) x, y of each vector [m].
        """
        yaw = compute_yaw(bodies.pose[ROBOT, 3:])
        offsets = self._compute_offsets(bodies, goal)
        return np.asarray(rotate(offsets, -np.broadcast_to(yaw, len(self.rows))).ravel())
