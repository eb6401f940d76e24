"""Stable-Baselines3 agents on the flat egocentric vector: training that can be resumed, and loading without unpickling.

The reward is minus the task's cost, scaled by its running spread while training; the policy sees raw observations.
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
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

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
NUM_TRAINING_LAYOUTS = 240  # of the training split, that agents meet


def train(config: BaselineConfig, path: Path, progress: Progress, snapshots: Sequence[int], model_data: ModelData | None) -> None:
    """Train in `path`, keeping the last state every `save_every` steps; a finished run is left as it is, a broken one goes on."""
    with lock_directory(path):
        done = read_json(path / "policy.json") if (path / "policy.json").exists() else None
        if done and _parse_config(path, done) != config:
            raise GroundError(f"{path} holds an agent with another configuration: choose another directory")
        if done:
            _check_observation_version(path, done)
        within = model_data.describe_content() if model_data else None
        if done and done.get("imagined", within) != within:  # agents of earlier versions do not say
            raise GroundError(f"{path} holds an agent that learned in another model, or from other data: remove it, or it stays")
        if done and done["finished"]:
            return
        torch.set_num_threads(1)
        count, seen = ALGORITHMS[config.algorithm][2], set(done.get("layouts", ()) if done else ())
        env = VecNormalize(
            ImaginedEnv(model_data, config.scene, count)
            if model_data
            else DummyVecEnv([lambda: _make_env(config, seen)] * count),
            norm_obs=False,
        )
        model = _make_algorithm(config, env)
        if done:
            _restore(model, path, done)
            model.set_random_seed(_derive_seed(config.seed, done["steps"]))  # not the beginning's spaces and noise once more
        model.set_logger(Logger(None, []))  # SB3 would leave a folder in /tmp
        keeper = _CheckpointCallback(config, path, progress, snapshots, seen, done, within)
        model.learn(config.steps - model.num_timesteps, callback=keeper, reset_num_timesteps=done is None)
        keeper.save(finished=True)
        env.close()


def _derive_seed(seed: int, steps: int) -> int:
    """Of what goes on after so many steps; SB3 takes 32 bits."""
    return int(np.random.SeedSequence([seed, steps]).generate_state(1)[0])


def _make_env(config: BaselineConfig, seen: set[str]) -> gymnasium.Env[Any, Any]:
    variations = scenes[config.scene].make_variations("train", config.variations)
    env = GroundEnv(config.scene, "train", layouts=NUM_TRAINING_LAYOUTS, variations=variations)
    return Monitor(_LayoutRecorder(FlatObservation(env), env, seen))


class _LayoutRecorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Notes the layouts that an agent trains in: it cannot be evaluated there."""

    def __init__(self, env: gymnasium.Env[Any, Any], ground: GroundEnv, seen: set[str]) -> None:
        super().__init__(env)
        self._ground, self._seen = ground, seen

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        begun = super().reset(**options)
        self._seen.add(self._ground.layout.id)
        return begun


def _make_algorithm(config: BaselineConfig, env: Any) -> BaseAlgorithm:
    kind, settings, _ = ALGORITHMS[config.algorithm]
    model: BaseAlgorithm = getattr(stable_baselines3, kind)("MlpPolicy", env, seed=config.seed, device="cpu", **settings)
    return model


class _CheckpointCallback(BaseCallback):
    """Saves weights, optimiser and replay now and then, and reports progress."""

    def __init__(
        self,
        config: BaselineConfig,
        path: Path,
        progress: Progress,
        snapshots: Sequence[int],
        seen: set[str],
        done: dict[str, Any] | None,
        imagined: dict[str, Any] | None,
    ) -> None:
        super().__init__()
        self._seen, self._imagined = seen, imagined
        self._resumed = [*done.get("resumed_at", ()), done["steps"]] if done else []
        self._snapshots = sorted(at for at in snapshots if not (get_snapshot_path(path, at) / "policy.json").exists())
        self._config, self._path, self._progress = config, path, progress
        self._cpu_s, self._begun, self._next = done["cpu_s"] if done else 0.0, time.process_time(), config.save_every

    def _on_training_start(self) -> None:
        self._next = self.model.num_timesteps + self._config.save_every

    def _on_step(self) -> bool:
        if self.num_timesteps % 100 < self.training_env.num_envs or self.num_timesteps >= self._config.steps:
            self._progress(min(self.num_timesteps, self._config.steps), self._config.steps)
        while self._snapshots and self.num_timesteps >= self._snapshots[0]:
            self._write(get_snapshot_path(self._path, self._snapshots.pop(0)), finished=True)
        return True

    def _on_rollout_start(self) -> None:
        """What was met has been learned from: nothing is lost between."""
        if self.num_timesteps >= self._next:
            self._next += self._config.save_every
            self.save(finished=False)

    def save(self, finished: bool) -> None:
        self._write(self._path, finished)

    def _write(self, path: Path, finished: bool) -> None:
        steps = self.model.num_timesteps
        tensors = {f"weights/{k}": v for k, v in self.model.policy.state_dict().items()}
        for name in _list_optimizers(self.model):
            for index, state in _get_optimizer(self.model, name).state_dict()["state"].items():
                tensors |= {f"{name}/{index}/{key}": value for key, value in state.items()}
        entropy = getattr(self.model, "log_ent_coef", None)
        if entropy is not None:
            tensors["log_ent_coef"] = entropy.detach()
        weights = f"policy-{steps}.safetensors"
        write_atomic(path / weights, lambda to: save_file(copy_tensors(tensors), to))
        replay = None
        buffer = getattr(self.model, "replay_buffer", None)
        if buffer is not None and not finished:
            replay = f"replay-{steps}.npz"
            write_atomic(path / replay, lambda to: _save_replay(buffer, to))
        spread = _get_return_statistics(self.model)
        write_json(
            path / "policy.json",
            {
                "format": POLICY_FORMAT,
                "config": asdict(self._config),
                "scene": self._config.scene,
                "algorithm": self._config.algorithm,
                "steps": steps,
                "cpu_s": self._cpu_s + time.process_time() - self._begun,
                "finished": finished,
                "weights": weights,
                "replay": replay,
                "reward_rms": [float(spread.mean), float(spread.var), float(spread.count)],
                "layouts": sorted(self._seen),
                "resumed_at": self._resumed,
                "observes": FLAT_VERSION,
                **({"imagined": self._imagined} if self._imagined else {}),
            },
        )
        for old in [*path.glob("policy-*.safetensors"), *path.glob("replay-*.npz")]:
            if old.name not in (weights, replay):
                old.unlink()


