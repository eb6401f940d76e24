"""collect → train → plan in unseen spaces → compare → report; a finished step is left as it is, a broken one goes on."""

import importlib.metadata
import json
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.baselines import BaselineConfig, BaselineSpec
from agents.build import PlannerSpec
from agents.search import SearchConfig
from experiments.config import ExperimentConfig, ModelPlan
from experiments.evaluation import Arm, Trial, evaluate, trials_of
from experiments.ledger import LEDGER, cost, costs
from experiments.progress import bar
from experiments.report.build import build_report
from experiments.trainings import AgentTraining, ModelTraining, Training, train_all
from sim.collect import CollectConfig, collect
from sim.dataset import Dataset
from sim.errors import BadFile, GroundError
from sim.files import in_use, read_json, write_json
from sim.layout import Layout
from sim.scenes import scenes
from worldmodels.fidelity import as_rows, fidelity
from worldmodels.training import TrainConfig, load_checkpoint
from worldmodels.windows import Windows

PACKAGES = ("torch", "numpy", "pybullet", "gymnasium", "stable-baselines3", "pyarrow")


def run(config: ExperimentConfig, path: Path, workers: int, console: Console) -> Path:
    """The whole experiment in `path`; gives the report's path."""
    with in_use(path):
        _begin(config, path)
        steps = Steps(config, path, workers, console)
        steps.collect()
        steps.train()
        steps.evaluate()
        steps.measure_fidelity()
        return build_report(path, {arm.name: arm.factory for arm in steps.arms() if arm.model})


def _begin(config: ExperimentConfig, path: Path) -> None:
    """Save what will be run, or check that it is what was begun here."""
    wanted = json.loads(json.dumps(asdict(config)))
    file = path / "config.json"
    if file.exists():
        found = read_json(file)
        other = sorted(key for key in wanted if found.get(key) != wanted[key])
        if other:
            raise GroundError(f"{path} was begun with another {', '.join(other)}: choose another --out, or remove it")
        return
    write_json(file, wanted)
    write_json(path / "versions.json", versions())


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    return {"python": sys.version.split()[0], "machine": platform.machine(), "git": revision, **found}


