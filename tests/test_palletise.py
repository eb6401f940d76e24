"""palletise: skills with known outcomes, the shake test, exact states, orders, task and experts."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.bodies import LOAD, Bodies, Kind, Observation
from sim.env import GroundEnv
from sim.geometry.rotations import rotate, yaw_to_quaternion
from sim.layout import Layout
from sim.scenes.palletise import geometry
from sim.scenes.palletise.expert import propose_actions
from sim.scenes.palletise.geometry import PALLET_HEIGHT_M, measure_stack
from sim.scenes.palletise.layouts import (
    MAX_STACK_M,
    PALLET,
    SLOTS,
    SPLIT_SPECS,
    Carton,
    PalletiseDetails,
    find_faults,
    make_layout,
    sample_layout,
)
from sim.scenes.palletise.orders import import_order, read_order
from sim.scenes.palletise.placing import MIN_REACH, MIN_SUPPORT, OVERHANG_M, find_places
from sim.scenes.palletise.skill import PlaceCarton, encode_action, find_waiting
from sim.scenes.palletise.task import PalletiseTask
from sim.scenes.palletise.world import CUPS, PalletWorld
from sim.scenes.scene import scenes
from sim.utils.errors import BadLayout, GroundError

SCENE = scenes["logistics/palletise"]
CUBE = Carton(0.16, 0.16, 0.12, 3.0)
BRICK = Carton(0.2, 0.16, 0.12, 1.5)
PALLET_HALF = np.array([0.3, 0.2])


@pytest.fixture(scope="module")
def world() -> Iterator[PalletWorld]:
    world = PalletWorld()
    yield world
    world.close()


def place(slot: int, x: float, y: float, turned: bool = False, speed: float = 0.5, release: float = 0.003) -> np.ndarray:
    """Make an action that places the carton of one of four infeed places."""
    choice = np.array((slot + 0.5) / 2 - 1)
    return encode_action(choice, np.array(x), np.array(y), np.array(turned), speed, release, PALLET_HALF)


SHAKE = place(0, 0.0, 0.0)


def make_order(*cartons: Carton, max_stack_m: float = MAX_STACK_M) -> Layout:
    layout = make_layout(PalletiseDetails(cartons, max_stack_m=max_stack_m))
    assert not find_faults(layout)
    return layout


def start(world: PalletWorld, *cartons: Carton) -> None:
    world.grasp_offset_m = (0.0, 0.0)
    layout = make_order(*cartons)
    world.start_episode(SCENE, layout, SCENE.get_variations("test").base, 0)


def step(world: PalletWorld, action: np.ndarray) -> list[str]:
    """Carry out an action; return the kinds of violation."""
    world.step(tuple(action.tolist()), 0.1)
    return [kind for kind, is_violated in world.read_violations().items() if is_violated]


def read_places(world: PalletWorld) -> np.ndarray:
    """Read x, y in the pallet's frame and height above the pallet of the cartons' middles (N, 3)."""
    position = np.array(world.read_dynamic_bodies()[0])[LOAD:, :3]
    xy = rotate(position[:, :2] - (PALLET.x, PALLET.y), np.full(len(position), -PALLET.yaw))
    return np.column_stack([xy, position[:, 2] - PALLET_HEIGHT_M])


@pytest.fixture(scope="module")
def observations() -> list[Observation]:
    """Observe the start, and a state after two placements."""
    env = GroundEnv(SCENE, layout=sample_layout("test", 0))
    first, _ = env.reset(seed=0)
    policy = SCENE.behaviours["scripted"]()
    policy.start_episode(env.make_episode_start(0))
    observation = first
    for _ in range(2):
        observation, *_ = env.step(policy.predict(observation)[0])
    env.close()
    return [first, observation]


# The skill


@pytest.mark.parametrize("carton", [BRICK, Carton(0.26, 0.18, 0.2, 10.0), Carton(0.12, 0.12, 0.05, 0.5)])
@pytest.mark.parametrize("release", [0.0, 0.02])
def test_a_slow_placement_ends_at_its_place(world: PalletWorld, carton: Carton, release: float) -> None:
    start(world, carton)
    assert step(world, place(0, 0.1, -0.05, turned=True, release=release)) == []
    assert read_places(world)[0] == pytest.approx([0.1, -0.05, carton.height_m / 2], abs=2e-3)


def test_the_robot_measures_mass_and_centre_of_mass(world: PalletWorld) -> None:
    start(world, replace(CUBE, mass_centre_m=(0.03, -0.02, 0.0)), CUBE)
    assert not world.read_measured_inertia().any()
    step(world, place(0, 0.0, 0.0))
    measured = world.read_measured_inertia()
    assert measured[LOAD] == pytest.approx([CUBE.mass_kg, 0.03, -0.02, 0.0], rel=0.01, abs=1e-3)
    assert not measured[LOAD + 1].any()


def test_a_fast_swing_tears_a_heavy_carton_off(world: PalletWorld) -> None:
    heavy = Carton(0.2, 0.2, 0.2, 11.0)
    start(world, heavy)
    assert step(world, place(0, 0.0, 0.0, speed=0.5)) == []
    start(world, heavy)
    assert "dropped_carton" in step(world, place(0, 0.0, 0.0, speed=1.1))
    start(world, replace(heavy, mass_kg=2.0))
    assert step(world, place(0, 0.0, 0.0, speed=1.1)) == []


@pytest.mark.parametrize(("share", "peels"), [(0.8, False), (1.2, True)])
def test_a_heavy_carton_that_is_held_off_its_centre_peels_off(world: PalletWorld, share: float, peels: bool) -> None:
    """A pull W at an offset d takes W / V + W d / (V lever) of the cups' capacity."""
    weight = 9.81 * 8.0
    offset = share * (CUPS.force_n / weight - 1) * CUPS.lever_m
    start(world, Carton(0.32, 0.2, 0.08, 8.0, mass_centre_m=(0.6 * offset, 0.0, 0.0)))
    world.grasp_offset_m = (-0.4 * offset, 0.0)
    assert ("dropped_carton" in step(world, place(0, 0.0, 0.0, speed=0.25))) == peels


