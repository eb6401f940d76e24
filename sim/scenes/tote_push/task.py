"""The task of tote-push: cost, success and violations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies
from sim.contacts import Contact, find_hard_contacts
from sim.costmaps.pushing import DIRECTIONS, PushingField, get_pushing_field
from sim.geometry.arrays import Array, clamp, split_coordinates
from sim.geometry.rotations import compute_tilt_cosine, compute_yaw, rotate
from sim.task import is_at_goal


@dataclass(frozen=True)
class PushTask:
    """Push the first load to the goal without hitting racks or walls. Costs are in metres."""

    goal_radius_m: float = 0.15
    max_contact_force_n: float = 50.0
    # distance from static boxes below which the robot pays clearance_weight per metre
    clearance_m: float = 0.05
    clearance_weight: float = 10.0
    # distance below which contact_weight is added, in full at contact
    contact_margin_m: float = 0.02
    contact_weight: float = 4.0
    tip_weight: float = 5.0
    num_goal_features = 10
    cost_unit_m = 1.0
    risk_time_constant_s = 1.0  # without effect: there is no violation penalty

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> PushingField:
        """Get the pushing field of a layout and goal from the cache.

        Args:
            bodies: (N,) as in an observation.
            goal: (3,) x, y [m] and yaw [rad].
        """
        return get_pushing_field(bodies, goal)

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: PushingField) -> Array:
        """Compute the cost-to-go, and the costs of closeness to static boxes and of tilt.

        Args:
            bodies: (..., N) bodies.
            action: (..., 2), without effect on the cost.
            goal: (3,) x, y, yaw of the goal [m, rad].
            field: pushing field of the layout and goal.

        Returns:
            (...) cost [m]; zero is ideal.
        """
        robot, load = split_coordinates(bodies.pose[..., ROBOT, :2]), split_coordinates(bodies.pose[..., LOAD, :2])
        (radius,) = split_coordinates(bodies.half_extents[..., ROBOT, :1])
        gap = field.compute_clearance(robot) - radius
        tilt = 1 - compute_tilt_cosine(bodies.pose[..., LOAD, 3:])
        contact = self.contact_weight * clamp(1 - gap / self.contact_margin_m, 0, 1)
        close = self.clearance_weight * clamp(self.clearance_m - gap, 0) + contact
        return field.compute_cost_to_go(load, robot) + close + self.tip_weight * tilt

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: PushingField) -> float:
        """Return zero: the cost contains all penalties of this task.

        Args:
            bodies: (..., N) bodies.
            command: (..., 3) forward and lateral velocity [m/s] and yaw rate [rad/s].
        """
        return 0.0

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """Find out whether the load's centre is within the goal radius.

        Args:
            bodies: (..., N) bodies.
            goal: (3,) x, y, yaw of the goal [m, rad].
            margin_m: margin within the goal radius.

        Returns:
            (...) bool.
        """
        return is_at_goal(bodies, LOAD, goal, self.goal_radius_m - margin_m)

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> dict[str, bool]:
        """Find the violations of one state: hard contact, a tipped load, leaving the hall."""
        return {
            **find_hard_contacts(contacts, self.max_contact_force_n),
            **{kind: bool(value) for kind, value in self.predict_violations(bodies).items()},
            "robot_outside_hall": not is_inside,
        }

    def predict_violations(self, bodies: Bodies) -> dict[str, Array]:
        """Predict the violations that poses alone show: a tipped load.

        Returns:
            (...) bool by kind.
        """
        return {"load_tipped": compute_tilt_cosine(bodies.pose[..., LOAD, 3:]) < 0.8}

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Compute the goal features of one state, in the robot's frame.

        Args:
            bodies: (N,) as in an observation.
            goal: (3,) x, y [m] and yaw [rad].

        Returns:
            (10,) vectors robot to goal and load to goal [m], best push and drive directions, metres
            to go, distance of robot and load [m].
        """
        field, goal = self.get_cost_field(bodies, goal), goal[:2]
        robot, load = bodies.pose[ROBOT, :2], bodies.pose[LOAD, :2]
        yaw = compute_yaw(bodies.pose[ROBOT, 3:])
        behind = load - field.contact_distance_m * DIRECTIONS
        push = DIRECTIONS[np.argmin(field.compute_pushing_cost(np.broadcast_to(load, behind.shape), behind))]
        ahead = robot + 0.3 * DIRECTIONS
        drive = DIRECTIONS[np.argmin(field.compute_approach_cost(np.broadcast_to(load, ahead.shape), ahead))]
        vectors = rotate(np.stack([goal - robot, goal - load, push, drive]), -np.broadcast_to(yaw, (4,)))
        return np.concatenate([vectors.ravel(), [field.compute_cost_to_go(load, robot), np.linalg.norm(load - robot)]])
