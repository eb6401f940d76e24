"""Arms × spaces → one row per episode. Every arm meets the same spaces and seeds; results do not depend on the workers.

An episode is one job. Its row and what happened in it are written before it counts, so an interrupted evaluation goes on. Where
an arm plays several `together`, so many neighbours in a split are one job, whoever plays it, and are played again as one.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from agents.build import PlannerSpec
from agents.objective import Imagined, Objective
from agents.planner import Decision, Planner
from agents.search import KNOTS, SearchConfig, spline_basis
from agents.together import act_together
from experiments.cache import Cache
from sim.bodies import Kind
from sim.dataset import Episode, read_shard, write_shard
from sim.env import GroundEnv
from sim.errors import BadFile, GroundError
from sim.files import write_atomic
from sim.layout import Layout
from sim.outline import TOUCH_M, gaps
from sim.policy import Policy, PolicyFactory
from sim.scenes import parted, scenes
from sim.task import Task
from sim.workers import finished
from worldmodels.simulator import SimulatorModel

ROWS_VERSION = 1
LATER = ("method", "search_samples", "search_iterations", "search_horizon", "train_seed", "data_bytes", "collect_cpu_s")
# Columns that rows of earlier runs lack; they are read as None.
CHECK_EVERY = 10  # decisions between two looks at what the chosen plan would really do
TOUCHING = "touching"  # kind of violation: near what stands still; forces, which would make it one, are not imagined
RANDOM_PLANS = 2  # looked at beside it, from the same state


@dataclass(frozen=True)
class Arm:
    """One contestant: a policy and what it cost to make."""

    name: str
    factory: PolicyFactory
    model: str = ""
    search: str = ""
    env_steps: int = 0
    train_cpu_s: float = 0.0
    seen: frozenset[str] = frozenset()  # layout ids it was trained on
    episodes: int | None = None  # at most this many per split
    method: str = ""  # its name, whatever the amount of its data or training; "": the name itself
    planning: SearchConfig | None = None
    train_seed: int | None = None  # None: nothing was trained
    data_bytes: int = 0  # of the episodes it was trained on, as they lie on the disk
    collect_cpu_s: float = 0.0  # part of train_cpu_s
    together: int = 1  # episodes that are played in lock-step, where its planners can imagine together
    content: Mapping[str, Any] | None = field(default=None, compare=False)  # what its episodes depend on; None: not to be cached

    @property
    def label(self) -> str:
        """Name, and training seed where it is not the first."""
        return label(self.name, self.train_seed)

    def facts(self) -> dict[str, Any]:
        """What each of its rows says of the arm."""
        search = self.planning
        return {
            "agent": self.name,
            "method": self.method or self.name,
            "model": self.model,
            "search": self.search,
            "search_samples": search and search.samples,
            "search_iterations": search and search.iterations,
            "search_horizon": search and search.horizon,
            "train_seed": self.train_seed,
            "env_steps": self.env_steps,
            "data_bytes": self.data_bytes,
            "train_cpu_s": self.train_cpu_s,
            "collect_cpu_s": self.collect_cpu_s,
        }


def label(agent: str, train_seed: int | None) -> str:
    return f"{agent}@{train_seed}" if train_seed else agent


def arm_of(row: Mapping[str, Any]) -> str:
    """The label of the arm whose episode a row is of."""
    return label(str(row["agent"]), row.get("train_seed"))


@dataclass(frozen=True)
class Trial:
    """One episode to be played."""

    run: str
    scene: str
    split: str
    index: int
    seed: int
    layout: Layout
    variations: tuple[str, ...] = ()


Progress = Callable[[int, int], None]


def evaluate(
    arm: Arm,
    trials: list[Trial],
    path: Path,
    workers: int = 2,
    progress: Progress = lambda done, total: None,
    cache: Cache | None = None,
) -> list[dict[str, Any]]:
    """Rows of all trials, in their order; batches that are in `path` or in the cache are not played again."""
    seen = [trial for trial in trials if trial.layout.id in arm.seen]
    if seen:
        where = f"{seen[0].layout.id} ({seen[0].split}/{seen[0].index})"
        raise GroundError(f"{arm.name} was trained on layout {where}: it cannot be evaluated there")
    files = {trial.index: _file(path, trial.split, trial.index, arm.train_seed) for trial in trials}
    missing = [batch for batch in batches(arm, trials) if not all(_row(files[trial.index]) for trial in batch)]
    if cache is not None and arm.content is not None:
        kept = [all(_take(cache, arm, batch, trial, files[trial.index]) for trial in batch) for batch in missing]
        missing = [batch for batch, taken in zip(missing, kept, strict=True) if not taken]
    done = len(trials) - sum(map(len, missing))
    progress(done, len(trials))
    for batch in finished(play_and_write, [(arm, batch, path) for batch in missing], workers):
        if cache is not None and arm.content is not None:
            for trial in batch:
                file = files[trial.index]
                cache.keep(_cell(arm, batch, trial), {"episode.parquet": file}, _row(file))
        done += len(batch)
        progress(done, len(trials))
    rows = [_row(file) for file in files.values()]
    return [row for row in rows if row is not None]


def batches(arm: Arm, trials: Sequence[Trial]) -> list[list[Trial]]:
    """Trials that are played together: by their places in the split, whatever is there already and whoever plays them."""
    return [list(batch) for _, batch in groupby(trials, lambda trial: (trial.split, trial.index // arm.together))]


def _cell(arm: Arm, batch: Sequence[Trial], trial: Trial) -> dict[str, Any]:
    """What an episode depends on: the last digits of its numbers, on what is imagined with it."""
    where = [{"layout": one.layout.id, "seed": one.seed, "split": one.split, "index": one.index} for one in (trial, *batch)]
    about = {"scene": trial.scene, "variations": trial.variations, "arm": arm.content, "rows": ROWS_VERSION}
    return {"episode": where[0], **about, **({"together": where[1:]} if len(batch) > 1 else {})}


def _take(cache: Cache, arm: Arm, batch: Sequence[Trial], trial: Trial, file: Path) -> bool:
    """An episode that was played in another run; its row now speaks of this one."""
    row = cache.take(_cell(arm, batch, trial), lambda name: file)
    if row is None:
        return False
    _write_row(file, {**row, "run": trial.run, **arm.facts()})
    return True


def _file(path: Path, split: str, index: int, train_seed: int | None) -> Path:
    """An episode's file; those of further training seeds lie beside those of the first."""
    return path / (label(f"{split}-{index:05d}", train_seed) + ".parquet")


