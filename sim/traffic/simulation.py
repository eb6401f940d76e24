"""People and forklifts that go their own ways: from stop to stop around boxes, out of each other's way, half out of the robot's.

Reciprocal avoidance is ORCA (van den Berg et al. 2011, "Reciprocal n-body collision avoidance"), by its authors' library: each
takes half of the avoiding upon itself and trusts the other with the rest. The robot is one of them to all others, whatever it
does. People hesitate, turn aside, or do not see it for a while; forklifts have a turning radius, pivot slowly where they hardly
move, as trucks with steered rear wheels do, and follow what is asked for as well as they can. Nobody is pushed by anybody: bodies
are moved, and contacts with the robot are found by Bullet.
"""

import math
from collections.abc import Sequence
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

SCHEDULE_STEPS = 600  # of moods; the last ones stay
LOOKAHEAD_CELLS = 3.0  # to which the way is looked up
ARRIVED_M = 0.6
BRAKING_S = 0.4  # ahead, for a forklift before a box
FAR_AWAY_XY = (1e4, 1e4)
CONTACT_RANGE_M = 2.5  # between centres, from which on nobody touches the robot within DT_S
PIVOT_RATE_RAD_S = 0.5  # of a forklift that hardly moves, with its steered wheels across
ROBOT_CLEARANCE_M = 0.45  # that others leave between themselves and the robot's edge, where they can
AVOIDANCE_HORIZON_S, OBSTACLE_HORIZON_S, NEIGHBOUR_RANGE_M = 1.5, 0.8, 5.0


@dataclass(frozen=True)
class AgentProfile:
    """How one kind looks and goes."""

    half_extents: tuple[float, float, float]  # [m]
    shape: Shape
    radius_m: float  # around it, that others keep out of
    clearance_m: float  # that it adds to that where it can
    acceleration_m_s2: float
    turn_radius_m: float  # 0: turns on the spot
    changes_per_s: float
    hesitation_share: float  # share of moods in which it stands still; in the others it turns aside
    change_duration_s: tuple[float, float]
    inattentive_share: float  # share of the time in which it does not mind the robot
    inattentive_duration_s: tuple[float, float]
    colour: tuple[float, float, float, float]

    @property
    def grid(self) -> GridSpec:
        """On which its ways are found."""
        return GridSpec(
            0.2,
            margin_m=0.4,
            min_clearance_m=self.radius_m + 0.05,
            free_clearance_m=self.radius_m + 0.5,
            proximity_weight=1.0,
            max_clearance_m=3.0,
        )


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
        inattentive_duration_s=(2.0, 6.0),
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
        inattentive_duration_s=(2.0, 6.0),
        colour=(0.85, 0.3, 0.1, 1),
    ),
}


@dataclass(frozen=True)
class _RouteField:
    """Where to go from anywhere to reach a stop."""

    field: NavigationField
    heading: np.ndarray  # (X, Y, 2) unit

    def get_heading(self, place: Sequence[float]) -> np.ndarray:
        cell = (round((at - low) / self.field.cell_m) for at, low in zip(place, self.field.origin, strict=True))
        x, y = (min(max(at, 0), most - 1) for at, most in zip(cell, self.heading.shape, strict=False))
        return np.asarray(self.heading[x, y])


