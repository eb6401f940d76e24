"""Behaviours of a differential drive that pushes a load: from any side, and as an expert would."""

from dataclasses import dataclass

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies, Observation
from sim.costmaps.pushing import GeodesicField, field_of
from sim.geometry.rotations import unit, wrap, yaw_of
from sim.policy import Policy, PolicyFactory, Scripted


@dataclass(frozen=True)
class View:
    """The few quantities that scripted behaviour needs, out of an observation."""

    robot: np.ndarray  # (2,) [m]
    yaw: float
    load: np.ndarray  # (2,) [m]
    field: GeodesicField
    speed: float  # of the robot, along its heading [m/s]

    @classmethod
    def of(cls, observation: Observation) -> "View":
        bodies = Bodies.of(observation)
        yaw = float(yaw_of(bodies.pose[ROBOT, 3:]))
        velocity = bodies.twist[ROBOT, :2]
        return cls(
            robot=bodies.pose[ROBOT, :2].astype(float),
            yaw=yaw,
            load=bodies.pose[LOAD, :2].astype(float),
            field=field_of(bodies, observation["goal"]),
            speed=float(velocity @ (np.cos(yaw), np.sin(yaw))),
        )

    @property
    def contact(self) -> float:
        return self.field.contact_m


class ApproachAndPush(Scripted):
    """Drives at the load from any side, forwards or in reverse, at any speed, pushes for a while, lets go, and again.

    again: how often it pushes on, at another speed and angle, instead of letting go, or comes back without going round.
    """

    data_steps = 120

    def __init__(self, again: float = 0.0) -> None:
        self._again = again

    def _restart(self) -> None:
        self._phase, self._left, self._backwards = "away", 0, False

    def _act(self, observation: Observation) -> np.ndarray:
        view = View.of(observation)
        if self._left <= 0:
            self._next(view)
        self._left -= 1
        noise = 0.1 * self._rng.standard_normal(2)
        if self._phase == "approach":
            target = view.load + (view.contact + 0.2) * unit(self._bearing)
            if np.linalg.norm(target - view.robot) < 0.15:
                self._left = 0
            return drive_to(view, _around(view, target), self._speed, self._backwards) + noise
        if self._phase == "push":
            toward = _heading(view.load - view.robot) + (np.pi if self._backwards else 0)
            error = wrap(np.asarray(toward + self._aim - view.yaw))
            return np.array([-self._speed if self._backwards else self._speed, self._curve + 1.5 * error]) + noise
        return np.array([self._speed if self._backwards else -self._speed, self._curve]) + noise

    def _next(self, view: View) -> None:
        rng = self._rng
        again = self._again > 0 and rng.random() < self._again
        order = {"away": "push" if again else "approach", "approach": "push", "push": "push" if again else "away"}
        self._phase = order[self._phase]
        self._speed = float(rng.uniform(0.2, 1.0))
        self._curve = float(rng.normal(0, 0.3))
        self._left = int(rng.integers(*{"away": (2, 12), "approach": (20, 45), "push": (6, 35)}[self._phase]))
        if self._phase == "approach":
            self._backwards = bool(rng.random() < 0.4)
            self._bearing = _heading(view.robot - view.load) + float(rng.normal(0, 1.2))
        if self._phase == "approach" or again:
            self._aim = float(rng.normal(0, 0.35))


