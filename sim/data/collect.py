"""Scene + behaviours + seed → episodes on disk, in worker processes, the same bytes for any number of workers.

A shard is one job: its randomness comes from (seed, shard number) alone. A finished shard is never made again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sim.data.images import Album, PictureConfig, add_speed
from sim.data.store import MANIFEST, Dataset, Episode, entry_of, new_manifest, save_manifest, shard_name, write_shard
from sim.env import GroundEnv
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import scenes
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import digest, in_use
from sim.utils.workers import finished
from sim.variation import Variations

NEAR_START = 0.6  # share of episodes that begin with the robot beside the load, where contact is soon


@dataclass(frozen=True)
class CollectConfig:
    """What to collect. Equal configs give equal bytes."""

    scene: str = "logistics/tote-push"
    steps: int = 60_000
    seed: int = 0
    split: str = "train"
    behaviours: tuple[tuple[str, float], ...] = ()  # with weights; none: the scene's own mix
    variations: tuple[str, ...] = ()
    shard_steps: int = 2000
    layouts_per_shard: int = 8
    first_layout: int = 0  # number of the first space of the split that is used
    pictures: PictureConfig | None = None

    def __post_init__(self) -> None:
        if self.steps < self.shard_steps or self.shard_steps < 100:
            raise GroundError(f"steps {self.steps} must be at least one shard of {self.shard_steps}, a shard at least 100")
        if not self.behaviours:
            object.__setattr__(self, "behaviours", tuple(scenes[self.scene].mix.items()))
        if not all(0 < weight < float("inf") for _, weight in self.behaviours):
            raise GroundError("behaviours need positive weights")
        if self.seed < 0 or self.first_layout < 0:
            raise GroundError(f"seed {self.seed} and first layout {self.first_layout} must not be negative")

    @property
    def shards(self) -> int:
        return -(-self.steps // self.shard_steps)


Progress = Callable[[int, int], None]  # steps done, steps in all
Spent = Callable[[float], None]  # CPU-seconds


def collect(
    config: CollectConfig,
    path: Path,
    workers: int = 2,
    extra: Mapping[str, PolicyFactory] | None = None,
    tags: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total: None,
    spent: Spent = lambda cpu_s: None,
) -> Dataset:
    """Fill `path` with the shards that are missing; `extra` adds behaviours (a planner), `tags` says which model they use,
    `spent` is told what each shard has cost when it is there."""
    Variations.parse(config.variations)
    if config.split not in scenes[config.scene].splits:
        raise UnknownName("split", config.split, scenes[config.scene].splits)
    known = {**scenes[config.scene].behaviours, **(extra or {})}
    for name, _ in config.behaviours:
        if name not in known:
            raise UnknownName("behaviour", name, known)
    with in_use(path):
        manifest = _begin(config, path, dict(tags or {}))
        _adopt(path, manifest, config)
        missing = [k for k in range(config.shards) if shard_name(k) not in manifest["shards"]]
        total, done = config.shards * config.shard_steps, (config.shards - len(missing)) * config.shard_steps
        progress(done, total)
        jobs = [(config, path / shard_name(k), k, dict(extra or {})) for k in missing]
        for made in finished(make_shard, jobs, workers):
            if config.pictures:
                add_speed(path, made.steps, made.seconds, made.picture_seconds)
            name = shard_name(made.number)
            manifest["shards"] = dict(sorted({**manifest["shards"], name: entry_of(path / name)}.items()))
            spent(made.cpu_s)  # first: what is noted is not made again
            save_manifest(path, manifest)
            done += config.shard_steps
            progress(done, total)
    return Dataset.open(path)


def _begin(config: CollectConfig, path: Path, tags: dict[str, str]) -> dict[str, Any]:
    wanted = new_manifest(
        {
            "scene": config.scene,
            "control_dt_s": scenes[config.scene].control_dt_s,
            "physics": "240 Hz, 10 solver iterations",
            "seed": config.seed,
            "split": config.split,
            "behaviours": dict(config.behaviours),
            "variations": list(config.variations),
            "shard_steps": config.shard_steps,
            "layouts_per_shard": config.layouts_per_shard,
            "first_layout": config.first_layout,
            "tags": tags,
            **({"pictures": config.pictures.facts()} if config.pictures else {}),
        }
    )
    if not (path / MANIFEST).exists():
        save_manifest(path, wanted)
        return wanted
    found = Dataset.open(path).manifest
    told = "shards", "units"  # these say what is there, not what was asked for
    other = sorted(key for key in wanted.keys() | found.keys() if key not in told and found.get(key) != wanted.get(key))
    if other:
        raise GroundError(f"{path} holds a dataset with another {', '.join(other)}: choose another directory")
    return found


def _adopt(path: Path, manifest: dict[str, Any], config: CollectConfig) -> None:
    """Keep whole shards that a killed run had no time to note; drop shards that are gone or not what was noted."""
    for name, noted in list(manifest["shards"].items()):
        if not (path / name).exists() or digest(path / name) != noted["sha256"]:
            (path / name).unlink(missing_ok=True)
            del manifest["shards"][name]
    for number in range(config.shards):
        file = path / shard_name(number)
        if file.exists():
            try:
                manifest["shards"][file.name] = entry_of(file)
            except BadFile:
                file.unlink()
                manifest["shards"].pop(file.name, None)
    save_manifest(path, manifest)


class Made(NamedTuple):
    """A shard, and what it has taken."""

    number: int
    steps: int
    seconds: float
    picture_seconds: float  # of those
    cpu_s: float


def make_shard(config: CollectConfig, file: Path, number: int, extra: dict[str, PolicyFactory]) -> Made:
    """Run episodes until the shard's rows are full; the last one is cut short."""
    begun, worked, album = time.perf_counter(), time.process_time(), Album(config.pictures) if config.pictures else None
    rng = np.random.default_rng([config.seed, number])
    env = _env(config)
    names = [name for name, _ in config.behaviours]
    weights = np.array([weight for _, weight in config.behaviours])
    first_layout = config.first_layout + number * config.layouts_per_shard
    episodes: list[Episode] = []
    left = config.shard_steps
    while left > 1:
        name = str(rng.choice(names, p=weights / weights.sum()))
        layout = first_layout + int(rng.integers(config.layouts_per_shard))
        policy = _policy(name, extra.get(name) or env.scene.behaviours[name])
        steps = min(left, getattr(policy, "data_steps", None) or env.scene.episode_steps) - 1
        episodes.append(_episode(env, policy, name, layout, steps, rng, config.split, album))
        left -= len(episodes[-1])
    write_shard(file, episodes, first_episode=number * 10_000, movers=env.scene.movers)
    took, used = time.perf_counter() - begun, time.process_time() - worked
    return Made(number, sum(map(len, episodes)), took, album.seconds if album else 0.0, used)


