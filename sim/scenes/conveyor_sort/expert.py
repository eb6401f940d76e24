"""Behaviours of conveyor-sort: pokes from every side to collect data, and a timed rule."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies, Observation
from sim.geometry.rotations import make_unit_vectors, rotate
from sim.policy import PolicyFactory, ScriptedPolicy
from sim.scenes.conveyor_sort.layouts import TOOL_ZONE_M
from sim.scenes.conveyor_sort.task import ConveyorSortTask, Progress, SortingField

TASK = ConveyorSortTask(unit_m=1.0)
CONTROL_S = 0.1
WAIT_INSIDE_M = 0.025  # of the tool's middle, from the edge of the belt
LEAD_S = 0.5  # the tool waits where a part is this long before the middle of its mouth
MAX_LATE_S = 0.3  # a part that passed the place of its strike earlier is let go
PUSH_SPEED = 0.7  # share of the tool's speed
MAX_STRIKE_STEPS = 14
ALIGNED_M = 0.02


@dataclass(frozen=True)
class SortView:
    """Quantities of an observation that scripted behaviour needs; along and across the belt."""

    field: SortingField
    progress: Progress
    tool: np.ndarray  # (2,) along, lateral [m]
    parts: np.ndarray  # (P, 2) [m]
    part_speed: np.ndarray  # (P, 2) [m/s]
    radius: float  # of the tool [m]
    part_radius: np.ndarray  # (P,) [m]
    speed: float  # of the tool, at an action of 1 [m/s]
    belt_speed: float
    half_width: float
    zone: np.ndarray  # (2, 2) lower and upper corner of the tool's zone [m]

    @classmethod
    def from_observation(cls, observation: Observation) -> "SortView":
        """Read an observation."""
        bodies = Bodies.from_observation(observation)
        field = TASK.get_cost_field(bodies, observation["goal"])
        progress = TASK.compute_progress(bodies, field)
        rows = slice(LOAD, LOAD + len(progress.along))
        belt = field.belt
        velocity = rotate(bodies.twist[rows, :2].astype(float), np.full(len(progress.along), -np.arctan2(belt[3], belt[2])))
        corners = np.array([field.locate(x, y) for x in TOOL_ZONE_M[0] for y in TOOL_ZONE_M[1]])
        return cls(
            field,
            progress,
            np.array(field.locate(*bodies.pose[ROBOT, :2].astype(float))),
            np.column_stack([progress.along, progress.lateral]),
            velocity,
            float(bodies.half_extents[ROBOT, 0]),
            bodies.half_extents[rows, :2].max(-1).astype(float),
            float(observation["action_twist"][0, 0]),
            float(belt[6]),
            float(belt[5]),
            np.stack([corners.min(0), corners.max(0)]),
        )

    def make_action(self, velocity: np.ndarray) -> np.ndarray:
        """Make the action for a velocity of the tool along and across the belt [m/s]."""
        c, s = self.field.belt[2], self.field.belt[3]
        along, lateral = (velocity / self.speed).tolist()
        return np.array([c * along - s * lateral, s * along + c * lateral])

    def move_to(self, target: np.ndarray) -> np.ndarray:
        """Compute the velocity towards a place, slower near it [m/s]."""
        offset = np.clip(target, *self.zone) - self.tool
        distance = float(np.linalg.norm(offset))
        return np.asarray(offset / max(distance, 1e-6) * min(self.speed, 5 * distance))


class TimedRule(ScriptedPolicy):
    """Waits beside the belt before the mouth of the next part's bin, and strikes when it arrives."""

    def __init__(self, noise: float = 0.0) -> None:
        """Create the rule.

        Args:
            noise: standard deviation of noise on its actions, for data collection.
        """
        self._noise = noise

    def _reset(self) -> None:
        self._strike_steps = 0
        self._target = -1

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view = SortView.from_observation(observation)
        velocity = self._strike(view) if self._strike_steps else self._wait(view)
        return view.make_action(velocity) + self._noise * self._rng.standard_normal(2)

    def _wait(self, view: SortView) -> np.ndarray:
        """Move to the place beside the belt from which the next part can be struck."""
        start = view.field.mouth[: len(view.parts), 0] - LEAD_S * view.belt_speed  # where strikes begin
        lateral = -view.progress.side * (view.half_width - WAIT_INSIDE_M)
        is_back = abs(view.tool[1] - lateral) < ALIGNED_M
        offset = np.maximum(abs(view.tool[0] - start) - ALIGNED_M, 0)
        travel_s = np.hypot(np.where(is_back, 0, view.tool[1] - lateral), offset) / view.speed
        late_s = (view.parts[:, 0] - start) / view.belt_speed
        can_strike = view.progress.is_active & (late_s + travel_s < MAX_LATE_S)
        if not can_strike.any():
            self._target = -1
            return np.zeros(2)
        if self._target < 0 or not (view.progress.is_active & (late_s < MAX_LATE_S))[self._target]:
            self._target = int(np.where(can_strike, late_s, -np.inf).argmax())
        target = self._target
        ahead = float(view.parts[target, 0]) + CONTROL_S / 2 * view.belt_speed
        place = np.clip((max(float(start[target]), ahead), float(lateral[target])), *view.zone)
        if is_back[target] and ahead >= start[target] - 1e-3 and abs(view.tool[0] - ahead) < ALIGNED_M:
            self._strike_steps = 1
            return self._strike(view)
        if not is_back[target]:  # first beside the parts, so that it hits none
            return view.move_to(np.array([view.tool[0], place[1]]))
        carried = view.belt_speed if ahead > start[target] else 0.0
        return view.move_to(place) + np.array([carried, 0.0])

    def _strike(self, view: SortView) -> np.ndarray:
        """Push across the belt, as fast along it as the belt."""
        side = float(view.progress.side[self._target])
        is_across = side * view.tool[1] > view.half_width - 0.03
        is_done = is_across or not view.progress.is_active[self._target] or self._strike_steps > MAX_STRIKE_STEPS
        self._strike_steps = 0 if is_done else self._strike_steps + 1
        if is_done:
            self._target = -1
            return self._wait(view)
        return np.array([view.belt_speed, side * PUSH_SPEED * view.speed])