class TrafficSimulation:
    """Travellers among boxes (S, 7), as in Layout.static_boxes; `speed` scales how fast they go."""

    def __init__(
        self, routes: Sequence[AgentRoute], boxes: np.ndarray, robot_radius_m: float, seed: int, speed: float = 1.0
    ) -> None:
        self.kinds = [AGENT_KIND_BY_NAME[traveller.kind] for traveller in routes]
        self.profiles = [PROFILES[kind] for kind in self.kinds]
        self.half_extents = np.array([manner.half_extents for manner in self.profiles])
        self._speed = speed * np.array([traveller.speed_m_s for traveller in routes])
        self._route_fields = [_get_route_fields(manner, boxes, one) for manner, one in zip(self.profiles, routes, strict=True)]
        stops = [[(stop.x, stop.y) for stop in traveller.stops] for traveller in routes]
        self._counts = np.array([len(own) for own in stops])
        self._stops = np.array([own + own[-1:] * (self._counts.max() - len(own)) for own in stops])  # (K, S, 2)
        self._max_speed_change = CONTROL_DT_S * np.array([manner.acceleration_m_s2 for manner in self.profiles])
        self._steered_agents = [k for k, manner in enumerate(self.profiles) if manner.turn_radius_m]
        self._robot_radius, self._schedule_seed = robot_radius_m, -1
        self._orca_with_robot, self._orca_without_robot = self._make_orca(boxes), self._make_orca(boxes)  # the robot
        pose = np.array([(traveller.x, traveller.y, traveller.yaw) for traveller in routes])
        self.set_full_state(TrafficState(seed, 0, pose, np.zeros_like(pose), np.zeros(len(routes), int)))

    def _make_orca(self, boxes: np.ndarray) -> pyrvo.RVOSimulator:
        """ORCA's agents: the robot first, then everybody."""
        crowd = pyrvo.RVOSimulator(CONTROL_DT_S, NEIGHBOUR_RANGE_M, 10, AVOIDANCE_HORIZON_S, OBSTACLE_HORIZON_S, 0.3, 2.0)
        for x, y, yaw, half_x, half_y, *_ in boxes.tolist():
            c, s = np.cos(yaw), np.sin(yaw)
            corners = [(half_x, half_y), (-half_x, half_y), (-half_x, -half_y), (half_x, -half_y)]  # counter-clockwise
            crowd.add_obstacle([(x + c * dx - s * dy, y + s * dx + c * dy) for dx, dy in corners])
        crowd.process_obstacles()
        crowd.add_agent((0.0, 0.0))
        crowd.set_agent_radius(0, self._robot_radius + ROBOT_CLEARANCE_M)
        for agent, (manner, speed) in enumerate(zip(self.profiles, self._speed.tolist(), strict=True), 1):
            crowd.add_agent((0.0, 0.0))
            crowd.set_agent_radius(agent, manner.radius_m + manner.clearance_m)
            crowd.set_agent_max_speed(agent, 1.2 * speed)
        return crowd

    def set_full_state(self, state: TrafficState) -> None:
        """Go back to a state, exactly."""
        if self._schedule_seed != state.seed:
            self._schedule_seed, (self._speed_factor, self._heading_offset, self._inattentive) = (
                state.seed,
                _sample_schedule(self.profiles, state.seed),
            )
        self.state = state

    def set_poses(self, pose: np.ndarray, velocity: np.ndarray) -> None:
        """Set what can be seen: x, y, yaw (K, 3) and velocities (K, 3)."""
        self.state = replace(self.state, pose=pose.copy(), velocity=velocity.copy())

    def choose_velocities(self, robot_xy: tuple[float, float], robot_velocity: tuple[float, float]) -> None:
        """Choose everybody's velocity for the next DT_S."""
        state = self.state
        away = self._stops[np.arange(len(state.stop)), state.stop] - state.pose[:, :2]
        stop = (state.stop + (np.hypot(*away.T) < ARRIVED_M)) % self._counts
        now = min(state.time, SCHEDULE_STEPS - 1)
        places = state.pose[:, :2].tolist()
        headings = np.stack(
            [way[at].get_heading(place) for way, at, place in zip(self._route_fields, stop.tolist(), places, strict=True)]
        )
        wishes = (self._speed * self._speed_factor[now])[:, None] * rotate(headings, self._heading_offset[now])
        blind = self._inattentive[now]
        minding = _solve_orca(self._orca_with_robot, state, wishes, robot_xy, robot_velocity)
        ignoring = _solve_orca(self._orca_without_robot, state, wishes, FAR_AWAY_XY, robot_velocity) if blind.any() else minding
        wanted = np.where(blind[:, None], ignoring, minding)
        self.state = replace(state, time=state.time + 1, stop=stop, velocity=self._limit_velocities(wanted))

    def _limit_velocities(self, wanted: np.ndarray) -> np.ndarray:
        """(K, 3) velocities and turning speeds that bodies can have in the next DT_S, towards those wanted (K, 2)."""
        now, speed = self.state.velocity[:, :2], np.hypot(*wanted.T)
        off = np.where(speed > 0.05, wrap_angle(np.arctan2(wanted[:, 1], wanted[:, 0]) - self.state.pose[:, 2]), 0.0)
        change = wanted - now
        change *= np.minimum(1.0, self._max_speed_change / np.maximum(np.hypot(*change.T), 1e-9))[:, None]
        followed = np.column_stack([now + change, clamp(off / CONTROL_DT_S, -5, 5)])
        for k in self._steered_agents:
            followed[k] = self._limit_steering(k, float(speed[k]), float(off[k]))
        return followed

    def _limit_steering(self, k: int, speed: float, off: float) -> tuple[float, float, float]:
        """Of one that cannot go sideways, and brakes before boxes; `off` from its heading it should go [rad]."""
        manner, most = self.profiles[k], float(self._max_speed_change[k])
        (x, y, yaw), (vx, vy, _) = self.state.pose[k].tolist(), self.state.velocity[k].tolist()
        now = vx * math.cos(yaw) + vy * math.sin(yaw)
        now += clamp(speed * max(0.0, math.cos(off)) - now, -most, most)
        ahead = x + BRAKING_S * now * math.cos(yaw), y + BRAKING_S * now * math.sin(yaw)
        if self._route_fields[k][0].field.compute_clearance(ahead) < manner.half_extents[1]:
            now = 0.0
        fastest = max(now / manner.turn_radius_m, PIVOT_RATE_RAD_S)
        turn = clamp(off / CONTROL_DT_S, -fastest, fastest)
        return now * math.cos(yaw + turn * CONTROL_DT_S / 2), now * math.sin(yaw + turn * CONTROL_DT_S / 2), turn

    def advance(self, duration_s: float) -> None:
        """Go on at the velocities chosen."""
        self.state = replace(self.state, pose=self.state.pose + duration_s * self.state.velocity)

    def find_near(self, xy: tuple[float, float]) -> list[int]:
        """Who could touch a robot there within the next DT_S."""
        return np.flatnonzero(np.hypot(*(self.state.pose[:, :2] - xy).T) < CONTACT_RANGE_M).tolist()

    def _make_pose(self, k: int) -> tuple[list[float], list[float]]:
        x, y, yaw = self.state.pose[k].tolist()
        return [x, y, self.profiles[k].half_extents[2]], [0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]

    def list_states(self) -> tuple[list[list[float]], list[list[float]]]:
        """Poses (K × 7) and twists (K × 6), as plain lists."""
        poses = [[*position, *orientation] for position, orientation in map(self._make_pose, range(len(self.profiles)))]
        return poses, [[vx, vy, 0.0, 0.0, 0.0, turn] for vx, vy, turn in self.state.velocity.tolist()]


