"""ExperimentConfig: an experiment as data, read from a preset or a TOML file."""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
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
from worldmodels.baselines import PREDICTION_BASELINES
from worldmodels.model import models
from worldmodels.training.loop import TrainConfig

MIN_COLLECTION_STEPS = 500  # fewer have too little contact to train on or to measure with
PRESETS = Path(__file__).parent / "presets"
CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class CollectionRound:
    """One round of data collection; behaviour "planner" is the graph model of the round before."""

    steps: int
    behaviours: dict[str, float] = field(default_factory=dict)  # weights; none: the scene's own mix
    updates: int = 0  # of the graph model for the next round; 0: DEFAULT_ROUND_UPDATES


@dataclass(frozen=True)
class ModelTrainingConfig:
    """One world model to train and to plan with."""

    name: str = "graph"
    train: TrainConfig = TrainConfig()
    episodes: int | None = None  # at most, in each split, for a model that plans slowly
    searches: tuple[str, ...] = ()  # none: the experiment's


@dataclass(frozen=True)
class BaselineTrainingConfig:
    """One SB3 agent to train. A TOML file may give its name alone."""

    name: str
    steps: int | None = None  # None: the experiment's `baseline_steps`

    def __post_init__(self) -> None:
        if self.name not in ALGORITHMS:
            raise UnknownName("algorithm", self.name, ALGORITHMS)
        if self.steps is not None and self.steps < 1:
            raise GroundError(f"baselines: {self.name} needs positive steps, not {self.steps}")

    @property
    def method_name(self) -> str:
        """Name of the method: the algorithm, and the steps where they are its own."""
        return f"{self.name}-{format_thousands(self.steps)}" if self.steps else self.name


