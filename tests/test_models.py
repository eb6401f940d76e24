import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PLANAR_MODELS
from torch import Tensor

from sim.bodies import Bodies
from sim.data.collect import CollectConfig, collect
from sim.data.store import Dataset
from sim.env import GroundEnv
from sim.layout import Box, Hall, Layout, Pose
from sim.utils.errors import BadFile, GroundError
from worldmodels.model import LearnedModel, models
from worldmodels.planar.state import MOTION_FIELDS, PlanarState, SceneContext, average_particles, encode_observation, repeat_batch
from worldmodels.planar.windows import PlanarWindows, augment_windows
from worldmodels.training.checkpoint import load_checkpoint, save_checkpoint
from worldmodels.training.windows import Batch

SCENE = "logistics/tote-push"
CROWDED = Layout(
    Hall(0, 0, 6, 6), Pose(2.2, 2.95, 0.2), (Pose(2.75, 3.02, 0.1), Pose(3.3, 3.2, 1.0), Pose(3, 2.5, -0.6)), Pose(5, 4),
    (Box(3.7, 3.6, 0.6, 0.5, 0.3), Box(2, 1, 1, 0.5)),
)  # fmt: skip
EQUIVARIANT = ("graph", "mlp")  # models that are equivariant by construction


def make_crowded_observation(loads: int, speed: float = 0.3) -> dict[str, np.ndarray]:
    """Make an observation of the crowded hall with some of its loads, everything in motion."""
    env = GroundEnv(SCENE, layout=replace(CROWDED, loads=CROWDED.loads[:loads]))
    observation, _ = env.reset(seed=0)
    env.close()
    rng = np.random.default_rng(0)
    observation["twist"][: 1 + loads, [0, 1, 5]] = rng.normal(0, speed, (1 + loads, 3))
    return observation


