"""Occupancy maps of ROS's map_server: a YAML file and a PGM or PNG image, read and written.

Cells that are not known to be free are solid. Solid cells become boxes: rectangles that may
overlap. The rectangle that covers most comes first, until every solid cell next to a free cell is
covered. More rectangles cover what remains of solid regions wider than two cells. Straight walls
give few boxes.

Cells are trinary: `occupied_thresh`, `free_thresh` and `negate` are as in map_server's
documentation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, UnidentifiedImageError
from scipy.ndimage import binary_dilation, binary_opening, label

from sim.geometry.boxes import compute_signed_distance
from sim.layout import MAX_BOXES, MAX_HALL_M2, WALL_HEIGHT_M, Box, Hall, Layout
from sim.utils.errors import BadLayout
from sim.utils.files import write_atomic, write_text

FREE = 254  # grey value of free cells in a written image
OCCUPIED = 0  # grey value of solid cells in a written image
UNKNOWN = 205  # grey value that is neither free nor occupied with the usual thresholds
MAX_CELLS = 4_000_000


@dataclass(frozen=True)
class OccupancyMap:
    """Free cells of a map. Rows run from low to high y, columns from low to high x."""

    free: np.ndarray  # (Y, X) bool
    resolution_m: float
    origin: tuple[float, float]  # lower left corner [m]

    @classmethod
    def load(cls, path: Path) -> "OccupancyMap":
        """Read a map's YAML file and its image.

        Raises:
            BadLayout: a file cannot be read, or a value is missing or wrong.
        """
        metadata = _read_metadata(path)
        resolution = _parse_number(path, metadata, "resolution")
        origin = metadata.get("origin")
        if resolution <= 0:
            raise BadLayout(str(path), [f"resolution is {resolution:g}, a positive length is needed"])
        if not isinstance(origin, list) or len(origin) < 2 or not all(_is_finite_number(value) for value in origin):
            raise BadLayout(str(path), [f"origin is {origin}, [x, y, yaw] in numbers is needed"])
        if len(origin) > 2 and abs(origin[2]) > 1e-6:
            raise BadLayout(str(path), [f"origin has a yaw of {origin[2]:g}, 0 is needed: rotate the image instead"])
        low = _parse_number(path, metadata, "free_thresh")
        high = _parse_number(path, metadata, "occupied_thresh")
        if not 0 <= low <= high <= 1:
            raise BadLayout(str(path), [f"free_thresh {low:g} and occupied_thresh {high:g}: 0 ≤ free ≤ occupied ≤ 1 is needed"])
        image = _read_image(path, path.parent / str(metadata.get("image", "")))
        occupied = image / 255 if metadata.get("negate") else 1 - image / 255
        return cls(np.flipud(occupied < low), resolution, (float(origin[0]), float(origin[1])))

    def save(self, path: Path) -> None:
        """Write `path` (YAML) and a PGM image of the same name."""
        image_path = path.with_suffix(".pgm")
        image = Image.fromarray(np.flipud(np.where(self.free, FREE, OCCUPIED)).astype(np.uint8))
        write_atomic(image_path, lambda temporary_path: image.save(temporary_path, format="PPM"))
        metadata = {"image": image_path.name, "resolution": self.resolution_m, "origin": [*self.origin, 0.0], "negate": 0}
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
        return cls(is_inside_x & is_inside_y[:, None] & ~is_solid, resolution_m, origin)

    def extract_hall(self, source: str = "map") -> tuple[Hall, tuple[Box, ...]]:
        """Extract the hall around the largest connected free area, and the boxes in it.

        Args:
            source: name of the map in errors.

        Raises:
            BadLayout: the map has no free cell, or exceeds MAX_HALL_M2 or MAX_BOXES.
        """
        areas, _ = label(self.free)
        sizes = np.bincount(areas.ravel())[1:]
        if not len(sizes):
            raise BadLayout(source, ["has no free cell"])
        free = areas == 1 + int(sizes.argmax())
        rows, columns = (np.flatnonzero(free.any(axis)) for axis in (1, 0))
        free = free[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        size = self.resolution_m
        x, y = self.origin
        hall = Hall(x + columns[0] * size, y + rows[0] * size, free.shape[1] * size, free.shape[0] * size)
        if hall.width * hall.depth > MAX_HALL_M2:
            raise BadLayout(source, [f"is {hall.width:.1f} m × {hall.depth:.1f} m, at most {MAX_HALL_M2} m² are allowed"])
        boxes = []
        for low_row, low_column, high_row, high_column in cover_with_rectangles(~free):
            width = (high_column - low_column) * size
            depth = (high_row - low_row) * size
            centre = (hall.x + low_column * size + width / 2, hall.y + low_row * size + depth / 2)
            x, y, width, depth = (round(value, 6) for value in (*centre, width, depth))
            boxes.append(Box(x, y, width, depth, height=WALL_HEIGHT_M, kind="wall"))
        if len(boxes) > MAX_BOXES:
            limit = f"at most {MAX_BOXES} are allowed: cut a part out, or straighten its walls"
            raise BadLayout(source, [f"needs {len(boxes)} or more boxes, {limit}"])
        return hall, tuple(boxes)


def cover_with_rectangles(solid: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Cover solid cells with rectangles.

    The rectangles cover every solid cell next to a free cell, and leave no gap inside that is wider
    than two cells.

    Args:
        solid: (Y, X) bool.

    Returns:
        At most MAX_BOXES + 1 rectangles: first row, first column, row and column after the last.
    """
    rim = solid & binary_dilation(~solid, np.ones((3, 3)))
    rectangles = _cover_greedily(solid, rim, MAX_BOXES + 1)
    gaps = solid.copy()
    for top, low, bottom, high in rectangles:
        gaps[top:bottom, low:high] = False
    return rectangles + _cover_greedily(solid, binary_opening(gaps, np.ones((3, 3))), MAX_BOXES + 1 - len(rectangles))


