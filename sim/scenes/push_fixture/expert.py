"""Behaviours of a tool that is moved in the plane and pushes parts: pokes from everywhere, and an expert.

A part is pushed at one of the points around its outline. What a push there does is foretold by a quasi-static rule of thumb: the
part moves along the push and turns with its lever about the centre of mass (Lynch & Mason 1996, "Stable pushing").
"""

from dataclasses import dataclass

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies, Observation
from sim.costmaps.cache import extract_static_boxes
from sim.costmaps.navigation import NavigationField, get_navigation_field
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.rotations import compute_yaw, rotate, wrap_angle
from sim.policy import Policy, PolicyFactory, ScriptedPolicy
from sim.scenes.push_fixture.task import TABLE_GRID

POINTS_PER_SIDE = 3  # contact points on each side of each box of a part
STAND_OFF_M = 0.02  # between tool and part where a push begins
SUBGOAL_M = 0.07  # of the part, on its way around boxes
TOOL_CLEARANCE_M = 0.004  # that the tool leaves to boxes
GOAL_TOLERANCE_M = 0.012  # of a part's corners from their places, on average, where the expert leaves it alone
STUCK_STEPS, EXCLUDED_STEPS = 8, 40  # of pushing in vain; of not trying there again


@dataclass(frozen=True)
class ToolView:
    """What is needed of an observation, in the world frame."""

    tool: np.ndarray  # (2,) [m]
    radius: float
    part: np.ndarray  # (2,)
    yaw: float
    goal: np.ndarray  # (3,) x, y, yaw to bring the part to next: the task's, or one on the way around boxes
    half: np.ndarray  # (2,) of the part's outline
    points: np.ndarray  # (C, 2) where the part can be touched, from its centre, its own frame
    normals: np.ndarray  # (C, 2) out of it
    boxes: np.ndarray  # (S, 5) x, y, yaw, half width, half depth
    speed: float  # of the tool at action 1 [m/s]

    @classmethod
    def from_observation(cls, observation: Observation) -> "ToolView":
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
        """How far the part reaches from its centre."""
        return float(np.hypot(*self.half))

    def to_world(self, local: np.ndarray) -> np.ndarray:
        return rotate(local, self.yaw)

    @property
    def corners(self) -> tuple[np.ndarray, np.ndarray]:
        """(4, 2) corners of the part's outline where they are, and where they belong."""
        corners = np.array([(1, 1), (1, -1), (-1, -1), (-1, 1)]) * self.half
        return rotate(corners, self.yaw) + self.part, rotate(corners, self.goal[2]) + self.goal[:2]

    @property
    def corner_error(self) -> float:
        """How far the corners are from where they belong, on average [m]."""
        here, there = self.corners
        return float(np.linalg.norm(there - here, axis=-1).mean())

    @property
    def push_gains(self) -> np.ndarray:
        """(C,) by how many metres a push of a metre at each point would bring the part's corners nearer, on average."""
        here, there = self.corners
        miss = (there - here) / np.maximum(np.linalg.norm(there - here, axis=-1, keepdims=True), 1e-4)
        push, lever = -self.to_world(self.normals), self.to_world(self.points)
        turn = (lever[:, 0] * push[:, 1] - lever[:, 1] * push[:, 0]) / (0.5 * (self.half**2).sum())
        arm = here - self.part
        moves = push[:, None] + turn[:, None, None] * np.stack([-arm[:, 1], arm[:, 0]], -1)
        gains = (moves * miss).sum(-1).mean(-1) / (1 + 0.5 * np.abs(turn) * self.part_radius)
        return np.where(self._is_start_free, gains, -1.0)

    @property
    def push_starts(self) -> np.ndarray:
        """(C, 2) where the tool would begin each push."""
        return np.asarray(self.part + self.to_world(self.points + (self.radius + STAND_OFF_M) * self.normals))

    @property
    def _is_start_free(self) -> np.ndarray:
        return self.is_free(self.push_starts)

    def is_free(self, places: np.ndarray) -> np.ndarray:
        """Whether the tool fits at places (..., 2)."""
        if not len(self.boxes):
            return np.ones(places.shape[:-1], bool)
        return compute_signed_distance(places, self.boxes) > self.radius + TOOL_CLEARANCE_M


