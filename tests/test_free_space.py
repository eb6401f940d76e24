"""Free space of a disc, and verdicts that do not depend on the place of a passage on the grid."""

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.costmaps.pushing import PushingField, build_pushing_field
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.free_space import FreeSpace, get_free_space
from sim.layout import AgentRoute, Box, Hall, Layout, Pose
from sim.scenes.aisle_traffic import layouts as aisles
from sim.scenes.push_fixture import layouts as fixture
from sim.scenes.scene import scenes
from sim.scenes.tote_push.layouts import LOAD_HALF_M, ROBOT_RADIUS_M
from sim.utils.errors import BadLayout

HALL = Layout(Hall(0, 0, 8, 6), Pose(1, 1), (Pose(2, 3),), Pose(6.5, 3))
PERSON = AgentRoute(2, 5, 0, "person", 1.0, (Pose(6, 5), Pose(2, 5)))
TRAFFIC = replace(HALL, loads=(), traffic=(PERSON,))


def make_door(layout: Layout, width_m: float, y: float = 3.0) -> Layout:
    """Add a wall with a door around (4.5, y)."""
    low, high = y - width_m / 2, y + width_m / 2
    walls = (Box(4.5, low / 2, 0.1, low, kind="wall"), Box(4.5, (6 + high) / 2, 0.1, 6 - high, kind="wall"))
    return replace(layout, boxes=walls)


def find_faults(scene: str, layout: Layout) -> list[str]:
    return scenes[scene].find_faults(layout)


@given(st.floats(0.3, 1.5), st.floats(1.5, 4.5), st.floats(0.1, 0.6))
def test_a_disc_passes_a_door_that_is_wider_than_itself(width_m: float, y: float, radius_m: float) -> None:
    space = get_free_space(make_door(HALL, width_m, y).static_boxes, radius_m)
    if abs(width_m - 2 * radius_m) > 0.002:
        assert space.connects((1, 3), (7, 3)) == (width_m > 2 * radius_m)


@given(st.integers(0, 20), st.lists(st.floats(0.3, 5.7), min_size=2, max_size=2))
def test_a_point_is_in_free_space_where_its_clearance_is_the_radius(index: int, xy: Sequence[float]) -> None:
    boxes = scenes["tote-push"].sample_layout("test", index).static_boxes
    clearance = float(compute_signed_distance(np.array(xy), boxes))
    if abs(clearance - 0.29) > 0.012:
        assert bool(FreeSpace(boxes, 0.3).find_areas(xy)) == (clearance > 0.29)


@pytest.mark.parametrize(("scene", "layout"), [("tote-push", HALL), ("aisle-traffic", TRAFFIC)])
@pytest.mark.parametrize(("width_m", "is_passable"), [(0.62, False), (0.65, False), (0.7, True), (0.75, True)])
def test_a_door_has_the_same_verdict_wherever_it_lies_on_the_grid(
    scene: str, layout: Layout, width_m: float, is_passable: bool
) -> None:
    verdicts = [not find_faults(scene, make_door(layout, width_m, 3 + shift / 100)) for shift in range(10)]
    assert verdicts == [is_passable] * 10


@pytest.mark.parametrize("scene", ["tote-push", "aisle-traffic"])
@pytest.mark.parametrize("degrees", [15, 30, 45])
@pytest.mark.parametrize(("width_m", "is_passable"), [(0.65, False), (0.7, True), (0.75, True)])
def test_a_door_at_an_angle_has_the_same_verdict_wherever_it_lies(
    scene: str, degrees: float, width_m: float, is_passable: bool
) -> None:
    yaw = np.radians(degrees)

    def make_wall(start_m: float, end_m: float) -> Box:  # it reaches beyond the hall
        middle = (start_m + end_m) / 2
        return Box(4.5 - np.sin(yaw) * middle, 3 + np.cos(yaw) * middle, 0.1, end_m - start_m, yaw, kind="wall")

    layout = replace(HALL, loads=(Pose(6, 3),), goal=Pose(7, 4.5)) if scene == "tote-push" else replace(HALL, loads=())
    for shift_m in (0.0, 0.01, 0.04, 0.07):
        walls = (make_wall(-9, shift_m - width_m / 2), make_wall(shift_m + width_m / 2, 9))
        assert (not find_faults(scene, replace(layout, boxes=walls))) == is_passable


def test_the_cost_to_go_leads_through_a_narrow_door() -> None:
    layout = make_door(HALL, 0.7, 3.07)
    field = build_field(layout)
    before, behind = (float(field.compute_cost_to_go(np.array([x, 3.07]), np.array([x - 0.5, 3.07]))) for x in (3.5, 5.5))
    assert before == pytest.approx(behind + 2, abs=1.0)
    assert find_faults("tote-push", layout) == []