def test_a_carton_that_brushes_its_neighbour_pushes_it(world: PalletWorld) -> None:
    for overlap, violations, low, high in (
        (-0.002, [], 0.0, 1e-4),
        (0.001, [], 5e-4, 2e-3),
        (0.002, ["pressed_carton"], 5e-3, 0.1),
    ):
        start(world, BRICK, replace(BRICK, mass_kg=4.0))
        step(world, place(0, -0.2, 0.0))
        before = read_places(world)[0]
        found = step(world, place(1, -overlap, 0.0))
        assert set(violations) <= set(found)
        assert bool(violations) == bool(found)
        assert low <= np.linalg.norm(read_places(world)[0] - before) <= high


def test_an_empty_place_takes_the_nearest_carton_and_the_next_one_arrives(world: PalletWorld) -> None:
    start(world, *[CUBE] * 6)
    assert world.read_present() == [True] * 5 + [False] * 2
    step(world, place(1, -0.2, 0.0))
    assert world.read_present() == [True] * 6 + [False]
    for x in (0.0, 0.2):
        step(world, place(1, x, 0.0))
    assert all(world.read_present())
    step(world, place(1, 0.0, 0.0))  # nothing is left at place 1
    assert (read_places(world)[:, :2].__abs__() < PALLET_HALF).all(-1).sum() == 4


def test_cartons_at_the_infeed_and_on_the_pallet_stay_while_others_are_placed(world: PalletWorld) -> None:
    start(world, *[CUBE] * 4)
    step(world, place(0, -0.2, 0.0))
    before = read_places(world)
    step(world, place(1, 0.0, 0.0))
    assert np.abs(read_places(world) - before)[[0, 2, 3]].max() < 2e-4


# The shake test


@pytest.mark.parametrize(
    ("offsets", "stands"), [((0.0, 0.0, 0.0), True), ((0.0, 0.055, 0.11), False), ((-0.09, 0.09, 0.0), True)]
)
def test_solid_stacks_stand_and_overhanging_ones_fall(world: PalletWorld, offsets: Sequence[float], stands: bool) -> None:
    start(world, *[CUBE] * len(offsets))
    for slot, x in enumerate(offsets):
        assert world.read_outcome() is None
        step(world, place(slot, x, 0.0))
    assert ("stack_fell" in step(world, SHAKE)) != stands
    assert world.read_outcome() == stands


