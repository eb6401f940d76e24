"""The contestants of a run: how each is made of what the run holds, what it has seen, and what it has cost."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.learned.baselines import BaselineSpec
from agents.learned.config import get_snapshot_path
from agents.planning.search import SearchConfig
from agents.planning.spec import LEARNED, PlannerSpec
from experiments.compute_costs import costs
from experiments.config.experiment import BaselinePlan, ExperimentConfig
from experiments.methods.grid import Fit, Matrix, labelled
from experiments.methods.method import Arm
from sim.data.store import Dataset
from sim.scenes.scene import scenes
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import hash_file, read_json, write_json
from worldmodels.training.checkpoint import load_checkpoint

GUESTS = "guests.json"  # models from elsewhere that plan in a run, by name


class Arms:
    """Of an experiment in a run's directory."""

    def __init__(self, config: ExperimentConfig, path: Path, chosen: Sequence[str] = ()) -> None:
        """chosen: those that play, by name, beside random and scripted; none: all."""
        self._config, self._path, self._chosen = config, path, chosen
        self._matrix = Matrix(config, path)

    def all(self) -> list[Arm]:
        """Every contestant: random and scripted always, then planners, then SB3 agents."""
        return [make() for make in self.makers().values()]

    def there(self) -> tuple[list[Arm], dict[str, str]]:
        """The contestants, and the oracle, of a run that may be unfinished or damaged; and why which are missing."""
        found, missing = [], self.missing_guests()
        for name, make in {**self.makers(), "oracle": self._oracle}.items():
            try:
                found.append(make())
            except (GroundError, OSError, KeyError, TypeError) as error:
                missing[name] = str(error)
        return found, missing

    def makers(self) -> dict[str, Callable[[], Arm]]:
        """How each arm is made, by its label: of those chosen, all trainings, and random and scripted besides."""
        makers = self._all_makers()
        named = {label: label.partition("@")[0] for label in makers}
        for name in self._chosen:
            if name not in named.values():
                if why := self.missing_guests().get(name):
                    raise GroundError(f"{name} cannot play: {why}")
                raise UnknownName("arm", name, named.values())
        wanted = {"random", "scripted", *(self._chosen or named.values())}
        return {label: make for label, make in makers.items() if named[label] in wanted}

    def _all_makers(self) -> dict[str, Callable[[], Arm]]:
        config = self._config
        makers: dict[str, Callable[[], Arm]] = {
            name: partial(Arm, name, scenes[config.scene].behaviours[name], content={"behaviour": name})
            for name in ("random", "scripted")
        }
        for fit in self._matrix.fits:
            whole = fit.steps is None
            for search in (fit.plan.searches or config.searches if whole else ()) or (config.search,):
                name = labelled(f"{fit.plan.name}+{search}", fit.steps, fit.seed)
                makers[name] = partial(self._planning, fit, search)
        for assumption in config.assumptions:
            fit = Fit(config.models[0], config.train_seeds[0])
            name = labelled(f"{assumption}+{config.search}", seed=fit.seed)
            makers[name] = partial(self._planning, fit, config.search, assumption)
        for name, guest in self.guests().items():
            if not self.absent(guest):
                makers[f"{name}+{config.search}"] = partial(self._visiting, name, Path(guest["path"]))
        for plan in config.baselines:
            for seed in config.train_seeds:
                for at in (None, *self._matrix.agent(plan, seed).snapshots):
                    makers[labelled(plan.arm, at, seed)] = partial(self._agent, plan, seed, at)
        return makers

    def _planning(self, fit: Fit, search: str, traffic: str = LEARNED) -> Arm:
        config, model = self._config, self._matrix.model(fit).path
        if not (model / "best.json").exists():
            raise BadFile(f"{model} holds no trained model yet")
        spec = replace(self._planner(model, search), traffic_prediction=traffic)
        method = f"{traffic}+{search}" if traffic != LEARNED else f"{fit.plan.name}+{search}"
        return Arm(
            labelled(method, fit.steps),
            spec,
            fit.plan.name,
            search,
            seen=self._seen(),
            episodes=fit.plan.episodes,
            method=method,
            planning=config.planning,
            train_seed=fit.seed,
            together=config.together if spec.can_batch else 1,
            content=self._content(spec),
            **self._spent(fit),
        )

    def _planner(self, model: Path, search: str) -> PlannerSpec:
        config = self._config
        return PlannerSpec(config.played.name, str(model), search, config.planning, config.budget_s, config.compiled)

    def _content(self, spec: PlannerSpec) -> dict[str, Any] | None:
        """What its episodes depend on; None where that is the machine and what else it does, too."""
        return spec.describe_content() if self._config.budget_s is None else None

    def invite(self, models: Sequence[Path]) -> None:
        """Let models from elsewhere plan beside the run's own from now on, called by their directories' names."""
        guests, own = self.guests(), [plan.name for plan in self._config.models]
        for path in models:
            load_checkpoint(path, self._config.scene)
            guest = {"path": str(path.resolve()), "weights": hash_file(path / "best.safetensors")}
            if path.name in own or guests.get(path.name, guest)["weights"] != guest["weights"]:
                raise GroundError(f"{self._path} has another model called {path.name}: rename the directory {path}")
            guests[path.name] = guest
        if models:
            write_json(self._path / GUESTS, guests)

    def guests(self) -> dict[str, dict[str, str]]:
        """By name, where each lies and what its weights were when it came: trained again, it is another."""
        return dict(read_json(self._path / GUESTS)) if (self._path / GUESTS).exists() else {}

    def absent(self, guest: Mapping[str, str]) -> str:
        """Why a guest cannot play any more; "" where it can."""
        path = Path(guest["path"])
        if not all((path / name).exists() for name in ("best.json", "best.safetensors")):
            return f"{path} holds no trained model any more: bring it again from where it is (--models)"
        try:
            if hash_file(path / "best.safetensors") != guest["weights"]:
                return f"{path} was trained on since it came to {self._path}: bring it under another name"
            if "layouts" not in read_json(path / "best.json"):
                return f"{path} does not say in which layouts it was trained: train it again"
        except (GroundError, OSError) as error:
            return str(error)
        return ""

    def missing_guests(self) -> dict[str, str]:
        """Arms of guests that cannot play any more, and why."""
        return {f"{name}+{self._config.search}": why for name, guest in self.guests().items() if (why := self.absent(guest))}

    def _visiting(self, name: str, path: Path) -> Arm:
        """A model that was trained elsewhere; the seconds are of its training alone."""
        about = read_json(path / "best.json")
        config = self._config
        spec = self._planner(path, config.search)
        return Arm(
            f"{name}+{config.search}",
            spec,
            name,
            config.search,
            env_steps=about["env_steps"],
            train_cpu_s=about.get("cpu_s", about["seconds"]),
            seen=frozenset(about["layouts"]),
            planning=config.planning,
            together=config.together if spec.can_batch else 1,
            content=self._content(spec),
        )

    def _spent(self, fit: Fit) -> dict[str, Any]:
        """Data and CPU-seconds that went into a model: of data in part, the part."""
        ledger, left = costs(self._path), fit.steps or math.inf
        steps, data_bytes, collecting = 0, 0.0, 0.0
        for number, path in enumerate(self._matrix.rounds, 1):
            dataset = Dataset.open(path)
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
        paths = (*self._matrix.rounds, self._matrix.validation)
        return frozenset(layout for path in paths for layout in Dataset.open(path).layout_ids)

    def _agent(self, plan: BaselinePlan, seed: int, at: int | None) -> Arm:
        training = self._matrix.agent(plan, seed)
        path = training.path if at is None else get_snapshot_path(training.path, at)
        if not (path / "policy.json").exists():
            raise BadFile(f"{path} holds no trained agent yet")
        about = read_json(path / "policy.json")
        if "layouts" not in about:
            raise GroundError(f"{path} does not say in which layouts it was trained: train it again")
        own = {"env_steps": about["steps"], "train_cpu_s": about["cpu_s"]}
        if at is None:
            own["train_cpu_s"] = costs(self._path).get(f"train {training.path.name}", 0.0)
        if training.imagined:  # what it imagines in was paid for in the scene
            model = self._spent(Fit(self._config.models[0], seed))
            own = {**model, "train_cpu_s": model["train_cpu_s"] + own["train_cpu_s"]}
        return Arm(
            labelled(plan.arm, at),
            BaselineSpec(self._config.scene, str(path)),
            seen=self._seen() if training.imagined else frozenset(about["layouts"]),
            method=plan.name,
            train_seed=seed,
            content={"agent": hash_file(path / about["weights"])},
            **own,
        )

    def oracles(self) -> list[Arm]:
        """Those that play, with how many episodes."""
        counts = self._config.oracles
        arms = self._oracle(), self._oracle("oracle-large", self._config.oracle_large_planning)
        return [replace(arm, episodes=counts[arm.name]) for arm in arms if counts[arm.name]]

    def _oracle(self, name: str = "oracle", planning: SearchConfig | None = None) -> Arm:
        search, planning = self._config.search, planning or self._config.oracle_planning
        spec = PlannerSpec(self._config.played.name, "simulator", search, planning)
        return Arm(name, spec, "simulator", search, planning=planning, content=spec.describe_content())
