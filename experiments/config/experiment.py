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
from sim.scenes.scene import DEFAULT_PROTOCOL, Scene, make_scene_id, scenes
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import read_json
from sim.variation import Variations
from worldmodels.assumed import PREDICTION_BASELINES
from worldmodels.model import models
from worldmodels.training.loop import TrainConfig

LEAST_STEPS = 500  # fewer hold too little contact to train or measure anything
CONVERTER = cattrs.Converter(forbid_extra_keys=True)


@dataclass(frozen=True)
class Round:
    """One round of data: how much, from which behaviours. "planner" is the graph model of the round before, planning."""

    steps: int
    behaviours: dict[str, float] = field(default_factory=dict)  # none: the scene's own mix
    updates: int = 0  # of the first model after this round; 0: the last round, where all models are trained in full


@dataclass(frozen=True)
class ModelPlan:
    """One model to train and to plan with."""

    name: str = "graph"
    train: TrainConfig = TrainConfig()
    episodes: int | None = None  # at most this many per split, for a model that plans slowly; tables say how many there were
    searches: tuple[str, ...] = ()  # none: the experiment's


@dataclass(frozen=True)
class BaselinePlan:
    """One SB3 agent to train. In a file its name alone stands for one of `baseline_steps`."""

    name: str
    steps: int | None = None

    @property
    def arm(self) -> str:
        return self.name + (f"-{thousands(self.steps)}" if self.steps else "")

    def __post_init__(self) -> None:
        if self.name not in ALGORITHMS:
            raise UnknownName("algorithm", self.name, ALGORITHMS)
        if self.steps is not None and self.steps < 1:
            raise GroundError(f"baselines: {self.name} needs positive steps, not {self.steps}")


