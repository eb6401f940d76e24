"""One row per episode, in Parquet, beside what happened in it. All that tables and reports say is computed from rows."""

import contextlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.methods.method import label
from sim.data.store import Episode, read_shard
from sim.utils.files import write_atomic

ROWS_VERSION = 1
LATER = ("method", "search_samples", "search_iterations", "search_horizon", "train_seed", "data_bytes", "collect_cpu_s")
# Columns that rows of earlier runs lack; they are read as None.


def file_of(path: Path, split: str, index: int, train_seed: int | None) -> Path:
    """An episode's file; those of further training seeds lie beside those of the first."""
    return path / (label(f"{split}-{index:05d}", train_seed) + ".parquet")


def row_of(file: Path) -> dict[str, Any] | None:
    """The row that lies in an episode's file, or None where there is none or it is damaged."""
    try:
        file.stat()
        there = file.with_suffix(".row").stat()
    except FileNotFoundError:
        return None
    row = _read_row(file.with_suffix(".row"), there.st_mtime_ns, there.st_ino)
    return row and {**dict.fromkeys(LATER), **row}


@lru_cache(maxsize=100_000)
def _read_row(file: Path, changed_ns: int, inode: int) -> dict[str, Any] | None:
    """A row as it is; a report looks at each several times."""
    with contextlib.suppress(pa.ArrowException, OSError, KeyError, ValueError, IndexError):
        table = pq.read_table(file)
        if int((table.schema.metadata or {}).get(b"rows_version", b"0")) == ROWS_VERSION:
            return dict(table.to_pylist()[0])
    return None


def episode_file(path: Path, row: Mapping[str, Any]) -> Path:
    """Where the episode of a row is kept."""
    return file_of(path, row["split"], row["index"], row["train_seed"])


def episode_of(path: Path, row: Mapping[str, Any]) -> Episode:
    """What happened in the episode of a row."""
    return read_shard(episode_file(path, row))[0]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every row below a directory; damaged files are left out (and would be played again)."""
    rows = [row_of(file.with_suffix(".parquet")) for file in sorted(path.rglob("*.row"))]
    return [row for row in rows if row is not None]


def unreadable(path: Path) -> list[Path]:
    """Row files below a directory that are damaged or of another version."""
    return [file for file in sorted(path.rglob("*.row")) if row_of(file.with_suffix(".parquet")) is None]


def write_row(file: Path, row: dict[str, Any]) -> None:
    table = pa.Table.from_pylist([row]).replace_schema_metadata({"rows_version": str(ROWS_VERSION)})
    write_atomic(file.with_suffix(".row"), lambda to: pq.write_table(table, to))
