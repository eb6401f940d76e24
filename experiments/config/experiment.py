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
from experiments.migrations import read_saved_config
from sim.scenes.scene import DEFAULT_PROTOCOL, Scene, make_scene_id, scenes
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.variation import Variations
from worldmodels.baselines import PREDICTION_BASELINES
from worldmodels.model import models
from worldmodels.training.loop import TrainConfig

MIN_COLLECTION_STEPS = 500  # with fewer, data has too few contacts for training and measuring
MAX_NUMBER = 1e15  # of all settings: floats represent whole numbers exactly up to here
PRESETS = Path(__file__).parent / "presets"
CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class CollectionRound:
    """Settings of one round of data collection.

    Behaviour "planner" plans with the graph model that is trained on the previous rounds.
    """

    steps: int  # env steps
    behaviours: dict[str, float] = field(default_factory=dict)  # weights; empty: the scene's mix
    updates: int = 0  # to train the graph model for the next round; 0: DEFAULT_ROUND_UPDATES


@dataclass(frozen=True)
class ModelTrainingConfig:
    """Settings of one world model: it is trained, and planners use it."""

    name: str = "graph"
    train: TrainConfig = TrainConfig()
    episodes: int | None = None  # limit of episodes per split for slow models; None: no limit
    searches: tuple[str, ...] = ()  # search methods; empty: those of the experiment


@dataclass(frozen=True)
class BaselineTrainingConfig:
    """Settings of one SB3 agent to train. In a TOML file, its name alone is enough."""

    name: str  # algorithm
    steps: int | None = None  # env steps; None: `baseline_steps` of the experiment

    def __post_init__(self) -> None:
        if self.name not in ALGORITHMS:
            raise UnknownName("algorithm", self.name, ALGORITHMS)
        if self.steps is not None and self.steps < 1:
            raise GroundError(f"baselines: {self.name} needs positive steps, not {self.steps}")

    @property
    def method_name(self) -> str:
        """Name of the method: the algorithm, with the number of steps if `steps` is set."""
        return f"{self.name}-{format_thousands(self.steps)}" if self.steps else self.name


def format_thousands(steps: int) -> str:
    """Format a number of steps for the name of a method, as in 12k."""
    return f"{steps / 1000:g}k"


@dataclass(frozen=True)
class ExperimentConfig:
    """Settings of one experiment: scene, data collection, models and agents, evaluation."""

    name: str
    scene: str = "logistics/tote-push"
    protocol: str = DEFAULT_PROTOCOL  # evaluation protocol of the scene
    seed: int = 0
    # Data collection.
    rounds: tuple[CollectionRound, ...] = (CollectionRound(20_000),)  # training data
    variations: tuple[str, ...] = ()  # variations of the training data
    # Data of splits val (selects checkpoints) and test (open-loop errors).
    held_out_steps: int = 6_000  # env steps in each of the two splits
    held_out: dict[str, float] = field(default_factory=dict)  # behaviours; empty: the scene's mix
    # Models and their planners.
    models: tuple[ModelTrainingConfig, ...] = (ModelTrainingConfig(),)
    search: str = "mppi"  # method for data collection, oracles and smaller amounts of data
    searches: tuple[str, ...] = ()  # methods to compare with each model; empty: only `search`
    train_seeds: tuple[int, ...] = (0,)  # each model and agent is trained once per seed
    # Numbers of env steps at which models are also trained and agents also saved.
    data_steps: tuple[int, ...] = ()
    prediction_baselines: tuple[str, ...] = ()  # of traffic: "static", "constant-velocity"
    planner: SearchConfig = SearchConfig()
    collection_planner: SearchConfig = SearchConfig(samples=64, horizon=20)
    # Time limit of a decision. With a limit, results depend on the speed of the machine.
    budget_s: float | None = None
    # Halves the time of a model step. Compilation takes half a minute.
    compile_models: bool = False
    # Episodes that a worker plans in one batch. It changes the last digits of results.
    batch_episodes: int = 1
    # SB3 agents.
    baselines: tuple[BaselineTrainingConfig, ...] = (BaselineTrainingConfig("sac"), BaselineTrainingConfig("ppo"))
    baseline_steps: int = 100_000  # env steps of each agent
    # Evaluation of all methods, and of oracles (the true simulator as model).
    episodes: dict[str, int] = field(default_factory=lambda: {"test": 20})  # number per split
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
                raise GroundError(f"models: {model.name} has episodes = {model.episodes}: give at least 1, or remove the key")
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
                raise GroundError(f"baselines: dyna cannot predict the traffic of {scene.name}: remove it")

    def _check_training_grid(self) -> None:
        agent_names = [baseline.method_name for baseline in self.baselines]
        model_names = [model.name for model in self.models]
        unique = {"models": model_names, "searches": self.searches, "train_seeds": self.train_seeds}
        for name, values in {**unique, "data_steps": self.data_steps, "baselines": agent_names}.items():
            if len(set(values)) < len(values):
                raise GroundError(f"{name}: a name or number occurs twice")
        for name in agent_names:
            for steps in self.data_steps:
                if steps < self.baseline_steps and f"{name}-{format_thousands(steps)}" in agent_names:
                    raise GroundError(f"baselines: data_steps makes {name}-{format_thousands(steps)} already: remove one of them")
        if not self.train_seeds or min(self.train_seeds) < 0:
            raise GroundError(f"train_seeds {list(self.train_seeds)}: at least one seed is needed, and none may be negative")
        if self.data_steps and not 2000 <= min(self.data_steps) <= max(self.data_steps) <= self.collection_steps:
            raise GroundError(f"data_steps {list(self.data_steps)}: not within 2000 to {self.collection_steps} (all rounds)")

    def _check_collection(self) -> None:
        if not self.rounds or min(self.held_out_steps, *(round_.steps for round_ in self.rounds)) < MIN_COLLECTION_STEPS:
            raise GroundError(f"at least one round is needed, and {MIN_COLLECTION_STEPS} steps in each and in held_out_steps")
        if "planner" in self.rounds[0].behaviours:
            raise GroundError("round 1: behaviour planner needs the model of a previous round")

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
                raise GroundError(f"episodes.{split} = {count}: at least one episode is needed, and none in split train")
        if not self.episodes:
            raise GroundError("episodes: at least one split is needed, as in test = 20")
        for name in ("oracle_episodes", "oracle_large_episodes", "seed"):
            if getattr(self, name) < 0:
                raise GroundError(f"{name} = {getattr(self, name)}: at least 0 is needed")
        if self.budget_s is not None and not self.budget_s > 0:
            raise GroundError(f"budget_s = {self.budget_s}: must be positive")
        if self.batch_episodes < 1:
            raise GroundError(f"batch_episodes = {self.batch_episodes}: at least 1 is needed")


