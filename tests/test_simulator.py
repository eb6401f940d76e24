import numpy as np
import pytest
import torch

from sim.bodies import LOAD, ROBOT, Bodies, Kind
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


def plans(batch: int, horizon: int) -> torch.Tensor:
    """Forward, so that loads are touched."""
    actions = torch.rand(batch, horizon, 2, generator=torch.Generator().manual_seed(0))
    return torch.stack([0.4 + 0.6 * actions[..., 0], actions[..., 1] - 0.5], -1)


def imagined(workers: int, actions: torch.Tensor, variation: Variation | None = None) -> Bodies:
    env = GroundEnv(SCENE, layout=HALL)
    start = EpisodeStart(0, HALL, variation or Variation())
    observation, _ = env.reset(seed=0, options={"variation": start.variation})
    env.close()
    model = SimulatorModel(SCENE, workers)
    model.start_episode(start)
    bodies = model.rollout(model.encode(observation), actions).bodies
    model.close()
    return bodies


def test_two_workers_imagine_what_one_does() -> None:
    actions = plans(21, 8)  # three groups
    one, two = (imagined(workers, actions) for workers in (1, 2))
    assert one.pose.shape == (1, 21, 8, 3, 7)
    assert one.twist.shape == (1, 21, 8, 3, 6)
    for field in vars(one):
        assert torch.equal(getattr(one, field), getattr(two, field))


@pytest.mark.parametrize("variation", [Variation(), Variation(load_friction=0.2, load_mass_kg=20.0, speed_limit_m_s=0.5)])
def test_it_knows_the_physics_of_the_episode(variation: Variation) -> None:
    """From the start of an episode each candidate goes as the environment itself does, contact included."""
    actions = plans(3, 10)
    bodies = imagined(1, actions, variation)
    env = GroundEnv(SCENE, layout=HALL)
    for candidate, plan in enumerate(actions.numpy()):
        env.reset(seed=0, options={"variation": variation})
        for step, action in enumerate(plan):
            env.step(action)
            true, found = env.bodies.pose[:3], bodies.pose[0, candidate, step].numpy()
            np.testing.assert_allclose(found[ROBOT, :2], true[ROBOT, :2], atol=3e-3)
            np.testing.assert_allclose(found[1:, :2], true[1:, :2], atol=5e-3)
    assert np.linalg.norm(true[LOAD, :2] - (HALL.loads[0].x, HALL.loads[0].y)) > 0.1
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_in_the_middle_of_a_drive_it_goes_on_as_the_environment_does(scene: str) -> None:
    layout = scenes[scene].sample_layout("test", 0)
    env = GroundEnv(scene, layout=layout)
    env.reset(seed=0)
    for action in ((1.0, 0.5), (0.7, -0.2), (1.0, 0.0)):
        observation, *_ = env.step(np.array(action))
    model = SimulatorModel(scene)
    model.start_episode(env.make_episode_start(0))
    actions = plans(1, 10)
    found = model.rollout(model.encode(observation), actions).bodies.pose[0, 0, ..., :2].numpy()
    for step, action in enumerate(actions[0].numpy()):
        env.step(action)
        np.testing.assert_allclose(found[step, ROBOT], env.bodies.pose[ROBOT, :2], atol=3e-3)
        traffic = np.flatnonzero(env.bodies.kind > Kind.CLAMP)
        np.testing.assert_allclose(found[step, traffic], env.bodies.pose[traffic, :2], atol=2e-2)
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_what_a_candidate_does_depends_on_nothing_else(scene: str) -> None:
    """To the bit, in contact, whoever is imagined before it and in the same world."""
    env = GroundEnv(scene, layout=scenes[scene].sample_layout("test", 0))
    observation, _ = env.reset(seed=0)
    expert = scenes[scene].behaviours["scripted"]()
    expert.start_episode(env.make_episode_start(0))
    driven = []
    for _ in range(85):
        action, _ = expert.predict(observation)
        driven.append(action)
        observation, *_ = env.step(action)
    env.reset(seed=0)
    for action in driven[:60]:
        observation, *_ = env.step(action)
    model = SimulatorModel(scene)
    model.start_episode(env.make_episode_start(0))
    state, going_on = model.encode(observation), torch.as_tensor(np.array(driven[60:]))
    others = (going_on + torch.randn(4, *going_on.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    alone = model.rollout(state, going_on[None]).bodies
    last = model.rollout(state, torch.cat([others, going_on[None]])).bodies
    assert (alone.pose[0, 0, -1, LOAD] - alone.pose[0, 0, 0, LOAD]).norm() > 0.01
    assert torch.equal(alone.pose[:, 0], last.pose[:, -1])
    assert torch.equal(alone.twist[:, 0], last.twist[:, -1])
    assert not torch.equal(alone.pose[:, 0], last.pose[:, 0])
    env.close()


def test_it_must_be_told_of_the_episode_first() -> None:
    env = GroundEnv(SCENE, layout=HALL)
    observation, _ = env.reset(seed=0)
    env.close()
    model = SimulatorModel(SCENE)
    with pytest.raises(GroundError, match="start_episode"):
        model.rollout(model.encode(observation), plans(1, 1))
