"""Evaluation: methods × layouts → one EpisodeResult per episode.

Every method meets the same layouts and seeds, and results do not depend on the number of workers. A
batch of episodes is one job. Its results are written before it counts, so that an interrupted
evaluation goes on.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.cache import Cache
from experiments.evaluation import results
from experiments.evaluation.episodes import run_method
from experiments.evaluation.results import EpisodeResult
from experiments.evaluation.specs import EpisodeSpec
from experiments.methods.method import Method
from experiments.progress import ProgressCallback
from sim.data.store import write_shard
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
