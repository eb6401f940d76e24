"""`ground train` and `ground eval-model`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.table import Table

from experiments.cli.console import CONSOLE
from experiments.config.experiment import ModelTrainingConfig
from experiments.methods.training import train_model
from experiments.progress import show_progress_bar
from experiments.report.loading import make_run_names
from experiments.report.page import write_open_loop_page
from sim.data.store import Dataset
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from worldmodels.assessment.open_loop import BodyPredictor, make_records, make_test_windows, measure_open_loop_error
from worldmodels.assessment.settling import measure_settling_error
from worldmodels.baselines import ConstantVelocity
from worldmodels.model import LearnedModel
from worldmodels.spatial.graph import SpatialGraph
from worldmodels.spatial.state import SpatialWindows
from worldmodels.training.checkpoint import load_checkpoint, read_checkpoint_info
from worldmodels.training.loop import TrainConfig


def train(
    data: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path,
    validation: tuple[Path, ...],
    model: str = "graph",
    scene: str | None = None,
    updates: int = 6000,
    batch: int = 256,
    lengths: tuple[int, ...] = (4, 8, 8, 12),
    learning_rate: float = 8e-3,
    seed: int = 0,
    validate_every: int = 250,
    threads: int = 2,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    resume: bool = True,
) -> None:
    """Train a world model on datasets; the same command resumes from the last checkpoint.

    Examples: ground train data/a data/b --validation data/val --out models/mine --model graph |
    ground train runs/tote-push/data/round-1 runs/push-fixture/data/round-1 --scene all
    --validation runs/tote-push/data/val runs/push-fixture/data/val --out models/joint

    Args:
        validation: datasets that select the best checkpoint; each scene of the data needs one.
        scene: "all" for one model of several scenes; default: the scene of the data.
        batch: number of windows in an update.
        lengths: steps of a window, one length for each equal part of the training run.
        learning_rate: largest learning rate; it falls to 1/50 of this value.
        validate_every: updates between two validations; each writes a checkpoint.
        device: "auto" uses a GPU if torch finds a GPU.
    """
    train_config = TrainConfig(
        updates, batch, lengths, learning_rate, seed=seed, validate_every=validate_every, threads=threads, device=device
    )
    datasets = [Dataset.open(path) for path in data]
    validation_datasets = [Dataset.open(path) for path in validation]
    is_joint = scene == "all"
    for dataset in datasets:
        if scene and not is_joint and dataset.scene != scenes[scene].name:
            raise GroundError(f"{dataset.path} is of scene '{dataset.scene}', not '{scene}'")
    config = ModelTrainingConfig(model, train_config)
    with show_progress_bar(CONSOLE, f"train {model}") as progress:
        train_model(config, datasets, validation_datasets, out, resume, progress, is_joint)
    for name, error_mm in read_checkpoint_info(out).get("scenes_mm", {}).items():
        error_text = f"{scenes[name].dynamic_noun} off by {error_mm:.0f} mm after 2 s (median, or energy score of particles)"
        CONSOLE.print(f"{name}: {error_text}", soft_wrap=True)
    CONSOLE.print(f"trained model in {out}")


def eval_model(
    models: Annotated[tuple[Path, ...], tyro.conf.Positional],
    data: Path,
    windows: int = 2000,
    plot: Path = Path("open-loop-error.html"),
) -> None:
    """Measure the open-loop error of models by horizon on a dataset of unseen layouts.

    Example: ground eval-model runs/demo/models/graph --data runs/demo/data/test

    Args:
        windows: maximum number of windows of the dataset.
        plot: HTML file of the plot.
    """
    if windows < 1:
        raise GroundError(f"--windows {windows}: at least one is needed")
    dataset = Dataset.open(data)
    if dataset.manifest["split"] == "train":
        message = "open-loop errors are measured in unseen layouts (ground collect --split test)"
        raise GroundError(f"{data} was collected in training layouts: {message}")
    loaded_models = [load_checkpoint(path, dataset.scene) for path in models]
    for path in models:
        if shared := dataset.layout_ids & set(read_checkpoint_info(path).get("layouts", ())):
            raise GroundError(f"{path} was trained or selected on {len(shared)} layouts of {data}: take a dataset of unseen ones")
    if scenes[dataset.scene].is_skill:
        _print_settling_errors(dict(zip(make_run_names(models), loaded_models, strict=True)), dataset, windows)
        return
    records = []
    for name, model in [*zip(make_run_names(models), loaded_models, strict=True), (ConstantVelocity.name, ConstantVelocity())]:
        if not isinstance(model, BodyPredictor):
            raise GroundError(f"{name} predicts no bodies: it has no open-loop error in millimetres")
        errors = measure_open_loop_error(model, make_test_windows(model, dataset), windows)
        records += [{**record, "model": name} for record in make_records(errors)]
    noun = scenes[dataset.scene].dynamic_noun
    columns = {
        f"{noun} mm (median)": ("body_mm_median", ".1f"),
        f"{noun} mm (p90)": ("body_mm_p90", ".1f"),
        f"{noun} °": ("body_deg_median", ".1f"),
        "share of distance moved": ("body_relative_median", ".1%"),
        "robot mm": ("robot_mm_median", ".1f"),
        "robot °": ("robot_deg_median", ".1f"),
    }
    table = Table("model", "horizon", *columns, title=str(data))
    for record in records:
        cells = [format(record[name], spec) for name, spec in columns.values()]
        table.add_row(record["model"], f"{record['horizon_s']:g} s", *cells)
    CONSOLE.print(table)
    write_open_loop_page(plot, records, dataset.scene, f"ground eval-model {' '.join(map(str, models))} --data {data}")
    CONSOLE.print(f"plot: {plot.resolve()}", soft_wrap=True)


def _print_settling_errors(models: Mapping[str, LearnedModel], dataset: Dataset, windows: int) -> None:
    """Print the errors of models of skills, which predict one skill in one step."""
    test_windows = SpatialWindows(dataset.episodes(), dataset.scene)
    table = Table("model", "moved", "error mm", "share of way", "within tolerance", "AUROC stands", "violation")
    for name, model in models.items():
        if not isinstance(model, SpatialGraph):
            raise GroundError(f"{name} predicts no settling of bodies: models of skills are 'spatial-graph'")
        error = measure_settling_error(model, test_windows, windows)
        cells = (
            f"{error.n} by {1e3 * error.settled_m_median:.0f} mm",
            f"{error.body_mm_median:.1f}",
            f"{error.body_relative_median:.1%}",
        )
        rates = (f"{error.within_tolerance:.1%}", f"{error.standing_auroc:.3f}", f"{error.violation_auroc:.3f}")
        table.add_row(name, *cells, *rates)
    CONSOLE.print(table)
