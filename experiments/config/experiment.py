"""Experiments as data: frozen dataclasses, read from TOML files that lie in `configs/` or anywhere else, saved with each run."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import cattrs
import cattrs.gen

from agents.learned.config import ALGORITHMS
from agents.planning.search import SearchConfig, searches
from experiments.migrations import migrate_config
from sim.scenes.scene import DEFAULT_PROTOCOL, Scene, make_scene_id, scenes
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import read_json
from sim.variation import Variations
from worldmodels.assumed import PREDICTION_BASELINES
from worldmodels.model import models
from worldmodels.training.loop import TrainConfig

MIN_COLLECTION_STEPS = 500  # fewer hold too little contact to train or measure anything
CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class CollectionRound:
    """One round of data: how much, from which behaviours. "planner" is the graph model of the round before, planning."""

    steps: int
    behaviours: dict[str, float] = field(default_factory=dict)  # none: the scene's own mix
    updates: int = 0  # of the first model after this round; 0: the last round, where all models are trained in full


@dataclass(frozen=True)
class ModelTrainingConfig:
    """One model to train and to plan with."""

    name: str = "graph"
    train: TrainConfig = TrainConfig()
    episodes: int | None = None  # at most this many per split, for a model that plans slowly; tables say how many there were
    searches: tuple[str, ...] = ()  # none: the experiment's


@dataclass(frozen=True)
class BaselineTrainingConfig:
    """One SB3 agent to train. In a file its name alone stands for one of `baseline_steps`."""

    name: str
    steps: int | None = None

    @property
    def method_name(self) -> str:
        return self.name + (f"-{format_thousands(self.steps)}" if self.steps else "")

    def __post_init__(self) -> None:
        if self.name not in ALGORITHMS:
            raise UnknownName("algorithm", self.name, ALGORITHMS)
        if self.steps is not None and self.steps < 1:
            raise GroundError(f"baselines: {self.name} needs positive steps, not {self.steps}")


def format_thousands(steps: int) -> str:
    """Steps in the name of an arm: 12k."""
    return f"{steps / 1000:g}k"


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that `ground run` does."""

    name: str
    scene: str = "logistics/tote-push"
    protocol: str = DEFAULT_PROTOCOL  # one of the scene's, by which it is evaluated
    seed: int = 0
    rounds: tuple[CollectionRound, ...] = (CollectionRound(20_000),)
    variations: tuple[str, ...] = ()
    held_out_steps: int = 6_000  # collected in the splits val (to choose the best update) and test (to measure fidelity)
    held_out: dict[str, float] = field(default_factory=dict)  # behaviours of those, whatever is trained on; none: the scene's mix
    models: tuple[ModelTrainingConfig, ...] = (ModelTrainingConfig(),)
    search: str = "mppi"  # of the planner that collects, of the oracle, and of models on a part of the data
    searches: tuple[str, ...] = ()  # of the planners that are compared, with each model; none: `search` alone
    train_seeds: tuple[int, ...] = (0,)  # models and agents are trained once per seed
    data_steps: tuple[int, ...] = ()  # models are trained on the first so many env steps too, agents evaluated after as many
    prediction_baselines: tuple[str, ...] = ()  # about traffic, by planners that do not foresee it: "static", "constant-velocity"
    planner: SearchConfig = SearchConfig()
    collection_planner: SearchConfig = SearchConfig(samples=64, horizon=20)
    budget_s: float | None = None  # of a decision; None: all iterations, so that results do not depend on the machine
    compile_models: bool = False  # planners' models: steps take half as long, after half a minute's compilation at the first run
    batch_episodes: int = (
        1  # episodes that a worker plays in lock-step, their candidates in one rollout; last digits depend on it
    )
    baselines: tuple[BaselineTrainingConfig, ...] = (BaselineTrainingConfig("sac"), BaselineTrainingConfig("ppo"))
    baseline_steps: int = 100_000
    episodes: dict[str, int] = field(default_factory=lambda: {"test": 20})
    oracle_episodes: int = 0
    oracle_planner: SearchConfig = SearchConfig(samples=48)
    oracle_large_episodes: int = 0  # episodes of an oracle with a larger budget: what search leaves undone, whatever the model
    oracle_large_planner: SearchConfig = SearchConfig(samples=192, iterations=4)

    def __post_init__(self) -> None:
        scene, evaluation_scene = scenes[self.scene], self.evaluation_scene
        for name in (self.search, *self.searches, *(name for model_config in self.models for name in model_config.searches)):
            searches[name]
        for model_config in self.models:
            models[model_config.name]
        for prediction_baseline in self.prediction_baselines:
            if prediction_baseline not in PREDICTION_BASELINES:
                raise UnknownName("assumption about traffic", prediction_baseline, PREDICTION_BASELINES)
            if not scene.max_traffic:
                raise GroundError(f"assumptions: {scene.name} has no traffic to assume anything of")
            if not self.models:
                raise GroundError("assumptions: the robot's own motion is a model's, and there is none")
        self._check_training_grid()
        for split, count in self.episodes.items():
            if split not in evaluation_scene.splits:
                raise UnknownName("split", split, evaluation_scene.splits)
            if split == "train" or count < 1:
                raise GroundError(f"episodes.{split} = {count}: at least one episode, and never in the training split")
        if not self.episodes:
            raise GroundError("episodes: at least one split is needed, as in test = 20")
        for name, count in (("oracle", self.oracle_episodes), ("oracle_large", self.oracle_large_episodes), ("seed", self.seed)):
            if count < 0:
                raise GroundError(f"{name} = {count} must not be negative")
        for model_config in self.models:
            if model_config.episodes is not None and model_config.episodes < 1:
                raise GroundError(
                    f"models: {model_config.name} needs at least one episode, not {model_config.episodes}: or leave the model out"
                )
        if self.budget_s is not None and not self.budget_s > 0:
            raise GroundError(f"budget_s = {self.budget_s}: a decision needs some time")
        if self.batch_episodes < 1:
            raise GroundError(f"together = {self.batch_episodes}: at least one episode is played at a time")
        if not self.rounds or min(self.held_out_steps, *(round_.steps for round_ in self.rounds)) < MIN_COLLECTION_STEPS:
            raise GroundError(
                f"at least one round is needed, and at least {MIN_COLLECTION_STEPS} steps in each round and in held_out_steps"
            )
        if len({model_config.name for model_config in self.models}) < len(self.models):
            raise GroundError("models: each name may stand once")
        Variations.parse(self.variations)
        _check_behaviours("held_out", self.held_out, scene.behaviours)
        for number, round_ in enumerate(self.rounds, 1):
            if number == 1 and "planner" in round_.behaviours:
                raise GroundError("the first round cannot hold the planner's own behaviour: there is no model yet")
            _check_behaviours(f"round {number}", round_.behaviours, (*scene.behaviours, "planner"))

    @property
    def evaluation_scene(self) -> Scene:
        """The scene as it is evaluated."""
        return scenes[make_scene_id(self.scene, self.protocol)]

    @property
    def episodes_by_oracle(self) -> dict[str, int]:
        """How many episodes each plays, by name."""
        return {"oracle": self.oracle_episodes, "oracle-large": self.oracle_large_episodes}

    def with_protocol(self, protocol: str) -> "ExperimentConfig":
        """The same experiment, evaluated by another protocol with as many episodes as that has."""
        if protocol == self.protocol:
            return self
        evaluation_protocol = scenes[self.scene].protocols.get(protocol)
        return replace(
            self,
            protocol=protocol,
            episodes={evaluation_protocol.split: evaluation_protocol.episodes} if evaluation_protocol else {"test": 20},
        )

    def _check_training_grid(self) -> None:
        agent_names = [baseline.method_name for baseline in self.baselines]
        for name, values in (("searches", self.searches), ("train_seeds", self.train_seeds), ("data_steps", self.data_steps),
                             ("baselines", agent_names)):  # fmt: skip
            if len(set(values)) < len(values):
                raise GroundError(f"{name}: each may stand once")
        snapshot_names = [
            f"{baseline.method_name}-{format_thousands(snapshot_step)}"
            for baseline in self.baselines
            for snapshot_step in self.data_steps
            if snapshot_step < self.baseline_steps
        ]
        for name in snapshot_names:
            if name in agent_names:
                raise GroundError(
                    f"baselines: {name} is kept on the way of a longer training already, by data_steps: leave it out"
                )
        if not self.train_seeds or min(self.train_seeds) < 0:
            raise GroundError(f"train_seeds {list(self.train_seeds)}: at least one is needed, and none below 0")
        if self.data_steps and not 2000 <= min(self.data_steps) <= max(self.data_steps) <= self.collection_steps:
            raise GroundError(
                f"data_steps {list(self.data_steps)} must be between 2000 and the {self.collection_steps} of all rounds"
            )
        if any(baseline.name == "dyna" for baseline in self.baselines):
            if not self.models:
                raise GroundError("baselines: dyna learns in a model, and there is none")
            if scenes[self.scene].max_traffic:
                raise GroundError(f"baselines: dyna cannot imagine the traffic of {self.scene} yet: leave it out there")

    @property
    def collection_steps(self) -> int:
        """Env steps of all rounds."""
        return sum(round_.steps for round_ in self.rounds)


