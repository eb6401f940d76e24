from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import limit_steps, make_action

from sim.bodies import Bodies
from sim.env import GroundEnv
from sim.geometry.rotations import compute_yaw, rotate, yaw_to_quaternion
from sim.scenes.scene import scenes
from sim.sensors.flat import (
    ABSENT_DISTANCE_M,
    MAX_DISTANCE_M,
    NUM_BOXES,
    NUM_TRACKED_BODIES,
    compute_egocentric_vector,
    compute_flat_vector,
    get_vector_slices,
)
from sim.wrappers import FlatObservation

SCENES = list(scenes)


@lru_cache
def observe(scene: str, index: int = 0) -> tuple[Bodies, tuple[int, np.ndarray], dict[str, np.ndarray]]:
    """Observe a moving scene: bodies, the other arguments of the vector, and the observation."""
    env = GroundEnv(scene, "shift-two-totes" if "shift-two-totes" in scenes[scene].splits else "test")
    observation, _ = env.reset(seed=0, options={"index": index})
    for _ in range(limit_steps(scene, 5)):
        observation, *_ = env.step(make_action(scene, 0.8, 0.4))
    num_dynamic = env.scene.max_dynamic
    env.close()
    return Bodies.from_observation(observation), (num_dynamic, observation["footprints"]), observation


def transform(bodies: Bodies, angle: float, shift: Any) -> Bodies:
    """Rotate the scene about the origin and shift it; absent bodies keep their pose."""
    turn, present = np.full(bodies.pose.shape[:-1], angle), bodies.present[..., None] > 0
    pose, twist = bodies.pose.astype(np.float64), bodies.twist.astype(np.float64)
    pose[..., :2] = rotate(pose[..., :2], turn) + shift
    pose[..., 3:] = yaw_to_quaternion(compute_yaw(pose[..., 3:]) + angle)
    twist[..., :2] = rotate(twist[..., :2], turn)
    return replace(bodies, pose=np.where(present, pose, bodies.pose), twist=np.where(present, twist, bodies.twist))


@pytest.mark.parametrize("shift", [(0.0, 0.0), (20.0, -7.0)])
@pytest.mark.parametrize("angle", [0.0, 1.1, -2.9])
@pytest.mark.parametrize("scene", SCENES)
def test_vector_is_invariant_to_translation_and_rotation(scene: str, angle: float, shift: tuple[float, float]) -> None:
    for index in range(3):
        bodies, args, _ = observe(scene, index)
        expected = compute_egocentric_vector(transform(bodies, 0, 0), *args)
        assert expected.shape == (get_vector_slices(scenes[scene].footprint_size).size,)
        np.testing.assert_allclose(compute_egocentric_vector(transform(bodies, angle, shift), *args), expected, atol=1e-5)


@pytest.mark.parametrize("scene", SCENES)
def test_numpy_and_torch_agree_for_any_batch(scene: str) -> None:
    bodies, args, _ = observe(scene)
    num_dynamic, footprints = args
    single = compute_egocentric_vector(bodies, num_dynamic, footprints)
    batch = bodies.map(lambda values: np.broadcast_to(values, (2, 3, *values.shape)))
    batch_footprints = np.broadcast_to(footprints, (2, 3, *footprints.shape))
    np.testing.assert_allclose(
        compute_egocentric_vector(batch, num_dynamic, batch_footprints), np.broadcast_to(single, (2, 3, len(single))), atol=1e-6
    )
    tensors = bodies.map(lambda values: torch.as_tensor(values.copy()))
    np.testing.assert_allclose(
        compute_egocentric_vector(tensors, num_dynamic, torch.as_tensor(footprints)).numpy(), single, atol=1e-5
    )


@pytest.mark.parametrize("scene", SCENES)
def test_the_order_of_boxes_does_not_matter(scene: str) -> None:
    bodies, args, _ = observe(scene)
    num_dynamic = args[0]
    order = np.concatenate(
        [np.arange(num_dynamic), num_dynamic + np.random.default_rng(0).permutation(bodies.pose.shape[0] - num_dynamic)]
    )
    np.testing.assert_allclose(
        compute_egocentric_vector(bodies.map(lambda values: values[order]), *args),
        compute_egocentric_vector(bodies, *args),
        atol=1e-6,
    )


@pytest.mark.parametrize("scene", SCENES)
def test_absent_boxes_equal_missing_boxes(scene: str) -> None:
    """With fewer boxes than the vector holds, absent and missing rows are the same: far away, without direction."""
    bodies, args, _ = observe(scene)
    num_dynamic, present = args[0], bodies.present.copy()
    present[num_dynamic + 4 :] = 0
    absent = compute_egocentric_vector(replace(bodies, present=present), *args)
    missing = compute_egocentric_vector(bodies.map(lambda values: values[: num_dynamic + 4]), *args)
    np.testing.assert_allclose(absent, missing, atol=1e-6)
    rows = absent[get_vector_slices(scenes[scene].footprint_size).boxes_of_robot].reshape(NUM_BOXES, 3)
    assert np.array_equal(rows[4:], [(0, 0, MAX_DISTANCE_M)] * (NUM_BOXES - 4))
    inside = 1 if scenes[scene].make_world else 0  # a tool can be above a static body
    assert np.all(np.linalg.norm(rows[inside:4, :2], axis=-1) > 0)
    assert MAX_DISTANCE_M < ABSENT_DISTANCE_M


