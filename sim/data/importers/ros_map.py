"""Occupancy maps of ROS's map_server: a YAML file and a PGM or PNG image, read and written.

Cells that are not known to be free are solid. Solid cells beside the hall become boxes
(`box_cover.py`), exactly where few boxes are enough, else within a tolerance.

The values mean what they mean to Nav2's map_server (navigation2, map_io.cpp): `mode` trinary, scale
or raw, thresholds that belong to free and to occupied, cells with transparency unknown. A trinary
image of the greys that map_saver writes alone has its unknown cells at 205, whatever
`free_thresh` says: older releases saved a `free_thresh` that makes them free.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import yaml
from PIL import Image, UnidentifiedImageError
from scipy.ndimage import find_objects, label

from sim.geometry.box_cover import BoxCover
from sim.geometry.boxes import compute_signed_distance
from sim.layout import MAX_BOXES, MAX_HALL_M2, MAX_LENGTH_M, MAX_YAW_RAD, WALL_HEIGHT_M, Box, Hall, Layout
from sim.utils.errors import BadLayout, UnknownName
from sim.utils.files import write_atomic, write_text

FREE = 254  # grey value of free cells in a written image
OCCUPIED = 0  # grey value of solid cells in a written image
UNKNOWN = 205  # grey value of unknown cells in a written image
MODES = ("trinary", "scale", "raw")
FREE_CELL, OCCUPIED_CELL, UNKNOWN_CELL = 0, 100, -1  # as in nav_msgs/OccupancyGrid
MAX_IMAGE_CELLS = 80_000_000  # read
MAX_CELLS = 4_000_000  # written
# tried in this order [m]: the first one that needs at most this number of boxes is taken
TOLERANCES_M = {0.0: 32, 0.05: 120, 0.1: MAX_BOXES}
IMAGE_SUFFIXES = (".pgm", ".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".ppm")
TRUE_WORDS = ("y", "yes", "true", "on")
FALSE_WORDS = ("n", "no", "false", "off")
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")


def _report_nothing(_: str) -> None:
    pass


@dataclass(frozen=True)
class OccupancyMap:
    """Cells of a map. Rows run from low to high y, columns from low to high x."""

    cells: np.ndarray  # (Y, X) int8: FREE_CELL, OCCUPIED_CELL or UNKNOWN_CELL
    resolution_m: float
    origin: tuple[float, float]  # lower left corner [m]
    yaw: float = 0.0  # of the cells about the lower left corner [rad]
    offset: tuple[float, float] = (0.0, 0.0)  # of the coordinates here from the file's [m]

    @property
    def free(self) -> np.ndarray:
        """(Y, X) bool, the free cells."""
        return self.cells == FREE_CELL

    @classmethod
    def load(cls, path: Path, report: Callable[[str], None] = _report_nothing) -> "OccupancyMap":
        """Read a map's YAML file and its image.

        A map that lies beyond MAX_LENGTH_M is moved to its own corner; `offset` keeps the way.

        Args:
            path: YAML file.
            report: called with each thing that a user should know.

        Raises:
            BadLayout: a file cannot be read, or a value is missing or wrong.
        """
        metadata = _read_metadata(path)
        resolution = _parse_number(path, "resolution", _get_value(path, metadata, "resolution"))
        if resolution <= 0:
            raise BadLayout(str(path), [f"resolution is {resolution:g}, a positive length is needed"])
        values = _get_value(path, metadata, "origin")
        if not isinstance(values, list) or len(values) not in (2, 3):
            raise BadLayout(str(path), [f"origin is {values}, [x, y, yaw] in numbers is needed"])
        x, y, yaw = [_parse_number(path, "origin", value) for value in [*values, "0"][:3]]
        if abs(yaw) > MAX_YAW_RAD:
            raise BadLayout(str(path), [f"the yaw of origin is {yaw:g}: angles are in radians, at most 2π"])
        low, high = (_parse_number(path, key, _get_value(path, metadata, key)) for key in ("free_thresh", "occupied_thresh"))
        if not 0 <= low <= high <= 1:
            raise BadLayout(str(path), [f"free_thresh {low:g} and occupied_thresh {high:g}: 0 ≤ free ≤ occupied ≤ 1 is needed"])
        mode = metadata.get("mode", "trinary")
        if mode not in MODES:
            raise BadLayout(str(path), [str(UnknownName("mode", str(mode), MODES))])
        negate = _parse_flag(path, "negate", _get_value(path, metadata, "negate"))
        grey, is_transparent = _read_image(path, _find_image(path, _get_value(path, metadata, "image"), report))
        cells = np.flipud(_classify(grey, is_transparent, mode, negate, low, high))
        counts = [np.count_nonzero(cells == value) for value in (FREE_CELL, OCCUPIED_CELL, UNKNOWN_CELL)]
        report("{}: {:,} cells free, {:,} occupied, {:,} unknown".format(path.name, *counts))
        offset = (0.0, 0.0)
        if max(abs(x), abs(y)) + resolution * sum(cells.shape) > MAX_LENGTH_M:
            offset = (x, y)
            x = y = 0.0
            report(f"{path.name}: coordinates are counted from the map's corner at ({offset[0]:.10g}, {offset[1]:.10g})")
        return cls(cells, resolution, (x, y), yaw, offset)

    def save(self, path: Path) -> None:
        """Write `path` (YAML) and a PGM image of the same name."""
        image_path = path.with_suffix(".pgm")
        image = Image.fromarray(np.flipud(np.where(self.free, FREE, OCCUPIED)).astype(np.uint8))
        write_atomic(image_path, lambda temporary_path: image.save(temporary_path, format="PPM"))
        corner = [float(start + shift) for start, shift in zip(self.origin, self.offset, strict=True)]
        metadata = {"image": image_path.name, "resolution": self.resolution_m, "origin": [*corner, self.yaw], "negate": 0}
        write_text(path, yaml.safe_dump({**metadata, "occupied_thresh": 0.65, "free_thresh": 0.196}, sort_keys=False))

    @classmethod
    def from_layout(cls, layout: Layout, resolution_m: float = 0.05) -> "OccupancyMap":
        """Convert a layout, with a solid rim. A cell is free if its centre is.

        Raises:
            BadLayout: the map has more than MAX_CELLS cells.
        """
        hall = layout.hall
        columns, rows = (int(np.ceil(size / resolution_m)) + 2 for size in (hall.width, hall.depth))
        if columns * rows > MAX_CELLS:
            fault = f"{columns} × {rows} cells, at most {MAX_CELLS:,} are written: choose a coarser resolution"
            raise BadLayout(layout.name or layout.id, [fault])
        origin = (hall.x - resolution_m, hall.y - resolution_m)
        x, y = (start + (np.arange(n) + 0.5) * resolution_m for start, n in zip(origin, (columns, rows), strict=True))
        is_solid = compute_signed_distance(np.stack(np.meshgrid(x, y), -1), layout.static_boxes) < 1e-9
        is_inside_x = abs(x - hall.x - hall.width / 2) < hall.width / 2
        is_inside_y = abs(y - hall.y - hall.depth / 2) < hall.depth / 2
        free = is_inside_x & is_inside_y[:, None] & ~is_solid
        cells = np.where(free, FREE_CELL, OCCUPIED_CELL).astype(np.int8)
        return cls(cells, resolution_m, origin, offset=(layout.map_offset.x, layout.map_offset.y))

    def extract_hall(
        self, source: str = "map", tolerance_m: float | None = None, report: Callable[[str], None] = _report_nothing
    ) -> tuple[Hall, tuple[Box, ...]]:
        """Extract the hall around the largest connected free area, and the boxes in it.

        The boxes cover every solid cell beside this area. They reach into it by at most the
        tolerance, so that a passage gets narrower by at most twice as much.

        Args:
            source: name of the map in errors.
            tolerance_m: None: the smallest of TOLERANCES_M with which few boxes are enough.
            report: called with the tolerance and the number of boxes.

        Raises:
            BadLayout: the map has no free cell, or exceeds MAX_HALL_M2 or MAX_BOXES.
        """
        areas, _ = label(self.free)
        sizes = np.bincount(areas.ravel())[1:]
        if not len(sizes):
            raise BadLayout(source, ["has no free cell"])
        window = find_objects(areas)[int(sizes.argmax())]
        free, (x, y) = self._turn(areas[window] == 1 + int(sizes.argmax()), window)
        rows, columns = (np.flatnonzero(free.any(axis)) for axis in (1, 0))
        free = free[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        size = self.resolution_m
        hall = Hall(x + columns[0] * size, y + rows[0] * size, free.shape[1] * size, free.shape[0] * size)
        if hall.width * hall.depth > MAX_HALL_M2:
            raise BadLayout(source, [f"is {hall.width:.1f} m × {hall.depth:.1f} m, at most {MAX_HALL_M2} m² are allowed"])
        tolerances = TOLERANCES_M if tolerance_m is None else {tolerance_m: MAX_BOXES}
        cover = BoxCover(~free)
        found = None
        for tolerance, max_boxes in tolerances.items():
            # a tolerance below the size of a cell changes nothing
            tolerance = max(tolerance, size) if tolerance_m is None and tolerance else tolerance
            found = cover.find_boxes(tolerance / size, max_boxes)
            if found is not None:
                break
            report(f"{source}: walls within {100 * tolerance:g} cm need more than {max_boxes} boxes")
        if found is None:
            hint = f"more than --tolerance {tolerance:g} [m], a part of the map, or straighter walls"
            raise BadLayout(source, [f"needs more than {MAX_BOXES} boxes, the most that are allowed: {hint} would need fewer"])
        margin = f"up to {100 * tolerance:g} cm beyond the walls" if tolerance else "exactly along the walls"
        report(f"{source}: {len(found)} boxes, {margin}")
        lengths = np.column_stack([(hall.x, hall.y) + found[:, :2] * size, found[:, 2:4] * size, found[:, 4]])
        boxes = lengths.round(6).tolist()
        return hall, tuple(Box(x, y, width, depth, yaw, WALL_HEIGHT_M, "wall") for x, y, width, depth, yaw in boxes)

    def _turn(self, room: np.ndarray, window: tuple[slice, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Turn a part of the map by its yaw.

        Returns:
            The turned cells, and the position of their lower left corner [m].
        """
        rows, columns = room.shape
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        turn = np.array([[cos, -sin], [sin, cos]])
        start = np.array([window[1].start, window[0].start])
        corners = (start + np.array([(0, 0), (columns, 0), (0, rows), (columns, rows)])) @ turn.T
        low = corners.min(0)
        quarters = self.yaw / (np.pi / 2)
        if abs(quarters - round(quarters)) < 1e-6:
            turned = np.rot90(room, -round(quarters))
        else:  # the cell at the centre of each new cell
            width, depth = np.ceil(corners.max(0) - low).astype(int)
            centres = np.stack(np.meshgrid(np.arange(width), np.arange(depth)), -1) + 0.5 + low
            column, row = np.moveaxis(np.floor(centres @ turn - start).astype(int), -1, 0)
            is_inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)
            turned = is_inside & room[np.clip(row, 0, rows - 1), np.clip(column, 0, columns - 1)]
        return turned, np.array(self.origin) + low * self.resolution_m


