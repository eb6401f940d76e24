"""Episodes played again from their seeds, and which of their rows do not come out the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.episodes import play_again
from experiments.evaluation.results import episode_of, read_rows
from experiments.methods.method import Arm, Trial, arm_of
from sim.data.store import Episode
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.utils.workers import run_jobs

# of the machine
TIMED = ("decision_ms_p50", "decision_ms_p95", "decide_s", "train_cpu_s", "collect_cpu_s")
CLOSE = 1e-6  # relative, of numbers


@dataclass(frozen=True)
class Verdict:
    """What came of playing one row's episode again."""

    arm: str
    split: str
    index: int
    faults: tuple[str, ...]  # none: it came out the same


def sample_of(rows: list[dict[str, Any]], arms: Mapping[str, Arm], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """At most `count` rows of these arms, of each as many as of the others where there are enough."""
    rng = np.random.default_rng(seed)
    waiting = {name: [row for row in rows if arm_of(row) == name] for name in arms}
    waiting = {name: [own[i] for i in rng.permutation(len(own))] for name, own in waiting.items() if own}
    chosen: list[dict[str, Any]] = []
    while len(chosen) < count and any(waiting.values()):
        chosen += [own.pop() for own in waiting.values() if own]
    return chosen[:count]


def verify(
    rows: list[dict[str, Any]],
    arms: Mapping[str, Arm],
    path: Path,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Verdict]:
    """Play each row's episode again, by its arm; `path` holds the results of the run, by arm."""
    jobs = [(number, arms[arm_of(row)], row, path / row["agent"]) for number, row in enumerate(rows)]
    found: dict[int, Verdict] = {}
    progress(0, len(rows))
    for number, verdict in run_jobs(_again, jobs, workers):
        found[number] = verdict
        progress(len(found), len(rows))
    return [found[number] for number in range(len(rows))]


def _again(number: int, arm: Arm, row: dict[str, Any], path: Path) -> tuple[int, Verdict]:
    episode = episode_of(path, row)
    split, index, scene = row["split"], row["index"], scenes[row["scene"]]
    faults = []
    if split in scene.splits and scene.sample_layout(split, index).id != row["layout_id"]:
        faults.append("the split has another space there now")
    if (apart := _replayed(row["scene"], episode)) > 0:
        faults.append(f"the same actions end {1e3 * apart:.3g} mm elsewhere")
    rows = [row] if arm.together == 1 else _together(arm, row, read_rows(path))
    trials = [Trial(row["run"], row["scene"], split, one["index"], one["seed"], episode_of(path, one).layout) for one in rows]
    now = next(new for new, _ in play_again(arm, trials) if new["index"] == index)
    known = {
        name: value for name, value in now.items() if name not in TIMED and row.get(name) is not None
    }  # older rows lack some
    faults += [f"{name} was {row[name]}, is {value}" for name, value in known.items() if _differs(row[name], value)]
    return number, Verdict(arm_of(row), split, index, tuple(faults))


def _together(arm: Arm, row: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of the batch that one was played in."""

    def batch(one: dict[str, Any]) -> tuple[Any, ...]:
        return one["split"], one["train_seed"], one["index"] // arm.together

    own = [one for one in rows if batch(one) == batch(row)]
    return sorted(own, key=lambda one: int(one["index"]))


def _replayed(scene: str, episode: Episode) -> float:
    """How far from the recorded places the recorded actions lead [m], at most."""
    env = GroundEnv(scene, "test")
    env.reset(seed=episode.seed, options={"layout": episode.layout, "variation": episode.variation})
    movers, farthest = episode.pose.shape[1], 0.0
    for action, pose in zip(episode.action[:-1], episode.pose[1:], strict=True):
        env.step(action)
        farthest = max(farthest, float(np.abs(env.bodies.pose[:movers, :3] - pose[:, :3]).max()))
    env.close()
    return farthest


def _differs(before: Any, now: Any) -> bool:
    if isinstance(before, float) and isinstance(now, float):
        return not np.isclose(before, now, rtol=CLOSE, atol=1e-9, equal_nan=True)
    return bool(before != now)
