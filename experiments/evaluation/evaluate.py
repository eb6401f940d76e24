"""Arms × spaces → one row per episode. Every arm meets the same spaces and seeds; results do not depend on the workers.

An episode is one job. Its row and what happened in it are written before it counts, so an interrupted evaluation goes on. Where
an arm plays several `together`, so many neighbours in a split are one job, whoever plays it, and are played again as one.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.cache import Cache
from experiments.evaluation.episodes import run_method
from experiments.evaluation.results import (
    RESULTS_VERSION,
    EpisodeResult,
    make_episode_path,
    read_episode_result,
    write_episode_result,
)
from experiments.methods.method import EpisodeSpec, Method
from sim.data.store import write_shard
from sim.utils.errors import GroundError
from sim.utils.workers import run_jobs

EpisodeProgressCallback = Callable[[int, int], None]


def evaluate(
    method: Method,
    specs: list[EpisodeSpec],
    path: Path,
    workers: int = 2,
    progress: EpisodeProgressCallback = lambda done, total: None,
    cache: Cache | None = None,
) -> list[EpisodeResult]:
    """Rows of all trials, in their order; batches that are in `path` or in the cache are not played again."""
    seen_specs = [spec for spec in specs if spec.layout.id in method.seen_layouts]
    if seen_specs:
        location = f"{seen_specs[0].layout.id} ({seen_specs[0].split}/{seen_specs[0].index})"
        raise GroundError(f"{method.name} was trained on layout {location}: it cannot be evaluated there")
    files = {spec.index: make_episode_path(path, spec.split, spec.index, method.train_seed) for spec in specs}
    missing = [
        batch for batch in group_into_batches(method, specs) if not all(read_episode_result(files[spec.index]) for spec in batch)
    ]
    if cache is not None and method.cache_content is not None:
        are_cached = [all(_restore_episode(cache, method, batch, spec, files[spec.index]) for spec in batch) for batch in missing]
        missing = [batch for batch, is_cached in zip(missing, are_cached, strict=True) if not is_cached]
    num_done = len(specs) - sum(map(len, missing))
    progress(num_done, len(specs))
    for batch in run_jobs(run_and_write_batch, [(method, batch, path) for batch in missing], workers):
        if cache is not None and method.cache_content is not None:
            for spec in batch:
                file = files[spec.index]
                if result := read_episode_result(file):
                    content = _describe_cache_content(method, batch, spec)
                    cache.store(content, {"episode.parquet": file}, result.to_record())
        num_done += len(batch)
        progress(num_done, len(specs))
    results = [read_episode_result(file) for file in files.values()]
    return [result for result in results if result is not None]


def group_into_batches(method: Method, specs: Sequence[EpisodeSpec]) -> list[list[EpisodeSpec]]:
    """Trials that are played together: by their places in the split, whatever is there already and whoever plays them."""
    return [list(batch) for _, batch in groupby(specs, lambda spec: (spec.split, spec.index // method.batch_episodes))]


def _describe_cache_content(method: Method, batch: Sequence[EpisodeSpec], spec: EpisodeSpec) -> dict[str, Any]:
    """What an episode depends on: the last digits of its numbers, on what is imagined with it."""
    episode_ids = [
        {"layout": member.layout.id, "seed": member.seed, "split": member.split, "index": member.index}
        for member in (spec, *batch)
    ]
    dependencies = {
        "scene": spec.scene,
        "variations": spec.variations,
        "method": method.cache_content,
        "results": RESULTS_VERSION,
    }
    return {"episode": episode_ids[0], **dependencies, **({"together": episode_ids[1:]} if len(batch) > 1 else {})}


def _restore_episode(cache: Cache, method: Method, batch: Sequence[EpisodeSpec], spec: EpisodeSpec, file: Path) -> bool:
    """An episode that was played in another run; its row now speaks of this one."""
    record = cache.restore(_describe_cache_content(method, batch, spec), lambda name: file)
    if record is None:
        return False
    write_episode_result(file, replace(EpisodeResult.from_record(record), run=spec.run, **method.describe()))
    return True


def run_and_write_batch(method: Method, batch: Sequence[EpisodeSpec], path: Path) -> Sequence[EpisodeSpec]:
    """Play one batch; each episode is written first, its row last: with it the trial is done."""
    for spec, (result, episode) in zip(batch, run_method(method, batch), strict=True):
        file = make_episode_path(path, spec.split, spec.index, method.train_seed)
        write_shard(file, [episode], first_episode=spec.index, num_bodies=episode.pose.shape[1])
        write_episode_result(file, result)
    return batch
