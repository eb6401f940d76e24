from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sim.bodies import Bodies
from sim.env import GroundEnv
from sim.geometry.rotations import compute_yaw, rotate, yaw_to_quaternion
from sim.scenes.scene import scenes
from sim.sensors.flat import (
    ABSENT_DISTANCE_M,
    MAX_DISTANCE_M,
    NUM_BOXES,
    NUM_LOADS,
    compute_egocentric_vector,
    compute_flat_vector,
    get_vector_slices,
)
from sim.wrappers import FlatObservation

SCENES = list(scenes)


def seen(scene: str, index: int = 0) -> tuple[Bodies, tuple[int, np.ndarray], dict[str, np.ndarray]]:
    """An observation on the move: bodies, how many of the rows are movers and what each is made of, all of it."""
    env = GroundEnv(scene, "shift-two-totes" if "shift-two-totes" in scenes[scene].splits else "test")
    observation, _ = env.reset(seed=0, options={"index": index})
    for _ in range(5):
        observation, *_ = env.step(np.array([0.8, 0.4]))
    movers = env.scene.max_dynamic
    env.close()
    return Bodies.from_observation(observation), (movers, observation["footprints"]), observation


def moved(bodies: Bodies, angle: float, shift: Any) -> Bodies:
    """The whole scene turned about the origin and shifted; what is not there is nowhere, and stays."""
    turn, there = np.full(bodies.pose.shape[:-1], angle), bodies.present[..., None] > 0
    pose, twist = bodies.pose.astype(np.float64), bodies.twist.astype(np.float64)
    pose[..., :2] = rotate(pose[..., :2], turn) + shift
    pose[..., 3:] = yaw_to_quaternion(compute_yaw(pose[..., 3:]) + angle)
    twist[..., :2] = rotate(twist[..., :2], turn)
    return replace(bodies, pose=np.where(there, pose, bodies.pose), twist=np.where(there, twist, bodies.twist))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (20.0, -7.0)])
@pytest.mark.parametrize("angle", [0.0, 1.1, -2.9])
@pytest.mark.parametrize("scene", SCENES)
def test_the_vector_does_not_see_where_the_origin_is(scene: str, angle: float, shift: tuple[float, float]) -> None:
    for index in range(3):
        bodies, made, _ = seen(scene, index)
        expected = compute_egocentric_vector(moved(bodies, 0, 0), *made)
        assert expected.shape == (get_vector_slices(scenes[scene].footprint_size).size,)
        np.testing.assert_allclose(compute_egocentric_vector(moved(bodies, angle, shift), *made), expected, atol=1e-5)


@pytest.mark.parametrize("scene", SCENES)
def test_numpy_and_torch_agree_for_any_batch(scene: str) -> None:
    bodies, made, _ = seen(scene)
    movers, pieces = made
    single = compute_egocentric_vector(bodies, movers, pieces)
    batch = bodies.map(lambda values: np.broadcast_to(values, (2, 3, *values.shape)))
    many = np.broadcast_to(pieces, (2, 3, *pieces.shape))
    np.testing.assert_allclose(
        compute_egocentric_vector(batch, movers, many), np.broadcast_to(single, (2, 3, len(single))), atol=1e-6
    )
    tensors = bodies.map(lambda values: torch.as_tensor(values.copy()))
    np.testing.assert_allclose(compute_egocentric_vector(tensors, movers, torch.as_tensor(pieces)).numpy(), single, atol=1e-5)


@pytest.mark.parametrize("scene", SCENES)
def test_the_order_of_boxes_does_not_matter(scene: str) -> None:
    bodies, made, _ = seen(scene)
    movers = made[0]
    order = np.concatenate([np.arange(movers), movers + np.random.default_rng(0).permutation(bodies.pose.shape[0] - movers)])
    np.testing.assert_allclose(
        compute_egocentric_vector(bodies.map(lambda values: values[order]), *made),
        compute_egocentric_vector(bodies, *made),
        atol=1e-6,
    )


@pytest.mark.parametrize("scene", SCENES)
def test_what_is_not_there_says_nothing(scene: str) -> None:
    """With fewer boxes than the vector holds, absent rows and missing rows look the same: far away, in no direction."""
    bodies, made, _ = seen(scene)
    movers, present = made[0], bodies.present.copy()
    present[movers + 4 :] = 0
    absent = compute_egocentric_vector(replace(bodies, present=present), *made)
    missing = compute_egocentric_vector(bodies.map(lambda values: values[: movers + 4]), *made)
    np.testing.assert_allclose(absent, missing, atol=1e-6)
    rows = absent[get_vector_slices(scenes[scene].footprint_size).boxes_of_robot].reshape(NUM_BOXES, 3)
    assert np.array_equal(rows[4:], [(0, 0, MAX_DISTANCE_M)] * (NUM_BOXES - 4))
    assert np.all(np.linalg.norm(rows[:4, :2], axis=-1) > 0)
    assert MAX_DISTANCE_M < ABSENT_DISTANCE_M