def test_a_slippery_carton_on_top_slides_in_the_shake_test(world: PalletWorld) -> None:
    """Between the shake test's 2 m/s² and the friction's 9.81 µ, the theory of a block on a plate."""
    for friction, slides in ((0.25, False), (0.12, True)):
        start(world, replace(CUBE, friction=friction), replace(CUBE, friction=friction))
        for slot in range(2):
            step(world, place(slot, 0.0, 0.0))
        before = read_places(world)
        step(world, SHAKE)
        assert (np.abs(read_places(world) - before)[1, :2].max() > 0.01) == slides


def test_a_dropped_carton_and_a_high_stack_fail(world: PalletWorld) -> None:
    start(world, CUBE)
    assert "dropped_carton" in step(world, place(0, 0.3, 0.2))  # three quarters of it are beside the pallet
    step(world, SHAKE)
    assert world.read_outcome() is False
    start(world, *[replace(CUBE, height_m=0.16)] * 3)
    found = [step(world, place(slot, 0.0, 0.0)) for slot in range(3)]
    assert found == [[], [], ["outside_limits"]]


def test_the_wrist_hits_a_tower_beside_a_low_place(world: PalletWorld) -> None:
    low = Carton(0.12, 0.12, 0.05, 1.0)
    for gap, hits in ((0.005, True), (0.1, False)):
        start(world, replace(CUBE, height_m=0.2), replace(CUBE, height_m=0.2), low)
        for slot in range(2):
            assert step(world, place(slot, -0.1, 0.0)) == []
        assert ("arm_collision" in step(world, place(2, -0.1 + 0.14 + gap, 0.0))) == hits


def test_a_step_after_the_end_changes_nothing(world: PalletWorld) -> None:
    start(world, CUBE)
    step(world, place(0, 0.0, 0.0))
    step(world, SHAKE)
    before = world.read_state()
    assert step(world, place(0, 0.1, 0.0)) == []
    assert np.array_equal(world.read_state().pose, before.pose)
    assert world.read_outcome()


# Exactness


def test_a_restored_state_continues_to_the_same_bytes(world: PalletWorld) -> None:
    layout, variation = make_order(CUBE, BRICK, CUBE, BRICK), SCENE.get_variations("test").base
    rng = np.random.default_rng(0)
    actions = [place(slot, rng.uniform(-0.15, 0.15), rng.uniform(-0.1, 0.1), turned=slot == 1) for slot in (0, 1, 2, 0)]

    def run(restore_at: int) -> bytes:
        world.start_episode(SCENE, layout, variation, 0)
        for number, action in enumerate(actions):
            if number == restore_at:
                state = world.read_state()
                step(world, place(1, 0.0, 0.0))  # leave the state
                world.restore_episode(SCENE, layout, variation, 0, state)
            step(world, action)
        state = world.read_state()
        return state.pose.tobytes() + state.twist.tobytes() + repr(state.memory).encode()

    assert run(-1) == run(2) == run(3)


def test_frames_show_the_motion_within_a_skill(world: PalletWorld) -> None:
    start(world, CUBE, CUBE)
    step(world, place(0, 0.0, 0.0))
    frames = world.read_frames()
    assert np.diff([frame.time_s for frame in frames]) == pytest.approx(0.1)
    assert frames[0].pose.shape == (3, 7)
    assert frames[0].link_poses.shape == world.read_link_poses().shape
    notes = list(dict.fromkeys(frame.note for frame in frames))
    assert notes == ["moves to the infeed", "lifts", "swings", "lowers", "settles"]
    assert max(frame.pose[LOAD, 2] for frame in frames) > frames[0].pose[LOAD, 2] + 0.03


# The nominal effect, for models


