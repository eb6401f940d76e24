"""collect → train → plan in unseen spaces → compare → report; a finished step is left as it is, a broken one goes on."""

import importlib.metadata
import math
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial, reduce
from operator import or_
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.baselines import IMAGINING, BaselineConfig, BaselineSpec, Imagined, snapshot_path
from agents.build import FORESEEN, PlannerSpec
from agents.search import SearchConfig
from experiments.cache import Cache, files_in, ground
from experiments.config import BaselinePlan, ExperimentConfig, ModelPlan, config_of, thousands
from experiments.evaluation import Arm, Trial, evaluate, label, trials_of
from experiments.ledger import LEDGER, cost, costs
from experiments.progress import Whole, bar
from experiments.report.build import build_report
from experiments.trainings import AgentTraining, ModelTraining, Training, train_all
from sim.collect import CollectConfig, collect
from sim.dataset import Dataset
from sim.errors import BadFile, GroundError, UnknownName
from sim.files import digest, in_use, read_json, write_json
from sim.layout import Layout
from sim.scenes import scenes
from worldmodels.fidelity import Steady, as_rows, fidelity
from worldmodels.training import TrainConfig, load_checkpoint
from worldmodels.windows import Windows

SHARD_STEPS = 2000
GUESTS = "guests.json"  # models from elsewhere that plan in a run, by name
COLLECTING, PLANNING, UPDATE = 0.0014, 0.0155, 0.12  # a step, one of which the half is planned, an update [s]
EPISODE, UNPLANNED_EPISODE, ORACLE_EPISODE = 12.0, 0.5, 200.0  # [s]
STEP = {"sac": 0.018, "ppo": 0.0022, "dyna": 0.003}  # of training agents [s]
SINCE = "gone on with"  # in a run's versions: what changed each time that it was
PACKAGES = ("torch", "numpy", "pybullet", "gymnasium", "stable-baselines3", "pyarrow")


def run(config: ExperimentConfig, path: Path, workers: int, console: Console, cache: Cache | None = None) -> Path:
    """The whole experiment in `path`; gives the report's path. What `cache` holds of it is not made again."""
    with in_use(path):
        _begin(config, path, console)
        if cache is not None and SINCE in read_json(path / "versions.json"):
            cache = cache.closed()  # what others made here must not pass for what this code makes
        steps = Steps(config, path, workers, console, cache)
        steps.collect()
        steps.train()
        steps.evaluate()
        steps.measure_fidelity()
        planners = {arm.label: arm.factory for arm in steps.arms() if arm.model}
        with bar(console, "report") as progress:
            return build_report(path, planners, progress)


def _begin(config: ExperimentConfig, path: Path, console: Console) -> None:
    """Save what will be run, or check that it is what was begun here. Code and libraries can have changed since: a run of both is
    gone on with, but it says so, here and in its report."""
    file = path / "config.json"
    if file.exists():
        found, wanted = asdict(config_of(path)), asdict(config)
        other = sorted(key for key in wanted if found[key] != wanted[key])
        if other:
            raise GroundError(f"{path} was begun with another {', '.join(other)}: choose another --out, or remove it")
        _go_on(path, console)
        return
    write_json(file, asdict(config))
    write_json(path / "versions.json", versions())


def _go_on(path: Path, console: Console) -> None:
    """Note with what else than before a run goes on."""
    file = path / "versions.json"
    before = read_json(file) if file.exists() else {}
    since = before.get(SINCE, [])
    last = reduce(or_, since, before)
    if now := {name: version for name, version in versions().items() if last.get(name) != version}:
        write_json(file, {**before, SINCE: [*since, now]})
        changed = ", ".join(f"{name} {last.get(name, 'unknown')} before, {version} now" for name, version in now.items())
        console.print(
            f"[yellow]{path} was begun with other versions ({changed}): what is finished stays as it is[/]", soft_wrap=True
        )


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    code = ground()["code"][:12]  # tells what a revision does not: edits
    return {"python": sys.version.split()[0], "machine": platform.machine(), "git": revision, "code": code, **found}