def _row(file: Path) -> dict[str, Any] | None:
    """The row that lies in an episode's file, or None where there is none or it is damaged."""
    try:
        file.stat()
        there = file.with_suffix(".row").stat()
    except FileNotFoundError:
        return None
    row = _read_row(file.with_suffix(".row"), there.st_mtime_ns, there.st_ino)
    return row and {**dict.fromkeys(LATER), **row}


@lru_cache(maxsize=100_000)
def _read_row(file: Path, changed_ns: int, inode: int) -> dict[str, Any] | None:
    """A row as it is; a report looks at each several times."""
    with contextlib.suppress(pa.ArrowException, OSError, KeyError, ValueError, IndexError):
        table = pq.read_table(file)
        if int((table.schema.metadata or {}).get(b"rows_version", b"0")) == ROWS_VERSION:
            return dict(table.to_pylist()[0])
    return None


def episode_file(path: Path, row: Mapping[str, Any]) -> Path:
    """Where the episode of a row is kept."""
    return _file(path, row["split"], row["index"], row["train_seed"])


def episode_of(path: Path, row: Mapping[str, Any]) -> Episode:
    """What happened in the episode of a row."""
    return read_shard(episode_file(path, row))[0]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Every row below a directory; damaged files are left out (and would be played again)."""
    rows = [_row(file.with_suffix(".parquet")) for file in sorted(path.rglob("*.row"))]
    return [row for row in rows if row is not None]


def unreadable(path: Path) -> list[Path]:
    """Row files below a directory that are damaged or of another version."""
    return [file for file in sorted(path.rglob("*.row")) if _row(file.with_suffix(".parquet")) is None]


def play_again(arm: Arm, batch: Sequence[Trial]) -> list[tuple[dict[str, Any], Episode]]:
    """Episodes by an arm's policies, which are kept for the next ones."""
    return play(_policies(arm.factory, arm.together)[: len(batch)], arm, batch)


