"""From run directories to a report: results, open-loop errors, images and recordings."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.compute_costs import read_costs
from experiments.evaluation.open_loop_errors import read_open_loop_errors
from experiments.evaluation.results import is_custom_split
from experiments.migrations import read_saved_config
from experiments.report.export import export_results
from experiments.report.figures.topdown import describe_colours, render_episode_panels
from experiments.report.loading import LoadedResults, StoredResult, add_training_distances, make_run_names, read_runs
from experiments.report.measures.comparability import make_notes
from experiments.report.measures.summary import find_best_planner, get_episode_label, select_full_data_results
from experiments.report.page import render_facts_section, render_panels_section, render_recordings_section, write_report
from experiments.report.sections.violations import MAX_FAILURES_SHOWN, render_failures_section, select_failures
from sim.scenes.scene import DEFAULT_PROTOCOL, scenes
from sim.utils.files import read_json

MAX_SAFE_EPISODES_SHOWN = 8
MAX_FAILURES_WITH_PLANS = 2  # recordings that show the plans too
PARTIAL_DATA_NOTE = (
    "Plots over methods leave out those that learned from a part of the data: Results and Sample efficiency show them."
)
ProgressCallback = Callable[[int, int], None]  # done, total


@dataclass(frozen=True)
class RecordingRequest:
    """An episode to be recorded."""

    stored: StoredResult
    title: str
    file_name: str  # in the directory of recordings
    has_plans: bool  # whether the method's plans are computed again and shown


# (requests, directory, on_progress) -> notes
RecordingWriter = Callable[[Sequence[RecordingRequest], Path, ProgressCallback], list[str]]


def build_report(
    path: Path,
    write_recordings: RecordingWriter | None = None,
    on_progress: ProgressCallback = lambda done, total: None,
    out: Path | None = None,
) -> Path:
    """Write the report of a run directory and its recordings.

    Args:
        write_recordings: see `experiments.viewer.recordings`; None: no recordings.
        out: directory; None: `report` in the run directory.

    Returns:
        The page.
    """
    config = read_saved_config(path) if (path / "config.json").exists() else {}
    loaded = read_runs([path], protocol=config.get("protocol", DEFAULT_PROTOCOL))
    return write_comparison(loaded, out or path / "report", write_recordings, on_progress)


def export_run(path: Path, out: Path) -> Path:
    """Export what a report is made of, without episodes, data and models.

    Returns:
        The file of the results.
    """
    return export_results(path, add_training_distances(read_runs([path], must_be_comparable=False)), out)


def write_comparison(
    loaded: LoadedResults,
    out: Path,
    write_recordings: RecordingWriter | None = None,
    on_progress: ProgressCallback = lambda done, total: None,
) -> Path:
    """Write one report over all loaded results.

    Returns:
        The page.
    """
    results = loaded.results
    planner = find_best_planner(results)
    shown = [stored for stored in loaded.stored if stored.result.method == planner and stored.file.exists()]
    safe = [stored for stored in shown if stored.result.safe_success]
    failures = select_failures(shown)[:MAX_FAILURES_SHOWN]
    requests = [_request_recording(stored, index < MAX_FAILURES_WITH_PLANS) for index, stored in enumerate(failures)]
    requests += [_request_recording(stored, True) for stored in safe[:1]]
    recording_notes = write_recordings(requests, out / "recordings", on_progress) if write_recordings else []
    links = {item.stored.file: f"recordings/{item.file_name}" for item in requests} if write_recordings else {}
    partial_data_note = [PARTIAL_DATA_NOTE] if len(select_full_data_results(results)) < len(results) else []
    write_report(
        out / "index.html",
        _make_title(loaded),
        add_training_distances(loaded),
        _merge_open_loop_errors({path: read_open_loop_errors(path) for path in loaded.paths}),
        _make_command(loaded, out),
        [*make_notes(results), *partial_data_note, *loaded.warnings, *recording_notes],
        [
            render_failures_section(planner, shown, results, links),
            _render_safe_episodes(safe, len(shown)),
            render_recordings_section([(item.title, links[item.stored.file]) for item in requests if links]),
            render_facts_section([fact for path in loaded.paths for fact in _read_run_facts(path)]),
        ],
    )
    return out / "index.html"


def _render_safe_episodes(safe: Sequence[StoredResult], num_episodes: int) -> str:
    panels = [(_format_outcome(stored), stored.read_episode()) for stored in safe[:MAX_SAFE_EPISODES_SHOWN]]
    if not panels:
        return ""
    result = safe[0].result
    heading = f"{result.method}, safe success in {len(safe)} of {num_episodes} episodes, the first {len(panels)}"
    colour_key = describe_colours(scenes[result.scene], [episode.layout for _, episode in panels])
    return render_panels_section(heading, render_episode_panels(scenes[result.scene], panels), colour_key)


def _make_title(loaded: LoadedResults) -> str:
    """Name the runs, or the user's layout where all results are of one."""
    results = loaded.results
    if len({result.split for result in results}) == 1 and is_custom_split(results[0].split):
        return f"{results[0].split_label}: {results[0].scene}"
    return f"{results[0].scene}: {', '.join(dict.fromkeys(result.run for result in results))}"


def _make_command(loaded: LoadedResults, out: Path) -> str:
    names = " ".join(map(str, loaded.paths))
    if [out] == [path / "report" for path in loaded.paths]:
        return f"ground report {names}"
    options = "".join(f" --{option} {value}" for option, value in loaded.filters.items())
    return f"ground compare {names}{options} --out {out}"


def _request_recording(stored: StoredResult, has_plans: bool) -> RecordingRequest:
    result = stored.result
    seed = f"@{result.train_seed}" if result.train_seed else ""
    file_name = f"{'solved' if result.success else 'failed'}-{result.split}-{result.index}{seed}.html"
    return RecordingRequest(stored, f"{result.method_label}, {_format_outcome(stored)}", file_name, has_plans)


def _format_outcome(stored: StoredResult) -> str:
    result = stored.result
    return f"{get_episode_label(result)} {'solved' if result.success else 'unsolved'} in {result.steps} steps"


def _merge_open_loop_errors(errors_by_run: Mapping[Path, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Merge the models' errors in several runs.

    Those of one name get their runs' names, unless they are equal.
    """
    errors_by_model: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for run, errors in zip(make_run_names(list(errors_by_run)), errors_by_run.values(), strict=True):
        for error in errors:
            errors_by_model[error["model"]].setdefault(run, []).append(error)
    merged = []
    for model, model_errors in errors_by_model.items():
        first, *others = model_errors.values()
        if all(errors == first for errors in others):
            merged += first
        else:
            merged += [{**error, "model": f"{model} ({run})"} for run, errors in model_errors.items() for error in errors]
    return merged


def _read_run_facts(path: Path) -> list[tuple[str, str]]:
    config = read_json(path / "config.json", {})
    versions = _read_optional_json(path / "versions.json")
    facts = [("run", str(config.get("name"))), ("seed", str(config.get("seed")))]
    facts += [(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)) for name, value in versions.items()]
    return facts + [(f"{name}, CPU-seconds", f"{value:.0f}") for name, value in read_costs(path).items()]


def _read_optional_json(path: Path) -> dict[str, Any]:
    return read_json(path, {}) if path.exists() else {}
