"""Arms × spaces → one row per episode. Every arm meets the same spaces and seeds; results do not depend on the workers.

An episode is one job. Its row and what happened in it are written before it counts, so an interrupted evaluation goes on. Where
an arm plays several `together`, so many neighbours in a split are one job, whoever plays it, and are played again as one.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.cache import Cache
from experiments.evaluation.episodes import play_again
from experiments.evaluation.results import ROWS_VERSION, file_of, row_of, write_row
from experiments.methods.method import Arm, Trial
from sim.data.store import write_shard
from sim.utils.errors import GroundError
from sim.utils.workers import run_jobs

Progress = Callable[[int, int], None]


def evaluate(
    arm: Arm,
    trials: list[Trial],
    path: Path,
    workers: int = 2,
    progress: Progress = lambda done, total: None,
    cache: Cache | None = None,
) -> list[dict[str, Any]]:
    """Rows of all trials, in their order; batches that are in `path` or in the cache are not played again."""
    seen = [trial for trial in trials if trial.layout.id in arm.seen]
    if seen:
        where = f"{seen[0].layout.id} ({seen[0].split}/{seen[0].index})"
        raise GroundError(f"{arm.name} was trained on layout {where}: it cannot be evaluated there")
    files = {trial.index: file_of(path, trial.split, trial.index, arm.train_seed) for trial in trials}
    missing = [batch for batch in batches(arm, trials) if not all(row_of(files[trial.index]) for trial in batch)]
    if cache is not None and arm.content is not None:
        kept = [all(_take(cache, arm, batch, trial, files[trial.index]) for trial in batch) for batch in missing]
        missing = [batch for batch, taken in zip(missing, kept, strict=True) if not taken]
    done = len(trials) - sum(map(len, missing))
    progress(done, len(trials))
    for batch in run_jobs(play_and_write, [(arm, batch, path) for batch in missing], workers):
        if cache is not None and arm.content is not None:
            for trial in batch:
                file = files[trial.index]
                cache.keep(_cell(arm, batch, trial), {"episode.parquet": file}, row_of(file))
        done += len(batch)
        progress(done, len(trials))
    rows = [row_of(file) for file in files.values()]
    return [row for row in rows if row is not None]


def batches(arm: Arm, trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials that are played together: by their places in the split, whatever is there already and whoever plays them."""
    return [list(batch) for _, batch in groupby(trials, lambda trial: (trial.split, trial.index // arm.together))]


def _cell(arm: Arm, batch: Sequence[Trial], trial: Trial) -> dict[str, Any]:
    """What an episode depends on: the last digits of its numbers, on what is imagined with it."""
    where = [{"layout": one.layout.id, "seed": one.seed, "split": one.split, "index": one.index} for one in (trial, *batch)]
    about = {"scene": trial.scene, "variations": trial.variations, "arm": arm.content, "rows": ROWS_VERSION}
    return {"episode": where[0], **about, **({"together": where[1:]} if len(batch) > 1 else {})}


def _take(cache: Cache, arm: Arm, batch: Sequence[Trial], trial: Trial, file: Path) -> bool:
    """An episode that was played in another run; its row now speaks of this one."""
    row = cache.take(_cell(arm, batch, trial), lambda name: file)
    if row is None:
        return False
    write_row(file, {**row, "run": trial.run, **arm.facts()})
    return True


def play_and_write(arm: Arm, batch: Sequence[Trial], path: Path) -> Sequence[Trial]:
    """Play one batch; each episode is written first, its row last: with it the trial is done."""
    for trial, (row, episode) in zip(batch, play_again(arm, batch), strict=True):
        file = file_of(path, trial.split, trial.index, arm.train_seed)
        write_shard(file, [episode], first_episode=trial.index, num_bodies=episode.pose.shape[1])
        write_row(file, row)
    return batch
