import numpy as np
import pytest
import torch

from sim.bodies import Bodies, Kind
from sim.env import GroundEnv
from sim.errors import GroundError
from sim.layout import Box, Hall, Layout, Pose
from sim.policy import EpisodeStart
from sim.scenes import scenes
from sim.task import LOAD, ROBOT
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
    bodies = model.rollout(model.begin(observation), actions)
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
    layout = scenes[scene].draw("test", 0)
    env = GroundEnv(scene, layout=layout)
    env.reset(seed=0)
    for action in ((1.0, 0.5), (0.7, -0.2), (1.0, 0.0)):
        observation, *_ = env.step(np.array(action))
    model = SimulatorModel(scene)
    model.start_episode(env.start(0))
    actions = plans(1, 10)
    found = model.rollout(model.begin(observation), actions).pose[0, 0, ..., :2].numpy()
    for step, action in enumerate(actions[0].numpy()):
        env.step(action)
        np.testing.assert_allclose(found[step, ROBOT], env.bodies.pose[ROBOT, :2], atol=3e-3)
        traffic = np.flatnonzero(env.bodies.kind > Kind.CLAMP)
        np.testing.assert_allclose(found[step, traffic], env.bodies.pose[traffic, :2], atol=2e-2)
    env.close()


def test_candidates_do_not_disturb_each_other() -> None:
    actions = plans(5, 8)
    together = imagined(1, actions).pose
    alone = torch.cat([imagined(1, actions[index : index + 1]).pose for index in range(5)], 1)
    torch.testing.assert_close(together, alone, atol=2e-3, rtol=0)
    turned = imagined(1, actions.flip(0)).pose.flip(1)
    torch.testing.assert_close(together, turned, atol=2e-3, rtol=0)


def test_it_must_be_told_of_the_episode_first() -> None:
    env = GroundEnv(SCENE, layout=HALL)
    observation, _ = env.reset(seed=0)
    env.close()
    model = SimulatorModel(SCENE)
    with pytest.raises(GroundError, match="start_episode"):
        model.rollout(model.begin(observation), plans(1, 1))