def _classify(grey: np.ndarray, is_transparent: np.ndarray, mode: str, negate: bool, low: float, high: float) -> np.ndarray:
    """Classify grey values 0 to 255 as free, occupied or unknown cells."""
    if grey.dtype == np.uint8:  # by a table, which is faster
        present = np.flatnonzero(np.bincount(grey.ravel(), minlength=256))
        levels = np.arange(256.0)
    else:
        present, levels = np.unique(np.round(grey)), grey
    shade = 255 - levels if negate else levels
    occupancy = 1 - shade / 255
    if mode == "raw":  # the grey value is the occupancy in per cent
        occupancy = np.round(levels) / 100
        is_known = occupancy <= 1
    elif mode == "scale":  # what rounds to no occupancy is free
        is_known = np.ones(levels.shape, bool)
        occupancy = np.where(np.rint((occupancy - low) / max(high - low, 1e-9) * 100) <= 0, 0, occupancy)
    else:
        is_saved = np.isin(255 - present if negate else present, (OCCUPIED, UNKNOWN, FREE)).all()
        is_known = ~(is_saved & (np.round(shade) == UNKNOWN))
    cells = np.full(levels.shape, UNKNOWN_CELL, np.int8)
    cells[is_known & (occupancy <= low)] = FREE_CELL
    cells[is_known & (occupancy >= high)] = OCCUPIED_CELL
    if grey.dtype == np.uint8:
        cells = cells[grey]
    cells[is_transparent] = UNKNOWN_CELL
    return cells