def _check_behaviours(key: str, behaviours: dict[str, float], known_names: Iterable[str]) -> None:
    for name, weight in behaviours.items():
        if name not in known_names:
            raise UnknownName("behaviour", name, known_names)
        if not 0 < weight < float("inf"):
            raise GroundError(f"{key}: behaviour {name} = {weight:g}: a positive weight is needed")


_structure_baseline = cattrs.gen.make_dict_structure_fn(BaselineTrainingConfig, CONVERTER)
CONVERTER.register_structure_hook(
    BaselineTrainingConfig,
    lambda value, kind: BaselineTrainingConfig(value) if isinstance(value, str) else _structure_baseline(value, kind),
)


def list_presets() -> list[str]:
    """Experiments that come with the project."""
    return sorted(
        path.name.removesuffix(".toml") for path in files("experiments.config.presets").iterdir() if path.name.endswith(".toml")
    )


def load_experiment(source: str) -> ExperimentConfig:
    """An experiment by name, or from a TOML file."""
    content = _read_toml(source)
    content.setdefault("name", Path(source).stem)
    return parse_config(content, source)


def parse_config(content: dict[str, Any], source: str) -> ExperimentConfig:
    try:
        return CONVERTER.structure(content, ExperimentConfig)
    except GroundError:
        raise
    except Exception as error:  # cattrs raises groups of whatever the fields raise
        ground_error = _find_ground_error(error)
        if ground_error is not None:
            raise GroundError(f"{source}: {ground_error}") from error
        messages = "; ".join(cattrs.transform_error(error))
        raise GroundError(f"{source}: {messages}; known: {', '.join(f.name for f in fields(ExperimentConfig))}") from error


