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
EQUIVARIANT = ("graph", "mlp")  # those that promise it


def observation_of(loads: int, speed: float = 0.3) -> dict[str, np.ndarray]:
    """The crowded hall with some of its loads, everything on the move."""
    env = GroundEnv(SCENE, layout=replace(CROWDED, loads=CROWDED.loads[:loads]))
    observation, _ = env.reset(seed=0)
    env.close()
    rng = np.random.default_rng(0)
    observation["twist"][: 1 + loads, [0, 1, 5]] = rng.normal(0, speed, (1 + loads, 3))
    return observation


def made(name: str) -> LearnedModel:
    """A model with random weights everywhere, its last layer too, which starts at zero in some."""
    torch.manual_seed(0)
    model = models[name]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.copy_(0.03 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def plans(batch: int, horizon: int) -> Tensor:
    return 2 * torch.rand(batch, horizon, 2, generator=torch.Generator().manual_seed(2)) - 1


def forecast(model: LearnedModel, state: PlanarState, horizon: int = 6) -> PlanarState:
    """The last state after the same random actions for every scene of the batch."""
    return model.predict_mean(state, plans(1, horizon).expand(len(state.yaw_rate), -1, -1))[-1]


def of_movers(state: PlanarState, change: Callable[[Tensor], Tensor]) -> PlanarState:
    """The same change to everything that has a row per mover."""
    names = ("core_half", "core_centre", "rounding", "kind", "present", "height", "half_extents")
    around = replace(state.context, **{name: change(getattr(state.context, name)) for name in names})
    return replace(state, **{name: change(getattr(state, name)) for name in MOTION_FIELDS}, context=around)


def assert_close(found: PlanarState, expected: PlanarState, atol: float = 2e-4) -> None:
    for name in MOTION_FIELDS:
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=atol, rtol=1e-3)


