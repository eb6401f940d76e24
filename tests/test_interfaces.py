"""Examples that use the extension points of the interfaces."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import lift_robot
import numpy as np
import pytest
import torch

from agents.learned.baselines import BaselineSpec, train_baseline
from agents.learned.config import BaselineConfig
from agents.planning.objective import Objective
from agents.planning.planner import Planner
from agents.planning.search import SearchConfig, searches
from sim.actions import ActionSpec
from sim.bodies import LOAD, Bodies
from sim.data.collect import CollectConfig, collect
from sim.env import GroundEnv
from sim.layout import Hall, Layout, Pose
from sim.scenes.scene import Scene, scenes
from sim.task import MISSING_GOAL, GoalDistanceTask
from sim.utils.errors import GroundError
from worldmodels.model import models
from worldmodels.simulator import SimulatorModel
from worldmodels.training.checkpoint import load_checkpoint

JOINT = Path(__file__).parents[1] / "experiments" / "results" / "models" / "joint"


@pytest.fixture(scope="module")
def lift() -> Iterator[Scene]:
    yield lift_robot.register()
    scenes._items.pop(lift_robot.NAME)


def test_an_action_spec_has_a_twist_and_limits_for_every_component() -> None:
    spec = ActionSpec(("forward", "turn", "up"), (0.8, 1.5, 0.5))
    assert spec.size == 3
    assert spec.twist.shape == (6, 3)
    assert spec.twist[5, 1] == 1.5
    assert spec.clip([2.0, -3.0, 0.5]) == (1.0, -1.0, 0.5)
    with pytest.raises(GroundError, match=r"up: ±0\.5 m/s"):
        spec.clip([0.0, 0.0])
    with pytest.raises(GroundError, match="forward, left, up"):
        ActionSpec(("forward", "sideways"), (1.0, 1.0))


def test_a_third_action_component_lifts_in_the_environment(lift: Scene) -> None:
    env = GroundEnv(lift, "test")
    observation, _ = env.reset(seed=0)
    assert env.action_space.shape == (3,)
    assert observation["action_twist"].shape == (6, 3)
    start = float(env.bodies.pose[0, 2])
    for _ in range(4):
        env.step(np.array([0.0, 0.0, 1.0]))
    assert env.bodies.pose[0, 2] - start > 0.1
    env.close()


def test_a_planner_lifts_and_drives(lift: Scene) -> None:
    model = SimulatorModel(lift_robot.NAME)
    planner = Planner(Objective(model, lift.task), searches["cem"](SearchConfig(samples=24, iterations=3, horizon=8)))
    env = GroundEnv(lift, "test")
    observation, info = env.reset(seed=0)
    planner.start_episode(env.make_episode_start(0))
    for _ in range(lift.episode_steps):
        action, _ = planner.predict(observation)
        assert action.shape == (3,)
        observation, _, success, truncated, info = env.step(action)
        if success or truncated:
            break
    env.close()
    assert info["success"], info


def test_a_third_action_component_is_collected_learned_and_mirrored(lift: Scene, tmp_path: Path) -> None:
    data = collect(CollectConfig(lift_robot.NAME, steps=400, shard_steps=200), tmp_path / "data", workers=1)
    episodes = list(data.episodes())
    assert all(episode.action.shape[1] == 3 for episode in episodes)
    windows = models["graph"].make_windows(episodes, lift_robot.NAME)
    batch = windows.sample(np.random.default_rng(0), 8, 4)
    assert batch.actions.shape == (8, 4, 3)
    up = batch.actions[..., 2]
    augmented = windows.augment(batch, np.random.default_rng(1))
    torch.testing.assert_close(augmented.actions[..., 2], up, msg="mirroring changed the vertical component")
    loss = models["graph"](hidden_size=8, edge_size=4).compute_loss(batch)
    assert torch.isfinite(loss)


def test_sb3_learns_with_a_third_action_component(lift: Scene, tmp_path: Path) -> None:
    train_baseline(BaselineConfig("ppo", lift_robot.NAME, steps=256, save_every=256), tmp_path / "ppo")
    policy = BaselineSpec(lift_robot.NAME, str(tmp_path / "ppo"))()
    env = GroundEnv(lift, "test")
    action, _ = policy.predict(env.reset(seed=0)[0])
    assert action.shape == (3,)
    env.close()


TWO_TOTES = Layout(
    Hall(0, 0, 8, 4), Pose(1.2, 2), (Pose(1.9, 2), Pose(2.45, 2)), Pose(2.5, 2), name="two totes", more_goals=(Pose(3.05, 2),)
)


def test_every_load_has_its_goal() -> None:
    scene = replace(scenes["logistics/tote-push"], task=GoalDistanceTask(rows=(LOAD, LOAD + 1)), max_goals=2)
    env = GroundEnv(scene, "test")
    observation, info = env.reset(seed=0, options={"layout": TWO_TOTES})
    assert observation["goal"].shape == (2, 3)
    model = load_checkpoint(JOINT, scene.name)
    planner = Planner(Objective(model, scene.task), searches["mppi"](SearchConfig(samples=64, horizon=15)))
    planner.start_episode(env.make_episode_start(0))
    before = info["cost"]
    for _ in range(60):
        observation, _, success, _, info = env.step(planner.predict(observation)[0])
        if success:
            break
    env.close()
    assert info["success"], f"cost {before:.2f} before, {info['cost']:.2f} after"
    assert env.cost_field is None


def test_a_missing_goal_costs_nothing() -> None:
    task = GoalDistanceTask(rows=(0, 1))
    pose = torch.zeros(5, 2, 7)
    pose[:, 1, 0] = 3.0
    bodies = Bodies(pose, *[torch.zeros(5, 2, 6)] * 5)
    goal = torch.tensor([[0.0, 4.0, 0.0], [MISSING_GOAL] * 3])
    torch.testing.assert_close(task.compute_cost(bodies, None, goal, None), torch.full((5,), 2.0))
    assert not task.is_success(bodies, goal).any()
