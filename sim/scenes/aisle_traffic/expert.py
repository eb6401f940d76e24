"""Behaviours of an AMR among people and forklifts: an expert that believes that others keep their velocity, and ones for data."""

from dataclasses import dataclass

import numpy as np

from sim.bodies import DT_S, ROBOT, TRAFFIC, Bodies, Kind, Observation, Shape
from sim.costmaps.navigation import WayField, way_field
from sim.geometry.rotations import rotate, unit, wrap, yaw_of
from sim.policy import Policy, PolicyFactory, Scripted
from sim.scenes.aisle_traffic.layouts import WAYS

STEPS = 15  # that a choice is looked ahead
SPEEDS = np.array([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0])
TURNS = np.linspace(-1, 1, 9)
AHEAD_M = 0.4  # in front of the robot, where it should like to be next
THERE_M = 0.3  # from where it wants to stand in the way
BLINDLY = 0.25  # share of the ways on which one who rushes does not look for racks
KEEP_M = {Kind.PERSON: 0.7, Kind.FORKLIFT: 0.35}


@dataclass(frozen=True)
class View:
    """What is needed of an observation, in the world frame."""

    robot: np.ndarray  # (2,) [m]
    yaw: float
    radius: float
    limits: np.ndarray  # (2,) speeds forward and turning that an action of 1 asks for
    others: np.ndarray  # (K, 2) those in sight
    velocities: np.ndarray  # (K, 2)
    keep: np.ndarray  # (K,) distance of their centres from the robot's to be kept
    field: WayField

    @classmethod
    def of(cls, observation: Observation) -> "View":
        bodies = Bodies.of(observation)
        there = np.isin(bodies.kind, TRAFFIC) & (bodies.present > 0)
        half = bodies.half_extents[there].astype(float)
        size = np.where(bodies.shape[there] == Shape.CYLINDER, half[:, 0], np.hypot(half[:, 0], half[:, 1]))
        radius = float(bodies.half_extents[ROBOT, 0])
        return cls(
            bodies.pose[ROBOT, :2].astype(float),
            float(yaw_of(bodies.pose[ROBOT, 3:])),
            radius,
            observation["action_twist"][[0, 5], [0, 1]].astype(float),
            bodies.pose[there, :2].astype(float),
            bodies.twist[there, :2].astype(float),
            radius + size + np.array([KEEP_M[Kind(int(kind))] for kind in bodies.kind[there]]),
            way_field(WAYS, bodies, observation["goal"]),
        )


class DynamicWindow(Scripted):
    """Takes, of a grid of constant speeds, the one that leads nearest to the goal with room to boxes, and to where others will be
    if they keep their velocity (after Fox et al. 1997, "The dynamic window approach"). `noise` disturbs it for data."""

    def __init__(self, noise: float = 0.0) -> None:
        self._noise = noise
        speed, turn = (grid.ravel() for grid in np.meshgrid(SPEEDS, TURNS))
        self._choices = np.column_stack([speed, turn])

    def _act(self, observation: Observation) -> np.ndarray:
        view = View.of(observation)
        speed, turn = (self._choices * view.limits).T
        time = DT_S * np.arange(1, STEPS + 1)
        yaw = view.yaw + turn[:, None] * time
        places = view.robot + np.cumsum(DT_S * speed[:, None, None] * unit(yaw - turn[:, None] * DT_S / 2), 1)
        crowded = np.maximum(0, view.radius + 0.1 - view.field.clearance_at(places)).max(1)
        ahead = places[:, -1] + AHEAD_M * unit(yaw[:, -1])
        score = view.field.togo_at(places[:, -1]) + 0.3 * view.field.togo_at(ahead) + 30 * crowded + 0.1 * (speed < 0)
        if len(view.others):
            future = view.others + time[:, None, None] * view.velocities  # (STEPS, K, 2)
            short = np.maximum(0, view.keep - np.linalg.norm(places[:, :, None] - future, axis=-1))
            score = score + 20 * (short.max(-1) / (1 + time)).max(-1)
        return self._choices[int(np.argmin(score))] + self._noise * self._rng.standard_normal(2)


class Rush(Scripted):
    """Drives towards the goal, or to where somebody near is or will be and stands there, or away, at any speed; now and then at
    racks too, since planners will ask what comes of it; changes its mind."""

    data_steps = 100

    def _restart(self) -> None:
        self._left = 0

    def _act(self, observation: Observation) -> np.ndarray:
        view, rng = View.of(observation), self._rng
        if self._left <= 0:
            self._left, self._speed = int(rng.integers(8, 35)), float(rng.uniform(0.0, 1.1))
            self._whom = int(rng.integers(1, 4)) if rng.random() < 0.7 else 0  # the nearest, or one of the next two
            self._lead, self._sign = float(rng.uniform(0, 3)), float(rng.choice([1, 1, 1, -1]))
            self._blindly = rng.random() < BLINDLY
            self._aside = float(rng.uniform(-1.5, 1.5)) if self._blindly else 0.0
        self._left -= 1
        around = np.linspace(-np.pi, np.pi, 24, endpoint=False)
        if self._whom and len(view.others):
            nearest = np.argsort(np.linalg.norm(view.others - view.robot, axis=-1))
            one = nearest[min(self._whom, len(nearest)) - 1]
            to = view.others[one] + self._lead * view.velocities[one] - view.robot
        else:
            to = unit(around)[int(np.argmin(view.field.togo_at(view.robot + 0.5 * unit(around))))]
        ways = rotate(np.broadcast_to(to / max(float(np.linalg.norm(to)), 1e-6), (24, 2)), around + self._aside)
        room = view.field.clearance_at(view.robot + 0.4 * ways) > view.radius + 0.05
        way = ways[int(np.argmin(np.abs(around) + 10 * ~(room | self._blindly)))]
        error = float(wrap(np.asarray(np.arctan2(way[1], way[0]) + (np.pi if self._sign < 0 else 0) - view.yaw)))
        there = 0.0 if self._whom and np.linalg.norm(to) < THERE_M else 1.0
        forward = there * self._sign * self._speed * max(0.0, np.cos(error)) ** 2
        return np.array([forward, 2.0 * error]) + 0.15 * rng.standard_normal(2)


def noisy_expert() -> Policy:
    """The expert as a behaviour for data: disturbed, so that its neighbourhood is covered too."""
    return DynamicWindow(noise=0.3)


CROSSING: dict[str, PolicyFactory] = {"rush": Rush, "scripted": DynamicWindow, "scripted-noisy": noisy_expert}
