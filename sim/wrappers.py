"""Gymnasium wrappers of the environment for other libraries."""

from typing import Any

import gymnasium
import numpy as np

from sim.bodies import Observation
from sim.env import GroundEnv
from sim.sensors.flat import compute_flat_vector, get_vector_slices
from sim.utils.errors import GroundError


class FlatObservation(gymnasium.ObservationWrapper[np.ndarray, np.ndarray, Observation]):
    """GroundEnv with a flat observation, for Stable-Baselines3 and other libraries.

    The observation is the egocentric vector and the task's goal features. Other wrappers may lie
    below or above this wrapper, for example Gymnasium's RecordVideo, which needs moviepy::

        env = GroundEnv("logistics/tote-push", render_mode="rgb_array")
        env = FlatObservation(gymnasium.wrappers.RecordVideo(env, "videos"))
    """

    def __init__(self, env: gymnasium.Env[Observation, np.ndarray]) -> None:
        """Wrap an environment.

        Args:
            env: a GroundEnv, or wrappers around it that keep its observation.

        Raises:
            GroundError: the innermost environment is no GroundEnv.
        """
        super().__init__(env)
        base: gymnasium.Env[Any, Any] = env.unwrapped
        if not isinstance(base, GroundEnv):
            raise GroundError(f"FlatObservation needs a GroundEnv, not {type(base).__name__}")
        self._scene = base.scene
        size = get_vector_slices(self._scene.footprint_size).size + self._scene.task.num_goal_features
        self.observation_space = gymnasium.spaces.Box(-20, 20, (size,), np.float32)

    def observation(self, observation: Observation) -> np.ndarray:
        """Convert a dictionary observation.

        Args:
            observation: of GroundEnv.

        Returns:
            (F,) float32 in [-20, 20].
        """
        return compute_flat_vector(observation, self._scene.task, self._scene.max_dynamic)
