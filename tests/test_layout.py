"""Layouts: files, faults and the families of every scene."""

import json
import math
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.bodies import Bodies
from sim.env import GroundEnv
from sim.layout import AgentRoute, Box, Hall, Layout, Pose, find_value_faults
from sim.scenes.scene import scenes
from sim.utils.errors import BadLayout, UnknownName

SPLITS = [(scene, split) for scene in scenes for split in scenes[scene].splits]
EMPTY = Layout(Hall(0, 0, 6, 6), Pose(1, 1, 0.5), (Pose(3, 3, 0.1),), Pose(4.5, 4.5), name="empty")


@st.composite
def layouts(draw: st.DrawFn) -> Layout:
    """Draw valid layouts anywhere on the floor: robot, load and goal below, boxes along the upper wall."""

    def number(low: float, high: float) -> float:
        return draw(st.floats(low, high))

    x, y, jitter = number(-200, 200), number(-200, 200), st.floats(-0.3, 0.3)
    places = [(x + column + draw(jitter), y + 2 + draw(jitter)) for column in (2, 4, 6)]
    kind = st.sampled_from(["rack", "wall"])
    boxes = [
        Box(x + number(0, 8), y + 7, number(0.1, 2), number(0.1, 2), number(-4, 4), number(0.1, 3), draw(kind))
        for _ in range(draw(st.integers(0, 4)))
    ]
    robot, load = (Pose(*place, number(-4, 4)) for place in places[:2])
    return Layout(Hall(x, y, 8, 8), robot, (load,), Pose(*places[2]), tuple(boxes), draw(st.text(max_size=10)))


@given(layouts())
def test_json_round_trip_is_equal(layout: Layout) -> None:
    reread = Layout.from_json(json.loads(json.dumps(layout.to_json())))
    assert reread == layout
    assert reread.id == layout.id


@given(layouts(), st.text(max_size=20))
def test_id_is_a_hash_of_the_content_without_the_name(layout: Layout, name: str) -> None:
    assert replace(layout, name=name).id == layout.id
    changes = [
        replace(layout, robot=replace(layout.robot, yaw=layout.robot.yaw + 0.01)),
        replace(layout, goal=replace(layout.goal, x=layout.goal.x + 0.01)),
        replace(layout, hall=replace(layout.hall, width=layout.hall.width + 0.01)),
        replace(layout, loads=(*layout.loads, layout.loads[0])),
        replace(layout, boxes=(*layout.boxes, Box(layout.hall.x, layout.hall.y, 0.1, 0.1))),
    ]
    assert len({layout.id, *(change.id for change in changes)}) == 1 + len(changes)


def test_file_round_trip_is_equal(tmp_path: Path) -> None:
    layout = scenes["logistics/tote-push"].sample_layout("test", 0)
    layout.save(tmp_path / "new" / "hall.json")
    assert Layout.load(tmp_path / "new" / "hall.json") == layout


def list_paths(tree: Any) -> list[tuple[Any, ...]]:
    """List the path of every value in a JSON tree."""
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    return [(), *((key, *rest) for key, value in items for rest in list_paths(value))]


AGENT = AgentRoute(4, 1, 0.2, "person", 1.1, (Pose(1, 4), Pose(5, 5)))
VALID = json.loads(json.dumps(replace(EMPTY, boxes=(Box(2, 5, 1, 0.5),), traffic=(AGENT,)).to_json()))
PATHS = [path for path in list_paths(VALID) if path]
OPTIONAL = ("name", "boxes", "yaw", "height", "kind", "surface", "part", "traffic", "more_goals", "format", "version")
REQUIRED = [path for path in PATHS if isinstance(path[-1], str) and path[-1] not in OPTIONAL and path[0] != "boxes"]
GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400) | st.floats(-10, 10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "yaw", "width", "z"]), inner, max_size=3)
    ),
    max_leaves=5,
)


def change_at(path: tuple[Any, ...], change: Any) -> dict[str, Any]:
    """Copy the valid file with `change(parent, key)` applied at a path."""
    content = deepcopy(VALID)
    parent = content
    for key in path[:-1]:
        parent = parent[key]
    change(parent, path[-1])
    return content


def check_read_or_refused(content: Any) -> None:
    """Read a layout without faults, or get BadLayout; any other exception is a bug."""
    faults: list[str] = []
    try:
        layout = Layout.from_json(content)
    except BadLayout as error:
        faults = [*error.faults, str(error)]
    else:
        assert find_value_faults(layout) == []
        faults = [fault for scene in scenes for fault in scenes[scene].find_faults(layout)]
    assert all(fault and "\n" not in fault for fault in faults)


