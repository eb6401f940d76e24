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
from experiments.compute_costs import read_costs
from experiments.config.experiment import BaselineTrainingConfig, ExperimentConfig
from experiments.methods.grid import ModelRun, TrainingGrid, make_run_label
from experiments.methods.method import Method
from sim.data.store import Dataset
from sim.scenes.scene import scenes
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import hash_file, read_json, write_json
from worldmodels.training.checkpoint import load_checkpoint

EXTERNAL_MODELS_FILE = "guests.json"  # models from elsewhere that plan in a run, by name


class MethodSet:
    """Of an experiment in a run's directory."""

    def __init__(self, config: ExperimentConfig, path: Path, names: Sequence[str] = ()) -> None:
        """chosen: those that play, by name, beside random and scripted; none: all."""
        self._config, self._path, self._names = config, path, names
        self._grid = TrainingGrid(config, path)

    def make_all(self) -> list[Method]:
        """Every contestant: random and scripted always, then planners, then SB3 agents."""
        return [make_method() for make_method in self.build_factories().values()]

    def make_available(self) -> tuple[list[Method], dict[str, str]]:
        """The contestants, and the oracle, of a run that may be unfinished or damaged; and why which are missing."""
        methods, missing_reasons = [], self.find_missing_external_methods()
        for name, make_method in {**self.build_factories(), "oracle": self._make_oracle}.items():
            try:
                methods.append(make_method())
            except (GroundError, OSError, KeyError, TypeError) as error:
                missing_reasons[name] = str(error)
        return methods, missing_reasons

    def build_factories(self) -> dict[str, Callable[[], Method]]:
        """How each arm is made, by its label: of those chosen, all trainings, and random and scripted besides."""
        factories = self._build_all_factories()
        name_by_label = {label: label.partition("@")[0] for label in factories}
        for name in self._names:
            if name not in name_by_label.values():
                if reason := self.find_missing_external_methods().get(name):
                    raise GroundError(f"{name} cannot play: {reason}")
                raise UnknownName("arm", name, name_by_label.values())
        requested_names = {"random", "scripted", *(self._names or name_by_label.values())}
        return {label: make_method for label, make_method in factories.items() if name_by_label[label] in requested_names}

    def _build_all_factories(self) -> dict[str, Callable[[], Method]]:
        config = self._config
        factories: dict[str, Callable[[], Method]] = {
            name: partial(Method, name, scenes[config.scene].behaviours[name], cache_content={"behaviour": name})
            for name in ("random", "scripted")
        }
        for model_run in self._grid.model_runs:
            uses_all_data = model_run.data_steps is None
            for search in (model_run.config.searches or config.searches if uses_all_data else ()) or (config.search,):
                name = make_run_label(f"{model_run.config.name}+{search}", model_run.data_steps, model_run.seed)
                factories[name] = partial(self._make_planning_method, model_run, search)
        for prediction_baseline in config.prediction_baselines:
            model_run = ModelRun(config.models[0], config.train_seeds[0])
            name = make_run_label(f"{prediction_baseline}+{config.search}", seed=model_run.seed)
            factories[name] = partial(self._make_planning_method, model_run, config.search, prediction_baseline)
        for name, external_model in self.read_external_models().items():
            if not self.find_model_fault(external_model):
                factories[f"{name}+{config.search}"] = partial(self._make_external_method, name, Path(external_model["path"]))
        for baseline in config.baselines:
            for seed in config.train_seeds:
                for snapshot_step in (None, *self._grid.make_agent_training(baseline, seed).snapshot_steps):
                    factories[make_run_label(baseline.method_name, snapshot_step, seed)] = partial(
                        self._make_agent_method, baseline, seed, snapshot_step
                    )
        return factories

    def _make_planning_method(self, model_run: ModelRun, search: str, traffic_prediction: str = LEARNED) -> Method:
        config, model_path = self._config, self._grid.make_model_training(model_run).path
        if not (model_path / "best.json").exists():
            raise BadFile(f"{model_path} holds no trained model yet")
        spec = replace(self._make_planner_spec(model_path, search), traffic_prediction=traffic_prediction)
        family = f"{traffic_prediction}+{search}" if traffic_prediction != LEARNED else f"{model_run.config.name}+{search}"
        return Method(
            make_run_label(family, model_run.data_steps),
            spec,
            model_run.config.name,
            search,
            seen_layouts=self._read_seen_layouts(),
            max_episodes=model_run.config.episodes,
            family=family,
            search_config=config.planner,
            train_seed=model_run.seed,
            batch_episodes=config.batch_episodes if spec.can_batch else 1,
            cache_content=self._describe_cache_content(spec),
            **self._compute_costs(model_run),
        )

    def _make_planner_spec(self, model_path: Path, search: str) -> PlannerSpec:
        config = self._config
        return PlannerSpec(
            config.evaluation_scene.name, str(model_path), search, config.planner, config.budget_s, config.compile_models
        )

    def _describe_cache_content(self, spec: PlannerSpec) -> dict[str, Any] | None:
        """What its episodes depend on; None where that is the machine and what else it does, too."""
        return spec.describe_content() if self._config.budget_s is None else None

    def add_external_models(self, model_paths: Sequence[Path]) -> None:
        """Let models from elsewhere plan beside the run's own from now on, called by their directories' names."""
        external_models, own_names = self.read_external_models(), [model_config.name for model_config in self._config.models]
        for path in model_paths:
            load_checkpoint(path, self._config.scene)
            external_model = {"path": str(path.resolve()), "weights": hash_file(path / "best.safetensors")}
            if path.name in own_names or external_models.get(path.name, external_model)["weights"] != external_model["weights"]:
                raise GroundError(f"{self._path} has another model called {path.name}: rename the directory {path}")
            external_models[path.name] = external_model
        if model_paths:
            write_json(self._path / EXTERNAL_MODELS_FILE, external_models)

    def read_external_models(self) -> dict[str, dict[str, str]]:
        """By name, where each lies and what its weights were when it came: trained again, it is another."""
        return dict(read_json(self._path / EXTERNAL_MODELS_FILE)) if (self._path / EXTERNAL_MODELS_FILE).exists() else {}

    def find_model_fault(self, external_model: Mapping[str, str]) -> str:
        """Why a guest cannot play any more; "" where it can."""
        path = Path(external_model["path"])
        if not all((path / name).exists() for name in ("best.json", "best.safetensors")):
            return f"{path} holds no trained model any more: bring it again from where it is (--models)"
        try:
            if hash_file(path / "best.safetensors") != external_model["weights"]:
                return f"{path} was trained on since it came to {self._path}: bring it under another name"
            if "layouts" not in read_json(path / "best.json"):
                return f"{path} does not say in which layouts it was trained: train it again"
        except (GroundError, OSError) as error:
            return str(error)
        return ""

    def find_missing_external_methods(self) -> dict[str, str]:
        """Arms of guests that cannot play any more, and why."""
        return {
            f"{name}+{self._config.search}": reason
            for name, external_model in self.read_external_models().items()
            if (reason := self.find_model_fault(external_model))
        }

    def _make_external_method(self, name: str, path: Path) -> Method:
        """A model that was trained elsewhere; the seconds are of its training alone."""
        metadata = read_json(path / "best.json")
        config = self._config
        spec = self._make_planner_spec(path, config.search)
        return Method(
            f"{name}+{config.search}",
            spec,
            name,
            config.search,
            env_steps=metadata["env_steps"],
            train_cpu_s=metadata.get("cpu_s", metadata["seconds"]),
            seen_layouts=frozenset(metadata["layouts"]),
            search_config=config.planner,
            batch_episodes=config.batch_episodes if spec.can_batch else 1,
            cache_content=self._describe_cache_content(spec),
        )

    def _compute_costs(self, model_run: ModelRun) -> dict[str, Any]:
        """Data and CPU-seconds that went into a model: of data in part, the part."""
        cpu_s_by_step, steps_left = read_costs(self._path), model_run.data_steps or math.inf
        env_steps, data_bytes, collect_cpu_s = 0, 0.0, 0.0
        for round_number, path in enumerate(self._grid.round_paths, 1):
            dataset = Dataset.open(path)
            share = min(1.0, steps_left / dataset.steps)
            if steps_left <= 0:
                break
            if round_number > 1:
                collect_cpu_s += cpu_s_by_step.get(f"train graph-round-{round_number - 1}", 0.0)
            env_steps += round(share * dataset.steps)
            data_bytes += share * sum(shard["bytes"] for shard in dataset.manifest["shards"].values())
            collect_cpu_s += share * cpu_s_by_step.get(f"collect round-{round_number}", 0.0)
            steps_left -= dataset.steps
        train_cpu_s = cpu_s_by_step.get(f"train {model_run.name}", 0.0)
        return {
            "env_steps": env_steps,
            "data_bytes": round(data_bytes),
            "collect_cpu_s": collect_cpu_s,
            "train_cpu_s": collect_cpu_s + train_cpu_s,
        }

    def _read_seen_layouts(self) -> frozenset[str]:
        """Spaces of the data that models are trained and chosen on."""
        paths = (*self._grid.round_paths, self._grid.validation_path)
        return frozenset(layout_id for path in paths for layout_id in Dataset.open(path).layout_ids)

    def _make_agent_method(self, baseline: BaselineTrainingConfig, seed: int, snapshot_step: int | None) -> Method:
        training = self._grid.make_agent_training(baseline, seed)
        path = training.path if snapshot_step is None else get_snapshot_path(training.path, snapshot_step)
        if not (path / "policy.json").exists():
            raise BadFile(f"{path} holds no trained agent yet")
        metadata = read_json(path / "policy.json")
        if "layouts" not in metadata:
            raise GroundError(f"{path} does not say in which layouts it was trained: train it again")
        agent_costs = {"env_steps": metadata["steps"], "train_cpu_s": metadata["cpu_s"]}
        if snapshot_step is None:
            agent_costs["train_cpu_s"] = read_costs(self._path).get(f"train {training.path.name}", 0.0)
        if training.model_data:  # what it imagines in was paid for in the scene
            model_costs = self._compute_costs(ModelRun(self._config.models[0], seed))
            agent_costs = {**model_costs, "train_cpu_s": model_costs["train_cpu_s"] + agent_costs["train_cpu_s"]}
        return Method(
            make_run_label(baseline.method_name, snapshot_step),
            BaselineSpec(self._config.scene, str(path)),
            seen_layouts=self._read_seen_layouts() if training.model_data else frozenset(metadata["layouts"]),
            family=baseline.name,
            train_seed=seed,
            cache_content={"agent": hash_file(path / metadata["weights"])},
            **agent_costs,
        )

    def make_oracles(self) -> list[Method]:
        """Those that play, with how many episodes."""
        counts = self._config.episodes_by_oracle
        methods = self._make_oracle(), self._make_oracle("oracle-large", self._config.oracle_large_planner)
        return [replace(method, max_episodes=counts[method.name]) for method in methods if counts[method.name]]

    def _make_oracle(self, name: str = "oracle", search_config: SearchConfig | None = None) -> Method:
        search, search_config = self._config.search, search_config or self._config.oracle_planner
        spec = PlannerSpec(self._config.evaluation_scene.name, "simulator", search, search_config)
        return Method(name, spec, "simulator", search, search_config=search_config, cache_content=spec.describe_content())