class Poke(ScriptedPolicy):
    """Moves to any side of a part, pushes at any speed and angle for a while, and repeats."""

    collection_steps = 120

    def _reset(self) -> None:
        self._steps_left = 0
        self._is_pushing = False
        self._target = 0
        self._bearing = 0.0

    def _compute_action(self, observation: Observation) -> np.ndarray:
        view, rng = SortView.from_observation(observation), self._rng
        reachable = np.flatnonzero(view.progress.is_on_belt & (view.parts[:, 0] > view.zone[0, 0] - 0.1))
        if not len(reachable):
            return 0.3 * rng.standard_normal(2)
        if self._target not in reachable:
            self._steps_left = 0
        target = self._target if self._steps_left else int(rng.choice(reachable))
        distance = view.part_radius[target] + view.radius + 0.03
        place = view.parts[target] + distance * make_unit_vectors(self._bearing)
        is_there = bool(np.linalg.norm(place - view.tool) < 0.025)
        if self._steps_left <= 0 or (is_there and not self._is_pushing):
            self._target = target
            self._is_pushing = is_there or (self._is_pushing and rng.random() < 0.4)
            self._speed = float(rng.uniform(0.1, 1.0))
            self._curve = float(rng.normal(0, 0.06))
            if self._is_pushing:
                self._steps_left = int(rng.integers(3, 12))
                self._bearing += float(rng.normal(0, 0.35))
            else:
                self._steps_left = 25
                self._bearing = float(rng.uniform(-np.pi, np.pi))
        self._steps_left -= 1
        carried = view.part_speed[target]
        if self._is_pushing:
            self._bearing += self._curve
            velocity = rng.uniform(0.5, 1) * carried - self._speed * view.speed * make_unit_vectors(self._bearing)
        else:
            velocity = view.move_to(place) + carried
        return view.make_action(velocity) + 0.08 * rng.standard_normal(2)


# The noisy rule's data covers the states near its path.
BEHAVIOURS: dict[str, PolicyFactory] = {"poke": Poke, "scripted": TimedRule, "scripted-noisy": partial(TimedRule, noise=0.25)}
