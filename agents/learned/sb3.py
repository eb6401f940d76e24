"""Stable-Baselines3 agents on the flat egocentric vector: resumable training, no pickle.

The reward is minus the task's cost. In training it is divided by the running standard deviation of
the return. Observations are not normalised.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from safetensors.torch import save_file
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from agents.learned.config import ALGORITHMS, BaselineConfig, ModelData, Progress, get_snapshot_path
from agents.learned.dyna import ImaginedEnv
from sim.bodies import Observation
from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.sensors.flat import FLAT_VERSION, compute_flat_vector, is_version_independent
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import lock_directory, read_json, write_atomic, write_json
from sim.wrappers import FlatObservation
from worldmodels.training.checkpoint import copy_tensors, read_tensors

POLICY_FORMAT = 1
NUM_TRAINING_LAYOUTS = 240  # layouts of the training split that agents are trained in


def train(config: BaselineConfig, path: Path, progress: Progress, snapshots: Sequence[int], model_data: ModelData | None) -> None:
    """Train an agent, as `agents.learned.baselines.train_baseline` describes.

    Raises:
        GroundError: `path` holds an agent with another configuration, model or data.
        BadFile: the saved state is damaged, or belongs to another version of the observation.
    """
    with lock_directory(path):
        saved = read_json(path / "policy.json") if (path / "policy.json").exists() else None
        model_content = model_data.describe_content() if model_data else None
        if saved:
            if _parse_config(path, saved) != config:
                raise GroundError(f"{path} holds an agent with another configuration: choose another directory")
            _check_observation_version(path, saved)
            if saved.get("imagined", model_content) != model_content:  # absent in early versions
                raise GroundError(f"{path} holds an agent that learned in another model or from other data: remove it")
            if saved["finished"]:
                return
        torch.set_num_threads(1)
        count = ALGORITHMS[config.algorithm][2]
        layout_ids: set[str] = set(saved.get("layouts", ()) if saved else ())
        if model_data:
            base_env: VecEnv = ImaginedEnv(model_data, config.scene, count)
        else:
            base_env = DummyVecEnv([lambda: _make_env(config, layout_ids)] * count)
        env = VecNormalize(base_env, norm_obs=False)
        model = _make_algorithm(config, env)
        if saved:
            _restore(model, path, saved)
            # The initial seed would repeat the layouts and the noise of the first steps.
            model.set_random_seed(_derive_seed(config.seed, saved["steps"]))
        model.set_logger(Logger(None, []))  # SB3's default logger creates a folder in /tmp
        callback = _CheckpointCallback(config, path, progress, snapshots, layout_ids, saved, model_content)
        model.learn(config.steps - model.num_timesteps, callback=callback, reset_num_timesteps=saved is None)
        callback.save(finished=True)
        env.close()


def _derive_seed(seed: int, steps: int) -> int:
    """Derive the 32-bit seed of a training run that is resumed after a number of steps."""
    return int(np.random.SeedSequence([seed, steps]).generate_state(1)[0])


def _make_env(config: BaselineConfig, layout_ids: set[str]) -> gymnasium.Env[Any, Any]:
    variations = scenes[config.scene].make_variations("train", config.variations)
    env = GroundEnv(config.scene, "train", layouts=NUM_TRAINING_LAYOUTS, variations=variations)
    return Monitor(_LayoutRecorder(FlatObservation(env), layout_ids))


class _LayoutRecorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records the layouts that an agent is trained in: it must not be evaluated in them."""

    def __init__(self, env: gymnasium.Env[Any, Any], layout_ids: set[str]) -> None:
        super().__init__(env)
        self._layout_ids = layout_ids

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        first = super().reset(**options)
        self._layout_ids.add(self.get_wrapper_attr("layout").id)
        return first


def _make_algorithm(config: BaselineConfig, env: Any) -> BaseAlgorithm:
    name, settings, _ = ALGORITHMS[config.algorithm]
    model: BaseAlgorithm = getattr(stable_baselines3, name)("MlpPolicy", env, seed=config.seed, device="cpu", **settings)
    return model


