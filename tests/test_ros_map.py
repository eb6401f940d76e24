"""Occupancy maps: written, read, and converted to halls with boxes."""

import contextlib
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

from experiments.cli.layouts import read_custom_layout
from sim.data.importers.ros_map import OCCUPIED_CELL, UNKNOWN_CELL, OccupancyMap
from sim.geometry.box_cover import BoxCover, find_wall_yaws
from sim.layout import Box, Hall, Layout, Pose
from sim.scenes.scene import scenes
from sim.scenes.tote_push import layouts as hall
from sim.utils.errors import BadLayout

CELL_M = 0.05


def draw_boxes(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Cells whose centre is in a box."""
    y, x = np.indices(shape) + 0.5
    covered = np.zeros(shape, bool)
    for cx, cy, width, depth, yaw in boxes:
        along = np.cos(yaw) * (x - cx) + np.sin(yaw) * (y - cy)
        across = np.cos(yaw) * (y - cy) - np.sin(yaw) * (x - cx)
        covered |= (abs(along) < width / 2 + 1e-9) & (abs(across) < depth / 2 + 1e-9)
    return covered


def cover_with_boxes(solid: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    boxes = BoxCover(solid).find_boxes(tolerance)
    assert boxes is not None
    return boxes


def find_rim(solid: np.ndarray) -> np.ndarray:
    return solid & binary_dilation(~solid, np.ones((3, 3)))


@given(arrays(bool, st.tuples(st.integers(1, 14), st.integers(1, 14))), st.sampled_from([0.0, 1.0, 1.5, 2.0]))
def test_boxes_cover_solid_cells_next_to_free_cells_and_none_beyond_the_tolerance(solid: np.ndarray, tolerance: float) -> None:
    boxes = cover_with_boxes(solid, tolerance)
    covered = draw_boxes(boxes, solid.shape)
    assert covered[find_rim(solid)].all()
    if not solid.all() and solid.any():
        assert distance_transform_edt(~solid)[covered].max(initial=0) <= tolerance
    if not tolerance:
        assert not binary_erosion(solid & ~covered, np.ones((3, 3))).any(), "a gap in which a body could stand"


def test_straight_walls_need_few_boxes() -> None:
    solid = np.zeros((120, 160), bool)
    solid[:4] = solid[-4:] = solid[:, :4] = solid[:, -4:] = True
    solid[40:60, 30:90] = solid[70:72, 60:140] = solid[10:50, 100:102] = True
    assert len(cover_with_boxes(solid)) == 7


@pytest.mark.parametrize("degrees", [20, 45, 70])
def test_turned_walls_need_few_boxes(degrees: float) -> None:
    y, x = np.indices((200, 220)) - 100
    yaw = np.radians(degrees)
    along, across = np.cos(yaw) * x + np.sin(yaw) * y, np.cos(yaw) * y - np.sin(yaw) * x
    solid = (abs(along) > 70) | (abs(across) > 50) | ((abs(along) < 20) & (abs(across - 10) < 5))
    assert np.degrees(find_wall_yaws(solid)) == pytest.approx([degrees], abs=1)
    boxes = cover_with_boxes(solid, 1.0)
    assert len(boxes) <= 20
    covered = draw_boxes(boxes, solid.shape)
    assert covered[find_rim(solid)].all()
    assert distance_transform_edt(~solid)[covered].max() <= 1


def make_rough_hall() -> np.ndarray:
    """Free cells of a hall with rough walls and racks, as a laser sees them."""
    rng = np.random.default_rng(3)
    solid = np.ones((240, 280), bool)
    solid[20:220, 20:260] = False
    for row in range(50, 200, 45):
        solid[row : row + 20, 60:200] = True
    rim = ~solid & binary_dilation(solid)
    return ~(solid | (rim & (rng.random(solid.shape) < 0.4)))


def test_rough_walls_are_read_in_seconds_with_few_boxes() -> None:
    free = make_rough_hall()
    occupancy = OccupancyMap(np.where(free, 0, OCCUPIED_CELL).astype(np.int8), CELL_M, (0.0, 0.0))
    started = time.process_time()
    messages: list[str] = []
    map_hall, boxes = occupancy.extract_hall(report=messages.append)
    assert time.process_time() - started < 3
    assert "5 cm beyond the walls" in messages[-1]
    assert 4 <= len(boxes) <= 120
    assert len(occupancy.extract_hall(tolerance_m=0.1)[1]) < len(boxes)
    exact = OccupancyMap.from_layout(Layout(map_hall, Pose(0, 0), (), Pose(0, 0), boxes), CELL_M).free[1:-1, 1:-1]
    room = free[20:220, 20:260]
    rim = ~room & binary_dilation(room, np.ones((3, 3)))
    assert not exact[rim].any(), "an open wall"
    assert distance_transform_edt(room)[room & ~exact].max() <= 1, "more than the tolerance is closed"


def test_too_few_boxes_are_refused_at_once() -> None:
    cover = BoxCover(~make_rough_hall())
    boxes = cover.find_boxes(1.0)
    assert boxes is not None
    np.testing.assert_array_equal(cover.find_boxes(1.0, len(boxes)), boxes)
    assert cover.find_boxes(1.0, len(boxes) - 1) is None
    assert cover.find_boxes(0.0, 32) is None


def test_a_large_map_with_rough_turned_walls_is_read_in_seconds() -> None:
    y, x = (np.indices((1000, 1000)) - 500) * 0.02
    yaw = np.radians(23.5)
    along, across = np.cos(yaw) * x + np.sin(yaw) * y, np.cos(yaw) * y - np.sin(yaw) * x
    solid = (abs(along) > 8) | (abs(across) > 7) | ((abs(along) < 5) & (abs(abs(across) - 3) < 0.5))
    solid |= binary_dilation(solid) & (np.random.default_rng(1).random(solid.shape) < 0.4)
    occupancy = OccupancyMap(np.where(solid, OCCUPIED_CELL, 0).astype(np.int8), 0.02, (0.0, 0.0))
    started = time.process_time()
    _, boxes = occupancy.extract_hall()
    assert time.process_time() - started < 4  # 1 s on an idle core
    assert len(boxes) < 250


@pytest.mark.parametrize("split", ["test", "shift-narrow-aisles", "shift-large-hall"])
@pytest.mark.parametrize("index", range(2))
@pytest.mark.parametrize("suffix", [".pgm", ".png"])
def test_a_layout_written_as_a_map_and_read_again_has_the_same_free_space(
    tmp_path: Path, split: str, index: int, suffix: str
) -> None:
    layout = hall.sample_layout(split, index)
    before = OccupancyMap.from_layout(layout, CELL_M)
    before.save(tmp_path / "map.yaml")
    if suffix == ".png":
        Image.open(tmp_path / "map.pgm").save(tmp_path / "map.png")
        text = (tmp_path / "map.yaml").read_text().replace("map.pgm", "map.png")
        (tmp_path / "map.yaml").write_text(text)
    occupancy = OccupancyMap.load(tmp_path / "map.yaml")
    np.testing.assert_array_equal(occupancy.free, before.free)
    map_hall, boxes = occupancy.extract_hall()
    assert len(boxes) <= len(layout.boxes) + 4
    reread = Layout(map_hall, layout.robot, layout.loads, layout.goal, boxes)
    after = OccupancyMap.from_layout(reread, CELL_M)
    shift = np.round((np.array(after.origin) - before.origin) / CELL_M).astype(int)
    free = np.zeros_like(before.free)
    rows, columns = after.free.shape
    free[shift[1] : shift[1] + rows, shift[0] : shift[0] + columns] = after.free
    assert not (free & ~binary_dilation(before.free)).any()
    assert not (binary_erosion(before.free) & ~free).any()
    task = hall.make_task(map_hall, boxes, robot=layout.robot, load=layout.loads[0], goal=layout.goal)
    assert hall.find_faults(task) == []
    assert (task.robot, task.loads, task.goal) == (layout.robot, layout.loads[:1], layout.goal)


def test_a_task_is_sampled_reproducibly_where_no_poses_are_given() -> None:
    map_hall, boxes = OccupancyMap.from_layout(hall.sample_layout("test", 0)).extract_hall()
    first, repeated, other = (hall.make_task(map_hall, boxes, seed=seed) for seed in (0, 0, 1))
    assert first.id == repeated.id != other.id
    assert hall.make_task(map_hall, boxes, goal=first.goal).goal == first.goal
    with pytest.raises(BadLayout, match="outside the hall"):
        hall.make_task(map_hall, boxes, goal=Pose(99, 99))
    with pytest.raises(BadLayout, match="overlaps"):
        hall.make_task(map_hall, boxes, robot=Pose(boxes[0].x, boxes[0].y))


def test_thresholds_negate_and_the_order_of_rows_are_those_of_map_server(tmp_path: Path) -> None:
    image = np.full((40, 30), 254, np.uint8)
    image[0] = 0  # the top row: highest y
    image[:, 0] = 205  # unknown
    Image.fromarray(image).save(tmp_path / "m.png")
    text = "image: m.png\nresolution: 0.1\norigin: [1, 2, 0]\nnegate: {}\noccupied_thresh: 0.65\nfree_thresh: 0.196\n"
    (tmp_path / "m.yaml").write_text(text.format(0))
    occupancy = OccupancyMap.load(tmp_path / "m.yaml")
    assert not occupancy.free[-1].any()
    assert not occupancy.free[:, 0].any()
    assert occupancy.free[:-1, 1:].all()
    map_hall, boxes = occupancy.extract_hall()
    assert boxes == ()
    np.testing.assert_allclose((map_hall.x, map_hall.y, map_hall.width, map_hall.depth), (1.1, 2, 2.9, 3.9))
    Image.fromarray(255 - image).save(tmp_path / "m.png")
    (tmp_path / "m.yaml").write_text(text.format(1))
    np.testing.assert_array_equal(OccupancyMap.load(tmp_path / "m.yaml").free, occupancy.free)


VALID = {"image": "m.png", "resolution": 0.05, "origin": "[0, 0, 0]", "negate": 0, "occupied_thresh": 0.65, "free_thresh": 0.196}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"free_thresh": None}, "free_thresh is missing"),
        ({"negate": "maybe"}, "0 or 1 is needed"),
        ({"origin": "[0, 0, -nan]"}, "a number is needed"),
        ({"mode": "trinery"}, "did you mean 'trinary'"),
        ({"image": "gone.png"}, "gone.png cannot be read"),
        ({"image": "bad.png"}, "bad.png cannot be read"),
        ({"image": None}, "image is missing"),
        ({"resolution": 0}, "positive length"),
        ({"resolution": ".nan"}, "a number is needed"),
        ({"origin": "here"}, "in numbers"),
        ({"origin": [0, 0, 90]}, "yaw of origin is 90: angles are in radians"),
        ({"free_thresh": 2}, "0 ≤ free"),
        ({"image": "solid.png"}, "no free cell"),
        ({"resolution": 5}, "at most 2500"),
        ({"image": "thin.png"}, "no space for a task"),
    ],
)
def test_an_unusable_map_is_refused_in_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    Image.fromarray(np.full((60, 60), 254, np.uint8)).save(tmp_path / "m.png")
    Image.fromarray(np.zeros((60, 60), np.uint8)).save(tmp_path / "solid.png")
    Image.fromarray(np.full((4, 60), 254, np.uint8)).save(tmp_path / "thin.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG not really")
    content = "".join(f"{key}: {value}\n" for key, value in {**VALID, **change}.items() if value is not None)
    (tmp_path / "m.yaml").write_text(content)
    with pytest.raises(BadLayout, match=message) as raised:
        hall.make_task(*OccupancyMap.load(tmp_path / "m.yaml").extract_hall())
    assert "\n" not in str(raised.value)


def write_map(directory: Path, image: Image.Image) -> Path:
    image.save(directory / "m.png")
    (directory / "m.yaml").write_text("".join(f"{key}: {value}\n" for key, value in VALID.items()))
    return directory / "m.yaml"


def test_16_bit_images_are_scaled_and_transparent_cells_are_unknown(tmp_path: Path) -> None:
    grey = np.full((20, 20), 65000, np.uint16)
    grey[5:10] = 30000
    free = OccupancyMap.load(write_map(tmp_path, Image.fromarray(grey))).free
    assert free.sum() == 300
    rgba = np.full((20, 20, 4), 255, np.uint8)
    rgba[5:10, :, 3] = 0
    np.testing.assert_array_equal(OccupancyMap.load(write_map(tmp_path, Image.fromarray(rgba))).free, free)


@given(st.integers(0, 300), st.integers(0, 255))
def test_a_damaged_image_is_refused_or_read(at: int, value: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = write_map(Path(directory), Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)))
        content = bytearray(path.with_suffix(".png").read_bytes())
        content[at % len(content)] = value
        path.with_suffix(".png").write_bytes(content)
        with contextlib.suppress(BadLayout):
            assert OccupancyMap.load(path).free.ndim == 2


def test_maps_above_the_cell_limit_are_not_written() -> None:
    with pytest.raises(BadLayout, match="coarser"):
        OccupancyMap.from_layout(hall.sample_layout("test", 0), 0.002)


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_or_read(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "m.yaml"
        path.write_bytes(content)
        with pytest.raises(BadLayout):
            OccupancyMap.load(path)


@pytest.mark.parametrize("scene", [scene for scene in scenes if scenes[scene].make_task])
def test_each_scene_in_halls_samples_a_task_in_a_map(scene: str) -> None:
    make_task = scenes[scene].make_task
    assert make_task is not None
    map_hall, boxes = OccupancyMap.from_layout(scenes[scene].sample_layout("test", 1)).extract_hall()
    first, repeated = (make_task(map_hall, boxes, seed=5) for _ in range(2))
    assert first.id == repeated.id
    assert scenes[scene].find_faults(first) == []
    assert make_task(map_hall, boxes, seed=5, goal=first.goal, robot=first.robot).robot == first.robot
    with pytest.raises(BadLayout, match="outside the hall"):
        make_task(map_hall, boxes, goal=Pose(99, 99))


def write_room(directory: Path, name: str = "m.yaml", grey: np.ndarray | None = None, **changes: object) -> Path:
    """Write a map of a room of 6 × 5 m with two boxes, the room's corner 1 m from the image's."""
    image = np.full((140, 160), 205, np.uint8)  # the first row is the lowest y
    image[19:121, 19:141] = 0
    image[20:120, 20:140] = 254
    image[50:60, 50:80] = image[60:80, 50:58] = 0
    Image.fromarray(np.flipud(image if grey is None else grey)).save(directory / "m.png")
    content = {**VALID, "origin": "[-2.0, 3.0, 0.0]", **changes}
    (directory / name).write_text("".join(f"{key}: {value}\n" for key, value in content.items()))
    return directory / name


def summarise(map_hall: Hall, boxes: tuple[Box, ...]) -> list[float]:
    return [map_hall.x, map_hall.y, map_hall.width, map_hall.depth, len(boxes)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, (-1, 4, 6, 5)),
        ({"free_thresh": 0.25}, (-1, 4, 6, 5)),  # unknown cells are 205 in what map_saver writes
        ({"resolution": '"0.05"'}, (-1, 4, 6, 5)),
        ({"resolution": "5e-2", "origin": "[-2e0, 3e0, 1e-17]"}, (-1, 4, 6, 5)),
        ({"negate": '"0"'}, (-1, 4, 6, 5)),
        ({"negate": "no"}, (-1, 4, 6, 5)),
        ({"origin": "[-2.0, 3.0, 1.5707963]"}, (-8, 4, 5, 6)),
        ({"origin": "[-2.0, 3.0, 3.14159265]"}, (-9, -3, 6, 5)),
        ({"origin": "[-2.0, 3.0, -1.5707963]"}, (-1, -4, 5, 6)),
        ({"image": "/home/somebody/maps/m.png"}, (-1, 4, 6, 5)),
        ({"image": "~/maps/m.png"}, (-1, 4, 6, 5)),
        ({"image": r"C:\\maps\\m.png"}, (-1, 4, 6, 5)),
    ],
)
def test_a_map_is_read_as_nav2_reads_it(tmp_path: Path, changes: dict[str, object], expected: tuple[float, ...]) -> None:
    messages: list[str] = []
    occupancy = OccupancyMap.load(write_room(tmp_path, **changes), messages.append)
    assert summarise(*occupancy.extract_hall()) == pytest.approx([*expected, 2], abs=1e-5)
    assert "11,540 cells free, 904 occupied, 9,956 unknown" in messages[-1]
    assert ("image" in changes) == any("is not here" in message for message in messages)


def test_a_picture_with_other_greys_keeps_the_thresholds(tmp_path: Path) -> None:
    image = np.full((40, 40), 205, np.uint8)
    image[0, 0] = 128
    assert OccupancyMap.load(write_room(tmp_path, grey=image, free_thresh=0.25)).free.sum() == 1599
    assert OccupancyMap.load(write_room(tmp_path, grey=image)).free.sum() == 0


def test_thresholds_include_their_value(tmp_path: Path) -> None:
    image = np.repeat(np.array([[204, 102, 101, 255]], np.uint8), 4, 0)  # occupancies 0.2, 0.6, 0.604, 0
    cells = OccupancyMap.load(write_room(tmp_path, grey=image, free_thresh=0.2, occupied_thresh=0.6)).cells
    assert cells[0].tolist() == [0, OCCUPIED_CELL, OCCUPIED_CELL, 0]


def test_modes_scale_and_raw(tmp_path: Path) -> None:
    image = np.repeat(np.array([[0, 19, 60, 66, 100, 101, 205, 254]], np.uint8), 4, 0)
    raw = OccupancyMap.load(write_room(tmp_path, grey=image, mode="raw")).cells[0].tolist()
    assert raw == [0, 0, UNKNOWN_CELL, OCCUPIED_CELL, OCCUPIED_CELL, UNKNOWN_CELL, UNKNOWN_CELL, UNKNOWN_CELL]
    scale = OccupancyMap.load(write_room(tmp_path, grey=image, mode="scale")).cells[0].tolist()
    # 205 is 0.0001 above free_thresh: an occupancy of 0 in whole per cent
    assert scale == [OCCUPIED_CELL] * 4 + [UNKNOWN_CELL] * 2 + [0, 0]


def test_transparent_cells_are_unknown_whatever_the_thresholds(tmp_path: Path) -> None:
    path = write_room(tmp_path, free_thresh=0.6)
    rgba = np.full((20, 20, 4), 255, np.uint8)
    rgba[5:10, :, 3] = 254
    Image.fromarray(rgba).save(tmp_path / "m.png")
    assert OccupancyMap.load(path).free.sum() == 300


def test_only_the_room_has_a_limit_of_size(tmp_path: Path) -> None:
    image = np.full((4000, 4000), 205, np.uint8)
    image[2000:2102, 2000:2122] = 0
    image[2001:2101, 2001:2121] = 254
    map_hall, boxes = OccupancyMap.load(write_room(tmp_path, grey=image, origin="[-100, -100, 0]")).extract_hall()
    assert summarise(map_hall, boxes) == pytest.approx([0.05, 0.05, 6, 5, 0])


def test_a_turned_room_keeps_its_area_and_its_walls(tmp_path: Path) -> None:
    occupancy = OccupancyMap.load(write_room(tmp_path, origin="[-2.0, 3.0, 0.35]"))
    map_hall, boxes = occupancy.extract_hall()
    free = OccupancyMap.from_layout(Layout(map_hall, Pose(0, 0), (), Pose(0, 0), boxes), CELL_M).free
    assert free.sum() * CELL_M**2 == pytest.approx(11_200 * CELL_M**2, rel=0.05)
    cos, sin = np.cos(0.35), np.sin(0.35)
    corners = np.array([(1, 1), (7, 1), (1, 6), (7, 6)]) @ np.array([[cos, sin], [-sin, cos]]) + (-2, 3)
    np.testing.assert_allclose([map_hall.x, map_hall.y], corners.min(0), atol=0.08)
    np.testing.assert_allclose([map_hall.x + map_hall.width, map_hall.y + map_hall.depth], corners.max(0), atol=0.08)


def test_a_far_map_is_moved_and_the_layout_keeps_the_offset(tmp_path: Path) -> None:
    path = write_room(tmp_path, origin="[448251.0, 5411932.0, 0.0]")
    layout = read_custom_layout(path, "tote-push", (None, None, (448256.0, 5411935.0)))
    assert layout.map_offset == Pose(448251.0, 5411932.0)
    assert (layout.hall.x, layout.hall.y, layout.goal.x, layout.goal.y) == pytest.approx((1, 1, 5, 3))
    layout.save(tmp_path / "layout.json")
    reread = Layout.load(tmp_path / "layout.json")
    assert reread.map_offset == layout.map_offset
    assert reread.id == replace(layout, map_offset=Pose(0, 0)).id
    OccupancyMap.from_layout(reread).save(tmp_path / "again.yaml")
    assert OccupancyMap.load(tmp_path / "again.yaml").offset == pytest.approx((448251.95, 5411932.95))


def test_a_fault_of_the_hall_or_of_a_given_pose_is_named_and_not_the_sampling() -> None:
    far_hall = Hall(0.0, 0.0, 2000.0, 1.0)
    for make_task in (scene.make_task for scene in map(scenes.__getitem__, scenes) if scene.make_task):
        with pytest.raises(BadLayout, match=r"hall\.width is 2000"):
            make_task(far_hall, ())
        with pytest.raises(BadLayout, match=r"start at \(99, 1\) is outside the hall"):
            make_task(Hall(0, 0, 6, 6), (), robot=Pose(99, 1))


def test_an_image_given_as_a_map_is_refused_with_the_name_of_its_yaml(tmp_path: Path) -> None:
    path = write_room(tmp_path, name="m.YAML")
    assert read_custom_layout(path, "tote-push").hall.width == pytest.approx(6)
    path.rename(tmp_path / "m.yaml")
    with pytest.raises(BadLayout, match=r"give its YAML file \(m\.yaml\)"):
        read_custom_layout(tmp_path / "m.png", "tote-push")


def test_a_missing_image_is_named_with_its_path(tmp_path: Path) -> None:
    with pytest.raises(BadLayout, match=r"/home/somebody/gone\.png cannot be read"):
        OccupancyMap.load(write_room(tmp_path, image="/home/somebody/gone.png"))
