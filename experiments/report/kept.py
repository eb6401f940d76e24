"""What stays of a run when its directory does not: its rows as one small Parquet file, and what a report says beside them.

A kept run is read as a run is; it has no episodes to be shown. Trained models can be kept with it, to plan in other runs.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.compute_costs import LEDGER
from experiments.evaluation.results import LATER, ROWS_VERSION
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import write_atomic

ROWS = "rows.parquet"
DISTANCE = "distance"  # column: how far an episode's space is from those that the run trained in
MODELS, BEST = "models", ("best.json", "best.safetensors")
BESIDE = ("config.json", "versions.json", "fidelity.json")


def keep(run: Path, rows: Sequence[Mapping[str, Any]], out: Path) -> Path:
    """Write what is kept of a run; gives the file of its rows."""
    names = dict.fromkeys(name for row in (*rows, {DISTANCE: None}) for name in row)
    found = [{name: row.get(name) for name in names} for row in rows]
    table = pa.Table.from_pylist(found).replace_schema_metadata({"rows_version": str(ROWS_VERSION)})
    for file in [run / name for name in BESIDE] + sorted((run / LEDGER).glob("*.json")):
        if file.exists():
            write_atomic(out / file.relative_to(run), lambda to, file=file: shutil.copyfile(file, to))  # type: ignore[misc]
    write_atomic(out / ROWS, lambda to: pq.write_table(table, to, compression="zstd"))
    return out / ROWS


def keep_models(run: Path, names: Sequence[str], out: Path) -> None:
    """Keep trained models too, to plan with elsewhere; without what would be needed to train on."""
    there = sorted(path.parent.name for path in (run / MODELS).glob(f"*/{BEST[0]}"))
    for name in names:
        if not there:
            raise BadFile(f"{run} holds no trained models")
        if name not in there:
            raise UnknownName("trained model", name, there)
    for file in (Path(MODELS, name, part) for name in names for part in BEST):
        write_atomic(out / file, lambda to, file=file: shutil.copyfile(run / file, to))  # type: ignore[misc]


def must_not_be_run(out: Path) -> None:
    """Raise GroundError where keeping something in `out` would make a mixture of a run."""
    if any((out / name).exists() for name in ("results", "data")):
        raise GroundError(f"{out} is a run itself: choose another --out")


def is_kept(run: Path) -> bool:
    """Whether rows alone were kept of a run."""
    return (run / ROWS).exists()


def must_hold_episodes(run: Path) -> None:
    """Raise GroundError where rows alone were kept of a run: nothing can be watched or played in it."""
    if is_kept(run):
        raise GroundError(f"{run} keeps rows alone, without episodes: take the run itself, or play it (ground run)")


def kept_rows(run: Path) -> list[dict[str, Any]]:
    """The rows that were kept of a run; none where it is no kept one."""
    if not is_kept(run):
        return []
    try:
        table = pq.read_table(run / ROWS)
    except (pa.ArrowException, OSError) as error:
        raise BadFile(f"{run / ROWS} is damaged: fetch it again, or keep it again from the run (ground keep)") from error
    version = (table.schema.metadata or {}).get(b"rows_version", b"?").decode()
    if version != str(ROWS_VERSION):
        raise BadFile(f"{run / ROWS} is of version {version}, this one reads {ROWS_VERSION}: keep it again (ground keep)")
    return [{**dict.fromkeys(LATER), **row} for row in table.to_pylist()]