def _list_optimizers(model: BaseAlgorithm) -> list[str]:
    """Names of SB3's optimisers, as it lists them for its own checkpoints."""
    return [name for name in model._get_torch_save_params()[0] if "optimizer" in name]


def _get_optimizer(model: BaseAlgorithm, name: str) -> torch.optim.Optimizer:
    found: Any = model
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _get_return_statistics(model: BaseAlgorithm) -> RunningMeanStd:
    """The running spread of returns that rewards are scaled by."""
    env = model.get_vec_normalize_env()
    assert env is not None, "agents train on a VecNormalize environment"
    return env.ret_rms


def _save_replay(buffer: ReplayBuffer, to: Path) -> None:
    count = buffer.buffer_size if buffer.full else buffer.pos
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    with open(to, "wb") as file:
        np.savez(file, **{name: getattr(buffer, name)[:count] for name in names})


def _restore(model: BaseAlgorithm, path: Path, about: dict[str, Any]) -> None:
    tensors = read_tensors(path / about["weights"])
    model.policy.load_state_dict({k.removeprefix("weights/"): v for k, v in tensors.items() if k.startswith("weights/")})
    for name in _list_optimizers(model):
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in tensors.items():
            if key.startswith(f"{name}/"):
                _, index, field = key.split("/")
                state.setdefault(int(index), {})[field] = value
        optimizer = _get_optimizer(model, name)
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    if "log_ent_coef" in tensors:
        model.log_ent_coef.data.copy_(tensors["log_ent_coef"])  # type: ignore[attr-defined]  # SAC has it
    buffer = getattr(model, "replay_buffer", None)
    if about["replay"] and buffer is not None:
        saved = np.load(path / about["replay"], allow_pickle=False)
        count = len(saved["rewards"])
        for name in saved.files:
            getattr(buffer, name)[:count] = saved[name]
        buffer.pos, buffer.full = count % buffer.buffer_size, count == buffer.buffer_size
    spread = _get_return_statistics(model)
    mean, var, spread.count = about["reward_rms"]
    spread.mean, spread.var = np.array(mean), np.array(var)
    model.num_timesteps = about["steps"]


def _parse_config(path: Path, about: dict[str, Any]) -> BaselineConfig:
    try:
        return BaselineConfig(**about["config"])
    except (TypeError, KeyError) as error:
        raise BadFile(f"{path / 'policy.json'} does not describe an agent ({error})") from error


def _check_observation_version(path: Path, about: dict[str, Any]) -> None:
    """Raise BadFile where an agent learned from another flat vector than there is now."""
    if about.get("observes", 1) != FLAT_VERSION and not is_version_independent(scenes[about["scene"]]):
        raise BadFile(f"{path} holds an agent that learned from another observation: remove it, and train it again")


class BaselinePolicy:
    """A trained SB3 policy that takes the dictionary observation."""

    def __init__(self, path: Path, scene: str) -> None:
        if not (path / "policy.json").exists():
            raise BadFile(f"{path} holds no trained agent (policy.json is missing): train one first")
        about = read_json(path / "policy.json")
        if not isinstance(about, dict) or about.get("format") != POLICY_FORMAT or about.get("scene") != scene:
            raise BadFile(f"{path} holds no agent of format {POLICY_FORMAT} for scene '{scene}'")
        _check_observation_version(path, about)
        torch.set_num_threads(1)
        config = _parse_config(path, about)
        self._task, self._movers = scenes[scene].task, scenes[scene].max_dynamic
        space = FlatObservation(GroundEnv(scene))
        stub = DummyVecEnv([lambda: space])
        self._policy = _make_algorithm(config, stub).policy
        weights = {
            k.removeprefix("weights/"): v for k, v in read_tensors(path / about["weights"]).items() if k.startswith("weights/")
        }
        try:
            self._policy.load_state_dict(weights)
        except RuntimeError as error:
            raise BadFile(f"{path / about['weights']} does not fit its agent ({str(error).splitlines()[0]})") from error
        self._policy.set_training_mode(False)

    def start_episode(self, start: EpisodeStart) -> None:
        """An SB3 policy has no memory."""

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        action, _ = self._policy.predict(compute_flat_vector(observation, self._task, self._movers), deterministic=deterministic)
        return np.clip(action, -1, 1), state
