import numpy as np
import pytest
import torch

from sim.bodies import LOAD, ROBOT, TRAFFIC_KINDS, Bodies, Kind
from sim.env import GroundEnv
from sim.layout import Box, Hall, Layout, Pose
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from sim.variation import Variation
from worldmodels.simulator import SimulatorModel

SCENE = "logistics/tote-push"
HALL = Layout(
    Hall(0, 0, 8, 8), Pose(2.5, 4, 0.2), (Pose(3.15, 4.05, 0.3), Pose(5.5, 5.5)), Pose(6.5, 4), (Box(4.8, 3.2, 0.5, 0.5),)
)


def sample_plans(batch: int, horizon: int) -> torch.Tensor:
    """Sample forward plans, so that the robot touches loads."""
    actions = torch.rand(batch, horizon, 2, generator=torch.Generator().manual_seed(0))
    return torch.stack([0.4 + 0.6 * actions[..., 0], actions[..., 1] - 0.5], -1)


def roll_out(workers: int, actions: torch.Tensor, variation: Variation | None = None) -> Bodies:
    env = GroundEnv(SCENE, layout=HALL)
    start = EpisodeStart(0, HALL, variation or Variation())
    observation, _ = env.reset(seed=0, options={"variation": start.variation})
    env.close()
    model = SimulatorModel(SCENE, workers)
    model.start_episode(start)
    bodies = model.rollout(model.encode(observation), actions).bodies
    model.close()
    return bodies


def test_one_and_two_workers_give_equal_rollouts() -> None:
    actions = sample_plans(21, 8)  # three groups
    single, double = (roll_out(workers, actions) for workers in (1, 2))
    assert single.pose.shape == (1, 21, 8, 3, 7)
    assert single.twist.shape == (1, 21, 8, 3, 6)
    for field in vars(single):
        assert torch.equal(getattr(single, field), getattr(double, field))


@pytest.mark.parametrize("variation", [Variation(), Variation(load_friction=0.2, load_mass_kg=20.0, speed_limit_m_s=0.5)])
def test_rollouts_use_the_variation_of_the_episode(variation: Variation) -> None:
    """Each candidate moves as in the environment from the start of an episode, also in contact."""
    actions = sample_plans(3, 10)
    bodies = roll_out(1, actions, variation)
    env = GroundEnv(SCENE, layout=HALL)
    for candidate, plan in enumerate(actions.numpy()):
        env.reset(seed=0, options={"variation": variation})
        for step, action in enumerate(plan):
            env.step(action)
            expected, predicted = env.bodies.pose[:3], bodies.pose[0, candidate, step].numpy()
            np.testing.assert_allclose(predicted[ROBOT, :2], expected[ROBOT, :2], atol=3e-3)
            np.testing.assert_allclose(predicted[1:, :2], expected[1:, :2], atol=5e-3)
    assert np.linalg.norm(expected[LOAD, :2] - (HALL.loads[0].x, HALL.loads[0].y)) > 0.1
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_rollouts_from_the_middle_of_an_episode_follow_the_environment(scene: str) -> None:
    layout = scenes[scene].sample_layout("test", 0)
    env = GroundEnv(scene, layout=layout)
    env.reset(seed=0)
    is_skill = scenes[scene].is_skill
    size = scenes[scene].action_spec.size
    for action in np.resize([(1.0, 0.5), (0.7, -0.2), (1.0, 0.0)], (1 if is_skill else 3, size)):
        observation, *_ = env.step(action)
    model = SimulatorModel(scene)
    model.start_episode(env.make_episode_start(0))
    actions = torch.rand((1, 2, size)) - 0.5 if is_skill else sample_plans(1, 10)
    predicted = model.rollout(model.encode(observation), actions).bodies.pose[0, 0, ..., :2].numpy()
    for step, action in enumerate(actions[0].numpy()):
        env.step(action)
        np.testing.assert_allclose(predicted[step, ROBOT], env.bodies.pose[ROBOT, :2], atol=3e-3)
        moving = (Kind.LOAD,) if scenes[scene].make_world else TRAFFIC_KINDS
        traffic = np.flatnonzero(np.isin(env.bodies.kind, moving) & (env.bodies.present > 0))
        np.testing.assert_allclose(predicted[step, traffic], env.bodies.pose[traffic, :2], atol=2e-2)
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_rollouts_do_not_depend_on_other_candidates(scene: str) -> None:
    """The rollouts are equal to the bit, in contact, for any other candidates in the same world."""
    env = GroundEnv(scene, layout=scenes[scene].sample_layout("test", 0))
    observation, _ = env.reset(seed=0)
    expert = scenes[scene].behaviours["scripted"]()
    expert.start_episode(env.make_episode_start(0))
    actions = []
    start, end = (1, 3) if scenes[scene].is_skill else (60, 85)
    for _ in range(end):
        action, _ = expert.predict(observation)
        actions.append(action)
        observation, *_ = env.step(action)
    env.reset(seed=0)
    for action in actions[:start]:
        observation, *_ = env.step(action)
    model = SimulatorModel(scene)
    model.start_episode(env.make_episode_start(0))
    state, remaining = model.encode(observation), torch.as_tensor(np.array(actions[start:]))
    different = (
        remaining + torch.randn(1 if scenes[scene].is_skill else 4, *remaining.shape, generator=torch.Generator().manual_seed(0))
    ).clamp(-1, 1)
    single = model.rollout(state, remaining[None]).bodies
    batched = model.rollout(state, torch.cat([different, remaining[None]])).bodies
    assert (single.pose[0, 0, -1, LOAD:] - single.pose[0, 0, 0, LOAD:]).norm(dim=-1).max() > 0.01
    assert torch.equal(single.pose[:, 0], batched.pose[:, -1])
    assert torch.equal(single.twist[:, 0], batched.twist[:, -1])
    assert not torch.equal(single.pose[:, 0], batched.pose[:, 0])
    env.close()


def test_a_rollout_before_start_episode_is_refused() -> None:
    env = GroundEnv(SCENE, layout=HALL)
    observation, _ = env.reset(seed=0)
    env.close()
    model = SimulatorModel(SCENE)
    with pytest.raises(GroundError, match="start_episode"):
        model.rollout(model.encode(observation), sample_plans(1, 1))
