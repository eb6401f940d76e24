"""What a planner may assume of traffic instead of foreseeing it: that it stands still, or that it keeps its velocity.

The robot's own motion is still a learned model's; nobody minds it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.bodies import DT_S, Bodies
from sim.geometry.rotations import quaternion_of, yaw_of
from sim.policy import EpisodeStart
from worldmodels.model import LearnedModel, WorldModel
from worldmodels.planar.composition import alone, beside
from worldmodels.planar.state import PlanarState, bodies_of

ASSUMPTIONS = ("still", "constant-velocity")


class Assumed(WorldModel[PlanarState]):
    """A learned model of the robot alone, beside traffic that does as it is assumed to do."""

    def __init__(self, model: LearnedModel, assumption: str) -> None:
        self._model, self._moves = model, assumption == "constant-velocity"

    def start_episode(self, start: EpisodeStart) -> None:
        """The model compiles at its first decision: it is told of more bodies than it will imagine."""

    def begin(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> PlanarState:
        return self._model.begin(observation, steps)

    def movers(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._model.movers(observation)

    def rollout(self, state: PlanarState, actions: Tensor) -> Bodies:
        return self.rollouts([state], [actions])[0]

    def rollouts(self, states: Sequence[PlanarState], actions: Sequence[Tensor]) -> list[Bodies]:
        robots = self._model.rollouts([alone(state) for state in states], actions)
        parts = zip(robots, states, actions, strict=True)
        return [beside(robot, self._others(state, own.shape[1])) for robot, state, own in parts]

    def _others(self, state: PlanarState, horizon: int) -> Bodies:
        """(1, 1, H, M, ...)"""
        now = bodies_of([state])
        time = DT_S * torch.arange(1, horizon + 1)[:, None] * self._moves  # (H, 1)
        yaw = yaw_of(now.pose[..., 3:]) + time * now.twist[..., 5]
        place = now.pose[..., :3] + time[..., None] * now.twist[..., :3]
        steady = now.map(lambda values: values.expand(1, len(time), *values.shape[2:]))
        moved = replace(steady, pose=torch.cat([place, quaternion_of(yaw)], -1), twist=steady.twist * self._moves)
        return moved.map(lambda values: values[None])
