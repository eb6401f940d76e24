"""Trainings of world models and SB3 agents: their places in a run, and the worker processes.

Each training runs on one thread.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from agents.learned.baselines import train_baseline
from agents.learned.config import MODEL_BASED, BaselineConfig, ModelData
from experiments.cache import Cache, list_files
from experiments.compute_costs import record_cost
from experiments.config.experiment import BaselineTrainingConfig, ExperimentConfig, ModelTrainingConfig, format_thousands
from experiments.evaluation.results import format_training_label
from experiments.progress import ProgressCallback, show_progress_bars
from sim.data.episode import Episode
from sim.data.store import STATE_COLUMNS, Dataset
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from sim.utils.files import read_json
from sim.utils.workers import run_jobs, send_message
from worldmodels.model import LearnedModel, models
from worldmodels.training.checkpoint import load_checkpoint
from worldmodels.training.loop import TrainConfig, ValidationResult, is_finished, train
from worldmodels.training.windows import EpisodeWindows, JointWindows

DEFAULT_ROUND_UPDATES = 3000  # of a model between two rounds
MESSAGE_INTERVAL_S = 0.25


@dataclass(frozen=True)
class ModelTraining:
    """Training of a world model; picklable."""

    config: ModelTrainingConfig
    data_paths: tuple[Path, ...]
    validation_paths: tuple[Path, ...]
    path: Path
    data_steps: int | None = None  # the first so many env steps of the data; None: all
    seed: int = 0  # of the experiment's train_seeds; the config's own seed contains it
    is_reproducible = True  # a resumed training equals one without a break

    def run(self, progress: ProgressCallback) -> None:
        """Train, from the last checkpoint on."""
        datasets = [Dataset.open(path) for path in self.data_paths]
        validation = [Dataset.open(path) for path in self.validation_paths]
        train_model(self.config, datasets, validation, self.path, progress=progress, data_steps=self.data_steps)

    def describe_content(self) -> dict[str, Any]:
        """Describe all that the trained model depends on."""
        data_hashes = [Dataset.open(path).content_hash for path in (*self.data_paths, *self.validation_paths)]
        train_settings = {**asdict(self.config.train), "on_gpu": self.config.train.uses_gpu}
        return {"model": self.config.name, "train": train_settings, "data": data_hashes, "steps": self.data_steps}


@dataclass(frozen=True)
class AgentTraining:
    """Training of an SB3 agent; picklable."""

    config: BaselineConfig
    path: Path
    snapshot_steps: tuple[int, ...] = ()
    model_data: ModelData | None = None
    method_name: str = ""
    seed: int = 0  # of the experiment's train_seeds; the config's own seed contains it

    def run(self, progress: ProgressCallback) -> None:
        """Train, from the last checkpoint on."""
        train_baseline(self.config, self.path, progress, self.snapshot_steps, self.model_data)

    @property
    def is_reproducible(self) -> bool:
        """True where it ran without a break: a resumed agent meets other layouts."""
        return not read_json(self.path / "policy.json").get("resumed_at")

    def describe_content(self) -> dict[str, Any]:
        """Describe all that the trained agent depends on."""
        model_data = self.model_data and self.model_data.describe_content()
        return {"agent": asdict(self.config), "snapshots": self.snapshot_steps, "imagined": model_data}


Training = ModelTraining | AgentTraining


def make_run_label(name: str, data_steps: int | None = None, seed: int = 0) -> str:
    """Make a training's label: name, amount of data if not all, seed if not the first."""
    return format_training_label(f"{name}-{format_thousands(data_steps)}" if data_steps else name, seed)


