"""Export of a run: its results as one small Parquet file, and the other files that a report shows.

An export is read like a run, but contains no episodes. It can include trained models, which other
runs can use for planning.
"""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from experiments.compute_costs import COSTS_DIR
from experiments.evaluation.open_loop_errors import ERRORS_FILE
from experiments.evaluation.results import EpisodeResult, read_result_table, write_result_table
from experiments.migrations import OLD_COSTS_DIR, OLD_ERRORS_FILE
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import write_atomic

RESULTS_FILE = "results.parquet"
OLD_RESULTS_FILE = "rows.parquet"  # of the first format
MODELS_DIR = "models"
MODEL_FILES = ("best.json", "best.safetensors")
EXTRA_FILES = ("config.json", "versions.json", ERRORS_FILE, OLD_ERRORS_FILE)


def export_results(run: Path, results: Sequence[EpisodeResult], out: Path) -> Path:
    """Export results and the files that a report reads.

    Returns:
        The file of the results.
    """
    costs = [file for name in (COSTS_DIR, OLD_COSTS_DIR) for file in sorted((run / name).glob("*.json"))]
    _copy_files(run, [run / name for name in EXTRA_FILES if (run / name).exists()] + costs, out)
    write_result_table(out / RESULTS_FILE, results)
    return out / RESULTS_FILE


def export_models(run: Path, names: Sequence[str], out: Path) -> None:
    """Export trained models, without the files that only training needs.

    Raises:
        BadFile: the run contains no trained model.
        UnknownName: the run contains no model of a name.
    """
    model_names = sorted(path.parent.name for path in (run / MODELS_DIR).glob(f"*/{MODEL_FILES[0]}"))
    for name in names:
        if not model_names:
            raise BadFile(f"{run} holds no trained models")
        if name not in model_names:
            raise UnknownName("trained model", name, model_names)
    _copy_files(run, [run / MODELS_DIR / name / file for name in names for file in MODEL_FILES], out)


def _copy_files(run: Path, files: Iterable[Path], out: Path) -> None:
    for file in files:
        write_atomic(out / file.relative_to(run), lambda target, file=file: shutil.copyfile(file, target))  # type: ignore[misc]


def check_is_no_run(out: Path) -> None:
    """Check that an export into `out` does not mix with a run.

    Raises:
        GroundError: `out` is a run.
    """
    if any((out / name).exists() for name in ("results", "data")):
        raise GroundError(f"{out} is a run itself: choose another --out")


def find_results_file(run: Path) -> Path | None:
    """Find the file of exported results in a directory; None if it is no export."""
    files = (run / name for name in (RESULTS_FILE, OLD_RESULTS_FILE))
    return next((file for file in files if file.exists()), None)


def is_export(run: Path) -> bool:
    """Return True if a directory is an export, which has no episodes."""
    return find_results_file(run) is not None


def check_has_episodes(run: Path) -> None:
    """Check that a directory is a run, and no export without episodes.

    Raises:
        GroundError: the directory is an export.
    """
    if is_export(run):
        raise GroundError(f"{run} is an export, without episodes: name the run itself, or run it again (ground run)")


def read_exported_results(run: Path) -> list[EpisodeResult]:
    """Read the results of an export; none where a directory is no export.

    Raises:
        BadFile: the file is damaged or of an unknown version.
    """
    file = find_results_file(run)
    try:
        return read_result_table(file) if file else []
    except BadFile as error:
        raise BadFile(f"{error}: export it again from the run (ground export)") from error