def format_thousands(steps: int) -> str:
    """Format a number of steps for the name of a method, as in 12k."""
    return f"{steps / 1000:g}k"


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that `ground run` does."""

    name: str
    scene: str = "logistics/tote-push"
    protocol: str = DEFAULT_PROTOCOL  # of the scene, for evaluation
    seed: int = 0
    rounds: tuple[CollectionRound, ...] = (CollectionRound(20_000),)
    variations: tuple[str, ...] = ()  # of the training data
    held_out_steps: int = 6_000  # in split val (selects checkpoints) and test (open-loop errors)
    held_out: dict[str, float] = field(default_factory=dict)  # behaviours; none: the scene's
    models: tuple[ModelTrainingConfig, ...] = (ModelTrainingConfig(),)
    search: str = "mppi"  # of the collecting planner, the oracle and partial data
    searches: tuple[str, ...] = ()  # compared with each model; none: `search` alone
    train_seeds: tuple[int, ...] = (0,)  # models and agents are trained once for each
    data_steps: tuple[int, ...] = ()  # smaller amounts of data, and snapshots of agents
    prediction_baselines: tuple[str, ...] = ()  # of traffic: "static", "constant-velocity"
    planner: SearchConfig = SearchConfig()
    collection_planner: SearchConfig = SearchConfig(samples=64, horizon=20)
    budget_s: float | None = None  # for a decision; then results depend on the machine
    compile_models: bool = False  # halves a model step, after half a minute
    batch_episodes: int = 1  # in lock-step in a worker; last digits depend on it
    baselines: tuple[BaselineTrainingConfig, ...] = (BaselineTrainingConfig("sac"), BaselineTrainingConfig("ppo"))
    baseline_steps: int = 100_000
    episodes: dict[str, int] = field(default_factory=lambda: {"test": 20})  # by split
    oracle_episodes: int = 0
    oracle_planner: SearchConfig = SearchConfig(samples=48)
    oracle_large_episodes: int = 0  # of an oracle with a larger search budget
    oracle_large_planner: SearchConfig = SearchConfig(samples=192, iterations=4)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scene", scenes.resolve_name(self.scene))
        for name in (self.search, *self.searches, *(name for model in self.models for name in model.searches)):
            searches[name]  # raises UnknownName
        for model in self.models:
            models[model.name]
            if model.episodes is not None and model.episodes < 1:
                raise GroundError(f"models: {model.name} needs at least one episode, not {model.episodes}: or leave it out")
        Variations.parse(self.variations)
        self._check_traffic()
        self._check_training_grid()
        self._check_collection()
        self._check_evaluation()

    @property
    def evaluation_scene(self) -> Scene:
        """The scene under the evaluation protocol."""
        return scenes[make_scene_id(self.scene, self.protocol)]

    @property
    def episodes_by_oracle(self) -> dict[str, int]:
        """Number of episodes of each oracle in each split."""
        return {"oracle": self.oracle_episodes, "oracle-large": self.oracle_large_episodes}

    @property
    def collection_steps(self) -> int:
        """Env steps of all rounds."""
        return sum(round_.steps for round_ in self.rounds)

    def with_protocol(self, protocol: str) -> "ExperimentConfig":
        """Make the same experiment under another protocol, with its split and number of episodes.

        Raises:
            UnknownName: the scene has no such protocol.
        """
        if protocol == self.protocol:
            return self
        evaluation = scenes[self.scene].protocols.get(protocol)
        return replace(self, protocol=protocol, episodes={evaluation.split: evaluation.episodes} if evaluation else {"test": 20})

    def _check_traffic(self) -> None:
        scene = scenes[self.scene]
        for name in self.prediction_baselines:
            if name not in PREDICTION_BASELINES:
                raise UnknownName("prediction baseline", name, PREDICTION_BASELINES)
            if not scene.max_traffic:
                raise GroundError(f"prediction_baselines: {scene.name} has no traffic to predict")
            if not self.models:
                raise GroundError("prediction_baselines: a model predicts the robot's own motion, and models is empty")
        if any(baseline.name == "dyna" for baseline in self.baselines):
            if not self.models:
                raise GroundError("baselines: dyna learns in a model, and models is empty")
            if scene.max_traffic:
                raise GroundError(f"baselines: dyna cannot predict the traffic of {scene.name}: leave it out")

    def _check_training_grid(self) -> None:
        agent_names = [baseline.method_name for baseline in self.baselines]
        model_names = [model.name for model in self.models]
        unique = {"models": model_names, "searches": self.searches, "train_seeds": self.train_seeds}
        for name, values in {**unique, "data_steps": self.data_steps, "baselines": agent_names}.items():
            if len(set(values)) < len(values):
                raise GroundError(f"{name}: each may occur once")
        for name in agent_names:
            for steps in self.data_steps:
                if steps < self.baseline_steps and f"{name}-{format_thousands(steps)}" in agent_names:
                    raise GroundError(f"baselines: {name}-{format_thousands(steps)} is a snapshot of {name} already (data_steps)")
        if not self.train_seeds or min(self.train_seeds) < 0:
            raise GroundError(f"train_seeds {list(self.train_seeds)}: at least one is needed, and none below 0")
        if self.data_steps and not 2000 <= min(self.data_steps) <= max(self.data_steps) <= self.collection_steps:
            raise GroundError(f"data_steps {list(self.data_steps)}: between 2000 and the {self.collection_steps} of all rounds")

    def _check_collection(self) -> None:
        if not self.rounds or min(self.held_out_steps, *(round_.steps for round_ in self.rounds)) < MIN_COLLECTION_STEPS:
            raise GroundError(f"at least one round is needed, and {MIN_COLLECTION_STEPS} steps in each and in held_out_steps")
        if "planner" in self.rounds[0].behaviours:
            raise GroundError("round 1: behaviour planner needs the model of an earlier round, and there is no model yet")
        behaviours = scenes[self.scene].behaviours
        _check_behaviours("held_out", self.held_out, behaviours)
        for number, round_ in enumerate(self.rounds, 1):
            _check_behaviours(f"round {number}", round_.behaviours, (*behaviours, "planner"))

    def _check_evaluation(self) -> None:
        splits = self.evaluation_scene.splits
        for split, count in self.episodes.items():
            if split not in splits:
                raise UnknownName("split", split, splits)
            if split == "train" or count < 1:
                raise GroundError(f"episodes.{split} = {count}: at least one episode, and never in the training split")
        if not self.episodes:
            raise GroundError("episodes: at least one split is needed, as in test = 20")
        for name in ("oracle_episodes", "oracle_large_episodes", "seed"):
            if getattr(self, name) < 0:
                raise GroundError(f"{name} = {getattr(self, name)}: at least 0 is needed")
        if self.budget_s is not None and not self.budget_s > 0:
            raise GroundError(f"budget_s = {self.budget_s}: a decision needs some time")
        if self.batch_episodes < 1:
            raise GroundError(f"batch_episodes = {self.batch_episodes}: at least 1 is needed")


def _check_behaviours(key: str, behaviours: dict[str, float], known: Iterable[str]) -> None:
    for name, weight in behaviours.items():
        if name not in known:
            raise UnknownName("behaviour", name, known)
        if not 0 < weight < float("inf"):
            raise GroundError(f"{key}: behaviour {name} = {weight:g}: a positive weight is needed")


_structure_baseline = cattrs.gen.make_dict_structure_fn(BaselineTrainingConfig, CONVERTER)
CONVERTER.register_structure_hook(
    BaselineTrainingConfig,
    lambda value, kind: BaselineTrainingConfig(value) if isinstance(value, str) else _structure_baseline(value, kind),
)


def list_presets() -> list[str]:
    """List the experiments that come with the project."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_experiment(source: str) -> ExperimentConfig:
    """Load an experiment by the name of a preset, or from a TOML file.

    Raises:
        GroundError: it cannot be read, or a value is wrong.
    """
    return parse_config({"name": Path(source).stem, **_read_toml(source)}, source)


