"""Behaviours of push-fixture: pokes from every side to collect data, and an expert.

A part is pushed at one of the contact points on its outline. A quasi-static rule predicts that the
part moves along the push, and turns with the push's lever about the centre of mass (Lynch & Mason
1996, "Stable pushing").
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies, Observation
from sim.costmaps.cache import extract_static_boxes
from sim.costmaps.navigation import NavigationField, get_navigation_field
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.rotations import compute_yaw, rotate, wrap_angle
from sim.policy import PolicyFactory, ScriptedPolicy
from sim.scenes.push_fixture.task import TABLE_GRID

POINTS_PER_SIDE = 3  # contact points on each side of each box of a part
STAND_OFF_M = 0.02  # gap between tool and part where a push begins
SUBGOAL_M = 0.07  # distance of the part's next subgoal on a route around boxes
TOOL_CLEARANCE_M = 0.004  # clearance that the tool keeps from boxes
# mean distance of the corners from their goal positions at which the expert stops
GOAL_TOLERANCE_M = 0.012
STUCK_STEPS = 8
STUCK_M = 0.003  # a part that moves less in STUCK_STEPS of pushing is stuck
EXCLUDED_STEPS = 40  # steps for which a contact point is not used after the part was stuck
# turns from the straight direction, tried in this order [rad]
HEADING_OFFSETS = np.array([0, 0.4, -0.4, 0.8, -0.8, 1.2, -1.2, 1.6, -1.6, 2.0, -2.0, 2.6, -2.6])


@dataclass(frozen=True)
class ToolView:
    """Quantities of an observation that scripted behaviour needs, in the world frame."""

    tool: np.ndarray  # (2,) [m]
    radius: float
    part: np.ndarray  # (2,)
    yaw: float
    # (3,) x, y, yaw of the part's next subgoal: the task's goal, or a pose on a route around boxes
    goal: np.ndarray
    half: np.ndarray  # (2,) half extents of the part's outline
    points: np.ndarray  # (C, 2) contact points in the part's frame
    normals: np.ndarray  # (C, 2) outward normals at these points, in the part's frame
    boxes: np.ndarray  # (S, 5) x, y, yaw, half width, half depth
    speed: float  # tool's speed at an action of 1 [m/s]

    @classmethod
    def from_observation(cls, observation: Observation) -> "ToolView":
        """Read an observation."""
        bodies = Bodies.from_observation(observation)
        goal = observation["goal"].astype(float)
        part, yaw = bodies.pose[LOAD, :2].astype(float), float(compute_yaw(bodies.pose[LOAD, 3:]))
        points, normals = find_contact_points(observation["footprints"][LOAD])
        return cls(
            bodies.pose[ROBOT, :2].astype(float),
            float(bodies.half_extents[ROBOT, 0]),
            part,
            yaw,
            _choose_subgoal(get_navigation_field(TABLE_GRID, bodies, goal), part, yaw, goal),
            bodies.half_extents[LOAD, :2].astype(float),
            points,
            normals,
            extract_static_boxes(bodies)[:, :5],
            float(observation["action_twist"][0, 0]),
        )

    @property
    def part_radius(self) -> float:
        """Radius of the circle around the part's centre that contains it [m]."""
        return float(np.hypot(*self.half))

    @property
    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """(4, 2) corners of the part's outline now, and at the goal [m]."""
        corners = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * self.half
        return rotate(corners, self.yaw) + self.part, rotate(corners, self.goal[2]) + self.goal[:2]

    @property
    def corner_error(self) -> float:
        """Mean distance of the corners from their goal positions [m]."""
        corners, goal_corners = self.corners
        return float(np.linalg.norm(goal_corners - corners, axis=-1).mean())

    @property
    def push_gains(self) -> np.ndarray:
        """(C,) mean approach of the corners to the goal by a push of 1 m; -1 where blocked."""
        corners, goal_corners = self.corners
        error = goal_corners - corners
        error = error / np.maximum(np.linalg.norm(error, axis=-1, keepdims=True), 1e-4)
        push, lever = -rotate(self.normals, self.yaw), rotate(self.points, self.yaw)
        turn = (lever[:, 0] * push[:, 1] - lever[:, 1] * push[:, 0]) / (0.5 * (self.half**2).sum())
        arm = corners - self.part
        moves = push[:, None] + turn[:, None, None] * np.stack([-arm[:, 1], arm[:, 0]], -1)
        gains = (moves * error).sum(-1).mean(-1) / (1 + 0.5 * np.abs(turn) * self.part_radius)
        return np.where(self.is_free(self.push_starts), gains, -1.0)

    @property
    def push_starts(self) -> np.ndarray:
        """(C, 2) positions of the tool at which each push begins [m]."""
        return np.asarray(self.part + rotate(self.points + (self.radius + STAND_OFF_M) * self.normals, self.yaw))

    def is_free(self, places: np.ndarray) -> np.ndarray:
        """Find out whether the tool fits at places.

        Args:
            places: (..., 2) centres of the tool [m].

        Returns:
            (...) bool.
        """
        if not len(self.boxes):
            return np.ones(places.shape[:-1], bool)
        return compute_signed_distance(places, self.boxes) > self.radius + TOOL_CLEARANCE_M


