"""A learned model as an environment for SB3: short rollouts that start in states of the data.

Source: Janner et al. 2019, "When to trust your model: model-based policy optimization". Unlike in
the paper, the model is trained once before the agent, and the agent learns from model steps only.
Reward, termination and observation are those of the real environment: minus the task's cost and
violation penalty, success, and the flat vector.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv

from agents.learned.config import ModelData
from sim.bodies import Bodies
from sim.costmaps.cache import CACHE_SIZE
from sim.data.episode import Episode
from sim.data.store import Dataset
from sim.scenes.scene import scenes
from sim.sensors.flat import compute_egocentric_vector, get_vector_slices
from sim.utils.errors import GroundError
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.state import MOTION_FIELDS, PlanarState, compute_command, decode_all_bodies, decode_footprints
from worldmodels.planar.windows import PlanarWindows
from worldmodels.training.checkpoint import load_checkpoint

BRANCH_STEPS = 10  # length of a rollout
MAX_LAYOUTS = CACHE_SIZE - 16  # layouts of rollouts: their cost fields must fit into the cache
ZERO_ACTION = np.zeros(2)  # the task's cost does not depend on the action


class ImaginedEnv(VecEnv):
    """A batch of model rollouts as a vectorised environment."""

    render_mode: str | None = None

    def __init__(self, model_data: ModelData, scene: str, count: int) -> None:
        """Load model and data.

        Args:
            model_data: model and datasets.
            scene: name of the scene.
            count: number B of rollouts in the batch.

        Raises:
            GroundError: the model is not a model of planar bodies.
            BadFile: model or data cannot be read.
        """
        model = load_checkpoint(model_data.model, scene)
        if not isinstance(model, PlanarModel):
            raise GroundError(f"dyna learns in models of planar bodies, not in {model.name}")
        self._model = model
        self._task = scenes[scene].task
        self._episodes = episodes = _select_episodes(model_data)
        self._windows = PlanarWindows(episodes)
        self._goals = np.array([(e.layout.goal.x, e.layout.goal.y, e.layout.goal.yaw) for e in episodes], np.float32)
        self._layout_bodies = [Bodies.from_observation(episode.make_observation(0)) for episode in episodes]
        self._owner = np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes])
        self._starts = self._windows.find_starts(1)[0]
        self._rng = np.random.default_rng(0)
        self._hold_steps = scenes[scene].hold_steps
        # rows of the start states in the data, completed steps, consecutive steps of success
        self._rows, self._age, self._steps_at_goal = (np.zeros(count, int) for _ in range(3))
        self._restart(np.arange(count))
        size = get_vector_slices(scenes[scene].footprint_size).size + self._task.num_goal_features
        action_space = gymnasium.spaces.Box(-1, 1, (scenes[scene].action_spec.size,), np.float32)
        super().__init__(count, gymnasium.spaces.Box(-20, 20, (size,), np.float32), action_space)

    def _restart(self, indices: np.ndarray) -> None:
        """Restart some rollouts in sampled states of the data."""
        self._rows[indices] = self._rng.choice(self._starts, len(indices))
        self._age[indices] = 0
        self._steps_at_goal[indices] = 0
        start = self._windows.take(self._rows, 1).state
        if len(indices) == len(self._rows):
            self._state = start
            return
        motion = {name: getattr(self._state, name).clone() for name in MOTION_FIELDS}
        for name, values in motion.items():
            values[indices] = getattr(start, name)[indices]
        self._state = PlanarState(**motion, context=start.context)

    def reset(self) -> np.ndarray:
        """Restart all rollouts.

        Returns:
            (B, F) float32 flat observations.
        """
        self._restart(np.arange(self.num_envs))
        return self._observe()[0]

    def step_async(self, actions: np.ndarray) -> None:
        """Set the actions of the next `step_wait`.

        Args:
            actions: (B, A), clipped to [-1, 1].
        """
        self._actions = torch.as_tensor(actions, dtype=torch.float32).clamp(-1, 1)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Predict a control step, and restart the rollouts that end.

        Returns:
            Observations (B, F), rewards (B,), ends (B,), and the information that SB3 defines.
        """
        command = compute_command(self._state, self._actions[:, None])[:, 0].numpy()
        (predicted,) = self._model.predict_mean(self._state, self._actions[:, None])
        self._state = replace(predicted, context=self._state.context)
        self._age += 1
        observations, costs, is_at_goal = self._observe(command)
        self._steps_at_goal = np.where(is_at_goal, self._steps_at_goal + 1, 0)
        is_success = self._steps_at_goal > self._hold_steps
        is_end = is_success | (self._age >= BRANCH_STEPS)
        infos: list[dict[str, Any]] = [{"TimeLimit.truncated": bool(value)} for value in is_end & ~is_success]
        if is_end.any():
            for index in np.flatnonzero(is_end):
                infos[index]["terminal_observation"] = observations[index]
            self._restart(np.flatnonzero(is_end))
            observations = np.where(is_end[:, None], self._observe()[0], observations)
        return observations, -costs, is_end, infos

    def _observe(self, command: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Observe the current states.

        Args:
            command: (B, 3) last commanded velocities; None: at rest.

        Returns:
            Flat observations (B, F), costs (B,) and success (B,).
        """
        command = np.zeros((self.num_envs, 3)) if command is None else command
        with torch.inference_mode():
            num_dynamic = self._state.yaw_rate.shape[1]
            predicted = decode_all_bodies(self._state)
            flat = compute_egocentric_vector(predicted, num_dynamic, decode_footprints(self._state)).numpy()
        goal_features = []
        costs = []
        is_success = []
        for index, episode in enumerate(self._owner[self._rows]):
            goal = self._goals[episode]
            bodies = self._layout_bodies[episode]
            bodies = replace(bodies, pose=bodies.pose.copy(), twist=bodies.twist.copy())
            count = int(bodies.is_dynamic.sum())
            bodies.pose[:count] = predicted.pose[index, :count].numpy()
            bodies.twist[:count] = predicted.twist[index, :count].numpy()
            field = self._task.get_cost_field(bodies, goal)
            penalty = self._task.compute_violation_penalty(bodies, command[index], field)
            costs.append(self._task.compute_cost(bodies, ZERO_ACTION, goal, field) + penalty)
            goal_features.append(self._task.compute_goal_features(bodies, goal))
            is_success.append(bool(self._task.is_success(bodies, goal)))
        observations = np.concatenate([flat, np.stack(goal_features)], 1).clip(-20, 20).astype(np.float32)
        return observations, np.array(costs, np.float32), np.array(is_success)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        self._rng = np.random.default_rng(seed)
        return [seed] * self.num_envs

    def close(self) -> None: ...

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("model rollouts have no attributes to set")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("model rollouts have no methods to call")

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def _select_episodes(model_data: ModelData) -> list[Episode]:
    """Select the episodes of MAX_LAYOUTS layouts and load sizes, from the last dataset first."""
    selected: list[Episode] = []
    keys: set[tuple[str, bytes]] = set()
    for path in reversed(model_data.data):
        for episode in Dataset.open(path).episodes():
            key = (episode.layout.id, episode.half_extents.tobytes())  # as for cost fields
            if len(episode) > 1 and (key in keys or len(keys) < MAX_LAYOUTS):
                keys.add(key)
                selected.append(episode)
    return selected
