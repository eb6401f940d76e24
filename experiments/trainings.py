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
from worldmodels.joint import JointWindows
from worldmodels.model import models
from worldmodels.training import Check, train
from worldmodels.windows import Windows


@dataclass(frozen=True)
class ModelTraining:
    plan: ModelPlan
    data: tuple[Path, ...]
    validation: tuple[Path, ...]
    path: Path

    def __call__(self, report: Report) -> None:
        data, validation = ([Dataset.open(path) for path in paths] for paths in (self.data, self.validation))
        train_on(self.plan, data, validation, self.path, progress=report)


@dataclass(frozen=True)
class AgentTraining:
    config: BaselineConfig
    path: Path

    def __call__(self, report: Report) -> None:
        train_baseline(self.config, self.path, report)


Training = ModelTraining | AgentTraining  # as data that a worker process can be given


def train_on(
    plan: ModelPlan,
    data: list[Dataset],
    validation: list[Dataset],
    path: Path,
    resume: bool = True,
    progress: Report = lambda *_: None,
    joint: bool = False,
) -> None:
    """Train one model on datasets of the training split: of one scene, or `joint` on several."""
    for dataset in data:
        if dataset.manifest["split"] != "train":
            raise GroundError(
                f"{dataset.path} was collected in the split '{dataset.manifest['split']}': models train on 'train' alone"
            )
        if dataset.scene != data[0].scene and not joint:
            raise GroundError(f"{dataset.path} is of scene '{dataset.scene}', not '{data[0].scene}': --scene all takes several")
    scenes, judged = (sorted({dataset.scene for dataset in of}) for of in (data, validation))
    if judged != scenes:
        raise GroundError(f"validation is on {', '.join(judged)}, training on {', '.join(scenes)}: the same scenes are needed")
    torch.manual_seed(plan.train.seed)
    facts = {
        "scene": scenes if joint else scenes[0],
        "data": [dataset.digest for dataset in data],
        "env_steps": sum(dataset.steps for dataset in data),
        "layouts": sorted(frozenset().union(*(dataset.layout_ids for dataset in [*data, *validation]))),
    }
    model = models[plan.name]()
    train(model, _windows(data), _windows(validation), plan.train, path, facts, resume, progress)


def _windows(datasets: list[Dataset]) -> Windows | JointWindows:
    parts = {
        scene: Windows(episode for dataset in datasets if dataset.scene == scene for episode in dataset.episodes())
        for scene in {dataset.scene for dataset in datasets}
    }
    return JointWindows(parts) if len(parts) > 1 else next(iter(parts.values()))


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
