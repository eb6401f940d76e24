"""The task of bringing a part to a pose: cost, success and violations, on lengths of a table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies
from sim.contacts import Contact
from sim.costmaps.navigation import GridSpec, NavigationField, get_navigation_field
from sim.geometry.arrays import Array, clamp, get_namespace, split_coordinates
from sim.geometry.rotations import compute_tilt_cosine, compute_yaw, rotate, wrap_angle

TABLE_GRID = GridSpec(
    cell_m=0.01, margin_m=0.4, min_clearance_m=0.022, free_clearance_m=0.08, proximity_weight=3.0, max_clearance_m=0.25
)


@dataclass(frozen=True)
class PoseTask:
    """Push the first load to the goal's pose, and leave it there. Costs are in units of `unit_m`."""

    unit_m: float
    goal_radius_m: float = 0.02
    goal_rad: float = np.deg2rad(10)
    rest_speed_m_s: float = 0.03
    rest_yaw_rate_rad_s: float = 0.3
    max_contact_force_n: float = 15.0
    reach_m: tuple[float, float] = (0.0, np.inf)  # of the arm, from its base, which is the world's origin
    reach_margin_m: float = 0.015  # from either end of its reach; nearer is a risk, whole at the end
    # The tool falls behind what it is told where something does not give way, and its motors press as hard as they can. Of 12,000
    # steps of scripts, nine in ten that press too hard are beyond the first, and of pushes that press nothing one in seven.
    speed_deficit_m_s: tuple[float, float] = (0.07, 0.17)  # is a risk from the first, and whole from the second
    risk_time_constant_s: float = 1.0
    violation_weight: float = 3.0  # what a violation is feared to cost, in units of `unit_m`
    clearance_m: float = 0.01  # the tool should keep this far from boxes
    clearance_weight: float = 10.0
    approach_weight: float = 0.3  # of the tool's way to the part
    wrong_side_weight: float = 0.3  # of the tool being on the wrong side of it
    num_goal_features = 10

    @property
    def cost_unit_m(self) -> float:
        return self.unit_m

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> NavigationField:
        return get_navigation_field(TABLE_GRID, bodies, goal)

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: NavigationField) -> Array:
        """How far the corners of the part's outline are from their places, on average, and what the way around boxes adds; the
        tool's way to the part, and to the side from which it can be pushed on; closeness of the tool to boxes."""
        tool, part = split_coordinates(bodies.pose[..., ROBOT, :2]), split_coordinates(bodies.pose[..., LOAD, :2])
        half_x, half_y = split_coordinates(bodies.half_extents[..., LOAD, :2])
        (radius,) = split_coordinates(bodies.half_extents[..., ROBOT, :1])
        goal_x, goal_y, goal_yaw = split_coordinates(goal)
        yaw = compute_yaw(bodies.pose[..., LOAD, 3:])
        xp = get_namespace(yaw)
        dx, dy = goal_x - part[0], goal_y - part[1]
        c, s = xp.cos(yaw) - np.cos(float(goal_yaw)), xp.sin(yaw) - np.sin(float(goal_yaw))
        away = 0.0
        for kx, ky in ((half_x, half_y), (half_x, -half_y)):  # the other two corners lie opposite
            ex, ey = c * kx - s * ky, s * kx + c * ky
            away = away + xp.hypot(dx - ex, dy - ey) + xp.hypot(dx + ex, dy + ey)
        px, py = part[0] - tool[0], part[1] - tool[1]
        apart, togo = xp.hypot(px, py), xp.hypot(dx, dy)
        approach = clamp(apart - radius - xp.minimum(half_x, half_y), 0)
        wrong_side = (1 - (px * dx + py * dy) / clamp(apart * togo, 1e-6)) * clamp(togo, 0, 0.1)
        gap = field.compute_clearance(tool) - radius
        close = self.clearance_weight * clamp(self.clearance_m - gap, 0)
        total = (
            away / 4 + field.compute_detour(part) + self.approach_weight * approach + self.wrong_side_weight * wrong_side + close
        )
        return total / self.unit_m

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: NavigationField) -> Array:
        """Of pressing, and of the arm being stretched or folded to its limits (...), in units of `unit_m`."""
        (x, y), (vx, vy) = split_coordinates(bodies.pose[..., ROBOT, :2]), split_coordinates(bodies.twist[..., ROBOT, :2])
        told_x, told_y, _ = split_coordinates(command)  # a tool has no heading: its frame is the world's
        xp, (least, most) = get_namespace(x), self.speed_deficit_m_s
        pressing = clamp((xp.hypot(told_x - vx, told_y - vy) - least) / (most - least), 0, 1)
        away, (nearest, farthest) = xp.hypot(x, y), self.reach_m
        beyond = clamp(nearest + self.reach_margin_m - away, 0) + clamp(away + self.reach_margin_m - farthest, 0)
        return self.violation_weight * (pressing + beyond / self.reach_margin_m)

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """(...) bool: the part lies at its pose, and still. The margin is in units of `unit_m`, of the angle in proportion."""
        (x, y), goal = split_coordinates(bodies.pose[..., LOAD, :2]), split_coordinates(goal)
        vx, vy, _, _, _, spin = split_coordinates(bodies.twist[..., LOAD, :])
        yaw = compute_yaw(bodies.pose[..., LOAD, 3:])
        xp = get_namespace(yaw)
        share = 1 - margin_m * self.unit_m / self.goal_radius_m
        near = xp.hypot(x - goal[0], y - goal[1]) < share * self.goal_radius_m
        turned = abs(wrap_angle(yaw - goal[2])) < share * self.goal_rad
        still = (xp.hypot(vx, vy) < self.rest_speed_m_s) & (abs(spin) < self.rest_yaw_rate_rad_s)
        return near & turned & still

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> dict[str, bool]:
        """What went wrong in one step: hard contact with clamps and stops, the part off the table or on its side."""
        hard = [hit for hit in contacts if hit.is_static and hit.force_n > self.max_contact_force_n]
        return {
            "tool_collision": any(hit.first == ROBOT for hit in hard),
            "part_collision": any(hit.first >= LOAD for hit in hard),
            "part_off_table": bool(bodies.pose[LOAD, 2] < 0),
            **{kind: bool(true) for kind, true in self.predict_violations(bodies).items()},
        }

    def predict_violations(self, bodies: Bodies) -> dict[str, Array]:
        """The part on its side."""
        return {"part_tipped": compute_tilt_cosine(bodies.pose[..., LOAD, 3:]) < 0.8}

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Goal from tool and part, how far the part has to turn, cost to go, the tool's clearance, and the part's place."""
        field, tool, part = self.get_cost_field(bodies, goal), bodies.pose[ROBOT, :2], bodies.pose[LOAD, :2]
        turn = float(goal[2] - compute_yaw(bodies.pose[LOAD, 3:]))
        yaw = compute_yaw(bodies.pose[ROBOT, 3:])
        vectors = rotate(np.stack([goal[:2] - tool, goal[:2] - part, part - tool]), -np.broadcast_to(yaw, (3,))) / self.unit_m
        cost = self.compute_cost(bodies, np.zeros(2), goal, field)
        gap = min(TABLE_GRID.max_clearance_m, float(field.compute_clearance(tool))) / self.unit_m
        return np.concatenate([vectors.ravel(), [np.cos(turn), np.sin(turn), cost, gap]])
