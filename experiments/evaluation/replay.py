"""Replay of recorded episodes from their seeds, and the differences between old and new results."""

from collections.abc import Mapping, Sequence
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.evaluate import run_method
from experiments.evaluation.results import EpisodeResult, is_custom_split, read_episode, read_episode_results
from experiments.evaluation.specs import EpisodeSpec
from experiments.methods.method import Method
from experiments.migrations import get_method_dir
from experiments.progress import ProgressCallback
from sim.data.episode import Episode
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.utils.workers import run_jobs

# Not compared: they depend on the machine, or on the run that holds the episode.
MACHINE_COLUMNS = ("decision_ms_p50", "decision_ms_p95", "decision_time_s", "train_cpu_s", "collect_cpu_s")
RUN_COLUMNS = ("training_distance", "layout_name")
RELATIVE_TOLERANCE = 1e-6


def sample_results(
    results: Sequence[EpisodeResult], methods: Mapping[str, Method], count: int, seed: int = 0
) -> list[EpisodeResult]:
    """Sample up to `count` results, as evenly over the methods (by label) as possible."""
    rng = np.random.default_rng(seed)
    by_method = [[result for result in results if result.method_label == label] for label in methods]
    shuffled = [[group[index] for index in rng.permutation(len(group))[::-1]] for group in by_method if group]
    return [result for result in chain(*zip_longest(*shuffled)) if result is not None][:count]


def verify_results(
    results: Sequence[EpisodeResult],
    methods: Mapping[str, Method],
    path: Path,
    workers: int = 2,
    progress: ProgressCallback = lambda done, total: None,
) -> list[list[str]]:
    """Replay the episode of each result.

    Args:
        methods: by label.
        path: directory of the run's results, with one directory a method.

    Returns:
        The differences of each result, in the results' order; none where the replay is equal.
    """
    jobs = [(index, methods[r.method_label], r, get_method_dir(path, r.method)) for index, r in enumerate(results)]
    differences: dict[int, list[str]] = {}
    progress(0, len(results))
    for index, found in run_jobs(_replay_episode, jobs, workers):
        differences[index] = found
        progress(len(differences), len(results))
    return [differences[index] for index in range(len(results))]


def _replay_episode(job_index: int, method: Method, result: EpisodeResult, path: Path) -> tuple[int, list[str]]:
    scene = scenes[result.scene]
    differences = []
    if result.split in scene.splits and scene.sample_layout(result.split, result.index).id != result.layout_id:
        differences.append("the split has another layout with this number now")
    if (error_m := _measure_replay_error(result.scene, read_episode(path, result))) > 0:
        differences.append(f"the same actions end {1e3 * error_m:.3g} mm elsewhere")
    batch = [result] if method.batch_episodes == 1 else _select_batch(method, result, read_episode_results(path))
    new_results = run_method(method, [_make_spec(member, read_episode(path, member)) for member in batch])
    recorded = {name: value for name, value in result.to_record().items() if name not in (*MACHINE_COLUMNS, *RUN_COLUMNS)}
    new = next(candidate for candidate, _ in new_results if candidate.index == result.index).to_record()
    differences += [
        f"{name} was {recorded[name]}, is {value}"
        for name, value in new.items()
        if recorded.get(name) is not None and _is_different(recorded[name], value)
    ]
    return job_index, differences


def _make_spec(result: EpisodeResult, episode: Episode) -> EpisodeSpec:
    variation = episode.variation if is_custom_split(result.split) and result.index else None
    return EpisodeSpec(result.run, result.scene, result.split, result.index, result.seed, episode.layout, variation)


def _select_batch(method: Method, result: EpisodeResult, results: Sequence[EpisodeResult]) -> list[EpisodeResult]:
    """Select the results of a result's batch, in the order in which they ran."""

    def get_batch_key(member: EpisodeResult) -> tuple[Any, ...]:
        return member.split, member.train_seed, member.index // method.batch_episodes

    return sorted((m for m in results if get_batch_key(m) == get_batch_key(result)), key=lambda member: member.index)


def _measure_replay_error(scene: str, episode: Episode) -> float:
    """Measure how far the recorded actions lead from the recorded positions, at most [m]."""
    env = GroundEnv(scene, "test")
    env.reset(seed=episode.seed, options={"layout": episode.layout, "variation": episode.variation})
    num_dynamic = episode.pose.shape[1]
    max_error_m = 0.0
    for action, pose in zip(episode.action[:-1], episode.pose[1:], strict=True):
        env.step(action)
        max_error_m = max(max_error_m, float(np.abs(env.bodies.pose[:num_dynamic, :3] - pose[:, :3]).max()))
    env.close()
    return max_error_m


def _is_different(recorded: Any, new: Any) -> bool:
    if isinstance(recorded, float) and isinstance(new, float):
        return not np.isclose(recorded, new, rtol=RELATIVE_TOLERANCE, atol=1e-9, equal_nan=True)
    return bool(recorded != new)
