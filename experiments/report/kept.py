"""What stays of a run when its directory does not: its rows as one small Parquet file, and what a report says beside them.

A kept run is read as a run is; it has no episodes to be shown. Trained models can be kept with it, to plan in other runs.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.compute_costs import COSTS_DIR
from experiments.evaluation.results import OPTIONAL_COLUMNS, RESULTS_VERSION
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import write_atomic

RESULTS_FILE = "rows.parquet"
DISTANCE_KEY = "distance"  # column: how far an episode's space is from those that the run trained in
MODELS_DIR, MODEL_FILES = "models", ("best.json", "best.safetensors")
EXTRA_FILES = ("config.json", "versions.json", "fidelity.json")


def export_results(run: Path, results: Sequence[Mapping[str, Any]], out: Path) -> Path:
    """Write what is kept of a run; gives the file of its rows."""
    names = dict.fromkeys(name for result in (*results, {DISTANCE_KEY: None}) for name in result)
    records = [{name: result.get(name) for name in names} for result in results]
    table = pa.Table.from_pylist(records).replace_schema_metadata({"rows_version": str(RESULTS_VERSION)})
    for file in [run / name for name in EXTRA_FILES] + sorted((run / COSTS_DIR).glob("*.json")):
        if file.exists():
            write_atomic(out / file.relative_to(run), lambda target, file=file: shutil.copyfile(file, target))  # type: ignore[misc]
    write_atomic(out / RESULTS_FILE, lambda target: pq.write_table(table, target, compression="zstd"))
    return out / RESULTS_FILE


def export_models(run: Path, names: Sequence[str], out: Path) -> None:
    """Keep trained models too, to plan with elsewhere; without what would be needed to train on."""
    model_names = sorted(path.parent.name for path in (run / MODELS_DIR).glob(f"*/{MODEL_FILES[0]}"))
    for name in names:
        if not model_names:
            raise BadFile(f"{run} holds no trained models")
        if name not in model_names:
            raise UnknownName("trained model", name, model_names)
    for file in (Path(MODELS_DIR, name, file_name) for name in names for file_name in MODEL_FILES):
        write_atomic(out / file, lambda target, file=file: shutil.copyfile(run / file, target))  # type: ignore[misc]


def check_is_no_run(out: Path) -> None:
    """Raise GroundError where keeping something in `out` would make a mixture of a run."""
    if any((out / name).exists() for name in ("results", "data")):
        raise GroundError(f"{out} is a run itself: choose another --out")


def is_export(run: Path) -> bool:
    """Whether rows alone were kept of a run."""
    return (run / RESULTS_FILE).exists()


def check_has_episodes(run: Path) -> None:
    """Raise GroundError where rows alone were kept of a run: nothing can be watched or played in it."""
    if is_export(run):
        raise GroundError(f"{run} keeps rows alone, without episodes: take the run itself, or play it (ground run)")


def read_exported_results(run: Path) -> list[dict[str, Any]]:
    """The rows that were kept of a run; none where it is no kept one."""
    if not is_export(run):
        return []
    try:
        table = pq.read_table(run / RESULTS_FILE)
    except (pa.ArrowException, OSError) as error:
        raise BadFile(f"{run / RESULTS_FILE} is damaged: fetch it again, or keep it again from the run (ground keep)") from error
    version = (table.schema.metadata or {}).get(b"rows_version", b"?").decode()
    if version != str(RESULTS_VERSION):
        raise BadFile(
            f"{run / RESULTS_FILE} is of version {version}, this one reads {RESULTS_VERSION}: keep it again (ground keep)"
        )
    return [{**dict.fromkeys(OPTIONAL_COLUMNS), **result} for result in table.to_pylist()]
