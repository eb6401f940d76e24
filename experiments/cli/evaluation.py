"""`ground evaluate` and `ground verify`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from experiments.cli.console import CONSOLE, PathArgument, PlanarPose, PlanarPosition, print_warnings
from experiments.cli.layouts import read_requested_layouts
from experiments.config.experiment import ExperimentConfig, read_config
from experiments.evaluation.replay import sample_results, verify_results
from experiments.evaluation.results import EpisodeResult
from experiments.evaluation.verdict import DEFAULT_THRESHOLD, make_verdict
from experiments.methods.build import MethodSet
from experiments.pipeline import Pipeline
from experiments.progress import show_progress_bar
from experiments.report import build, export, loading
from experiments.report.measures import comparability, summary
from experiments.versions import record_version_changes
from experiments.viewer.recordings import make_recording_writer
from sim.data.store import Dataset
from sim.layout import Layout
from sim.scenes.scene import DEFAULT_PROTOCOL
from sim.utils.errors import GroundError
from sim.utils.files import lock_directory

DEFAULT_EPISODES = 20


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
    layout: tuple[Path, ...] = (),
    start: PlanarPose | None = None,
    load: PlanarPose | None = None,
    goal: PlanarPosition | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    workers: int = 2,
) -> None:
    """Evaluate the methods of a run in unseen or custom layouts, with a verdict for each method.

    Episodes in a custom layout differ in start, load pose, goal, physics and seed. The first episode
    is the layout in the file.

    Examples: ground evaluate runs/demo --split shift-two-totes |
    ground evaluate runs/demo --episodes 300 --methods graph+mppi |
    ground evaluate runs/demo --layout hall-a.json hall-b.json --episodes 50 |
    ground evaluate runs/demo --layout warehouse.yaml --start 1 1 0 --goal 4 4 |
    ground evaluate runs/pf --protocol pusht

    Args:
        split: name of the split; default: test, or the split of the protocol.
        episodes: number in the split, or in each custom layout; default: 20, or the number of
            the protocol.
        first: number of the first layout of the split; selects held-out layouts, such as from
            number 600.
        protocol: evaluation protocol of the scene; default: the protocol of the run.
        methods: names of methods, in addition to random and scripted; default: all.
        models: directories of external models, which are added to the run.
        oracle: number of episodes of the oracle; each takes minutes.
        oracle_large: number of episodes of an oracle with more candidates and iterations.
        layout: custom layouts: layout files, or map_server YAML files. Missing poses in a map are
            sampled.
        start: x, y and yaw of the robot, for a map [m, rad].
        load: x, y and yaw of the load, for a map, in scenes with a load [m, rad].
        goal: x and y of the goal, for a map [m].
        threshold: rate of safe success that the verdict "safe" needs.
    """
    for name, count in (("oracle", oracle), ("oracle-large", oracle_large)):
        if name in methods and not count:
            raise GroundError(f"--methods {name} needs --{name} N too: its number of episodes")
    check_first_index(first)
    if not 0 < threshold < 1:
        raise GroundError(f"--threshold {threshold:g}: a rate between 0 and 1 is needed")
    if layout and (split or first):
        raise GroundError("--split and --first select layouts of the scene: leave them out with --layout")
    export.check_has_episodes(run)
    config = read_config(run)
    config = config.with_protocol(protocol or config.protocol)
    config = replace(config, oracle_episodes=oracle, oracle_large_episodes=oracle_large)
    layouts = read_requested_layouts(layout, config.scene, (start, load, goal))
    config = _set_episodes(config, split, episodes, bool(layouts))
    with lock_directory(run):
        if models:
            Dataset.open(run / "data" / "test")  # raises before the run is changed: their open-loop errors are measured on it
            MethodSet(config, run).add_external_models(models)
            Pipeline(config, run, workers, CONSOLE).measure_open_loop_errors()
        pipeline = Pipeline(config, run, workers, CONSOLE, None, methods, is_evaluation_only=True, first_index=first)
        record_version_changes(run, CONSOLE)  # now that all options are valid
        (num_episodes,) = config.episodes.values()
        evaluated = pipeline.evaluate_layouts(layouts, num_episodes) if layouts else pipeline.evaluate()
        record_version_changes(run, CONSOLE)
    splits = list(dict.fromkeys(result.split for result in evaluated))
    if layouts:
        _write_layout_reports(run, config.protocol, dict(zip(splits, layouts, strict=True)))
    results = [result for result in loading.read_results(run, config.protocol) if result.split in splits]
    CONSOLE.print(summary.make_summary_table(results))
    CONSOLE.print(make_verdict_table(results, threshold))
    print_warnings(*comparability.make_notes(results), comparability.describe_unreadable_results(run))


def _write_layout_reports(run: Path, protocol: str, layout_by_split: Mapping[str, Layout]) -> None:
    for split, layout in layout_by_split.items():
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", layout.name)
        out = run / "layouts" / f"{name}-{layout.id[:8]}"
        page = build.write_comparison(loading.read_runs([run], split, protocol), out, make_recording_writer())
        CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def check_first_index(first: int) -> None:
    """Check the value of an option --first.

    Raises:
        GroundError: the value is negative.
    """
    if first < 0:
        raise GroundError(f"--first {first}: layouts are counted from 0")


def _set_episodes(config: ExperimentConfig, split: str | None, episodes: int | None, is_custom: bool) -> ExperimentConfig:
    """Set the split and the number of episodes, also where they are not given."""
    is_default = config.protocol == DEFAULT_PROTOCOL
    split = split or ("test" if is_default else next(iter(config.episodes)))
    default = DEFAULT_EPISODES if is_default or is_custom else config.episodes.get(split, DEFAULT_EPISODES)
    return replace(config, episodes={split: default if episodes is None else episodes})


def make_verdict_table(results: Sequence[EpisodeResult], threshold: float) -> Table:
    """Make the table of verdicts for a terminal: each method in each split or custom layout."""
    table = Table("layouts", "method", "verdict", title=f"Is the rate of safe success at least {threshold:.0%}?")
    for (_, method), group in summary.group_results(results, "split", "method").items():
        table.add_row(group[0].split_label, method, str(make_verdict(group, threshold)))
    return table


def verify(run: PathArgument, sample: int = 12, seed: int = 0, workers: int = 2) -> None:
    """Replay a sample of a run's episodes from their seeds, and print each result that differs.

    Oracles are left out, because their episodes take minutes.

    Example: ground verify runs/demo --sample 20

    Args:
        sample: number of episodes.
        seed: seed of the sample.
    """
    if sample < 1:
        raise GroundError(f"--sample {sample}: at least one episode is needed")
    export.check_has_episodes(run)
    config = read_config(run)
    available, missing = MethodSet(config, run).make_available()
    methods = {method.label: method for method in available if not summary.is_oracle(method.name)}
    print_warnings(*(f"{name} cannot be replayed: {reason}" for name, reason in missing.items()))
    print_warnings(comparability.describe_unreadable_results(run))
    results = sample_results(loading.read_results(run, config.protocol), methods, sample, seed)
    if not results:
        raise GroundError(f"{run} has no evaluated episodes of its methods: evaluate first")
    with show_progress_bar(CONSOLE, "verify") as progress:
        differences = verify_results(results, methods, run / "results", workers, progress)
    mismatches = [(result, texts) for result, texts in zip(results, differences, strict=True) if texts]
    for result, texts in mismatches:
        episode = f"{result.method_label} in {result.split}/{result.index}"
        CONSOLE.print(f"[red]{episode}[/]: {escape('; '.join(texts))}", soft_wrap=True)
    counts = ", ".join(f"{name} {sum(result.method_label == name for result in results)}" for name in methods)
    CONSOLE.print(f"{len(results) - len(mismatches)} of {len(results)} episodes replay equally ({counts})", soft_wrap=True)
    if mismatches:
        raise GroundError(f"{len(mismatches)} of {len(results)} episodes replay differently")
