"""From a run directory to its report: rows, fidelity, pictures of episodes, some of them recorded in 3-D."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from agents.planning.spec import PlannerSpec
from experiments.compute_costs import read_costs
from experiments.evaluation.results import get_episode_path, make_label, read_episode, read_episode_results
from experiments.report.failures import MAX_FAILURES_SHOWN, select_failures
from experiments.report.failures import render_failures_section as failures
from experiments.report.guards import check_comparable, describe_unreadable_results, make_notes
from experiments.report.html import write_report
from experiments.report.kept import DISTANCE_KEY, export_results, is_export, read_exported_results
from experiments.report.regret import get_search_budget
from experiments.report.sections import render_sections
from experiments.report.spaces import TrainingLayouts
from experiments.report.summary import (
    EpisodeResult,
    find_best_planner,
    get_base_method,
    get_episode_key,
    get_protocol,
    is_known,
    select_full_data_results,
)
from experiments.report.topdown import describe_colours, render_episode_panels
from experiments.viewer.export import save_recording
from experiments.viewer.player import recompute_plans
from experiments.viewer.take import Replay
from sim.data.episode import Episode
from sim.data.store import Dataset
from sim.layout import Layout
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import DEFAULT_PROTOCOL
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import read_json

MAX_SAFE_EPISODES_SHOWN = 8  # episodes in a strip
MAX_FAILURES_WITH_PLANS = 2  # recordings that show what was imagined too
MAX_PLANNING_S = 15.0  # at most, for a recording: what was imagined is shown until then
PROGRESS_PARTS = 100  # of a recording, in the progress that is told
PARTIAL_DATA_NOTE = (
    "Plots over arms leave out those that learned from a part of the data: Results and Sample efficiency have them."
)
MethodFactories = Mapping[str, PolicyFactory]
ProgressCallback = Callable[[int, int], None]


def build_report(
    path: Path,
    methods: MethodFactories | None = None,
    on_progress: ProgressCallback = lambda done, total: None,
    out: Path | None = None,
) -> Path:
    """Write `report/index.html` and its recordings from what a run directory holds; gives the page's path."""
    config = read_json(path / "config.json") if (path / "config.json").exists() else {}
    return write_comparison(
        read_runs([path], protocol=config.get("protocol", DEFAULT_PROTOCOL)), out or path / "report", methods, on_progress
    )


def export_run(path: Path, out: Path) -> Path:
    """Keep what a report is made of, without episodes, data and models; gives the file of its rows."""
    loaded = read_runs([path], must_be_comparable=False)
    return export_results(path, _add_layout_distances(loaded), out)


@dataclass(frozen=True)
class LoadedResults:
    """What runs of one scene hold, read once: what a terminal prints and what a page shows cannot differ."""

    paths: tuple[Path, ...]
    results: list[dict[str, Any]]
    episode_dirs: dict[int, Path]  # of a row, by its id: the directory of its episode
    warnings: list[str]  # what could not be read
    filters: Mapping[str, str]  # options that chose among the rows


def read_runs(
    paths: Sequence[Path],
    split: str | None = None,
    protocol: str | None = None,
    first_index: int = 0,
    must_be_comparable: bool = True,
) -> LoadedResults:
    """The rows of runs of one scene, or those of one split or protocol, or of spaces from number `first` on; GroundError where
    they must be comparable and are not."""
    results_by_run: dict[Path, list[dict[str, Any]]] = {}
    for path in paths:
        if not (path / "config.json").exists():
            raise BadFile(f"{path} is no run directory (config.json is missing)")
        results_by_run[path] = [
            result
            for result in read_results(path, protocol)
            if split in (None, result["split"]) and result["index"] >= first_index
        ]
    episode_dirs = {
        id(result): path / "results" / result["agent"] for path, run_results in results_by_run.items() for result in run_results
    }
    names = dict(zip(results_by_run, make_run_names(list(results_by_run)), strict=True))
    results = _merge_runs({names[path]: run_results for path, run_results in results_by_run.items()})
    warnings = [note for path in paths if (note := describe_unreadable_results(path))]
    filters = {option: str(name) for option, name in (("split", split), ("protocol", protocol), ("first", first_index)) if name}
    if not results:
        selection = "".join(f" of {option} '{name}'" for option, name in filters.items() if option != "first")
        selection += f" from number {first_index} on" if first_index else ""
        message = f"{', '.join(map(str, paths))}: no evaluated episodes{selection} yet: evaluate first"
        raise GroundError("; ".join(warnings) or message)
    if must_be_comparable:
        check_comparable({names[path]: run_results for path, run_results in results_by_run.items()})
    warnings += [f"Of {path} rows alone were kept: its episodes cannot be shown." for path in paths if is_export(path)]
    return LoadedResults(tuple(paths), results, episode_dirs, warnings, filters)


