"""Episodes in lock-step: what is decided, what comes of it, and the row that tells of it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from agents.planning.batch import act_batch
from agents.planning.spec import PlannerSpec
from experiments.evaluation.plan_audit import Foresight
from experiments.methods.method import Arm, Trial
from sim.data.store import Episode
from sim.env import GroundEnv
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import scenes, split_scene_id


def play_again(arm: Arm, batch: Sequence[Trial]) -> list[tuple[dict[str, Any], Episode]]:
    """Episodes by an arm's policies, which are kept for the next ones."""
    return play(_policies(arm.factory, arm.together)[: len(batch)], arm, batch)


@lru_cache(maxsize=2)
def _policies(factory: PolicyFactory, count: int) -> Sequence[Policy]:
    torch.set_num_threads(1)
    return factory.make_planners(count) if isinstance(factory, PlannerSpec) else [factory() for _ in range(count)]


@lru_cache(maxsize=32)
def _env(scene: str, split: str, variations: tuple[str, ...], number: int) -> GroundEnv:
    split = split if split in scenes[scene].splits else "test"  # a space of the user's own has no split
    return GroundEnv(scene, split, variations=scenes[scene].make_variations(split, variations))


def play(policies: Sequence[Policy], arm: Arm, batch: Sequence[Trial]) -> list[tuple[dict[str, Any], Episode]]:
    """Episodes in lock-step, each by a policy and in an environment of its own: their rows and what happened."""
    games = [_Game(policy, trial, number) for number, (policy, trial) in enumerate(zip(policies, batch, strict=True))]
    while playing := [game for game in games if not game.over]:
        begun = time.perf_counter()
        actions = act_batch([game.policy for game in playing], [game.observation for game in playing])
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
        policy.start_episode(self._env.make_episode_start(trial.seed))
        self._log, self.over = _Log(self._env, policy, trial), False
        self._log.before(self._info)

    def act(self, action: np.ndarray, seconds: float) -> None:
        self._log.decided(seconds, action, self.observation)
        self.observation, _, success, truncated, self._info = self._env.step(action)
        self._log.before(self._info)
        self.over = success or truncated

    def result(self, arm: Arm) -> tuple[dict[str, Any], Episode]:
        trial, success = self._trial, self._info["success"]
        row = {
            "run": trial.run,
            "scene": trial.scene,
            "protocol": split_scene_id(trial.scene)[1],
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

    def __init__(self, env: GroundEnv, policy: Policy, trial: Trial) -> None:
        self._env = env
        self._pose: list[np.ndarray] = []
        self._twist: list[np.ndarray] = []
        self._action: list[np.ndarray] = []
        self._info: list[dict[str, Any]] = []
        self._seconds: list[float] = []
        self._foresight = Foresight(env, policy, trial)

    def before(self, info: dict[str, Any]) -> None:
        """The state, before each action and once at the end."""
        movers = int(self._env.bodies.is_dynamic.sum())
        self._pose.append(self._env.bodies.pose[:movers].copy())
        self._twist.append(self._env.bodies.twist[:movers].copy())
        self._info.append(info)

    def decided(self, seconds: float, action: np.ndarray, observation: dict[str, np.ndarray]) -> None:
        self._seconds.append(seconds)
        self._action.append(np.asarray(action, np.float32))
        self._foresight.decided(observation, len(self._action))

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
            **self._foresight.summary(),
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
        return scene.indicators.compute(bodies, env.cost_field, env.variation.speed_limit_m_s, scene.control_dt_s)

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
            action=np.stack([*self._action, np.zeros_like(self._action[0])]),
            cost=np.array([info["cost"] for info in self._info]),
            touching=np.array([info["touching"] for info in self._info]),
            static_force_n=np.array([info["static_force_n"] for info in self._info]),
            success=success,
            **self._env.describe_bodies(),
        )
