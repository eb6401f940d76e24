from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sim.bodies import Bodies, quaternion_of, rotate, yaw_of
from sim.env import GroundEnv
from sim.flat import ABSENT_M, BOXES, FAR_M, FLAT, LOADS, FlatObservation, egocentric, flat_vector
from sim.scenes import scenes

SCENES = list(scenes)


def seen(scene: str, index: int = 0) -> tuple[Bodies, int, dict[str, np.ndarray]]:
    """An observation on the move: bodies, how many of the rows are movers, all of it."""
    env = GroundEnv(scene, "shift-two-totes" if "shift-two-totes" in scenes[scene].splits else "test")
    observation, _ = env.reset(seed=0, options={"index": index})
    for _ in range(5):
        observation, *_ = env.step(np.array([0.8, 0.4]))
    movers = env.scene.movers
    env.close()
    return Bodies.of(observation), movers, observation


def moved(bodies: Bodies, angle: float, shift: Any) -> Bodies:
    """The whole scene turned about the origin and shifted, absent rows too."""
    turn = np.full(bodies.pose.shape[:-1], angle)
    pose, twist = bodies.pose.astype(np.float64), bodies.twist.astype(np.float64)
    pose[..., :2] = rotate(pose[..., :2], turn) + shift
    pose[..., 3:] = quaternion_of(yaw_of(pose[..., 3:]) + angle)
    twist[..., :2] = rotate(twist[..., :2], turn)
    return replace(bodies, pose=pose, twist=twist)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (20.0, -7.0)])
@pytest.mark.parametrize("angle", [0.0, 1.1, -2.9])
@pytest.mark.parametrize("scene", SCENES)
def test_the_vector_does_not_see_where_the_origin_is(scene: str, angle: float, shift: tuple[float, float]) -> None:
    for index in range(3):
        bodies, movers, _ = seen(scene, index)
        expected = egocentric(moved(bodies, 0, 0), movers)
        assert expected.shape == (FLAT.size,)
        np.testing.assert_allclose(egocentric(moved(bodies, angle, shift), movers), expected, atol=1e-5)


@pytest.mark.parametrize("scene", SCENES)
def test_numpy_and_torch_agree_for_any_batch(scene: str) -> None:
    bodies, movers, _ = seen(scene)
    single = egocentric(bodies, movers)
    batch = bodies.map(lambda values: np.broadcast_to(values, (2, 3, *values.shape)))
    np.testing.assert_allclose(egocentric(batch, movers), np.broadcast_to(single, (2, 3, FLAT.size)), atol=1e-6)
    tensors = bodies.map(lambda values: torch.as_tensor(values.copy()))
    np.testing.assert_allclose(egocentric(tensors, movers).numpy(), single, atol=1e-5)


@pytest.mark.parametrize("scene", SCENES)
def test_the_order_of_boxes_does_not_matter(scene: str) -> None:
    bodies, movers, _ = seen(scene)
    order = np.concatenate([np.arange(movers), movers + np.random.default_rng(0).permutation(bodies.pose.shape[0] - movers)])
    np.testing.assert_allclose(
        egocentric(bodies.map(lambda values: values[order]), movers), egocentric(bodies, movers), atol=1e-6
    )


@pytest.mark.parametrize("scene", SCENES)
def test_what_is_not_there_says_nothing(scene: str) -> None:
    """With fewer boxes than the vector holds, absent rows and missing rows look the same: far away, in no direction."""
    bodies, movers, _ = seen(scene)
    present = bodies.present.copy()
    present[movers + 4 :] = 0
    absent = egocentric(replace(bodies, present=present), movers)
    missing = egocentric(bodies.map(lambda values: values[: movers + 4]), movers)
    np.testing.assert_allclose(absent, missing, atol=1e-6)
    rows = absent[FLAT.boxes_of_robot].reshape(BOXES, 3)
    assert np.array_equal(rows[4:], [(0, 0, FAR_M)] * (BOXES - 4))
    assert np.all(np.linalg.norm(rows[:4, :2], axis=-1) > 0)
    assert FAR_M < ABSENT_M


@pytest.mark.parametrize("scene", SCENES)
def test_lengths_are_those_of_the_vectors_and_the_nearest_comes_first(scene: str) -> None:
    bodies, movers, _ = seen(scene)
    for part in (FLAT.boxes_of_robot, FLAT.boxes_of_load):
        rows = egocentric(bodies, movers)[part].reshape(BOXES, 3)
        there = rows[:, 2] < FAR_M
        np.testing.assert_allclose(np.linalg.norm(rows[there, :2], axis=-1), rows[there, 2], atol=1e-5)
        assert np.all(np.diff(rows[:, 2]) >= 0)


@pytest.mark.parametrize("scene", SCENES)
def test_the_wrapper_gives_what_the_vector_says(scene: str) -> None:
    env = FlatObservation(GroundEnv(scene, "test"))
    vector, _ = env.reset(seed=0)
    assert env.observation_space.contains(vector)
    assert vector.shape == (FLAT.size + scenes[scene].task.hints,)
    raw, _ = GroundEnv(scene, "test").reset(seed=0)
    assert np.array_equal(vector, flat_vector(raw, scenes[scene].task, scenes[scene].movers))
    for _ in range(10):
        vector, *_ = env.step(np.array([1.0, 0.3], np.float32))
        assert env.observation_space.contains(vector)
    env.close()


def test_a_space_without_boxes_has_its_movers_all_the_same() -> None:
    name = "factory/push-fixture@pusht"
    observation, _ = GroundEnv(name, "pusht", layouts=1).reset(seed=0)
    assert not Bodies.of(observation).static.any()
    vector = flat_vector(observation, scenes[name].task, scenes[name].movers)
    part = observation["pose"][1, :2] - observation["pose"][0, :2]
    assert vector[FLAT.loads].reshape(LOADS, -1)[0, :2] == pytest.approx(part, abs=1e-5)
    assert (vector[FLAT.boxes_of_robot].reshape(BOXES, 3)[:, 2] == FAR_M).all()


def test_the_hint_of_pushing_holds_distances_and_directions() -> None:
    scene = "logistics/tote-push"
    _, _, observation = seen(scene)
    robot, load, goal = observation["pose"][0, :2], observation["pose"][1, :2], observation["goal"][:2]
    hint = flat_vector(observation, scenes[scene].task, scenes[scene].movers)[FLAT.size :]
    goal_of_robot, goal_of_load, push, drive = hint[:8].reshape(4, 2)
    togo, apart = hint[8:]
    assert np.linalg.norm(goal_of_robot) == pytest.approx(np.linalg.norm(goal - robot), rel=1e-4)
    assert np.linalg.norm(goal_of_load) == pytest.approx(np.linalg.norm(goal - load), rel=1e-4)
    assert np.linalg.norm(push) == pytest.approx(1, rel=1e-4)
    assert np.linalg.norm(drive) == pytest.approx(1, rel=1e-4)
    assert apart == pytest.approx(np.linalg.norm(load - robot), rel=1e-4)
    assert togo > np.linalg.norm(goal - load) - 0.3
