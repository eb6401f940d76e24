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
def test_rectangles_cover_what_touches_free_space_and_nothing_that_is_free(solid: np.ndarray) -> None:
    covered = np.zeros_like(solid)
    for top, low, bottom, high in cover_with_rectangles(solid):
        assert solid[top:bottom, low:high].all()
        covered[top:bottom, low:high] = True
    assert covered[solid & binary_dilation(~solid, np.ones((3, 3)))].all()
    assert not binary_erosion(solid & ~covered, np.ones((3, 3))).any(), "a hollow in which somebody could stand"


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
    read = OccupancyMap.load(tmp_path / "map.yaml")
    np.testing.assert_array_equal(read.free, before.free)
    around, boxes = read.extract_hall()
    assert len(boxes) <= len(layout.boxes) + 4
    again = Layout(around, layout.robot, layout.loads, layout.goal, boxes)
    after = OccupancyMap.from_layout(again, CELL_M)
    shift = np.round((np.array(after.origin) - before.origin) / CELL_M).astype(int)
    free = np.zeros_like(before.free)
    rows, columns = after.free.shape
    free[shift[1] : shift[1] + rows, shift[0] : shift[0] + columns] = after.free
    assert not (free & ~binary_dilation(before.free)).any()
    assert not (binary_erosion(before.free) & ~free).any()
    task = hall.make_task(around, boxes, robot=layout.robot, load=layout.loads[0], goal=layout.goal)
    assert hall.find_faults(task) == []
    assert (task.robot, task.loads, task.goal) == (layout.robot, layout.loads[:1], layout.goal)


def test_a_task_is_drawn_where_none_is_given_the_same_for_a_seed() -> None:
    around, boxes = OccupancyMap.from_layout(hall.sample_layout("test", 0)).extract_hall()
    first, again, other = (hall.make_task(around, boxes, seed=seed) for seed in (0, 0, 1))
    assert first.id == again.id != other.id
    assert hall.make_task(around, boxes, goal=first.goal).goal == first.goal
    with pytest.raises(BadLayout, match="outside the hall"):
        hall.make_task(around, boxes, goal=Pose(99, 99))
    with pytest.raises(BadLayout, match="overlaps"):
        hall.make_task(around, boxes, robot=Pose(boxes[0].x, boxes[0].y))


def test_thresholds_negate_and_the_order_of_rows_are_those_of_map_server(tmp_path: Path) -> None:
    picture = np.full((40, 30), 254, np.uint8)
    picture[0] = 0  # the top row: highest y
    picture[:, 0] = 205  # unknown
    Image.fromarray(picture).save(tmp_path / "m.png")
    text = "image: m.png\nresolution: 0.1\norigin: [1, 2, 0]\nnegate: {}\noccupied_thresh: 0.65\nfree_thresh: 0.196\n"
    (tmp_path / "m.yaml").write_text(text.format(0))
    read = OccupancyMap.load(tmp_path / "m.yaml")
    assert not read.free[-1].any()
    assert not read.free[:, 0].any()
    assert read.free[:-1, 1:].all()
    around, boxes = read.extract_hall()
    assert boxes == ()
    np.testing.assert_allclose((around.x, around.y, around.width, around.depth), (1.1, 2, 2.9, 3.9))
    Image.fromarray(255 - picture).save(tmp_path / "m.png")
    (tmp_path / "m.yaml").write_text(text.format(1))
    np.testing.assert_array_equal(OccupancyMap.load(tmp_path / "m.yaml").free, read.free)


GOOD = {"image": "m.png", "resolution": 0.05, "origin": "[0, 0, 0]", "negate": 0, "occupied_thresh": 0.65, "free_thresh": 0.196}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"image": "gone.png"}, "gone.png cannot be read"),
        ({"image": "bad.png"}, "bad.png cannot be read"),
        ({"image": None}, "names no image"),
        ({"resolution": 0}, "positive length"),
        ({"resolution": ".nan"}, "a number is needed"),
        ({"origin": "[0, 0, 0.5]"}, "turned by 0.5"),
        ({"origin": "here"}, "in numbers"),
        ({"free_thresh": 2}, "0 ≤ free"),
        ({"mode": "raw"}, "only trinary"),
        ({"image": "solid.png"}, "no free cell"),
        ({"resolution": 5}, "at most 400"),
        ({"image": "thin.png"}, "no room for a task"),
    ],
)
def test_a_map_that_cannot_be_used_says_so_in_one_line(tmp_path: Path, change: dict[str, object], says: str) -> None:
    Image.fromarray(np.full((60, 60), 254, np.uint8)).save(tmp_path / "m.png")
    Image.fromarray(np.zeros((60, 60), np.uint8)).save(tmp_path / "solid.png")
    Image.fromarray(np.full((4, 60), 254, np.uint8)).save(tmp_path / "thin.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG not really")
    content = "".join(f"{key}: {value}\n" for key, value in {**GOOD, **change}.items() if value is not None)
    (tmp_path / "m.yaml").write_text(content)
    with pytest.raises(BadLayout, match=says) as raised:
        hall.make_task(*OccupancyMap.load(tmp_path / "m.yaml").extract_hall())
    assert "\n" not in str(raised.value)


def written(directory: Path, picture: Image.Image) -> Path:
    picture.save(directory / "m.png")
    (directory / "m.yaml").write_text("".join(f"{key}: {value}\n" for key, value in GOOD.items()))
    return directory / "m.yaml"


def test_deep_pictures_are_read_to_scale_and_what_is_transparent_is_unknown(tmp_path: Path) -> None:
    grey = np.full((20, 20), 65000, np.uint16)
    grey[5:10] = 30000
    free = OccupancyMap.load(written(tmp_path, Image.fromarray(grey))).free
    assert free.sum() == 300
    seen = np.full((20, 20, 4), 255, np.uint8)
    seen[5:10, :, 3] = 0
    np.testing.assert_array_equal(OccupancyMap.load(written(tmp_path, Image.fromarray(seen))).free, free)


@given(st.integers(0, 300), st.integers(0, 255))
def test_a_damaged_picture_is_refused_or_read(at: int, value: int) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = written(Path(directory), Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)))
        content = bytearray(path.with_suffix(".png").read_bytes())
        content[at % len(content)] = value
        path.with_suffix(".png").write_bytes(content)
        with contextlib.suppress(BadLayout):
            assert OccupancyMap.load(path).free.ndim == 2


def test_more_cells_are_not_written_than_are_read() -> None:
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
def test_a_task_of_each_scene_that_takes_place_in_halls_is_drawn_in_a_map(scene: str) -> None:
    task_in = scenes[scene].make_task
    assert task_in is not None
    around, boxes = OccupancyMap.from_layout(scenes[scene].sample_layout("test", 1)).extract_hall()
    first, again = (task_in(around, boxes, seed=5) for _ in range(2))
    assert first.id == again.id
    assert scenes[scene].find_faults(first) == []
    assert task_in(around, boxes, seed=5, goal=first.goal, robot=first.robot).robot == first.robot
    with pytest.raises(BadLayout, match="outside the hall"):
        task_in(around, boxes, goal=Pose(99, 99))
