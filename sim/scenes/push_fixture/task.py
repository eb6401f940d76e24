"""The task of push-fixture: cost, success and violations."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies
from sim.contacts import Contact, find_hard_contacts
from sim.costmaps.navigation import GridSpec, NavigationField, get_navigation_field
from sim.geometry.arrays import Array, clamp, get_namespace, split_coordinates
from sim.geometry.rotations import compute_tilt_cosine, compute_yaw, rotate, wrap_angle

TABLE_GRID = GridSpec(
    cell_m=0.01, margin_m=0.4, min_clearance_m=0.022, free_clearance_m=0.08, proximity_weight=3.0, max_clearance_m=0.25
)


@dataclass(frozen=True)
class PoseTask:
    """Push the first load to the goal pose, and leave it there. Costs are in units of `unit_m`.

    The violation penalty predicts a hard press from the speed that the tool lacks behind its
    command. In 12,000 steps of scripted episodes, nine of ten hard presses and one of seven
    harmless pushes exceeded the lower end of `speed_deficit_m_s`.
    """

    unit_m: float
    goal_radius_m: float = 0.02
    goal_rad: float = np.deg2rad(10)
    rest_speed_m_s: float = 0.03
    rest_yaw_rate_rad_s: float = 0.3
    max_contact_force_n: float = 15.0
    # range of the tool's distance from the arm's base, the world's origin
    reach_m: tuple[float, float] = (0.0, np.inf)
    # distance from either end of the reach at which the penalty begins; full at the end
    reach_margin_m: float = 0.015
    # the penalty begins at the first and is full at the second
    speed_deficit_m_s: tuple[float, float] = (0.07, 0.17)
    risk_time_constant_s: float = 1.0
    violation_weight: float = 3.0  # penalty of a violation, in units of `unit_m`
    # distance from boxes below which the tool pays clearance_weight per metre
    clearance_m: float = 0.01
    clearance_weight: float = 10.0
    approach_weight: float = 0.3  # of the tool's distance from the part
    wrong_side_weight: float = 0.3  # of the tool's position on the wrong side of the part
    num_goal_features = 10

    @property
    def cost_unit_m(self) -> float:
        """Metres in one unit of cost."""
        return self.unit_m

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> NavigationField:
        """Get the navigation field of a layout and goal from the cache.

        Args:
            bodies: (N,) as in an observation.
            goal: (3,) x, y [m] and yaw [rad].
        """
        return get_navigation_field(TABLE_GRID, bodies, goal)

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: NavigationField) -> Array:
        """Compute the cost of bodies at one moment.

        The cost is the mean distance of the outline's corners from their goal positions, plus the
        detour around boxes, the tool's distance from the part, its position on the wrong side of
        the part, and its closeness to boxes.

        Args:
            bodies: (..., N) bodies.
            action: (..., 2), without effect on the cost.
            goal: (3,) x, y, yaw of the goal [m, rad].
            field: navigation field of the layout and goal.

        Returns:
            (...) cost in units of `unit_m`; zero is ideal.
        """
        tool, part = split_coordinates(bodies.pose[..., ROBOT, :2]), split_coordinates(bodies.pose[..., LOAD, :2])
        half_x, half_y = split_coordinates(bodies.half_extents[..., LOAD, :2])
        (radius,) = split_coordinates(bodies.half_extents[..., ROBOT, :1])
        goal_x, goal_y, goal_yaw = split_coordinates(goal)
        yaw = compute_yaw(bodies.pose[..., LOAD, 3:])
        xp = get_namespace(yaw)
        dx, dy = goal_x - part[0], goal_y - part[1]
        c, s = xp.cos(yaw) - np.cos(float(goal_yaw)), xp.sin(yaw) - np.sin(float(goal_yaw))
        corner_distances = 0.0
        for kx, ky in ((half_x, half_y), (half_x, -half_y)):  # the other two corners are opposite
            ex, ey = c * kx - s * ky, s * kx + c * ky
            corner_distances = corner_distances + xp.hypot(dx - ex, dy - ey) + xp.hypot(dx + ex, dy + ey)
        px, py = part[0] - tool[0], part[1] - tool[1]
        tool_distance, goal_distance = xp.hypot(px, py), xp.hypot(dx, dy)
        approach = clamp(tool_distance - radius - xp.minimum(half_x, half_y), 0)
        alignment = (px * dx + py * dy) / clamp(tool_distance * goal_distance, 1e-6)
        wrong_side = (1 - alignment) * clamp(goal_distance, 0, 0.1)
        gap = field.compute_clearance(tool) - radius
        total = corner_distances / 4 + field.compute_detour(part) + self.approach_weight * approach
        total = total + self.wrong_side_weight * wrong_side
        total = total + self.clearance_weight * clamp(self.clearance_m - gap, 0)
        return total / self.unit_m

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: NavigationField) -> Array:
        """Compute the penalty of pressing, and of an arm that is stretched or folded to its limits.

        Args:
            bodies: (..., N) bodies.
            command: (..., 3) commanded forward and lateral velocity [m/s] and yaw rate [rad/s].
            field: without effect on the penalty.

        Returns:
            (...) penalty in units of `unit_m`.
        """
        (x, y), (vx, vy) = split_coordinates(bodies.pose[..., ROBOT, :2]), split_coordinates(bodies.twist[..., ROBOT, :2])
        # a tool has no heading: its frame is the world's
        command_x, command_y, _ = split_coordinates(command)
        xp, (low, high) = get_namespace(x), self.speed_deficit_m_s
        pressing = clamp((xp.hypot(command_x - vx, command_y - vy) - low) / (high - low), 0, 1)
        distance, (nearest, farthest) = xp.hypot(x, y), self.reach_m
        beyond = clamp(nearest + self.reach_margin_m - distance, 0) + clamp(distance + self.reach_margin_m - farthest, 0)
        return self.violation_weight * (pressing + beyond / self.reach_margin_m)

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """Find out whether the part rests at its goal pose.

        Args:
            bodies: (..., N) bodies.
            goal: (3,) x, y, yaw of the goal [m, rad].
            margin_m: margin within the goal radius, in units of `unit_m`; the angle's in
                proportion.

        Returns:
            (...) bool.
        """
        (x, y), goal = split_coordinates(bodies.pose[..., LOAD, :2]), split_coordinates(goal)
        vx, vy, _, _, _, yaw_rate = split_coordinates(bodies.twist[..., LOAD, :])
        yaw = compute_yaw(bodies.pose[..., LOAD, 3:])
        xp = get_namespace(yaw)
        share = 1 - margin_m * self.unit_m / self.goal_radius_m
        is_near = xp.hypot(x - goal[0], y - goal[1]) < share * self.goal_radius_m
        is_aligned = abs(wrap_angle(yaw - goal[2])) < share * self.goal_rad
        is_at_rest = (xp.hypot(vx, vy) < self.rest_speed_m_s) & (abs(yaw_rate) < self.rest_yaw_rate_rad_s)
        return is_near & is_aligned & is_at_rest

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> dict[str, bool]:
        """Find the violations of one state: hard contact, the part off the table or tipped."""
        return {
            **find_hard_contacts(contacts, self.max_contact_force_n, "tool", "part"),
            "part_off_table": bool(bodies.pose[LOAD, 2] < 0),
            **{kind: bool(value) for kind, value in self.predict_violations(bodies).items()},
        }

    def predict_violations(self, bodies: Bodies) -> dict[str, Array]:
        """Predict the violations that poses alone show: a tipped part.

        Returns:
            (...) bool by kind.
        """
        return {"part_tipped": compute_tilt_cosine(bodies.pose[..., LOAD, 3:]) < 0.8}

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Compute the goal features of one state, in the tool's frame and in units of `unit_m`.

        Args:
            bodies: (N,) as in an observation.
            goal: (3,) x, y [m] and yaw [rad].

        Returns:
            (10,) vectors tool to goal, part to goal and tool to part, cosine and sine of the turn
            to the goal, cost, and the tool's clearance.
        """
        field, tool, part = self.get_cost_field(bodies, goal), bodies.pose[ROBOT, :2], bodies.pose[LOAD, :2]
        turn = float(goal[2] - compute_yaw(bodies.pose[LOAD, 3:]))
        yaw = compute_yaw(bodies.pose[ROBOT, 3:])
        vectors = rotate(np.stack([goal[:2] - tool, goal[:2] - part, part - tool]), -np.broadcast_to(yaw, (3,))) / self.unit_m
        cost = self.compute_cost(bodies, np.zeros(2), goal, field)
        gap = min(TABLE_GRID.max_clearance_m, float(field.compute_clearance(tool))) / self.unit_m
        return np.concatenate([vectors.ravel(), [np.cos(turn), np.sin(turn), cost, gap]])
