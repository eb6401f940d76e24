"""Export of a run: its results as one small Parquet file, and what a report says beside them.

An export is read as a run is; it holds no episodes. Trained models can be exported with it, for
other runs to plan with.
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
    """Export trained models too, without what only training needs.

    Raises:
        BadFile: the run holds no trained model.
        UnknownName: it holds none of that name.
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
    """Raise GroundError where an export into `out` would mix with a run."""
    if any((out / name).exists() for name in ("results", "data")):
        raise GroundError(f"{out} is a run itself: choose another --out")


def find_results_file(run: Path) -> Path | None:
    """Find the exported results in a directory; None where it is no export."""
    files = (run / name for name in (RESULTS_FILE, OLD_RESULTS_FILE))
    return next((file for file in files if file.exists()), None)


def is_export(run: Path) -> bool:
    """Whether a directory is an export, without episodes."""
    return find_results_file(run) is not None


def check_has_episodes(run: Path) -> None:
    """Raise GroundError where a directory is an export, which holds no episodes."""
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
