"""Prediction baselines: bodies that stand, or keep their velocities."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.bodies import CONTROL_DT_S
from sim.policy import EpisodeStart
from worldmodels.model import Prediction, WorldModel
from worldmodels.planar.composition import merge_agents, robot_only
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.state import PlanarState, decode_bodies

PREDICTION_BASELINES = ("static", "constant-velocity")


def extrapolate(state: PlanarState, steps: int, speed: float = 1.0) -> list[PlanarState]:
    """Extrapolate a state at constant velocities, or at a share of them.

    Args:
        state: B scenes.
        steps: number of states.
        speed: factor on all velocities; 0: everything stands.
    """
    rate, velocity = speed * state.yaw_rate, speed * state.velocity
    states = []
    for time in CONTROL_DT_S * torch.arange(1, steps + 1):
        heading = state.heading * torch.polar(torch.ones_like(rate), time * rate)
        states.append(
            replace(state, position=state.position + time * velocity, heading=heading, velocity=velocity, yaw_rate=rate)
        )
    return states


class ConstantVelocity:
    """The baseline for open-loop errors: everything keeps its velocity, whatever the robot is commanded."""

    name = "constant-velocity"

    def count_particles(self, state: PlanarState) -> int:
        """Return 1."""
        return 1

    def predict_particles(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        """Predict the states after each of actions (W, H, A)."""
        return extrapolate(state, actions.shape[1])


class PredictionBaseline(WorldModel[PlanarState]):
    """A learned model of the robot alone, beside agents that stand or keep their velocities. No agent reacts to the robot."""

    def __init__(self, model: PlanarModel, baseline: str) -> None:
        """Combine a model with a baseline.

        Args:
            model: of the robot's own motion.
            baseline: one of PREDICTION_BASELINES.
        """
        self._model, self._speed = model, float(baseline == "constant-velocity")

    def start_episode(self, start: EpisodeStart) -> None:
        """Do nothing: the model compiles at its first decision, for fewer bodies than an episode's start tells."""

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> PlanarState:
        """Encode one observation as the model does."""
        return self._model.encode(observation, steps)

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Select the rows (M,) of an observation as the model does."""
        return self._model.select_bodies(observation)

    def rollout_batch(self, states: Sequence[PlanarState], actions: Sequence[Tensor]) -> list[Prediction]:
        """Predict the robot for each candidate, and the agents once for all."""
        robots = self._model.rollout_batch([robot_only(state) for state in states], actions)
        predictions = []
        for robot, state, candidates in zip(robots, states, actions, strict=True):
            agents = decode_bodies(extrapolate(state, candidates.shape[1], self._speed)).map(lambda values: values[None])
            assert robot.bodies is not None, "planar models predict bodies"
            predictions.append(Prediction(merge_agents(robot.bodies, agents)))
        return predictions
