"""Prediction baselines: static bodies, and constant velocities."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.bodies import CONTROL_DT_S, Bodies
from sim.geometry.rotations import compute_yaw, integrate_rotation, yaw_to_quaternion
from sim.policy import EpisodeStart
from worldmodels.model import Prediction, WorldModel
from worldmodels.planar.composition import merge_agents, select_robot
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.state import PlanarState, decode_bodies

PREDICTION_BASELINES = ("static", "constant-velocity")


class ConstantVelocity:
    """Baseline of open-loop errors: all bodies keep their velocities; actions do not matter."""

    name = "constant-velocity"

    def predict_bodies(self, state: Any, actions: Tensor) -> Bodies:
        """Predict the dynamic bodies after each action.

        Args:
            state: W scenes, of the type of any model of bodies.
            actions: (W, H, A); only their number matters.

        Returns:
            Bodies (1, W, H, M, ...).
        """
        bodies = state.decode_dynamic().map(lambda values: values[:, None].repeat(1, actions.shape[1], *[1] * (values.ndim - 1)))
        time_s = CONTROL_DT_S * torch.arange(1, actions.shape[1] + 1)[:, None, None]
        rotation = integrate_rotation(bodies.pose[..., 3:], time_s * bodies.twist[..., 3:], 1.0)
        pose = torch.cat([bodies.pose[..., :3] + time_s * bodies.twist[..., :3], rotation], -1)
        return replace(bodies, pose=pose).map(lambda values: values[None])


class PredictionBaseline(WorldModel[PlanarState]):
    """A learned model of the robot only, and agents that are static or keep their velocities.

    Agents do not react to the robot. They are predicted once for all candidates.
    """

    def __init__(self, model: PlanarModel, baseline: str) -> None:
        """Combine a model with a baseline.

        Args:
            model: predicts the robot.
            baseline: one of PREDICTION_BASELINES.
        """
        self._model = model
        self._speed = float(baseline == "constant-velocity")

    def start_episode(self, start: EpisodeStart) -> None:
        """Do nothing: a compiled model would be compiled for more bodies than it predicts here."""

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> PlanarState:
        return self._model.encode(observation, steps)

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._model.select_bodies(observation)

    def rollout_batch(self, states: Sequence[PlanarState], actions: Sequence[Tensor]) -> list[Prediction]:
        robots = self._model.rollout_batch([select_robot(state) for state in states], actions)
        predictions = []
        for robot, state, candidates in zip(robots, states, actions, strict=True):
            agents = self._extrapolate_bodies(state, candidates.shape[1])
            assert robot.bodies is not None, "planar models predict bodies"
            predictions.append(Prediction(merge_agents(robot.bodies, agents)))
        return predictions

    def _extrapolate_bodies(self, state: PlanarState, steps: int) -> Bodies:
        """Predict bodies (1, 1, H, M, ...) by their yaw.

        Complex headings differ in the last digits: recorded episodes would not be reproducible.
        """
        now = decode_bodies([state])
        time_s = CONTROL_DT_S * torch.arange(1, steps + 1)[:, None] * self._speed
        yaw = compute_yaw(now.pose[..., 3:]) + time_s * now.twist[..., 5]
        position = now.pose[..., :3] + time_s[..., None] * now.twist[..., :3]
        repeated = now.map(lambda values: values.expand(1, steps, *values.shape[2:]))
        pose = torch.cat([position, yaw_to_quaternion(yaw)], -1)
        return replace(repeated, pose=pose, twist=repeated.twist * self._speed).map(lambda values: values[None])