def turn_bodies(bodies: Bodies, angle: float, shift: np.ndarray) -> Bodies:
    """Turn the whole scene about the origin, and shift it along the floor."""
    pose = bodies.pose.copy()
    pose[..., :2] = rotate(pose[..., :2], np.full(pose.shape[:-1], angle)) + shift
    z, w = pose[..., 5].copy(), pose[..., 6].copy()
    half_z, half_w = yaw_to_quaternion(np.array(angle))[2:]
    pose[..., 5], pose[..., 6] = z * half_w + w * half_z, w * half_w - z * half_z
    return replace(bodies, pose=pose)


@settings(max_examples=15)
@given(st.lists(st.floats(-1, 1, width=32), min_size=6, max_size=6), st.floats(-3, 3), st.floats(-2, 2), st.sampled_from([0, 1]))
def test_the_nominal_effect_turns_with_the_scene(
    observations: list[Observation], action: list[float], angle: float, shift: float, number: int
) -> None:
    bodies = Bodies.from_observation(observations[number]).map(lambda values: values.astype(np.float64))
    poses, features = PlaceCarton().compute_nominal(bodies, np.array(action))
    turned_poses, turned_features = PlaceCarton().compute_nominal(
        turn_bodies(bodies, angle, np.array([shift, -shift])), np.array(action)
    )
    expected = turn_bodies(replace(bodies, pose=poses), angle, np.array([shift, -shift])).pose
    present = bodies.present > 0
    assert turned_poses[present, :3] == pytest.approx(expected[present, :3], abs=1e-6)
    assert np.abs((turned_poses * expected).sum(-1) - (turned_poses * expected)[..., :3].sum(-1))[present] == pytest.approx(
        1, abs=1e-6
    )
    assert np.array_equal(features, turned_features)


def test_the_nominal_effect_is_equal_in_numpy_and_torch_and_in_batches(observations: list[Observation]) -> None:
    bodies = [Bodies.from_observation(observation) for observation in observations]
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 5, 6)).astype(np.float32)
    batch = Bodies(**{name: np.stack([np.stack([getattr(one, name)] * 5) for one in bodies]) for name in vars(bodies[0])})
    poses, features = PlaceCarton().compute_nominal(batch, actions)
    torch_poses, torch_features = PlaceCarton().compute_nominal(batch.map(torch.as_tensor), torch.as_tensor(actions))
    assert torch_poses.numpy() == pytest.approx(poses, abs=1e-6)
    assert torch_features.numpy() == pytest.approx(features)
    single, _ = PlaceCarton().compute_nominal(bodies[1], actions[1, 3])
    assert single == pytest.approx(poses[1, 3], abs=1e-6)
    moved = (np.abs(poses - batch.pose) > 1e-6).any(-1).sum(-1)
    assert (moved == 1).all()


def test_the_nominal_effect_does_not_depend_on_the_number_of_places_of_other_scenes() -> None:
    env = GroundEnv(SCENE)
    cells = []
    for slots in (SLOTS[:3], SLOTS):
        layout = make_layout(PalletiseDetails((CUBE, BRICK, CUBE, BRICK), slots))
        cells.append(Bodies.from_observation(env.reset(seed=0, options={"layout": layout})[0]))
    env.close()
    actions = np.array([place(3, 0.1, 0.0), place(3, 0.0, 0.1)])
    expected = [PlaceCarton().compute_nominal(bodies, action)[0] for bodies, action in zip(cells, actions, strict=True)]
    batch = Bodies(**{name: np.stack([getattr(bodies, name) for bodies in cells]) for name in vars(cells[0])})
    poses, _ = PlaceCarton().compute_nominal(batch, actions)
    assert poses == pytest.approx(np.array(expected), abs=1e-6)


def test_the_nominal_effect_is_what_the_world_does(world: PalletWorld, observations: list[Observation]) -> None:
    env = GroundEnv(SCENE, layout=make_order(CUBE, BRICK, CUBE))
    observation, _ = env.reset(seed=0)
    for action in (place(0, 0.1, 0.0), place(1, -0.1, 0.05, turned=True), place(2, 0.1, 0.0)):
        nominal, features = PlaceCarton().compute_nominal(Bodies.from_observation(observation), action)
        assert features[2] == 0
        observation, *_ = env.step(action)
        rows = observation["kind"] == Kind.LOAD
        assert observation["pose"][rows] == pytest.approx(nominal[rows], abs=2e-3)
    assert PlaceCarton().compute_nominal(Bodies.from_observation(observation), SHAKE)[1][2] == 1
    *_, info = env.step(SHAKE)
    assert info["success"]
    env.close()


