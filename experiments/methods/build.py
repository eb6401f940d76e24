"""MethodSet: the methods of a run, each built from what the run holds."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from agents.learned.baselines import BaselineSpec
from agents.learned.config import get_snapshot_path
from agents.planning.search import SearchConfig
from agents.planning.spec import LEARNED, PlannerSpec
from experiments.compute_costs import read_costs
from experiments.config.experiment import ExperimentConfig
from experiments.methods.method import Method
from experiments.methods.training import AgentTraining, ModelTraining, TrainingGrid, make_run_label
from experiments.migrations import OLD_EXTERNAL_MODELS_FILE
from sim.data.store import Dataset
from sim.scenes.scene import scenes
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import hash_file, read_json, write_json
from worldmodels.training.checkpoint import load_checkpoint, read_checkpoint_info

EXTERNAL_MODELS_FILE = "external_models.json"
ALWAYS_EVALUATED = ("random", "scripted")
PLANNED_EPISODE_S = 12.0  # core-seconds, measured on tote-push
UNPLANNED_EPISODE_S = 0.5
ORACLE_EPISODE_S = 200.0


@dataclass(frozen=True)
class MethodRecipe:
    """Recipe of a method, and the expected time of its episodes."""

    name: str  # without a training seed
    make: Callable[[], Method]
    episode_s: float  # core-seconds
    max_episodes: int | None = None  # in each split


class MethodSet:
    """The methods of an experiment in a run directory."""

    def __init__(self, config: ExperimentConfig, path: Path, names: Sequence[str] = ()) -> None:
        """Choose methods.

        Args:
            names: of methods to evaluate beside random, scripted and the oracles that have
                episodes; none: all.
        """
        self._config = config
        self._path = path
        self._names = names
        self._grid = TrainingGrid(config, path)

    def make_all(self) -> list[Method]:
        """Make the chosen methods; the oracles, which take longest, come last.

        Raises:
            GroundError: a method is unknown, or not trained yet.
        """
        return [recipe.make() for recipe in self.select_recipes().values()]

    def make_available(self) -> tuple[list[Method], dict[str, str]]:
        """Make all methods of a run that may be unfinished or damaged.

        Returns:
            The methods, and the reason for each that is missing, by label.
        """
        methods = []
        missing = self.find_missing_external_methods()
        for label, recipe in self._build_recipes().items():
            try:
                methods.append(recipe.make())
            except (GroundError, OSError, KeyError, TypeError) as error:
                missing[label] = str(error)
        return methods, missing

    def select_recipes(self) -> dict[str, MethodRecipe]:
        """Select the recipes of all trainings of the chosen methods, by label.

        Raises:
            GroundError: a name is unknown, or its external model is missing.
        """
        recipes = self._build_recipes()
        known = dict.fromkeys(recipe.name for recipe in recipes.values())
        for name in self._names:
            if name not in known:
                if reason := self.find_missing_external_methods().get(name):
                    raise GroundError(f"{name} cannot be evaluated: {reason}")
                raise UnknownName("method", name, known)
        chosen = {*ALWAYS_EVALUATED, *(self._names or known)}
        oracles = self._config.episodes_by_oracle
        return {label: recipe for label, recipe in recipes.items() if oracles.get(recipe.name, recipe.name in chosen)}

    def _build_recipes(self) -> dict[str, MethodRecipe]:
        config = self._config
        recipes: dict[str, MethodRecipe] = {}

        def add(name: str, make: Callable[[], Method], episode_s: float, limit: int | None = None, seed: int = 0) -> None:
            recipes[make_run_label(name, seed=seed)] = MethodRecipe(name, make, episode_s, limit)

        for name in ALWAYS_EVALUATED:
            add(name, partial(self._make_behaviour_method, name), UNPLANNED_EPISODE_S)
        for training in self._grid.model_trainings:
            model = training.config
            searches = (model.searches or config.searches) if training.data_steps is None else ()
            for search in searches or (config.search,):
                name = make_run_label(f"{model.name}+{search}", training.data_steps)
                make = partial(self._make_planning_method, training, search)
                add(name, make, PLANNED_EPISODE_S, model.episodes, training.seed)
        for baseline in config.prediction_baselines:
            training = self._grid.make_model_training(config.models[0], config.train_seeds[0])
            make = partial(self._make_planning_method, training, config.search, baseline)
            add(f"{baseline}+{config.search}", make, PLANNED_EPISODE_S, training.config.episodes, training.seed)
        for name, external in self.read_external_models().items():
            if not self.find_incompatibility(external):
                make = partial(self._make_external_method, name, Path(external["path"]))
                add(f"{name}+{config.search}", make, PLANNED_EPISODE_S)
        for agent in self._grid.agent_trainings:
            for step in (None, *agent.snapshot_steps):
                make = partial(self._make_agent_method, agent, step)
                add(make_run_label(agent.method_name, step), make, UNPLANNED_EPISODE_S, seed=agent.seed)
        for name, search_config in (("oracle", config.oracle_planner), ("oracle-large", config.oracle_large_planner)):
            add(name, partial(self._make_oracle, name, search_config), ORACLE_EPISODE_S, config.episodes_by_oracle[name])
        return recipes

    def _make_behaviour_method(self, name: str) -> Method:
        return Method(name, scenes[self._config.scene].behaviours[name], cache_content={"behaviour": name})

    def _make_planning_method(self, training: ModelTraining, search: str, traffic_prediction: str = LEARNED) -> Method:
        if not (training.path / "best.json").exists():
            raise BadFile(f"{training.path} holds no trained model yet")
        method = self._make_planner(self._make_spec(training.path, search, traffic_prediction), training.config.name)
        return replace(
            method,
            name=make_run_label(method.family, training.data_steps),
            seen_layouts=self._read_seen_layouts(),
            max_episodes=training.config.episodes,
            train_seed=training.seed,
            **self._compute_costs(training),
        )

    def _make_external_method(self, name: str, path: Path) -> Method:
        """Make the method of a model from elsewhere; its costs are those in its metadata."""
        metadata = read_checkpoint_info(path)
        return replace(
            self._make_planner(self._make_spec(path, self._config.search), name),
            env_steps=metadata["env_steps"],
            train_cpu_s=metadata.get("cpu_s", metadata["seconds"]),
            seen_layouts=frozenset(metadata["layouts"]),
        )

    def _make_oracle(self, name: str, search_config: SearchConfig) -> Method:
        config = self._config
        spec = PlannerSpec(config.evaluation_scene.name, "simulator", config.search, search_config)
        method = self._make_planner(spec, "simulator")
        return replace(method, name=name, family=name, max_episodes=config.episodes_by_oracle[name])

    def _make_spec(self, path: Path, search: str, traffic_prediction: str = LEARNED) -> PlannerSpec:
        config = self._config
        options = config.planner, config.budget_s, config.compile_models
        return PlannerSpec(config.evaluation_scene.name, str(path), search, *options, traffic_prediction=traffic_prediction)

    def _make_planner(self, spec: PlannerSpec, model: str) -> Method:
        family = f"{model if spec.traffic_prediction == LEARNED else spec.traffic_prediction}+{spec.search}"
        return Method(
            family,
            spec,
            model,
            spec.search,
            family=family,
            search_config=spec.config,
            batch_episodes=self._config.batch_episodes if spec.can_batch else 1,
            # With a time budget, decisions depend on the machine.
            cache_content=spec.describe_content() if spec.budget_s is None else None,
        )

    def _make_agent_method(self, training: AgentTraining, snapshot_step: int | None) -> Method:
        path = training.path if snapshot_step is None else get_snapshot_path(training.path, snapshot_step)
        if not (path / "policy.json").exists():
            raise BadFile(f"{path} holds no trained agent yet")
        metadata = read_json(path / "policy.json")
        if "layouts" not in metadata:
            raise GroundError(f"{path} does not contain the ids of its training layouts: train it again")
        costs = {"env_steps": metadata["steps"], "train_cpu_s": metadata["cpu_s"]}
        if snapshot_step is None:
            costs["train_cpu_s"] = read_costs(self._path).get(f"train {training.path.name}", 0.0)
        if training.model_data:  # its env steps are those of the model's training data
            model_costs = self._compute_costs(self._grid.make_model_training(self._config.models[0], training.seed))
            costs = {**model_costs, "train_cpu_s": model_costs["train_cpu_s"] + costs["train_cpu_s"]}
        return Method(
            make_run_label(training.method_name, snapshot_step),
            BaselineSpec(self._config.scene, str(path)),
            seen_layouts=self._read_seen_layouts() if training.model_data else frozenset(metadata["layouts"]),
            family=training.config.algorithm,
            train_seed=training.seed,
            cache_content={"agent": hash_file(path / metadata["weights"])},
            **costs,
        )

    def add_external_models(self, model_paths: Sequence[Path]) -> None:
        """Add models from elsewhere to the run, under the names of their directories.

        Raises:
            GroundError: the run has another model of that name, or a model cannot be loaded.
        """
        external_models = self.read_external_models()
        own_names = [model.name for model in self._config.models]
        for path in model_paths:
            load_checkpoint(path, self._config.scene)
            external = {"path": str(path.resolve()), "weights": hash_file(path / "best.safetensors")}
            if path.name in own_names or external_models.get(path.name, external)["weights"] != external["weights"]:
                raise GroundError(f"{self._path} has another model called {path.name}: rename the directory {path}")
            external_models[path.name] = external
        write_json(self._path / EXTERNAL_MODELS_FILE, external_models)

    def read_external_models(self) -> dict[str, dict[str, str]]:
        """Read the path and the weights' hash of each external model, by name."""
        files = (self._path / name for name in (EXTERNAL_MODELS_FILE, OLD_EXTERNAL_MODELS_FILE))
        return next((read_json(file, {}) for file in files if file.exists()), {})

    def find_incompatibility(self, external_model: Mapping[str, str]) -> str | None:
        """Find the reason why an external model cannot plan in this run; None if it can."""
        path = Path(external_model["path"])
        if not all((path / name).exists() for name in ("best.json", "best.safetensors")):
            return f"{path} no longer holds the trained model: add it again from its new directory (--models)"
        try:
            if hash_file(path / "best.safetensors") != external_model["weights"]:
                return f"the weights in {path} changed after it was added to {self._path}: add it under another name"
            if not {"layouts", "env_steps", "seconds"} <= read_checkpoint_info(path).keys():
                return f"{path} does not contain the ids of its training layouts, or its costs: train it again"
        except (GroundError, OSError) as error:
            return str(error)
        return None

    def find_missing_external_methods(self) -> dict[str, str]:
        """Find the methods of external models that cannot plan in this run, with the reasons."""
        reasons = {name: self.find_incompatibility(external) for name, external in self.read_external_models().items()}
        return {f"{name}+{self._config.search}": reason for name, reason in reasons.items() if reason}

    def _compute_costs(self, training: ModelTraining) -> dict[str, Any]:
        """Compute the data and CPU-seconds of a model; only the used part of its data counts."""
        cpu_s_by_step = read_costs(self._path)
        steps_left = training.data_steps or math.inf
        env_steps = 0
        data_bytes = 0.0
        collect_cpu_s = 0.0
        for number, path in enumerate(self._grid.round_paths, 1):
            if steps_left <= 0:
                break
            dataset = Dataset.open(path)
            share = min(1.0, steps_left / dataset.steps)
            if number > 1:
                collect_cpu_s += cpu_s_by_step.get(f"train {self._grid.collection_trainings[number - 2].path.name}", 0.0)
            env_steps += round(share * dataset.steps)
            data_bytes += share * sum(shard["bytes"] for shard in dataset.manifest["shards"].values())
            collect_cpu_s += share * cpu_s_by_step.get(f"collect round-{number}", 0.0)
            steps_left -= dataset.steps
        train_cpu_s = collect_cpu_s + cpu_s_by_step.get(f"train {training.path.name}", 0.0)
        cpu_costs = {"collect_cpu_s": collect_cpu_s, "train_cpu_s": train_cpu_s}
        return {"env_steps": env_steps, "data_bytes": round(data_bytes), **cpu_costs}

    def _read_seen_layouts(self) -> frozenset[str]:
        """Read the ids of the training and validation layouts."""
        paths = (*self._grid.round_paths, *self._grid.validation_paths)
        return frozenset(layout_id for path in paths for layout_id in Dataset.open(path).layout_ids)
