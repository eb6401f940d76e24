"""Benchmarks as ratios: both sides are measured in one run, in turns, as medians of repetitions.

A ratio holds on another machine, where a time does not. Other work on the machine slows both sides
alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from experiments.bench.measurement import Measurement, make_random_model
from experiments.bench.planning import make_planner, measure_decision, measure_training
from experiments.bench.search import measure_search
from experiments.bench.simulation import measure_images, measure_physics, measure_step, measure_workers
from experiments.bench.viewer import NUM_BODIES, NUM_SIZES, measure_time_to_first_frame, measure_update_cost
from experiments.versions import read_versions
from sim.scenes.scene import Scene, scenes
from sim.utils.files import write_json

Benchmark = Callable[[Scene], list[Measurement]]
REFERENCE_SCENE = "logistics/tote-push"  # of benchmarks that run once


def run_benchmarks(out: Path, console: Console, scene_names: Sequence[str] = (), with_compiled: bool = False) -> None:
    """Run the benchmarks of scenes and those that run once, print a table of each, and write JSON.

    Args:
        scene_names: none: all scenes.
        with_compiled: also with compiled models.
    """
    torch.set_num_threads(1)
    decision = partial(measure_decision, with_compiled=with_compiled)
    benchmarks: dict[str, Benchmark] = {
        "step": measure_step,
        "workers": measure_workers,
        "images": measure_images,
        "decision": decision,
    }
    benchmarks["training"] = measure_training
    once: dict[str, Benchmark] = {"search": measure_search, "viewer": _measure_viewer, "physics": measure_physics}
    names = [scenes[name].name for name in scene_names] or list(scenes)
    records = []
    for name in (*names, "once"):
        scene = scenes[REFERENCE_SCENE if name == "once" else name]
        parts = _measure_and_print(
            scene, once if name == "once" else benchmarks, console, f"{name}, in {scene.name}" if name == "once" else name
        )
        records += [{"scene": name, "part": part, **asdict(item)} for part, items in parts.items() for item in items]
    write_json(out, {"versions": read_versions(), "measurements": records})
    console.print(f"written: {out.resolve()}", soft_wrap=True)


def _measure_and_print(
    scene: Scene, benchmarks: Mapping[str, Benchmark], console: Console, title: str
) -> dict[str, list[Measurement]]:
    measurements_by_part = {}
    with console.status("measuring") as status:
        for part, benchmark in benchmarks.items():
            status.update(f"measuring {title}: {part}")
            measurements_by_part[part] = benchmark(scene)
    table = Table("part", "quantity", "value", "conditions", title=f"{title}: medians of runs in turns, one thread")
    for part, measurements in measurements_by_part.items():
        for index, measurement in enumerate(measurements):
            label = "" if index else part
            table.add_row(label, measurement.quantity, measurement.formatted_value, measurement.conditions)
    console.print(table)
    return measurements_by_part


def _measure_viewer(scene: Scene) -> list[Measurement]:
    """Measure the share of a control period that a page costs its server."""
    bodies_s, page_s = measure_update_cost(scene, make_planner(scene, make_random_model("graph")))
    conditions = "CPU time of a frame, server's thread included, of a control period; a client reads everything"
    first_frame = "ground view, until a client draws"
    return [
        Measurement(f"update of {NUM_BODIES} moving bodies of {NUM_SIZES} sizes", bodies_s / scene.control_dt_s, "%", conditions),
        Measurement("update of a page with all overlays and plots", page_s / scene.control_dt_s, "%", conditions),
        *(
            Measurement(f"start until the first frame, {name}", measure_time_to_first_frame(name), "s", first_frame)
            for name in scenes
        ),
    ]