class TrainingGrid:
    """All trainings of an experiment in a run directory."""

    def __init__(self, config: ExperimentConfig, path: Path) -> None:
        self._config = config
        self._path = path
        self.round_paths = tuple(path / "data" / f"round-{number}" for number in range(1, len(config.rounds) + 1))
        self.validation_paths = (path / "data" / "val",)

    @property
    def model_trainings(self) -> list[ModelTraining]:
        """The trainings of every model on every amount of data with every seed."""
        config = self._config
        amounts = [None, *(steps for steps in config.data_steps if steps < config.collection_steps)]
        cases = product(amounts, config.train_seeds, config.models)
        return [self.make_model_training(model, seed, steps) for steps, seed, model in cases]

    @property
    def collection_trainings(self) -> list[ModelTraining]:
        """The trainings of the models that plan in rounds 2 and later."""
        return [self._make_collection_training(number) for number in range(1, len(self._config.rounds))]

    @property
    def agent_trainings(self) -> list[AgentTraining]:
        """The trainings of every agent with every seed."""
        config = self._config
        return [self._make_agent_training(baseline, seed) for baseline in config.baselines for seed in config.train_seeds]

    def make_model_training(self, model: ModelTrainingConfig, seed: int, data_steps: int | None = None) -> ModelTraining:
        """Make the training of a model on an amount of data; None: on all data."""
        config = replace(model, train=replace(model.train, seed=model.train.seed + seed))
        path = self._path / "models" / make_run_label(model.name, data_steps, seed)
        return ModelTraining(config, self.round_paths, self.validation_paths, path, data_steps, seed)

    def _make_collection_training(self, num_rounds: int) -> ModelTraining:
        config = self._config
        is_planar = scenes[config.scene].make_world is None
        name = "graph" if is_planar or not config.models else config.models[0].name
        settings = next((model.train for model in config.models if model.name == name), TrainConfig())
        updates = config.rounds[num_rounds - 1].updates or DEFAULT_ROUND_UPDATES
        lengths = (4, 8, 8) if is_planar else settings.lengths
        model = ModelTrainingConfig(name, replace(settings, updates=updates, lengths=lengths, seed=config.seed))
        path = self._path / "models" / f"{name}-round-{num_rounds}"
        return ModelTraining(model, self.round_paths[:num_rounds], self.validation_paths, path)

    def _make_agent_training(self, baseline: BaselineTrainingConfig, seed: int) -> AgentTraining:
        config = self._config
        is_model_based = baseline.name in MODEL_BASED
        steps = baseline.steps or config.baseline_steps
        has_snapshots = not baseline.steps and not is_model_based
        snapshots = tuple(step for step in config.data_steps if step < steps) if has_snapshots else ()
        model_data = None
        if is_model_based:
            model_data = ModelData(self.make_model_training(config.models[0], seed).path, self.round_paths)
        path = self._path / "agents" / format_training_label(baseline.method_name, seed)
        agent = BaselineConfig(baseline.name, config.scene, steps, config.seed + seed, variations=config.variations)
        return AgentTraining(agent, path, snapshots, model_data, baseline.method_name, seed)


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
    """Train one model on datasets of the training split.

    Args:
        validation_datasets: select the best checkpoint; of the same scenes.
        is_joint: the datasets may be of several scenes.
        data_steps: train on the first so many env steps of each scene; None: all.

    Raises:
        GroundError: a dataset is of another split or scene.
    """
    for dataset in datasets:
        if dataset.manifest["split"] != "train":
            raise GroundError(f"{dataset.path} is of split '{dataset.manifest['split']}': models train on 'train' alone")
        if dataset.scene != datasets[0].scene and not is_joint:
            raise GroundError(f"{dataset.path} is of {dataset.scene}, not of {datasets[0].scene}: --scene all takes several")
    scene_names = sorted({dataset.scene for dataset in datasets})
    validation_names = sorted({dataset.scene for dataset in validation_datasets})
    if validation_names != scene_names:
        message = f"validation is on {', '.join(validation_names)}, training on {', '.join(scene_names)}"
        raise GroundError(f"{message}: the same scenes are needed")
    torch.manual_seed(config.train.seed)
    metadata = {
        "scene": scene_names if is_joint else scene_names[0],
        "data": [dataset.content_hash for dataset in datasets],
        "validation": [dataset.content_hash for dataset in validation_datasets],
        "env_steps": data_steps or sum(dataset.steps for dataset in datasets),
        "layouts": sorted(frozenset().union(*(dataset.layout_ids for dataset in [*datasets, *validation_datasets]))),
    }
    if resume and is_finished(path, config.name, config.train, metadata):
        load_checkpoint(path)  # raises BadFile where it is damaged
        return
    model_class = models[config.name]
    with config.train.make_device_context():
        windows = _make_windows(model_class, datasets, data_steps)
        validation_windows = _make_windows(model_class, validation_datasets)
        train(model_class(), windows, validation_windows, config.train, path, metadata, resume, progress)


def _make_windows(
    model: type[LearnedModel], datasets: list[Dataset], data_steps: int | None = None
) -> EpisodeWindows | JointWindows:
    """Make the windows of all steps, or of the first ones of each scene."""
    parts: dict[str, EpisodeWindows] = {}
    for scene in sorted({dataset.scene for dataset in datasets}):
        episodes = (episode for dataset in datasets if dataset.scene == scene for episode in dataset.episodes())
        parts[scene] = model.make_windows(_take_first_steps(episodes, data_steps or sys.maxsize), scene)
    return JointWindows(parts) if len(parts) > 1 else next(iter(parts.values()))


def _take_first_steps(episodes: Iterable[Episode], num_steps: int) -> Iterator[Episode]:
    """Yield episodes up to a number of steps; the last one is cut short."""
    for episode in episodes:
        if len(episode) <= num_steps:
            yield episode
        elif num_steps > 1:
            columns = ((name, getattr(episode, name)) for name in STATE_COLUMNS)
            first: dict[str, Any] = {name: None if rows is None else rows[:num_steps] for name, rows in columns}
            yield replace(episode, **first)
        num_steps -= len(episode)
        if num_steps <= 0:
            return


def train_all(
    trainings: Sequence[Training],
    costs_path: Path,
    workers: int,
    console: Console,
    cache: Cache | None = None,
    on_end: Callable[[str, float], None] = lambda *_: None,
) -> None:
    """Run each training in a worker process, with a progress bar, or restore it from the cache.

    Args:
        costs_path: directory of compute costs, to which each training adds its own.
        on_end: called with the name of each training's step and its duration [s].
    """
    names = [f"train {training.path.name}" for training in trainings]
    cost_files = [costs_path / f"{name}.json" for name in names]
    if cache is not None:
        for training, cost_file in zip(trainings, cost_files, strict=True):
            cache.restore_directory(training.describe_content(), training.path, cost_file)
    with show_progress_bars(console) as add_bar:
        callbacks = list(map(add_bar, names))
        jobs = list(zip(range(len(trainings)), trainings, cost_files, strict=True))
        for index, duration_s in run_jobs(_run_training, jobs, workers, lambda message: callbacks[message[0]](*message[1:])):
            training = trainings[index]
            if cache is not None and training.is_reproducible:
                cache.store(training.describe_content(), list_files(training.path), read_json(cost_files[index]))
            on_end(names[index], duration_s)


def _run_training(index: int, training: Training, cost_file: Path) -> tuple[int, float]:
    start_s = time.monotonic()
    last_message_s = 0.0

    def report_progress(done: int, total: int, validation: ValidationResult | None = None) -> None:
        nonlocal last_message_s
        mark_progress()
        if validation is not None or done >= total or time.monotonic() - last_message_s > MESSAGE_INTERVAL_S:
            last_message_s = time.monotonic()
            send_message((index, done, total, validation))

    with record_cost(cost_file) as mark_progress:
        training.run(report_progress)
    return index, time.monotonic() - start_s
