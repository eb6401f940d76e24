"""Run episodes: decide, step, and describe the outcome."""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from agents.planning.planner import act_batch
from agents.planning.spec import PlannerSpec
from experiments.evaluation.plan_audit import PlanAudit
from experiments.evaluation.results import EpisodeResult
from experiments.evaluation.specs import EpisodeSpec
from experiments.methods.method import Method
from sim.data.episode import Episode
from sim.data.recorder import EpisodeRecorder
from sim.env import GroundEnv
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import scenes, split_scene_id


def run_method(method: Method, specs: Sequence[EpisodeSpec]) -> list[tuple[EpisodeResult, Episode]]:
    """Run episodes with a method's policies, which this process keeps for further episodes.

    Args:
        specs: one batch, of at most `method.batch_episodes` episodes.
    """
    return run_episodes(_get_policies(method.make_policy, method.batch_episodes)[: len(specs)], method, specs)


@lru_cache(maxsize=2)
def _get_policies(make_policy: PolicyFactory, count: int) -> Sequence[Policy]:
    torch.set_num_threads(1)
    return make_policy.make_planners(count) if isinstance(make_policy, PlannerSpec) else [make_policy() for _ in range(count)]


@lru_cache(maxsize=32)
def _get_env(scene: str, split: str, env_index: int) -> GroundEnv:
    # Custom layouts belong to no split.
    return GroundEnv(scene, split if split in scenes[scene].splits else "test")


def run_episodes(policies: Sequence[Policy], method: Method, specs: Sequence[EpisodeSpec]) -> list[tuple[EpisodeResult, Episode]]:
    """Run episodes in lock-step, each with its own policy and environment.

    Returns:
        The result and the episode of each spec, in their order.
    """
    pairs = zip(policies, specs, strict=True)
    episodes = [_RunningEpisode(policy, spec, env_index) for env_index, (policy, spec) in enumerate(pairs)]
    while active := [episode for episode in episodes if not episode.is_over]:
        start_s = time.perf_counter()
        actions = act_batch([episode.policy for episode in active], [episode.observation for episode in active])
        decision_s = (time.perf_counter() - start_s) / len(active)
        for episode, action in zip(active, actions, strict=True):
            episode.step(action, decision_s)
    return [(episode.make_result(method), episode.recorder.make_episode(method.name)) for episode in episodes]


class _RunningEpisode:
    """An episode, its environment and its policy."""

    def __init__(self, policy: Policy, spec: EpisodeSpec, env_index: int) -> None:
        self.policy = policy
        self._spec = spec
        self._env = _get_env(spec.scene, spec.split, env_index)
        options = {"layout": spec.layout, "variation": spec.variation}
        self.observation, info = self._env.reset(seed=spec.seed, options=options)
        policy.start_episode(self._env.make_episode_start(spec.seed))
        self.recorder = EpisodeRecorder(self._env, spec.seed)
        self.recorder.record_state(info)
        self.is_over = False
        self._decision_s: list[float] = []
        self._plan_audit = PlanAudit(self._env, policy, spec)

    def step(self, action: np.ndarray, decision_s: float) -> None:
        self._decision_s.append(decision_s)
        self.recorder.record_action(action)
        self._plan_audit.add_decision(self.observation)
        self.observation, _, success, truncated, info = self._env.step(action)
        self.recorder.record_state(info)
        self.is_over = success or truncated

    def make_result(self, method: Method) -> EpisodeResult:
        spec = self._spec
        infos = self.recorder.infos
        decision_ms = 1e3 * np.array(self._decision_s)
        p50, p95 = np.percentile(decision_ms, [50, 95]).tolist()
        return EpisodeResult(
            run=spec.run,
            scene=spec.scene,
            protocol=split_scene_id(spec.scene)[1],
            split=spec.split,
            index=spec.index,
            seed=spec.seed,
            layout_id=spec.layout.id,
            layout_name=spec.layout.name,
            **method.describe(),
            variation=self._env.variation,
            success=bool(infos[-1]["success"]),
            violations={kind: any(info["violations"][kind] for info in infos) for kind in infos[0]["violations"]},
            steps=len(self._decision_s),
            total_cost=float(sum(info["cost"] for info in infos[1:])),
            peak_force_n=float(max(info["static_force_n"] for info in infos)),
            decision_ms_p50=p50,
            decision_ms_p95=p95,
            decision_time_s=float(decision_ms.sum() / 1e3),
            **self._plan_audit.summarise(),
            indicators=self._compute_indicators(),
        )

    def _compute_indicators(self) -> dict[str, float]:
        env = self._env
        if env.scene.indicators is None:
            return {}
        poses = np.stack(self.recorder.poses)  # (T + 1, N, 7)

        def repeat(values: Any) -> Any:
            return np.broadcast_to(values[: poses.shape[1]], (*poses.shape[:2], *values.shape[1:]))

        trajectory = replace(env.bodies.map(repeat), pose=poses, twist=np.stack(self.recorder.twists))
        return env.scene.indicators.compute(trajectory, env.cost_field, env.variation.speed_limit_m_s, env.scene.control_dt_s)
