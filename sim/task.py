"""Tasks: cost, success and violations as pure functions of bodies, one definition for environment, planner and report."""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.bodies import Array, Bodies, clamp, coordinates, namespace, tilt_of
from sim.geodesic import GeodesicField
from sim.world import Hit

ROBOT, LOAD = 0, 1  # indices into Bodies; the first load is the one to deliver


@dataclass(frozen=True)
class PushTask:
    """Push the first load to the goal without hitting racks or walls."""

    goal_radius_m: float = 0.15
    hit_force_n: float = 50.0
    clearance_m: float = 0.05  # the robot should keep this far from static boxes
    clearance_weight: float = 10.0
    touch_m: float = 0.02  # nearer than this it is about to hit them: as bad as being `touch_weight` metres farther from done
    touch_weight: float = 2.0
    tip_weight: float = 5.0

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

    def success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """(...) bool: the load's centre lies within the goal radius, by at least `margin_m`."""
        (x, y), (goal_x, goal_y) = coordinates(bodies.pose[..., LOAD, :2]), coordinates(goal)
        return namespace(x).hypot(x - goal_x, y - goal_y) < self.goal_radius_m - margin_m

    def violations(self, bodies: Bodies, hits: Sequence[Hit], inside: bool) -> dict[str, bool]:
        """What went wrong in one state: hard contact with static boxes, a tipped load, the robot outside the hall."""
        hard = [hit for hit in hits if hit.static and hit.force_n > self.hit_force_n]
        return {
            "robot_hit": any(hit.first == ROBOT for hit in hard),
            "load_hit": any(hit.first >= LOAD for hit in hard),
            "load_tipped": bool(tilt_of(bodies.pose[LOAD, 3:]) < 0.8),
            "robot_outside": not inside,
        }