class _ToolPolicy(ScriptedPolicy):
    """Goes round the part and round boxes to places."""

    def _move_towards(self, view: ToolView, target: np.ndarray, speed: float = 1.0) -> np.ndarray:
        """The action towards a target, away from what is in between."""
        way = target - view.tool
        distance = float(np.linalg.norm(way))
        out = view.tool - view.part
        room = float(np.linalg.norm(out)) - view.part_radius - view.radius
        direction = way / max(distance, 1e-6)
        if _is_segment_near(view.tool, target, view.part, view.part_radius + view.radius):
            tangent = np.array([-out[1], out[0]]) / max(float(np.linalg.norm(out)), 1e-6)
            side = np.sign(_cross_product(out, target - view.part)) or 1.0
            direction = side * tangent + np.clip(0.01 - room, 0, 0.03) / 0.01 * out / max(float(np.linalg.norm(out)), 1e-6)
            direction /= np.linalg.norm(direction)
        ways = rotate(np.broadcast_to(direction, (13, 2)), HEADING_OFFSETS)
        good = view.is_free(view.tool + 0.03 * ways)
        if good.any():
            direction = ways[int(np.argmax(good))]
        return np.asarray(direction * min(speed, distance / (0.15 * view.speed)))


HEADING_OFFSETS = np.array(
    [0, 0.4, -0.4, 0.8, -0.8, 1.2, -1.2, 1.6, -1.6, 2.0, -2.0, 2.6, -2.6]
)  # turns away from the straight way


class Poke(_ToolPolicy):
    """Goes to any side of the part, pushes at any speed and angle for a while, and again."""

    collection_steps = 120

    def _reset(self) -> None:
        self._steps_left, self._pushing, self._point = 0, False, 0

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view, rng = ToolView.from_observation(observation), self._rng
        stand = view.push_starts[self._point % len(view.points)]
        there = bool(np.linalg.norm(stand - view.tool) < 0.012)
        if self._steps_left <= 0 or (there and not self._pushing):
            self._pushing = there or (self._pushing and rng.random() < 0.5)
            if self._pushing:
                self._steps_left, self._angle = int(rng.integers(4, 22)), float(rng.normal(0, 0.5))
                self._speed, self._curve = float(rng.uniform(0.15, 1.0)), float(rng.normal(0, 0.05))
            else:
                open_ = np.flatnonzero(view.is_free(view.push_starts))
                self._steps_left, self._point = 40, int(rng.choice(open_)) if len(open_) else 0
        self._steps_left -= 1
        noise = 0.08 * rng.standard_normal(2)
        if not self._pushing:
            return self._move_towards(view, stand) + noise
        self._angle += self._curve
        inward = -view.to_world(view.normals[self._point % len(view.points)])
        return self._speed * rotate(inward, self._angle) + noise