def make_random_model(name: str) -> LearnedModel:
    """Make a model with random weights in every layer: the last layer of some models starts at zero."""
    torch.manual_seed(0)
    model = models[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.03 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def sample_plans(batch: int, horizon: int) -> Tensor:
    return 2 * torch.rand(batch, horizon, 2, generator=torch.Generator().manual_seed(2)) - 1


def predict_last_state(model: LearnedModel, state: PlanarState, horizon: int = 6) -> PlanarState:
    """Predict the last state after the same random actions for every scene of the batch."""
    return model.predict_mean(state, sample_plans(1, horizon).expand(len(state.yaw_rate), -1, -1))[-1]


def map_dynamic(state: PlanarState, change: Callable[[Tensor], Tensor]) -> PlanarState:
    """Change every tensor that has a row per dynamic body."""
    names = ("core_half", "core_centre", "rounding", "kind", "present", "height", "half_extents")
    context = replace(state.context, **{name: change(getattr(state.context, name)) for name in names})
    return replace(state, **{name: change(getattr(state, name)) for name in MOTION_FIELDS}, context=context)


def assert_close(result: PlanarState, expected: PlanarState, atol: float = 2e-4) -> None:
    for name in MOTION_FIELDS:
        torch.testing.assert_close(getattr(result, name), getattr(expected, name), atol=atol, rtol=1e-3)


@pytest.mark.parametrize("loads", [1, 3])
@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_rollouts_have_the_documented_shapes_and_are_deterministic(name: str, loads: int) -> None:
    model, observation = make_random_model(name), make_crowded_observation(loads)
    state, actions = model.encode(observation), sample_plans(5, 7)
    bodies = model.rollout(state, actions).bodies
    leading = (model.particles, 5, 7, 1 + loads)
    shapes = {"pose": (7,), "twist": (6,), "half_extents": (3,), "kind": (), "shape": (), "present": ()}
    for field, end in shapes.items():
        assert getattr(bodies, field).shape == (*leading, *end)
    assert torch.isfinite(bodies.pose).all()
    assert torch.isfinite(bodies.twist).all()
    torch.testing.assert_close(bodies.pose[..., 3:].norm(dim=-1), torch.ones(leading), atol=1e-4, rtol=0)
    assert torch.equal(bodies.kind[0, 0, 0], torch.as_tensor(observation["kind"][: 1 + loads]).long())
    repeated = make_random_model(name).rollout(model.encode(observation), actions).bodies
    assert torch.equal(bodies.pose, repeated.pose)
    assert torch.equal(bodies.twist, repeated.twist)
    assert bodies.pose[0, :, -1].std(0).max() > 1e-3  # different actions lead to different states


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_rollouts_do_not_depend_on_other_candidates(name: str) -> None:
    model, state, actions = (
        make_random_model(name),
        make_random_model(name).encode(make_crowded_observation(2)),
        sample_plans(6, 5),
    )
    batched = model.rollout(state, actions).bodies
    for index in (0, 3, 5):
        single = model.rollout(state, actions[index : index + 1]).bodies
        torch.testing.assert_close(single.pose[:, 0], batched.pose[:, index], atol=1e-5, rtol=1e-4)
    shorter = model.rollout(state, actions[:, :2]).bodies
    torch.testing.assert_close(shorter.pose, batched.pose[:, :, :2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_step_and_imagine_agree(name: str) -> None:
    model, actions = make_random_model(name), sample_plans(1, 4)
    state = model.encode(make_crowded_observation(2))
    state = repeat_batch(state, model.particles)
    stepped = state
    for t in range(4):
        stepped = model.step(stepped, actions[:, t].expand(model.particles, -1))
    imagined = model.imagine(state, actions.expand(model.particles, -1, -1))
    assert len(imagined) == 4
    assert_close(stepped, imagined[-1], atol=1e-5)
    assert_close(
        predict_last_state(model, model.encode(make_crowded_observation(2)), 4),
        average_particles(imagined[-1], model.particles),
        atol=1e-5,
    )


@pytest.mark.parametrize("shift", [0j, 3.0 - 2.0j])
@pytest.mark.parametrize("angle", [0.0, 0.7, -2.5])
@pytest.mark.parametrize("name", EQUIVARIANT)
def test_predictions_rotate_and_shift_with_the_scene(name: str, angle: float, shift: complex) -> None:
    model, state = make_random_model(name), encode_observation(make_crowded_observation(3))
    turn = torch.polar(torch.tensor(1.0), torch.tensor(angle))

    def transform(state: PlanarState) -> PlanarState:
        context = replace(
            state.context,
            static_centre=state.context.static_centre * turn + shift,
            static_heading=state.context.static_heading * turn,
        )
        return PlanarState(state.position * turn + shift, state.heading * turn, state.velocity * turn, state.yaw_rate, context)

    before = predict_last_state(model, state)
    assert (before.position - state.position).abs().min() > 1e-3
    assert_close(predict_last_state(model, transform(state)), transform(before))


def test_graph_does_not_depend_on_the_order_of_loads() -> None:
    model, state = make_random_model("graph"), encode_observation(make_crowded_observation(3))
    order = torch.tensor([0, 3, 1, 2])
    permuted = map_dynamic(state, lambda values: values[:, order])
    assert_close(
        predict_last_state(model, permuted),
        map_dynamic(predict_last_state(model, state), lambda values: values[:, order]),
        atol=1e-5,
    )


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_absent_bodies_change_nothing(name: str) -> None:
    model, state = make_random_model(name), encode_observation(make_crowded_observation(2))
    expected = predict_last_state(model, state)

    def pad(values: Tensor) -> Tensor:
        return torch.cat([values, values[:, 1:2]], 1)  # at the pose of the first load

    with_load = map_dynamic(state, pad)
    present = with_load.context.present.clone()
    present[:, -1] = 0
    with_load = replace(with_load, context=replace(with_load.context, present=present))
    padded = predict_last_state(model, with_load)
    assert_close(map_dynamic(padded, lambda values: values[:, :-1]), expected, atol=1e-5)

    for centre, is_present in (
        (state.position[:, :1], 0.0),
        (state.position[:, :1] + 50, 1.0),
    ):  # absent at the robot, or present far away
        context = state.context
        boxes = replace(
            context,
            static_centre=torch.cat([context.static_centre, centre], 1),
            static_heading=torch.cat([context.static_heading, torch.ones_like(centre)], 1),
            static_half=torch.cat([context.static_half, torch.full((1, 1, 2), 0.5)], 1),
            static_present=torch.cat([context.static_present, torch.full((1, 1), is_present)], 1),
        )
        assert_close(predict_last_state(model, replace(state, context=boxes)), expected, atol=1e-5)


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_bodies_within_reach_change_the_prediction(name: str) -> None:
    """The prediction changes with a load or a box within reach."""
    model = make_random_model(name)
    expected = predict_last_state(model, encode_observation(make_crowded_observation(1)), 3)
    crowded = predict_last_state(model, encode_observation(make_crowded_observation(3)), 3)
    assert (crowded.position[:, :2] - expected.position).abs().max() > 1e-4
    state = encode_observation(make_crowded_observation(1))
    context = replace(state.context, static_present=torch.zeros_like(state.context.static_present))
    assert (predict_last_state(model, replace(state, context=context), 3).position - expected.position).abs().max() > 1e-5


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_boxes_out_of_reach_do_not_change_the_prediction(name: str) -> None:
    """A plan of 25 steps at full speed stays within `static_range`."""
    boxes = (Box(5.3, 3, 0.4, 0.4), Box(5, 4, 0.3, 0.3), Box(12, 6, 0.5, 0.5))
    env = GroundEnv(SCENE, layout=replace(CROWDED, hall=Hall(0, 0, 14, 8), loads=CROWDED.loads[:1], boxes=boxes))
    observation, _ = env.reset(seed=0)
    env.close()
    model = make_random_model(name)
    nearby, complete = model.encode(observation), encode_observation(observation)
    if np.isfinite(model.static_range):
        assert nearby.context.static_half.shape[1] < complete.context.static_half.shape[1]
    assert_close(predict_last_state(model, nearby, 3), predict_last_state(model, complete, 3), atol=1e-5)


@pytest.mark.parametrize("scene", ["logistics/tote-push", "factory/push-fixture"])
@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_encode_keeps_all_boxes_that_a_plan_can_reach(name: str, scene: str) -> None:
    env = GroundEnv(scene, "test", layouts=1)
    observation, _ = env.reset(seed=0)
    env.close()
    model, bodies = make_random_model(name), Bodies.from_observation(observation)
    robot, speed = observation["pose"][0, :2], np.linalg.norm(observation["action_twist"][:2])
    boxes = bodies.pose[bodies.is_static, :2], bodies.half_extents[bodies.is_static]
    counts = []
    for steps in (10, 25, 50, 100):
        near = np.linalg.norm(boxes[0] - robot, axis=1) < 0.1 * steps * speed  # box centres that the plan reaches
        centres = model.encode(observation, steps).context.static_centre[0].numpy()
        encoded = {(round(float(x), 3), round(float(y), 3)) for x, y in np.stack([centres.real, centres.imag], -1)}
        assert {(round(float(x), 3), round(float(y), 3)) for x, y in boxes[0][near]} <= encoded
        counts.append(len(encoded))
    assert counts == sorted(counts)


def compute_loss(model: LearnedModel, batch: Batch) -> Tensor:
    torch.manual_seed(3)  # a model may draw random numbers for its loss
    with torch.no_grad():
        return model.compute_loss(batch)


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_training_lowers_the_loss(name: str, windows: PlanarWindows) -> None:
    torch.manual_seed(0)
    model, rng = models[name](), np.random.default_rng(0)
    model.fit_normalisation(windows)
    check = windows.sample(rng, 128, 4)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    first = float(compute_loss(model, check))
    for _ in range(30):
        batch = windows.sample(rng, 64, 4)
        optimizer.zero_grad()
        loss = model.compute_loss(batch)
        loss.backward()
        optimizer.step()
    last = float(compute_loss(model, check))
    assert np.isfinite(last)
    assert last < first - 0.2 * abs(first)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_padded_loads_do_not_enter_the_loss(name: str, windows: PlanarWindows) -> None:
    batch = windows.take(windows.find_starts(3)[0][:20], 3)

    def pad(state: PlanarState) -> PlanarState:
        wider = map_dynamic(state, lambda values: torch.cat([values, torch.ones_like(values[:, :1])], 1))
        present = wider.context.present.clone()
        present[:, -1] = 0
        return replace(wider, context=replace(wider.context, present=present))

    padded = Batch(pad(batch.state), batch.actions, [pad(state) for state in batch.targets])
    model = make_random_model(name)
    assert float(compute_loss(model, padded)) == pytest.approx(float(compute_loss(model, batch)), rel=1e-4)


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_a_loaded_checkpoint_predicts_as_the_saved_model(name: str, tmp_path: Path, windows: PlanarWindows) -> None:
    model = make_random_model(name)
    model.fit_normalisation(windows)
    save_checkpoint(model, tmp_path, "best", {"scene": SCENE})
    loaded = load_checkpoint(tmp_path, SCENE)
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert not loaded.training
    state = model.encode(make_crowded_observation(2))
    expected, result = (item.rollout(state, sample_plans(4, 5)).bodies for item in (model, loaded))
    assert torch.equal(result.pose, expected.pose)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(make_random_model("graph"), tmp_path / "model", "best", {"scene": SCENE})
    return tmp_path / "model"


def edit_metadata(path: Path, **changes: Any) -> None:
    file = path / "best.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_weights_are_refused(checkpoint: Path, keep: int) -> None:
    file = checkpoint / "best.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BadFile, match=r"best\.safetensors"):
        load_checkpoint(checkpoint, SCENE)


@pytest.mark.parametrize(
    "changes",
    [{"format": 3}, {"format": None}, {"scene": "logistics/other"}, {"config": {"hidden_size": 8}}, {"config": {"hiden": 8}},
     {"config": {"hidden_size": -1}}, {"config": 3}, {"model": "grph"}, {"model": None}],
)  # fmt: skip
def test_another_format_scene_or_model_is_refused(checkpoint: Path, changes: Mapping[str, Any]) -> None:
    edit_metadata(checkpoint, **changes)
    with pytest.raises(GroundError) as caught:
        load_checkpoint(checkpoint, SCENE)
    assert "\n" not in str(caught.value)


def test_missing_files_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "best.safetensors").unlink()
    with pytest.raises(BadFile, match="missing"):
        load_checkpoint(checkpoint)
    with pytest.raises(BadFile, match="train one first"):
        load_checkpoint(tmp_path / "nothing")
    for text in ("", "[]", "{}", "null"):
        (checkpoint / "best.json").write_text(text)
        with pytest.raises(BadFile, match=r"best\.json|format"):
            load_checkpoint(checkpoint)


def test_windows_do_not_cross_episodes(windows: PlanarWindows) -> None:
    rows, touched = windows.find_starts(8)
    assert 0 < len(touched) < len(rows) < windows.steps
    batch = windows.take(rows, 8)
    displacements = torch.stack([state.position[:, 0] for state in (batch.state, *batch.targets)]).diff(dim=0).abs()
    assert displacements.max() < 0.1  # 0.8 m/s for 0.1 s
    with pytest.raises(GroundError, match="steps in a row"):
        windows.find_starts(10_000)


def test_mirrored_windows_follow_the_same_physics(windows: PlanarWindows) -> None:
    """Mirroring keeps distances and speeds, and flips actions, yaw rates and headings."""
    batch = windows.take(windows.find_starts(5)[0][:200], 5)
    augmented = augment_windows(batch, np.random.default_rng(0))
    assert not torch.equal(augmented.actions, batch.actions)
    for before, after in zip([batch.state, *batch.targets], [augmented.state, *augmented.targets], strict=True):
        gaps = [(s.position[:, :, None] - s.position[:, None]).abs() for s in (before, after)]
        torch.testing.assert_close(*gaps)
        torch.testing.assert_close(before.velocity.abs(), after.velocity.abs())
        forward = [(s.velocity * s.heading.conj()).real[:, 0] for s in (before, after)]
        torch.testing.assert_close(*forward, atol=1e-5, rtol=1e-4)
        to_boxes = [(s.position[:, :1] - s.context.static_centre).abs() for s in (before, after)]
        torch.testing.assert_close(*to_boxes, atol=1e-4, rtol=1e-4)
    mirror = augmented.actions[:, 0, 1] * batch.actions[:, 0, 1] < 0
    assert torch.equal(augmented.state.yaw_rate[mirror], -batch.state.yaw_rate[mirror])
    assert 60 < int(mirror.sum()) < 140


def test_footprint_boxes_are_mirrored_and_rotated_with_their_part(tmp_path: Path) -> None:
    """Footprint boxes of a mirrored part lie at mirrored positions."""
    config = CollectConfig("factory/push-fixture", steps=600, shard_steps=600, behaviours=(("random", 1.0),), seed=1)
    parts = PlanarWindows(collect(config, tmp_path, workers=1).episodes())
    batch = parts.take(parts.find_starts(2)[0][:200], 2)
    augmented = augment_windows(batch, np.random.default_rng(0))

    def get_box_centres(state: PlanarState) -> Tensor:
        return state.position[..., None] + state.context.core_centre * state.heading[..., None]

    before, after = get_box_centres(batch.state)[:, 1], get_box_centres(augmented.state)[:, 1]
    mirror = (augmented.actions[:, 0, 1] - batch.actions[:, 0, 1]).abs() > 0
    torch.testing.assert_close(after, torch.where(mirror[:, None], before.conj(), before), atol=1e-5, rtol=1e-4)
    assert (batch.state.context.core_centre.abs() > 0.01).any(), "no part has several boxes"
    assert (augmented.state.heading[:, 1] * batch.state.heading[:, 1].conj()).real.min() < -0.9


def test_predictions_for_a_part_of_two_boxes_rotate_and_shift_with_the_scene() -> None:
    env = GroundEnv("factory/push-fixture@pusht", "pusht", layouts=1)
    observation, _ = env.reset(seed=0)
    goal, part = observation["pose"][0, :2].copy(), observation["pose"][1, :2]
    observation["pose"][0, :2] = part + 0.5 * (goal - part) / np.linalg.norm(goal - part) * 0.2
    env.close()
    model, state = make_random_model("graph"), encode_observation(observation)
    turn, shift = torch.polar(torch.tensor(1.0), torch.tensor(0.7)), 0.3 - 0.2j
    moved = replace(state, position=state.position * turn + shift, heading=state.heading * turn, velocity=state.velocity * turn)
    before, after = predict_last_state(model, state, 3), predict_last_state(model, moved, 3)
    torch.testing.assert_close(after.position, before.position * turn + shift, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(after.heading, before.heading * turn, atol=1e-3, rtol=1e-3)
    context = state.context
    swapped = replace(
        state, context=replace(context, core_half=context.core_half.flip(2), core_centre=context.core_centre.flip(2))
    )
    torch.testing.assert_close(predict_last_state(model, swapped, 3).position, before.position, atol=1e-5, rtol=1e-4)
    mirrored = replace(state, context=replace(context, core_centre=-context.core_centre))
    assert (predict_last_state(model, mirrored, 3).position - before.position).abs().max() > 1e-5, "box centres have no effect"


def test_windows_contain_the_actions_after_latency(dataset: Dataset) -> None:
    episodes = list(dataset.episodes())[:3]
    delayed = [replace(item, variation=replace(item.variation, latency_steps=2)) for item in episodes]
    usual, shifted = (PlanarWindows(items) for items in (episodes, delayed))
    rows = np.array([0, 1, 2, 10])
    after = shifted.take(rows, 1).actions[:, 0]
    assert (after[:2] == 0).all()
    assert torch.equal(after[2:], usual.take(rows[2:] - 2, 1).actions[:, 0])


def test_windows_keep_the_scene_context(windows: PlanarWindows) -> None:
    batch = windows.take(windows.find_starts(1)[0][[0, 500, 900]], 1)
    for values in batch.state.context.list_tensors().values():
        assert len(values) == 3
    assert isinstance(batch.state.context, SceneContext)
    torch.testing.assert_close(batch.state.context.command_matrix, torch.tensor([[[0.8, 0], [0, 0], [0, 1.5]]]).expand(3, -1, -1))
