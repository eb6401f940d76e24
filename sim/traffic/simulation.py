"""Simulation of people and forklifts that travel between stops and avoid obstacles and the robot.

Collision avoidance is ORCA (van den Berg et al. 2011, "Reciprocal n-body collision avoidance"),
by its authors' library. Each agent of a pair makes half of the avoidance manoeuvre. Agents treat
the robot as such an agent, whatever it does.

People hesitate, turn aside, or are inattentive to the robot for a while. Forklifts have a turning
radius and pivot slowly at low speed, as trucks with steered rear wheels do. Agents are moved
kinematically: no contact pushes them. Bullet detects their contacts with the robot.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pyrvo
from scipy.ndimage import map_coordinates

from sim.bodies import CONTROL_DT_S, Kind, Shape
from sim.costmaps.cache import ContentCache
from sim.costmaps.navigation import GridSpec, NavigationField, build_navigation_fields
from sim.geometry.arrays import clamp
from sim.geometry.rotations import make_unit_vectors, rotate, wrap_angle
from sim.layout import AGENT_KIND_BY_NAME, AgentRoute
from sim.traffic.state import TrafficState

SCHEDULE_STEPS = 600  # of a behaviour schedule; its last entry stays in force
LOOKAHEAD_CELLS = 3.0  # distance at which the cost-to-go gives an agent's heading
ARRIVED_M = 0.6  # distance to a stop at which an agent heads for the next stop
BRAKING_S = 0.4  # a forklift stops if it would reach a box within this time
FAR_AWAY_XY = (1e4, 1e4)  # the robot's position for inattentive agents
CONTACT_RANGE_M = 2.5  # between centres: agents beyond it cannot touch the robot in a control step
PIVOT_RATE_RAD_S = 0.5  # yaw rate of a forklift at standstill
ROBOT_CLEARANCE_M = 0.45  # that agents keep to the robot's edge where they can
# Grid of an agent of radius 0.
POINT_GRID = GridSpec(0.2, 0.4, min_clearance_m=0.05, free_clearance_m=0.5, proximity_weight=1.0, max_clearance_m=3.0)
AVOIDANCE_HORIZON_S, OBSTACLE_HORIZON_S, NEIGHBOUR_RANGE_M = 1.5, 0.8, 5.0


@dataclass(frozen=True)
class AgentProfile:
    """Appearance and behaviour of a kind of agent."""

    half_extents: tuple[float, float, float]  # [m]
    shape: Shape
    radius_m: float  # of the circle that agents avoid
    clearance_m: float  # added to the radius
    acceleration_m_s2: float
    turn_radius_m: float  # 0: turns on the spot
    changes_per_s: float  # rate of hesitations and turns
    hesitation_share: float  # share of changes that are hesitations: the agent stands still
    change_duration_s: tuple[float, float]  # range
    inattentive_share: float  # share of the time in which it ignores the robot
    colour: tuple[float, float, float, float]
    inattentive_duration_s: tuple[float, float] = (2.0, 6.0)  # range

    @property
    def grid(self) -> GridSpec:
        """Grid of the cost-to-go fields that lead this kind of agent."""
        grow = {name: self.radius_m + getattr(POINT_GRID, name) for name in ("min_clearance_m", "free_clearance_m")}
        return replace(POINT_GRID, **grow)


PROFILES = {
    Kind.PERSON: AgentProfile(
        half_extents=(0.25, 0.25, 0.85),
        shape=Shape.CYLINDER,
        radius_m=0.25,
        clearance_m=0.1,
        acceleration_m_s2=1.5,
        turn_radius_m=0.0,
        changes_per_s=0.12,
        hesitation_share=0.5,
        change_duration_s=(0.6, 2.0),
        inattentive_share=0.2,
        colour=(0.9, 0.75, 0.2, 1),
    ),
    Kind.FORKLIFT: AgentProfile(
        half_extents=(0.7, 0.42, 0.95),
        shape=Shape.BOX,
        radius_m=0.8,
        clearance_m=0.0,
        acceleration_m_s2=1.2,
        turn_radius_m=1.2,
        changes_per_s=0.04,
        hesitation_share=1.0,
        change_duration_s=(1.0, 3.0),
        inattentive_share=0.1,
        colour=(0.85, 0.3, 0.1, 1),
    ),
}


@dataclass(frozen=True)
class _RouteField:
    """Cost-to-go field of a stop, and the heading that leads there from each cell."""

    field: NavigationField
    heading: np.ndarray  # (X, Y, 2) unit vectors

    def get_heading(self, place: Sequence[float]) -> np.ndarray:
        cell = (round((value - low) / self.field.cell_m) for value, low in zip(place, self.field.origin, strict=True))
        x, y = (min(max(index, 0), size - 1) for index, size in zip(cell, self.heading.shape, strict=False))
        return np.asarray(self.heading[x, y])


class TrafficSimulation:
    """K agents that follow routes among boxes."""

    def __init__(
        self, routes: Sequence[AgentRoute], boxes: np.ndarray, robot_radius_m: float, seed: int, speed: float = 1.0
    ) -> None:
        """Place the agents at the start of their routes.

        Args:
            boxes: (S, 7) as in Layout.static_boxes.
            seed: of the behaviour schedules.
            speed: factor on the agents' speeds.
        """
        self.kinds = [AGENT_KIND_BY_NAME[route.kind] for route in routes]
        self.profiles = [PROFILES[kind] for kind in self.kinds]
        self.half_extents = np.array([profile.half_extents for profile in self.profiles])
        self._speed = speed * np.array([route.speed_m_s for route in routes])
        self._route_fields = [
            [_get_route_cache(profile.grid)(boxes[:, :5], np.array([stop.x, stop.y])) for stop in route.stops]
            for profile, route in zip(self.profiles, routes, strict=True)
        ]
        stops = [[(stop.x, stop.y) for stop in route.stops] for route in routes]
        self._num_stops = np.array([len(route) for route in stops])
        self._stops = np.array([route + route[-1:] * (self._num_stops.max() - len(route)) for route in stops])
        self._max_speed_change = CONTROL_DT_S * np.array([profile.acceleration_m_s2 for profile in self.profiles])
        self._robot_radius = robot_radius_m
        self._schedule_seed = -1
        self._orca_with_robot = self._make_orca(boxes)
        self._orca_without_robot = self._make_orca(boxes)  # the robot is far away
        pose = np.array([(route.x, route.y, route.yaw) for route in routes])
        self.set_full_state(TrafficState(seed, 0, pose, np.zeros_like(pose), np.zeros(len(routes), int)))

    def _make_orca(self, boxes: np.ndarray) -> pyrvo.RVOSimulator:
        """Make ORCA's simulator, in which the robot is agent 0."""
        orca = pyrvo.RVOSimulator(CONTROL_DT_S, NEIGHBOUR_RANGE_M, 10, AVOIDANCE_HORIZON_S, OBSTACLE_HORIZON_S, 0.3, 2.0)
        for x, y, yaw, half_x, half_y, *_ in boxes.tolist():
            c, s = np.cos(yaw), np.sin(yaw)
            corners = [(half_x, half_y), (-half_x, half_y), (-half_x, -half_y), (half_x, -half_y)]
            orca.add_obstacle([(x + c * dx - s * dy, y + s * dx + c * dy) for dx, dy in corners])
        orca.process_obstacles()
        orca.add_agent((0.0, 0.0))
        orca.set_agent_radius(0, self._robot_radius + ROBOT_CLEARANCE_M)
        for agent, (profile, speed) in enumerate(zip(self.profiles, self._speed.tolist(), strict=True), 1):
            orca.add_agent((0.0, 0.0))
            orca.set_agent_radius(agent, profile.radius_m + profile.clearance_m)
            orca.set_agent_max_speed(agent, 1.2 * speed)
        return orca

    def set_full_state(self, state: TrafficState) -> None:
        """Restore a state exactly, with its behaviour schedules."""
        if self._schedule_seed != state.seed:
            self._schedule_seed = state.seed
            self._speed_factor, self._heading_offset, self._inattentive = _sample_schedule(self.profiles, state.seed)
        self.state = state

    def set_poses(self, pose: np.ndarray, velocity: np.ndarray) -> None:
        """Set the observable part of the state.

        Args:
            pose: (K, 3) x, y [m] and yaw [rad].
            velocity: (K, 3) along x and y [m/s], and yaw rate [rad/s].
        """
        self.state = replace(self.state, pose=pose.copy(), velocity=velocity.copy())

    def choose_velocities(self, robot_xy: tuple[float, float], robot_velocity: tuple[float, float]) -> None:
        """Choose the velocity of each agent for the next control step."""
        state = self.state
        offset = self._stops[np.arange(len(state.stop)), state.stop] - state.pose[:, :2]
        stop = (state.stop + (np.hypot(*offset.T) < ARRIVED_M)) % self._num_stops
        now = min(state.time, SCHEDULE_STEPS - 1)
        fields = [fields[index] for fields, index in zip(self._route_fields, stop.tolist(), strict=True)]
        headings = [field.get_heading(xy) for field, xy in zip(fields, state.pose[:, :2].tolist(), strict=True)]
        direction = rotate(np.stack(headings), self._heading_offset[now])
        preferred = (self._speed * self._speed_factor[now])[:, None] * direction
        inattentive = self._inattentive[now]
        velocity = _solve_orca(self._orca_with_robot, state, preferred, robot_xy, robot_velocity)
        if inattentive.any():
            without_robot = _solve_orca(self._orca_without_robot, state, preferred, FAR_AWAY_XY, robot_velocity)
            velocity = np.where(inattentive[:, None], without_robot, velocity)
        self.state = replace(state, time=state.time + 1, stop=stop, velocity=self._limit_velocities(velocity))

    def _limit_velocities(self, target: np.ndarray) -> np.ndarray:
        """Compute feasible velocities and yaw rates (K, 3) towards target velocities (K, 2)."""
        velocity = self.state.velocity[:, :2]
        speed = np.hypot(*target.T)
        turn = wrap_angle(np.arctan2(target[:, 1], target[:, 0]) - self.state.pose[:, 2])
        turn = np.where(speed > 0.05, turn, 0.0)
        change = target - velocity
        change *= np.minimum(1.0, self._max_speed_change / np.maximum(np.hypot(*change.T), 1e-9))[:, None]
        limited = np.column_stack([velocity + change, clamp(turn / CONTROL_DT_S, -5, 5)])
        for k, profile in enumerate(self.profiles):
            if profile.turn_radius_m:
                limited[k] = self._limit_steering(k, float(speed[k]), float(turn[k]))
        return limited

    def _limit_steering(self, k: int, target_speed: float, turn: float) -> tuple[float, float, float]:
        """Limit the velocity of an agent that cannot move sideways and brakes before boxes.

        `turn` is the angle from its heading to the target velocity [rad].
        """
        profile = self.profiles[k]
        max_change = float(self._max_speed_change[k])
        x, y, yaw = self.state.pose[k].tolist()
        vx, vy, _ = self.state.velocity[k].tolist()
        speed = vx * math.cos(yaw) + vy * math.sin(yaw)
        speed += clamp(target_speed * max(0.0, math.cos(turn)) - speed, -max_change, max_change)
        ahead = x + BRAKING_S * speed * math.cos(yaw), y + BRAKING_S * speed * math.sin(yaw)
        if self._route_fields[k][0].field.compute_clearance(ahead) < profile.half_extents[1]:
            speed = 0.0
        max_rate = max(speed / profile.turn_radius_m, PIVOT_RATE_RAD_S)
        rate = clamp(turn / CONTROL_DT_S, -max_rate, max_rate)
        return speed * math.cos(yaw + rate * CONTROL_DT_S / 2), speed * math.sin(yaw + rate * CONTROL_DT_S / 2), rate

    def advance(self, duration_s: float) -> None:
        """Move all agents at the chosen velocities."""
        self.state = replace(self.state, pose=self.state.pose + duration_s * self.state.velocity)

    def find_near(self, xy: tuple[float, float]) -> list[int]:
        """Find the agents that could touch a robot at a position within a control step."""
        return np.flatnonzero(np.hypot(*(self.state.pose[:, :2] - xy).T) < CONTACT_RANGE_M).tolist()

    def list_states(self) -> list[tuple[list[float], list[float]]]:
        """List the pose (7,) and twist (6,) of each agent, world frame, as plain lists."""
        agents = zip(self.profiles, self.state.pose.tolist(), self.state.velocity.tolist(), strict=True)
        return [
            ([x, y, profile.half_extents[2], 0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)], [vx, vy, 0.0, 0.0, 0.0, rate])
            for profile, (x, y, yaw), (vx, vy, rate) in agents
        ]


