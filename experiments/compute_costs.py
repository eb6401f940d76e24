"""Compute costs: CPU-seconds of each step of a run, in one small file per step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.migrations import OLD_COSTS_DIR
from sim.utils.files import read_json, write_json

COSTS_DIR = "compute_costs"  # in a run directory
SAVE_INTERVAL_S = 10.0  # a killed process loses at most this


@contextmanager
def record_cost(file: Path) -> Iterator[Callable[[], None]]:
    """Add this process's CPU-seconds to a file, at the end and every few seconds in between.

    Returns:
        A function to call on progress. Where it is never called, the step was finished before and
        adds nothing.
    """
    previous_cpu_s = read_cost(file)
    start_cpu_s = time.process_time()
    last_save_s = time.monotonic()
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
    """Add CPU-seconds to a file."""
    write_json(file, round(read_cost(file) + cpu_s, 2))


def read_cost(file: Path) -> float:
    """Read the CPU-seconds of a step; 0 where there is no file."""
    return float(read_json(file, 0.0)) if file.exists() else 0.0


def read_costs(run_path: Path) -> dict[str, float]:
    """Read the CPU-seconds of each step of a run or an export so far."""
    files = [file for name in (OLD_COSTS_DIR, COSTS_DIR) for file in sorted((run_path / name).glob("*.json"))]
    return {file.stem: read_cost(file) for file in files}