def parse_config(content: dict[str, Any], source: str) -> ExperimentConfig:
    """Parse an experiment.

    Args:
        source: name of the file, for messages.

    Raises:
        GroundError: a key or a value is wrong.
    """
    try:
        return CONVERTER.structure(content, ExperimentConfig)
    except GroundError:
        raise
    except Exception as error:  # cattrs raises groups of whatever the fields raise
        if ground_error := _find_ground_error(error):
            raise GroundError(f"{source}: {ground_error}") from error
        messages = "; ".join(cattrs.transform_error(error))
        raise GroundError(f"{source}: {messages}; known: {', '.join(f.name for f in fields(ExperimentConfig))}") from error


def read_config(run_path: Path) -> ExperimentConfig:
    """Read the experiment of a run directory or an export.

    Raises:
        BadFile: the directory is no run, or its config is damaged.
    """
    file = run_path / "config.json"
    if not file.exists():
        raise BadFile(f"{run_path} is no run directory (config.json is missing)")
    content = read_json(file)
    if not isinstance(content, dict):
        raise BadFile(f"{file} is damaged: it holds no experiment")
    return parse_config(migrate_config(content), str(file))


def _find_ground_error(error: BaseException) -> GroundError | None:
    """Find the first GroundError in a tree of exception groups."""
    if isinstance(error, GroundError):
        return error
    return next(filter(None, map(_find_ground_error, getattr(error, "exceptions", ()))), None)


def _read_toml(source: str, derived_paths: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a TOML file over its `base`; `derived_paths` are the files that are based on it."""
    path = Path(source)
    if path.suffix != ".toml":
        if source not in list_presets():
            raise UnknownName("experiment", source, list_presets())
        path = PRESETS / f"{source}.toml"
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
        raise GroundError(f"{path}: its base '{base}' is based on this file")
    return {**_read_toml(base, (*derived_paths, path.resolve())), "name": path.stem, **content}
