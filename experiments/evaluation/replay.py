"""Episodes played again from their seeds, and which of their rows do not come out the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.episodes import run_method
from experiments.evaluation.results import EpisodeResult, read_episode, read_episode_results
from experiments.methods.method import EpisodeSpec, Method
from sim.data.episode import Episode
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.utils.workers import run_jobs

NOT_COMPARED = (  # they depend on the machine, or on the run that the episode is kept in
    "decision_ms_p50",
    "decision_ms_p95",
    "decision_time_s",
    "train_cpu_s",
    "collect_cpu_s",
    "training_distance",
)
RELATIVE_TOLERANCE = 1e-6  # relative, of numbers


@dataclass(frozen=True)
class ReplayVerdict:
    """What came of playing one row's episode again."""

    method_label: str
    split: str
    index: int
    differences: tuple[str, ...]  # none: it came out the same


def sample_results(results: list[EpisodeResult], methods: Mapping[str, Method], count: int, seed: int = 0) -> list[EpisodeResult]:
    """At most `count` rows of these arms, of each as many as of the others where there are enough."""
    rng = np.random.default_rng(seed)
    results_by_method = {name: [result for result in results if result.method_label == name] for name in methods}
    results_by_method = {
        name: [method_results[index] for index in rng.permutation(len(method_results))]
        for name, method_results in results_by_method.items()
        if method_results
    }
    sample: list[EpisodeResult] = []
    while len(sample) < count and any(results_by_method.values()):
        sample += [method_results.pop() for method_results in results_by_method.values() if method_results]
    return sample[:count]


def verify_results(
    results: list[EpisodeResult],
    methods: Mapping[str, Method],
    path: Path,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[ReplayVerdict]:
    """Play each row's episode again, by its arm; `path` holds the results of the run, by arm."""
    jobs = [(job_index, methods[result.method_label], result, path / result.method) for job_index, result in enumerate(results)]
    verdicts: dict[int, ReplayVerdict] = {}
    progress(0, len(results))
    for job_index, verdict in run_jobs(_replay_episode, jobs, workers):
        verdicts[job_index] = verdict
        progress(len(verdicts), len(results))
    return [verdicts[job_index] for job_index in range(len(results))]


def _replay_episode(job_index: int, method: Method, result: EpisodeResult, path: Path) -> tuple[int, ReplayVerdict]:
    episode = read_episode(path, result)
    split, index, scene = result.split, result.index, scenes[result.scene]
    differences = []
    if split in scene.splits and scene.sample_layout(split, index).id != result.layout_id:
        differences.append("the split has another space there now")
    if (error_m := _measure_replay_error(result.scene, episode)) > 0:
        differences.append(f"the same actions end {1e3 * error_m:.3g} mm elsewhere")
    batch_results = [result] if method.batch_episodes == 1 else _select_batch(method, result, read_episode_results(path))
    specs = [
        EpisodeSpec(
            result.run, result.scene, split, batch_result.index, batch_result.seed, read_episode(path, batch_result).layout
        )
        for batch_result in batch_results
    ]
    new_result = next(candidate for candidate, _ in run_method(method, specs) if candidate.index == index)
    recorded, new = result.to_record(), new_result.to_record()
    differences += [
        f"{name} was {recorded[name]}, is {value}"
        for name, value in new.items()
        if name not in NOT_COMPARED and recorded.get(name) is not None and _is_different(recorded[name], value)
    ]
    return job_index, ReplayVerdict(result.method_label, split, index, tuple(differences))


def _select_batch(method: Method, result: EpisodeResult, results: list[EpisodeResult]) -> list[EpisodeResult]:
    """The rows of the batch that one was played in."""

    def get_batch_key(candidate: EpisodeResult) -> tuple[Any, ...]:
        return candidate.split, candidate.train_seed, candidate.index // method.batch_episodes

    members = [candidate for candidate in results if get_batch_key(candidate) == get_batch_key(result)]
    return sorted(members, key=lambda candidate: int(candidate.index))


def _measure_replay_error(scene: str, episode: Episode) -> float:
    """How far from the recorded places the recorded actions lead [m], at most."""
    env = GroundEnv(scene, "test")
    env.reset(seed=episode.seed, options={"layout": episode.layout, "variation": episode.variation})
    num_dynamic, max_error_m = episode.pose.shape[1], 0.0
    for action, pose in zip(episode.action[:-1], episode.pose[1:], strict=True):
        env.step(action)
        max_error_m = max(max_error_m, float(np.abs(env.bodies.pose[:num_dynamic, :3] - pose[:, :3]).max()))
    env.close()
    return max_error_m


def _is_different(recorded: Any, new: Any) -> bool:
    if isinstance(recorded, float) and isinstance(new, float):
        return not np.isclose(recorded, new, rtol=RELATIVE_TOLERANCE, atol=1e-9, equal_nan=True)
    return bool(recorded != new)
