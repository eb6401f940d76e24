"""Results of one or several runs, read once: terminal and page show the same."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from experiments.evaluation.results import EpisodeResult, get_episode_path, read_episode_results
from experiments.report.export import is_export, read_exported_results
from experiments.report.measures.comparability import check_comparable, describe_unreadable_results
from experiments.report.measures.layout_distance import TrainingDistance
from experiments.report.measures.planners import get_search_budget
from experiments.report.measures.summary import get_base_method, get_episode_key
from sim.data.episode import Episode
from sim.data.store import Dataset, has_manifest, read_shard
from sim.layout import Layout
from sim.utils.errors import BadFile, GroundError


@dataclass(frozen=True)
class StoredResult:
    """A result, its run directory, and the file of its episode, which an export lacks."""

    result: EpisodeResult
    run: Path
    file: Path

    def read_episode(self) -> Episode:
        """Read the episode.

        Raises:
            BadFile: it is missing or damaged.
        """
        return read_shard(self.file)[0]


@dataclass(frozen=True)
class LoadedResults:
    """Results of runs of one scene."""

    paths: tuple[Path, ...]
    stored: list[StoredResult]
    warnings: list[str]  # on what could not be read
    filters: Mapping[str, str]  # options that selected among the results

    @property
    def results(self) -> list[EpisodeResult]:
        return [stored.result for stored in self.stored]


def read_runs(
    paths: Sequence[Path],
    split: str | None = None,
    protocol: str | None = None,
    first_index: int = 0,
    must_be_comparable: bool = True,
) -> LoadedResults:
    """Read the results of runs of one scene.

    Args:
        split: only results of this split.
        protocol: only results of this protocol.
        first_index: only layouts from this number on.

    Raises:
        BadFile: a directory is no run.
        GroundError: there are no results, or they must be comparable and are not.
    """
    stored_by_run: dict[str, list[StoredResult]] = {}
    for name, path in zip(make_run_names(paths), paths, strict=True):
        if not (path / "config.json").exists():
            raise BadFile(f"{path} is no run directory (config.json is missing)")
        stored_by_run[name] = [
            StoredResult(result, path, get_episode_path(path / "results" / result.method, result))
            for result in read_results(path, protocol)
            if split in (None, result.split) and result.index >= first_index
        ]
    warnings = [note for path in paths if (note := describe_unreadable_results(path))]
    filters = {option: str(name) for option, name in (("split", split), ("protocol", protocol), ("first", first_index)) if name}
    stored = _merge_runs(stored_by_run)
    if not stored:
        selection = "".join(f" of {option} '{name}'" for option, name in filters.items() if option != "first")
        selection += f" from number {first_index} on" if first_index else ""
        message = f"{', '.join(map(str, paths))}: no evaluated episodes{selection} yet: evaluate first"
        raise GroundError("; ".join(warnings) or message)
    if must_be_comparable:
        check_comparable({name: [item.result for item in run] for name, run in stored_by_run.items()})
    warnings += [f"{path} is an export: its episodes cannot be shown." for path in paths if is_export(path)]
    return LoadedResults(tuple(paths), stored, warnings, filters)


def _merge_runs(stored_by_run: Mapping[str, list[StoredResult]]) -> list[StoredResult]:
    """Merge runs, by name: a method that differs between runs gets their names.

    An episode of an equal method counts once.
    """
    if len(stored_by_run) == 1:
        return list(*stored_by_run.values())
    variants: dict[str, set[Any]] = defaultdict(set)
    for name, run in stored_by_run.items():
        for item in run:
            trained_in = name if item.result.env_steps else None
            variants[get_base_method(item.result)].add((trained_in, get_search_budget([item.result], item.result.method)))
    merged = list[StoredResult]()
    for name, run in stored_by_run.items():
        played = {(item.result.method, get_episode_key(item.result)) for item in merged}
        for item in run:
            result = item.result
            family = get_base_method(result)
            if len(variants[family]) > 1:
                named = replace(result, method=f"{result.method} ({name})", family=f"{family} ({name})")
                merged.append(replace(item, result=named))
            elif (result.method, get_episode_key(result)) not in played:
                merged.append(item)
    return merged


def make_run_names(paths: Sequence[Path]) -> list[str]:
    """Name directories by their last parts, as many as make the names different."""
    parts_by_path = [path.resolve().parts for path in paths]
    num_parts = next(n for n in count(1) if len({parts[-n:] for parts in parts_by_path}) == len(set(parts_by_path)))
    return ["/".join(parts[-num_parts:]) for parts in parts_by_path]


def read_all_results(path: Path) -> list[EpisodeResult]:
    """Read all results of a run or an export."""
    return read_exported_results(path) or read_episode_results(path / "results")


def read_results(path: Path, protocol: str | None) -> list[EpisodeResult]:
    """Read the results of a run that were made under a protocol; None: all."""
    return [result for result in read_all_results(path) if protocol in (None, result.protocol)]


def add_training_distances(loaded: LoadedResults) -> list[EpisodeResult]:
    """Add the training distance of each layout, for runs that still have their training data."""
    training_distances = {path: _read_training_distance(path) for path in loaded.paths}
    distances: dict[tuple[Path, str], float] = {}
    results = []
    for stored in loaded.stored:
        result = stored.result
        key = (stored.run, result.layout_id)
        training_distance = training_distances[stored.run]
        if result.training_distance is None and training_distance:
            if key not in distances:
                distances[key] = training_distance.compute_distance(stored.read_episode().layout)
            result = replace(result, training_distance=distances[key])
        results.append(result)
    return results


def _read_training_distance(path: Path) -> TrainingDistance | None:
    layouts: dict[str, Layout] = {}
    for directory in filter(has_manifest, sorted((path / "data").glob("*"))):
        dataset = Dataset.open(directory)
        if dataset.manifest["split"] == "train":
            layouts |= {episode.layout.id: episode.layout for episode in dataset.episodes([])}
    return TrainingDistance(layouts.values()) if layouts else None