@pytest.mark.parametrize("scene", SCENES)
def test_lengths_belong_to_their_vectors_and_the_nearest_box_is_first(scene: str) -> None:
    bodies, args, _ = observe(scene)
    flat = get_vector_slices(scenes[scene].footprint_size)
    for part in (flat.boxes_of_robot, flat.boxes_of_load):
        rows = compute_egocentric_vector(bodies, *args)[part].reshape(NUM_BOXES, 3)
        is_near = rows[:, 2] < MAX_DISTANCE_M
        np.testing.assert_allclose(np.linalg.norm(rows[is_near, :2], axis=-1), rows[is_near, 2], atol=1e-5)
        assert np.all(np.diff(rows[:, 2]) >= 0)


@pytest.mark.parametrize("scene", SCENES)
def test_wrapper_returns_the_flat_vector(scene: str) -> None:
    env = FlatObservation(GroundEnv(scene, "test"))
    vector, _ = env.reset(seed=0)
    assert env.observation_space.contains(vector)
    assert vector.shape == (get_vector_slices(scenes[scene].footprint_size).size + scenes[scene].task.num_goal_features,)
    raw, _ = GroundEnv(scene, "test").reset(seed=0)
    assert np.array_equal(vector, compute_flat_vector(raw, scenes[scene].task, scenes[scene].max_dynamic))
    for _ in range(limit_steps(scene, 10)):
        vector, *_ = env.step(make_action(scene, 1.0, 0.3))
        assert env.observation_space.contains(vector)
    env.close()


def test_vector_of_a_layout_without_boxes() -> None:
    name = "factory/push-fixture@pusht"
    observation, _ = GroundEnv(name, "pusht", layouts=1).reset(seed=0)
    assert not Bodies.from_observation(observation).is_static.any()
    vector = compute_flat_vector(observation, scenes[name].task, scenes[name].max_dynamic)
    part = observation["pose"][1, :2] - observation["pose"][0, :2]
    flat = get_vector_slices(scenes[name].footprint_size)
    assert vector[flat.bodies].reshape(NUM_TRACKED_BODIES, -1)[0, :2] == pytest.approx(part, abs=1e-5)
    assert (vector[flat.boxes_of_robot].reshape(NUM_BOXES, 3)[:, 2] == MAX_DISTANCE_M).all()


def test_vector_differs_between_shapes() -> None:
    """An L that is rotated by half a turn has the same half extents and another footprint."""
    name = "factory/push-fixture"
    index = next(index for index in range(20) if scenes[name].sample_layout("test", index).part == "L")
    bodies, (num_dynamic, footprints), _ = observe(name, index)
    rotated = footprints * [-1, -1, 1, 1]
    flat = get_vector_slices(scenes[name].footprint_size)
    before, after = (compute_egocentric_vector(bodies, num_dynamic, boxes) for boxes in (footprints, rotated))
    differs = np.flatnonzero(before != after)
    assert len(differs)
    assert set(differs) <= set(range(len(before))[flat.bodies])


def test_hidden_agents_are_absent_and_the_nearest_agent_is_first() -> None:
    name = "logistics/aisle-traffic"
    _, (num_dynamic, _), observation = observe(name, 3)
    flat, task = get_vector_slices(scenes[name].footprint_size), scenes[name].task
    distance = np.linalg.norm(observation["pose"][1:num_dynamic, :2] - observation["pose"][0, :2], axis=-1)
    present = observation["present"][1:num_dynamic] > 0
    assert list(distance[present][:NUM_TRACKED_BODIES]) != sorted(distance[present])[:NUM_TRACKED_BODIES], (
        "the first agents must not be the nearest"
    )
    loads = compute_flat_vector(observation, task, num_dynamic)[flat.bodies].reshape(NUM_TRACKED_BODIES, -1)
    for row, nearest in zip(loads, np.sort(distance[present]), strict=False):
        assert np.linalg.norm(row[:2]) == pytest.approx(nearest, rel=1e-5)
    hidden = {**observation, "present": observation["present"].copy()}
    hidden["present"][1:num_dynamic] = 0
    for position in (0.0, 7.0):
        hidden["pose"] = observation["pose"].copy()
        hidden["pose"][1:num_dynamic, :2] = position
        vector = compute_flat_vector(hidden, task, num_dynamic)[: flat.size]
        assert not vector[flat.bodies].any()
        assert (vector[flat.boxes_of_load].reshape(NUM_BOXES, 3) == (0, 0, MAX_DISTANCE_M)).all()


def test_goal_features_of_pushing_are_distances_and_directions() -> None:
    scene = "logistics/tote-push"
    _, _, observation = observe(scene)
    robot, load, goal = observation["pose"][0, :2], observation["pose"][1, :2], observation["goal"][:2]
    features = compute_flat_vector(observation, scenes[scene].task, scenes[scene].max_dynamic)[get_vector_slices().size :]
    goal_of_robot, goal_of_load, push, drive = features[:8].reshape(4, 2)
    cost_to_go, distance = features[8:]
    assert np.linalg.norm(goal_of_robot) == pytest.approx(np.linalg.norm(goal - robot), rel=1e-4)
    assert np.linalg.norm(goal_of_load) == pytest.approx(np.linalg.norm(goal - load), rel=1e-4)
    assert np.linalg.norm(push) == pytest.approx(1, rel=1e-4)
    assert np.linalg.norm(drive) == pytest.approx(1, rel=1e-4)
    assert distance == pytest.approx(np.linalg.norm(load - robot), rel=1e-4)
    assert cost_to_go > np.linalg.norm(goal - load) - 0.3
