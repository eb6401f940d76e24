"""What a planner may assume of traffic instead of foreseeing it: that it stands still, or that it keeps its velocity.

The robot's own motion is still a learned model's; nobody minds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.bodies import CONTROL_DT_S, Bodies
from sim.geometry.rotations import compute_yaw, yaw_to_quaternion
from sim.policy import EpisodeStart
from worldmodels.model import LearnedModel, WorldModel
from worldmodels.planar.composition import merge_agents, robot_only
from worldmodels.planar.state import PlanarState, decode_bodies

PREDICTION_BASELINES = ("static", "constant-velocity")


class PredictionBaseline(WorldModel[PlanarState]):
    """A learned model of the robot alone, beside traffic that does as it is assumed to do."""

    def __init__(self, model: LearnedModel, baseline: str) -> None:
        self._model, self._keeps_velocity = model, baseline == "constant-velocity"

    def start_episode(self, start: EpisodeStart) -> None:
        """The model compiles at its first decision: it is told of more bodies than it will imagine."""

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> PlanarState:
        return self._model.encode(observation, steps)

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._model.select_bodies(observation)

    def rollout(self, state: PlanarState, actions: Tensor) -> Bodies:
        return self.rollout_scenes([state], [actions])[0]

    def rollout_scenes(self, states: Sequence[PlanarState], actions: Sequence[Tensor]) -> list[Bodies]:
        robots = self._model.rollout_scenes([robot_only(state) for state in states], actions)
        parts = zip(robots, states, actions, strict=True)
        return [merge_agents(robot, self._extrapolate_agents(state, own.shape[1])) for robot, state, own in parts]

    def _extrapolate_agents(self, state: PlanarState, horizon: int) -> Bodies:
        """(1, 1, H, M, ...)"""
        now = decode_bodies([state])
        time = CONTROL_DT_S * torch.arange(1, horizon + 1)[:, None] * self._keeps_velocity  # (H, 1)
        yaw = compute_yaw(now.pose[..., 3:]) + time * now.twist[..., 5]
        place = now.pose[..., :3] + time[..., None] * now.twist[..., :3]
        steady = now.map(lambda values: values.expand(1, len(time), *values.shape[2:]))
        moved = replace(steady, pose=torch.cat([place, yaw_to_quaternion(yaw)], -1), twist=steady.twist * self._keeps_velocity)
        return moved.map(lambda values: values[None])