def thousands(steps: int) -> str:
    """Steps in the name of an arm: 12k."""
    return f"{steps / 1000:g}k"


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that `ground run` does."""

    name: str
    scene: str = "logistics/tote-push"
    protocol: str = DEFAULT_PROTOCOL  # one of the scene's, by which it is evaluated
    seed: int = 0
    rounds: tuple[Round, ...] = (Round(20_000),)
    variations: tuple[str, ...] = ()
    held_out_steps: int = 6_000  # collected in the splits val (to choose the best update) and test (to measure fidelity)
    held_out: dict[str, float] = field(default_factory=dict)  # behaviours of those, whatever is trained on; none: the scene's mix
    models: tuple[ModelPlan, ...] = (ModelPlan(),)
    search: str = "mppi"  # of the planner that collects, of the oracle, and of models on a part of the data
    searches: tuple[str, ...] = ()  # of the planners that are compared, with each model; none: `search` alone
    train_seeds: tuple[int, ...] = (0,)  # models and agents are trained once per seed
    data_steps: tuple[int, ...] = ()  # models are trained on the first so many env steps too, agents evaluated after as many
    assumptions: tuple[str, ...] = ()  # about traffic, by planners that do not foresee it: "still", "constant-velocity"
    planning: SearchConfig = SearchConfig()
    collecting: SearchConfig = SearchConfig(samples=64, horizon=20)
    budget_s: float | None = None  # of a decision; None: all iterations, so that results do not depend on the machine
    compiled: bool = False  # planners' models: steps take half as long, after half a minute's compilation at the first run
    together: int = 1  # episodes that a worker plays in lock-step, their candidates in one rollout; last digits depend on it
    baselines: tuple[BaselinePlan, ...] = (BaselinePlan("sac"), BaselinePlan("ppo"))
    baseline_steps: int = 100_000
    episodes: dict[str, int] = field(default_factory=lambda: {"test": 20})
    oracle: int = 0
    oracle_planning: SearchConfig = SearchConfig(samples=48)
    oracle_large: int = 0  # episodes of an oracle with a larger budget: what search leaves undone, whatever the model
    oracle_large_planning: SearchConfig = SearchConfig(samples=192, iterations=4)

    def __post_init__(self) -> None:
        scene, played = scenes[self.scene], self.played
        for name in (self.search, *self.searches, *(name for plan in self.models for name in plan.searches)):
            searches[name]
        for plan in self.models:
            models[plan.name]
        for assumption in self.assumptions:
            if assumption not in PREDICTION_BASELINES:
                raise UnknownName("assumption about traffic", assumption, PREDICTION_BASELINES)
            if not scene.max_traffic:
                raise GroundError(f"assumptions: {scene.name} has no traffic to assume anything of")
            if not self.models:
                raise GroundError("assumptions: the robot's own motion is a model's, and there is none")
        self._check_matrix()
        for split, count in self.episodes.items():
            if split not in played.splits:
                raise UnknownName("split", split, played.splits)
            if split == "train" or count < 1:
                raise GroundError(f"episodes.{split} = {count}: at least one episode, and never in the training split")
        if not self.episodes:
            raise GroundError("episodes: at least one split is needed, as in test = 20")
        for name, count in (("oracle", self.oracle), ("oracle_large", self.oracle_large), ("seed", self.seed)):
            if count < 0:
                raise GroundError(f"{name} = {count} must not be negative")
        for plan in self.models:
            if plan.episodes is not None and plan.episodes < 1:
                raise GroundError(f"models: {plan.name} needs at least one episode, not {plan.episodes}: or leave the model out")
        if self.budget_s is not None and not self.budget_s > 0:
            raise GroundError(f"budget_s = {self.budget_s}: a decision needs some time")
        if self.together < 1:
            raise GroundError(f"together = {self.together}: at least one episode is played at a time")
        if not self.rounds or min(self.held_out_steps, *(round_.steps for round_ in self.rounds)) < LEAST_STEPS:
            raise GroundError(
                f"at least one round is needed, and at least {LEAST_STEPS} steps in each round and in held_out_steps"
            )
        if len({plan.name for plan in self.models}) < len(self.models):
            raise GroundError("models: each name may stand once")
        Variations.parse(self.variations)
        _check_behaviours("held_out", self.held_out, scene.behaviours)
        for number, round_ in enumerate(self.rounds, 1):
            if number == 1 and "planner" in round_.behaviours:
                raise GroundError("the first round cannot hold the planner's own behaviour: there is no model yet")
            _check_behaviours(f"round {number}", round_.behaviours, (*scene.behaviours, "planner"))

    @property
    def played(self) -> Scene:
        """The scene as it is evaluated."""
        return scenes[make_scene_id(self.scene, self.protocol)]

    @property
    def oracles(self) -> dict[str, int]:
        """How many episodes each plays, by name."""
        return {"oracle": self.oracle, "oracle-large": self.oracle_large}

    def under(self, protocol: str) -> "ExperimentConfig":
        """The same experiment, evaluated by another protocol with as many episodes as that has."""
        if protocol == self.protocol:
            return self
        way = scenes[self.scene].protocols.get(protocol)
        return replace(self, protocol=protocol, episodes={way.split: way.episodes} if way else {"test": 20})

    def _check_matrix(self) -> None:
        agents = [plan.arm for plan in self.baselines]
        for name, values in (("searches", self.searches), ("train_seeds", self.train_seeds), ("data_steps", self.data_steps),
                             ("baselines", agents)):  # fmt: skip
            if len(set(values)) < len(values):
                raise GroundError(f"{name}: each may stand once")
        kept = [f"{plan.arm}-{thousands(at)}" for plan in self.baselines for at in self.data_steps if at < self.baseline_steps]
        for name in kept:
            if name in agents:
                raise GroundError(
                    f"baselines: {name} is kept on the way of a longer training already, by data_steps: leave it out"
                )
        if not self.train_seeds or min(self.train_seeds) < 0:
            raise GroundError(f"train_seeds {list(self.train_seeds)}: at least one is needed, and none below 0")
        if self.data_steps and not 2000 <= min(self.data_steps) <= max(self.data_steps) <= self.steps:
            raise GroundError(f"data_steps {list(self.data_steps)} must be between 2000 and the {self.steps} of all rounds")
        if any(plan.name == "dyna" for plan in self.baselines):
            if not self.models:
                raise GroundError("baselines: dyna learns in a model, and there is none")
            if scenes[self.scene].max_traffic:
                raise GroundError(f"baselines: dyna cannot imagine the traffic of {self.scene} yet: leave it out there")

    @property
    def steps(self) -> int:
        """Env steps of all rounds."""
        return sum(round_.steps for round_ in self.rounds)


def _check_behaviours(where: str, behaviours: dict[str, float], known: Iterable[str]) -> None:
    for name, weight in behaviours.items():
        if name not in known:
            raise UnknownName("behaviour", name, known)
        if not 0 < weight < float("inf"):
            raise GroundError(f"{where}: behaviour {name} = {weight:g}: a positive weight is needed")


_plan_of = cattrs.gen.make_dict_structure_fn(BaselinePlan, CONVERTER)
CONVERTER.register_structure_hook(
    BaselinePlan, lambda value, kind: BaselinePlan(value) if isinstance(value, str) else _plan_of(value, kind)
)


def names() -> list[str]:
    """Experiments that come with the project."""
    return sorted(
        path.name.removesuffix(".toml") for path in files("experiments.config.presets").iterdir() if path.name.endswith(".toml")
    )


def load(name: str) -> ExperimentConfig:
    """An experiment by name, or from a TOML file."""
    content = _content(name)
    content.setdefault("name", Path(name).stem)
    return structure(content, name)


def structure(content: dict[str, Any], source: str) -> ExperimentConfig:
    try:
        return CONVERTER.structure(content, ExperimentConfig)
    except GroundError:
        raise
    except Exception as error:  # cattrs raises groups of whatever the fields raise
        found = _ground_error(error)
        if found is not None:
            raise GroundError(f"{source}: {found}") from error
        lines = "; ".join(cattrs.transform_error(error))
        raise GroundError(f"{source}: {lines}; known: {', '.join(f.name for f in fields(ExperimentConfig))}") from error


def config_of(run: Path) -> ExperimentConfig:
    """The experiment that a run directory holds."""
    file = run / "config.json"
    if not file.exists():
        raise BadFile(f"{run} is no run directory (config.json is missing)")
    return structure(read_json(file), str(file))


def _ground_error(error: BaseException) -> GroundError | None:
    """The first of our own errors in a tree of groups."""
    if isinstance(error, GroundError):
        return error
    for inner in getattr(error, "exceptions", ()):
        if found := _ground_error(inner):
            return found
    return None


def _content(name: str, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A TOML file's content, laid over that of its `base`; `above` are the files that build on it."""
    path = Path(name)
    if path.suffix != ".toml":
        if name not in names():
            raise UnknownName("experiment", name, names())
        path = Path(str(files("experiments.config.presets"))) / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise GroundError(f"{path} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise GroundError(f"{path} is not TOML ({error})") from error
    if "base" not in content:
        return content
    base = str(content.pop("base"))
    if path.resolve() in above:
        raise GroundError(f"{path}: its base '{base}' builds on itself")
    return {**_content(base, (*above, path.resolve())), "name": path.stem, **content}
