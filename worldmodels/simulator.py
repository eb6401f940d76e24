"""simulator: PyBullet itself behind the world-model contract. The oracle that learned models are measured against.

Each candidate has a world of its own, built anew, so what it does depends on nothing else. (A world restored after another
candidate was played in it is not the same once bodies touch: a tote pushed for 2.5 s ended 34 mm elsewhere, median, where a model
that learned errs by 16.) Positions are set from the observation: an oracle of the dynamics, given what a planner can see, and the
episode's true physics. Among traffic it sees more: all, and their minds.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.bodies import ROBOT, Bodies, Kind, LoadSpec
from sim.bullet.world import World
from sim.layout import Layout
from sim.policy import EpisodeStart, SimState
from sim.scenes.scene import scenes
from sim.traffic.simulation import TrafficSimulation
from sim.traffic.state import TrafficState
from sim.utils.errors import GroundError
from sim.utils.workers import make_worker_pool
from sim.variation import Variation
from worldmodels.model import Prediction, WorldModel

_world_lock = threading.Lock()  # a process has one world to imagine in, whatever thread asks
CANDIDATES_PER_JOB = 8  # candidates that are given to a worker at a time


@dataclass(frozen=True)
class SimulatorState:
    """What the imagination starts from."""

    pose: np.ndarray  # (M, 7)
    twist: np.ndarray  # (M, 6)
    bodies: Bodies  # the movers' sizes and kinds, (M, ...)
    traffic: TrafficState | None = None


@dataclass(frozen=True)
class _WorldSpec:
    """Which world to build."""

    scene: str
    layout: Layout
    variation: Variation

    @property
    def loads(self) -> list[LoadSpec]:
        return scenes[self.scene].make_loads(self.layout, self.variation)

    def make_traffic(self, seed: int) -> TrafficSimulation | None:
        return scenes[self.scene].make_traffic(self.layout, self.variation, seed) if self.layout.traffic else None


class SimulatorModel(WorldModel[SimulatorState]):
    """`workers` > 1 shares the candidates among processes; the result does not depend on how many."""

    def __init__(self, scene: str, workers: int = 1) -> None:
        self._scene, self._workers = scene, workers
        self._pool: ProcessPoolExecutor | None = None
        self._setting: _WorldSpec | None = None
        self._traffic: TrafficSimulation | None = None

    def start_episode(self, start: EpisodeStart) -> None:
        self._setting, self._read_state = _WorldSpec(self._scene, start.layout, start.variation), start.read_state
        self._traffic = self._setting.make_traffic(0)
        if self._traffic and self._read_state is None:
            raise GroundError("the simulator as a model needs to know what traffic has in mind: EpisodeStart.truth is missing")

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> SimulatorState:
        bodies = Bodies.from_observation(observation)
        if self._traffic and self._read_state:
            return _include_all_agents(bodies, self._traffic, self._read_state())
        movers = self.select_bodies(observation)
        return SimulatorState(
            bodies.pose[movers].astype(np.float64),
            bodies.twist[movers].astype(np.float64),
            bodies.map(lambda values: values[movers]),
        )

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Among traffic also those that are out of sight."""
        return np.arange(1 + len(self._traffic.kinds)) if self._traffic else super().select_bodies(observation)

    def rollout_batch(self, states: Sequence[SimulatorState], actions: Sequence[Tensor]) -> list[Prediction]:
        """Simulate scene by scene; candidates are shared among the worker processes."""
        return [self._simulate(state, candidates) for state, candidates in zip(states, actions, strict=True)]

    def _simulate(self, state: SimulatorState, actions: Tensor) -> Prediction:
        if self._setting is None:
            raise GroundError("the simulator as a model needs start_episode before it can imagine")
        if actions.requires_grad:
            raise GroundError("the true simulator has no gradients: plan on it with another search method")
        plans = actions.numpy().astype(np.float64)
        groups = [plans[start : start + CANDIDATES_PER_JOB] for start in range(0, len(plans), CANDIDATES_PER_JOB)]
        jobs = [(self._setting, state, group) for group in groups]
        if self._workers == 1:
            results = [simulate(*job) for job in jobs]
        else:
            if self._pool is None:
                self._pool = make_worker_pool(self._workers)
            results = [future.result() for future in [self._pool.submit(simulate, *job) for job in jobs]]
        pose, twist = (torch.as_tensor(np.concatenate(values)[None]) for values in zip(*results, strict=True))
        shape = pose.shape[:-1]
        fixed = state.bodies.map(torch.as_tensor)
        bodies = Bodies(
            pose=pose,
            twist=twist,
            half_extents=fixed.half_extents.expand(*shape, 3),
            kind=fixed.kind.expand(shape),
            shape=fixed.shape.expand(shape),
            present=fixed.present.expand(shape),
        )
        return Prediction(bodies)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _include_all_agents(bodies: Bodies, traffic: TrafficSimulation, truth: SimState) -> SimulatorState:
    """The robot as it is observed, and the traffic as it is."""
    pose, twist = truth.pose.copy(), truth.twist.copy()
    pose[ROBOT], twist[ROBOT] = bodies.pose[ROBOT], bodies.twist[ROBOT]
    sizes = np.concatenate([bodies.half_extents[:1], traffic.half_extents]).astype(np.float32)
    kinds = np.array([Kind.ROBOT, *traffic.kinds])
    shapes = np.array([bodies.shape[ROBOT], *(manner.shape for manner in traffic.profiles)])
    return SimulatorState(pose, twist, Bodies(pose, twist, sizes, kinds, shapes, np.ones(len(pose), np.int8)), truth.traffic)


def simulate(setting: _WorldSpec, state: SimulatorState, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Poses (B, H, M, 7) and twists (B, H, M, 6), float32, after each of actions (B, H, 2) from one state."""
    with _world_lock:
        return _simulate(setting, state, actions)


def _simulate(setting: _WorldSpec, state: SimulatorState, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    world, scene = _get_world(), scenes[setting.scene]
    layout, loads = setting.layout, setting.loads
    traffic = setting.make_traffic(state.traffic.seed) if state.traffic else None
    batch, horizon = actions.shape[:2]
    poses = np.empty((batch, horizon, len(state.pose), 7), np.float32)
    twists = np.empty((batch, horizon, len(state.pose), 6), np.float32)
    for candidate, plan in enumerate(actions.tolist()):
        world.build(scene.make_robot(setting.variation), loads, layout.static_boxes, layout.table_top, traffic)
        if traffic and state.traffic:
            traffic.set_full_state(state.traffic)
        world.set_state(state.pose, state.twist)
        for step, action in enumerate(plan):
            world.step(tuple(action), scene.control_dt_s)
            poses[candidate, step], twists[candidate, step] = world.read_dynamic_bodies()
    return poses, twists


@lru_cache(maxsize=1)
def _get_world() -> World:
    return World()