def _solve_orca(
    orca: pyrvo.RVOSimulator,
    state: TrafficState,
    preferred: np.ndarray,
    robot_xy: tuple[float, float],
    robot_velocity: tuple[float, float],
) -> np.ndarray:
    """Compute the collision-free velocities (K, 2) nearest to the preferred velocities (K, 2)."""
    positions = [robot_xy, *state.pose[:, :2].tolist()]
    velocities = [robot_velocity, *state.velocity[:, :2].tolist()]
    for agent, target in enumerate([robot_velocity, *preferred.tolist()]):
        orca.set_agent_position(agent, positions[agent])
        orca.set_agent_velocity(agent, velocities[agent])
        orca.set_agent_pref_velocity(agent, target)
    orca.do_step()
    return np.array([orca.get_agent_velocity(agent).to_tuple() for agent in range(1, 1 + len(preferred))])


def _build_route_field(grid: GridSpec, boxes: np.ndarray, stop: np.ndarray) -> _RouteField:
    field = build_navigation_fields(grid, boxes, stop[None])[0]
    directions = make_unit_vectors(np.linspace(-np.pi, np.pi, 24, endpoint=False))
    cells = np.stack(np.meshgrid(*map(np.arange, field.min_cost.shape), indexing="ij"), -1)
    ahead = (cells[..., None, :] + LOOKAHEAD_CELLS * directions).reshape(-1, 2).T
    cost = map_coordinates(field.min_cost, ahead, order=1, mode="nearest").reshape(*field.min_cost.shape, len(directions))
    return _RouteField(field, directions[cost.argmin(-1)])