class PoseExpert(_ToolPolicy):
    """Pushes where it brings the part nearest to its pose, changes place when another one is much better, and leaves alone for a
    while what does not move."""

    def __init__(self, noise: float = 0.0) -> None:
        self._noise = noise

    def _reset(self) -> None:
        self._point, self._pushing, self._steps = -1, False, 0
        self._part_history: list[np.ndarray] = []
        self._excluded: dict[int, int] = {}

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view = ToolView.from_observation(observation)
        self._steps += 1
        if view.corner_error < GOAL_TOLERANCE_M:
            return self._noise * self._rng.standard_normal(2)
        if self._is_stuck(view):
            self._excluded[self._point], self._point = EXCLUDED_STEPS, -1
        self._excluded = {at: left - 1 for at, left in self._excluded.items() if left}
        gains, stands = view.push_gains, view.push_starts
        gains[list(self._excluded)] = -1.0
        if self._point < 0 or self._steps > 40 or gains[self._point] < (0.35 if self._pushing else 0.6) * gains.max():
            far = np.linalg.norm(stands - view.tool, axis=-1)
            self._point, self._pushing, self._steps = int(np.argmax(gains - 0.3 * far / (far + 0.1))), False, 0
        stand = stands[self._point]
        inward = -view.to_world(view.normals[self._point])
        aside = _cross_product(inward, view.tool - stand)
        self._pushing = (self._pushing and abs(aside) < 0.012) or bool(np.linalg.norm(stand - view.tool) < 0.008)
        if self._pushing:
            speed = np.clip(view.corner_error / 0.08, 0.12, 0.7)
            action = speed * inward - 8 * aside * np.array([-inward[1], inward[0]])
        else:
            action = self._move_towards(view, stand)
        return np.asarray(action + self._noise * self._rng.standard_normal(2))

    def _is_stuck(self, view: ToolView) -> bool:
        """Whether the part has hardly moved while it was pushed."""
        here = np.array([*view.part, 0.05 * view.yaw])
        self._part_history = [*self._part_history[-STUCK_STEPS:], here] if self._pushing else []
        return len(self._part_history) > STUCK_STEPS and bool(np.linalg.norm(here - self._part_history[0]) < 0.003)


def find_contact_points(footprint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points on the outline of boxes (P, 4) and the normals there, (C, 2) each."""
    footprint = footprint[footprint[:, 2] > 0].astype(float)
    points, normals = [], []
    for x, y, half_x, half_y in footprint:
        for normal in np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], float):
            along = np.array([-normal[1], normal[0]])
            for share in np.linspace(-0.8, 0.8, POINTS_PER_SIDE):
                points.append(np.array([x, y]) + (normal + share * along) * (half_x, half_y))
                normals.append(normal)
    place, out = np.array(points), np.array(normals)
    boxes = np.column_stack([footprint[:, :2], np.zeros(len(footprint)), footprint[:, 2:]])
    free = compute_signed_distance(place + 0.02 * out, boxes) > 0.015  # not in a corner between two boxes
    return place[free], out[free]


def _choose_subgoal(field: NavigationField, part: np.ndarray, yaw: float, goal: np.ndarray) -> np.ndarray:
    """The goal, or a pose AHEAD_M on the way to it where boxes are between; it is turned on the last part of the way."""
    if field.compute_detour(part) < 0.01:
        return goal
    places = part + SUBGOAL_M * rotate(np.tile([1.0, 0.0], (32, 1)), np.linspace(-np.pi, np.pi, 32, endpoint=False))
    place = places[int(np.argmin(field.compute_cost_to_go(places)))]
    turn = float(wrap_angle(np.asarray(goal[2] - yaw)))
    return np.array([*place, yaw + turn * min(1.0, SUBGOAL_M / max(float(field.compute_cost_to_go(part)), SUBGOAL_M))])


def _cross_product(a: np.ndarray, b: np.ndarray) -> float:
    return float(a[0] * b[1] - a[1] * b[0])


def _is_segment_near(start: np.ndarray, end: np.ndarray, centre: np.ndarray, radius: float) -> bool:
    """Whether the way from start to end goes through a disc."""
    way, to = end - start, centre - start
    length = max(float(way @ way), 1e-12)
    nearest = start + np.clip(float(to @ way) / length, 0, 1) * way
    return bool(np.linalg.norm(nearest - centre) < min(radius, float(np.linalg.norm(end - centre)) - 1e-3))


def make_noisy_expert() -> Policy:
    """The expert as a behaviour for data: disturbed, so that its neighbourhood is covered too."""
    return PoseExpert(noise=0.3)


BEHAVIOURS: dict[str, PolicyFactory] = {"poke": Poke, "scripted": PoseExpert, "scripted-noisy": make_noisy_expert}
