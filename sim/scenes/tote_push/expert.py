"""Behaviours of a differential drive that pushes a load: from any side, and as an expert would."""

from dataclasses import dataclass

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies, Observation
from sim.costmaps.pushing import PushingField, get_pushing_field
from sim.geometry.rotations import compute_yaw, make_unit_vectors, wrap_angle
from sim.policy import Policy, PolicyFactory, ScriptedPolicy


@dataclass(frozen=True)
class PushView:
    """The few quantities that scripted behaviour needs, out of an observation."""

    robot: np.ndarray  # (2,) [m]
    yaw: float
    load: np.ndarray  # (2,) [m]
    field: PushingField
    speed: float  # of the robot, along its heading [m/s]

    @classmethod
    def from_observation(cls, observation: Observation) -> "PushView":
        bodies = Bodies.from_observation(observation)
        yaw = float(compute_yaw(bodies.pose[ROBOT, 3:]))
        velocity = bodies.twist[ROBOT, :2]
        return cls(
            robot=bodies.pose[ROBOT, :2].astype(float),
            yaw=yaw,
            load=bodies.pose[LOAD, :2].astype(float),
            field=get_pushing_field(bodies, observation["goal"]),
            speed=float(velocity @ (np.cos(yaw), np.sin(yaw))),
        )

    @property
    def contact_distance_m(self) -> float:
        return self.field.contact_distance_m


class ApproachAndPush(ScriptedPolicy):
    """Drives at the load from any side, forwards or in reverse, at any speed, pushes for a while, lets go, and again.

    again: how often it pushes on, at another speed and angle, instead of letting go, or comes back without going round.
    """

    collection_steps = 120

    def __init__(self, repeat_probability: float = 0.0) -> None:
        self._repeat_probability = repeat_probability

    def _reset(self) -> None:
        self._phase, self._steps_left, self._backwards = "away", 0, False

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view = PushView.from_observation(observation)
        if self._steps_left <= 0:
            self._start_next_phase(view)
        self._steps_left -= 1
        noise = 0.1 * self._rng.standard_normal(2)
        if self._phase == "approach":
            target = view.load + (view.contact_distance_m + 0.2) * make_unit_vectors(self._bearing)
            if np.linalg.norm(target - view.robot) < 0.15:
                self._steps_left = 0
            return drive_to(view, _go_around_load(view, target), self._speed, self._backwards) + noise
        if self._phase == "push":
            toward = _compute_heading(view.load - view.robot) + (np.pi if self._backwards else 0)
            error = wrap_angle(np.asarray(toward + self._aim - view.yaw))
            return np.array([-self._speed if self._backwards else self._speed, self._curve + 1.5 * error]) + noise
        return np.array([self._speed if self._backwards else -self._speed, self._curve]) + noise

    def _start_next_phase(self, view: PushView) -> None:
        rng = self._rng
        again = self._repeat_probability > 0 and rng.random() < self._repeat_probability
        order = {"away": "push" if again else "approach", "approach": "push", "push": "push" if again else "away"}
        self._phase = order[self._phase]
        self._speed = float(rng.uniform(0.2, 1.0))
        self._curve = float(rng.normal(0, 0.3))
        self._steps_left = int(rng.integers(*{"away": (2, 12), "approach": (20, 45), "push": (6, 35)}[self._phase]))
        if self._phase == "approach":
            self._backwards = bool(rng.random() < 0.4)
            self._bearing = _compute_heading(view.robot - view.load) + float(rng.normal(0, 1.2))
        if self._phase == "approach" or again:
            self._aim = float(rng.normal(0, 0.35))


