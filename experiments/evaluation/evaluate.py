"""Evaluation: methods × layouts → one EpisodeResult per episode.

Every method meets the same layouts and seeds, and results do not depend on the number of workers. A
batch of episodes is one job. Its results are written before it counts, so that an interrupted
evaluation resumes.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agents.planning.planner import act_batch
from agents.planning.spec import PlannerSpec
from experiments.cache import Cache
from experiments.evaluation import results
from experiments.evaluation.plan_audit import PlanAudit
from experiments.evaluation.results import EpisodeResult
from experiments.evaluation.specs import EpisodeSpec
from experiments.methods.method import Method
from experiments.progress import ProgressCallback
from sim.data.episode import Episode
from sim.data.recorder import EpisodeRecorder
from sim.data.store import write_shard
from sim.env import GroundEnv
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import scenes, split_scene_id
from sim.utils.errors import GroundError
from sim.utils.workers import run_jobs

Batch = Sequence[EpisodeSpec]


def evaluate(
    method: Method,
    specs: Batch,
    path: Path,
    workers: int = 2,
    progress: ProgressCallback = lambda done, total: None,
    cache: Cache | None = None,
) -> list[EpisodeResult]:
    """Evaluate a method, except for batches whose results are in `path` or in the cache.

    Args:
        path: directory of the method's results in a run.

    Returns:
        A result of each spec, in their order.

    Raises:
        GroundError: a layout is part of the method's training data.
    """
    if seen := next((spec for spec in specs if spec.layout.id in method.seen_layouts), None):
        location = f"{seen.layout.id} ({seen.split}/{seen.index})"
        raise GroundError(f"{method.name} was trained on layout {location}: it cannot be evaluated there")
    cache = cache if method.cache_content is not None else None
    files = {spec.index: results.make_episode_path(path, spec.split, spec.index, method.train_seed) for spec in specs}
    missing = []
    for batch in make_batches(method, specs):
        if not all(results.read_episode_result(files[spec.index]) for spec in batch) and not (
            cache and all(_restore_episode(cache, method, batch, spec, files[spec.index]) for spec in batch)
        ):
            missing.append(batch)
    num_done = len(specs) - sum(map(len, missing))
    progress(num_done, len(specs))
    for batch in run_jobs(run_and_write_batch, [(method, batch, path) for batch in missing], workers):
        for spec in batch:
            if cache and (result := results.read_episode_result(files[spec.index])):
                content = _describe_cache_content(method, batch, spec)
                cache.store(content, {"episode.parquet": files[spec.index]}, result.to_record())
        num_done += len(batch)
        progress(num_done, len(specs))
    return [result for file in files.values() if (result := results.read_episode_result(file))]


def make_batches(method: Method, specs: Batch) -> list[Batch]:
    """Group episodes by their numbers in the split, so that a repeated run has the same batches."""
    return [list(batch) for _, batch in groupby(specs, lambda spec: (spec.split, spec.index // method.batch_episodes))]


def _describe_cache_content(method: Method, batch: Batch, spec: EpisodeSpec) -> dict[str, Any]:
    """Describe what a result depends on: the batch determines its last digits."""
    episode, *members = (
        {"layout": item.layout.id, "seed": item.seed, "split": item.split, "index": item.index} for item in (spec, *batch)
    )
    content = {"episode": episode, "scene": spec.scene, "method": method.cache_content, "results": results.RESULTS_VERSION}
    return {**content, "batch": members} if len(members) > 1 else content


def _restore_episode(cache: Cache, method: Method, batch: Batch, spec: EpisodeSpec, file: Path) -> bool:
    """Restore an episode of another run under this run's name."""
    record = cache.restore(_describe_cache_content(method, batch, spec), lambda _: file)
    if record is None:
        return False
    results.write_episode_result(file, replace(EpisodeResult.from_record(record), run=spec.run, **method.describe()))
    return True


def run_and_write_batch(method: Method, batch: Batch, path: Path) -> Batch:
    """Run a batch and write its episodes; a result, written last, marks its episode as finished."""
    for spec, (result, episode) in zip(batch, run_method(method, batch), strict=True):
        file = results.make_episode_path(path, spec.split, spec.index, method.train_seed)
        write_shard(file, [episode], first_episode=spec.index, num_bodies=episode.pose.shape[1])
        results.write_episode_result(file, result)
    return batch


def run_method(method: Method, specs: Batch) -> list[tuple[EpisodeResult, Episode]]:
    """Run episodes in lock-step, each with its own environment and one of the method's policies.

    This process keeps the policies for further episodes.

    Args:
        specs: one batch, of at most `method.batch_episodes` episodes.

    Returns:
        The result and the episode of each spec, in their order.
    """
    policies = _get_policies(method.make_policy, method.batch_episodes)[: len(specs)]
    pairs = enumerate(zip(policies, specs, strict=True))
    episodes = [_RunningEpisode(policy, spec, env_index) for env_index, (policy, spec) in pairs]
    while active := [episode for episode in episodes if not episode.is_over]:
        start_s = time.perf_counter()
        actions = act_batch([episode.policy for episode in active], [episode.observation for episode in active])
        decision_s = (time.perf_counter() - start_s) / len(active)
        for episode, action in zip(active, actions, strict=True):
            episode.step(action, decision_s)
    return [(episode.make_result(method), episode.recorder.make_episode(method.name)) for episode in episodes]


@lru_cache(maxsize=2)
def _get_policies(make_policy: PolicyFactory, count: int) -> Sequence[Policy]:
    torch.set_num_threads(1)
    return make_policy.make_planners(count) if isinstance(make_policy, PlannerSpec) else [make_policy() for _ in range(count)]


@lru_cache(maxsize=32)
def _get_env(scene: str, split: str, env_index: int) -> GroundEnv:
    # Custom layouts belong to no split.
    return GroundEnv(scene, split if split in scenes[scene].splits else "test")


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
        step_s = env.read_time_s() / max(1, len(poses) - 1) if env.scene.is_skill else env.scene.control_dt_s
        return env.scene.indicators.compute(trajectory, env.cost_field, env.variation.speed_limit_m_s, step_s)