class _ToolPolicy(ScriptedPolicy):
    """Moves the tool to places, around the part and boxes."""

    def _move_towards(self, view: ToolView, target: np.ndarray) -> np.ndarray:
        """Compute the action that moves the tool to a target, and around obstacles."""
        offset = target - view.tool
        distance = float(np.linalg.norm(offset))
        direction = offset / max(distance, 1e-6)
        outward = view.tool - view.part
        part_distance = max(float(np.linalg.norm(outward)), 1e-6)
        gap = float(np.linalg.norm(outward)) - view.part_radius - view.radius
        if _is_segment_near(view.tool, target, view.part, view.part_radius + view.radius):
            tangent = np.array([-outward[1], outward[0]]) / part_distance
            side = np.sign(_cross_product(outward, target - view.part)) or 1.0
            direction = side * tangent + np.clip(0.01 - gap, 0, 0.03) / 0.01 * outward / part_distance
            direction /= np.linalg.norm(direction)
        directions = rotate(np.broadcast_to(direction, (len(HEADING_OFFSETS), 2)), HEADING_OFFSETS)
        is_free = view.is_free(view.tool + 0.03 * directions)
        if is_free.any():
            direction = directions[int(np.argmax(is_free))]
        return np.asarray(direction * min(1.0, distance / (0.15 * view.speed)))


class Poke(_ToolPolicy):
    """Moves to any side of the part, pushes at any speed and angle for a while, and repeats."""

    collection_steps = 120

    def _reset(self) -> None:
        self._steps_left = self._point = 0
        self._is_pushing = False

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view, rng = ToolView.from_observation(observation), self._rng
        start = view.push_starts[self._point % len(view.points)]
        is_at_start = bool(np.linalg.norm(start - view.tool) < 0.012)
        if self._steps_left <= 0 or (is_at_start and not self._is_pushing):
            self._is_pushing = is_at_start or (self._is_pushing and rng.random() < 0.5)
            if self._is_pushing:
                self._steps_left = int(rng.integers(4, 22))
                self._angle = float(rng.normal(0, 0.5))
                self._speed = float(rng.uniform(0.15, 1.0))
                self._curve = float(rng.normal(0, 0.05))
            else:
                free_points = np.flatnonzero(view.is_free(view.push_starts))
                self._steps_left = 40
                self._point = int(rng.choice(free_points)) if len(free_points) else 0
        self._steps_left -= 1
        noise = 0.08 * rng.standard_normal(2)
        if not self._is_pushing:
            return self._move_towards(view, start) + noise
        self._angle += self._curve
        inward = -rotate(view.normals[self._point % len(view.points)], view.yaw)
        return self._speed * rotate(inward, self._angle) + noise


