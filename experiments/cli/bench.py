"""`ground bench`: benchmarks as ratios.

Both sides are measured in one run, in turns, as medians of repetitions. A ratio holds on another
machine, where a time does not. Other work on the machine slows both sides alike.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from experiments.bench import planning, search, simulation, viewer
from experiments.bench.measurement import Measurement
from experiments.cli.console import CONSOLE
from experiments.versions import read_versions
from sim.scenes.scene import Scene
from sim.scenes.scene import scenes as known_scenes
from sim.utils.files import write_json

Benchmark = Callable[[Scene], list[Measurement]]
REFERENCE_SCENE = "logistics/tote-push"  # of benchmarks that run once


def run_benchmarks(out: Path = Path("bench.json"), scenes: tuple[str, ...] = (), with_compiled: bool = False) -> None:
    """Measure compute costs of each scene, as ratios: steps, workers, images, decisions, training.

    Example: ground bench --scenes tote-push --with-compiled

    Args:
        out: JSON file of the measurements.
        scenes: names of scenes; default: all.
        with_compiled: measure compiled models too; compilation takes half a minute for each scene.
    """
    torch.set_num_threads(1)
    benchmarks: dict[str, Benchmark] = {
        "step": simulation.measure_step,
        "workers": simulation.measure_workers,
        "images": simulation.measure_images,
        "decision": partial(planning.measure_decision, with_compiled=with_compiled),
        "training": planning.measure_training,
    }
    records = []
    for name in [known_scenes[name].name for name in scenes or known_scenes]:
        measured = _measure_and_print(known_scenes[name], benchmarks, name)
        records += [{"scene": name, **record} for record in measured]
    once: dict[str, Benchmark] = {
        "search": search.measure_search,
        "viewer": viewer.measure_viewer,
        "physics": simulation.measure_physics,
    }
    measured = _measure_and_print(known_scenes[REFERENCE_SCENE], once, f"once, in {REFERENCE_SCENE}")
    records += [{"scene": "once", **record} for record in measured]
    write_json(out, {"versions": read_versions(), "measurements": records})
    CONSOLE.print(f"written: {out.resolve()}", soft_wrap=True)


def _measure_and_print(scene: Scene, benchmarks: Mapping[str, Benchmark], title: str) -> list[dict[str, Any]]:
    """Measure the parts of a scene, print them as a table, and return them as records."""
    table = Table("part", "quantity", "value", "conditions", title=f"{title}: medians of runs in turns, one thread")
    records = []
    with CONSOLE.status("measuring") as status:
        for part, benchmark in benchmarks.items():
            status.update(f"measuring {title}: {part}")
            measurements = benchmark(scene)
            for index, item in enumerate(measurements):
                table.add_row("" if index else part, item.quantity, item.formatted_value, item.conditions)
            records += [{"part": part, **asdict(item)} for item in measurements]
    CONSOLE.print(table)
    return records