def _cover_greedily(solid: np.ndarray, uncovered: np.ndarray, max_count: int) -> list[tuple[int, int, int, int]]:
    """Cover cells with rectangles of solid cells; the rectangle that covers most of them comes
    first.
    """
    # between these lines all rows, or columns, are equal
    rows = _find_row_groups(solid, uncovered)
    columns = _find_row_groups(solid.T, uncovered.T)
    coarse = solid[np.ix_(rows[:-1], columns[:-1])]
    weights = uncovered[np.ix_(rows[:-1], columns[:-1])] * np.outer(np.diff(rows), np.diff(columns))
    rectangles: list[tuple[int, int, int, int]] = []
    while weights.any() and len(rectangles) < max_count:
        top, low, bottom, high = _find_best_rectangle(coarse, weights)
        weights[top:bottom, low:high] = 0
        rectangles.append((int(rows[top]), int(columns[low]), int(rows[bottom]), int(columns[high])))
    return rectangles


def _find_row_groups(*grids: np.ndarray) -> np.ndarray:
    """Find the first row of each group of equal rows, and one past the last row."""
    differ = np.any([(grid[1:] != grid[:-1]).any(1) for grid in grids], axis=0)
    return np.concatenate([[0], 1 + np.flatnonzero(differ), [len(grids[0])]])


def _find_best_rectangle(solid: np.ndarray, weights: np.ndarray) -> tuple[int, int, int, int]:
    """Find the rectangle of solid cells with the largest sum of weights, then the largest area.

    From each first row on, rows are added one by one. Columns that stay solid form runs, and each
    run is a rectangle.
    """
    best = (0, 0, 0, 0)
    best_score = (0, 0)
    sums = np.pad(weights.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    for top in np.flatnonzero(solid.any(1)).tolist():
        is_solid = solid[top]
        for last in range(top, len(solid)):
            is_solid = is_solid & solid[last]
            if not is_solid.any():
                break
            edges = np.flatnonzero(np.diff(np.pad(is_solid, 1).astype(np.int8)))
            low, high = edges.reshape(-1, 2).T
            covered = sums[last + 1, high] - sums[last + 1, low] - sums[top, high] + sums[top, low]
            run = int(covered.argmax())
            score = (int(covered[run]), int((last + 1 - top) * (high[run] - low[run])))
            if score > best_score:
                best_score = score
                best = (top, int(low[run]), last + 1, int(high[run]))
    return best


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        metadata = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadLayout(str(path), [f"cannot be read ({error.strerror})"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadLayout(str(path), [f"is not YAML ({str(error).splitlines()[0]})"]) from error
    if not isinstance(metadata, dict) or not isinstance(metadata.get("image"), str):
        raise BadLayout(str(path), ["is not a map: it names no image"])
    if metadata.get("mode", "trinary") != "trinary":
        raise BadLayout(str(path), [f"mode is {metadata['mode']}, only trinary is read"])
    return metadata


def _read_image(path: Path, file: Path) -> np.ndarray:
    """Read the grey values (rows from the top, columns) of an image."""
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_CELLS:
                fault = f"{file.name} has {image.width} × {image.height} cells, at most {MAX_CELLS:,} are read"
                raise BadLayout(str(path), [fault])
            is_16_bit = image.mode.startswith("I")  # Pillow's conversion would clip the values
            grey = np.asarray(image, float) * 255 / 65535 if is_16_bit else np.asarray(image.convert("L"), float)
            if image.has_transparency_data:  # transparent cells are unknown
                grey[np.asarray(image.convert("RGBA"))[..., 3] < 255] = UNKNOWN
            return grey
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise BadLayout(str(path), [f"its image {file.name} cannot be read ({reason})"]) from error


def _parse_number(path: Path, metadata: dict[str, Any], name: str) -> float:
    value = metadata.get(name)
    if not _is_finite_number(value):
        raise BadLayout(str(path), [f"{name} is {value}, a number is needed"])
    return float(value)  # type: ignore[arg-type]


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