class PoseExpert(_ToolPolicy):
    """Pushes at the contact point with the largest gain.

    It changes to another point that is much better, and avoids a point for a while where the part
    was stuck.
    """

    def __init__(self, noise: float = 0.0) -> None:
        """Create the expert.

        Args:
            noise: standard deviation of noise on its actions, for data collection.
        """
        self._noise = noise

    def _reset(self) -> None:
        self._point = -1  # none
        self._is_pushing = False
        self._steps = 0
        self._part_history: list[np.ndarray] = []
        self._excluded: dict[int, int] = {}

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view = ToolView.from_observation(observation)
        self._steps += 1
        if view.corner_error < GOAL_TOLERANCE_M:
            return self._noise * self._rng.standard_normal(2)
        if self._is_stuck(view):
            self._excluded[self._point] = EXCLUDED_STEPS
            self._point = -1
        self._excluded = {point: steps_left - 1 for point, steps_left in self._excluded.items() if steps_left}
        gains, starts = view.push_gains, view.push_starts
        gains[list(self._excluded)] = -1.0
        if self._point < 0 or self._steps > 40 or gains[self._point] < (0.35 if self._is_pushing else 0.6) * gains.max():
            distance = np.linalg.norm(starts - view.tool, axis=-1)
            self._point = int(np.argmax(gains - 0.3 * distance / (distance + 0.1)))
            self._is_pushing = False
            self._steps = 0
        start = starts[self._point]
        inward = -rotate(view.normals[self._point], view.yaw)
        lateral = _cross_product(inward, view.tool - start)
        self._is_pushing = (self._is_pushing and abs(lateral) < 0.012) or bool(np.linalg.norm(start - view.tool) < 0.008)
        if self._is_pushing:
            speed = np.clip(view.corner_error / 0.08, 0.12, 0.7)
            action = speed * inward - 8 * lateral * np.array([-inward[1], inward[0]])
        else:
            action = self._move_towards(view, start)
        return np.asarray(action + self._noise * self._rng.standard_normal(2))

    def _is_stuck(self, view: ToolView) -> bool:
        """Find out whether the part has hardly moved while it was pushed."""
        pose = np.array([*view.part, 0.05 * view.yaw])
        self._part_history = [*self._part_history[-STUCK_STEPS:], pose] if self._is_pushing else []
        return len(self._part_history) > STUCK_STEPS and bool(np.linalg.norm(pose - self._part_history[0]) < STUCK_M)


def find_contact_points(footprint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find contact points on the outline of a part.

    Args:
        footprint: (P, 4) x, y, half width, half depth of its boxes [m]; rows of zeros are ignored.

    Returns:
        Points and outward normals, (C, 2) each, in the part's frame.
    """
    footprint = footprint[footprint[:, 2] > 0].astype(float)
    sides = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], float)[:, None]  # outward normals
    along = np.stack([-sides[..., 1], sides[..., 0]], -1)
    local = sides + np.linspace(-0.8, 0.8, POINTS_PER_SIDE)[:, None] * along  # on a box of size 1
    points_b = (footprint[:, None, None, :2] + local * footprint[:, None, None, 2:]).reshape(-1, 2)
    normals_b = np.broadcast_to(sides, (len(footprint), *local.shape)).reshape(-1, 2)
    boxes = np.column_stack([footprint[:, :2], np.zeros(len(footprint)), footprint[:, 2:]])
    # not in a corner between two boxes
    is_free = compute_signed_distance(points_b + 0.02 * normals_b, boxes) > 0.015
    return points_b[is_free], normals_b[is_free]


def _choose_subgoal(field: NavigationField, part: np.ndarray, yaw: float, goal: np.ndarray) -> np.ndarray:
    """Choose the goal, or a pose SUBGOAL_M along the route; the part turns near the goal."""
    if field.compute_detour(part) < 0.01:
        return goal
    places = part + SUBGOAL_M * rotate(np.tile([1.0, 0.0], (32, 1)), np.linspace(-np.pi, np.pi, 32, endpoint=False))
    place = places[int(np.argmin(field.compute_cost_to_go(places)))]
    turn = float(wrap_angle(np.asarray(goal[2] - yaw)))
    return np.array([*place, yaw + turn * min(1.0, SUBGOAL_M / max(float(field.compute_cost_to_go(part)), SUBGOAL_M))])


def _cross_product(a: np.ndarray, b: np.ndarray) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def _is_segment_near(start: np.ndarray, end: np.ndarray, centre: np.ndarray, radius: float) -> bool:
    """Find out whether the segment from start to end crosses a disc."""
    segment = end - start
    share = float((centre - start) @ segment) / max(float(segment @ segment), 1e-12)
    nearest = start + np.clip(share, 0, 1) * segment
    return bool(np.linalg.norm(nearest - centre) < min(radius, float(np.linalg.norm(end - centre)) - 1e-3))


# The noisy expert's data covers the states near its path.
BEHAVIOURS: dict[str, PolicyFactory] = {"poke": Poke, "scripted": PoseExpert, "scripted-noisy": partial(PoseExpert, noise=0.3)}