@lru_cache(maxsize=1)
def _env(config: CollectConfig) -> GroundEnv:
    return GroundEnv(config.scene, config.split, variations=scenes[config.scene].varied(config.split, config.variations))


@lru_cache(maxsize=16)
def _policy(name: str, factory: PolicyFactory) -> Policy:
    return factory()


def _episode(
    env: GroundEnv,
    policy: Policy,
    name: str,
    index: int,
    steps: int,
    rng: np.random.Generator,
    split: str,
    album: Album | None,
) -> Episode:
    seed = int(rng.integers(2**31))
    layout = env.scene.draw(split, index)
    poses = env.scene.random_start(layout, rng) if rng.random() < NEAR_START else None
    observation, info = env.reset(seed=seed, options={"layout": layout, "poses": poses})
    policy.begin(env.start(seed))
    if album:
        album.begin()
    rows = []
    success = info["success"]
    for _ in range(steps):
        action, _ = policy.predict(observation, deterministic=False)
        rows.append((*_truth(env), action, info))
        if album:
            album.take(env)
        observation, _, success, truncated, info = env.step(action)
        if success or truncated:
            break
    rows.append((*_truth(env), np.zeros(env.scene.action_spec.size), info))
    if album:
        album.take(env)
    pose, twist, action, infos = zip(*rows, strict=True)
    movers = len(pose[0])
    return Episode(
        layout=layout,
        seed=seed,
        behaviour=name,
        variation=env.variation,
        half_extents=env.bodies.half_extents[:movers].copy(),
        pose=np.stack(pose),
        twist=np.stack(twist),
        action=np.stack(action),
        cost=np.array([info["cost"] for info in infos]),
        touching=np.array([info["touching"] for info in infos]),
        static_force_n=np.array([info["static_force_n"] for info in infos]),
        success=bool(success),
        pictures=album.rows if album else None,
        **env.facts(),
    )


def _truth(env: GroundEnv) -> tuple[np.ndarray, np.ndarray]:
    movers = int(env.bodies.dynamic.sum())
    return env.bodies.pose[:movers].copy(), env.bodies.twist[:movers].copy()
