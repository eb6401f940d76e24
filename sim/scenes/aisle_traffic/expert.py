"""Behaviours of aisle-traffic: an expert that predicts constant velocities, and data collection."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from sim.bodies import CONTROL_DT_S, ROBOT, TRAFFIC_KINDS, Bodies, Kind, Observation, Shape
from sim.costmaps.navigation import NavigationField, get_navigation_field
from sim.geometry.rotations import compute_yaw, make_unit_vectors, rotate, wrap_angle
from sim.policy import PolicyFactory, ScriptedPolicy
from sim.scenes.aisle_traffic.layouts import ROBOT_GRID

LOOKAHEAD_STEPS = 15  # control steps that the expert predicts
SPEEDS = np.array([-0.5, 0.0, 0.25, 0.5, 0.75, 1.0])
TURNS = np.linspace(-1, 1, 9)
LOOKAHEAD_M = 0.4  # distance ahead of the last predicted position at which the cost is added
ARRIVED_M = 0.3  # distance from an agent's path at which the robot stops
IGNORE_RACKS_SHARE = 0.25  # share of phases in which Rush ignores racks
NUM_HEADINGS = 24  # that Rush chooses from
MIN_CLEARANCE_M = {Kind.PERSON: 0.7, Kind.FORKLIFT: 0.35}


@dataclass(frozen=True)
class TrafficView:
    """Quantities of an observation that scripted behaviour needs, in the world frame."""

    robot: np.ndarray  # (2,) [m]
    yaw: float
    radius: float
    limits: np.ndarray  # (2,) forward speed and yaw rate at an action of 1 [m/s, rad/s]
    agents: np.ndarray  # (K, 2) positions of the agents in sight [m]
    velocities: np.ndarray  # (K, 2) [m/s]
    min_distance: np.ndarray  # (K,) distance that the robot's centre keeps from theirs [m]
    field: NavigationField

    @classmethod
    def from_observation(cls, observation: Observation) -> "TrafficView":
        """Read an observation."""
        bodies = Bodies.from_observation(observation)
        is_agent = np.isin(bodies.kind, TRAFFIC_KINDS) & (bodies.present > 0)
        half = bodies.half_extents[is_agent].astype(float)
        size = np.where(bodies.shape[is_agent] == Shape.CYLINDER, half[:, 0], np.hypot(half[:, 0], half[:, 1]))
        radius = float(bodies.half_extents[ROBOT, 0])
        return cls(
            bodies.pose[ROBOT, :2].astype(float),
            float(compute_yaw(bodies.pose[ROBOT, 3:])),
            radius,
            observation["action_twist"][[0, 5], [0, 1]].astype(float),
            bodies.pose[is_agent, :2].astype(float),
            bodies.twist[is_agent, :2].astype(float),
            radius + size + np.array([MIN_CLEARANCE_M[Kind(int(kind))] for kind in bodies.kind[is_agent]]),
            get_navigation_field(ROBOT_GRID, bodies, observation["goal"]),
        )


class DynamicWindow(ScriptedPolicy):
    """Chooses the constant speeds that lead nearest to the goal without collision.

    Agents are predicted with constant velocity. After Fox et al. 1997, "The dynamic window
    approach".
    """

    def __init__(self, noise: float = 0.0) -> None:
        """Create the expert.

        Args:
            noise: standard deviation of noise on its actions, for data collection.
        """
        self._noise = noise
        speed, turn = (grid.ravel() for grid in np.meshgrid(SPEEDS, TURNS))
        self._choices = np.column_stack([speed, turn])

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view = TrafficView.from_observation(observation)
        speed, yaw_rate = (self._choices * view.limits).T
        time_s = CONTROL_DT_S * np.arange(1, LOOKAHEAD_STEPS + 1)
        yaw = view.yaw + yaw_rate[:, None] * time_s
        middle_yaw = yaw - yaw_rate[:, None] * CONTROL_DT_S / 2
        places = view.robot + np.cumsum(CONTROL_DT_S * speed[:, None, None] * make_unit_vectors(middle_yaw), 1)
        missing_clearance = np.maximum(0, view.radius + 0.1 - view.field.compute_clearance(places)).max(1)
        ahead = places[:, -1] + LOOKAHEAD_M * make_unit_vectors(yaw[:, -1])
        cost = view.field.compute_cost_to_go(places[:, -1]) + 0.3 * view.field.compute_cost_to_go(ahead)
        cost = cost + 30 * missing_clearance + 0.1 * (speed < 0)
        if len(view.agents):
            # (LOOKAHEAD_STEPS, K, 2)
            agents = view.agents + time_s[:, None, None] * view.velocities
            missing = np.maximum(0, view.min_distance - np.linalg.norm(places[:, :, None] - agents, axis=-1))
            cost = cost + 20 * (missing.max(-1) / (1 + time_s)).max(-1)
        return self._choices[int(np.argmin(cost))] + self._noise * self._rng.standard_normal(2)


class Rush(ScriptedPolicy):
    """Drives at any speed towards the goal, or towards or away from an agent's predicted position.

    It stops where it reaches that position. In some phases it ignores racks, so that data contains
    contact with them. Phases last a few seconds.
    """

    collection_steps = 100

    def _reset(self) -> None:
        self._steps_left = 0

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view, rng = TrafficView.from_observation(observation), self._rng
        if self._steps_left <= 0:
            self._steps_left = int(rng.integers(8, 35))
            self._speed = float(rng.uniform(0.0, 1.1))
            # of the nearest agents; 0: the goal
            self._target_rank = int(rng.integers(1, 4)) if rng.random() < 0.7 else 0
            self._lead_s = float(rng.uniform(0, 3))
            self._sign = float(rng.choice([1, 1, 1, -1]))
            self._ignores_racks = rng.random() < IGNORE_RACKS_SHARE
            self._heading_offset = float(rng.uniform(-1.5, 1.5)) if self._ignores_racks else 0.0
        self._steps_left -= 1
        turns = np.linspace(-np.pi, np.pi, NUM_HEADINGS, endpoint=False)
        if self._target_rank and len(view.agents):
            nearest = np.argsort(np.linalg.norm(view.agents - view.robot, axis=-1))
            agent = nearest[min(self._target_rank, len(nearest)) - 1]
            offset = view.agents[agent] + self._lead_s * view.velocities[agent] - view.robot
        else:
            offsets = make_unit_vectors(turns)
            offset = offsets[int(np.argmin(view.field.compute_cost_to_go(view.robot + 0.5 * offsets)))]
        direction = np.broadcast_to(offset / max(float(np.linalg.norm(offset)), 1e-6), (NUM_HEADINGS, 2))
        directions = rotate(direction, turns + self._heading_offset)
        is_free = view.field.compute_clearance(view.robot + 0.4 * directions) > view.radius + 0.05
        x, y = directions[int(np.argmin(np.abs(turns) + 10 * ~(is_free | self._ignores_racks)))]
        error = float(wrap_angle(np.asarray(np.arctan2(y, x) + (np.pi if self._sign < 0 else 0) - view.yaw)))
        speed = 0.0 if self._target_rank and np.linalg.norm(offset) < ARRIVED_M else self._sign * self._speed
        return np.array([speed * max(0.0, np.cos(error)) ** 2, 2.0 * error]) + 0.15 * rng.standard_normal(2)


# The noisy expert's data covers the states near its path.
BEHAVIOURS: dict[str, PolicyFactory] = {
    "rush": Rush,
    "scripted": DynamicWindow,
    "scripted-noisy": partial(DynamicWindow, noise=0.3),
}
