"""Episodes in lock-step: what is decided, what comes of it, and the row that tells of it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from agents.planning.batch import act_batch
from agents.planning.spec import PlannerSpec
from experiments.evaluation.plan_audit import PlanAudit
from experiments.methods.method import EpisodeSpec, Method
from sim.data.store import Episode
from sim.env import GroundEnv
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import scenes, split_scene_id


def rerun_episodes(method: Method, specs: Sequence[EpisodeSpec]) -> list[tuple[dict[str, Any], Episode]]:
    """Episodes by an arm's policies, which are kept for the next ones."""
    return run_episodes(_get_policies(method.make_policy, method.batch_episodes)[: len(specs)], method, specs)


@lru_cache(maxsize=2)
def _get_policies(make_policy: PolicyFactory, count: int) -> Sequence[Policy]:
    torch.set_num_threads(1)
    return make_policy.make_planners(count) if isinstance(make_policy, PlannerSpec) else [make_policy() for _ in range(count)]


@lru_cache(maxsize=32)
def _get_env(scene: str, split: str, variations: tuple[str, ...], env_index: int) -> GroundEnv:
    split = split if split in scenes[scene].splits else "test"  # a space of the user's own has no split
    return GroundEnv(scene, split, variations=scenes[scene].make_variations(split, variations))


def run_episodes(
    policies: Sequence[Policy], method: Method, specs: Sequence[EpisodeSpec]
) -> list[tuple[dict[str, Any], Episode]]:
    """Episodes in lock-step, each by a policy and in an environment of its own: their rows and what happened."""
    episodes = [
        _RunningEpisode(policy, spec, env_index) for env_index, (policy, spec) in enumerate(zip(policies, specs, strict=True))
    ]
    while active := [episode for episode in episodes if not episode.is_over]:
        start_s = time.perf_counter()
        actions = act_batch([episode.policy for episode in active], [episode.observation for episode in active])
        decision_s = (time.perf_counter() - start_s) / len(active)
        for episode, action in zip(active, actions, strict=True):
            episode.step(action, decision_s)
    return [episode.make_result_and_episode(method) for episode in episodes]


class _RunningEpisode:
    """One episode on its way."""

    def __init__(self, policy: Policy, spec: EpisodeSpec, env_index: int) -> None:
        self.policy, self._spec = policy, spec
        self._env = _get_env(spec.scene, spec.split, spec.variations, env_index)
        self.observation, self._info = self._env.reset(seed=spec.seed, options={"layout": spec.layout})
        policy.start_episode(self._env.make_episode_start(spec.seed))
        self._log, self.is_over = _EpisodeLog(self._env, policy, spec), False
        self._log.add_state(self._info)

    def step(self, action: np.ndarray, decision_s: float) -> None:
        self._log.add_decision(decision_s, action, self.observation)
        self.observation, _, success, truncated, self._info = self._env.step(action)
        self._log.add_state(self._info)
        self.is_over = success or truncated

    def make_result_and_episode(self, method: Method) -> tuple[dict[str, Any], Episode]:
        spec, success = self._spec, self._info["success"]
        result = {
            "run": spec.run,
            "scene": spec.scene,
            "protocol": split_scene_id(spec.scene)[1],
            "layout_id": spec.layout.id,
            "split": spec.split,
            "index": spec.index,
            "seed": spec.seed,
            **method.describe(),
            **asdict(self._env.variation),
            **self._log.summarise(success),
        }
        return result, self._log.make_episode(spec, method.name, success)


class _EpisodeLog:
    """Collects one episode."""

    def __init__(self, env: GroundEnv, policy: Policy, spec: EpisodeSpec) -> None:
        self._env = env
        self._poses: list[np.ndarray] = []
        self._twists: list[np.ndarray] = []
        self._actions: list[np.ndarray] = []
        self._infos: list[dict[str, Any]] = []
        self._decision_s: list[float] = []
        self._plan_audit = PlanAudit(env, policy, spec)

    def add_state(self, info: dict[str, Any]) -> None:
        """The state, before each action and once at the end."""
        num_dynamic = int(self._env.bodies.is_dynamic.sum())
        self._poses.append(self._env.bodies.pose[:num_dynamic].copy())
        self._twists.append(self._env.bodies.twist[:num_dynamic].copy())
        self._infos.append(info)

    def add_decision(self, decision_s: float, action: np.ndarray, observation: dict[str, np.ndarray]) -> None:
        self._decision_s.append(decision_s)
        self._actions.append(np.asarray(action, np.float32))
        self._plan_audit.add_decision(observation, len(self._actions))

    def summarise(self, success: bool) -> dict[str, Any]:
        violations = {kind: any(info["violations"][kind] for info in self._infos) for kind in self._infos[0]["violations"]}
        decision_ms = 1e3 * np.array(self._decision_s)
        return {
            "success": success,
            "clean": success and not any(violations.values()),
            "steps": len(self._actions),
            "total_cost": float(sum(info["cost"] for info in self._infos[1:])),
            **violations,
            "peak_force_n": float(max(info["static_force_n"] for info in self._infos)),
            "decision_ms_p50": float(np.percentile(decision_ms, 50)),
            "decision_ms_p95": float(np.percentile(decision_ms, 95)),
            "decide_s": float(decision_ms.sum() / 1e3),
            **self._plan_audit.summarise(),
            **self._compute_indicators(),
        }

    def _compute_indicators(self) -> dict[str, float]:
        """What else the scene tells of an episode."""
        scene, env = self._env.scene, self._env
        if scene.indicators is None:
            return {}
        num_dynamic, num_states = self._poses[0].shape[0], len(self._poses)
        bodies = env.bodies.map(
            lambda values: np.broadcast_to(values[:num_dynamic], (num_states, num_dynamic, *values.shape[1:]))
        )
        bodies = replace(bodies, pose=np.stack(self._poses), twist=np.stack(self._twists))
        return scene.indicators.compute(bodies, env.cost_field, env.variation.speed_limit_m_s, scene.control_dt_s)

    def make_episode(self, spec: EpisodeSpec, behaviour: str, success: bool) -> Episode:
        num_dynamic = self._poses[0].shape[0]
        return Episode(
            layout=spec.layout,
            seed=spec.seed,
            behaviour=behaviour,
            variation=self._env.variation,
            half_extents=self._env.bodies.half_extents[:num_dynamic].copy(),
            pose=np.stack(self._poses),
            twist=np.stack(self._twists),
            action=np.stack([*self._actions, np.zeros_like(self._actions[0])]),
            cost=np.array([info["cost"] for info in self._infos]),
            touching=np.array([info["touching"] for info in self._infos]),
            static_force_n=np.array([info["static_force_n"] for info in self._infos]),
            success=success,
            **self._env.describe_bodies(),
        )