def _solve_orca(
    crowd: pyrvo.RVOSimulator,
    state: TrafficState,
    preferred: np.ndarray,
    robot_xy: tuple[float, float],
    robot_velocity: tuple[float, float],
) -> np.ndarray:
    """(K, 2) the velocities that ORCA asks of all who wish for some (K, 2)."""
    crowd.set_agent_position(0, robot_xy)
    crowd.set_agent_velocity(0, robot_velocity)
    crowd.set_agent_pref_velocity(0, robot_velocity)
    rows = zip(state.pose.tolist(), state.velocity.tolist(), preferred.tolist(), strict=True)
    for agent, (place, velocity, wish) in enumerate(rows, 1):
        crowd.set_agent_position(agent, place[:2])
        crowd.set_agent_velocity(agent, velocity[:2])
        crowd.set_agent_pref_velocity(agent, wish)
    crowd.do_step()
    return np.array([crowd.get_agent_velocity(agent).to_tuple() for agent in range(1, 1 + len(preferred))])


def _get_route_fields(manner: AgentProfile, boxes: np.ndarray, traveller: AgentRoute) -> list[_RouteField]:
    return [_get_route_cache(manner.grid)(boxes[:, :5], np.array([stop.x, stop.y])) for stop in traveller.stops]


def _build_route_field(grid: GridSpec, boxes: np.ndarray, stop: np.ndarray) -> _RouteField:
    field = build_navigation_fields(grid, boxes, stop[None])[0]
    around = np.linspace(-np.pi, np.pi, 24, endpoint=False)
    offsets = make_unit_vectors(around)
    cells = np.stack(np.meshgrid(*map(np.arange, field.min_cost.shape), indexing="ij"), -1)
    near = (cells[..., None, :] + LOOKAHEAD_CELLS * offsets).reshape(-1, 2).T
    togo = map_coordinates(field.min_cost, near, order=1, mode="nearest").reshape(*field.min_cost.shape, len(around))
    return _RouteField(field, offsets[togo.argmin(-1)])


@lru_cache(maxsize=8)
def _get_route_cache(grid: GridSpec) -> ContentCache[_RouteField]:
    return ContentCache(lambda boxes, stop: _build_route_field(grid, boxes, stop))


def _sample_schedule(manners: list[AgentProfile], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(SCHEDULE_STEPS, K) shares of its speed that each has a mind to go at, turns aside from its way [rad], and whether it does
    not mind the robot."""
    haste, aside = np.ones((SCHEDULE_STEPS, len(manners))), np.zeros((SCHEDULE_STEPS, len(manners)))
    blind = np.zeros((SCHEDULE_STEPS, len(manners)), bool)
    for k, manner in enumerate(manners):
        rng = np.random.default_rng([seed, k])
        aside[:, k] = rng.normal(0, 0.05)  # or two who meet head on would both stand
        at = 0.0
        while (at := at + rng.exponential(1 / manner.changes_per_s)) < SCHEDULE_STEPS * CONTROL_DT_S:
            steps = slice(int(at / CONTROL_DT_S), int((at + rng.uniform(*manner.change_duration_s)) / CONTROL_DT_S))
            if rng.random() < manner.hesitation_share:
                haste[steps, k] = 0.0
            else:
                aside[steps, k] = rng.choice([-1, 1]) * rng.uniform(0.5, 1.6)
            at = steps.stop * CONTROL_DT_S
        mean_s, at = sum(manner.inattentive_duration_s) / 2, 0.0
        while (at := at + rng.exponential(mean_s * (1 / manner.inattentive_share - 1))) < SCHEDULE_STEPS * CONTROL_DT_S:
            steps = slice(int(at / CONTROL_DT_S), int((at + rng.uniform(*manner.inattentive_duration_s)) / CONTROL_DT_S))
            blind[steps, k] = True
            at = steps.stop * CONTROL_DT_S
    return haste, aside, blind