def build_field(layout: Layout) -> PushingField:
    boxes = layout.static_boxes[:, [0, 1, 2, 3, 4, 6]]
    return build_pushing_field(boxes, np.array([layout.goal.x, layout.goal.y]), LOAD_HALF_M, ROBOT_RADIUS_M)


def test_stops_that_an_agent_cannot_reach_are_faults() -> None:
    shut = replace(TRAFFIC, boxes=(Box(4.5, 3, 0.1, 6, kind="wall"),), goal=Pose(3.5, 3))
    assert find_faults("aisle-traffic", shut) == ["traffic[0].stops[0] cannot be reached by a person from its start"]
    assert find_faults("aisle-traffic", replace(shut, traffic=(replace(PERSON, stops=(Pose(3, 1), Pose(2, 5))),))) == []
    door = make_door(TRAFFIC, 0.8)  # a person fits, a forklift does not
    assert find_faults("aisle-traffic", door) == []
    forklift = replace(PERSON, kind="forklift", x=2.0, y=4.5)
    assert "by a forklift" in find_faults("aisle-traffic", replace(door, traffic=(forklift,)))[0]


@pytest.mark.parametrize("split", ["test", "shift-dense", "shift-blocked-aisles"])
def test_sampled_agents_reach_all_their_stops(split: str) -> None:
    for index in range(25):
        assert find_faults("aisle-traffic", aisles.sample_layout(split, index)) == []


def test_tasks_in_two_rooms_have_agents_that_reach_their_stops() -> None:
    layout = make_door(HALL, 0.3)
    for seed in range(3):
        task = aisles.make_task(layout.hall, layout.boxes, seed=seed)
        assert find_faults("aisle-traffic", task) == []


def test_loads_may_touch_and_not_overlap() -> None:
    def check(*loads: Pose) -> list[str]:
        return find_faults("tote-push", replace(HALL, loads=loads))

    assert check(Pose(2, 3), Pose(2.5, 3)) == []  # 0.5 m wide: they touch
    assert check(Pose(2, 3), Pose(2.49, 3)) == ["loads[1] overlaps loads[0]"]
    assert check(Pose(2, 3), Pose(2.45, 3, np.pi / 2)) == []  # 0.25 + 0.2 m
    assert check(Pose(2, 3), Pose(2.45, 3, np.pi / 4)) == ["loads[1] overlaps loads[0]"]
    corner = replace(HALL, boxes=(Box(2.35, 3.3, 0.3, 0.3, yaw=np.pi / 4),))  # only its corner is in the load
    assert find_faults("tote-push", corner) == ["loads[0] overlaps boxes[0]"]


@pytest.mark.parametrize("offset_m", [0.0, 0.0025, 0.005])
def test_a_part_may_touch_a_clamp_and_not_overlap_it(offset_m: float) -> None:
    table = Layout(fixture.TABLE, Pose(0.35, -0.3), (Pose(0.5, -0.1),), Pose(0.5, 0.2), (), "", "table", "plate")

    def check(depth_m: float) -> list[str]:
        thin_clamp = Box(0.53 + offset_m, -0.16 + depth_m, 0.001, 0.06)
        return find_faults("push-fixture", replace(table, boxes=(thin_clamp,)))

    assert check(0.0) == []
    assert check(0.002) == check(0.008) == ["the part at loads[0] overlaps boxes[0]"]
    assert find_faults("push-fixture", replace(table, part="T", robot=Pose(0.56, -0.1))) == [
        "the tool overlaps the part at loads[0]"
    ]


def test_agents_may_not_overlap() -> None:
    forklift = AgentRoute(3, 4, 0.0, "forklift", 1.0, (Pose(6, 4), Pose(3, 4)))
    person = replace(PERSON, x=3.8, y=4.0)
    ahead = replace(TRAFFIC, traffic=(forklift, person))
    assert find_faults("aisle-traffic", ahead) == ["traffic[1] overlaps traffic[0]"]
    assert find_faults("aisle-traffic", replace(ahead, traffic=(replace(forklift, yaw=np.pi / 2), person))) == []


def test_angles_are_in_radians() -> None:
    with pytest.raises(BadLayout, match=r"robot\.yaw is 90: angles are in radians, at most 2π"):
        Layout.from_json({**HALL.to_json(), "robot": {"x": 1, "y": 1, "yaw": 90}})


def test_a_hall_of_20_m_starts_in_seconds() -> None:
    boxes = tuple(Box(2.0 + 4 * i, 2.5 + 5 * j, 1.6, 0.5) for i in range(5) for j in range(4))
    hall = Layout(Hall(0, 0, 20, 20), Pose(0.8, 0.8), (Pose(2, 1.3),), Pose(16.5, 18.8), boxes)
    started = time.process_time()
    field = build_field(hall)
    assert time.process_time() - started < 5
    assert sum(table.nbytes for table in (field.pushing_cost, field.approach_cost, field.clearance, field.min_cost)) < 50e6
