"""Behaviours of tote-push: pushes from any side to collect data, and an expert."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies, Observation
from sim.costmaps.pushing import PushingField, get_pushing_field
from sim.geometry.rotations import compute_yaw, make_unit_vectors, wrap_angle
from sim.policy import PolicyFactory, ScriptedPolicy


@dataclass(frozen=True)
class PushView:
    """Quantities of an observation that scripted behaviour needs, in the world frame."""

    robot: np.ndarray  # (2,) [m]
    yaw: float
    load: np.ndarray  # (2,) [m]
    field: PushingField
    speed: float  # of the robot, along its heading [m/s]
    contact_m: float  # distance of the two centres while pushing

    @classmethod
    def from_observation(cls, observation: Observation) -> "PushView":
        """Read an observation."""
        bodies = Bodies.from_observation(observation)
        yaw = float(compute_yaw(bodies.pose[ROBOT, 3:]))
        velocity = bodies.twist[ROBOT, :2]
        field = get_pushing_field(bodies, observation["goal"])
        robot, load = bodies.pose[[ROBOT, LOAD], :2].astype(float)
        speed = float(velocity @ (np.cos(yaw), np.sin(yaw)))
        return cls(robot, yaw, load, field, speed, field.contact_distance_m)


class ApproachAndPush(ScriptedPolicy):
    """Drives to the load from any side, forwards or in reverse, at any speed, pushes for a while,
    drives away, and repeats.
    """

    collection_steps = 120

    def __init__(self, repeat_probability: float = 0.0) -> None:
        """Create the behaviour.

        Args:
            repeat_probability: share of phases after which it pushes again at once, at another
                speed and angle, instead of driving away or around the load.
        """
        self._repeat_probability = repeat_probability

    def _reset(self) -> None:
        self._phase = "away"
        self._steps_left = 0
        self._backwards = False

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view = PushView.from_observation(observation)
        if self._steps_left <= 0:
            self._start_next_phase(view)
        self._steps_left -= 1
        noise = 0.1 * self._rng.standard_normal(2)
        if self._phase == "approach":
            target = view.load + (view.contact_m + 0.2) * make_unit_vectors(self._bearing)
            if np.linalg.norm(target - view.robot) < 0.15:
                self._steps_left = 0
            return drive_to(view, _go_around_load(view, target), self._speed, self._backwards) + noise
        if self._phase == "push":
            heading = _compute_heading(view.load - view.robot) + (np.pi if self._backwards else 0)
            error = wrap_angle(np.asarray(heading + self._heading_offset - view.yaw))
            return np.array([-self._speed if self._backwards else self._speed, self._curve + 1.5 * error]) + noise
        return np.array([self._speed if self._backwards else -self._speed, self._curve]) + noise

    def _start_next_phase(self, view: PushView) -> None:
        rng = self._rng
        repeats = self._repeat_probability > 0 and rng.random() < self._repeat_probability
        next_phase = {"away": "push" if repeats else "approach", "approach": "push", "push": "push" if repeats else "away"}
        self._phase = next_phase[self._phase]
        self._speed = float(rng.uniform(0.2, 1.0))
        self._curve = float(rng.normal(0, 0.3))
        self._steps_left = int(rng.integers(*{"away": (2, 12), "approach": (20, 45), "push": (6, 35)}[self._phase]))
        if self._phase == "approach":
            self._backwards = bool(rng.random() < 0.4)
            self._bearing = _compute_heading(view.robot - view.load) + float(rng.normal(0, 1.2))
        if self._phase == "approach" or repeats:
            self._heading_offset = float(rng.normal(0, 0.35))


class PushExpert(ScriptedPolicy):
    """Drives behind the load, pushes along the pushing field, and backs off when it is stuck."""

    def __init__(self, noise: float = 0.0) -> None:
        """Create the expert.

        Args:
            noise: standard deviation of noise on its actions, for data collection.
        """
        self._noise = noise

    def _reset(self) -> None:
        self._stuck_steps = self._back_off_steps = 0
        self._back_off_turn = 0.0

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view = PushView.from_observation(observation)
        action = self._back_off(view)
        if action is None:
            action = self._advance(view)
            self._stuck_steps = self._stuck_steps + 1 if abs(action[0]) > 0.3 and abs(view.speed) < 0.03 else 0
        return action + self._noise * self._rng.standard_normal(2)

    def _back_off(self, view: PushView) -> np.ndarray | None:
        if self._stuck_steps > 6:
            self._stuck_steps = 0
            self._back_off_steps = 8
            self._back_off_turn = float(self._rng.uniform(-0.6, 0.6))
        self._back_off_steps -= 1
        return np.array([-0.7, self._back_off_turn]) if self._back_off_steps >= 0 else None

    def _advance(self, view: PushView) -> np.ndarray:
        heading = _compute_heading(view.load - view.robot)
        headings = heading + np.linspace(-np.pi, np.pi, 48, endpoint=False)
        places = view.load - view.contact_m * make_unit_vectors(headings)
        cost = view.field.compute_pushing_cost(np.broadcast_to(view.load, places.shape), places)
        cost = cost + 0.9 * view.contact_m * 2 * np.abs(headings - heading)
        push = float(headings[int(np.argmin(cost))])
        if np.linalg.norm(view.robot - view.load) > view.contact_m + 0.5:
            return drive_to(view, self._choose_waypoint(view), 1.0)
        offset = float(wrap_angle(np.asarray(heading - push)))
        if abs(offset) < 0.5:
            error = float(wrap_angle(np.asarray(heading + 1.2 * offset - view.yaw)))
            return np.array([0.9 * max(0.0, np.cos(error)) ** 4, 2.5 * error])
        return drive_to(view, _go_around_load(view, view.load - (view.contact_m + 0.2) * make_unit_vectors(push)), 1.0)

    def _choose_waypoint(self, view: PushView) -> np.ndarray:
        """Choose a point 0.4 m ahead with the least approach cost and enough clearance."""
        points = view.robot + 0.4 * make_unit_vectors(np.linspace(-np.pi, np.pi, 24, endpoint=False))
        missing_clearance = np.maximum(0, 0.36 - view.field.compute_clearance(points))
        cost = view.field.compute_approach_cost(np.broadcast_to(view.load, points.shape), points)
        return points[int(np.argmin(cost + 10 * missing_clearance))]


def drive_to(view: PushView, target: np.ndarray, speed: float, backwards: bool = False) -> np.ndarray:
    """Compute the action that turns towards a target, then drives to it.

    Args:
        view: the current observation.
        target: (2,) [m].
        speed: largest forward speed, as a share of the limit.
        backwards: drive in reverse.

    Returns:
        (2,) action.
    """
    offset = target - view.robot
    error = float(wrap_angle(np.asarray(_compute_heading(offset) + (np.pi if backwards else 0) - view.yaw)))
    forward = speed * max(0.0, np.cos(error)) ** 3 * min(1.0, 2.5 * float(np.linalg.norm(offset)) + 0.1)
    return np.array([-forward if backwards else forward, 2.5 * error])


def _go_around_load(view: PushView, target: np.ndarray) -> np.ndarray:
    """Find the next point on the way to a target: around the load where a straight line would touch
    it.
    """
    radius = view.contact_m + 0.22
    bearing = _compute_heading(view.robot - view.load)
    turn = float(wrap_angle(np.asarray(_compute_heading(target - view.load) - bearing)))
    if abs(turn) < 0.5:
        return target
    turns = np.array([turn, turn - np.sign(turn) * 2 * np.pi])  # the short and the long way round
    bearings = bearing + np.sign(turns)[:, None] * np.linspace(0.3, np.abs(turns), 6).T
    clearance = view.field.compute_clearance(view.load + radius * make_unit_vectors(bearings)).min(-1)
    turn = turns[int(np.argmin(np.abs(turns) + 20 * np.maximum(0, 0.33 - clearance)))]
    return view.load + radius * make_unit_vectors(bearing + np.sign(turn) * min(0.7, abs(turn)))


def _compute_heading(vector: np.ndarray) -> float:
    return float(np.arctan2(vector[1], vector[0]))


BEHAVIOURS: dict[str, PolicyFactory] = {
    "approach-and-push": ApproachAndPush,
    # It seldom drives away: as long in contact as the expert, but from every side.
    "push-on": partial(ApproachAndPush, repeat_probability=0.75),
    "scripted": PushExpert,
    # Noise, so that data covers the states near the expert's path.
    "scripted-noisy": partial(PushExpert, noise=0.25),
}
