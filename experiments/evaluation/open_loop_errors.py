"""The file of a run's open-loop errors: one record per model and horizon."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from experiments.migrations import OLD_ERRORS_FILE, migrate_open_loop_error
from sim.utils.errors import BadFile
from sim.utils.files import read_json
from worldmodels.assessment.open_loop import OpenLoopError

ERRORS_FILE = "open_loop_errors.json"  # in a run directory
REQUIRED_COLUMNS = {item.name for item in fields(OpenLoopError) if item.default is MISSING}


def read_open_loop_errors(path: Path) -> list[dict[str, Any]]:
    """Read the open-loop errors of a run directory, of the first format too.

    Args:
        path: of the run directory.

    Raises:
        BadFile: the file is damaged.

    Returns:
        Records with the fields of `OpenLoopError`; none where nothing was measured.
    """
    for name in (ERRORS_FILE, OLD_ERRORS_FILE):
        if (path / name).exists():
            records = read_json(path / name, [{"model": ""}])
            records = [migrate_open_loop_error(record) if name == OLD_ERRORS_FILE else record for record in records]
            if not all(record.keys() >= REQUIRED_COLUMNS for record in records):
                raise BadFile(f"{path / name} is damaged: a column is missing")
            return records
    return []
