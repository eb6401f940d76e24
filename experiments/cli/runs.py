"""`ground run` and what is done with a run: evaluate, compare, verify, report, keep."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.markup import escape

from experiments.cli.console import CONSOLE, File, Place2, Pose2
from experiments.cli.layouts import asked_layout
from sim.utils.errors import GroundError, UnknownName


def demo(out: Path = Path("runs"), workers: int = 2) -> None:
    """The whole flow at a small size: collect, train, plan in unseen spaces, compare, report (at most 10 minutes)."""
    _run("demo", out, workers)


def run(
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
    _run(experiment, out, workers, protocol, cache)


def _run(experiment: str, out: Path, workers: int, protocol: str | None = None, cache: Path | None = None) -> None:
    from experiments.cache import Cache
    from experiments.config.experiment import load
    from experiments.pipeline import run as run_pipeline
    from experiments.report.build import rows_by
    from experiments.report.comparison import comparison_table
    from experiments.report.summary import summary_table

    config = load(experiment)
    if protocol not in (None, config.protocol):
        config = replace(config.under(protocol), name=f"{config.name}-{protocol}")
    path = out / config.name
    page = run_pipeline(config, path, workers, CONSOLE, Cache(cache or out / ".cache"))
    rows = rows_by(path, config.protocol)
    CONSOLE.print(summary_table(rows))
    CONSOLE.print(comparison_table(rows))
    _tell(path, rows)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def _tell(run: Path, rows: Sequence[Any]) -> None:
    """What a reader must know beside the rows of a run."""
    from experiments.report.guards import left_out, notes

    _warn(*notes(rows), left_out(run))


def _check_number(first: int) -> None:
    if first < 0:
        raise GroundError(f"--first {first}: spaces are counted from 0")


def _warn(*notes: str) -> None:
    """A line for each note that says something."""
    for note in filter(None, notes):
        CONSOLE.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)


def evaluate(
    run: File,
    split: str | None = None,
    episodes: int | None = None,
    first: int = 0,
    protocol: str | None = None,
    arms: tuple[str, ...] = (),
    models: tuple[Path, ...] = (),
    oracle: int = 0,
    oracle_large: int = 0,
    layout: Path | None = None,
    start: Pose2 | None = None,
    load: Pose2 | None = None,
    goal: Place2 | None = None,
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
    from experiments.config.experiment import config_of
    from experiments.methods.build import Arms
    from experiments.pipeline import Steps
    from experiments.report.build import compare as compare_runs
    from experiments.report.build import read, rows_by
    from experiments.report.kept import must_hold_episodes
    from experiments.report.summary import summary_table
    from experiments.versions import go_on
    from sim.scenes.scene import DEFAULT_PROTOCOL
    from sim.utils.files import lock_directory

    config = config_of(run)
    config = replace(config.under(protocol or config.protocol), oracle=oracle, oracle_large=oracle_large)
    for name in arms:
        if config.oracles.get(name) == 0:
            raise GroundError(f"--arms {name} needs --{name} N too: how many episodes it plays")
    _check_number(first)
    if first and layout:
        raise GroundError(f"--first {first}: a space of your own has no number")
    must_hold_episodes(run)
    own = asked_layout(layout, config.scene, 0, start, load, goal)
    chosen = tuple(name for name in arms if name not in config.oracles) or (arms and ("random", "scripted"))
    usual = config.protocol == DEFAULT_PROTOCOL
    split = split or ("test" if usual else next(iter(config.episodes)))
    if own is None:
        count = (20 if usual else config.episodes.get(split, 20)) if episodes is None else episodes
        config = replace(config, episodes={split: count})
    with lock_directory(run):
        if models:
            Arms(config, run).invite(models)
            Steps(config, run, workers, CONSOLE).measure_fidelity()
        steps = Steps(config, run, workers, CONSOLE, chosen=chosen, evaluating=True, first=first)
        go_on(run, CONSOLE)  # once nothing is wrong with what was asked for
        if own is None:
            steps.evaluate()
            rows = [row for row in rows_by(run, config.protocol) if row["split"] == split]
        else:
            rows = steps.evaluate_layout(own)
            page = compare_runs(read([run], rows[0]["split"], config.protocol), run / "own" / own.id)
            CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)
        go_on(run, CONSOLE)
    CONSOLE.print(summary_table(rows))
    _tell(run, rows)


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
    from experiments.report.build import compare as compare_runs
    from experiments.report.build import fidelity_of, read
    from experiments.report.comparison import comparison_table
    from experiments.report.guards import left_out, notes
    from experiments.report.scenes import lines_of, of_first_split, scenes_table, scenes_text
    from experiments.report.summary import summary_csv, summary_markdown, summary_records, summary_table

    texts: dict[str, Callable[[Any], str]] = {
        "md": summary_markdown,
        "csv": summary_csv,
        "json": lambda rows: json.dumps(summary_records(rows), indent=1),
    }
    if not runs:
        raise GroundError("name at least one run directory, as in: ground compare runs/demo")
    _check_number(first)
    if format not in ("table", *texts):
        raise UnknownName("format", format, ("table", *texts))
    if scene not in (None, "all"):
        raise GroundError(f"--scene {scene}: runs say their scene themselves; 'all' makes one table of several scenes")
    if scene:
        held = {path: of_first_split(read([path], split, protocol, first, comparable=False).rows) for path in runs}
        lines = [lines_of(rows, fidelity_of(path)) for path, rows in held.items()]
        told = [f"{rows[0]['scene']}: {note}" for rows in held.values() for note in notes(rows)]
        told += filter(None, map(left_out, runs))
        if format == "table":
            CONSOLE.print(scenes_table(lines))
        else:
            print(scenes_text(lines, format))
        _warn(*(told if format in ("table", "md") else ()))
        return
    found = read(runs, split, protocol, first)
    page, rows = compare_runs(found, out), found.rows
    told = [*notes(rows), *found.skipped]
    if format in texts:
        print(texts[format](rows))
        if format == "md":
            print("\n".join(told))
        return
    CONSOLE.print(summary_table(rows))
    CONSOLE.print(comparison_table(rows))
    _warn(*told)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def verify(run: File, sample: int = 12, seed: int = 0, workers: int = 2) -> None:
    """Play a sample of a run's episodes again from their seeds; tells each row that does not come out the same.

    The oracle is left out: it takes minutes for each episode.

    Args:
        seed: of the draw: another one draws other episodes.
    """
    from experiments.config.experiment import config_of
    from experiments.evaluation.replay import sample_of
    from experiments.evaluation.replay import verify as play_again
    from experiments.methods.build import Arms
    from experiments.methods.method import arm_of
    from experiments.progress import bar
    from experiments.report.build import rows_by
    from experiments.report.guards import left_out
    from experiments.report.kept import must_hold_episodes
    from experiments.report.summary import is_oracle

    if sample < 1:
        raise GroundError(f"--sample {sample}: at least one episode is needed")
    must_hold_episodes(run)
    config = config_of(run)
    found, missing = Arms(config_of(run), run).there()
    arms = {arm.label: arm for arm in found if not is_oracle(arm.name)}
    _warn(*(f"{name} cannot be played again: {why}" for name, why in missing.items()))
    _warn(left_out(run))
    rows = sample_of(rows_by(run, config.protocol), arms, sample, seed)
    if not rows:
        raise GroundError(f"{run}: no evaluated episodes of arms that are there: evaluate first")
    with bar(CONSOLE, "verify") as progress:
        verdicts = play_again(rows, arms, run / "results", workers, progress)
    other = [verdict for verdict in verdicts if verdict.faults]
    for verdict in other:
        CONSOLE.print(
            f"[red]{verdict.arm} in {verdict.split}/{verdict.index}[/]: {escape('; '.join(verdict.faults))}", soft_wrap=True
        )
    counts = ", ".join(f"{name} {sum(arm_of(row) == name for row in rows)}" for name in arms)
    CONSOLE.print(f"{len(rows) - len(other)} of {len(rows)} episodes came out the same ({counts})", soft_wrap=True)
    if other:
        raise GroundError(f"{len(other)} of {len(rows)} episodes do not come out the same")


def report(run: File, out: Path | None = None) -> None:
    """Write the HTML report of a run from its rows.

    Examples: ground report runs/demo | ground report experiments/results/tote-push --out report

    Args:
        out: directory of the report; usually `report` in the run's.
    """
    from experiments.progress import bar
    from experiments.report.build import build_report

    planners = factories(run)
    with bar(CONSOLE, "report") as progress:
        page = build_report(run, planners, progress, out)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def keep(run: File, out: Path, models: tuple[str, ...] = ()) -> None:
    """Keep a run's rows as one small file, from which tables and a report can be made without the run.

    Examples: ground keep runs/tote-push --out kept/tote-push, then: ground compare kept/tote-push |
    ground keep runs/tote-push --out kept/tote-push --models graph, then, with the trained model as a guest of another run:
    ground evaluate runs/demo --models kept/tote-push/models/graph

    Args:
        models: trained models of the run to keep besides, by name; some hundred kilobytes for each.
    """
    from experiments.report.build import keep_run
    from experiments.report.kept import keep_models, must_not_be_run

    must_not_be_run(out)
    keep_models(run, models, out)
    file = keep_run(run, out)
    CONSOLE.print(f"{file}: {file.stat().st_size / 1e3:.0f} kB", soft_wrap=True)


def factories(run: Path) -> dict[str, Any]:
    """The planners of a run that are there, by name; none of a run of which rows alone were kept."""
    from experiments.config.experiment import config_of
    from experiments.methods.build import Arms
    from experiments.report.kept import is_kept

    if is_kept(run):
        return {}
    found, missing = Arms(config_of(run), run).there()
    _warn(*(f"{name} cannot think again, its rows are shown all the same: {why}" for name, why in missing.items()))
    return {arm.label: arm.factory for arm in found if arm.model}
