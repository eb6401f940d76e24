"""What each step of a run has cost: one small file per step, added to whenever the step goes on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sim.files import read_json, write_json

LEDGER = "ledger"  # its directory in a run's


@contextmanager
def cost(file: Path, cpu_s: Callable[[], float]) -> Iterator[None]:
    """Adds the CPU-seconds that pass within to what the file holds."""
    before = cpu_s()
    try:
        yield
    finally:
        write_json(file, round(spent(file) + cpu_s() - before, 2))


def spent(file: Path) -> float:
    return float(read_json(file)) if file.exists() else 0.0


def costs(run: Path) -> dict[str, float]:
    """CPU-seconds of each step of a run so far."""
    return {file.stem: spent(file) for file in sorted((run / LEDGER).glob("*.json"))}