class _CheckpointCallback(BaseCallback):
    """Saves weights, optimiser state and replay buffer, and reports progress."""

    def __init__(
        self,
        config: BaselineConfig,
        path: Path,
        progress: Progress,
        snapshots: Sequence[int],
        layout_ids: set[str],
        saved: dict[str, Any] | None,
        model_content: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self._config = config
        self._path = path
        self._progress = progress
        self._layout_ids = layout_ids
        self._model_content = model_content
        self._resumed_at = [*saved.get("resumed_at", ()), saved["steps"]] if saved else []
        self._snapshots = sorted(n for n in snapshots if not (get_snapshot_path(path, n) / "policy.json").exists())
        self._cpu_start_s = time.process_time() - (saved["cpu_s"] if saved else 0.0)

    def _on_training_start(self) -> None:
        self._next_save = self.model.num_timesteps + self._config.save_every

    def _on_step(self) -> bool:
        if self.num_timesteps % 100 < self.training_env.num_envs or self.num_timesteps >= self._config.steps:
            self._progress(min(self.num_timesteps, self._config.steps), self._config.steps)
        while self._snapshots and self.num_timesteps >= self._snapshots[0]:
            self._write(get_snapshot_path(self._path, self._snapshots.pop(0)), finished=True)
        return True

    def _on_rollout_start(self) -> None:
        """Save at the start of a rollout, when the agent has learned from all previous steps."""
        if self.num_timesteps >= self._next_save:
            self._next_save += self._config.save_every
            self.save(finished=False)

    def save(self, finished: bool) -> None:
        """Save the state of the training run."""
        self._write(self._path, finished)

    def _write(self, path: Path, finished: bool) -> None:
        steps = self.model.num_timesteps
        tensors = {f"weights/{k}": v for k, v in self.model.policy.state_dict().items()}
        for name, parameters in _get_optimizer_parameters(self.model).items():
            for index, state in parameters["state"].items():
                tensors |= {f"{name}/{index}/{key}": value for key, value in state.items()}
        entropy = getattr(self.model, "log_ent_coef", None)
        if entropy is not None:
            tensors["log_ent_coef"] = entropy.detach()
        weights = f"policy-{steps}.safetensors"
        write_atomic(path / weights, lambda file: save_file(copy_tensors(tensors), file))
        replay = None
        buffer = getattr(self.model, "replay_buffer", None)
        if buffer is not None and not finished:
            replay = f"replay-{steps}.npz"
            write_atomic(path / replay, lambda file: _save_replay(buffer, file))
        returns = _get_return_statistics(self.model)
        metadata = {
            "format": POLICY_FORMAT,
            "config": asdict(self._config),
            "scene": self._config.scene,
            "algorithm": self._config.algorithm,
            "steps": steps,
            "cpu_s": time.process_time() - self._cpu_start_s,
            "finished": finished,
            "weights": weights,
            "replay": replay,
            "reward_rms": [float(returns.mean), float(returns.var), float(returns.count)],
            "layouts": sorted(self._layout_ids),
            "resumed_at": self._resumed_at,
            "observes": FLAT_VERSION,
        }
        imagined = {"imagined": self._model_content} if self._model_content else {}
        write_json(path / "policy.json", metadata | imagined)
        for old in [*path.glob("policy-*.safetensors"), *path.glob("replay-*.npz")]:
            if old.name not in (weights, replay):
                old.unlink()


def _get_optimizer_parameters(model: BaseAlgorithm) -> dict[str, dict[str, Any]]:
    """Get the states of the optimisers, by their names in the checkpoints of SB3."""
    return {name: state for name, state in model.get_parameters().items() if "optimizer" in name}


def _get_return_statistics(model: BaseAlgorithm) -> RunningMeanStd:
    """Get the running statistics of the returns, which scale the rewards."""
    env = model.get_vec_normalize_env()
    assert env is not None, "agents train on a VecNormalize environment"
    return env.ret_rms


def _save_replay(buffer: ReplayBuffer, path: Path) -> None:
    count = buffer.buffer_size if buffer.full else buffer.pos
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    with open(path, "wb") as file:
        np.savez(file, **{name: getattr(buffer, name)[:count] for name in names})


def _select_tensors(tensors: dict[str, torch.Tensor], folder: str) -> dict[str, torch.Tensor]:
    """Select the tensors of a checkpoint whose names begin with `folder/`, by the rest of their names."""
    return {name.removeprefix(f"{folder}/"): tensor for name, tensor in tensors.items() if name.startswith(f"{folder}/")}


def _restore(model: BaseAlgorithm, path: Path, metadata: dict[str, Any]) -> None:
    tensors = read_tensors(path / metadata["weights"])
    parameters: dict[str, Any] = {"policy": _select_tensors(tensors, "weights")}
    for name, optimizer in _get_optimizer_parameters(model).items():
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _select_tensors(tensors, name).items():
            index, field = key.split("/")
            state.setdefault(int(index), {})[field] = value
        parameters[name] = {**optimizer, "state": state}
    model.set_parameters(parameters)
    if "log_ent_coef" in tensors:
        model.log_ent_coef.data.copy_(tensors["log_ent_coef"])  # type: ignore[attr-defined]  # SAC has it
    buffer = getattr(model, "replay_buffer", None)
    if metadata["replay"] and buffer is not None:
        saved = np.load(path / metadata["replay"], allow_pickle=False)
        count = len(saved["rewards"])
        for name in saved.files:
            getattr(buffer, name)[:count] = saved[name]
        buffer.pos = count % buffer.buffer_size
        buffer.full = count == buffer.buffer_size
    returns = _get_return_statistics(model)
    mean, variance, returns.count = metadata["reward_rms"]
    returns.mean = np.array(mean)
    returns.var = np.array(variance)
    model.num_timesteps = metadata["steps"]


def _parse_config(path: Path, metadata: dict[str, Any]) -> BaselineConfig:
    try:
        return BaselineConfig(**metadata["config"])
    except (TypeError, KeyError) as error:
        raise BadFile(f"{path / 'policy.json'} does not describe an agent ({error})") from error


def _check_observation_version(path: Path, metadata: dict[str, Any]) -> None:
    """Raise BadFile if an agent was trained on another version of the flat vector."""
    if metadata.get("observes", 1) != FLAT_VERSION and not is_version_independent(scenes[metadata["scene"]]):
        raise BadFile(f"{path} holds an agent that learned from another observation: remove it, and train it again")


class BaselinePolicy:
    """A trained SB3 policy on the dictionary observation."""

    def __init__(self, path: Path, scene: str) -> None:
        """Load an agent.

        Args:
            path: directory of its training run.
            scene: name of its scene.

        Raises:
            BadFile: the directory holds no agent of this scene, or its files are damaged.
        """
        if not (path / "policy.json").exists():
            raise BadFile(f"{path} holds no trained agent (policy.json is missing): train one first")
        metadata = read_json(path / "policy.json")
        if not isinstance(metadata, dict) or metadata.get("format") != POLICY_FORMAT or metadata.get("scene") != scene:
            raise BadFile(f"{path} holds no agent of format {POLICY_FORMAT} for scene '{scene}'")
        _check_observation_version(path, metadata)
        torch.set_num_threads(1)
        self._scene = scenes[scene]
        env = FlatObservation(GroundEnv(scene))  # gives the sizes of observation and action
        self._policy = _make_algorithm(_parse_config(path, metadata), DummyVecEnv([lambda: env])).policy
        tensors = read_tensors(path / metadata["weights"])
        try:
            self._policy.load_state_dict(_select_tensors(tensors, "weights"))
        except RuntimeError as error:
            raise BadFile(f"{path / metadata['weights']} does not fit its agent ({str(error).splitlines()[0]})") from error
        self._policy.set_training_mode(False)

    def start_episode(self, start: EpisodeStart) -> None:
        """Do nothing: an SB3 policy has no state."""

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        vector = compute_flat_vector(observation, self._scene.task, self._scene.max_dynamic)
        action, _ = self._policy.predict(vector, deterministic=deterministic)
        return np.clip(action, -1, 1), state
