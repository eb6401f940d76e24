"""Everything that is trained: world models and SB3 agents, side by side in worker processes, each on one thread."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from agents.baselines import BaselineConfig, train_baseline
from experiments.config import ModelPlan
from experiments.ledger import cost
from experiments.progress import Report, bars
from sim.dataset import Dataset
from sim.errors import GroundError
from sim.workers import finished, tell
from worldmodels.model import models
from worldmodels.training import Check, train
from worldmodels.windows import Windows


@dataclass(frozen=True)
class ModelTraining:
    plan: ModelPlan
    data: tuple[Path, ...]
    validation: Path
    path: Path

    def __call__(self, report: Report) -> None:
        data = [Dataset.open(path) for path in self.data]
        train_on(self.plan, data, Dataset.open(self.validation), self.path, progress=report)


@dataclass(frozen=True)
class AgentTraining:
    config: BaselineConfig
    path: Path

    def __call__(self, report: Report) -> None:
        train_baseline(self.config, self.path, report)


Training = ModelTraining | AgentTraining  # as data that a worker process can be given


def train_on(
    plan: ModelPlan, data: list[Dataset], validation: Dataset, path: Path, resume: bool = True, progress: Report = lambda *_: None
) -> None:
    """Train one model on datasets of the training split."""
    for dataset in data:
        if dataset.manifest["split"] != "train":
            raise GroundError(
                f"{dataset.path} was collected in the split '{dataset.manifest['split']}': models train on 'train' alone"
            )
        if dataset.scene != data[0].scene:
            raise GroundError(f"{dataset.path} is of scene '{dataset.scene}', not '{data[0].scene}'")
    torch.manual_seed(plan.train.seed)
    facts = {"scene": data[0].scene, "data": [dataset.digest for dataset in data]}
    windows = Windows(episode for dataset in data for episode in dataset.episodes())
    train(models[plan.name](), windows, Windows(validation.episodes()), plan.train, path, facts, resume, progress)


def train_all(trainings: Sequence[Training], ledger: Path, workers: int, console: Console) -> None:
    """Each training in a worker of its own, with a progress bar; what one costs is added to its file in `ledger`."""
    with bars(console) as add:
        reports = [add(f"train {training.path.name}") for training in trainings]
        jobs = [(training, ledger / f"train {training.path.name}.json", number) for number, training in enumerate(trainings)]
        for _ in finished(_train, jobs, workers, lambda message: reports[message[0]](*message[1:])):
            pass


def _train(training: Training, ledger: Path, number: int) -> None:
    told = 0.0

    def report(done: int, total: int, check: Check | None = None) -> None:
        nonlocal told
        if check is not None or done >= total or time.monotonic() - told > 0.25:
            told = time.monotonic()
            tell((number, done, total, check))

    with cost(ledger, time.process_time):
        training(report)