# The task


def make_stack(*places: tuple[float, float, float]) -> tuple[Bodies, np.ndarray]:
    """Make an observed stack of cubes from x, y and the height of their bottom above the pallet."""
    layout = make_order(*[CUBE] * 3)
    env = GroundEnv(SCENE, layout=layout)
    observation, _ = env.reset(seed=0)
    env.close()
    bodies = Bodies.from_observation(observation)
    pose = bodies.pose.copy()
    for row, (x, y, z) in enumerate(places, LOAD):
        pose[row, :2] = np.array([PALLET.x, PALLET.y]) + rotate(np.array([x, y]), np.array(PALLET.yaw))
        pose[row, 2] = PALLET_HEIGHT_M + z + CUBE.height_m / 2
    return replace(bodies, pose=pose), observation["goal"]


def test_the_cost_prefers_low_supported_and_complete_stacks() -> None:
    task = PalletiseTask()
    size = CUBE.length_m
    flat = (-size, 0.0, 0.0), (0.0, 0.0, 0.0), (size, 0.0, 0.0)
    stacks = [flat, (*flat[:2], (-size / 2, 0.0, CUBE.height_m)), (*flat[:2], (0.6 * size, 0.0, CUBE.height_m)), flat[:2], ()]
    costs, successes = [], []
    for places in stacks:
        bodies, goal = make_stack(*places)
        field = task.get_cost_field(bodies, goal)
        costs.append(float(task.compute_cost(bodies, np.zeros(6), goal, field)))
        tensors = bodies.map(torch.as_tensor)
        cost = task.compute_cost(tensors, torch.zeros(6), torch.as_tensor(goal), field.map(torch.as_tensor))
        assert float(cost) == pytest.approx(costs[-1], abs=1e-5)
        successes.append(bool(task.is_success(bodies, goal)))
    assert costs == sorted(costs)
    assert successes == [True, True, True, False, False]
    beyond, goal = make_stack((0.25, 0.0, 0.0), (0.0, 0.0, 0.36), (0.0, 0.0, 0.0))
    penalty = task.compute_violation_penalty(beyond, np.zeros(3), task.get_cost_field(beyond, goal))
    inside, goal = make_stack(*flat)
    assert penalty > 0.1 > task.compute_violation_penalty(inside, np.zeros(3), task.get_cost_field(inside, goal)) == 0


def test_support_is_measured_as_area_and_beyond_the_middle() -> None:
    bodies, _ = make_stack((0.0, 0.0, 0.0), (0.06, 0.0, 0.12), (0.1, 0.1, 0.24))
    field = geometry.make_field(bodies)
    stack = measure_stack(bodies, field)
    rows = slice(LOAD, LOAD + 3)
    ignored = np.arange(len(stack.x)) == np.arange(LOAD, LOAD + 3)[:, None]
    share, reach = geometry.measure_support(
        stack, field, stack.x[rows], stack.y[rows], stack.half_x[rows], stack.half_y[rows], stack.bottom[rows], ignored
    )
    assert share == pytest.approx([1, 0.1 / 0.16, (0.12 / 0.16) * (0.06 / 0.16)], abs=1e-4)
    assert reach == pytest.approx([1, 0.02 / 0.08, -0.02 / 0.08], abs=1e-4)


# Experts and proposals


def run_episode(name: str, layout: Layout) -> tuple[bool, set[str], int]:
    env = GroundEnv(SCENE, layout=layout)
    observation, _ = env.reset(seed=0)
    policy = SCENE.behaviours[name]()
    policy.start_episode(env.make_episode_start(0))
    violations: set[str] = set()
    is_over, count = False, 0
    while not is_over:
        observation, _, success, truncated, info = env.step(policy.predict(observation)[0])
        violations |= {kind for kind, is_violated in info["violations"].items() if is_violated}
        is_over, count = success or truncated, count + 1
    env.close()
    return info["success"], violations, count


@pytest.mark.parametrize("behaviour", ["scripted", "known-mass"])
def test_experts_stack_easy_orders(behaviour: str) -> None:
    easy = make_order(*[Carton(0.2, 0.2, 0.1, mass) for mass in (2.0, 6.0, 1.0, 3.0, 4.0, 5.0, 2.0)], max_stack_m=0.22)
    assert run_episode(behaviour, easy) == (True, set(), 8)


def test_proposals_are_sensible(observations: list[Observation]) -> None:
    for observation in observations:
        actions = propose_actions(observation, 100, np.random.default_rng(0))
        assert 10 < len(actions) <= 100
        assert np.array_equal(actions, propose_actions(observation, 100, np.random.default_rng(0)))
        bodies = Bodies.from_observation(observation)
        is_waiting, choice = find_waiting(bodies)
        assert set(actions[:, 0]) == set(choice[is_waiting].astype(np.float32))
        assert len(np.unique(actions[:, 3])) == 2
        assert len(np.unique(actions[:, 4])) > 2
        batch = Bodies(**{name: np.stack([values] * len(actions)) for name, values in vars(bodies).items()})
        poses, _ = PlaceCarton().compute_nominal(batch, actions)
        stack = measure_stack(replace(batch, pose=poses), geometry.make_field(bodies))
        overhang = geometry.compute_overhang(stack, geometry.make_field(bodies))
        assert overhang[stack.is_placed].max() < OVERHANG_M + 1e-3


def test_places_have_a_gap_to_their_neighbours(observations: list[Observation]) -> None:
    bodies = Bodies.from_observation(observations[1])
    field = geometry.make_field(bodies)
    stack, places = measure_stack(bodies, field), find_places(bodies, field)
    overlap_x, overlap_y = geometry.compute_overlaps(stack, places.x, places.y, places.half[:, 0], places.half[:, 1])
    is_beside = stack.is_placed & (stack.top > places.height[:, None] + geometry.ON_TOP_M)
    assert (np.minimum(overlap_x, overlap_y)[is_beside] <= -1e-3).all()
    assert ((places.support >= MIN_SUPPORT) & (places.reach >= MIN_REACH)).any()


# Layouts and orders


def test_details_are_read_back_and_bad_values_are_named() -> None:
    layout = sample_layout("shift-soft", 0)
    assert Layout.from_json(layout.to_json()) == layout
    content = layout.to_json()
    content["details"]["cartons"][1]["mass_kg"] = 40.0
    content["details"]["cartons"][0]["length_m"] = 0.05
    with pytest.raises(BadLayout) as caught:
        Layout.from_json(content)
    assert caught.value.faults == [
        "details.cartons[0].length_m is 0.05, 0.115 to 0.32 m (what the gripper can hold) is needed",
        "details.cartons[1].mass_kg is 40, 0.1 to 14 kg (what the arm can lift) is needed",
    ]


def test_impossible_layouts_are_refused_in_one_line_each() -> None:
    layout = sample_layout("test", 0)
    details = layout.details
    assert isinstance(details, PalletiseDetails)

    def find(**changes: Any) -> str:
        faults = find_faults(replace(layout, details=replace(details, **changes)))
        assert all("\n" not in fault for fault in faults)
        return " | ".join(faults)

    assert "the order cannot fit" in find(max_stack_m=0.151, cartons=(Carton(0.3, 0.3, 0.15),) * 3, slots=SLOTS)
    assert "overlap" in find(slots=(SLOTS[0], replace(SLOTS[0], x=SLOTS[0].x - 0.1)))
    assert "from the arm" in find(slots=(replace(SLOTS[0], y=1.2),))
    assert "larger than the pallet" in find(pallet_width_m=0.2, cartons=(Carton(0.3, 0.3, 0.1),), slots=SLOTS[:1])
    assert "0.4 m high" not in find() == ""