class PushExpert(ScriptedPolicy):
    """Goes behind the load along the geodesic direction, pushes, backs off when it sticks. `noise` disturbs it for data."""

    def __init__(self, noise: float = 0.0) -> None:
        self._noise = noise

    def _reset(self) -> None:
        self._stuck_steps, self._back_off_steps, self._back_off_turn = 0, 0, 0.0

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view = PushView.from_observation(observation)
        action = self._back_off(view)
        if action is None:
            action = self._advance(view)
            self._stuck_steps = self._stuck_steps + 1 if abs(action[0]) > 0.3 and abs(view.speed) < 0.03 else 0
        return action + self._noise * self._rng.standard_normal(2)

    def _back_off(self, view: PushView) -> np.ndarray | None:
        if self._stuck_steps > 6:
            self._stuck_steps, self._back_off_steps, self._back_off_turn = 0, 8, float(self._rng.uniform(-0.6, 0.6))
        self._back_off_steps -= 1
        return np.array([-0.7, self._back_off_turn]) if self._back_off_steps >= 0 else None

    def _advance(self, view: PushView) -> np.ndarray:
        behind = _compute_heading(view.load - view.robot)
        angles = behind + np.linspace(-np.pi, np.pi, 48, endpoint=False)
        off = np.abs(angles - behind)
        spots = view.load - view.contact_distance_m * make_unit_vectors(angles)
        score = (
            view.field.compute_pushing_cost(np.broadcast_to(view.load, spots.shape), spots)
            + 0.9 * view.contact_distance_m * 2 * off
        )
        push = float(angles[int(np.argmin(score))])
        if np.linalg.norm(view.robot - view.load) > view.contact_distance_m + 0.5:
            return drive_to(view, self._choose_waypoint(view), 1.0)
        lead = float(wrap_angle(np.asarray(behind - push)))
        if abs(lead) < 0.5:
            error = float(wrap_angle(np.asarray(behind + 1.2 * lead - view.yaw)))
            return np.array([0.9 * max(0.0, np.cos(error)) ** 4, 2.5 * error])
        return drive_to(view, _go_around_load(view, view.load - (view.contact_distance_m + 0.2) * make_unit_vectors(push)), 1.0)

    def _choose_waypoint(self, view: PushView) -> np.ndarray:
        """A point ahead from which the load is cheapest to reach, among those with room for the robot."""
        points = view.robot + 0.4 * make_unit_vectors(np.linspace(-np.pi, np.pi, 24, endpoint=False))
        crowded = np.maximum(0, 0.36 - view.field.compute_clearance(points))
        length = view.field.compute_approach_cost(np.broadcast_to(view.load, points.shape), points)
        return points[int(np.argmin(length + 10 * crowded))]


def drive_to(view: PushView, target: np.ndarray, speed: float, backwards: bool = False) -> np.ndarray:
    """Turn towards a point, then drive there."""
    way = target - view.robot
    error = float(wrap_angle(np.asarray(_compute_heading(way) + (np.pi if backwards else 0) - view.yaw)))
    forward = speed * max(0.0, np.cos(error)) ** 3 * min(1.0, 2.5 * float(np.linalg.norm(way)) + 0.1)
    return np.array([-forward if backwards else forward, 2.5 * error])


def _go_around_load(view: PushView, target: np.ndarray) -> np.ndarray:
    """The target, or a point on the way round the load where the straight line would run into it."""
    radius = view.contact_distance_m + 0.22
    here, there = _compute_heading(view.robot - view.load), _compute_heading(target - view.load)
    turn = float(wrap_angle(np.asarray(there - here)))
    if abs(turn) < 0.5:
        return target
    ways = np.array([turn, turn - np.sign(turn) * 2 * np.pi])
    steps = here + np.sign(ways)[:, None] * np.linspace(0.3, np.abs(ways), 6).T
    room = view.field.compute_clearance(view.load + radius * make_unit_vectors(steps)).min(-1)
    way = ways[int(np.argmin(np.abs(ways) + 20 * np.maximum(0, 0.33 - room)))]
    return view.load + radius * make_unit_vectors(here + np.sign(way) * min(0.7, abs(way)))


def _compute_heading(vector: np.ndarray) -> float:
    return float(np.arctan2(vector[1], vector[0]))


def make_noisy_expert() -> Policy:
    """The expert as a behaviour for data: disturbed, so that its neighbourhood is covered too."""
    return PushExpert(noise=0.25)


def make_persistent_pusher() -> Policy:
    """Approach-and-push that seldom lets go: as long in contact with the load as the expert, but from every side."""
    return ApproachAndPush(repeat_probability=0.75)


BEHAVIOURS: dict[str, PolicyFactory] = {
    "approach-and-push": ApproachAndPush,
    "push-on": make_persistent_pusher,
    "scripted": PushExpert,
    "scripted-noisy": make_noisy_expert,
}
