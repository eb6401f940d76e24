"""Data collection: run the behaviours of a scene in worker processes, and write the episodes.

Each shard is a job whose random numbers depend only on the seed and the number of the shard. The
files are therefore the same for any number of workers. A finished shard is never collected again.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sim.data.episode import Episode
from sim.data.images import ImageConfig, ImageRecorder
from sim.data.recorder import EpisodeRecorder
from sim.data.store import Dataset, describe_shard, has_manifest, make_manifest, make_shard_name, save_manifest, write_shard
from sim.env import GroundEnv
from sim.layout import Layout
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import scenes
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import hash_file, lock_directory
from sim.utils.workers import run_jobs
from sim.variation import Variations

MIN_SHARD_STEPS = 100
NEAR_START_SHARE = 0.6  # share of episodes that start near contact


@dataclass(frozen=True)
class CollectConfig:
    """Configuration of a dataset. Equal configurations give equal files."""

    scene: str = "logistics/tote-push"
    steps: int = 60_000
    seed: int = 0
    split: str = "train"
    behaviours: tuple[tuple[str, float], ...] = ()  # names and weights; empty: the scene's mix
    variations: tuple[str, ...] = ()
    shard_steps: int = 0  # the last shard has the remaining states; 0: those of the scene
    layouts_per_shard: int = 0  # 0: those of the scene
    first_layout: int = 0  # number of the first layout in the split
    images: ImageConfig | None = None

    def __post_init__(self) -> None:
        for name in ("shard_steps", "layouts_per_shard"):
            if not getattr(self, name):
                object.__setattr__(self, name, getattr(scenes[self.scene], name))
        if min(self.steps, self.shard_steps) < MIN_SHARD_STEPS:
            raise GroundError(f"{self.steps} steps in shards of {self.shard_steps}: at least {MIN_SHARD_STEPS} are needed")
        if not self.behaviours:
            object.__setattr__(self, "behaviours", tuple(scenes[self.scene].behaviour_mix.items()))
        names = [name for name, _ in self.behaviours]
        if repeated := [name for name in names if names.count(name) > 1]:
            raise GroundError(f"behaviour '{repeated[0]}' is given twice")
        if not all(0 < weight < float("inf") for _, weight in self.behaviours):
            raise GroundError("behaviours need positive weights")
        if self.seed < 0 or self.first_layout < 0:
            raise GroundError(f"seed {self.seed} and first layout {self.first_layout} must not be negative")

    @property
    def shards(self) -> int:
        """Number of shards."""
        return max(1, (self.steps + self.shard_steps - MIN_SHARD_STEPS) // self.shard_steps)

    def count_shard_steps(self, number: int) -> int:
        """Count the states of a shard; the last one may have more, or fewer."""
        return self.shard_steps if number < self.shards - 1 else self.steps - (self.shards - 1) * self.shard_steps


class ShardResult(NamedTuple):
    """A collected shard, and its compute costs."""

    number: int
    steps: int
    seconds: float
    image_seconds: float  # part of `seconds` spent on images
    cpu_s: float


Progress = Callable[[int, int], None]  # completed steps, total steps
CostCallback = Callable[[ShardResult], None]


def collect(
    config: CollectConfig,
    path: Path,
    workers: int = 2,
    extra_behaviours: Mapping[str, PolicyFactory] | None = None,
    tags: Mapping[str, str] | None = None,
    progress: Progress = lambda done, total: None,
    on_cost: CostCallback = lambda result: None,
) -> Dataset:
    """Collect a dataset. Shards that the directory holds already are kept.

    Args:
        config: configuration of the dataset.
        path: directory of the dataset.
        workers: number of worker processes at most.
        extra_behaviours: behaviours beside those of the scene, such as a planner.
        tags: entries of the manifest that identify the extra behaviours.
        progress: called with the completed steps and the total.
        on_cost: called with the compute cost of each shard.

    Raises:
        UnknownName: unknown split, behaviour or variation.
        GroundError: the directory is in use, or holds a dataset with another configuration.
        BadFile: the manifest is damaged.
    """
    Variations.parse(config.variations)
    if config.split not in scenes[config.scene].splits:
        raise UnknownName("split", config.split, scenes[config.scene].splits)
    known = {**scenes[config.scene].behaviours, **(extra_behaviours or {})}
    for name, _ in config.behaviours:
        if name not in known:
            raise UnknownName("behaviour", name, known)
    with lock_directory(path):
        manifest = _open_manifest(config, path, dict(tags or {}))
        _reconcile_shards(path, manifest, config)
        missing = [number for number in range(config.shards) if make_shard_name(number) not in manifest["shards"]]
        total = config.steps
        done = total - sum(map(config.count_shard_steps, missing))
        progress(done, total)
        jobs = [(config, path / make_shard_name(number), number, dict(extra_behaviours or {})) for number in missing]
        for result in run_jobs(collect_shard, jobs, workers):
            name = make_shard_name(result.number)
            manifest["shards"] = dict(sorted({**manifest["shards"], name: describe_shard(path / name)}.items()))
            on_cost(result)  # first: a shard in the manifest is not collected again
            save_manifest(path, manifest)
            done += config.count_shard_steps(result.number)
            progress(done, total)
    return Dataset.open(path)


def _open_manifest(config: CollectConfig, path: Path, tags: dict[str, str]) -> dict[str, Any]:
    """Open the manifest of a dataset, or create it."""
    expected = make_manifest(
        {
            "scene": config.scene,
            "control_dt_s": scenes[config.scene].control_dt_s,
            "physics": scenes[config.scene].physics,
            "seed": config.seed,
            "split": config.split,
            "behaviours": dict(config.behaviours),
            "variations": list(config.variations),
            "shard_steps": config.shard_steps,
            "layouts_per_shard": config.layouts_per_shard,
            "first_layout": config.first_layout,
            "tags": tags,
            **({"images": config.images.describe()} if config.images else {}),
        }
    )
    if not has_manifest(path):
        save_manifest(path, expected)
        return expected
    manifest = Dataset.open(path).manifest
    keys = (expected.keys() | manifest.keys()) - {"shards", "units"}  # these are no configuration
    if different := ", ".join(sorted(key for key in keys if manifest.get(key) != expected.get(key))):
        raise GroundError(f"{path} holds a dataset with another configuration ({different}): choose another directory")
    return manifest


def _reconcile_shards(path: Path, manifest: dict[str, Any], config: CollectConfig) -> None:
    """Add complete shards to the manifest that it lacks, and remove missing or damaged shards.

    A shard that was the last one, of another length than now, is removed as well.
    """
    for name, shard in list(manifest["shards"].items()):
        if not (path / name).exists() or hash_file(path / name) != shard["sha256"]:
            (path / name).unlink(missing_ok=True)
            del manifest["shards"][name]
    for number in range(config.shards):
        file = path / make_shard_name(number)
        if file.exists():
            try:
                manifest["shards"][file.name] = describe_shard(file)
            except BadFile:
                file.unlink()
                manifest["shards"].pop(file.name, None)
                continue
            # a single state is no episode: it may be lacking at the end
            difference = manifest["shards"][file.name]["steps"] - config.count_shard_steps(number)
            if difference < -1 or (difference > 0 and number < config.shards - 1):
                file.unlink()
                del manifest["shards"][file.name]
    save_manifest(path, manifest)


def collect_shard(config: CollectConfig, file: Path, number: int, extra_behaviours: dict[str, PolicyFactory]) -> ShardResult:
    """Collect a shard: run episodes until it has all its states. The last episode is cut off.

    Args:
        config: configuration of the dataset.
        file: file of the shard.
        number: number of the shard.
        extra_behaviours: behaviours beside those of the scene.
    """
    images = ImageRecorder(config.images) if config.images else None
    start_s = time.perf_counter()
    cpu_start_s = time.process_time()
    rng = np.random.default_rng([config.seed, number])
    env = _get_env(config)
    names = [name for name, _ in config.behaviours]
    weights = np.array([weight for _, weight in config.behaviours])
    first_layout = config.first_layout + number * config.layouts_per_shard
    episodes: list[Episode] = []
    left = config.count_shard_steps(number)
    while left > 1:
        name = str(rng.choice(names, p=weights / weights.sum()))
        layout = env.scene.sample_layout(config.split, first_layout + int(rng.integers(config.layouts_per_shard)))
        policy = _get_policy(name, extra_behaviours.get(name) or env.scene.behaviours[name])
        steps = min(left, getattr(policy, "collection_steps", None) or env.scene.episode_steps) - 1
        recorder = _record_episode(env, policy, layout, steps, rng, images)
        if left - len(recorder.poses) == 1 and len(recorder.poses) > 2:  # a single state would be left, which is no episode
            recorder.drop_last_state()
        episodes.append(recorder.make_episode(name))
        left -= len(episodes[-1])
    write_shard(file, episodes, first_episode=number * 10_000, num_bodies=env.scene.max_dynamic)
    seconds = time.perf_counter() - start_s
    cpu_s = time.process_time() - cpu_start_s
    return ShardResult(number, sum(map(len, episodes)), seconds, images.seconds if images else 0.0, cpu_s)


@lru_cache(maxsize=1)
def _get_env(config: CollectConfig) -> GroundEnv:
    return GroundEnv(config.scene, config.split, variations=scenes[config.scene].make_variations(config.split, config.variations))


@lru_cache(maxsize=16)
def _get_policy(name: str, factory: PolicyFactory) -> Policy:
    return factory()


def _record_episode(
    env: GroundEnv, policy: Policy, layout: Layout, steps: int, rng: np.random.Generator, images: ImageRecorder | None
) -> EpisodeRecorder:
    seed = int(rng.integers(2**31))
    poses = env.scene.sample_near_start(layout, rng) if rng.random() < NEAR_START_SHARE else None
    observation, info = env.reset(seed=seed, options={"layout": layout, "poses": poses})
    policy.start_episode(env.make_episode_start(seed))
    recorder = EpisodeRecorder(env, seed, images)
    recorder.record_state(info)
    for _ in range(steps):
        action, _ = policy.predict(observation, deterministic=False)
        recorder.record_action(action)
        observation, _, success, truncated, info = env.step(action)
        recorder.record_state(info)
        if success or truncated:
            break
    return recorder
