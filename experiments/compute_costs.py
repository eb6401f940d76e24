"""What each step of a run has cost: one small file per step, added to whenever the step goes on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.migrations import OLD_COSTS_DIR
from sim.utils.files import read_json, write_json

COSTS_DIR = "compute_costs"  # in a run directory
SAVE_INTERVAL_S = 10.0  # what a kill can lose


@contextmanager
def record_cost(file: Path) -> Iterator[Callable[[], None]]:
    """Adds this process's CPU-seconds to what the file holds: at the end, and every few seconds that it is told of progress.
    Where it never is, nothing was left to do, and nothing is added."""
    previous_cpu_s, start_cpu_s, last_save_s = read_cost(file), time.process_time(), time.monotonic()
    has_progress = False

    def save() -> None:
        write_json(file, round(previous_cpu_s + time.process_time() - start_cpu_s, 2))

    def mark_progress() -> None:
        nonlocal has_progress, last_save_s
        has_progress = True
        if time.monotonic() - last_save_s > SAVE_INTERVAL_S:
            last_save_s = time.monotonic()
            save()

    try:
        yield mark_progress
    finally:
        if has_progress or not file.exists():
            save()


def add_cost(file: Path, cpu_s: float) -> None:
    """To what the file holds."""
    write_json(file, round(read_cost(file) + cpu_s, 2))


def read_cost(file: Path) -> float:
    return float(read_json(file)) if file.exists() else 0.0


def read_costs(run_path: Path) -> dict[str, float]:
    """CPU-seconds of each step of a run so far."""
    directories = (run_path / name for name in (OLD_COSTS_DIR, COSTS_DIR))
    files = [file for directory in directories for file in sorted(directory.glob("*.json"))]
    return {file.stem: read_cost(file) for file in files}
