"""Occupancy maps: written, read, and converted to halls with boxes."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from sim.data.importers.ros_map import OccupancyMap, cover_with_rectangles
from sim.layout import Layout, Pose
from sim.scenes.scene import scenes
from sim.scenes.tote_push import layouts as hall
from sim.utils.errors import BadLayout

CELL_M = 0.05


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_rectangles_cover_solid_cells_next_to_free_cells_and_no_free_cell(solid: np.ndarray) -> None:
    covered = np.zeros_like(solid)
    for top, low, bottom, high in cover_with_rectangles(solid):
        assert solid[top:bottom, low:high].all()
        covered[top:bottom, low:high] = True
    assert covered[solid & binary_dilation(~solid, np.ones((3, 3)))].all()
    assert not binary_erosion(solid & ~covered, np.ones((3, 3))).any(), "a gap in which a body could stand"


def test_straight_walls_need_few_rectangles() -> None:
    solid = np.zeros((120, 160), bool)
    solid[:4] = solid[-4:] = solid[:, :4] = solid[:, -4:] = True
    solid[40:60, 30:90] = solid[70:72, 60:140] = solid[10:50, 100:102] = True
    assert len(cover_with_rectangles(solid)) == 7


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
        ({"image": "gone.png"}, "gone.png cannot be read"),
        ({"image": "bad.png"}, "bad.png cannot be read"),
        ({"image": None}, "names no image"),
        ({"resolution": 0}, "positive length"),
        ({"resolution": ".nan"}, "a number is needed"),
        ({"origin": "[0, 0, 0.5]"}, "yaw of 0.5"),
        ({"origin": "here"}, "in numbers"),
        ({"free_thresh": 2}, "0 ≤ free"),
        ({"mode": "raw"}, "only trinary"),
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