@given(GARBAGE)
def test_any_json_is_read_or_refused(content: Any) -> None:
    check_read_or_refused(content)


@given(st.sampled_from(PATHS), GARBAGE)
def test_garbage_anywhere_is_read_or_refused(path: tuple[Any, ...], value: Any) -> None:
    check_read_or_refused(change_at(path, lambda parent, key: parent.__setitem__(key, value)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, "1", None, True, [], {}, 10**400, 1e300])
@pytest.mark.parametrize("path", [("hall", "width"), ("robot", "x"), ("loads", 0, "yaw"), ("goal", "y"), ("boxes", 0, "height")])
def test_a_value_that_is_not_a_number_is_named(path: tuple[Any, ...], value: Any) -> None:
    with pytest.raises(BadLayout) as error:
        Layout.from_json(change_at(path, lambda parent, key: parent.__setitem__(key, value)))
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")
    assert len(error.value.faults) == 1
    assert error.value.faults[0].startswith(name)


@pytest.mark.parametrize("path", REQUIRED)
def test_a_missing_field_is_named(path: tuple[Any, ...]) -> None:
    with pytest.raises(BadLayout, match="missing") as error:
        Layout.from_json(change_at(path, lambda parent, key: parent.pop(key)))
    assert path[-1] in str(error.value)


@pytest.mark.parametrize("path", [(), ("hall",), ("loads", 0), ("boxes", 0)])
def test_an_unknown_field_is_named(path: tuple[Any, ...]) -> None:
    with pytest.raises(BadLayout, match="colour"):
        Layout.from_json(change_at((*path, "colour"), lambda parent, key: parent.__setitem__(key, "red")))


def test_all_faults_of_a_file_are_named_at_once_each_unknown_key_with_the_nearest_name() -> None:
    content = deepcopy(VALID)
    content["robot"] |= {"yow": content["robot"].pop("yaw"), "z": 1}
    content["boxes"][0] |= {"widht": content["boxes"][0].pop("width"), "depth": "1"}
    content["traffic"][0]["stops"][1]["x"] = None
    with pytest.raises(BadLayout) as error:
        Layout.from_json(content)
    faults = sorted(error.value.faults)
    assert [fault.partition(":")[0] for fault in faults] == [
        "boxes[0].depth", "boxes[0].width", "boxes[0]", "robot", "robot", "traffic[0].stops[1].x"
    ]  # fmt: skip
    assert "unknown key 'widht': did you mean 'width'?" in faults[2]
    assert "did you mean 'yaw'?" in faults[3]


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "nonsense", '{"hall": 1}', "\x00", "9" * 5000, "\ud800"])
def test_a_file_that_is_not_a_layout_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "bad.json"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(BadLayout, match=r"bad\.json"):
        Layout.load(file)


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadLayout, match="cannot be read"):
        Layout.load(tmp_path / "missing.json")
    with pytest.raises(BadLayout, match="cannot be read"):
        Layout.load(tmp_path)
    with pytest.raises(BadLayout, match="version"):
        Layout.from_json({**VALID, "version": 2})


@pytest.mark.parametrize(
    ("layout", "faults"),
    [
        (EMPTY, []),
        (replace(EMPTY, robot=Pose(-1, 1)), ["robot at (-1, 1) is outside the hall"]),
        (replace(EMPTY, goal=Pose(3, 7)), ["goal at (3, 7) is outside the hall"]),
        (replace(EMPTY, robot=Pose(0.2, 3)), ["robot at (0.2, 3) overlaps an outer wall (0.20 m, 0.3 m is needed)"]),
        (replace(EMPTY, robot=Pose(3, 2.6)), ["robot overlaps loads[0] (0.40 m between their centres, 0.5 m is needed)"]),
        (
            replace(EMPTY, boxes=(Box(1, 5, 1, 1), Box(4.5, 4.5, 1, 1))),
            ["goal at (4.5, 4.5) overlaps boxes[1] (0.00 m, 0.2 m is needed)"],
        ),
        (
            replace(EMPTY, boxes=(Box(3, 3, 0, 1, kind="shelf"),)),
            ["boxes[0].width is 0, a positive length is needed", "boxes[0].kind is 'shelf', 'rack', 'wall' or 'clamp' is needed"],
        ),
        (replace(EMPTY, boxes=(Box(500, 3, 1, 1),)), ["boxes[0] at (500, 3) is outside the hall"]),
        (replace(EMPTY, boxes=tuple(Box(0.1, 0.1, 0.1, 0.1) for _ in range(401))), ["401 boxes, at most 400 are allowed"]),
        (replace(EMPTY, robot=Pose(2.51, 3), loads=(Pose(2, 3, -0.675),)), ["loads[0] overlaps the robot"]),
        (replace(EMPTY, robot=Pose(1, 1, 90)), ["robot.yaw is 90: angles are in radians, at most 2π"]),
        (replace(EMPTY, loads=()), ["loads is empty, at least one load is needed"]),
        (replace(EMPTY, loads=(Pose(4.5, 4.45),)), ["the load starts at the goal"]),
        (replace(EMPTY, boxes=(Box(3.75, 3.75, 9, 0.2, 0.75 * math.pi),)),
         ["no route on which the robot could push the load to the goal"]),
        (replace(EMPTY, loads=(Pose(4, 4),), boxes=(Box(2.4, 2.4, 9, 0.2, 0.75 * math.pi),)),
         ["no route on which the robot could reach the load"]),
        (replace(EMPTY, loads=(Pose(5.75, 3),), goal=Pose(3, 3)),
         ["no route on which the robot could push the load to the goal"]),
    ],
)  # fmt: skip
def test_each_fault_is_named_in_one_line(layout: Layout, faults: list[str]) -> None:
    assert scenes["logistics/tote-push"].find_faults(layout) == faults


