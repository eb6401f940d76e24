"""Behaviours of an AMR among people and forklifts: an expert that believes that others keep their velocity, and ones for data."""

from dataclasses import dataclass

import numpy as np

from sim.bodies import CONTROL_DT_S, ROBOT, TRAFFIC_KINDS, Bodies, Kind, Observation, Shape
from sim.costmaps.navigation import NavigationField, get_navigation_field
from sim.geometry.rotations import compute_yaw, make_unit_vectors, rotate, wrap_angle
from sim.policy import Policy, PolicyFactory, ScriptedPolicy
from sim.scenes.aisle_traffic.layouts import ROBOT_GRID

LOOKAHEAD_STEPS = 15  # that a choice is looked ahead
SPEEDS = np.array([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0])
TURNS = np.linspace(-1, 1, 9)
LOOKAHEAD_M = 0.4  # in front of the robot, where it should like to be next
ARRIVED_M = 0.3  # from where it wants to stand in the way
IGNORE_RACKS_SHARE = 0.25  # share of the ways on which one who rushes does not look for racks
MIN_CLEARANCE_M = {Kind.PERSON: 0.7, Kind.FORKLIFT: 0.35}


@dataclass(frozen=True)
class TrafficView:
    """What is needed of an observation, in the world frame."""

    robot: np.ndarray  # (2,) [m]
    yaw: float
    radius: float
    limits: np.ndarray  # (2,) speeds forward and turning that an action of 1 asks for
    agents: np.ndarray  # (K, 2) those in sight
    velocities: np.ndarray  # (K, 2)
    min_distance: np.ndarray  # (K,) distance of their centres from the robot's to be kept
    field: NavigationField

    @classmethod
    def from_observation(cls, observation: Observation) -> "TrafficView":
        bodies = Bodies.from_observation(observation)
        there = np.isin(bodies.kind, TRAFFIC_KINDS) & (bodies.present > 0)
        half = bodies.half_extents[there].astype(float)
        size = np.where(bodies.shape[there] == Shape.CYLINDER, half[:, 0], np.hypot(half[:, 0], half[:, 1]))
        radius = float(bodies.half_extents[ROBOT, 0])
        return cls(
            bodies.pose[ROBOT, :2].astype(float),
            float(compute_yaw(bodies.pose[ROBOT, 3:])),
            radius,
            observation["action_twist"][[0, 5], [0, 1]].astype(float),
            bodies.pose[there, :2].astype(float),
            bodies.twist[there, :2].astype(float),
            radius + size + np.array([MIN_CLEARANCE_M[Kind(int(kind))] for kind in bodies.kind[there]]),
            get_navigation_field(ROBOT_GRID, bodies, observation["goal"]),
        )


class DynamicWindow(ScriptedPolicy):
    """Takes, of a grid of constant speeds, the one that leads nearest to the goal with room to boxes, and to where others will be
    if they keep their velocity (after Fox et al. 1997, "The dynamic window approach"). `noise` disturbs it for data."""

    def __init__(self, noise: float = 0.0) -> None:
        self._noise = noise
        speed, turn = (grid.ravel() for grid in np.meshgrid(SPEEDS, TURNS))
        self._choices = np.column_stack([speed, turn])

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view = TrafficView.from_observation(observation)
        speed, turn = (self._choices * view.limits).T
        time = CONTROL_DT_S * np.arange(1, LOOKAHEAD_STEPS + 1)
        yaw = view.yaw + turn[:, None] * time
        places = view.robot + np.cumsum(
            CONTROL_DT_S * speed[:, None, None] * make_unit_vectors(yaw - turn[:, None] * CONTROL_DT_S / 2), 1
        )
        crowded = np.maximum(0, view.radius + 0.1 - view.field.compute_clearance(places)).max(1)
        ahead = places[:, -1] + LOOKAHEAD_M * make_unit_vectors(yaw[:, -1])
        score = (
            view.field.compute_cost_to_go(places[:, -1])
            + 0.3 * view.field.compute_cost_to_go(ahead)
            + 30 * crowded
            + 0.1 * (speed < 0)
        )
        if len(view.agents):
            future = view.agents + time[:, None, None] * view.velocities  # (STEPS, K, 2)
            short = np.maximum(0, view.min_distance - np.linalg.norm(places[:, :, None] - future, axis=-1))
            score = score + 20 * (short.max(-1) / (1 + time)).max(-1)
        return self._choices[int(np.argmin(score))] + self._noise * self._rng.standard_normal(2)


class Rush(ScriptedPolicy):
    """Drives towards the goal, or to where somebody near is or will be and stands there, or away, at any speed; now and then at
    racks too, since planners will ask what comes of it; changes its mind."""

    collection_steps = 100

    def _reset(self) -> None:
        self._steps_left = 0

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view, rng = TrafficView.from_observation(observation), self._rng
        if self._steps_left <= 0:
            self._steps_left, self._speed = int(rng.integers(8, 35)), float(rng.uniform(0.0, 1.1))
            self._target_rank = int(rng.integers(1, 4)) if rng.random() < 0.7 else 0  # the nearest, or one of the next two
            self._lead_s, self._sign = float(rng.uniform(0, 3)), float(rng.choice([1, 1, 1, -1]))
            self._ignores_racks = rng.random() < IGNORE_RACKS_SHARE
            self._heading_offset = float(rng.uniform(-1.5, 1.5)) if self._ignores_racks else 0.0
        self._steps_left -= 1
        around = np.linspace(-np.pi, np.pi, 24, endpoint=False)
        if self._target_rank and len(view.agents):
            nearest = np.argsort(np.linalg.norm(view.agents - view.robot, axis=-1))
            one = nearest[min(self._target_rank, len(nearest)) - 1]
            to = view.agents[one] + self._lead_s * view.velocities[one] - view.robot
        else:
            to = make_unit_vectors(around)[
                int(np.argmin(view.field.compute_cost_to_go(view.robot + 0.5 * make_unit_vectors(around))))
            ]
        ways = rotate(np.broadcast_to(to / max(float(np.linalg.norm(to)), 1e-6), (24, 2)), around + self._heading_offset)
        room = view.field.compute_clearance(view.robot + 0.4 * ways) > view.radius + 0.05
        way = ways[int(np.argmin(np.abs(around) + 10 * ~(room | self._ignores_racks)))]
        error = float(wrap_angle(np.asarray(np.arctan2(way[1], way[0]) + (np.pi if self._sign < 0 else 0) - view.yaw)))
        there = 0.0 if self._target_rank and np.linalg.norm(to) < ARRIVED_M else 1.0
        forward = there * self._sign * self._speed * max(0.0, np.cos(error)) ** 2
        return np.array([forward, 2.0 * error]) + 0.15 * rng.standard_normal(2)


def make_noisy_expert() -> Policy:
    """The expert as a behaviour for data: disturbed, so that its neighbourhood is covered too."""
    return DynamicWindow(noise=0.3)


BEHAVIOURS: dict[str, PolicyFactory] = {"rush": Rush, "scripted": DynamicWindow, "scripted-noisy": make_noisy_expert}
