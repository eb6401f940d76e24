"""Everything that is trained: world models and SB3 agents, side by side in worker processes, each on one thread."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from agents.learned.baselines import train_baseline
from agents.learned.config import BaselineConfig, ModelData
from experiments.cache import Cache, list_files
from experiments.compute_costs import record_cost
from experiments.config.experiment import ModelTrainingConfig
from experiments.progress import ProgressCallback, show_progress_bars
from sim.data.episode import Episode
from sim.data.store import STATE_COLUMNS, Dataset
from sim.utils.errors import GroundError
from sim.utils.files import read_json
from sim.utils.workers import run_jobs, send_message
from worldmodels.model import models
from worldmodels.training.checkpoint import load_checkpoint
from worldmodels.training.joint import JointWindows
from worldmodels.training.loop import ValidationResult, is_finished, train
from worldmodels.training.windows import Windows


@dataclass(frozen=True)
class ModelTraining:
    config: ModelTrainingConfig
    data_paths: tuple[Path, ...]
    validation_paths: tuple[Path, ...]
    path: Path
    data_steps: int | None = None  # the first so many env steps of the data; None: all

    def __call__(self, progress: ProgressCallback) -> None:
        datasets, validation_datasets = (
            [Dataset.open(path) for path in paths] for paths in (self.data_paths, self.validation_paths)
        )
        train_model(self.config, datasets, validation_datasets, self.path, progress=progress, data_steps=self.data_steps)

    def is_reproducible(self) -> bool:
        """Whether it would come out the same again: a model's goes on as if nothing had been."""
        return True

    def describe_content(self) -> dict[str, Any]:
        """What comes out depends on this alone."""
        data_hashes = [Dataset.open(path).content_hash for path in (*self.data_paths, *self.validation_paths)]
        train_settings = {**asdict(self.config.train), "on_gpu": self.config.train.uses_gpu}
        return {"model": self.config.name, "train": train_settings, "data": data_hashes, "steps": self.data_steps}


@dataclass(frozen=True)
class AgentTraining:
    config: BaselineConfig
    path: Path
    snapshot_steps: tuple[int, ...] = ()
    model_data: ModelData | None = None

    def __call__(self, progress: ProgressCallback) -> None:
        train_baseline(self.config, self.path, progress, self.snapshot_steps, self.model_data)

    def is_reproducible(self) -> bool:
        """Whether it would come out the same again: what goes on meets other spaces."""
        return not read_json(self.path / "policy.json").get("resumed_at")

    def describe_content(self) -> dict[str, Any]:
        """What comes out depends on this alone."""
        return {
            "agent": asdict(self.config),
            "snapshots": self.snapshot_steps,
            "imagined": self.model_data and self.model_data.describe_content(),
        }


Training = ModelTraining | AgentTraining  # as data that a worker process can be given


def train_model(
    config: ModelTrainingConfig,
    datasets: list[Dataset],
    validation_datasets: list[Dataset],
    path: Path,
    resume: bool = True,
    progress: ProgressCallback = lambda *_: None,
    is_joint: bool = False,
    data_steps: int | None = None,
) -> None:
    """Train one model on datasets of the training split, or on their first `steps`: of one scene, or `joint` on several."""
    for dataset in datasets:
        if dataset.manifest["split"] != "train":
            raise GroundError(
                f"{dataset.path} was collected in the split '{dataset.manifest['split']}': models train on 'train' alone"
            )
        if dataset.scene != datasets[0].scene and not is_joint:
            raise GroundError(
                f"{dataset.path} is of scene '{dataset.scene}', not '{datasets[0].scene}': --scene all takes several"
            )
    scenes, validation_scenes = (
        sorted({dataset.scene for dataset in dataset_group}) for dataset_group in (datasets, validation_datasets)
    )
    if validation_scenes != scenes:
        raise GroundError(
            f"validation is on {', '.join(validation_scenes)}, training on {', '.join(scenes)}: the same scenes are needed"
        )
    torch.manual_seed(config.train.seed)
    metadata = {
        "scene": scenes if is_joint else scenes[0],
        "data": [dataset.content_hash for dataset in datasets],
        "validation": [dataset.content_hash for dataset in validation_datasets],
        "env_steps": data_steps or sum(dataset.steps for dataset in datasets),
        "layouts": sorted(frozenset().union(*(dataset.layout_ids for dataset in [*datasets, *validation_datasets]))),
    }
    if resume and is_finished(path, config.name, config.train, metadata):
        load_checkpoint(path)  # damaged, it is told
        return
    with config.train.make_device_context():
        train(
            models[config.name](),
            _make_windows(datasets, data_steps),
            _make_windows(validation_datasets),
            config.train,
            path,
            metadata,
            resume,
            progress,
        )


def _make_windows(datasets: list[Dataset], data_steps: int | None = None) -> Windows | JointWindows:
    """Of all steps, or of the first ones of each scene."""
    windows_by_scene = {
        scene: Windows(
            _take_first_steps(
                (episode for dataset in datasets if dataset.scene == scene for episode in dataset.episodes()), data_steps
            )
        )
        for scene in {dataset.scene for dataset in datasets}
    }
    return JointWindows(windows_by_scene) if len(windows_by_scene) > 1 else next(iter(windows_by_scene.values()))


def _take_first_steps(episodes: Iterable[Episode], num_steps: int | None) -> Iterator[Episode]:
    """Episodes up to so many steps; the last one is cut short."""
    for episode in episodes:
        if num_steps is None or len(episode) <= num_steps:
            yield episode
        elif num_steps > 1:
            yield replace(episode, **{name: getattr(episode, name)[:num_steps] for name in STATE_COLUMNS})
        if num_steps is not None:
            num_steps -= min(num_steps, len(episode))
            if not num_steps:
                return


def train_all(
    trainings: Sequence[Training],
    costs_path: Path,
    workers: int,
    console: Console,
    cache: Cache | None = None,
    on_end: Callable[[Training, float], None] = lambda *_: None,
) -> None:
    """Each training in a worker of its own, with a progress bar; what one costs is added to its file in `ledger`. `ended` is
    told of each, and the seconds that it took."""
    cost_files = [costs_path / f"train {training.path.name}.json" for training in trainings]
    if cache is not None:
        for training, cost_file in zip(trainings, cost_files, strict=True):
            cache.restore_directory(training.describe_content(), training.path, cost_file)
    with show_progress_bars(console) as add_bar:
        callbacks = [add_bar(f"train {training.path.name}") for training in trainings]
        jobs = [(training, cost_files[training_index], training_index) for training_index, training in enumerate(trainings)]
        for training_index, duration_s in run_jobs(
            _run_training, jobs, workers, lambda message: callbacks[message[0]](*message[1:])
        ):
            if cache is not None and trainings[training_index].is_reproducible():
                cache.store(
                    trainings[training_index].describe_content(),
                    list_files(trainings[training_index].path),
                    read_json(cost_files[training_index]),
                )
            on_end(trainings[training_index], duration_s)


def _run_training(training: Training, cost_file: Path, training_index: int) -> tuple[int, float]:
    start_s, last_message_s = time.monotonic(), 0.0

    def report_progress(done: int, total: int, validation: ValidationResult | None = None) -> None:
        nonlocal last_message_s
        mark_progress()
        if validation is not None or done >= total or time.monotonic() - last_message_s > 0.25:
            last_message_s = time.monotonic()
            send_message((training_index, done, total, validation))

    with record_cost(cost_file) as mark_progress:
        training(report_progress)
    return training_index, time.monotonic() - start_s
