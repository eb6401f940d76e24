"""The file of a run's open-loop errors: one record per model and horizon."""

from pathlib import Path
from typing import Any

from experiments.migrations import OLD_ERRORS_FILE, migrate_open_loop_error
from sim.utils.files import read_json

ERRORS_FILE = "open_loop_errors.json"  # in a run directory


def read_open_loop_errors(path: Path) -> list[dict[str, Any]]:
    """Read the open-loop errors of a run directory, of the first format too.

    Args:
        path: of the run directory.

    Returns:
        Records with the fields of `OpenLoopError`; none where nothing was measured.
    """
    for name in (ERRORS_FILE, OLD_ERRORS_FILE):
        if (path / name).exists():
            records = read_json(path / name)
            return [migrate_open_loop_error(record) if name == OLD_ERRORS_FILE else record for record in records]
    return []