def _check_behaviours(key: str, behaviours: dict[str, float], known: Iterable[str]) -> None:
    for name, weight in behaviours.items():
        if name not in known:
            raise UnknownName("behaviour", name, known)
        if not 0 < weight < float("inf"):
            raise GroundError(f"{key}: behaviour {name} = {weight:g}: a positive weight is needed")


def _structure_number(value: Any, kind: type) -> int | float | bool:
    """Convert a number or a truth value; cattrs would also convert 1.5 to 1, and "no" to True."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_NUMBER
    if not (isinstance(value, bool) if kind is bool else is_number and kind(value) == value):
        raise ValueError(value)  # the message names the key and the kind
    return kind(value)


for _kind in (int, float, bool):
    CONVERTER.register_structure_hook(_kind, _structure_number)
_structure_baseline = cattrs.gen.make_dict_structure_fn(BaselineTrainingConfig, CONVERTER)
CONVERTER.register_structure_hook(
    BaselineTrainingConfig,
    lambda value, kind: BaselineTrainingConfig(value) if isinstance(value, str) else _structure_baseline(value, kind),
)


def list_presets() -> list[str]:
    """List the names of the included presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def load_experiment(source: str) -> ExperimentConfig:
    """Load an experiment by the name of a preset, or from a TOML file.

    Raises:
        GroundError: the file cannot be read, or a value is wrong.
    """
    return parse_config({"name": Path(source).stem, **_read_toml(source)}, source)


def parse_config(content: dict[str, Any], source: str) -> ExperimentConfig:
    """Parse the settings of an experiment.

    Args:
        content: keys and values of the file.
        source: name of the file, for messages.

    Raises:
        GroundError: a key or a value is wrong.
    """
    try:
        return CONVERTER.structure(content, ExperimentConfig)
    except GroundError:
        raise
    except Exception as error:  # an exception group with the errors of the fields
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
    return parse_config(read_saved_config(run_path), str(file))


def _find_ground_error(error: BaseException) -> GroundError | None:
    """Find the first GroundError in a tree of exception groups."""
    if isinstance(error, GroundError):
        return error
    return next(filter(None, map(_find_ground_error, getattr(error, "exceptions", ()))), None)


def _read_toml(source: str, derived_paths: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a TOML file; keys that it lacks are those of its `base`.

    Args:
        derived_paths: files whose `base` leads to this file, to detect a circle.
    """
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