def test_a_hall_above_the_limit_is_refused() -> None:
    assert "m²" in find_value_faults(replace(EMPTY, hall=Hall(0, 0, 500, 500)))[0]


@pytest.mark.parametrize(("scene", "split"), SPLITS)
def test_sampled_layouts_have_no_faults(scene: str, split: str) -> None:
    for index in range(20):
        layout = scenes[scene].sample_layout(split, index)
        assert scenes[scene].find_faults(layout) == []
        assert Layout.from_json(layout.to_json()) == layout
        body = [*layout.loads, layout.robot][0]
        radius = getattr(scenes[scene].task, "goal_radius_m", 0.0)
        assert math.dist((body.x, body.y), (layout.goal.x, layout.goal.y)) > radius
        assert len(layout.loads) <= scenes[scene].max_loads
        assert len(layout.static_bodies.kind) <= scenes[scene].max_static


@pytest.mark.parametrize("scene", scenes)
def test_splits_share_no_layout(scene: str) -> None:
    splits = scenes[scene].splits
    ids = [scenes[scene].sample_layout(split, index).id for split in splits for index in range(20)]
    assert len(set(ids)) == len(ids) == 20 * len(splits)
    assert {"train", "val", "test"} <= set(splits)


@pytest.mark.parametrize("scene", scenes)
def test_an_unknown_split_is_refused_with_the_nearest_name(scene: str) -> None:
    with pytest.raises(UnknownName, match="did you mean 'test'"):
        scenes[scene].sample_layout("tset", 0)


def test_harder_splits_are_harder() -> None:
    def mean(split: str, measure: Any) -> float:
        return sum(measure(scenes["logistics/tote-push"].sample_layout(split, index)) for index in range(20)) / 20

    assert mean("shift-more-racks", lambda layout: len(layout.boxes)) > mean("test", lambda layout: len(layout.boxes)) + 2
    assert mean("shift-large-hall", lambda layout: layout.hall.width) > mean("test", lambda layout: layout.hall.width)
    assert mean("shift-two-totes", lambda layout: len(layout.loads)) == 2


def make_large_hall() -> tuple[Hall, tuple[Box, ...]]:
    """Make a hall of 30 m x 40 m with 120 racks in rows."""
    boxes = [Box(x, y, 1.8, 0.6) for x in np.arange(2.5, 29, 2.75) for y in np.arange(3.0, 38, 3.0)]
    return Hall(0, 0, 30, 40), tuple(boxes[:120])


@pytest.mark.parametrize("name", ["logistics/tote-push", "logistics/aisle-traffic"])
def test_a_large_hall_with_many_boxes_is_read_and_simulated(name: str) -> None:
    scene, (hall, boxes) = scenes[name], make_large_hall()
    if scene.max_loads:  # above FINE_HALL_M2, but small enough for a test
        hall, boxes = Hall(0, 0, 30, 13.6), tuple(box for box in boxes if box.y < 13)
    assert scene.make_task is not None
    layout = scene.make_task(hall, boxes)
    assert Layout.from_json(layout.to_json()) == layout
    env = GroundEnv(name, layout=layout)
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["pose"].shape[0] == scene.max_dynamic + scene.count_static_rows(layout)
    assert Bodies.from_observation(observation).is_static.sum() == 4 + len(boxes)
    behaviour = scene.behaviours["scripted"]()
    behaviour.start_episode(env.make_episode_start(0))
    costs = [info["cost"]]
    for _ in range(50):
        observation, _, _, _, info = env.step(behaviour.predict(observation)[0])
        costs.append(info["cost"])
    env.close()
    assert costs[-1] < costs[0] - 1