@lru_cache(maxsize=8)
def _get_route_cache(grid: GridSpec) -> ContentCache[_RouteField]:
    return ContentCache(lambda boxes, stop: _build_route_field(grid, boxes, stop))


def _sample_schedule(profiles: list[AgentProfile], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sample the behaviour schedule of each agent.

    Returns:
        (SCHEDULE_STEPS, K) speed factors, heading offsets [rad], and flags of inattention to the
        robot.
    """
    shape = (SCHEDULE_STEPS, len(profiles))
    speed_factor = np.ones(shape)
    heading_offset = np.zeros(shape)
    inattentive = np.zeros(shape, bool)
    for k, profile in enumerate(profiles):
        rng = np.random.default_rng([seed, k])
        heading_offset[:, k] = rng.normal(0, 0.05)  # or two agents that meet head-on both stop
        for steps in _sample_intervals(rng, 1 / profile.changes_per_s, profile.change_duration_s):
            if rng.random() < profile.hesitation_share:
                speed_factor[steps, k] = 0.0
            else:
                heading_offset[steps, k] = rng.choice([-1, 1]) * rng.uniform(0.5, 1.6)
        mean_gap_s = sum(profile.inattentive_duration_s) / 2 * (1 / profile.inattentive_share - 1)
        for steps in _sample_intervals(rng, mean_gap_s, profile.inattentive_duration_s):
            inattentive[steps, k] = True
    return speed_factor, heading_offset, inattentive


def _sample_intervals(rng: np.random.Generator, mean_gap_s: float, duration_s: tuple[float, float]) -> Iterator[slice]:
    """Sample intervals of control steps; the gaps between them are exponentially distributed."""
    start_s = rng.exponential(mean_gap_s)
    while start_s < SCHEDULE_STEPS * CONTROL_DT_S:
        steps = slice(int(start_s / CONTROL_DT_S), int((start_s + rng.uniform(*duration_s)) / CONTROL_DT_S))
        yield steps
        start_s = steps.stop * CONTROL_DT_S + rng.exponential(mean_gap_s)