def read_config(run_path: Path) -> ExperimentConfig:
    """The experiment that a run directory holds."""
    file = run_path / "config.json"
    if not file.exists():
        raise BadFile(f"{run_path} is no run directory (config.json is missing)")
    content = read_json(file)
    if not isinstance(content, dict):
        raise BadFile(f"{file} is damaged: it holds no experiment")
    return parse_config(migrate_config(content), str(file))


def _find_ground_error(error: BaseException) -> GroundError | None:
    """The first of our own errors in a tree of groups."""
    if isinstance(error, GroundError):
        return error
    for inner in getattr(error, "exceptions", ()):
        if ground_error := _find_ground_error(inner):
            return ground_error
    return None


def _read_toml(source: str, derived_paths: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A TOML file's content, laid over that of its `base`; `above` are the files that build on it."""
    path = Path(source)
    if path.suffix != ".toml":
        if source not in list_presets():
            raise UnknownName("experiment", source, list_presets())
        path = Path(str(files("experiments.config.presets"))) / f"{source}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GroundError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise GroundError(f"{path} is not TOML ({error})") from error
    if "base" not in content:
        return content
    base = str(content.pop("base"))
    if path.resolve() in derived_paths:
        raise GroundError(f"{path}: its base '{base}' builds on itself")
    return {**_read_toml(base, (*derived_paths, path.resolve())), "name": path.stem, **content}