def play_and_write(arm: Arm, batch: Sequence[Trial], path: Path) -> Sequence[Trial]:
    """Play one batch; each episode is written first, its row last: with it the trial is done."""
    for trial, (row, episode) in zip(batch, play_again(arm, batch), strict=True):
        file = _file(path, trial.split, trial.index, arm.train_seed)
        write_shard(file, [episode], first_episode=trial.index, movers=episode.pose.shape[1])
        _write_row(file, row)
    return batch


def _write_row(file: Path, row: dict[str, Any]) -> None:
    table = pa.Table.from_pylist([row]).replace_schema_metadata({"rows_version": str(ROWS_VERSION)})
    write_atomic(file.with_suffix(".row"), lambda to: pq.write_table(table, to))


@lru_cache(maxsize=2)
def _policies(factory: PolicyFactory, count: int) -> Sequence[Policy]:
    torch.set_num_threads(1)
    return factory.several(count) if isinstance(factory, PlannerSpec) else [factory() for _ in range(count)]


@lru_cache(maxsize=32)
def _env(scene: str, split: str, variations: tuple[str, ...], number: int) -> GroundEnv:
    split = split if split in scenes[scene].splits else "test"  # a space of the user's own has no split
    return GroundEnv(scene, split, variations=scenes[scene].varied(split, variations))


def play(policies: Sequence[Policy], arm: Arm, batch: Sequence[Trial]) -> list[tuple[dict[str, Any], Episode]]:
    """Episodes in lock-step, each by a policy and in an environment of its own: their rows and what happened."""
    games = [_Game(policy, trial, number) for number, (policy, trial) in enumerate(zip(policies, batch, strict=True))]
    while playing := [game for game in games if not game.over]:
        begun = time.perf_counter()
        actions = act_together([game.policy for game in playing], [game.observation for game in playing])
        seconds = (time.perf_counter() - begun) / len(playing)
        for game, action in zip(playing, actions, strict=True):
            game.act(action, seconds)
    return [game.result(arm) for game in games]


class _Game:
    """One episode on its way."""

    def __init__(self, policy: Policy, trial: Trial, number: int) -> None:
        self.policy, self._trial = policy, trial
        self._env = _env(trial.scene, trial.split, trial.variations, number)
        self.observation, self._info = self._env.reset(seed=trial.seed, options={"layout": trial.layout})
        policy.begin(self._env.start(trial.seed))
        self._log, self.over = _Log(self._env, policy), False
        self._log.before(self._info)

    def act(self, action: np.ndarray, seconds: float) -> None:
        self._log.decided(seconds, action, self.observation, self._trial)
        self.observation, _, success, truncated, self._info = self._env.step(action)
        self._log.before(self._info)
        self.over = success or truncated

    def result(self, arm: Arm) -> tuple[dict[str, Any], Episode]:
        trial, success = self._trial, self._info["success"]
        row = {
            "run": trial.run,
            "scene": trial.scene,
            "protocol": parted(trial.scene)[1],
            "layout_id": trial.layout.id,
            "split": trial.split,
            "index": trial.index,
            "seed": trial.seed,
            **arm.facts(),
            **asdict(self._env.variation),
            **self._log.summary(success),
        }
        return row, self._log.episode(trial, arm.name, success)