@pytest.mark.parametrize("loads", [1, 3])
@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_rollouts_have_the_promised_shapes_and_are_deterministic(name: str, loads: int) -> None:
    model, observation = made(name), observation_of(loads)
    state, actions = model.encode(observation), plans(5, 7)
    bodies = model.rollout(state, actions).bodies
    leading = (model.particles, 5, 7, 1 + loads)
    shapes = {"pose": (7,), "twist": (6,), "half_extents": (3,), "kind": (), "shape": (), "present": ()}
    for field, end in shapes.items():
        assert getattr(bodies, field).shape == (*leading, *end)
    assert torch.isfinite(bodies.pose).all()
    assert torch.isfinite(bodies.twist).all()
    torch.testing.assert_close(bodies.pose[..., 3:].norm(dim=-1), torch.ones(leading), atol=1e-4, rtol=0)
    assert torch.equal(bodies.kind[0, 0, 0], torch.as_tensor(observation["kind"][: 1 + loads]).long())
    again = made(name).rollout(model.encode(observation), actions).bodies
    assert torch.equal(bodies.pose, again.pose)
    assert torch.equal(bodies.twist, again.twist)
    assert bodies.pose[0, :, -1].std(0).max() > 1e-3  # other actions, other futures


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_each_candidate_is_imagined_by_itself(name: str) -> None:
    model, state, actions = made(name), made(name).encode(observation_of(2)), plans(6, 5)
    together = model.rollout(state, actions).bodies
    for index in (0, 3, 5):
        alone = model.rollout(state, actions[index : index + 1]).bodies
        torch.testing.assert_close(alone.pose[:, 0], together.pose[:, index], atol=1e-5, rtol=1e-4)
    shorter = model.rollout(state, actions[:, :2]).bodies
    torch.testing.assert_close(shorter.pose, together.pose[:, :, :2], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_stepping_and_imagining_agree(name: str) -> None:
    model, actions = made(name), plans(1, 4)
    state = model.encode(observation_of(2))
    state = repeat_batch(state, model.particles)
    stepped = state
    for t in range(4):
        stepped = model.step(stepped, actions[:, t].expand(model.particles, -1))
    imagined = model.imagine(state, actions.expand(model.particles, -1, -1))
    assert len(imagined) == 4
    assert_close(stepped, imagined[-1], atol=1e-5)
    assert_close(forecast(model, model.encode(observation_of(2)), 4), average_particles(imagined[-1], model.particles), atol=1e-5)


@pytest.mark.parametrize("shift", [0j, 3.0 - 2.0j])
@pytest.mark.parametrize("angle", [0.0, 0.7, -2.5])
@pytest.mark.parametrize("name", EQUIVARIANT)
def test_turning_and_shifting_the_scene_turns_and_shifts_the_prediction(name: str, angle: float, shift: complex) -> None:
    model, state = made(name), encode_observation(observation_of(3))
    turn = torch.polar(torch.tensor(1.0), torch.tensor(angle))

    def moved(state: PlanarState) -> PlanarState:
        around = replace(
            state.context,
            static_centre=state.context.static_centre * turn + shift,
            static_heading=state.context.static_heading * turn,
        )
        return PlanarState(state.position * turn + shift, state.heading * turn, state.velocity * turn, state.yaw_rate, around)

    before = forecast(model, state)
    assert (before.position - state.position).abs().min() > 1e-3
    assert_close(forecast(model, moved(state)), moved(before))


def test_graph_does_not_depend_on_the_order_of_loads() -> None:
    model, state = made("graph"), encode_observation(observation_of(3))
    order = torch.tensor([0, 3, 1, 2])
    permuted = of_movers(state, lambda values: values[:, order])
    assert_close(forecast(model, permuted), of_movers(forecast(model, state), lambda values: values[:, order]), atol=1e-5)


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_absent_bodies_change_nothing(name: str) -> None:
    model, state = made(name), encode_observation(observation_of(2))
    expected = forecast(model, state)

    def padded(values: Tensor) -> Tensor:
        return torch.cat([values, values[:, 1:2]], 1)  # at the first load's own place

    with_load = of_movers(state, padded)
    present = with_load.context.present.clone()
    present[:, -1] = 0
    with_load = replace(with_load, context=replace(with_load.context, present=present))
    found = forecast(model, with_load)
    assert_close(of_movers(found, lambda values: values[:, :-1]), expected, atol=1e-5)

    for centre, there in ((state.position[:, :1], 0.0), (state.position[:, :1] + 50, 1.0)):  # absent here, or present far away
        around = state.context
        boxes = replace(
            around,
            static_centre=torch.cat([around.static_centre, centre], 1),
            static_heading=torch.cat([around.static_heading, torch.ones_like(centre)], 1),
            static_half=torch.cat([around.static_half, torch.full((1, 1, 2), 0.5)], 1),
            static_present=torch.cat([around.static_present, torch.full((1, 1), there)], 1),
        )
        assert_close(forecast(model, replace(state, context=boxes)), expected, atol=1e-5)


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_what_touches_matters(name: str) -> None:
    """The counterpart of the tests above: a load or a box within reach does change the prediction."""
    model = made(name)
    expected = forecast(model, encode_observation(observation_of(1)), 3)
    crowded = forecast(model, encode_observation(observation_of(3)), 3)
    assert (crowded.position[:, :2] - expected.position).abs().max() > 1e-4
    state = encode_observation(observation_of(1))
    around = replace(state.context, static_present=torch.zeros_like(state.context.static_present))
    assert (forecast(model, replace(state, context=around), 3).position - expected.position).abs().max() > 1e-5


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_boxes_out_of_reach_may_be_left_out(name: str) -> None:
    """A plan of 25 steps at full speed does not come farther than `reach`."""
    boxes = (Box(5.3, 3, 0.4, 0.4), Box(5, 4, 0.3, 0.3), Box(12, 6, 0.5, 0.5))
    env = GroundEnv(SCENE, layout=replace(CROWDED, hall=Hall(0, 0, 14, 8), loads=CROWDED.loads[:1], boxes=boxes))
    observation, _ = env.reset(seed=0)
    env.close()
    model = made(name)
    near, everything = model.encode(observation), encode_observation(observation)
    if np.isfinite(model.static_range):
        assert near.context.static_half.shape[1] < everything.context.static_half.shape[1]
    assert_close(forecast(model, near, 3), forecast(model, everything, 3), atol=1e-5)


@pytest.mark.parametrize("scene", ["logistics/tote-push", "factory/push-fixture"])
@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_a_model_is_given_the_boxes_as_far_as_a_plan_can_come(name: str, scene: str) -> None:
    env = GroundEnv(scene, "test", layouts=1)
    observation, _ = env.reset(seed=0)
    env.close()
    model, bodies = made(name), Bodies.from_observation(observation)
    robot, speed = observation["pose"][0, :2], np.linalg.norm(observation["action_twist"][:2])
    boxes = bodies.pose[bodies.is_static, :2], bodies.half_extents[bodies.is_static]
    counts = []
    for steps in (10, 25, 50, 100):
        near = np.linalg.norm(boxes[0] - robot, axis=1) < 0.1 * steps * speed  # centres: those reached for sure
        found = model.encode(observation, steps).context.static_centre[0].numpy()
        kept = {(round(float(x), 3), round(float(y), 3)) for x, y in np.stack([found.real, found.imag], -1)}
        assert {(round(float(x), 3), round(float(y), 3)) for x, y in boxes[0][near]} <= kept
        counts.append(len(kept))
    assert counts == sorted(counts)


def loss_of(model: LearnedModel, batch: Batch) -> Tensor:
    torch.manual_seed(3)  # a model may draw random numbers for its loss
    with torch.no_grad():
        return model.compute_loss(batch)


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_the_loss_falls(name: str, windows: PlanarWindows) -> None:
    torch.manual_seed(0)
    model, rng = models[name](), np.random.default_rng(0)
    model.fit_normalisation(windows)
    check = windows.sample(rng, 128, 4)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    first = float(loss_of(model, check))
    for _ in range(30):
        batch = windows.sample(rng, 64, 4)
        optimizer.zero_grad()
        loss = model.compute_loss(batch)
        loss.backward()
        optimizer.step()
    last = float(loss_of(model, check))
    assert np.isfinite(last)
    assert last < first - 0.2 * abs(first)
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("name", EQUIVARIANT)
def test_padded_loads_do_not_enter_the_loss(name: str, windows: PlanarWindows) -> None:
    batch = windows.take(windows.find_starts(3)[0][:20], 3)

    def padded(state: PlanarState) -> PlanarState:
        wider = of_movers(state, lambda values: torch.cat([values, torch.ones_like(values[:, :1])], 1))
        present = wider.context.present.clone()
        present[:, -1] = 0
        return replace(wider, context=replace(wider.context, present=present))

    more = Batch(padded(batch.state), batch.actions, [padded(state) for state in batch.targets])
    model = made(name)
    assert float(loss_of(model, more)) == pytest.approx(float(loss_of(model, batch)), rel=1e-4)


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_a_checkpoint_predicts_as_its_model_did(name: str, tmp_path: Path, windows: PlanarWindows) -> None:
    model = made(name)
    model.fit_normalisation(windows)
    save_checkpoint(model, tmp_path, "best", {"scene": SCENE})
    again = load_checkpoint(tmp_path, SCENE)
    assert type(again) is type(model)
    assert again.get_config() == model.get_config()
    assert not again.training
    state = model.encode(observation_of(2))
    expected, found = (each.rollout(state, plans(4, 5)).bodies for each in (model, again))
    assert torch.equal(found.pose, expected.pose)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_checkpoint(made("graph"), tmp_path / "model", "best", {"scene": SCENE})
    return tmp_path / "model"


def changed(path: Path, **changes: Any) -> None:
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
    changed(checkpoint, **changes)
    with pytest.raises(GroundError) as caught:
        load_checkpoint(checkpoint, SCENE)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_there_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    (checkpoint / "best.safetensors").unlink()
    with pytest.raises(BadFile, match="missing"):
        load_checkpoint(checkpoint)
    with pytest.raises(BadFile, match="train one first"):
        load_checkpoint(tmp_path / "nothing")
    for text in ("", "[]", "{}", "null"):
        (checkpoint / "best.json").write_text(text)
        with pytest.raises(BadFile, match=r"best\.json|format"):
            load_checkpoint(checkpoint)


def test_windows_are_cut_from_single_episodes(windows: PlanarWindows) -> None:
    rows, touched = windows.find_starts(8)
    assert 0 < len(touched) < len(rows) < windows.steps
    batch = windows.take(rows, 8)
    ways = torch.stack([state.position[:, 0] for state in (batch.state, *batch.targets)]).diff(dim=0).abs()
    assert ways.max() < 0.1  # 0.8 m/s for 0.1 s: no window jumps from one episode to another
    with pytest.raises(GroundError, match="steps in a row"):
        windows.find_starts(10_000)


def test_mirrored_windows_are_still_what_physics_does(windows: PlanarWindows) -> None:
    """Mirroring changes neither distances nor speeds, and turns actions, spins and headings over together."""
    batch = windows.take(windows.find_starts(5)[0][:200], 5)
    other = augment_windows(batch, np.random.default_rng(0))
    assert not torch.equal(other.actions, batch.actions)
    for before, after in zip([batch.state, *batch.targets], [other.state, *other.targets], strict=True):
        gaps = [(s.position[:, :, None] - s.position[:, None]).abs() for s in (before, after)]
        torch.testing.assert_close(*gaps)
        torch.testing.assert_close(before.velocity.abs(), after.velocity.abs())
        forward = [(s.velocity * s.heading.conj()).real[:, 0] for s in (before, after)]
        torch.testing.assert_close(*forward, atol=1e-5, rtol=1e-4)
        to_boxes = [(s.position[:, :1] - s.context.static_centre).abs() for s in (before, after)]
        torch.testing.assert_close(*to_boxes, atol=1e-4, rtol=1e-4)
    mirror = other.actions[:, 0, 1] * batch.actions[:, 0, 1] < 0
    assert torch.equal(other.state.yaw_rate[mirror], -batch.state.yaw_rate[mirror])
    assert 60 < int(mirror.sum()) < 140


def test_pieces_of_parts_are_mirrored_and_turned_with_them(tmp_path: Path) -> None:
    """The boxes that a part is made of lie where the mirrored part's lie, whichever way its heading is counted."""
    config = CollectConfig("factory/push-fixture", steps=600, shard_steps=600, behaviours=(("random", 1.0),), seed=1)
    parts = PlanarWindows(collect(config, tmp_path, workers=1).episodes())
    batch = parts.take(parts.find_starts(2)[0][:200], 2)
    other = augment_windows(batch, np.random.default_rng(0))

    def places(state: PlanarState) -> Tensor:
        return state.position[..., None] + state.context.core_centre * state.heading[..., None]

    before, after = places(batch.state)[:, 1], places(other.state)[:, 1]
    mirror = (other.actions[:, 0, 1] - batch.actions[:, 0, 1]).abs() > 0
    torch.testing.assert_close(after, torch.where(mirror[:, None], before.conj(), before), atol=1e-5, rtol=1e-4)
    assert (batch.state.context.core_centre.abs() > 0.01).any(), "no part of several boxes"
    assert (other.state.heading[:, 1] * batch.state.heading[:, 1].conj()).real.min() < -0.9


def test_a_part_of_two_boxes_turns_and_shifts_with_the_scene() -> None:
    env = GroundEnv("factory/push-fixture@pusht", "pusht", layouts=1)
    observation, _ = env.reset(seed=0)
    goal, part = observation["pose"][0, :2].copy(), observation["pose"][1, :2]
    observation["pose"][0, :2] = part + 0.5 * (goal - part) / np.linalg.norm(goal - part) * 0.2
    env.close()
    model, state = made("graph"), encode_observation(observation)
    turn, shift = torch.polar(torch.tensor(1.0), torch.tensor(0.7)), 0.3 - 0.2j
    moved = replace(state, position=state.position * turn + shift, heading=state.heading * turn, velocity=state.velocity * turn)
    before, after = forecast(model, state, 3), forecast(model, moved, 3)
    torch.testing.assert_close(after.position, before.position * turn + shift, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(after.heading, before.heading * turn, atol=1e-3, rtol=1e-3)
    around = state.context
    swapped = replace(state, context=replace(around, core_half=around.core_half.flip(2), core_centre=around.core_centre.flip(2)))
    torch.testing.assert_close(forecast(model, swapped, 3).position, before.position, atol=1e-5, rtol=1e-4)
    other = replace(state, context=replace(around, core_centre=-around.core_centre))
    assert (forecast(model, other, 3).position - before.position).abs().max() > 1e-5, "where the boxes are does not matter"


def test_actions_are_those_that_reached_the_robot(dataset: Dataset) -> None:
    episodes = list(dataset.episodes())[:3]
    late = [replace(one, variation=replace(one.variation, latency_steps=2)) for one in episodes]
    usual, shifted = (PlanarWindows(found) for found in (episodes, late))
    rows = np.array([0, 1, 2, 10])
    after = shifted.take(rows, 1).actions[:, 0]
    assert (after[:2] == 0).all()
    assert torch.equal(after[2:], usual.take(rows[2:] - 2, 1).actions[:, 0])


def test_surroundings_keep_their_scene(windows: PlanarWindows) -> None:
    batch = windows.take(windows.find_starts(1)[0][[0, 500, 900]], 1)
    for values in batch.state.context.list_tensors().values():
        assert len(values) == 3
    assert isinstance(batch.state.context, SceneContext)
    torch.testing.assert_close(batch.state.context.command_matrix, torch.tensor([[[0.8, 0], [0, 0], [0, 1.5]]]).expand(3, -1, -1))
