from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor

from sim.bodies import CONTROL_DT_S, Bodies, Kind, Observation, Shape
from sim.bullet.drop_test import simulate_drop
from sim.data.episode import Episode, EpisodeSource
from sim.geometry.rotations import integrate_rotation, multiply_quaternions, rotate_in_space
from sim.variation import Variation
from worldmodels.assessment.settling import compute_auroc, measure_settling_error
from worldmodels.model import LearnedModel, models
from worldmodels.poses import compute_angle
from worldmodels.spatial.box_distance import BoxContacts, compute_box_contacts
from worldmodels.spatial.graph import NUM_LOCAL_BODIES, SpatialGraph
from worldmodels.spatial.state import SpatialWindows
from worldmodels.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.training.loop import TrainConfig, train
from worldmodels.training.windows import Batch

STEPS = 8
SKILL_SCENE = "test/place"
UPRIGHT = (0.0, 0.0, 0.0, 1.0)
seeds = st.integers(0, 10_000)


class PlaceSkill:
    """Moves body 1 by the first three numbers of an action; the fourth is a feature."""

    num_features = 1
    test_features = (0.5,)

    def compute_nominal(self, bodies: Bodies, action: Any) -> tuple[Any, Any]:
        pose = bodies.pose + 0 * action[..., None, :1]
        pose[..., 1, :3] = pose[..., 1, :3] + action[..., :3]
        return pose, action[..., 3:4]


