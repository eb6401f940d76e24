"""A learned model as an environment for SB3: short futures that branch off from states of the data (Janner et al. 2019, "When to
trust your model: model-based policy optimization").

All branches are one batch of the model. Unlike the paper, the model is trained once before the agent, and the agent on imagined
steps alone. Reward, end and observation are the real environment's: minus the task's cost, its success, and the flat vector.
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

BRANCH_STEPS = 10  # steps of a future
MAX_LAYOUTS = CACHE_SIZE - 16  # that futures take place in: as many as there are fields remembered, with room for others
STILL = np.zeros(2)  # the task's cost does not look at the action


class ImaginedEnv(VecEnv):
    """`count` futures at a time."""

    render_mode: str | None = None

    def __init__(self, model_data: ModelData, scene: str, count: int) -> None:
        model = load_checkpoint(model_data.model, scene)
        if not isinstance(model, PlanarModel):
            raise GroundError(f"dyna learns in models of planar bodies, not in {model.name}")
        self._model, self._task = model, scenes[scene].task
        self._episodes = episodes = _select_episodes(model_data)
        self._windows = PlanarWindows(episodes)
        self._goals = np.array([(e.layout.goal.x, e.layout.goal.y, e.layout.goal.yaw) for e in episodes], np.float32)
        self._layout_bodies = [Bodies.from_observation(episode.make_observation(0)) for episode in episodes]
        self._owner = np.repeat(np.arange(len(episodes)), [len(episode) for episode in episodes])
        self._starts = self._windows.find_starts(1)[0]
        self._rng, self._hold_steps = np.random.default_rng(0), scenes[scene].hold_steps
        self._rows, self._age, self._reached = (np.zeros(count, int) for _ in range(3))
        self._restart_branches(np.arange(count))
        space = gymnasium.spaces.Box(
            -20, 20, (get_vector_slices(scenes[scene].footprint_size).size + self._task.num_goal_features,), np.float32
        )
        super().__init__(count, space, gymnasium.spaces.Box(-1, 1, (scenes[scene].action_spec.size,), np.float32))

    def _restart_branches(self, which: np.ndarray) -> None:
        """New beginnings for some of the futures."""
        self._rows[which], self._age[which], self._reached[which] = self._rng.choice(self._starts, len(which)), 0, 0
        fresh = self._windows.take(self._rows, 1).state
        if len(which) == len(self._rows):
            self._state = fresh
            return
        old, motion = self._state, {}
        for name in MOTION_FIELDS:
            values = getattr(old, name).clone()
            values[which] = getattr(fresh, name)[which]
            motion[name] = values
        self._state = PlanarState(**motion, context=fresh.context)

    def reset(self) -> np.ndarray:
        self._restart_branches(np.arange(self.num_envs))
        return self._observe()[0]

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = torch.as_tensor(actions, dtype=torch.float32).clamp(-1, 1)

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        command = compute_command(self._state, self._actions[:, None])[:, 0].numpy()
        (after,) = self._model.predict_mean(self._state, self._actions[:, None])
        self._state = replace(after, context=self._state.context)
        self._age += 1
        seen, costs, there = self._observe(command)
        self._reached = np.where(there, self._reached + 1, 0)
        solved = self._reached > self._hold_steps
        ended = solved | (self._age >= BRANCH_STEPS)
        infos: list[dict[str, Any]] = [
            {"TimeLimit.truncated": bool(end and not won)} for end, won in zip(ended, solved, strict=True)
        ]
        if ended.any():
            for index in np.flatnonzero(ended):
                infos[index]["terminal_observation"] = seen[index]
            self._restart_branches(np.flatnonzero(ended))
            seen = np.where(ended[:, None], self._observe()[0], seen)
        return seen, -costs, ended, infos

    def _observe(self, command: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Flat observations (B, F), costs (B,) and success (B,) of the present states, after a command (B, 3); none: at rest."""
        command = np.zeros((self.num_envs, 3)) if command is None else command
        with torch.inference_mode():
            movers = self._state.yaw_rate.shape[1]
            bodies = decode_all_bodies(self._state)
            flat = compute_egocentric_vector(bodies, movers, decode_footprints(self._state)).numpy()
        hints, costs, solved = [], [], []
        for index, episode in enumerate(self._owner[self._rows]):
            space, goal = self._layout_bodies[episode], self._goals[episode]
            pose, twist, count = space.pose.copy(), space.twist.copy(), int(space.is_dynamic.sum())
            pose[:count], twist[:count] = bodies.pose[index, :count].numpy(), bodies.twist[index, :count].numpy()
            one = replace(space, pose=pose, twist=twist)
            hints.append(self._task.compute_goal_features(one, goal))
            field = self._task.get_cost_field(one, goal)
            costs.append(
                self._task.compute_cost(one, STILL, goal, field)
                + self._task.compute_violation_penalty(one, command[index], field)
            )
            solved.append(bool(self._task.is_success(one, goal)))
        seen = np.concatenate([flat, np.stack(hints)], 1).clip(-20, 20).astype(np.float32)
        return seen, np.array(costs, np.float32), np.array(solved)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        self._rng = np.random.default_rng(seed)
        return [seed] * self.num_envs

    def close(self) -> None: ...

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("futures have no attributes of their own")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("futures have no methods of their own")

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def _select_episodes(model_data: ModelData) -> list[Episode]:
    """Episodes of the last data first, as many as lie in SPACES spaces with one size of load."""
    kept, spaces = list[Episode](), set[tuple[str, bytes]]()
    for path in reversed(model_data.data):
        for episode in Dataset.open(path).episodes():
            space = episode.layout.id, episode.half_extents.tobytes()  # a field is of both
            if len(episode) > 1 and (space in spaces or len(spaces) < MAX_LAYOUTS):
                spaces.add(space)
                kept.append(episode)
    return kept