def _merge_runs(results_by_run: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several runs, by name, as of one: arms that each run trained for itself, or gave a budget of its own, get its
    name, on all of their data and on parts; an episode that an arm of several runs played in each counts once."""
    if len(results_by_run) == 1:
        return list(chain(*results_by_run.values()))
    variants: dict[str, set[Any]] = defaultdict(set)
    for name, run_results in results_by_run.items():
        for result in run_results:
            variants[get_base_method(result)].add(
                (name if result["env_steps"] else None, get_search_budget([result], result["agent"]))
            )
    results, played_episodes = list[dict[str, Any]](), set[tuple[str, Any]]()
    for name, run_results in results_by_run.items():
        earlier_episodes = set(played_episodes)
        for result in run_results:
            if len(variants[get_base_method(result)]) > 1:
                result |= {"agent": f"{result['agent']} ({name})", "method": f"{get_base_method(result)} ({name})"}
            elif (episode := (result["agent"], get_episode_key(result))) in earlier_episodes:
                continue
            else:
                played_episodes.add(episode)
            results.append(result)
    return results


def _merge_open_loop_errors(errors_by_run: Mapping[Path, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Models' errors in several runs: those of one name get their runs', unless they are the same."""
    errors_by_model: dict[str, list[tuple[str, list[dict[str, Any]]]]] = defaultdict(list)
    for run, errors in zip(make_run_names(list(errors_by_run)), errors_by_run.values(), strict=True):
        for model in dict.fromkeys(error["model"] for error in errors):
            errors_by_model[model].append((run, [error for error in errors if error["model"] == model]))
    merged = list[dict[str, Any]]()
    for model, runs in errors_by_model.items():
        is_same = all(errors == runs[0][1] for _, errors in runs)
        for run, errors in runs[:1] if is_same else runs:
            merged += [{**error, "model": model if is_same else f"{model} ({run})"} for error in errors]
    return merged


def make_run_names(paths: Sequence[Path]) -> list[str]:
    """Of directories: their last names, with as many before them as tells all apart."""
    parts_by_path = [path.resolve().parts for path in paths]
    num_parts = next(n for n in count(1) if len({parts[-n:] for parts in parts_by_path}) == len(set(parts_by_path)))
    return ["/".join(parts[-num_parts:]) for parts in parts_by_path]


def write_comparison(
    loaded: LoadedResults,
    out: Path,
    methods: MethodFactories | None = None,
    on_progress: ProgressCallback = lambda done, total: None,
) -> Path:
    """One report over what was read. Recordings show what `arms` imagined; `told` is how far they are."""
    paths, results, episode_dirs = loaded.paths, loaded.results, loaded.episode_dirs
    planner = find_best_planner(results)
    planner_results = [result for result in results if result["agent"] == planner]
    shown_results = [result for result in planner_results if get_episode_path(episode_dirs[id(result)], result).exists()]
    safe_results = [result for result in shown_results if result["clean"]]
    panels = [(_format_outcome(result), _read_episode(episode_dirs, result)) for result in safe_results[:MAX_SAFE_EPISODES_SHOWN]]
    heading = (
        f"{planner}, solved without violation: {len(safe_results)} of {len(shown_results)} episodes, the first {len(panels)}"
    )
    names = " ".join(map(str, paths))
    options = "".join(f" --{option} {name}" for option, name in loaded.filters.items())
    is_run_report = [out] == [path / "report" for path in paths]
    command = f"ground report {names}" if is_run_report else f"ground compare {names}{options} --out {out}"
    worst_results = select_failures(shown_results)[:MAX_FAILURES_SHOWN]
    recorded_results, results_with_plans = (
        [*worst_results, *safe_results[:1]],
        [*worst_results[:MAX_FAILURES_WITH_PLANS], *safe_results[:1]],
    )
    policies, policy_notes = _make_policies(results_with_plans, methods or {})
    recordings = _write_recordings(recorded_results, set(map(id, results_with_plans)), episode_dirs, out, policies, on_progress)
    links = {id(result): address for result, (_, address) in recordings}
    page = out / "index.html"
    write_report(
        page,
        f"{results[0]['scene']}: {', '.join(dict.fromkeys(result['run'] for result in results))}",
        results,
        _merge_open_loop_errors({path: read_open_loop_errors(path) for path in paths}),
        [(heading, render_episode_panels(panels))] if panels else [],
        [link for _, link in recordings],
        [fact for path in paths for fact in _read_run_facts(path)],
        command,
        measure_sections=render_sections(_add_layout_distances(loaded), command),
        notes=[
            *make_notes(results),
            *([PARTIAL_DATA_NOTE] if len(select_full_data_results(results)) < len(results) else []),
            *loaded.warnings,
            *policy_notes,
        ],
        failures_html=failures(planner, shown_results, results, lambda result: _read_episode(episode_dirs, result), links),
        colour_key=describe_colours(episode.layout for _, episode in panels),
    )
    return page


def _add_layout_distances(loaded: LoadedResults) -> list[dict[str, Any]]:
    """The rows, with how far each one's space is from those that its own run trained in; not where that has no data any more."""
    training_layouts = {path: _read_training_layouts(path) for path in loaded.paths}
    distances: dict[tuple[Path, str], float] = {}
    for result in loaded.results:
        run, layout = loaded.episode_dirs[id(result)].parents[1], result["layout_id"]
        if not is_known(result, DISTANCE_KEY) and (run_layouts := training_layouts[run]) is not None:
            if (run, layout) not in distances:
                distances[run, layout] = run_layouts.compute_distance(_read_episode(loaded.episode_dirs, result).layout)
            result[DISTANCE_KEY] = distances[run, layout]
    return loaded.results


def _read_training_layouts(path: Path) -> TrainingLayouts | None:
    layouts: dict[str, Layout] = {}
    for manifest in sorted((path / "data").glob("*/manifest.json")):
        dataset = Dataset.open(manifest.parent)
        if dataset.manifest["split"] == "train":
            layouts |= {episode.layout.id: episode.layout for episode in dataset.episodes([])}
    return TrainingLayouts(layouts.values()) if layouts else None


def read_all_results(path: Path) -> list[dict[str, Any]]:
    """All rows of a run, or those that were kept of it."""
    return read_exported_results(path) or read_episode_results(path / "results")


def read_open_loop_errors(path: Path) -> list[dict[str, Any]]:
    """Open-loop errors of a run's models by horizon, if they were measured."""
    return list(read_json(path / "fidelity.json")) if (path / "fidelity.json").exists() else []


def read_results(path: Path, protocol: str | None) -> list[dict[str, Any]]:
    """The rows of a run that were played by a protocol; None: all."""
    return [result for result in read_all_results(path) if protocol in (None, get_protocol(result))]


def _write_recordings(
    results: list[EpisodeResult],
    ids_with_plans: set[int],
    episode_dirs: dict[int, Path],
    out: Path,
    policies: Mapping[str, Policy],
    on_progress: ProgressCallback,
) -> list[tuple[EpisodeResult, tuple[str, str]]]:
    """These episodes as 3-D pages beside the report: the row, and what its link says and leads to. `thought`: ids of the rows
    that show what was imagined."""
    links = []
    for index, result in enumerate(results):
        seed_label = make_label("", result.get("train_seed"))
        file_name = f"{'solved' if result['success'] else 'failed'}-{result['split']}-{result['index']}{seed_label}.html"
        replay = Replay.from_episode(result["scene"], _read_episode(episode_dirs, result), result["split"])
        if id(result) in ids_with_plans and (policy := policies.get(result.method_label)) is not None:
            is_time_over = partial(_is_past, time.monotonic() + MAX_PLANNING_S)
            recompute_plans(replay, policy, is_time_over, partial(_report_progress, on_progress, index, len(results)))
        title = f"{result.method_label}, {_format_outcome(result)}"
        save_recording([replay], out / "recordings" / file_name, title)
        on_progress((index + 1) * PROGRESS_PARTS, len(results) * PROGRESS_PARTS)
        links.append((result, (title, f"recordings/{file_name}")))
    return links


def _make_policies(results: list[EpisodeResult], methods: MethodFactories) -> tuple[dict[str, Policy], list[str]]:
    """The policies that can think again along these episodes; and which cannot, and why."""
    policies, notes = dict[str, Policy](), list[str]()
    for name in dict.fromkeys(result.method_label for result in results if result.method_label in methods):
        try:
            policies[name] = _disable_compilation(methods[name])()
        except GroundError as error:
            notes.append(f"Recordings of {name} show what happened, not what it imagined: {error}.")
    return policies, notes


def _disable_compilation(factory: PolicyFactory) -> PolicyFactory:
    """For a few episodes compilation takes longer than it saves."""
    return replace(factory, is_compiled=False) if isinstance(factory, PlannerSpec) else factory


def _is_past(deadline_s: float) -> bool:
    return time.monotonic() > deadline_s


def _report_progress(on_progress: ProgressCallback, index: int, num_recordings: int, done: int, total: int) -> None:
    """Of one recording, as a part of all."""
    on_progress(index * PROGRESS_PARTS + PROGRESS_PARTS * done // total, num_recordings * PROGRESS_PARTS)


def _read_episode(episode_dirs: dict[int, Path], result: EpisodeResult) -> Episode:
    return read_episode(episode_dirs[id(result)], result)


def _format_outcome(result: EpisodeResult) -> str:
    return f"{result['split']}/{result['index']} {'solved' if result['success'] else 'failed'} in {result['steps']} steps"


def _read_run_facts(path: Path) -> list[tuple[str, str]]:
    config = read_json(path / "config.json")
    versions = read_json(path / "versions.json") if (path / "versions.json").exists() else {}
    facts = [("run", str(config.get("name"))), ("seed", str(config.get("seed")))]
    facts += [(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)) for name, value in versions.items()]
    return facts + [(f"{name}, CPU-seconds", f"{value:.0f}") for name, value in read_costs(path).items()]
