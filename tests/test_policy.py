import math

import numpy as np
import pytest
from conftest import limit_steps

from sim.env import GroundEnv
from sim.layout import Hall, Layout, Pose
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.scenes.tote_push.expert import PushView, drive_to

MIN_SUCCESSES = {
    "logistics/tote-push": (14, 20),
    "factory/push-fixture": (7, 20),
    "logistics/aisle-traffic": (12, 20),
    "factory/conveyor-sort": (4, 20),
    "logistics/palletise": (2, 3),
}  # of the first test layouts, by the expert
CASES = [(scene, name) for scene in scenes for name in scenes[scene].behaviours]


def run_behaviour(scene: str, name: str, seed: int, steps: int = 60) -> np.ndarray:
    """Run a behaviour in a new environment and return its actions."""
    env, policy = GroundEnv(scene, "test"), scenes[scene].behaviours[name]()
    observation, _ = env.reset(seed=seed, options={"index": 1})
    policy.start_episode(EpisodeStart(seed, env.layout, env.variation))
    actions = []
    for _ in range(limit_steps(scene, steps)):
        action, _ = policy.predict(observation)
        actions.append(action)
        observation, _, success, _, _ = env.step(action)
        assert env.action_space.contains(action)
        if success:
            break
    env.close()
    return np.array(actions)


@pytest.mark.parametrize(("scene", "name"), CASES)
def test_actions_are_limited_and_repeat_for_the_same_seed(scene: str, name: str) -> None:
    first, second, different = (run_behaviour(scene, name, seed) for seed in (1, 1, 2))
    assert np.abs(first).max() <= 1
    assert np.array_equal(first, second)
    assert len(np.unique(first, axis=0)) >= limit_steps(scene, 6)
    if name not in ("scripted", "known-mass"):  # they sample no noise
        assert not np.array_equal(first[:10], different[:10])


@pytest.mark.parametrize(("scene", "name"), CASES)
def test_start_episode_resets_a_behaviour(scene: str, name: str) -> None:
    policy, env = scenes[scene].behaviours[name](), GroundEnv(scene, "test")
    episodes = []
    for _ in range(2):
        observation, _ = env.reset(seed=1, options={"index": 1})
        policy.start_episode(EpisodeStart(1, env.layout, env.variation))
        actions = []
        for _ in range(limit_steps(scene, 20)):
            actions.append(policy.predict(observation)[0])
            observation = env.step(actions[-1])[0]
        episodes.append(np.array(actions))
    env.close()
    assert np.array_equal(*episodes)


@pytest.mark.parametrize(("scene", "name"), CASES)
def test_predict_returns_its_state(scene: str, name: str) -> None:
    env, policy = GroundEnv(scene), scenes[scene].behaviours[name]()
    observation, _ = env.reset(seed=0)
    policy.start_episode(EpisodeStart(0, env.layout, env.variation))
    action, state = policy.predict(observation, state="stored", episode_start=True, deterministic=False)
    assert (action.shape, state) == (env.action_space.shape, "stored")
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_scripted_expert_solves_many_test_layouts(scene: str) -> None:
    env, policy, solved = GroundEnv(scene, "test"), scenes[scene].behaviours["scripted"](), 0
    minimum, count = MIN_SUCCESSES[scene]
    for index in range(count):
        observation, _ = env.reset(seed=index, options={"index": index})
        policy.start_episode(env.make_episode_start(index))
        success = truncated = False
        while not success and not truncated:
            observation, _, success, truncated, _ = env.step(policy.predict(observation)[0])
        solved += success
    env.close()
    assert solved >= minimum


def test_approach_and_push_has_contact_in_both_directions() -> None:
    env, policy = GroundEnv("logistics/tote-push", "train"), scenes["logistics/tote-push"].behaviours["approach-and-push"]()
    touching = forwards = backwards = 0
    for seed in range(6):
        observation, _ = env.reset(seed=seed, options={"index": seed})
        policy.start_episode(EpisodeStart(seed, env.layout, env.variation))
        for _ in range(120):
            action, _ = policy.predict(observation)
            observation, _, success, _, info = env.step(action)
            touching += info["touching"]
            forwards += info["touching"] and action[0] > 0.2
            backwards += info["touching"] and action[0] < -0.2
            if success:
                break
    env.close()
    assert touching > 60
    assert min(forwards, backwards) > 5


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("bearing", np.linspace(-math.pi, math.pi, 5)[:-1])
def test_drive_to_arrives(bearing: float, backwards: bool) -> None:
    env = GroundEnv("logistics/tote-push", layout=Layout(Hall(0, 0, 8, 8), Pose(4, 4), (Pose(1, 1),), Pose(7, 1)))
    observation, _ = env.reset(seed=0)
    target = np.array([4 + 1.5 * math.cos(bearing), 4 + 1.5 * math.sin(bearing)])
    for _ in range(60):
        action = np.clip(drive_to(PushView.from_observation(observation), target, 1.0, backwards), -1, 1)
        observation, *_ = env.step(action)
    env.close()
    assert np.linalg.norm(PushView.from_observation(observation).robot - target) < 0.1
