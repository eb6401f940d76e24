"""`ground demo`, `ground run` and `ground list`."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from agents.planning.search import searches
from experiments.cache import Cache
from experiments.cli.console import CONSOLE, print_warnings
from experiments.config.experiment import list_presets, load_experiment
from experiments.pipeline import run_experiment as run_pipeline
from experiments.report.loading import read_results
from experiments.report.measures import comparability, comparison, summary
from sim.scenes.scene import scenes
from worldmodels.model import models


def run_demo(out: Path = Path("runs"), workers: int = 2) -> None:
    """Run the whole pipeline at a small size, from collection to report (5 to 15 minutes).

    Example: ground demo
    """
    run_experiment("demo", out, workers)


def run_experiment(
    experiment: Annotated[str, tyro.conf.Positional],
    out: Path = Path("runs"),
    workers: int = 2,
    protocol: str | None = None,
    cache: Path | None = None,
) -> None:
    """Run an experiment, a preset or a TOML file; the same command resumes an interrupted run.

    Examples: ground run tote-push | ground run my.toml --out /data/runs |
    ground run push-fixture --protocol pusht

    Args:
        protocol: evaluation protocol of the scene; its run gets a separate directory.
        cache: directory of finished steps, shared by experiments; default: OUT/.cache.
    """
    config = load_experiment(experiment)
    if protocol not in (None, config.protocol):
        config = replace(config.with_protocol(protocol), name=f"{config.name}-{protocol}")
    run = out / config.name
    page = run_pipeline(config, run, workers, CONSOLE, Cache(cache or out / ".cache"))
    results = read_results(run, config.protocol)
    CONSOLE.print(summary.make_summary_table(results))
    CONSOLE.print(comparison.make_comparison_table(results))
    print_warnings(*comparability.make_notes(results), comparability.describe_unreadable_results(run))
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def list_registered() -> None:
    """List scenes, splits, behaviours, protocols, models, search methods and experiments.

    Example: ground list
    """
    for name in scenes:
        scene = scenes[name]
        CONSOLE.print(f"[bold]{name}[/]")
        groups = {"splits": scene.splits, "behaviours": list(scene.behaviours), "protocols": list(scene.protocols)}
        for title, group in groups.items():
            if group:
                CONSOLE.print(f"  {title}: {', '.join(group)}", soft_wrap=True)
    entries = {"models": [*models, "simulator"], "search methods": list(searches), "experiments": list_presets()}
    for title, names in entries.items():
        CONSOLE.print(f"[bold]{title}[/]: {', '.join(names)}", soft_wrap=True)