def _read_metadata(path: Path) -> dict[str, Any]:
    """Read the YAML file; every value stays a text, as numbers are read by the rules of yaml-cpp."""
    if path.suffix.lower() in IMAGE_SUFFIXES:
        beside = [file.name for file in sorted(path.parent.glob(f"{path.stem}.y*ml"))] or ["with image, resolution and origin"]
        raise BadLayout(str(path), [f"is the image of a map: give its YAML file ({beside[0]})"])
    try:
        metadata = yaml.load(path.read_bytes(), Loader=yaml.BaseLoader)
    except OSError as error:
        raise BadLayout(str(path), [f"cannot be read ({error.strerror})"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadLayout(str(path), [f"is not YAML ({str(error).splitlines()[0]})"]) from error
    if not isinstance(metadata, dict):
        raise BadLayout(str(path), ["is not the YAML file of a map"])
    return metadata


def _find_image(path: Path, name: Any, report: Callable[[str], None]) -> Path:
    """Find the image: at its path, else under its name beside the YAML file."""
    if not isinstance(name, str) or not name:
        raise BadLayout(str(path), [f"image is {name!r}, the name of a file is needed"])
    stated = path.parent / Path(name.removeprefix("file://")).expanduser()
    beside = path.parent / PureWindowsPath(name).name
    if not stated.exists() and beside.is_file():
        report(f"{path.name}: {name} is not here, {beside} is taken")
        return beside
    return stated


def _read_image(path: Path, file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the grey values 0 to 255 of an image (rows from the top, columns), and where it is
    transparent.
    """
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_IMAGE_CELLS:
                fault = f"{file.name} has {image.width} × {image.height} cells, at most {MAX_IMAGE_CELLS:,} are read"
                raise BadLayout(str(path), [fault])
            is_transparent = np.zeros((image.height, image.width), bool)
            if image.has_transparency_data:
                is_transparent = np.asarray(image.convert("RGBA"))[..., 3] < 255
            if image.mode.startswith("I"):  # Pillow's conversion would clip 16 bits
                return np.asarray(image, float) * 255 / 65535, is_transparent
            if image.mode in ("1", "L"):
                return np.asarray(image.convert("L")), is_transparent
            colours = np.asarray(image.convert("RGB"))
            is_grey = (colours == colours[..., :1]).all()
            return (colours[..., 0] if is_grey else colours.mean(-1)), is_transparent
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise BadLayout(str(path), [f"its image {file} cannot be read ({reason})"]) from error


def _get_value(path: Path, metadata: dict[str, Any], key: str) -> Any:
    if key not in metadata:
        raise BadLayout(str(path), [f"{key} is missing"])
    return metadata[key]


def _parse_number(path: Path, key: str, value: Any) -> float:
    if not isinstance(value, str) or not NUMBER.fullmatch(value) or not np.isfinite(float(value)):
        raise BadLayout(str(path), [f"{key} is {value}, a number is needed"])
    return float(value)


def _parse_flag(path: Path, key: str, value: Any) -> bool:
    """Parse an integer or a word, as yaml-cpp does."""
    if isinstance(value, str):
        if re.fullmatch(r"[-+]?\d+", value):
            return int(value) != 0
        if value.lower() in TRUE_WORDS + FALSE_WORDS:
            return value.lower() in TRUE_WORDS
    raise BadLayout(str(path), [f"{key} is {value}, 0 or 1 is needed"])