@pytest.mark.parametrize("scene", SCENES)
def test_lengths_are_those_of_the_vectors_and_the_nearest_comes_first(scene: str) -> None:
    bodies, made, _ = seen(scene)
    flat = get_vector_slices(scenes[scene].footprint_size)
    for part in (flat.boxes_of_robot, flat.boxes_of_load):
        rows = compute_egocentric_vector(bodies, *made)[part].reshape(NUM_BOXES, 3)
        there = rows[:, 2] < MAX_DISTANCE_M
        np.testing.assert_allclose(np.linalg.norm(rows[there, :2], axis=-1), rows[there, 2], atol=1e-5)
        assert np.all(np.diff(rows[:, 2]) >= 0)


@pytest.mark.parametrize("scene", SCENES)
def test_the_wrapper_gives_what_the_vector_says(scene: str) -> None:
    env = FlatObservation(GroundEnv(scene, "test"))
    vector, _ = env.reset(seed=0)
    assert env.observation_space.contains(vector)
    assert vector.shape == (get_vector_slices(scenes[scene].footprint_size).size + scenes[scene].task.num_goal_features,)
    raw, _ = GroundEnv(scene, "test").reset(seed=0)
    assert np.array_equal(vector, compute_flat_vector(raw, scenes[scene].task, scenes[scene].max_dynamic))
    for _ in range(10):
        vector, *_ = env.step(np.array([1.0, 0.3], np.float32))
        assert env.observation_space.contains(vector)
    env.close()


def test_a_space_without_boxes_has_its_movers_all_the_same() -> None:
    name = "factory/push-fixture@pusht"
    observation, _ = GroundEnv(name, "pusht", layouts=1).reset(seed=0)
    assert not Bodies.from_observation(observation).is_static.any()
    vector = compute_flat_vector(observation, scenes[name].task, scenes[name].max_dynamic)
    part = observation["pose"][1, :2] - observation["pose"][0, :2]
    flat = get_vector_slices(scenes[name].footprint_size)
    assert vector[flat.loads].reshape(NUM_LOADS, -1)[0, :2] == pytest.approx(part, abs=1e-5)
    assert (vector[flat.boxes_of_robot].reshape(NUM_BOXES, 3)[:, 2] == MAX_DISTANCE_M).all()


def test_parts_of_other_shapes_look_different() -> None:
    """An L turned by half a circle has the same half extents, and is another."""
    name = "factory/push-fixture"
    index = next(index for index in range(20) if scenes[name].sample_layout("test", index).part == "L")
    bodies, (movers, pieces), _ = seen(name, index)
    turned = pieces * [-1, -1, 1, 1]
    flat = get_vector_slices(scenes[name].footprint_size)
    before, after = (compute_egocentric_vector(bodies, movers, made_of) for made_of in (pieces, turned))
    differs = np.flatnonzero(before != after)
    assert len(differs)
    assert set(differs) <= set(range(len(before))[flat.loads])


def test_who_is_not_seen_says_nothing_and_the_nearest_comes_first() -> None:
    name = "logistics/aisle-traffic"
    _, (movers, _), observation = seen(name, 3)
    flat, task = get_vector_slices(scenes[name].footprint_size), scenes[name].task
    apart = np.linalg.norm(observation["pose"][1:movers, :2] - observation["pose"][0, :2], axis=-1)
    there = observation["present"][1:movers] > 0
    assert list(apart[there][:NUM_LOADS]) != sorted(apart[there])[:NUM_LOADS], "the first are not the nearest anyway"
    loads = compute_flat_vector(observation, task, movers)[flat.loads].reshape(NUM_LOADS, -1)
    for row, nearest in zip(loads, np.sort(apart[there]), strict=False):
        assert np.linalg.norm(row[:2]) == pytest.approx(nearest, rel=1e-5)
    hidden = {**observation, "present": observation["present"].copy()}
    hidden["present"][1:movers] = 0
    for place in (0.0, 7.0):
        hidden["pose"] = observation["pose"].copy()
        hidden["pose"][1:movers, :2] = place
        vector = compute_flat_vector(hidden, task, movers)[: flat.size]
        assert not vector[flat.loads].any()
        assert (vector[flat.boxes_of_load].reshape(NUM_BOXES, 3) == (0, 0, MAX_DISTANCE_M)).all()


def test_the_hint_of_pushing_holds_distances_and_directions() -> None:
    scene = "logistics/tote-push"
    _, _, observation = seen(scene)
    robot, load, goal = observation["pose"][0, :2], observation["pose"][1, :2], observation["goal"][:2]
    hint = compute_flat_vector(observation, scenes[scene].task, scenes[scene].max_dynamic)[get_vector_slices().size :]
    goal_of_robot, goal_of_load, push, drive = hint[:8].reshape(4, 2)
    togo, apart = hint[8:]
    assert np.linalg.norm(goal_of_robot) == pytest.approx(np.linalg.norm(goal - robot), rel=1e-4)
    assert np.linalg.norm(goal_of_load) == pytest.approx(np.linalg.norm(goal - load), rel=1e-4)
    assert np.linalg.norm(push) == pytest.approx(1, rel=1e-4)
    assert np.linalg.norm(drive) == pytest.approx(1, rel=1e-4)
    assert apart == pytest.approx(np.linalg.norm(load - robot), rel=1e-4)
    assert togo > np.linalg.norm(goal - load) - 0.3
