"""Wrappers of the environment for other libraries."""

import gymnasium
import numpy as np

from sim.bodies import Observation
from sim.env import GroundEnv
from sim.sensors.flat import compute_flat_vector, get_vector_slices


class FlatObservation(gymnasium.ObservationWrapper[np.ndarray, np.ndarray, Observation]):
    """The environment for SB3: the egocentric vector and the task's hint."""

    def __init__(self, env: GroundEnv) -> None:
        super().__init__(env)
        self._task, self._num_dynamic = env.scene.task, env.scene.max_dynamic
        size = get_vector_slices(env.scene.footprint_size).size + self._task.num_goal_features
        self.observation_space = gymnasium.spaces.Box(-20, 20, (size,), np.float32)

    def observation(self, observation: Observation) -> np.ndarray:
        return compute_flat_vector(observation, self._task, self._num_dynamic)
