"""`ground run` and what is done with a run: evaluate, compare, verify, report, keep."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.markup import escape

from experiments.cli.console import CONSOLE, PathArgument, PlanarPose, PlanarPosition
from experiments.cli.layouts import read_requested_layout
from sim.utils.errors import GroundError, UnknownName


def run_demo(out: Path = Path("runs"), workers: int = 2) -> None:
    """The whole flow at a small size: collect, train, plan in unseen spaces, compare, report (at most 10 minutes)."""
    _run_and_print("demo", out, workers)


def run_experiment(
    experiment: Annotated[str, tyro.conf.Positional],
    out: Path = Path("runs"),
    workers: int = 2,
    protocol: str | None = None,
    cache: Path | None = None,
) -> None:
    """A named experiment, or one from a TOML file. Goes on where it was interrupted.

    Examples: ground run tote-push | ground run my.toml --out /data/runs | ground run push-fixture --protocol pusht

    Args:
        protocol: evaluate by a protocol of the scene, in a run of its own.
        cache: where finished data, trainings and episodes are shared between experiments; without it, OUT/.cache.
    """
    _run_and_print(experiment, out, workers, protocol, cache)


def _run_and_print(experiment: str, out: Path, workers: int, protocol: str | None = None, cache: Path | None = None) -> None:
    from experiments.cache import Cache
    from experiments.config.experiment import load_experiment
    from experiments.pipeline import run_experiment as run_pipeline
    from experiments.report.build import read_results
    from experiments.report.comparison import make_comparison_table
    from experiments.report.summary import make_summary_table

    config = load_experiment(experiment)
    if protocol not in (None, config.protocol):
        config = replace(config.with_protocol(protocol), name=f"{config.name}-{protocol}")
    run = out / config.name
    page = run_pipeline(config, run, workers, CONSOLE, Cache(cache or out / ".cache"))
    results = read_results(run, config.protocol)
    CONSOLE.print(make_summary_table(results))
    CONSOLE.print(make_comparison_table(results))
    _print_notes(run, results)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def _print_notes(run: Path, results: Sequence[Any]) -> None:
    """What a reader must know beside the rows of a run."""
    from experiments.report.guards import describe_unreadable_results, make_notes

    _print_warnings(*make_notes(results), describe_unreadable_results(run))


def _check_first(first: int) -> None:
    if first < 0:
        raise GroundError(f"--first {first}: spaces are counted from 0")


def _print_warnings(*notes: str) -> None:
    """A line for each note that says something."""
    for note in filter(None, notes):
        CONSOLE.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)


def evaluate(
    run: PathArgument,
    split: str | None = None,
    episodes: int | None = None,
    first: int = 0,
    protocol: str | None = None,
    methods: tuple[str, ...] = (),
    models: tuple[Path, ...] = (),
    oracle: int = 0,
    oracle_large: int = 0,
    layout: Path | None = None,
    start: PlanarPose | None = None,
    load: PlanarPose | None = None,
    goal: PlanarPosition | None = None,
    workers: int = 2,
) -> None:
    """Play every arm of a finished run on spaces of a split, or on a space of your own (--layout FILE.json, or a ROS map).

    Examples: ground evaluate runs/demo --split shift-two-totes | ground evaluate runs/demo --layout my-hall.json |
    ground evaluate runs/demo --episodes 300 --arms graph+mppi |
    ground evaluate runs/demo --layout warehouse.yaml --start 1 1 0 --goal 4 4 | ground evaluate runs/pf --protocol pusht

    Args:
        split: "test" unless told otherwise, or the protocol's.
        episodes: 20 unless told otherwise, or as many as the protocol has.
        first: number of the first space, as in --first 300 --episodes 100 for spaces that nobody has looked at yet.
        protocol: one of the scene's, other than the run's own; its episodes are compared among themselves.
        arms: which play, by name, with random and scripted beside them; none: all. An oracle needs its episodes as well.
        oracle: so many episodes on the true simulator too, by the same search; minutes for each.
        oracle_large: and so many under the largest one.
        models: trained elsewhere, as on several scenes; they plan in this run from now on, called by their directories' names.
        layout: a layout file, or the YAML of a map_server map, in which what is not given is drawn.
        start: x, y and yaw of the robot, for a map.
        load: x, y and yaw of the load, for a map; in scenes that have one.
        goal: x and y of the goal, for a map.
    """
    from experiments.config.experiment import read_config
    from experiments.methods.build import MethodSet
    from experiments.pipeline import Pipeline
    from experiments.report.build import read_results, read_runs
    from experiments.report.build import write_comparison as compare_runs
    from experiments.report.kept import check_has_episodes
    from experiments.report.summary import make_summary_table
    from experiments.versions import record_version_changes
    from sim.scenes.scene import DEFAULT_PROTOCOL
    from sim.utils.files import lock_directory

    config = read_config(run)
    config = replace(
        config.with_protocol(protocol or config.protocol), oracle_episodes=oracle, oracle_large_episodes=oracle_large
    )
    for name in methods:
        if config.episodes_by_oracle.get(name) == 0:
            raise GroundError(f"--arms {name} needs --{name} N too: how many episodes it plays")
    _check_first(first)
    if first and layout:
        raise GroundError(f"--first {first}: a space of your own has no number")
    check_has_episodes(run)
    custom_layout = read_requested_layout(layout, config.scene, 0, start, load, goal)
    selected_methods = tuple(name for name in methods if name not in config.episodes_by_oracle) or (
        methods and ("random", "scripted")
    )
    is_default_protocol = config.protocol == DEFAULT_PROTOCOL
    split = split or ("test" if is_default_protocol else next(iter(config.episodes)))
    if custom_layout is None:
        num_episodes = (20 if is_default_protocol else config.episodes.get(split, 20)) if episodes is None else episodes
        config = replace(config, episodes={split: num_episodes})
    with lock_directory(run):
        if models:
            MethodSet(config, run).add_external_models(models)
            Pipeline(config, run, workers, CONSOLE).measure_open_loop_errors()
        steps = Pipeline(config, run, workers, CONSOLE, method_names=selected_methods, is_evaluation_only=True, first_index=first)
        record_version_changes(run, CONSOLE)  # once nothing is wrong with what was asked for
        if custom_layout is None:
            steps.evaluate()
            results = [result for result in read_results(run, config.protocol) if result["split"] == split]
        else:
            results = steps.evaluate_layout(custom_layout)
            page = compare_runs(read_runs([run], results[0]["split"], config.protocol), run / "own" / custom_layout.id)
            CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)
        record_version_changes(run, CONSOLE)
    CONSOLE.print(make_summary_table(results))
    _print_notes(run, results)


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path = Path("comparison"),
    format: str = "table",
    protocol: str | None = None,
    scene: str | None = None,
    split: str | None = None,
    first: int = 0,
) -> None:
    """Compare the arms of one or several runs: tables here, and a report.

    Examples: ground compare runs/demo runs/other | ground compare runs/demo --format csv > rates.csv |
    ground compare runs/tote-push runs/push-fixture --scene all --format md

    Args:
        format: table, md for Markdown, csv or json.
        protocol: only episodes played by this one.
        scene: "all" for one table of runs of several scenes, each in its first split, without a report.
        split: only episodes of this one.
        first: only spaces from this number on, as those that were not looked at while settings were chosen.
    """
    from experiments.report.build import read_open_loop_errors, read_runs
    from experiments.report.build import write_comparison as compare_runs
    from experiments.report.comparison import make_comparison_table
    from experiments.report.guards import describe_unreadable_results, make_notes
    from experiments.report.scenes import format_scenes, make_scene_rows, make_scenes_table, select_first_split
    from experiments.report.summary import format_summary_csv, format_summary_markdown, make_summary_records, make_summary_table

    formatters: dict[str, Callable[[Any], str]] = {
        "md": format_summary_markdown,
        "csv": format_summary_csv,
        "json": lambda results: json.dumps(make_summary_records(results), indent=1),
    }
    if not runs:
        raise GroundError("name at least one run directory, as in: ground compare runs/demo")
    _check_first(first)
    if format not in ("table", *formatters):
        raise UnknownName("format", format, ("table", *formatters))
    if scene not in (None, "all"):
        raise GroundError(f"--scene {scene}: runs say their scene themselves; 'all' makes one table of several scenes")
    if scene:
        results_by_run = {
            path: select_first_split(read_runs([path], split, protocol, first, must_be_comparable=False).results) for path in runs
        }
        lines = [make_scene_rows(results, read_open_loop_errors(path)) for path, results in results_by_run.items()]
        messages = [f"{results[0]['scene']}: {note}" for results in results_by_run.values() for note in make_notes(results)]
        messages += filter(None, map(describe_unreadable_results, runs))
        if format == "table":
            CONSOLE.print(make_scenes_table(lines))
        else:
            print(format_scenes(lines, format))
        _print_warnings(*(messages if format in ("table", "md") else ()))
        return
    run_results = read_runs(runs, split, protocol, first)
    page, results = compare_runs(run_results, out), run_results.results
    messages = [*make_notes(results), *run_results.warnings]
    if format in formatters:
        print(formatters[format](results))
        if format == "md":
            print("\n".join(messages))
        return
    CONSOLE.print(make_summary_table(results))
    CONSOLE.print(make_comparison_table(results))
    _print_warnings(*messages)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def verify(run: PathArgument, sample: int = 12, seed: int = 0, workers: int = 2) -> None:
    """Play a sample of a run's episodes again from their seeds; tells each row that does not come out the same.

    The oracle is left out: it takes minutes for each episode.

    Args:
        seed: of the draw: another one draws other episodes.
    """
    from experiments.config.experiment import read_config
    from experiments.evaluation.replay import sample_results
    from experiments.evaluation.replay import verify_results as play_again
    from experiments.methods.build import MethodSet
    from experiments.progress import show_progress_bar
    from experiments.report.build import read_results
    from experiments.report.guards import describe_unreadable_results
    from experiments.report.kept import check_has_episodes
    from experiments.report.summary import is_oracle

    if sample < 1:
        raise GroundError(f"--sample {sample}: at least one episode is needed")
    check_has_episodes(run)
    config = read_config(run)
    run_methods, missing = MethodSet(read_config(run), run).make_available()
    methods = {method.label: method for method in run_methods if not is_oracle(method.name)}
    _print_warnings(*(f"{name} cannot be played again: {reason}" for name, reason in missing.items()))
    _print_warnings(describe_unreadable_results(run))
    results = sample_results(read_results(run, config.protocol), methods, sample, seed)
    if not results:
        raise GroundError(f"{run}: no evaluated episodes of arms that are there: evaluate first")
    with show_progress_bar(CONSOLE, "verify") as progress:
        verdicts = play_again(results, methods, run / "results", workers, progress)
    mismatches = [verdict for verdict in verdicts if verdict.differences]
    for verdict in mismatches:
        CONSOLE.print(
            f"[red]{verdict.method_label} in {verdict.split}/{verdict.index}[/]: {escape('; '.join(verdict.differences))}",
            soft_wrap=True,
        )
    counts = ", ".join(f"{name} {sum(result.method_label == name for result in results)}" for name in methods)
    CONSOLE.print(f"{len(results) - len(mismatches)} of {len(results)} episodes came out the same ({counts})", soft_wrap=True)
    if mismatches:
        raise GroundError(f"{len(mismatches)} of {len(results)} episodes do not come out the same")


def write_report(run: PathArgument, out: Path | None = None) -> None:
    """Write the HTML report of a run from its rows.

    Examples: ground report runs/demo | ground report experiments/results/tote-push --out report

    Args:
        out: directory of the report; usually `report` in the run's.
    """
    from experiments.progress import show_progress_bar
    from experiments.report.build import build_report

    planners = load_planner_factories(run)
    with show_progress_bar(CONSOLE, "report") as progress:
        page = build_report(run, planners, progress, out)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def export(run: PathArgument, out: Path, models: tuple[str, ...] = ()) -> None:
    """Keep a run's rows as one small file, from which tables and a report can be made without the run.

    Examples: ground keep runs/tote-push --out kept/tote-push, then: ground compare kept/tote-push |
    ground keep runs/tote-push --out kept/tote-push --models graph, then, with the trained model as a guest of another run:
    ground evaluate runs/demo --models kept/tote-push/models/graph

    Args:
        models: trained models of the run to keep besides, by name; some hundred kilobytes for each.
    """
    from experiments.report.build import export_run
    from experiments.report.kept import check_is_no_run, export_models

    check_is_no_run(out)
    export_models(run, models, out)
    file = export_run(run, out)
    CONSOLE.print(f"{file}: {file.stat().st_size / 1e3:.0f} kB", soft_wrap=True)


def load_planner_factories(run: Path) -> dict[str, Any]:
    """The planners of a run that are there, by name; none of a run of which rows alone were kept."""
    from experiments.config.experiment import read_config
    from experiments.methods.build import MethodSet
    from experiments.report.kept import is_export

    if is_export(run):
        return {}
    methods, missing = MethodSet(read_config(run), run).make_available()
    _print_warnings(
        *(f"{name} cannot think again, its rows are shown all the same: {reason}" for name, reason in missing.items())
    )
    return {method.label: method.make_policy for method in methods if method.model}