class _Log:
    """Collects one episode."""

    def __init__(self, env: GroundEnv, policy: Policy) -> None:
        self._env, self._planner = env, policy if isinstance(policy, Planner) else None
        self._pose: list[np.ndarray] = []
        self._twist: list[np.ndarray] = []
        self._action: list[np.ndarray] = []
        self._info: list[dict[str, Any]] = []
        self._seconds: list[float] = []
        self._disagreement: list[float] = []
        self._checks: list[_Check] = []
        self._truth: Objective | None = None

    def before(self, info: dict[str, Any]) -> None:
        """The state, before each action and once at the end."""
        movers = int(self._env.bodies.dynamic.sum())
        self._pose.append(self._env.bodies.pose[:movers].copy())
        self._twist.append(self._env.bodies.twist[:movers].copy())
        self._info.append(info)

    def decided(self, seconds: float, action: np.ndarray, observation: dict[str, np.ndarray], trial: Trial) -> None:
        self._seconds.append(seconds)
        self._action.append(np.asarray(action, np.float32))
        decision = self._planner.last if self._planner else None
        if decision is None:
            return
        if decision.disagreement is not None:
            self._disagreement.append(decision.disagreement)
        if (len(self._action) - 1) % CHECK_EVERY == 0:
            self._checks.append(self._check(decision, observation, trial))

    def _check(self, decision: Decision, observation: dict[str, np.ndarray], trial: Trial) -> "_Check":
        """What the chosen plan and random ones would really do, carried out to their ends in the true simulator."""
        assert self._planner is not None
        if self._truth is None:
            simulator = SimulatorModel(trial.scene)
            simulator.start_episode(self._env.start(trial.seed))
            self._truth = Objective(simulator, self._env.scene.task, self._env.scene.hold_steps)
        self._truth.begin(observation)
        plans = torch.cat([decision.plan[None], random_plans(decision.plan, trial.seed, len(self._action))])
        imagined, real = self._planner.objective.evaluate(plans), self._truth.evaluate(plans)
        return _Check(
            predicted=float(decision.running.mean()),
            realised=float(real.running[0].mean()),
            random_predicted=float(imagined.running[1:].mean()),
            random_realised=float(real.running[1:].mean()),
            random_disagreement=_mean([away for i in range(1, len(plans)) if (away := imagined.disagreement(i)) is not None]),
            foreseen=violating(imagined, observation, self._env.scene.task),
            happened=violating(real, observation, self._env.scene.task),
        )

    def summary(self, success: bool) -> dict[str, Any]:
        violations = {kind: any(info["violations"][kind] for info in self._info) for kind in self._info[0]["violations"]}
        milliseconds = 1e3 * np.array(self._seconds)
        return {
            "success": success,
            "clean": success and not any(violations.values()),
            "steps": len(self._action),
            "total_cost": float(sum(info["cost"] for info in self._info[1:])),
            **violations,
            "peak_force_n": float(max(info["static_force_n"] for info in self._info)),
            "decision_ms_p50": float(np.percentile(milliseconds, 50)),
            "decision_ms_p95": float(np.percentile(milliseconds, 95)),
            "decide_s": float(milliseconds.sum() / 1e3),
            "disagreement": _mean(self._disagreement),
            **_summary_of(self._checks, (TOUCHING, *self._env.scene.task.foreseen(self._env.bodies))),
            **self._indicators(),
        }

    def _indicators(self) -> dict[str, float]:
        """What else the scene tells of an episode."""
        scene, env = self._env.scene, self._env
        if scene.indicators is None:
            return {}
        movers, steps = self._pose[0].shape[0], len(self._pose)
        bodies = env.bodies.map(lambda values: np.broadcast_to(values[:movers], (steps, movers, *values.shape[1:])))
        bodies = replace(bodies, pose=np.stack(self._pose), twist=np.stack(self._twist))
        return scene.indicators.of(bodies, env.field, env.variation.speed_limit_m_s, scene.control_dt_s)

    def episode(self, trial: Trial, name: str, success: bool) -> Episode:
        movers = self._pose[0].shape[0]
        return Episode(
            layout=trial.layout,
            seed=trial.seed,
            behaviour=name,
            variation=self._env.variation,
            half_extents=self._env.bodies.half_extents[:movers].copy(),
            pose=np.stack(self._pose),
            twist=np.stack(self._twist),
            action=np.stack([*self._action, np.zeros(2, np.float32)]),
            cost=np.array([info["cost"] for info in self._info]),
            touching=np.array([info["touching"] for info in self._info]),
            static_force_n=np.array([info["static_force_n"] for info in self._info]),
            success=success,
            **self._env.facts(),
        )