class Boxes:
    """A random pair of boxes."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.half = rng.uniform(0.05, 0.4, (2, 3))
        self.rotation = Rotation.from_quat(rng.normal(size=(2, 4)))
        self.position = rng.normal(0, 0.35, (2, 3))

    def compute_contacts(self, a: int = 0) -> BoxContacts:
        inverse = self.rotation[a].inv()
        offset = inverse.apply(self.position[1 - a] - self.position[a])
        turn = (inverse * self.rotation[1 - a]).as_matrix()
        return compute_box_contacts(*map(torch.as_tensor, (offset, turn, self.half[a], self.half[1 - a])))

    def compute_distance(self) -> float:
        """Compute the distance by alternating projections (von Neumann)."""
        point = self.position[0]
        for _ in range(300):
            for index in (1, 0):
                local = self.rotation[index].inv().apply(point - self.position[index])
                before, point = point, self.position[index] + self.rotation[index].apply(np.clip(local, *self._bounds(index)))
        return float(np.linalg.norm(point - before))

    def _bounds(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return -self.half[index], self.half[index]


@given(seeds)
def test_boxes_overlap_where_their_distance_is_negative(seed: int) -> None:
    boxes = Boxes(seed)
    distance, true = float(boxes.compute_contacts().distance), boxes.compute_distance()
    assert distance <= true + 1e-9
    if true > 5e-3:
        assert distance > true / np.sqrt(3) - 1e-9
    elif true < 1e-9:
        assert distance <= 0


@given(seeds)
def test_boxes_touch_once_they_are_moved_by_their_distance(seed: int) -> None:
    boxes = Boxes(seed)
    contact = boxes.compute_contacts()
    boxes.position[1] -= float(contact.distance) * boxes.rotation[0].apply(contact.normal.numpy())
    if contact.distance < 0:
        assert float(boxes.compute_contacts().distance) == pytest.approx(0, abs=1e-9)
    assert float(contact.gaps.min()) >= float(contact.distance) - 1e-9


@given(seeds)
def test_distances_are_symmetric_and_do_not_depend_on_the_frame(seed: int) -> None:
    boxes = Boxes(seed)
    contact, reverse = boxes.compute_contacts(0), boxes.compute_contacts(1)
    assert float(contact.distance) == pytest.approx(float(reverse.distance), abs=1e-9)
    normals = [boxes.rotation[i].apply(c.normal.numpy()) for i, c in enumerate((contact, reverse))]
    np.testing.assert_allclose(normals[0], -normals[1], atol=1e-9)
    turn = Rotation.from_rotvec([0.3, -0.2, 1.0])
    boxes.position, boxes.rotation = turn.apply(boxes.position) + np.array([3, 2, 1]), turn * boxes.rotation
    for before, after in zip(contact, boxes.compute_contacts(), strict=True):
        torch.testing.assert_close(after, before, atol=1e-8, rtol=0)


@pytest.mark.parametrize(
    ("offset", "yaw", "half_a", "half_b", "distance", "normal", "extent"),
    [
        ((0, 0, 0.25), 0.0, (0.2, 0.1, 0.1), (0.2, 0.1, 0.1), 0.05, (0, 0, 1), (0.2, 0.1)),
        ((0, 0, 0.19), 90.0, (0.5, 0.1, 0.1), (0.5, 0.1, 0.1), -0.01, (0, 0, 1), (0.1, 0.1)),  # crossed bars
        ((0.1, 0, -1.1), 0.0, (0.1, 0.1, 0.1), (50, 50, 1), 0.0, (0, 0, -1), (0.1, 0.1)),  # on a floor
        ((0.4, 0, 0), 45.0, (0.1, 0.1, 0.1), (0.1, 0.1, 0.1), 0.3 - np.sqrt(0.02), (1, 0, 0), None),
    ],
)
def test_contacts_of_known_pairs(
    offset: Any, yaw: float, half_a: Any, half_b: Any, distance: float, normal: Any, extent: Any
) -> None:
    turn = torch.as_tensor(Rotation.from_euler("z", yaw, degrees=True).as_matrix())
    contact = compute_box_contacts(*(torch.as_tensor(v, dtype=torch.float64) for v in (offset, turn, half_a, half_b)))
    assert float(contact.distance) == pytest.approx(distance, abs=1e-9)
    torch.testing.assert_close(contact.normal, torch.tensor(normal, dtype=torch.float64), atol=1e-9, rtol=0)
    if extent is not None:
        expected = torch.tensor(extent, dtype=torch.float64).expand(4, 2)
        torch.testing.assert_close(contact.points[:, :2].abs(), expected, atol=1e-9, rtol=0)
        torch.testing.assert_close(contact.gaps, torch.full((4,), distance, dtype=torch.float64), atol=1e-9, rtol=0)


def test_crossing_edges_touch_at_their_crossing() -> None:
    half = torch.tensor([0.1, 0.5, 0.1], dtype=torch.float64)
    lower = Rotation.from_euler("y", 45, degrees=True)
    upper = Rotation.from_euler("z", 90, degrees=True) * lower
    offset = lower.inv().apply([0, 0, 2 * np.sqrt(0.02) + 0.03])
    contact = compute_box_contacts(torch.as_tensor(offset), torch.as_tensor((lower.inv() * upper).as_matrix()), half, half)
    assert float(contact.distance) == pytest.approx(0.03)
    np.testing.assert_allclose(lower.apply(contact.normal.numpy()), (0, 0, 1), atol=1e-9)


@pytest.fixture(scope="module")
def drops() -> list[Episode]:
    rng = np.random.default_rng(0)
    return [simulate_drop(rng, seed) for seed in range(140)]


def take_all(episodes: list[Episode], steps: int = STEPS) -> Batch:
    windows = SpatialWindows(episodes)
    return windows.take(windows.find_starts(steps)[1][::3], steps)


def compute_median_mm(position: Tensor, batch: Batch) -> float:
    end, start = (state.decode_dynamic().pose[..., :3] for state in (batch.targets[-1], batch.state))
    return 1e3 * float((position - end).norm(dim=-1)[(end - start).norm(dim=-1) > 0.02].median())


@pytest.fixture(scope="module")
def trained(drops: list[Episode], tmp_path_factory: pytest.TempPathFactory) -> LearnedModel:
    config = TrainConfig(updates=200, batch=32, lengths=(2, 3), learning_rate=0.01, validate_every=100, device="cpu")
    torch.manual_seed(0)
    windows, validation = SpatialWindows(drops[:90]), SpatialWindows(drops[90:110])
    metadata = {"scene": "drop-test", "data": ["drops"], "env_steps": windows.steps}
    path: Path = tmp_path_factory.mktemp("spatial")
    return train(SpatialGraph(hidden_size=48, edge_size=24), windows, validation, config, path, metadata)


def test_equal_generators_simulate_equal_drops() -> None:
    first, second = (simulate_drop(np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first.pose, second.pose)


def test_a_trained_model_predicts_falling_sliding_and_tipping_better_than_baselines(
    trained: SpatialGraph, drops: list[Episode]
) -> None:
    batch = take_all(drops[110:])
    start = batch.state.decode_dynamic()
    error = trained.compute_validation_error(batch)
    constant_velocity = start.pose[..., :3] + STEPS * CONTROL_DT_S * start.twist[..., :3]
    assert error < 0.4 * compute_median_mm(start.pose[..., :3], batch), "the static baseline is not much worse"
    assert error < 0.2 * compute_median_mm(constant_velocity, batch), "the constant-velocity baseline is not much worse"
    end, predicted = batch.targets[-1].decode_dynamic().pose, trained.predict_bodies(batch.state, batch.actions).pose[0, :, -1]
    turned, error = compute_angle(start.pose[..., 3:], end[..., 3:]), compute_angle(predicted[..., 3:], end[..., 3:])
    assert (turned > 0.9).any()
    assert error[turned > 0.9].median() < turned[turned > 0.9].median()


def test_a_box_at_rest_stays_at_rest(trained: SpatialGraph) -> None:
    observation = make_observation([(1.0, 0.5, 0.1)], half=(0.15, 0.12, 0.1))
    pose = roll_out(trained, observation, torch.zeros(1, 10, 1))[0, 0, -1, 0]
    assert (pose[:3] - torch.tensor([1.0, 0.5, 0.1])).norm() < 0.02
    assert compute_angle(pose[3:], torch.tensor(UPRIGHT)) < 0.05


def make_observation(positions: Any, half: Any = (0.1, 0.1, 0.1), num_static: int = 0, num_actions: int = 1) -> Observation:
    """Make an observation of upright boxes at rest, the last ones static."""
    count = len(positions)
    kind = np.full(count, Kind.LOAD)
    kind[count - num_static :] = Kind.PALLET
    return {
        "pose": np.array([(*position, *UPRIGHT) for position in positions], np.float32),
        "twist": np.zeros((count, 6), np.float32),
        "half_extents": np.tile(np.float32(half), (count, 1)),
        "kind": kind,
        "shape": np.zeros(count, np.int8),
        "present": np.ones(count, np.int8),
        "action_twist": np.zeros((6, num_actions), np.float32),
        "unit_m": np.ones(1, np.float32),
    }


def make_crowded_observation(seed: int) -> Observation:
    """Make a tool, tilted boxes, a cylinder and a belt, near each other and in motion."""
    rng = np.random.default_rng(seed)
    positions = rng.uniform((0, 0, 0.1), (0.5, 0.4, 0.4), (6, 3))
    observation = make_observation(positions, num_static=1, num_actions=2)
    observation["pose"][:, 3:] = Rotation.from_quat(rng.normal(size=(6, 4))).as_quat()
    observation["twist"] = rng.normal(0, 0.3, (6, 6)).astype(np.float32)
    observation["half_extents"] = rng.uniform(0.03, 0.15, (6, 3)).astype(np.float32)
    observation["half_extents"][2, 1] = observation["half_extents"][2, 0]
    observation["kind"][[0, 5]] = Kind.ROBOT, Kind.BELT
    observation["shape"][2] = Shape.CYLINDER
    observation["action_twist"][[0, 5], [0, 1]] = 0.5, 1.0
    observation["measured_inertia"] = rng.uniform(0, 0.1, (6, 4)).astype(np.float32)
    return observation


def make_random_model(**sizes: Any) -> SpatialGraph:
    """Make a model with random weights in every layer."""
    torch.manual_seed(0)
    model = SpatialGraph(**sizes)
    with torch.no_grad():
        for parameter in (model.out, model.push.weight):
            parameter.copy_(0.03 * torch.randn(parameter.shape))
    return model.eval()


@pytest.fixture
def skill(monkeypatch: pytest.MonkeyPatch) -> PlaceSkill:
    skill = PlaceSkill()
    scenes = {SKILL_SCENE: SimpleNamespace(skill=skill)}
    monkeypatch.setattr("worldmodels.spatial.graph.scenes", scenes)
    return skill


def roll_out(model: LearnedModel, observation: Observation, actions: Tensor) -> Tensor:
    bodies = model.rollout(model.encode(observation), actions).bodies
    assert bodies is not None
    return torch.as_tensor(bodies.pose)


def move(observation: Observation, turn: Rotation, shift: np.ndarray) -> Observation:
    pose, twist = observation["pose"], observation["twist"]
    rotated = [turn.apply(pose[:, :3]) + shift, (turn * Rotation.from_quat(pose[:, 3:])).as_quat()]
    moved = {"pose": np.hstack(rotated), "twist": np.hstack([turn.apply(twist[:, :3]), turn.apply(twist[:, 3:])])}
    return {**observation, **{name: values.astype(np.float32) for name, values in moved.items()}}


@pytest.mark.parametrize("angle", [0.7, -2.5])
@pytest.mark.parametrize("seed", range(4))
def test_predictions_turn_and_shift_with_the_scene(seed: int, angle: float) -> None:
    model, observation = make_random_model(), make_crowded_observation(seed)
    actions = 2 * torch.rand(3, 1, 2) - 1  # later steps would amplify rounding errors
    turn, shift = Rotation.from_euler("z", angle), np.array([3.0, -2.0, 0.0])
    before, after = roll_out(model, observation, actions), roll_out(model, move(observation, turn, shift), actions)
    assert (before[0, 0, -1, :, :3] - torch.as_tensor(observation["pose"][:5, :3])).norm(dim=-1).min() > 1e-3
    np.testing.assert_allclose(after[..., :3].reshape(-1, 3), turn.apply(before[..., :3].reshape(-1, 3)) + shift, atol=1e-4)
    expected = turn * Rotation.from_quat(before[..., 3:].reshape(-1, 4))
    assert (Rotation.from_quat(after[..., 3:].reshape(-1, 4)) * expected.inv()).magnitude().max() < 2e-3


def test_predictions_of_skills_turn_with_the_scene(skill: PlaceSkill) -> None:
    model, observation = make_random_model(skill_scene=SKILL_SCENE, num_heads=3), make_crowded_observation(0)
    turn, shift = Rotation.from_euler("z", 0.7), np.array([1.0, 2.0, 0.0])
    action = np.array([0.1, 0.05, 0.02, 0.5])
    turned = np.concatenate([turn.apply(action[:3]), action[3:]])
    before = roll_out(model, observation, torch.as_tensor(action).float()[None, None])
    after = roll_out(model, move(observation, turn, shift), torch.as_tensor(turned).float()[None, None])
    np.testing.assert_allclose(after[..., :3].reshape(-1, 3), turn.apply(before[..., :3].reshape(-1, 3)) + shift, atol=1e-4)


def test_rollouts_of_scenes_of_different_sizes_equal_single_rollouts() -> None:
    model = make_random_model()
    grid = [(0.25 * i, 0.0, 0.1) for i in range(5)]
    observations = [
        make_observation(grid[:count], num_static=num_static) for count, num_static in ((3, 1), (5, 2), (4, 1), (4, 2))
    ]
    states = [model.encode(observation) for observation in observations]
    actions = [torch.zeros(4, 3, 1)] * 4
    for prediction, state, candidates, count in zip(
        model.rollout_batch(states, actions), states, actions, (2, 3, 3, 2), strict=True
    ):
        assert prediction.bodies is not None
        assert prediction.bodies.pose.shape == (1, 4, 3, count, 7)
        single = model.rollout(state, candidates).bodies
        torch.testing.assert_close(prediction.bodies.pose, single.pose, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(single.pose[..., 3:].norm(dim=-1), torch.ones(1, 4, 3, count))


def test_bodies_out_of_reach_change_nothing() -> None:
    model = make_random_model()
    near = [(0.0, 0, 0.1), (0.21, 0, 0.1)]
    alone = roll_out(model, make_observation(near), torch.zeros(1, 3, 1))
    with_others = roll_out(model, make_observation([*near, (5, 5, 0.1)]), torch.zeros(1, 3, 1))
    torch.testing.assert_close(with_others[..., :2, :], alone, atol=1e-5, rtol=0)
    touching = roll_out(model, make_observation([*near, (0.1, 0.15, 0.1)]), torch.zeros(1, 3, 1))
    assert (touching[..., :2, :] - alone).abs().max() > 1e-4


def test_predictions_are_differentiable_in_the_actions() -> None:
    model, observation = make_random_model(), make_crowded_observation(1)
    actions = torch.zeros(2, 3, 2, requires_grad=True)
    roll_out(model, observation, actions)[..., :2].sum().backward()
    assert actions.grad is not None
    assert actions.grad.isfinite().all()
    assert (actions.grad[:, 0] != 0).all()


def test_skills_are_predicted_from_their_nominal_poses(skill: PlaceSkill) -> None:
    model = SpatialGraph(skill_scene=SKILL_SCENE, num_heads=3)  # new models predict no difference
    observation = make_observation([(0.0, 0, 0.1), (1, 1, 0.1), (0, 0, 0.04)], num_static=1)
    actions = torch.tensor([[[0.1, 0, 0.2, 1], [0.2, 0, 0, 1]]]).expand(2, -1, -1)
    prediction = model.rollout(model.encode(observation), actions)
    assert prediction.bodies is not None
    assert prediction.violation is not None
    assert prediction.value is not None
    assert prediction.value.shape == (3, 2)
    assert prediction.violation.shape == (3, 2, 2)
    torch.testing.assert_close(prediction.violation, torch.full((3, 2, 2), 0.5))  # of a new model
    positions = prediction.bodies.pose[:, 0, :, :, :3]
    torch.testing.assert_close(positions[0, 0], torch.tensor([[0, 0, 0.1], [1.1, 1, 0.3]]))
    torch.testing.assert_close(positions[:, 1, 1], torch.tensor([1.3, 1, 0.3]).expand(3, 3))


def test_skills_change_the_nearest_bodies_only(skill: PlaceSkill) -> None:
    model = make_random_model(skill_scene=SKILL_SCENE)
    positions = [(0.21 * i, 0.0, 0.1) for i in range(NUM_LOCAL_BODIES + 3)]
    observation = make_observation([*positions, (0, 0, 0.0)], num_static=1)
    actions = torch.tensor([[[-0.21, 0.21, 0, 1.0]]])
    local = roll_out(model, observation, actions)[0, 0, 0]
    complete = model.predict_bodies(model.encode(observation), actions).pose[0, 0, 0]
    torch.testing.assert_close(local[:3], complete[:3], atol=1e-4, rtol=0)  # up to messages from afar
    start = torch.as_tensor(observation["pose"][:-1])
    assert torch.equal(local[-3:], start[-3:])
    assert (complete[-3:] - start[-3:]).abs().max() > 1e-4


def test_a_loaded_checkpoint_predicts_as_the_saved_model(tmp_path: Path, skill: PlaceSkill) -> None:
    model, observation = make_random_model(skill_scene=SKILL_SCENE, num_heads=2), make_crowded_observation(2)
    save_checkpoint(model, tmp_path, "best", {"scene": "drop-test"})
    loaded = load_checkpoint(tmp_path)
    assert type(loaded) is models["spatial-graph"]
    actions = torch.rand(3, 2, 4)
    assert torch.equal(roll_out(loaded, observation, actions), roll_out(model, observation, actions))


def make_skill_episode(seed: int) -> Episode:
    """Make an episode in which body 1 is placed above the floor and falls onto it, four times."""
    rng = np.random.default_rng(seed)
    height = np.append(0.0, rng.uniform(0.0, 0.3, 4) * (rng.random(4) < 0.7))
    pose = np.tile(np.array([0, 0, 0.1, *UPRIGHT]), (5, 2, 1))
    pose[:, 1, 0] = 1 + 0.2 * np.arange(5)
    action = np.zeros((5, 4))
    action[:4, 0], action[:4, 2] = 0.2, height[1:]
    layout = simulate_drop(np.random.default_rng(0), steps=1).layout
    return Episode(
        layout=layout, source=EpisodeSource(SKILL_SCENE, seed), behaviour="place", variation=Variation(),
        half_extents=np.full((2, 3), 0.1), pose=pose, twist=np.zeros((5, 2, 6)), action=action, action_twist=np.zeros((6, 4)),
        time_s=7.0 * np.arange(5), violation=height > 0.15, has_skills=True, kind=np.full(2, Kind.LOAD),
    )  # fmt: skip


def test_a_model_of_skills_learns_what_falls(skill: PlaceSkill, tmp_path: Path) -> None:
    train_windows, validation, test = (
        SpatialWindows([make_skill_episode(seed) for seed in seeds], SKILL_SCENE)
        for seeds in (range(60), range(60, 75), range(75, 100))
    )
    config = TrainConfig(updates=160, batch=32, learning_rate=0.02, validate_every=80, device="cpu")
    metadata = {"scene": "place-test", "data": ["places"], "env_steps": train_windows.steps}
    torch.manual_seed(0)
    model = train(SpatialGraph(hidden_size=32, edge_size=16), train_windows, validation, config, tmp_path, metadata)
    assert isinstance(model, SpatialGraph)
    assert model.spatial_config.skill_scene == SKILL_SCENE
    error = measure_settling_error(model, test)
    assert error.n > 20
    assert error.body_relative_median < 0.3
    assert error.standing_auroc > 0.95
    assert error.violation_auroc > 0.8


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=20))
def test_the_auroc_is_the_share_of_pairs_in_order(pairs: list[tuple[int, bool]]) -> None:
    score, label = np.array([pair[0] for pair in pairs], float), np.array([pair[1] for pair in pairs])
    order = [float(a > b) + 0.5 * float(a == b) for a in score[label] for b in score[~label]]
    expected = np.mean(order) if order else np.nan
    assert compute_auroc(score, label) == pytest.approx(expected, nan_ok=True)


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
    angles = compute_angle(torch.as_tensor(a.as_quat()), torch.as_tensor(b.as_quat())).numpy()
    np.testing.assert_allclose(angles, (a * b.inv()).magnitude(), atol=1e-6)


def test_windows_equal_the_steps_of_their_episodes(drops: list[Episode]) -> None:
    later = np.arange(21)[:, None] >= 6  # the second body appears at step 6
    pair = replace(
        drops[0],
        half_extents=drops[0].half_extents.repeat(2, 0),
        kind=drops[0].kind.repeat(2),
        visible=np.hstack([np.ones((21, 1), bool), later]),
        **{name: getattr(drops[0], name).repeat(2, 1) for name in ("pose", "twist")},
    )
    batch = SpatialWindows([*drops[:2], pair]).take(np.array([4, 46, 49]), 3)
    bodies = batch.targets[-1].decode_dynamic()
    np.testing.assert_allclose(bodies.pose[0, 0], drops[0].pose[7, 0], rtol=1e-6)
    np.testing.assert_allclose(bodies.twist[1, 0], drops[0].twist[7, 0], rtol=1e-6)
    assert bodies.present.tolist() == [[1, 0], [1, 0], [1, 1]]
