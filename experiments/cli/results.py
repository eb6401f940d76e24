"""`ground compare`, `ground report` and `ground export`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from experiments.cli.console import CONSOLE, PathArgument, print_warnings
from experiments.cli.evaluation import check_first_index
from experiments.config.experiment import read_config
from experiments.evaluation.open_loop_errors import read_open_loop_errors
from experiments.methods.build import MethodSet
from experiments.progress import show_progress_bar
from experiments.report import build, loading, scene_table
from experiments.report.export import check_is_no_run, export_models, is_export
from experiments.report.measures import comparability, comparison, summary
from experiments.viewer.recordings import make_recording_writer
from sim.utils.errors import GroundError, UnknownName

FORMATTERS = {
    "md": summary.format_summary_markdown,
    "csv": summary.format_summary_csv,
    "json": lambda results: json.dumps(summary.make_summary_records(results), indent=1),
}


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path = Path("comparison"),
    format: str = "table",
    protocol: str | None = None,
    scene: str | None = None,
    split: str | None = None,
    first: int = 0,
) -> None:
    """Compare the methods of one or several runs, in tables and a report.

    Examples: ground compare runs/demo runs/other |
    ground compare runs/demo --format csv > rates.csv |
    ground compare runs/tote-push runs/push-fixture --scene all --format md

    Args:
        out: directory of the report.
        format: table (terminal), md (Markdown), csv or json.
        protocol: only episodes of this evaluation protocol.
        scene: "all" for one table of runs of several scenes, without a report. Each run has its
            test split, or else its first split.
        split: only episodes of this split.
        first: only layouts from this number on, such as held-out layouts.
    """
    if not runs:
        raise GroundError("name at least one run directory, as in: ground compare runs/demo")
    check_first_index(first)
    if format not in ("table", *FORMATTERS):
        raise UnknownName("format", format, ("table", *FORMATTERS))
    if scene not in (None, "all"):
        raise GroundError(f"--scene {scene}: runs have their own scene; 'all' makes one table of several scenes")
    if scene:
        _compare_scenes(runs, format, protocol, split, first)
        return
    loaded = loading.read_runs(runs, split, protocol, first)
    results = loaded.results
    page = build.write_comparison(loaded, out, make_recording_writer())
    messages = [*comparability.make_notes(results), *loaded.warnings]
    if format in FORMATTERS:
        print(FORMATTERS[format](results))
        if format == "md":
            print("\n".join(messages))
        return
    CONSOLE.print(summary.make_summary_table(results))
    CONSOLE.print(comparison.make_comparison_table(results))
    print_warnings(*messages)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def _compare_scenes(runs: Sequence[Path], format: str, protocol: str | None, split: str | None, first: int) -> None:
    rows = []
    messages = []
    for run in runs:
        results = summary.select_first_split(loading.read_runs([run], split, protocol, first, must_be_comparable=False).results)
        rows.append(scene_table.make_scene_rows(results, read_open_loop_errors(run)))
        messages += [f"{results[0].scene}: {note}" for note in comparability.make_notes(results)]
        messages.append(comparability.describe_unreadable_results(run))
    if format == "table":
        CONSOLE.print(scene_table.make_scenes_table(rows))
    else:
        print(scene_table.format_scenes(rows, format))
    if format in ("table", "md"):
        print_warnings(*messages)


def write_report(run: PathArgument, out: Path | None = None) -> None:
    """Write the HTML report of a run or an export from its results.

    Examples: ground report runs/demo | ground report experiments/results/tote-push --out report

    Args:
        out: directory of the report; default: `report` in the run directory.
    """
    planners = {}
    if not is_export(run):
        methods, missing = MethodSet(read_config(run), run).make_available()
        print_warnings(*(f"{name} shows results without plans: {reason}" for name, reason in missing.items()))
        planners = {method.label: method.make_policy for method in methods if method.model}
    with show_progress_bar(CONSOLE, "report") as progress:
        page = build.build_report(run, make_recording_writer(planners), progress, out)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def export(run: PathArgument, out: Path, models: tuple[str, ...] = ()) -> None:
    """Export the results of a run into a small directory, enough for tables and a report.

    Examples: ground export runs/tote-push --out exported/tote-push,
    then: ground compare exported/tote-push |
    ground export runs/tote-push --out exported/tote-push --models graph,
    then, to plan with that model in another run:
    ground evaluate runs/demo --models exported/tote-push/models/graph

    Args:
        out: directory of the export.
        models: names of trained models to export too; some hundred kilobytes each.
    """
    check_is_no_run(out)
    export_models(run, models, out)
    file = build.export_run(run, out)
    CONSOLE.print(f"{file}: {file.stat().st_size / 1e3:.0f} kB", soft_wrap=True)
