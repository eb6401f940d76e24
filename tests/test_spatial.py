from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from sim.bodies import CONTROL_DT_S
from sim.bullet.drop_test import simulate_drop
from sim.data.episode import Episode
from sim.geometry.rotations import integrate_rotation, multiply_quaternions, rotate_in_space
from worldmodels.model import models
from worldmodels.spatial.rigid import RigidModel
from worldmodels.spatial.state import MOTION_FIELDS, SpatialState, SpatialWindows
from worldmodels.training.loop import TrainConfig, train
from worldmodels.training.windows import Batch

STEPS = 8


@pytest.fixture(scope="module")
def drops() -> list[Episode]:
    rng = np.random.default_rng(0)
    return [simulate_drop(rng, seed) for seed in range(140)]


def take_all(episodes: list[Episode], steps: int = STEPS) -> Batch:
    windows = SpatialWindows(episodes)
    return windows.take(windows.find_starts(steps)[1][::3], steps)


def compute_median_mm(position: torch.Tensor, batch: Batch) -> float:
    moved = (batch.targets[-1].position - batch.state.position).norm(dim=-1) > 0.02
    return 1e3 * float((position - batch.targets[-1].position).norm(dim=-1)[moved].median())


@pytest.fixture(scope="module")
def trained(drops: list[Episode], tmp_path_factory: pytest.TempPathFactory) -> RigidModel:
    config = TrainConfig(updates=240, batch=32, lengths=(2, 3), learning_rate=0.01, validate_every=120, device="cpu")
    torch.manual_seed(0)
    windows, validation = SpatialWindows(drops[:90]), SpatialWindows(drops[90:110])
    metadata = {"scene": "drop-test", "data": ["drops"], "env_steps": windows.steps}
    path: Path = tmp_path_factory.mktemp("rigid")
    model = train(RigidModel(hidden_size=32), windows, validation, config, path, metadata)
    assert isinstance(model, RigidModel)
    return model


def test_equal_generators_simulate_equal_drops() -> None:
    first, second = (simulate_drop(np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.pose, second.pose)


def test_a_trained_model_predicts_falling_sliding_and_tipping_better_than_baselines(
    trained: RigidModel, drops: list[Episode]
) -> None:
    batch = take_all(drops[110:])
    error = trained.compute_validation_error(batch)
    constant_velocity = batch.state.position + STEPS * CONTROL_DT_S * batch.state.velocity
    assert error < 0.4 * compute_median_mm(batch.state.position, batch), "the static baseline is not much worse"
    assert error < 0.2 * compute_median_mm(constant_velocity, batch), "the constant-velocity baseline is not much worse"
    tipped = (batch.targets[-1].rotation * batch.state.rotation).sum(-1).abs() < 0.9
    predicted = trained.imagine(batch.state, STEPS)[-1]
    aligned = (predicted.rotation * batch.targets[-1].rotation).sum(-1).abs()[tipped]
    static = (batch.state.rotation * batch.targets[-1].rotation).sum(-1).abs()[tipped]
    assert tipped.any()
    assert aligned.median() > static.median()


def test_predictions_rotate_and_shift_with_the_scene(trained: RigidModel, drops: list[Episode]) -> None:
    state = take_all(drops[110:]).state
    half = 0.6
    turn = torch.tensor([0.0, 0.0, np.sin(half), np.cos(half)], dtype=torch.float32)
    shift = torch.tensor([3.0, -2.0, 0.0])

    def move(values: SpatialState) -> SpatialState:
        rotation = turn.expand_as(values.rotation)
        vectors = {
            name: rotate_in_space(getattr(values, name), rotation) for name in ("position", "velocity", "angular_velocity")
        }
        rotated = multiply_quaternions(rotation, values.rotation)
        return replace(values, **{**vectors, "position": vectors["position"] + shift}, rotation=rotated)

    with torch.inference_mode():
        expected, predicted = move(trained.imagine(state, 4)[-1]), trained.imagine(move(state), 4)[-1]
    torch.testing.assert_close(predicted.position, expected.position, atol=1e-3, rtol=0)
    torch.testing.assert_close(predicted.velocity, expected.velocity, atol=1e-2, rtol=0)


def test_a_rollout_returns_bodies_for_every_candidate(trained: RigidModel, drops: list[Episode]) -> None:
    batch = take_all(drops[110:]).state
    state = SpatialState(**{name: values[:1] for name, values in vars(batch).items()})
    bodies = trained.rollout(state, torch.zeros(5, 3, 1)).bodies
    assert bodies is not None
    assert bodies.pose.shape == (1, 5, 3, 1, 7)
    torch.testing.assert_close(bodies.pose[..., 3:].norm(dim=-1), torch.ones(1, 5, 3, 1))
    assert models["rigid"] is RigidModel


@pytest.mark.parametrize("seed", range(3))
def test_rotations_equal_those_of_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (Rotation.from_quat(rng.normal(size=(5, 4))) for _ in range(2))
    vectors, rate = rng.normal(size=(5, 3)), rng.normal(size=(5, 3))
    np.testing.assert_allclose(rotate_in_space(vectors, a.as_quat()), a.apply(vectors), atol=1e-12)
    product = Rotation.from_quat(multiply_quaternions(a.as_quat(), b.as_quat()))
    assert ((product * (a * b).inv()).magnitude() < 1e-7).all()
    rotated = Rotation.from_quat(integrate_rotation(a.as_quat(), rate, 0.1))
    assert ((rotated * (Rotation.from_rotvec(0.1 * rate) * a).inv()).magnitude() < 1e-7).all()


def test_windows_equal_the_steps_of_their_episodes(drops: list[Episode]) -> None:
    windows = SpatialWindows(drops[:2])
    batch = windows.take(np.array([4]), 3)
    for name, columns in zip(MOTION_FIELDS, (slice(0, 3), slice(3, 7), slice(0, 3), slice(3, 6)), strict=True):
        source = drops[0].pose if name in ("position", "rotation") else drops[0].twist
        np.testing.assert_allclose(getattr(batch.targets[-1], name)[0], source[7, :, columns], rtol=1e-6)
