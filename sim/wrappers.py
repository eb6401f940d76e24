"""Wrappers of the environment for other libraries."""

import gymnasium
import numpy as np

from sim.bodies import Observation
from sim.env import GroundEnv
from sim.sensors.flat import flat_layout, flat_vector


class FlatObservation(gymnasium.ObservationWrapper[np.ndarray, np.ndarray, Observation]):
    """The environment for SB3: the egocentric vector and the task's hint."""

    def __init__(self, env: GroundEnv) -> None:
        super().__init__(env)
        self._task, self._movers = env.scene.task, env.scene.movers
        size = flat_layout(env.scene.pieces).size + self._task.hints
        self.observation_space = gymnasium.spaces.Box(-20, 20, (size,), np.float32)

    def observation(self, observation: Observation) -> np.ndarray:
        return flat_vector(observation, self._task, self._movers)
