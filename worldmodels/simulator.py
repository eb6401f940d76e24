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
from sim.layout import Layout
from sim.policy import EpisodeStart, SimState
from sim.scenes.scene import scenes
from sim.traffic.simulation import TrafficSimulation
from sim.utils.errors import GroundError
from sim.utils.workers import make_worker_pool
from sim.variation import Variation
from sim.world import SceneWorld
from worldmodels.model import Prediction, WorldModel

_world_lock = threading.Lock()  # each process has one world, which its threads share
CANDIDATES_PER_JOB = 8  # candidates of one job of a worker process


@dataclass(frozen=True)
class SimulatorState:
    """Start of a rollout."""

    truth: SimState  # of the M dynamic bodies
    bodies: Bodies  # (M, ...) sizes and kinds of the dynamic bodies


@dataclass(frozen=True)
class _WorldSpec:
    """Description of a world, from which a worker builds it."""

    scene: str
    layout: Layout
    variation: Variation


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
        self._has_hidden_state = False  # that observations do not show

    def start_episode(self, start: EpisodeStart) -> None:
        """Read the true physics of an episode.

        Raises:
            GroundError: the layout has traffic, and the start gives no access to its state.
        """
        self._spec = _WorldSpec(self._scene, start.layout, start.variation)
        scene = scenes[self._scene]
        self._read_state = start.read_state
        self._traffic = scene.make_traffic(start.layout, start.variation, 0) if start.layout.traffic else None
        self._has_hidden_state = bool(start.layout.traffic or scene.make_world)
        if self._has_hidden_state and self._read_state is None:
            raise GroundError("the simulator as a model needs the full state of the world: EpisodeStart.read_state is missing")

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> SimulatorState:
        bodies = Bodies.from_observation(observation)
        truth = self._read_state() if self._has_hidden_state and self._read_state else None
        if self._traffic and truth:
            return _include_all_agents(bodies, self._traffic, truth)
        dynamic = bodies.map(itemgetter(self.select_bodies(observation)))
        if truth is None:
            truth = SimState(dynamic.pose.astype(np.float64), dynamic.twist.astype(np.float64))
        return SimulatorState(truth, dynamic)

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        if self._traffic:
            return np.arange(1 + len(self._traffic.kinds))
        if self._has_hidden_state and self._spec:  # also bodies that have not arrived yet
            return np.arange(1 + len(self._spec.layout.loads))
        return super().select_bodies(observation)

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
        pose, twist, violation, present = (torch.as_tensor(np.concatenate(values)[None]) for values in zip(*results, strict=True))
        fixed = state.bodies.map(torch.as_tensor).map(lambda values: values.expand(*pose.shape[:3], *values.shape))
        if not scenes[self._spec.scene].make_world:
            return Prediction(replace(fixed, pose=pose, twist=twist))
        return Prediction(replace(fixed, pose=pose, twist=twist, present=present), violation=violation)

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
    state = SimState(pose, twist, truth.traffic)
    return SimulatorState(state, Bodies(pose, twist, sizes, kinds, shapes, np.ones(len(pose), np.int8)))


def simulate(spec: _WorldSpec, state: SimulatorState, actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Simulate candidates from one state.

    Args:
        spec: world to build for each candidate.
        state: start of M dynamic bodies.
        actions: (B, H, A) in [-1, 1].

    Returns:
        poses: (B, H, M, 7) float32, after each action [m], quaternion xyzw.
        twists: (B, H, M, 6) float32 [m/s, rad/s].
        violations: (B, H) float32, 1 where the world reports a violation.
        present: (B, H, M) int8, 1 where a body exists.
    """
    scene = scenes[spec.scene]
    truth = state.truth
    shape = (*actions.shape[:2], len(truth.pose))
    poses = np.empty((*shape, 7), np.float32)
    twists = np.empty((*shape, 6), np.float32)
    violations = np.zeros(shape[:2], np.float32)
    present = np.ones(shape, np.int8)
    seed = truth.traffic.seed if truth.traffic else 0
    with _world_lock:
        world = _get_world(spec.scene)
        for candidate, plan in enumerate(actions.tolist()):
            world.restore_episode(scene, spec.layout, spec.variation, seed, truth)
            for step, action in enumerate(plan):
                world.step(tuple(action), scene.control_dt_s)
                poses[candidate, step], twists[candidate, step] = world.read_dynamic_bodies()
                violations[candidate, step] = any(world.read_violations().values())
                if (exists := world.read_present()) is not None:
                    present[candidate, step] = exists
    return poses, twists, violations, present


@lru_cache(maxsize=1)
def _get_world(scene: str) -> SceneWorld:
    return scenes[scene].create_world()
