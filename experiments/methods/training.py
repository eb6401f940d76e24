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
from experiments.cache import Cache, files_in
from experiments.compute_costs import cost
from experiments.config.experiment import ModelPlan
from experiments.progress import Report, bars
from sim.data.store import STATE_COLUMNS, Dataset, Episode
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
    plan: ModelPlan
    data: tuple[Path, ...]
    validation: tuple[Path, ...]
    path: Path
    steps: int | None = None  # the first so many env steps of the data; None: all

    def __call__(self, report: Report) -> None:
        data, validation = ([Dataset.open(path) for path in paths] for paths in (self.data, self.validation))
        train_on(self.plan, data, validation, self.path, progress=report, steps=self.steps)

    def unbroken(self) -> bool:
        """Whether it would come out the same again: a model's goes on as if nothing had been."""
        return True

    def content(self) -> dict[str, Any]:
        """What comes out depends on this alone."""
        data = [Dataset.open(path).content_hash for path in (*self.data, *self.validation)]
        train = {**asdict(self.plan.train), "on_gpu": self.plan.train.uses_gpu}
        return {"model": self.plan.name, "train": train, "data": data, "steps": self.steps}


@dataclass(frozen=True)
class AgentTraining:
    config: BaselineConfig
    path: Path
    snapshots: tuple[int, ...] = ()
    imagined: ModelData | None = None

    def __call__(self, report: Report) -> None:
        train_baseline(self.config, self.path, report, self.snapshots, self.imagined)

    def unbroken(self) -> bool:
        """Whether it would come out the same again: what goes on meets other spaces."""
        return not read_json(self.path / "policy.json").get("resumed_at")

    def content(self) -> dict[str, Any]:
        """What comes out depends on this alone."""
        return {
            "agent": asdict(self.config),
            "snapshots": self.snapshots,
            "imagined": self.imagined and self.imagined.describe_content(),
        }


Training = ModelTraining | AgentTraining  # as data that a worker process can be given


def train_on(
    plan: ModelPlan,
    data: list[Dataset],
    validation: list[Dataset],
    path: Path,
    resume: bool = True,
    progress: Report = lambda *_: None,
    joint: bool = False,
    steps: int | None = None,
) -> None:
    """Train one model on datasets of the training split, or on their first `steps`: of one scene, or `joint` on several."""
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
        "data": [dataset.content_hash for dataset in data],
        "validation": [dataset.content_hash for dataset in validation],
        "env_steps": steps or sum(dataset.steps for dataset in data),
        "layouts": sorted(frozenset().union(*(dataset.layout_ids for dataset in [*data, *validation]))),
    }
    if resume and is_finished(path, plan.name, plan.train, facts):
        load_checkpoint(path)  # damaged, it is told
        return
    with plan.train.make_device_context():
        train(models[plan.name](), _windows(data, steps), _windows(validation), plan.train, path, facts, resume, progress)


def _windows(datasets: list[Dataset], steps: int | None = None) -> Windows | JointWindows:
    """Of all steps, or of the first ones of each scene."""
    parts = {
        scene: Windows(_first((one for dataset in datasets if dataset.scene == scene for one in dataset.episodes()), steps))
        for scene in {dataset.scene for dataset in datasets}
    }
    return JointWindows(parts) if len(parts) > 1 else next(iter(parts.values()))


def _first(episodes: Iterable[Episode], steps: int | None) -> Iterator[Episode]:
    """Episodes up to so many steps; the last one is cut short."""
    for episode in episodes:
        if steps is None or len(episode) <= steps:
            yield episode
        elif steps > 1:
            yield replace(episode, **{name: getattr(episode, name)[:steps] for name in STATE_COLUMNS})
        if steps is not None:
            steps -= min(steps, len(episode))
            if not steps:
                return


def train_all(
    trainings: Sequence[Training],
    ledger: Path,
    workers: int,
    console: Console,
    cache: Cache | None = None,
    ended: Callable[[Training, float], None] = lambda *_: None,
) -> None:
    """Each training in a worker of its own, with a progress bar; what one costs is added to its file in `ledger`. `ended` is
    told of each, and the seconds that it took."""
    costs = [ledger / f"train {training.path.name}.json" for training in trainings]
    if cache is not None:
        for training, file in zip(trainings, costs, strict=True):
            cache.fill(training.content(), training.path, file)
    with bars(console) as add:
        reports = [add(f"train {training.path.name}") for training in trainings]
        jobs = [(training, costs[number], number) for number, training in enumerate(trainings)]
        for number, took_s in run_jobs(_train, jobs, workers, lambda message: reports[message[0]](*message[1:])):
            if cache is not None and trainings[number].unbroken():
                cache.keep(trainings[number].content(), files_in(trainings[number].path), read_json(costs[number]))
            ended(trainings[number], took_s)


def _train(training: Training, ledger: Path, number: int) -> tuple[int, float]:
    began, told = time.monotonic(), 0.0

    def report(done: int, total: int, check: ValidationResult | None = None) -> None:
        nonlocal told
        went_on()
        if check is not None or done >= total or time.monotonic() - told > 0.25:
            told = time.monotonic()
            send_message((number, done, total, check))

    with cost(ledger) as went_on:
        training(report)
    return number, time.monotonic() - began
