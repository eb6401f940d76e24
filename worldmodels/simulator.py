"""simulator: PyBullet behind the interface of world models, the oracle for learned models.

It knows the episode's true physics, and the full hidden state of traffic. Positions are set from
the observation. Each candidate is simulated in a newly built world, so its outcome depends on
nothing else. A restored snapshot is not enough: PyBullet keeps contact caches, which move a pushed
load by a median of 34 mm within 2.5 s.
"""

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.bodies import ROBOT, Bodies, Kind
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

_world_lock = threading.Lock()  # each process has one world, which its threads share
CANDIDATES_PER_JOB = 8  # candidates of one job of a worker process


@dataclass(frozen=True)
class SimulatorState:
    """Start of a rollout."""

    pose: np.ndarray  # (M, 7) [m], quaternion xyzw
    twist: np.ndarray  # (M, 6) [m/s, rad/s]
    bodies: Bodies  # (M, ...) sizes and kinds of the dynamic bodies
    traffic: TrafficState | None = None


@dataclass(frozen=True)
class _WorldSpec:
    """Description of a world, from which a worker builds it."""

    scene: str
    layout: Layout
    variation: Variation

    def make_traffic(self, seed: int) -> TrafficSimulation | None:
        return scenes[self.scene].make_traffic(self.layout, self.variation, seed) if self.layout.traffic else None


class SimulatorModel(WorldModel[SimulatorState]):
    """The true simulator as a world model; it predicts all agents, also hidden ones."""

    def __init__(self, scene: str, workers: int = 1) -> None:
        """Create the model of a scene.

        Args:
            scene: name of the scene.
            workers: processes that share the candidates; results do not depend on it.
        """
        self._scene = scene
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None
        self._spec: _WorldSpec | None = None
        self._traffic: TrafficSimulation | None = None

    def start_episode(self, start: EpisodeStart) -> None:
        """Read the true physics of an episode.

        Raises:
            GroundError: the layout has traffic, and the start gives no access to its state.
        """
        self._spec = _WorldSpec(self._scene, start.layout, start.variation)
        self._read_state = start.read_state
        self._traffic = self._spec.make_traffic(0)
        if self._traffic and self._read_state is None:
            raise GroundError("the simulator as a model needs the full state of traffic: EpisodeStart.read_state is missing")

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> SimulatorState:
        bodies = Bodies.from_observation(observation)
        if self._traffic and self._read_state:
            return _include_all_agents(bodies, self._traffic, self._read_state())
        dynamic = bodies.map(itemgetter(self.select_bodies(observation)))
        return SimulatorState(dynamic.pose.astype(np.float64), dynamic.twist.astype(np.float64), dynamic)

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.arange(1 + len(self._traffic.kinds)) if self._traffic else super().select_bodies(observation)

    def rollout_batch(self, states: Sequence[SimulatorState], actions: Sequence[Tensor]) -> list[Prediction]:
        return [self._simulate(state, candidates) for state, candidates in zip(states, actions, strict=True)]

    def _simulate(self, state: SimulatorState, actions: Tensor) -> Prediction:
        if self._spec is None:
            raise GroundError("the simulator as a model needs start_episode before a rollout")
        if actions.requires_grad:
            raise GroundError("the true simulator has no gradients: plan on it with another search method")
        plans = actions.numpy().astype(np.float64)
        groups = [plans[start : start + CANDIDATES_PER_JOB] for start in range(0, len(plans), CANDIDATES_PER_JOB)]
        jobs = [(self._spec, state, group) for group in groups]
        if self._workers == 1:
            results = [simulate(*job) for job in jobs]
        else:
            if self._pool is None:
                self._pool = make_worker_pool(self._workers)
            results = [future.result() for future in [self._pool.submit(simulate, *job) for job in jobs]]
        pose, twist = (torch.as_tensor(np.concatenate(values)[None]) for values in zip(*results, strict=True))
        fixed = state.bodies.map(torch.as_tensor).map(lambda values: values.expand(*pose.shape[:3], *values.shape))
        return Prediction(replace(fixed, pose=pose, twist=twist))

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def _include_all_agents(bodies: Bodies, traffic: TrafficSimulation, truth: SimState) -> SimulatorState:
    """Make a state of the observed robot and of all agents in their true state."""
    pose = truth.pose.copy()
    twist = truth.twist.copy()
    pose[ROBOT] = bodies.pose[ROBOT]
    twist[ROBOT] = bodies.twist[ROBOT]
    sizes = np.concatenate([bodies.half_extents[:1], traffic.half_extents]).astype(np.float32)
    kinds = np.array([Kind.ROBOT, *traffic.kinds])
    shapes = np.array([bodies.shape[ROBOT], *(profile.shape for profile in traffic.profiles)])
    return SimulatorState(pose, twist, Bodies(pose, twist, sizes, kinds, shapes, np.ones(len(pose), np.int8)), truth.traffic)


def simulate(spec: _WorldSpec, state: SimulatorState, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Simulate candidates from one state.

    Args:
        spec: world to build for each candidate.
        state: start of M dynamic bodies.
        actions: (B, H, A) in [-1, 1].

    Returns:
        poses: (B, H, M, 7) float32, after each action [m], quaternion xyzw.
        twists: (B, H, M, 6) float32 [m/s, rad/s].
    """
    scene = scenes[spec.scene]
    loads = scene.make_loads(spec.layout, spec.variation)
    traffic = spec.make_traffic(state.traffic.seed) if state.traffic else None
    poses = np.empty((*actions.shape[:2], len(state.pose), 7), np.float32)
    twists = np.empty((*actions.shape[:2], len(state.pose), 6), np.float32)
    with _world_lock:
        world = _get_world()
        for candidate, plan in enumerate(actions.tolist()):
            robot = scene.make_robot(spec.variation)
            world.build(robot, loads, spec.layout.static_boxes, spec.layout.table_top, traffic)
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