@dataclass(frozen=True)
class Fit:
    """One model to train: which, on how much of the data, with which seed."""

    plan: ModelPlan
    seed: int
    steps: int | None = None  # None: all

    @property
    def name(self) -> str:
        return _labelled(self.plan.name, self.steps, self.seed)

    @property
    def seeded(self) -> ModelPlan:
        return replace(self.plan, train=replace(self.plan.train, seed=self.plan.train.seed + self.seed))


class Steps:
    """The steps of one run, in the order in which they need each other."""

    def __init__(
        self,
        config: ExperimentConfig,
        path: Path,
        workers: int,
        console: Console,
        cache: Cache | None = None,
        chosen: Sequence[str] = (),
    ) -> None:
        """chosen: arms that play, by name; none: all."""
        self._config, self._path, self._workers, self._console, self._cache = config, path, workers, console, cache
        self._chosen = chosen
        self._whole = Whole(console, self._cells(), workers)

    def _cells(self) -> dict[str, float]:
        """Everything that is to be done, with about the core-seconds that it takes (measured on "tote-push")."""
        config = self._config
        cells = {f"collect {split}": COLLECTING * config.held_out_steps for split in ("val", "test")}
        for number, round_ in enumerate(config.rounds, 1):
            cells[f"collect round-{number}"] = (PLANNING if number > 1 else COLLECTING) * round_.steps
            if number < len(config.rounds):
                cells[f"train graph-round-{number}"] = UPDATE * (round_.updates or 3000)
        cells |= {f"train {fit.name}": UPDATE * fit.plan.train.updates for fit in self._fits()}
        for plan in config.baselines:
            for seed in config.train_seeds:
                training = self._agent_training(plan, seed)
                cells[f"train {training.path.name}"] = STEP.get(plan.name, STEP["sac"]) * training.config.steps
        seconds = {arm: EPISODE if "+" in arm else UNPLANNED_EPISODE for arm in self._makers()}
        for split, count in config.episodes.items():
            cells |= {f"{split}: {arm}": each * count for arm, each in seconds.items()}
            cells |= {f"{split}: {arm}": ORACLE_EPISODE * min(count, most) for arm, most in config.oracles.items() if most}
        return cells

    def collect(self) -> None:
        """All data, with the models in between that some of it is collected with."""
        config = self._config
        for split in ("val", "test"):
            behaviours = tuple(config.held_out.items())
            steps = config.held_out_steps
            held_out = CollectConfig(config.scene, steps, config.seed, split, behaviours, shard_steps=min(SHARD_STEPS, steps))
            self._collect(split, held_out, None)
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
                min(SHARD_STEPS, round_.steps),
                first_layout=10_000 * number,
            )
            self._collect(f"round-{number}", wanted, planner)
            if number < len(config.rounds):
                usual = next((plan.train for plan in config.models if plan.name == "graph"), TrainConfig())
                plan = ModelPlan("graph", replace(usual, updates=round_.updates or 3000, lengths=(4, 8, 8), seed=config.seed))
                training = self._model_training(f"graph-round-{number}", plan, number)
                self._train([training], 1)
                planner = training.path

    def train(self) -> None:
        """The models and agents that are compared; those that learn in a model when it is there."""
        models = [self._model_training(fit.name, fit.seeded, len(self._config.rounds), fit.steps) for fit in self._fits()]
        agents = {
            plan: [self._agent_training(plan, seed) for seed in self._config.train_seeds] for plan in self._config.baselines
        }
        first = [training for plan, trainings in agents.items() if plan.name not in IMAGINING for training in trainings]
        longest_first: list[Training] = [*models[:1], *first, *models[1:]]
        self._train(longest_first, self._workers)
        self._train([one for plan, own in agents.items() if plan.name in IMAGINING for one in own], self._workers)

    def _train(self, trainings: Sequence[Training], workers: int) -> None:
        def ended(training: Training, took_s: float) -> None:
            self._whole.done(f"train {training.path.name}", took_s)

        train_all(trainings, self._path / LEDGER, workers, self._console, self._cache, ended)

    def _fits(self) -> list[Fit]:
        config = self._config
        amounts = [None, *(steps for steps in config.data_steps if steps < config.steps)]
        return [Fit(plan, seed, steps) for steps in amounts for seed in config.train_seeds for plan in config.models]

    def _model_training(self, name: str, plan: ModelPlan, rounds: int, steps: int | None = None) -> ModelTraining:
        data = tuple(self._path / "data" / f"round-{number}" for number in range(1, rounds + 1))
        return ModelTraining(plan, data, (self._path / "data" / "val",), self._path / "models" / name, steps)

    def _agent_training(self, plan: BaselinePlan, seed: int) -> AgentTraining:
        config, imagined = self._config, None
        steps = plan.steps or config.baseline_steps
        snapshots = () if plan.steps or plan.name in IMAGINING else tuple(at for at in config.data_steps if at < steps)
        if plan.name in IMAGINING:
            model = self._path / "models" / _labelled(config.models[0].name, None, seed)
            imagined = Imagined(model, tuple(self._path / "data" / f"round-{n}" for n in range(1, len(config.rounds) + 1)))
        path = self._path / "agents" / _labelled(plan.arm, None, seed)
        agent = BaselineConfig(plan.name, config.scene, steps, config.seed + seed, variations=config.variations)
        return AgentTraining(agent, path, snapshots, imagined)

    def _collect(self, name: str, wanted: CollectConfig, planner: Path | None) -> None:
        config = self._config
        spec = replace(self._planner(planner, config.search, config.collecting), scene=config.scene) if planner else None
        to, ledger = self._path / "data" / name, self._path / LEDGER / f"collect {name}.json"
        cell = {"collect": asdict(wanted), "planner": spec and spec.content()}
        if self._cache:
            self._cache.fill(cell, to, ledger)
        with bar(self._console, f"collect {name}") as progress, cost(ledger, _cpu_s):
            collect(
                wanted,
                to,
                self._workers,
                extra={"planner": spec} if spec else {},
                tags={"planner": planner.name} if planner else {},
                progress=progress,
            )
        if self._cache:
            self._cache.keep(cell, files_in(to), read_json(ledger))
        self._whole.done(f"collect {name}")

    def evaluate(self) -> None:
        """The oracles last: they take as long as all others together."""
        config = self._config
        for arms in (self.arms(), self._oracles()):
            for split, count in config.episodes.items():
                trials = trials_of(config.name, config.played, split, count, config.seed)
                for arm in arms:
                    with bar(self._console, f"{split}: {arm.label}") as progress:
                        to = self._path / "results" / arm.name
                        evaluate(arm, trials[: arm.episodes], to, self._workers, progress, self._cache)
                    self._whole.done(f"{split}: {arm.label}")

    def evaluate_layout(self, layout: Layout) -> list[dict[str, Any]]:
        """Every arm once in a space of the user's own."""
        trial = Trial(self._config.name, self._config.played.name, f"own-{layout.id}", 0, self._config.seed, layout)
        rows = []
        for arm in (*self.arms(), *self._oracles()):
            with bar(self._console, f"{layout.name or layout.id}: {arm.label}") as progress:
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
        """How each arm is made, by its label: of those chosen, all trainings, and random and scripted besides."""
        makers = self._all_makers()
        named = {label: label.partition("@")[0] for label in makers}
        for name in self._chosen:
            if name not in named.values():
                raise UnknownName("arm", name, named.values())
        wanted = {"random", "scripted", *(self._chosen or named.values())}
        return {label: make for label, make in makers.items() if named[label] in wanted}

    def _all_makers(self) -> dict[str, Callable[[], Arm]]:
        config = self._config
        makers: dict[str, Callable[[], Arm]] = {
            name: partial(Arm, name, scenes[config.scene].behaviours[name], content={"behaviour": name})
            for name in ("random", "scripted")
        }
        for fit in self._fits():
            for search in fit.plan.searches or config.searches or (config.search,):
                if fit.steps is None or search == config.search:
                    name = _labelled(f"{fit.plan.name}+{search}", fit.steps, fit.seed)
                    makers[name] = partial(self._planning, fit, search)
        for assumption in config.assumptions:
            fit = Fit(config.models[0], config.train_seeds[0])
            makers[f"{assumption}+{config.search}"] = partial(self._planning, fit, config.search, assumption)
        for name, guest in self._guests().items():
            makers[f"{name}+{config.search}"] = partial(self._visiting, name, guest)
        for plan in config.baselines:
            for seed in config.train_seeds:
                training = self._agent_training(plan, seed)
                for at in (None, *training.snapshots):
                    makers[_labelled(plan.arm, at, seed)] = partial(self._agent, plan, seed, at)
        return makers

    def _planning(self, fit: Fit, search: str, traffic: str = FORESEEN) -> Arm:
        config, model = self._config, self._path / "models" / fit.name
        if not (model / "best.json").exists():
            raise BadFile(f"{model} holds no trained model yet")
        spec = replace(self._planner(model, search, config.planning, config.budget_s), traffic=traffic)
        method = f"{traffic}+{search}" if traffic != FORESEEN else f"{fit.plan.name}+{search}"
        spent = self._spent(fit)
        return Arm(
            _labelled(method, fit.steps),
            spec,
            fit.plan.name,
            search,
            seen=self._seen(),
            episodes=fit.plan.episodes,
            method=method,
            planning=config.planning,
            train_seed=fit.seed,
            together=config.together if spec.joins else 1,
            content=spec.content(),
            **spent,
        )

    def invite(self, models: Sequence[Path]) -> None:
        """Let models from elsewhere plan beside the run's own from now on, called by their directories' names."""
        guests, own = self._guests(), [plan.name for plan in self._config.models]
        for path in models:
            load_checkpoint(path, self._config.scene)
            guest = {"path": str(path.resolve()), "weights": digest(path / "best.safetensors")}
            if path.name in own or guests.get(path.name, guest) != guest:
                raise GroundError(f"{self._path} has another model called {path.name}: rename the directory {path}")
            guests[path.name] = guest
        if models:
            write_json(self._path / GUESTS, guests)

    def _guests(self) -> dict[str, dict[str, str]]:
        """By name, where each lies and what its weights were when it came: trained again, it is another."""
        return dict(read_json(self._path / GUESTS)) if (self._path / GUESTS).exists() else {}

    def _visiting(self, name: str, guest: dict[str, str]) -> Arm:
        """A model that was trained elsewhere; the seconds are of its training alone."""
        path = Path(guest["path"])
        if digest(path / "best.safetensors") != guest["weights"]:
            raise GroundError(f"{path} was trained on since it came to {self._path}: bring it under another name")
        about = read_json(path / "best.json")
        if "layouts" not in about:
            raise GroundError(f"{path} does not say in which layouts it was trained: train it again")
        search, planning = self._config.search, self._config.planning
        spec = self._planner(path, search, planning, self._config.budget_s)
        seen, (steps, seconds) = frozenset(about["layouts"]), (about["env_steps"], about["seconds"])
        together = self._config.together if spec.joins else 1
        return Arm(
            f"{name}+{search}",
            spec,
            name,
            search,
            steps,
            seconds,
            seen,
            planning=planning,
            together=together,
            content=spec.content(),
        )

    def _spent(self, fit: Fit) -> dict[str, Any]:
        """Data and CPU-seconds that went into a model: of data in part, the part."""
        ledger, left = costs(self._path), fit.steps or math.inf
        steps, data_bytes, collecting = 0, 0.0, 0.0
        for number in range(1, len(self._config.rounds) + 1):
            dataset = Dataset.open(self._path / "data" / f"round-{number}")
            share = min(1.0, left / dataset.steps)
            if left <= 0:
                break
            if number > 1:
                collecting += ledger.get(f"train graph-round-{number - 1}", 0.0)
            steps += round(share * dataset.steps)
            data_bytes += share * sum(shard["bytes"] for shard in dataset.manifest["shards"].values())
            collecting += share * ledger.get(f"collect round-{number}", 0.0)
            left -= dataset.steps
        training = ledger.get(f"train {fit.name}", 0.0)
        return {
            "env_steps": steps,
            "data_bytes": round(data_bytes),
            "collect_cpu_s": collecting,
            "train_cpu_s": collecting + training,
        }

    def _seen(self) -> frozenset[str]:
        """Spaces of the data that models are trained and chosen on."""
        names = [*(f"round-{number}" for number in range(1, len(self._config.rounds) + 1)), "val"]
        return frozenset(layout for name in names for layout in Dataset.open(self._path / "data" / name).layout_ids)

    def _agent(self, plan: BaselinePlan, seed: int, at: int | None) -> Arm:
        training = self._agent_training(plan, seed)
        path = training.path if at is None else snapshot_path(training.path, at)
        if not (path / "policy.json").exists():
            raise BadFile(f"{path} holds no trained agent yet")
        about = read_json(path / "policy.json")
        own = {"env_steps": about["steps"], "train_cpu_s": about["cpu_s"]}
        if at is None:
            own["train_cpu_s"] = costs(self._path).get(f"train {training.path.name}", 0.0)
        if training.imagined:  # what it imagines in was paid for in the scene
            model = self._spent(Fit(self._config.models[0], seed))
            own = {**model, "train_cpu_s": model["train_cpu_s"] + own["train_cpu_s"]}
        return Arm(
            _labelled(plan.arm, at),
            BaselineSpec(self._config.scene, str(path)),
            seen=self._seen() if training.imagined else frozenset(about.get("layouts", ())),
            method=plan.name,
            train_seed=seed,
            content={"agent": digest(path / about["weights"])},
            **own,
        )

    def _planner(self, model: Path, search: str, planning: SearchConfig, budget_s: float | None = None) -> PlannerSpec:
        config = self._config
        return PlannerSpec(config.played.name, str(model), search, planning, budget_s, config.compiled)

    def _oracles(self) -> list[Arm]:
        """Those that play, with how many episodes."""
        counts = self._config.oracles
        return [replace(arm, episodes=counts[arm.name]) for arm in (self.oracle(), self.oracle_large()) if counts[arm.name]]

    def oracle(self) -> Arm:
        return self._oracle("oracle", self._config.oracle_planning)

    def oracle_large(self) -> Arm:
        return self._oracle("oracle-large", self._config.oracle_large_planning)

    def _oracle(self, name: str, planning: SearchConfig) -> Arm:
        search = self._config.search
        spec = PlannerSpec(self._config.played.name, "simulator", search, planning)
        return Arm(name, spec, "simulator", search, planning=planning, content=spec.content())

    def measure_fidelity(self) -> None:
        """Of the run's models and its guests, those that were not measured yet; and of a yardstick."""
        file = self._path / "fidelity.json"
        rows = list(read_json(file)) if file.exists() else []
        seed = self._config.train_seeds[0]
        own = {plan.name: str(self._path / "models" / Fit(plan, seed).name) for plan in self._config.models}
        models = {**own, **{name: guest["path"] for name, guest in self._guests().items()}}
        there = {row["model"] for row in rows}
        missing = {name: path for name, path in models.items() if name not in there}
        if not missing and Steady.name in there:
            return
        windows = Windows(Dataset.open(self._path / "data" / "test").episodes())
        for name, path in missing.items():
            found = fidelity(load_checkpoint(Path(path), self._config.scene), windows)
            rows += [{**row, "model": name} for row in as_rows(found)]
        rows += as_rows(fidelity(Steady(), windows)) if Steady.name not in there else []
        write_json(file, rows)


def _labelled(name: str, steps: int | None = None, seed: int = 0) -> str:
    """A cell's name: what it is, the amount of data where that is a part, the training seed where it is not the first."""
    return label(name + (f"-{thousands(steps)}" if steps else ""), seed)


def _cpu_s() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )
