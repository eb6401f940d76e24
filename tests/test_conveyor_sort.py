"""conveyor-sort: physics with known answers, violations, task, layouts and the cost of a step."""

import contextlib
import json
import math
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sim.bodies import LOAD, ROBOT, Bodies, Kind, Shape
from sim.env import GroundEnv
from sim.geometry.rotations import compute_yaw
from sim.layout import Layout, Pose
from sim.scenes.conveyor_sort.layouts import (
    BELT_TOP_M,
    HALL,
    SPLIT_SPECS,
    TOOL_ZONE_M,
    Belt,
    Bin,
    ConveyorDetails,
    Part,
    find_faults,
    sample_layout,
    sample_near_start,
)
from sim.scenes.conveyor_sort.visuals import INDICATORS
from sim.scenes.conveyor_sort.world import JAM_S, PARKED_Z_M, Status, compute_inertia
from sim.scenes.scene import scenes
from sim.utils.errors import BadLayout

SCENE = "factory/conveyor-sort"
YAW = 1.570796  # the belt runs along y; its right side is the far one
BELT = Belt(0.47, -0.25, YAW, 1.5, 0.3, 0.3)
BINS = (Bin(0, "right", 0.8, 0.18), Bin(1, "right", 1.15, 0.18))
BOX = Part(0, "box", (0.035, 0.025, 0.03), 0.3, 0.5, 0.0)
LYING = Part(0, "lying", (0.025, 0.025, 0.04), 0.3, 0.5, 0.0)
START_Y = -0.92  # where parts enter the belt, 0.08 m from its start


def make_layout(
    parts: tuple[Part, ...] = (BOX,),
    tool: tuple[float, float] = (0.345, 0.3),
    belt: Belt = BELT,
    bins: tuple[Bin, ...] = BINS,
    loads: tuple[Pose, ...] | None = None,
) -> Layout:
    details = ConveyorDetails(belt, bins, parts, ("right",))
    goals = tuple(Pose(*details.locate_bin(details.find_bin(index)), belt.yaw) for index in range(len(parts)))
    loads = loads or (Pose(belt.x, START_Y),) * len(parts)
    return Layout(HALL, Pose(*tool), loads, goals[0], surface="cell", more_goals=goals[1:], details=details)


@pytest.fixture
def env() -> Iterator[GroundEnv]:
    env = GroundEnv(SCENE)
    yield env
    env.close()


def run(env: GroundEnv, actions: Any, layout: Layout | None = None, poses: np.ndarray | None = None) -> list[dict[str, Any]]:
    """Run actions, from the start of a layout if there is one, and return the infos."""
    infos = [env.reset(seed=0, options={"layout": layout, "poses": poses})[1]] if layout else []
    for action in actions:
        _, _, success, truncated, info = env.step(np.array(action))
        infos.append({**info, "over": success or truncated})
        if infos[-1]["over"]:
            break
    return infos


def follow(env: GroundEnv, behaviour: str, layout: Layout) -> list[dict[str, Any]]:
    observation, info = env.reset(seed=0, options={"layout": layout})
    policy = scenes[SCENE].behaviours[behaviour]()
    policy.start_episode(env.make_episode_start(0))
    infos, is_over = [info], False
    while not is_over:
        observation, _, success, truncated, info = env.step(policy.predict(observation)[0])
        infos.append(info)
        is_over = success or truncated
    return infos


def get_world(env: GroundEnv) -> Any:
    return env._world


WAIT = [(0.0, 0.0)]


def test_part_rides_at_the_speed_of_the_belt(env: GroundEnv) -> None:
    run(env, WAIT * 5, make_layout((BOX, replace(LYING, arrival_s=1.0))))
    assert env.bodies.present[: LOAD + 2].tolist() == [1, 1, 0]
    assert env.bodies.pose[LOAD + 1, 2] == pytest.approx(PARKED_Z_M)
    run(env, WAIT * 25)
    assert env.bodies.present[: LOAD + 2].tolist() == [1, 1, 1]
    np.testing.assert_allclose(env.bodies.pose[[LOAD, LOAD + 1], 1], (START_Y + 0.3 * 3.0, START_Y + 0.3 * 2.0), atol=2e-3)
    np.testing.assert_allclose(env.bodies.twist[[LOAD, LOAD + 1], 1], 0.3, rtol=0.02)
    np.testing.assert_allclose(env.bodies.pose[[LOAD, LOAD + 1], 2], (BELT_TOP_M + 0.03, BELT_TOP_M + 0.025), atol=1e-3)
    assert env.bodies.shape[[ROBOT, LOAD, LOAD + 1]].tolist() == [Shape.BOX, Shape.BOX, Shape.CYLINDER]


def test_part_that_nothing_pushes_is_missed_at_the_stop(env: GroundEnv) -> None:
    infos = run(env, WAIT * 100, make_layout((BOX, replace(BOX, arrival_s=0.6))))
    assert infos[-1]["over"]
    assert not infos[-1]["success"]
    assert len(infos) == pytest.approx(10 * (1.5 - 0.08) / 0.3 + 16, abs=8)  # until the second part has stood for 1 s
    assert not any(any(info["violations"].values()) for info in infos)
    assert get_world(env).read_outcome() is False
    assert env.bodies.pose[LOAD, 1] == pytest.approx(0.5 - 0.035, abs=0.012)  # turned or not
    assert env.bodies.pose[LOAD + 1, 1] < env.bodies.pose[LOAD, 1] - 0.04


@pytest.mark.parametrize("yaw", [YAW, -YAW])
@pytest.mark.parametrize("shape", ["box", "lying", "upright"])
def test_a_strike_sorts_a_part_into_its_bin(env: GroundEnv, shape: str, yaw: float) -> None:
    sign = math.copysign(1, yaw)
    part = Part(0, shape, (0.025, 0.025, 0.03), 0.3, 0.5, 0.0)
    bins = tuple(replace(bin_, side="right" if sign > 0 else "left") for bin_ in BINS)
    loads = (Pose(0.47, sign * START_Y, YAW),)
    layout = make_layout((part,), belt=replace(BELT, y=-0.25 * sign, yaw=yaw), bins=bins, loads=loads)
    infos = follow(env, "scripted", layout)
    assert infos[-1]["success"]
    assert get_world(env).read_outcome() is True
    assert not any(any(info["violations"].values()) for info in infos)
    assert env.bodies.pose[LOAD, 2] < BELT_TOP_M
    assert infos[-1]["cost"] == 0 < infos[0]["cost"]


def test_part_in_a_wrong_bin_is_a_violation(env: GroundEnv) -> None:
    layout = make_layout(bins=(replace(BINS[0], kind=1), replace(BINS[1], kind=0)))
    poses = np.array([(0.42, -0.28, 0), (0.47, -0.28, 0)])  # before the mouth of the first bin
    infos = run(env, [(0.7, 0.35)] * 6 + [(-0.5, 0.0)] * 10, layout, poses)
    assert infos[-1]["violations"] == {"tool_collision": False, "part_off_belt": False, "wrong_bin": True, "jam": False}
    assert not infos[-1]["success"]
    assert infos[-1]["over"]  # all parts have left the belt
    penalty = env.scene.task.compute_violation_penalty(env.bodies, np.zeros(3), env.cost_field)
    assert penalty == pytest.approx(env.scene.task.violation_weight)


def test_part_pushed_over_the_open_edge_is_off_the_belt(env: GroundEnv) -> None:
    poses = np.array([(0.56, -0.2, 0), (0.5, -0.2, 0)])
    infos = run(env, [(-1.0, 0.3)] * 8 + WAIT * 8, make_layout(), poses)
    assert infos[-1]["violations"] == {"tool_collision": False, "part_off_belt": True, "wrong_bin": False, "jam": False}
    assert infos[-1]["over"]
    assert env.bodies.pose[LOAD, 2] < BELT_TOP_M


def test_part_that_the_tool_holds_jams_the_belt(env: GroundEnv) -> None:
    poses = np.array([(0.47, 0.0, 0), (0.47, -0.1, 0)])
    infos = run(env, WAIT * 30, make_layout(), poses)
    jams = [index for index, info in enumerate(infos) if info["violations"]["jam"]]
    assert jams
    assert 10 * JAM_S <= jams[0] <= 10 * JAM_S + 8
    assert not infos[-1]["over"]
    infos = run(env, [(-1.0, 0.0)] * 6)
    assert not infos[-1]["violations"]["jam"]  # it moves on


def test_hard_contact_of_the_tool_is_a_violation(env: GroundEnv) -> None:
    infos = run(env, [(1.0, 0.0)] * 6, make_layout(tool=(0.5, -0.42)))
    assert any(info["violations"]["tool_collision"] for info in infos)
    infos = run(env, WAIT * 5, make_layout(tool=(0.5, -0.4)))
    assert not any(info["violations"]["tool_collision"] for info in infos)


def test_the_tool_stays_in_its_zone(env: GroundEnv) -> None:
    for action in ((-1.0, -1.0), (-1.0, 1.0)):
        run(env, [action] * 12, make_layout(tool=(0.4, 0.0)))
        position = env.bodies.pose[ROBOT, :2]
        for value, (low, high) in zip(position, TOOL_ZONE_M, strict=True):
            assert low - 0.02 < value < high + 0.02


def test_lying_cylinder_rests_on_a_stopped_belt_and_on_a_moving_one(env: GroundEnv) -> None:
    poses = np.array([(0.345, 0.4, 0), (0.47, -0.2, YAW), (0.47, 0.0, 0)])
    layout = make_layout((LYING, LYING), loads=(Pose(0.4, START_Y), Pose(0.54, START_Y)))
    env.reset(seed=0, options={"layout": layout, "poses": poses})
    get_world(env)._belt.speed_m_s = 0.0
    run(env, WAIT * 10)
    before = env.bodies.pose[[LOAD, LOAD + 1], :2].copy()
    run(env, WAIT * 50)
    assert np.abs(env.bodies.pose[[LOAD, LOAD + 1], :2] - before).max() < 1e-3


def test_part_waits_while_its_place_is_taken(env: GroundEnv) -> None:
    layout = make_layout((BOX, replace(BOX, arrival_s=0.5)), tool=(0.345, -0.3))
    blocked = np.array([(0.47, -0.35, 0), (0.47, START_Y, 0)])
    env.reset(seed=0, options={"layout": layout, "poses": blocked})
    get_world(env)._belt.speed_m_s = 0.0
    for _ in range(10):
        env.step(np.zeros(2))
        if env.step_count == 2:  # the belt has stopped the first part at the entry
            assert env.bodies.present[LOAD + 1] == 0
    assert env.bodies.present[LOAD + 1] == 0
    get_world(env)._belt.speed_m_s = 0.3
    run(env, WAIT * 8)
    assert env.bodies.present[LOAD + 1] == 1


def test_parts_at_rest_in_a_bin_are_frozen(env: GroundEnv) -> None:
    layout = make_layout((BOX, replace(BOX, arrival_s=5.0)))
    poses = np.array([(0.42, -0.28, 0), (0.47, -0.28, 0)])
    run(env, [(0.7, 0.35)] * 6 + [(-0.5, 0.0)] * 14, layout, poses)
    world = get_world(env)
    assert world._status == [Status.FROZEN, Status.WAITING]
    assert world._client.getDynamicsInfo(world._loads[0], -1)[0] == 0
    before = env.bodies.pose[LOAD].copy()
    run(env, WAIT * 10)
    np.testing.assert_array_equal(env.bodies.pose[LOAD], before)


def test_same_layout_and_actions_give_the_same_bytes() -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 2))
    poses = []
    for _ in range(2):
        env = GroundEnv(SCENE)
        run(env, actions, sample_layout("shift-denser", 3))
        poses.append(env.bodies.pose.tobytes() + env.bodies.twist.tobytes())
        env.close()
    assert poses[0] == poses[1]


@pytest.mark.parametrize("steps", [12, 45])
def test_a_restored_state_continues_equally(env: GroundEnv, steps: int) -> None:
    layout = sample_layout("shift-denser", 1)
    observation, _ = env.reset(seed=0, options={"layout": layout})
    policy = scenes[SCENE].behaviours["scripted"]()
    policy.start_episode(env.make_episode_start(0))
    for _ in range(steps):
        observation, *_ = env.step(policy.predict(observation)[0])
    state, actions = env.read_state(), [(0.5, 0.3)] * 5 + [(-0.4, 0.1)] * 5
    world = scenes[SCENE].create_world()
    ends = []
    for _ in range(2):
        world.restore_episode(env.scene, layout, env.variation, 0, state)
        again = world.read_state()
        np.testing.assert_allclose(again.pose, state.pose, atol=1e-9)
        assert again.memory == state.memory
        for action in actions:
            world.step(action, 0.1)
        ends.append(world.read_state())
    world.close()
    run(env, actions)
    assert ends[0].pose.tobytes() == ends[1].pose.tobytes()
    assert ends[0].memory == ends[1].memory
    np.testing.assert_allclose(ends[0].pose[:, :3], env.read_state().pose[:, :3], atol=0.01)
    assert ends[0].memory.status == env.read_state().memory.status


def test_inertia_is_that_which_bullet_computes(env: GroundEnv) -> None:
    parts = tuple(Part(0, shape, (0.03, 0.03, 0.04), 0.4, 0.5, 0.0) for shape in ("box", "lying", "upright"))
    client = scenes[SCENE].create_world()._client  # type: ignore[attr-defined]
    for part in parts:
        size = {"halfExtents": [*part.half_extents]} if part.shape == "box" else {"radius": 0.03, "height": 0.08}
        kind = client.GEOM_BOX if part.shape == "box" else client.GEOM_CYLINDER
        body = client.createMultiBody(0.4, client.createCollisionShape(kind, **size))
        np.testing.assert_allclose(compute_inertia(part, 0.4), client.getDynamicsInfo(body, -1)[2], rtol=0.02)


def test_task_is_equal_in_numpy_and_torch(env: GroundEnv) -> None:
    layout = sample_layout("shift-denser", 2)
    observation, _ = env.reset(seed=0, options={"layout": layout})
    states = []
    policy = scenes[SCENE].behaviours["poke"]()
    policy.start_episode(env.make_episode_start(0))
    for _ in range(60):
        observation, *_ = env.step(policy.predict(observation)[0])
        states.append(env.bodies.map(np.copy))
    task, field, goal = env.scene.task, env.cost_field, observation["goal"]
    rows = slice(env.num_dynamic)
    batch = Bodies(
        **{name: torch.as_tensor(np.stack([getattr(s, name)[rows] for s in states]))[None] for name in vars(states[0])}
    )
    tensors = field.map(torch.as_tensor)
    for name in ("compute_cost", "compute_violation_penalty"):
        single = [
            float(getattr(task, name)(state, np.zeros(3), *([goal] if name == "compute_cost" else []), field)) for state in states
        ]
        arguments = [torch.as_tensor(goal)] if name == "compute_cost" else []
        together = getattr(task, name)(batch, torch.zeros(3), *arguments, tensors)
        assert together.shape == (1, 60)
        assert together.dtype == torch.float32
        np.testing.assert_allclose(together[0].numpy(), single, rtol=2e-4, atol=1e-5)
    assert not task.is_success(batch, torch.as_tensor(goal)).any()
    assert task.compute_goal_features(states[-1], goal).shape == (task.num_goal_features,)


def test_success_needs_all_parts_also_those_that_have_not_arrived(env: GroundEnv) -> None:
    layout = make_layout((BOX, replace(BOX, kind=1, arrival_s=3.0)))
    observation, _ = env.reset(seed=0, options={"layout": layout})
    task, goal = env.scene.task, observation["goal"]
    pose, present = env.bodies.pose.copy(), env.bodies.present.copy()
    pose[LOAD, :3] = (*goal[0, :2], 0.04)
    bodies = replace(env.bodies, pose=pose, present=present)
    assert not task.is_success(bodies, goal)
    assert not task.is_success(bodies.map(lambda values: values[: LOAD + 1]), goal)
    assert task.compute_cost(bodies, np.zeros(2), goal, env.cost_field) == 0  # it counts neither for nor against
    present[LOAD + 1] = 1
    pose[LOAD + 1, :3] = (*goal[1, :2], 0.04)
    assert task.is_success(bodies, goal)
    pose[LOAD + 1, :3] = (*goal[0, :2], 0.04)
    assert not task.is_success(bodies, goal)


def test_cost_falls_as_a_part_comes_to_its_bin_until_it_is_lost(env: GroundEnv) -> None:
    observation, _ = env.reset(seed=0, options={"layout": make_layout()})
    task, goal, field = env.scene.task, observation["goal"], env.cost_field

    def compute_cost(part: tuple[float, float], tool: tuple[float, float]) -> float:
        pose = env.bodies.pose.copy()
        pose[LOAD, :2], pose[ROBOT, :2] = part, tool
        return float(task.compute_cost(replace(env.bodies, pose=pose), np.zeros(2), goal, field))

    mouth_y = -1.0 + 0.8
    behind = -0.025 - 0.035 - 0.01
    assert compute_cost((0.55, mouth_y), (0.55 + behind, mouth_y)) < compute_cost((0.47, mouth_y), (0.47 + behind, mouth_y))
    for x in (0.4, 0.47, 0.6):  # it does not pay to hold a part back
        costs = [compute_cost((x, y), (x + behind, y)) for y in np.linspace(-0.9, mouth_y, 20)]
        assert (np.diff(costs) < 0).all()
        assert costs[0] < task.lost_cost
    assert compute_cost((0.47, mouth_y), (0.4, mouth_y)) < compute_cost((0.47, mouth_y), (0.35, mouth_y))
    assert compute_cost((0.47, mouth_y), (0.4, mouth_y)) < compute_cost((0.47, mouth_y), (0.55, mouth_y))  # on the wrong side
    assert compute_cost((0.47, mouth_y + 0.12), (0.4, mouth_y)) == pytest.approx(task.lost_cost)


def test_indicators_of_known_episodes(env: GroundEnv) -> None:
    layout = make_layout((BOX, replace(BOX, kind=1, arrival_s=1.0), replace(BOX, kind=1, arrival_s=2.0)))
    observation, _ = env.reset(seed=0, options={"layout": layout})
    goal, states = observation["goal"], env.bodies.map(lambda values: np.stack([values[:4]] * 31))
    states.present[:] = 1
    states.pose[-1, LOAD:, :3] = [(*goal[0, :2], 0.04), (*goal[0, :2], 0.04), (0.47, 0.4, 0.15)]
    values = INDICATORS.compute(states, env.cost_field, 1.0, 0.1)
    assert values == pytest.approx({"throughput": 20.0, "purity": 0.5, "missed": 1.0})
    assert set(values) == set(INDICATORS.descriptions)


def test_data_collection_starts_near_parts(env: GroundEnv) -> None:
    rng = np.random.default_rng(0)
    for index in range(5):
        layout = sample_layout("shift-denser", index)
        poses = sample_near_start(layout, rng)
        assert poses is not None
        run(env, WAIT * 2, layout, poses)
        count = len(poses)
        assert env.bodies.present[:count].all()
        moved = (np.array(layout.details.belt_velocity) * 0.2)[:2]  # type: ignore[union-attr]
        offsets = env.bodies.pose[LOAD:count, :2] - poses[LOAD:, :2] - moved
        assert np.median(np.abs(offsets)) < 5e-3


def test_a_step_costs_little_more_than_bare_stepping(env: GroundEnv) -> None:
    run(env, WAIT * 60, sample_layout("shift-denser", 0))
    world = get_world(env)
    state = world.read_state()

    def measure(function: Any) -> float:
        times = []
        for _ in range(15):
            world.set_state(state)
            start = time.process_time()
            function()
            times.append(time.process_time() - start)
        return min(times)

    def step_bare() -> None:
        """Step the same bodies: the belt moves, and so does the arm."""
        world._robot.set_motors(command)
        for _ in range(24):
            world._belt.drive()
            world._client.stepSimulation()

    command = world._robot.compute_command((0.3, 0.1))
    ratio = measure(lambda: env.step(np.array([0.3, 0.1]))) / measure(step_bare)
    assert ratio < 2.5  # about 1.4 on an idle machine


def test_bodies_of_a_layout_are_observed_with_the_speed_of_the_belt(env: GroundEnv) -> None:
    env.reset(seed=0, options={"layout": make_layout()})
    static = env.bodies.is_static
    kinds = env.bodies.kind[static]
    assert np.bincount(kinds)[[Kind.BELT, Kind.BIN, Kind.STATION]].tolist() == [1, 8, 4]
    belt = np.flatnonzero(static)[kinds == Kind.BELT][0]
    np.testing.assert_allclose(env.bodies.twist[belt], (0, 0.3, 0, 0, 0, 0), atol=1e-6)
    assert compute_yaw(env.bodies.pose[belt, 3:]) == pytest.approx(YAW, abs=1e-6)


LAYOUT = make_layout((BOX, replace(BOX, arrival_s=1.0)))


def change(**changes: Any) -> Layout:
    return replace(LAYOUT, details=replace(LAYOUT.details, **changes))  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("layout", "fault"),
    [
        (change(belt=replace(BELT, length_m=0.0)), "details.belt.length_m is 0, 0.3 to 10 is needed"),
        (change(belt=replace(BELT, yaw=0.0)), "details.belt.yaw is 0: the paddle needs a belt along y, ±π/2"),
        (change(bins=(BINS[0], replace(BINS[1], along_m=0.2))), "details.bins[1]: its mouth at (0.57, -0.80) is out of the"),
        (change(bins=(BINS[0], replace(BINS[1], along_m=0.9))), "details.bins[0] overlaps details.bins[1]"),
        (change(bins=(BINS[0], replace(BINS[1], kind=0))), "details.bins: 2 bins have the kind 0"),
        (change(bins=(replace(BINS[0], side="up"), BINS[1])), "details.bins[0].side is 'up', 'left' or 'right' is needed"),
        (change(bins=()), "details.bins has 0 bins, 1 to 4 are needed"),
        (change(parts=(BOX, replace(BOX, kind=5))), "details.parts[1] has the kind 5, which no bin has"),
        (change(parts=(BOX, BOX)), "loads[1] overlaps loads[0] when it enters the belt"),
        (change(parts=(replace(BOX, arrival_s=2.0), BOX)), "details.parts: the arrival times are not in rising order"),
        (change(parts=(BOX,)), "loads, details.parts and goals differ in number: 2, 1 and 2"),
        (change(parts=(replace(BOX, mass_kg=-1.0), BOX)), "details.parts[0].mass_kg is -1, 0.01 to 20 is needed"),
        (replace(LAYOUT, robot=Pose(0.9, 0.0)), "robot at (0.9, 0) is beyond the reach of the arm"),
        (replace(LAYOUT, goal=Pose(0.7, 0.0, YAW)), "goal 0 at (0.7, 0) is not the middle of its bin"),
        (replace(LAYOUT, loads=(Pose(0.47, START_Y), Pose(0.34, START_Y))), "loads[1] is not on the belt"),
        (replace(LAYOUT, details=None), "details of the kind 'conveyor-sort' are needed"),
        (replace(LAYOUT, surface="hall"), "surface is 'hall', 'cell' is needed"),
    ],
)  # fmt: skip
def test_faults_of_layouts_are_named(layout: Layout, fault: str) -> None:
    assert find_faults(LAYOUT) == []
    faults = find_faults(layout)
    assert len(faults) == 1
    assert faults[0].startswith(fault)
    assert "\n" not in faults[0]


@given(st.sampled_from(list(SPLIT_SPECS)), st.integers(0, 300))
def test_layouts_are_equal_after_a_round_trip_in_json(split: str, index: int) -> None:
    layout = sample_layout(split, index)
    content = json.loads(json.dumps(layout.to_json()))
    assert content["details"]["kind"] == "conveyor-sort"
    again = Layout.from_json(content)
    assert again == layout
    assert again.id == layout.id
    assert find_faults(again) == []


@given(
    st.sampled_from(["belt", "bins", "parts", "rails"]),
    st.one_of(st.none(), st.integers(-3, 3), st.floats(), st.text(max_size=3), st.just([])),
)
def test_any_value_in_the_details_is_read_or_refused(name: str, value: Any) -> None:
    content = json.loads(json.dumps(LAYOUT.to_json()))
    content["details"][name] = value
    with contextlib.suppress(BadLayout):
        assert all("\n" not in fault for fault in find_faults(Layout.from_json(content)))


def test_variations_are_factors_on_all_parts(env: GroundEnv) -> None:
    changes = {"load_scale": 1.2, "load_mass_kg": 0.6, "load_friction": 0.25}
    env.reset(seed=0, options={"layout": make_layout(), "variation": changes})
    np.testing.assert_allclose(env.bodies.half_extents[LOAD], 1.2 * np.array(BOX.half_extents), atol=1e-6)
    part = get_world(env)._parts[0]
    assert (part.mass_kg, part.friction) == pytest.approx((2 * BOX.mass_kg, 0.5 * BOX.friction))


def test_documented_layout_is_simulated(env: GroundEnv) -> None:
    page = Path(__file__).parents[1] / "docs" / "scenes" / "conveyor-sort.md"
    (block,) = re.findall(r"^```json\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    layout = Layout.from_json(json.loads(block))
    assert scenes[SCENE].find_faults(layout) == []
    assert scenes.find_by_layout(layout).name == SCENE
    assert follow(env, "scripted", layout)[-1]["success"]


def test_shifts_are_harder() -> None:
    def mean(split: str, measure: Any) -> float:
        return sum(measure(sample_layout(split, index).details) for index in range(20)) / 20

    assert (
        mean("shift-faster", lambda details: details.belt.speed_m_s) > mean("test", lambda details: details.belt.speed_m_s) + 0.1
    )
    assert mean("shift-denser", lambda details: len(details.parts)) > mean("test", lambda details: len(details.parts)) + 1.5
    friction = [mean(split, lambda details: details.parts[0].friction) for split in ("shift-slippery", "test")]
    assert friction[0] < 0.5 * friction[1]