class ScriptedExpert(Scripted):
    """Goes behind the load along the geodesic direction, pushes, backs off when it sticks. `noise` disturbs it for data."""

    def __init__(self, noise: float = 0.0) -> None:
        self._noise = noise

    def _restart(self) -> None:
        self._stuck, self._backing, self._spin = 0, 0, 0.0

    def _act(self, observation: Observation) -> np.ndarray:
        view = View.of(observation)
        action = self._back_off(view)
        if action is None:
            action = self._advance(view)
            self._stuck = self._stuck + 1 if abs(action[0]) > 0.3 and abs(view.speed) < 0.03 else 0
        return action + self._noise * self._rng.standard_normal(2)

    def _back_off(self, view: View) -> np.ndarray | None:
        if self._stuck > 6:
            self._stuck, self._backing, self._spin = 0, 8, float(self._rng.uniform(-0.6, 0.6))
        self._backing -= 1
        return np.array([-0.7, self._spin]) if self._backing >= 0 else None

    def _advance(self, view: View) -> np.ndarray:
        behind = _heading(view.load - view.robot)
        angles = behind + np.linspace(-np.pi, np.pi, 48, endpoint=False)
        off = np.abs(angles - behind)
        spots = view.load - view.contact * unit(angles)
        score = view.field.pushing(np.broadcast_to(view.load, spots.shape), spots) + 0.9 * view.contact * 2 * off
        push = float(angles[int(np.argmin(score))])
        if np.linalg.norm(view.robot - view.load) > view.contact + 0.5:
            return drive_to(view, self._route(view), 1.0)
        lead = float(wrap(np.asarray(behind - push)))
        if abs(lead) < 0.5:
            error = float(wrap(np.asarray(behind + 1.2 * lead - view.yaw)))
            return np.array([0.9 * max(0.0, np.cos(error)) ** 4, 2.5 * error])
        return drive_to(view, _around(view, view.load - (view.contact + 0.2) * unit(push)), 1.0)

    def _route(self, view: View) -> np.ndarray:
        """A point ahead from which the load is cheapest to reach, among those with room for the robot."""
        points = view.robot + 0.4 * unit(np.linspace(-np.pi, np.pi, 24, endpoint=False))
        crowded = np.maximum(0, 0.36 - view.field.clearance_at(points))
        length = view.field.approaching(np.broadcast_to(view.load, points.shape), points)
        return points[int(np.argmin(length + 10 * crowded))]


def drive_to(view: View, target: np.ndarray, speed: float, backwards: bool = False) -> np.ndarray:
    """Turn towards a point, then drive there."""
    way = target - view.robot
    error = float(wrap(np.asarray(_heading(way) + (np.pi if backwards else 0) - view.yaw)))
    forward = speed * max(0.0, np.cos(error)) ** 3 * min(1.0, 2.5 * float(np.linalg.norm(way)) + 0.1)
    return np.array([-forward if backwards else forward, 2.5 * error])


def _around(view: View, target: np.ndarray) -> np.ndarray:
    """The target, or a point on the way round the load where the straight line would run into it."""
    radius = view.contact + 0.22
    here, there = _heading(view.robot - view.load), _heading(target - view.load)
    turn = float(wrap(np.asarray(there - here)))
    if abs(turn) < 0.5:
        return target
    ways = np.array([turn, turn - np.sign(turn) * 2 * np.pi])
    steps = here + np.sign(ways)[:, None] * np.linspace(0.3, np.abs(ways), 6).T
    room = view.field.clearance_at(view.load + radius * unit(steps)).min(-1)
    way = ways[int(np.argmin(np.abs(ways) + 20 * np.maximum(0, 0.33 - room)))]
    return view.load + radius * unit(here + np.sign(way) * min(0.7, abs(way)))


def _heading(vector: np.ndarray) -> float:
    return float(np.arctan2(vector[1], vector[0]))


def noisy_expert() -> Policy:
    """The expert as a behaviour for data: disturbed, so that its neighbourhood is covered too."""
    return ScriptedExpert(noise=0.25)


def persistent_pusher() -> Policy:
    """Approach-and-push that seldom lets go: as long in contact with the load as the expert, but from every side."""
    return ApproachAndPush(again=0.75)


PUSHING: dict[str, PolicyFactory] = {
    "approach-and-push": ApproachAndPush,
    "push-on": persistent_pusher,
    "scripted": ScriptedExpert,
    "scripted-noisy": noisy_expert,
}