class Steps:
    """The steps of one run, in the order in which they need each other."""

    def __init__(self, config: ExperimentConfig, path: Path, workers: int, console: Console) -> None:
        self._config, self._path, self._workers, self._console = config, path, workers, console

    def collect(self) -> None:
        """All data, with the models in between that some of it is collected with."""
        config = self._config
        for split in ("val", "test"):
            behaviours = tuple(config.held_out.items())
            self._collect(split, CollectConfig(config.scene, config.held_out_steps, config.seed, split, behaviours), None)
        planner = None
        for number, round_ in enumerate(config.rounds, 1):
            seed = config.seed + 1000 * number
            wanted = CollectConfig(
                config.scene,
                round_.steps,
                seed,
                "train",
                tuple(round_.behaviours.items()),
                config.variations,
                first_layout=10_000 * number,
            )
            self._collect(f"round-{number}", wanted, planner)
            if number < len(config.rounds):
                plan = ModelPlan("graph", TrainConfig(updates=round_.updates or 3000, lengths=(4, 8, 8), seed=config.seed))
                training = self._model_training(f"graph-round-{number}", plan, number)
                train_all([training], self._path / LEDGER, 1, self._console)
                planner = training.path

    def train(self) -> None:
        """The models and agents that are compared."""
        config = self._config
        models = [self._model_training(plan.name, plan, len(config.rounds)) for plan in config.models]
        agents = [
            AgentTraining(BaselineConfig(name, config.scene, config.baseline_steps, config.seed), self._path / "agents" / name)
            for name in config.baselines
        ]
        longest_first: list[Training] = [*models[:1], *agents, *models[1:]]
        train_all(longest_first, self._path / LEDGER, self._workers, self._console)

    def _model_training(self, name: str, plan: ModelPlan, rounds: int) -> ModelTraining:
        data = tuple(self._path / "data" / f"round-{number}" for number in range(1, rounds + 1))
        return ModelTraining(plan, data, self._path / "data" / "val", self._path / "models" / name)

    def _collect(self, name: str, wanted: CollectConfig, planner: Path | None) -> None:
        config = self._config
        spec = self._planner(planner, config.collecting) if planner else None
        with bar(self._console, f"collect {name}") as progress, cost(self._path / LEDGER / f"collect {name}.json", _cpu_s):
            collect(
                wanted,
                self._path / "data" / name,
                self._workers,
                extra={"planner": spec} if spec else {},
                tags={"planner": planner.name} if planner else {},
                progress=progress,
            )

    def evaluate(self) -> None:
        """The oracle last: it takes as long as all others together."""
        config = self._config
        last = [replace(self.oracle(), episodes=config.oracle)] if config.oracle else []
        for arms in (self.arms(), last):
            for split, count in config.episodes.items():
                trials = trials_of(config.name, scenes[config.scene], split, count, config.seed)
                for arm in arms:
                    with bar(self._console, f"{split}: {arm.name}") as progress:
                        evaluate(arm, trials[: arm.episodes], self._path / "results" / arm.name, self._workers, progress)

    def evaluate_layout(self, layout: Layout, oracle: bool) -> list[dict[str, Any]]:
        """Every arm once in a space of the user's own."""
        trial = Trial(self._config.name, self._config.scene, f"own-{layout.id}", 0, self._config.seed, layout)
        arms = [*self.arms(), self.oracle()] if oracle else self.arms()
        rows = []
        for arm in arms:
            with bar(self._console, f"{layout.name or layout.id}: {arm.name}") as progress:
                rows += evaluate(arm, [trial], self._path / "results" / arm.name, self._workers, progress)
        return rows

    def arms(self) -> list[Arm]:
        """Every contestant: random and scripted always, then planners, then SB3 agents."""
        return [make() for make in self._makers().values()]

    def arms_there(self) -> tuple[list[Arm], dict[str, str]]:
        """The contestants, and the oracle, of a run that may be unfinished or damaged; and why which are missing."""
        found, missing = [], dict[str, str]()
        for name, make in {**self._makers(), "oracle": self.oracle}.items():
            try:
                found.append(make())
            except (GroundError, OSError, KeyError, TypeError) as error:
                missing[name] = str(error)
        return found, missing

    def _makers(self) -> dict[str, Callable[[], Arm]]:
        config = self._config
        scripted = {name: partial(Arm, name, scenes[config.scene].behaviours[name]) for name in ("random", "scripted")}
        planners = {f"{plan.name}+{config.search}": partial(self._planning, plan) for plan in config.models}
        agents = {name: partial(self._agent, name) for name in config.baselines}
        return {**scripted, **planners, **agents}

    def _planning(self, plan: ModelPlan) -> Arm:
        config, ledger = self._config, costs(self._path)
        if not (self._path / "models" / plan.name / "best.json").exists():
            raise BadFile(f"{self._path / 'models' / plan.name} holds no trained model yet")
        rounds = [f"round-{number}" for number in range(1, len(config.rounds) + 1)]
        data = [Dataset.open(self._path / "data" / name) for name in [*rounds, "val"]]
        collecting = sum(ledger.get(f"collect {name}", 0.0) for name in rounds)
        collecting += sum(ledger.get(f"train graph-round-{number}", 0.0) for number in range(1, len(rounds)))
        return Arm(
            f"{plan.name}+{config.search}",
            self._planner(self._path / "models" / plan.name, config.planning, config.budget_s),
            plan.name,
            config.search,
            sum(dataset.steps for dataset in data[:-1]),
            collecting + ledger.get(f"train {plan.name}", 0.0),
            frozenset(layout for dataset in data for layout in dataset.layout_ids),
            plan.episodes,
            planning=config.planning,
            train_seed=plan.train.seed,
            data_bytes=sum(shard["bytes"] for dataset in data[:-1] for shard in dataset.manifest["shards"].values()),
            collect_cpu_s=collecting,
        )

    def _agent(self, name: str) -> Arm:
        path = self._path / "agents" / name
        return Arm(
            name,
            BaselineSpec(self._config.scene, str(path)),
            env_steps=read_json(path / "policy.json")["steps"],
            train_cpu_s=costs(self._path).get(f"train {name}", 0.0),
        )

    def _planner(self, model: Path, search: SearchConfig, budget_s: float | None = None) -> PlannerSpec:
        config = self._config
        return PlannerSpec(config.scene, str(model), config.search, search, budget_s, config.compiled)

    def oracle(self) -> Arm:
        config = self._config
        return Arm(
            "oracle", PlannerSpec(config.scene, "simulator", config.search, config.oracle_planning), "simulator", config.search
        )

    def measure_fidelity(self) -> None:
        file = self._path / "fidelity.json"
        if file.exists():
            return
        windows = Windows(Dataset.open(self._path / "data" / "test").episodes())
        rows = []
        for plan in self._config.models:
            rows += as_rows(fidelity(load_checkpoint(self._path / "models" / plan.name), windows))
        write_json(file, rows)


def _cpu_s() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )
