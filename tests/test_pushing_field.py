"""The pushing field: geometry, lookups and behaviour near walls, racks and the goal."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sim.bodies import Bodies
from sim.costmaps import pushing
from sim.costmaps.pushing import PushingField, build_pushing_field, get_pushing_field
from sim.env import GroundEnv
from sim.geometry.boxes import compute_signed_distance, find_closest_points
from sim.layout import Box, Hall, Layout, Pose
from sim.scenes.scene import scenes
from sim.scenes.tote_push.layouts import LOAD_HALF_M, ROBOT_RADIUS_M
from sim.scenes.tote_push.task import PushTask

SIZE = 6.0
EMPTY = Layout(Hall(0, 0, SIZE, SIZE), Pose(1, 1), (Pose(3, 3),), Pose(4, 3))
PUSHING = [name for name in scenes if isinstance(scenes[name].task, PushTask)]
# uneven numbers, so that no cell is exactly on a limit, where rounding would decide
RACKS = replace(
    EMPTY, boxes=(Box(2.013, 3.021, 0.517, 1.532), Box(4.407, 1.519, 1.223, 0.611), Box(4.03, 4.51, 1.07, 0.43, yaw=0.7))
)
LOOKUPS = ("compute_cost_to_go", "compute_pushing_cost", "compute_approach_cost")
inside = st.floats(0.8, SIZE - 0.8)
angles = st.floats(-math.pi, math.pi)


@lru_cache
def build_field(layout: Layout) -> PushingField:
    boxes = layout.static_boxes[:, [0, 1, 2, 3, 4, 6]]
    return build_pushing_field(boxes, np.array([layout.goal.x, layout.goal.y]), LOAD_HALF_M, ROBOT_RADIUS_M)


def sample_points(low: float, high: float, count: int = 500) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.uniform(low, high, (count, 2)), rng.uniform(low, high, (count, 2))


@given(inside, inside)
def test_the_cost_rises_from_behind_the_load_to_beside_and_in_front_of_it(x: float, y: float) -> None:
    load, goal = np.array([x, y]), np.array([EMPTY.goal.x, EMPTY.goal.y])
    direction = goal - load
    assume(np.linalg.norm(direction) > 0.5)
    direction /= np.linalg.norm(direction)
    cost_field = build_field(EMPTY)
    behind, beside, front = (
        cost_field.compute_cost_to_go(load, load + cost_field.contact_distance_m * side)
        for side in (-direction, direction[::-1] * (-1, 1), direction)
    )
    assert behind < beside < front
    assert np.linalg.norm(goal - load) - 0.2 < behind


@given(st.floats(1.0, 2.0), st.floats(0.2, 0.8), st.floats(2, 4))
def test_the_cost_falls_along_a_push(start: float, step: float, y: float) -> None:
    cost_field = build_field(replace(EMPTY, goal=Pose(5, 3)))
    behind = np.array([cost_field.contact_distance_m, 0])
    costs = [cost_field.compute_cost_to_go(load, load - behind) for load in (np.array([start + i * step, y]) for i in range(3))]
    assert costs[0] > costs[1] > costs[2]


@pytest.mark.parametrize("shift", [(100.0, -40.0), (-3.7, 0.13), (0.05, 0.05)])
@pytest.mark.parametrize("layout", [EMPTY, RACKS])
def test_a_shifted_hall_has_the_same_field(layout: Layout, shift: tuple[float, float]) -> None:
    x, y = shift
    shifted = Layout(
        Hall(x, y, SIZE, SIZE), Pose(1 + x, 1 + y), (Pose(3 + x, 3 + y),), Pose(layout.goal.x + x, layout.goal.y + y),
        tuple(replace(box, x=box.x + x, y=box.y + y) for box in layout.boxes),
    )  # fmt: skip
    loads, robots = sample_points(0.3, SIZE - 0.3)
    for lookup in LOOKUPS:
        before, after = (
            getattr(build_field(layout), lookup)(loads, robots),
            getattr(build_field(shifted), lookup)(loads + shift, robots + shift),
        )
        np.testing.assert_allclose(after, before, atol=2e-3)
    np.testing.assert_allclose(
        build_field(shifted).compute_clearance(loads + shift), build_field(layout).compute_clearance(loads), atol=1e-4
    )


def test_a_mirrored_hall_has_the_mirrored_field() -> None:
    mirrored = replace(
        RACKS, goal=Pose(SIZE - 4, 3), boxes=tuple(replace(box, x=SIZE - box.x, yaw=-box.yaw) for box in RACKS.boxes)
    )
    loads, robots = sample_points(0.3, SIZE - 0.3)
    flip = lambda xy: np.stack([SIZE - xy[:, 0], xy[:, 1]], -1)  # noqa: E731
    free = build_field(RACKS).compute_clearance(loads) > 0.35  # inside a rack the nearest free cell may lie on two sides
    before, after = (
        build_field(RACKS).compute_pushing_cost(loads, robots),
        build_field(mirrored).compute_pushing_cost(flip(loads), flip(robots)),
    )
    np.testing.assert_allclose(after[free], before[free], rtol=1e-4, atol=1e-4)
    assert free.mean() > 0.3


@pytest.mark.parametrize("lookup", LOOKUPS)
def test_numpy_and_torch_agree(lookup: str) -> None:
    loads, robots = sample_points(-1, SIZE + 1)
    cost_field = build_field(RACKS)
    torch_field = cost_field.map(lambda values: torch.as_tensor(np.asarray(values)).to(torch.float32))
    expected = getattr(cost_field, lookup)(loads.astype(np.float32), robots.astype(np.float32))
    actual = getattr(torch_field, lookup)(
        torch.as_tensor(loads, dtype=torch.float32), torch.as_tensor(robots, dtype=torch.float32)
    )
    assert actual.shape == (500,)
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-4, atol=1e-4)


def test_batches_of_any_shape_give_the_values_of_single_points() -> None:
    loads, robots = sample_points(0.3, SIZE - 0.3, 24)
    cost_field = build_field(RACKS)
    batch = cost_field.compute_cost_to_go(loads.reshape(2, 3, 4, 2), robots.reshape(2, 3, 4, 2))
    assert batch.shape == (2, 3, 4)
    single = [cost_field.compute_cost_to_go(load, robot) for load, robot in zip(loads, robots, strict=True)]
    np.testing.assert_allclose(batch.ravel(), single)


@pytest.mark.parametrize(("flush", "robot"), [((5.75, 3.0), (-1, 0)), ((0.25, 3.0), (1, 0)), ((3.0, 5.75), (0, -1))])
def test_a_load_flush_against_a_wall_is_costly_to_push_away_from_it(flush: tuple[float, float], robot: tuple[int, int]) -> None:
    cost_field = build_field(replace(EMPTY, goal=Pose(3, 3)))
    load, direction = np.array(flush), np.array([3.0, 3.0]) - flush
    contact = cost_field.contact_distance_m
    at_wall = cost_field.compute_cost_to_go(load, load + contact * np.array(robot))
    open_load = np.array([3.0, 3.0]) - 0.55 * direction  # the same side, with free space behind
    in_open = cost_field.compute_cost_to_go(open_load, open_load + contact * np.array(robot))
    assert at_wall > 2 * (in_open + 0.45 * np.linalg.norm(direction))


def test_a_rack_between_load_and_goal_raises_the_cost() -> None:
    load, robot = np.array([2.0, 3.0]), np.array([1.45, 3.0])
    wall = build_field(replace(EMPTY, boxes=(Box(3, 3, 0.3, 3),)))
    assert wall.compute_cost_to_go(load, robot) > build_field(EMPTY).compute_cost_to_go(load, robot) + 1
    far = np.array([4.5, 3.0])  # a robot beyond the rack must first drive around it
    assert wall.compute_approach_cost(load, far) > wall.compute_approach_cost(load, np.array([1.0, 4.5]))


def build_corridor_field(width: float) -> PushingField:
    """Build the field of a corridor along the lower wall, open at both ends; the goal is to its right."""
    return build_field(replace(EMPTY, goal=Pose(4.6, width / 2), boxes=(Box(3, width + 0.15, 3.4, 0.3),)))


def test_a_load_that_fills_a_corridor_has_to_be_driven_around() -> None:
    for width, least, greatest in ((1.0, 6, 12), (2.3, 0.5, 3)):
        load, robot = np.array([3.0, min(width / 2, 0.7)]), np.array([4.0, min(width / 2, 0.7)])
        assert least < build_corridor_field(width).compute_approach_cost(load, robot) < greatest


@given(st.floats(2.2, 3.8))
def test_no_route_leads_through_a_closed_gap(x: float) -> None:
    cost_field, load = build_corridor_field(1.0), np.array([x, 0.5])
    path = np.stack([np.linspace(x + 0.6, x - 0.6, 25), np.full(25, 0.36)], -1)  # between load and wall, too narrow for the robot
    costs = cost_field.compute_approach_cost(np.broadcast_to(load, path.shape), path)
    assert costs.max() >= costs[0] - 0.1, "the cost must not fall through the gap from the wrong side"
    assert costs[0] > costs[-1] + 2


@example(x=2.0, y=3.0, robot_x=1.0, robot_y=1.0, angle=0.0)  # had a jump of 65 mm within 1 mm
@given(inside, inside, inside, inside, angles)
def test_lookups_are_continuous(x: float, y: float, robot_x: float, robot_y: float, angle: float) -> None:
    assume(math.hypot(x - robot_x, y - robot_y) > 0.7)  # the push direction is undefined where both positions are equal
    load, robot = np.array([x, y]), np.array([robot_x, robot_y])
    direction = np.linspace(0, 0.25, 2501)[:, None] * (np.cos(angle), np.sin(angle))
    for lookup in LOOKUPS:
        for costs in (
            getattr(build_field(RACKS), lookup)(load + direction, robot + 0 * direction),
            getattr(build_field(RACKS), lookup)(load + 0 * direction, robot + direction),
        ):
            assert np.abs(np.diff(costs)).max() < 0.02, "cost jumps between samples 0.1 mm apart"


@given(st.floats(-50, 50), st.floats(-50, 50), st.floats(-50, 50), st.floats(-50, 50))
def test_lookups_are_finite_everywhere(x: float, y: float, robot_x: float, robot_y: float) -> None:
    for layout in (EMPTY, RACKS):
        for lookup in LOOKUPS:
            assert np.isfinite(getattr(build_field(layout), lookup)(np.array([x, y]), np.array([robot_x, robot_y])))
        assert np.isfinite(build_field(layout).compute_clearance(np.array([x, y])))


@pytest.mark.parametrize("scene", PUSHING)
def test_fields_of_sampled_layouts_are_finite_and_lowest_at_the_goal(scene: str) -> None:
    for split in scenes[scene].splits:
        layout = scenes[scene].sample_layout(split, 0)
        cost_field, hall = build_field(layout), layout.hall
        assert all(np.isfinite(values).all() for values in vars(cost_field).values())
        rng = np.random.default_rng(0)
        low, high = np.array([hall.x, hall.y]), np.array([hall.x + hall.width, hall.y + hall.depth])
        loads, robots = rng.uniform(low, high, (2, 500, 2))
        goal = np.array([layout.goal.x, layout.goal.y])
        at_goal = cost_field.pushing_cost[tuple(np.round((goal - cost_field.origin) / 0.1).astype(int))].min()
        assert at_goal < 0.2
        assert at_goal <= cost_field.compute_pushing_cost(loads, robots).min() + 0.1


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(0.1, 1), st.floats(0.1, 1), angles, st.floats(-4, 4), st.floats(-4, 4))
def test_clearance_is_the_distance_to_the_closest_point(
    x: float, y: float, half_width: float, half_depth: float, yaw: float, point_x: float, point_y: float
) -> None:
    point = np.array([point_x, point_y])
    closest = find_closest_points(point, np.array([x, y]), np.array(yaw), np.array([half_width, half_depth]))
    distance = np.linalg.norm(point - closest)
    clearance = compute_signed_distance(point, np.array([[x, y, yaw, half_width, half_depth]]))
    assert clearance == pytest.approx(distance, abs=1e-9) if distance > 1e-9 else clearance <= 1e-9


@pytest.mark.parametrize("scene", PUSHING)
def test_a_field_is_computed_once_per_layout_and_goal(scene: str) -> None:
    env = GroundEnv(scene, "test")
    first, _ = env.reset(seed=0, options={"index": 0})
    repeated, _ = env.reset(seed=1, options={"index": 0})
    different, _ = env.reset(seed=1, options={"index": 1})
    env.close()
    fields = [
        get_pushing_field(Bodies.from_observation(observation), observation["goal"])
        for observation in (first, repeated, different)
    ]
    assert fields[0] is fields[1]
    assert fields[0] is not fields[2]
    assert get_pushing_field(Bodies.from_observation(first), first["goal"] + 0.5) is not fields[0]


def test_the_coarse_approach_table_of_a_large_hall_is_close_to_the_fine_one(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = build_field(RACKS)
    monkeypatch.setattr(pushing, "FINE_HALL_M2", SIZE**2 / 3)
    coarse = build_field.__wrapped__(RACKS)
    assert (coarse.coarsening, fine.coarsening) == (2, 1)
    assert coarse.approach_cost.size < fine.approach_cost.size / 12
    np.testing.assert_array_equal(coarse.pushing_cost, fine.pushing_cost)
    np.testing.assert_array_equal(coarse.clearance, fine.clearance)
    loads, robots = sample_points(0.4, SIZE - 0.4, 2000)
    free = (fine.compute_clearance(loads) > 0.25) & (fine.compute_clearance(robots) > 0.35)
    difference = (coarse.compute_cost_to_go(loads, robots) - fine.compute_cost_to_go(loads, robots))[free]
    assert np.abs(difference).mean() < 0.4
    assert abs(difference.mean()) < 0.1