@dataclass(frozen=True)
class _Check:
    """What was foreseen of plans from one state, and what they would have led to."""

    predicted: float  # cost of the chosen plan, mean over its steps, in the unit of the task's costs
    realised: float
    random_predicted: float  # the same of random plans, mean over them
    random_realised: float
    random_disagreement: float | None
    foreseen: Mapping[str, float]  # violations that the chosen plan leads to, by kind: in which share of the particles
    happened: Mapping[str, float]  # 0 or 1


def random_plans(like: torch.Tensor, seed: int, step: int) -> torch.Tensor:
    """(RANDOM_PLANS, H, A) smooth plans as long as `like` (H, A); the same for an episode's seed and a step of it."""
    horizon, actions = like.shape
    basis = spline_basis(horizon, min(KNOTS, horizon)).numpy()
    knots = np.random.default_rng([seed, step]).standard_normal((RANDOM_PLANS, basis.shape[1], actions))
    return torch.as_tensor(np.clip(basis @ knots, -1, 1), dtype=like.dtype)


def violating(imagined: Imagined, observation: dict[str, np.ndarray], task: Task) -> dict[str, float]:
    """In which share of the particles the first plan leads to violations before it reaches the goal, by kind: the task's, as far
    as poses tell, and whether the robot or a load comes up to something that stands still."""
    bodies = imagined.bodies.map(lambda values: values[:, 0])  # (P, H, M, ...)
    loads = int(((observation["kind"] == Kind.LOAD) & (observation["present"] > 0)).sum())
    touching = (gaps(observation, bodies.pose[:, :, : 1 + loads].numpy()) < TOUCH_M).any(-1)
    kinds = {TOUCHING: torch.as_tensor(touching), **task.foreseen(bodies)}
    ahead = imagined.running[0] > 0  # (H,)
    return {kind: float((true & ahead).any(-1).float().mean()) for kind, true in kinds.items()}


def _summary_of(checks: list[_Check], kinds: Sequence[str]) -> dict[str, Any]:
    """Means over the checks, and of each kind of violation, how many plans lead to it: by most particles, in truth, and both; and
    how many were to be expected."""
    violating = dict[str, float]()
    for kind in kinds:
        pairs = [(check.foreseen[kind] > 0.5, check.happened[kind] > 0.5) for check in checks]
        violating[f"plans_{kind}_predicted"] = sum(foreseen for foreseen, _ in pairs)
        violating[f"plans_{kind}_realised"] = sum(happened for _, happened in pairs)
        violating[f"plans_{kind}_both"] = sum(foreseen and happened for foreseen, happened in pairs)
        violating[f"plans_{kind}_expected"] = float(sum(check.foreseen[kind] for check in checks))
    return {
        "predicted_cost": _mean([check.predicted for check in checks]),
        "realised_cost": _mean([check.realised for check in checks]),
        "random_predicted_cost": _mean([check.random_predicted for check in checks]),
        "random_realised_cost": _mean([check.random_realised for check in checks]),
        "random_disagreement": _mean([away for check in checks if (away := check.random_disagreement) is not None]),
        "plans_checked": len(checks),
        **violating,
    }


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def trials_of(run: str, scene: Any, split: str, count: int, seed: int = 0, variations: tuple[str, ...] = ()) -> list[Trial]:
    """The first `count` spaces of a split."""
    if split in ("train",):
        raise GroundError("the training split is not evaluated: those spaces were seen")
    layouts = [scene.draw(split, index) for index in range(count)]
    if len({layout.id for layout in layouts}) < count:
        raise BadFile(f"split {split} has equal layouts among its first {count}")
    return [Trial(run, scene.name, split, index, seed + index, layout, variations) for index, layout in enumerate(layouts)]