def test_orders_are_new_and_shifts_are_shifted() -> None:
    orders = {split: [sample_layout(split, index) for index in range(3)] for split in SPLIT_SPECS}
    ids = [layout.id for layouts in orders.values() for layout in layouts]
    assert len(set(ids)) == len(ids)
    cartons = {
        split: [carton for layout in layouts for carton in layout.details.cartons]  # type: ignore[union-attr]
        for split, layouts in orders.items()
    }
    assert min(carton.mass_kg for carton in cartons["shift-heavier"]) >= 6
    assert max(carton.friction for carton in cartons["shift-slippery"]) <= 0.26
    known = {(carton.length_m, carton.width_m, carton.height_m) for carton in cartons["train"]}
    unknown = {(carton.length_m, carton.width_m, carton.height_m) for carton in cartons["shift-unknown-sizes"]}
    assert 8 <= len(known) <= 16
    assert not known & unknown
    assert 0.2 < np.mean([carton.stiffness_n_m is not None for carton in cartons["shift-soft"]]) < 0.8
    assert all(8 <= len(layout.loads) <= 14 for layout in orders["test"])
    assert all(3 <= len(layout.details.slots) <= 4 for layout in orders["train"])  # type: ignore[union-attr]


SIDES = st.integers(12, 30).map(lambda centimetres: centimetres / 100)
LINES = st.tuples(
    SIDES, SIDES, st.integers(4, 20).map(lambda cm: cm / 100), st.integers(1, 20).map(lambda kg: kg / 2), st.integers(1, 3)
)


@settings(max_examples=15)
@given(st.lists(LINES, min_size=1, max_size=4), st.booleans(), st.integers(0, 9))
def test_an_order_list_becomes_a_layout(
    tmp_path_factory: pytest.TempPathFactory, lines: list[tuple[float, ...]], friction: bool, seed: int
) -> None:
    path = tmp_path_factory.mktemp("order") / "order.csv"
    header = "length,width,height,mass,count" + friction * ",friction"
    rows = [",".join(map(str, (*line, *[0.4] * friction))) for line in lines]
    path.write_text("\n".join([header, *rows]) + "\n")
    expected = [
        Carton(length, width, height, mass, 0.4 if friction else 0.5)
        for length, width, height, mass, count in lines
        for _ in range(int(count))
    ]
    assert read_order(path) == expected
    volume = sum(carton.volume_m3 for carton in expected)
    if volume < 0.3 * MAX_STACK_M * 4 * PALLET_HALF.prod():
        layout = import_order(path, seed)
        assert not SCENE.find_faults(layout)
        assert layout == import_order(path, seed)
        assert sorted(map(repr, layout.details.cartons)) == sorted(map(repr, expected))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no cartons"),
        ("length,width,height,mass,count\n", "holds no cartons"),
        ("length,width,height,mass\n.2,.2,.1,1\n", "lacks the column count"),
        ("length,width,height,mass,count,colour\n.2,.2,.1,1,1,red\n", "unknown column 'colour'"),
        ("length,width,height,mass,count\n.2,.2,.1,heavy,1\n", "line 2: mass is 'heavy', a number is needed"),
        ("length,width,height,mass,count\n.2,.2,.1,nan,1\n", "line 2: mass is 'nan', a number is needed"),
        ("length,width,height,mass,count\n.2,.2\n", "line 2: height is '', a number is needed"),
        ("length,width,height,mass,count\n.2,.2,.1,1,1.5\n", "line 2: count is 1.5, a whole number from 1 to 16 is needed"),
        ("length,width,height,mass,count\n.2,.2,.1,1,17\n", "count is 17"),
        ("length,width,height,mass,count\n.2,.2,.1,1,9\n.2,.2,.1,1,9\n", "more than 16 cartons"),
        ("length,width,height,mass,count\n.5,.2,.1,1,1\n", "line 2: length_m is 0.5, 0.115 to 0.32 m"),
        ("length,width,height,mass,count\n.2,.2,.1,30,1\n", "line 2: mass_kg is 30, 0.1 to 14 kg"),
        ("length,width,height,mass,count\n.3,.3,.24,1,16\n", "345.6 litres of cartons in 108.0 litres"),
        ("length,width,height,mass,count\n.3,.3,.11,1,9\n", "no stable stack up to 0.45 m was found"),
    ],
)  # fmt: skip
def test_an_order_list_with_a_fault_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "order.csv"
    path.write_text(text)
    with pytest.raises(GroundError, match=re.escape(message)) as caught:
        import_order(path)
    assert "\n" not in str(caught.value)
