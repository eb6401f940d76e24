"""What each step of a run has cost: one small file per step, added to whenever the step goes on."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sim.utils.files import read_json, write_json

LEDGER = "ledger"  # its directory in a run's
SAVED_S = 10.0  # what a kill can lose


@contextmanager
def cost(file: Path) -> Iterator[Callable[[], None]]:
    """Adds this process's CPU-seconds to what the file holds: at the end, and every few seconds that it is told of progress.
    Where it never is, nothing was left to do, and nothing is added."""
    before, begun, saved = spent(file), time.process_time(), time.monotonic()
    went_on = False

    def save() -> None:
        write_json(file, round(before + time.process_time() - begun, 2))

    def progress() -> None:
        nonlocal went_on, saved
        went_on = True
        if time.monotonic() - saved > SAVED_S:
            saved = time.monotonic()
            save()

    try:
        yield progress
    finally:
        if went_on or not file.exists():
            save()


def add(file: Path, cpu_s: float) -> None:
    """To what the file holds."""
    write_json(file, round(spent(file) + cpu_s, 2))


def spent(file: Path) -> float:
    return float(read_json(file)) if file.exists() else 0.0


def costs(run: Path) -> dict[str, float]:
    """CPU-seconds of each step of a run so far."""
    return {file.stem: spent(file) for file in sorted((run / LEDGER).glob("*.json"))}
