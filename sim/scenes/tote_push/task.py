"""TODO."""



from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies
from sim.contacts import Hit
from sim.costmaps.pushing import DIRECTIONS, GeodesicField, field_of
from sim.geometry.arrays import Array, clamp, coordinates, namespace
from sim.geometry.rotations import rotate, tilt_of, yaw_of


@dataclass(frozen=True)
class PushTask:
    """Push the first load to the goal without hitting racks or walls."""

    goal_radius_m: float = 0.15
    hit_force_n: float = 50.0
    clearance_m: float = 0.05  # the robot should keep this far from static boxes
    clearance_weight: float = 10.0
    touch_m: float = 0.02  # nearer than this it is about to hit them: as bad as being `touch_weight` metres farther from done
    touch_weight: float = 4.0
    tip_weight: float = 5.0
    hints = 10
    cost_unit_m = 1.0
    avoidable_s = 1.0  # of no risk

    def field(self, bodies: Bodies, goal: np.ndarray) -> GeodesicField:
        return field_of(bodies, goal)

    def cost(self, bodies: Bodies, action: Array, goal: Array, field: GeodesicField) -> Array:
        """Metres to go (...): pushing cost-to-go of the load, the robot's way to it, closeness to static boxes.

        action (..., 2) is not charged. Zero is ideal; the environment's reward is minus this.
        """
        robot, load = coordinates(bodies.pose[..., ROBOT, :2]), coordinates(bodies.pose[..., LOAD, :2])
        (radius,) = coordinates(bodies.half_extents[..., ROBOT, :1])
        gap = field.clearance_at(robot) - radius
        tilt = 1 - tilt_of(bodies.pose[..., LOAD, 3:])
        close = self.clearance_weight * clamp(self.clearance_m - gap, 0) + self.touch_weight * clamp(1 - gap / self.touch_m, 0, 1)
        return field.cost_to_go(load, robot) + close + self.tip_weight * tilt

    def risk(self, bodies: Bodies, command: Array, field: GeodesicField) -> float:
        return 0.0

    def success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """(...) bool: the load's centre lies within the goal radius, by at least `margin_m`."""
        (x, y), (goal_x, goal_y) = coordinates(bodies.pose[..., LOAD, :2]), coordinates(goal[..., :2])
        return namespace(x).hypot(x - goal_x, y - goal_y) < self.goal_radius_m - margin_m

    def violations(self, bodies: Bodies, hits: Sequence[Hit], inside: bool) -> dict[str, bool]:
        """What went wrong in one state: hard contact with static boxes, a tipped load, the robot outside the hall."""
        hard = [hit for hit in hits if hit.static and hit.force_n > self.hit_force_n]
        return {
            "robot_hit": any(hit.first == ROBOT for hit in hard),
            "load_hit": any(hit.first >= LOAD for hit in hard),
            **{kind: bool(true) for kind, true in self.foreseen(bodies).items()},
            "robot_outside": not inside,
        }

    def foreseen(self, bodies: Bodies) -> dict[str, Array]:
        """A tipped load."""
        return {"load_tipped": tilt_of(bodies.pose[..., LOAD, 3:]) < 0.8}

    def hint(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Goal from robot and load, the best direction to push in, where to drive to, metres to go, and between the two."""
        field, goal = self.field(bodies, goal), goal[:2]
        robot, load = bodies.pose[ROBOT, :2], bodies.pose[LOAD, :2]
        yaw = yaw_of(bodies.pose[ROBOT, 3:])
        behind = load - field.contact_m * DIRECTIONS
        push = DIRECTIONS[np.argmin(field.pushing(np.broadcast_to(load, behind.shape), behind))]
        ahead = robot + 0.3 * DIRECTIONS
        drive = DIRECTIONS[np.argmin(field.approaching(np.broadcast_to(load, ahead.shape), ahead))]
        vectors = rotate(np.stack([goal - robot, goal - load, push, drive]), -np.broadcast_to(yaw, (4,)))
        return np.concatenate([vectors.ravel(), [field.cost_to_go(load, robot), np.linalg.norm(load - robot)]])
