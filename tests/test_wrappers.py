"""Gymnasium wrappers below and above FlatObservation."""

from pathlib import Path
from typing import Any

import gymnasium
import imageio_ffmpeg
import numpy as np
import pytest
from conftest import limit_steps, make_action

from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from sim.wrappers import FlatObservation

SCENE = "logistics/tote-push"
ACTION = np.array([1.0, 0.3], np.float32)
STEPS = 4


def run_episode(env: gymnasium.Env[Any, Any], scene: str) -> np.ndarray:
    """Run STEPS steps and return the observations (STEPS + 1, F)."""
    observation, _ = env.reset(seed=0)
    observations = [observation, *(env.step(make_action(scene, *ACTION))[0] for _ in range(limit_steps(scene, STEPS)))]
    env.close()
    return np.stack(observations)


@pytest.mark.parametrize("scene", scenes)
def test_flat_observation_accepts_a_wrapped_environment(scene: str) -> None:
    wrapped = gymnasium.make(scenes[scene].gym_id, split="test")
    assert wrapped is not wrapped.unwrapped
    env = FlatObservation(gymnasium.wrappers.TimeLimit(wrapped, 100))
    assert isinstance(env.unwrapped, GroundEnv)
    direct = FlatObservation(GroundEnv(scene, "test"))
    assert env.observation_space == direct.observation_space
    np.testing.assert_array_equal(run_episode(env, scene), run_episode(direct, scene))


@pytest.mark.parametrize("scene", scenes)
@pytest.mark.parametrize("is_flat", [False, True])
def test_time_aware_observation_knows_the_time_limit(scene: str, is_flat: bool) -> None:
    env: Any = gymnasium.make(scenes[scene].gym_id, split="test")
    env = gymnasium.wrappers.TimeAwareObservation(FlatObservation(env) if is_flat else env, flatten=is_flat)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert env.observation_space.contains(env.step(env.action_space.sample())[0])
    env.close()


def test_flat_observation_refuses_other_environments() -> None:
    with pytest.raises(GroundError, match="needs a GroundEnv, not CartPoleEnv"):
        FlatObservation(gymnasium.make("CartPole-v1"))


@pytest.mark.parametrize("is_video_below", [True, False])
def test_record_video_writes_an_episode(tmp_path: Path, is_video_below: bool) -> None:
    pytest.importorskip("moviepy", reason="moviepy is not installed: pip install -e .[dev]")
    env: Any = GroundEnv(SCENE, "test", render_mode="rgb_array", render_size=(160, 120))
    wrappers = [lambda env: gymnasium.wrappers.RecordVideo(env, str(tmp_path / "videos")), FlatObservation]
    for wrap in wrappers if is_video_below else reversed(wrappers):
        env = wrap(env)
    np.testing.assert_array_equal(run_episode(env, SCENE), run_episode(FlatObservation(GroundEnv(SCENE, "test")), SCENE))
    (video,) = (tmp_path / "videos").glob("*.mp4")
    frames = imageio_ffmpeg.read_frames(str(video))
    assert next(frames)["size"] == (160, 120)
    assert len(list(frames)) == STEPS + 1
