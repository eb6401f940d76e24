"""Spaces from maps as ROS's map_server keeps them: a YAML file beside a PGM or PNG picture; in and out.

What is not known to be free is solid. Solid cells become boxes: rectangles that may overlap and may reach over any solid cell,
the one that covers most first, until every solid cell that touches free space is covered, and then whatever else is wider than
two cells. So a map with straight walls gives few.
Cells of a picture are trinary: `occupied_thresh`, `free_thresh` and `negate` as in map_server's documentation.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image, UnidentifiedImageError
from scipy.ndimage import binary_dilation, binary_opening, label

from sim.geometry.boxes import find_closest_points
from sim.layout import MAX_HALL_M2, WALL_HEIGHT_M, Box, Hall, Layout
from sim.utils.errors import BadLayout
from sim.utils.files import write_atomic, write_text

FREE, OCCUPIED = 254, 0  # grey values that are written
UNKNOWN = 205  # one that is neither free nor occupied by the usual thresholds
MAX_CELLS = 4_000_000
MAX_BOXES = 200


@dataclass(frozen=True)
class OccupancyMap:
    """Free cells of a map; rows run from low to high y, columns from low to high x."""

    free: np.ndarray  # (Y, X) bool
    resolution_m: float
    origin: tuple[float, float]  # of the lower left corner [m]

    @classmethod
    def load(cls, path: Path) -> "OccupancyMap":
        """Read a map's YAML file and its picture; BadLayout in one line."""
        about = _read_metadata(path)
        resolution, origin = _parse_number(path, about, "resolution"), about.get("origin")
        if resolution <= 0:
            raise BadLayout(str(path), [f"resolution is {resolution:g}, a positive length is needed"])
        if not isinstance(origin, list) or len(origin) < 2 or not all(_is_finite_number(value) for value in origin):
            raise BadLayout(str(path), [f"origin is {origin}, [x, y, yaw] in numbers is needed"])
        if len(origin) > 2 and abs(origin[2]) > 1e-6:
            raise BadLayout(str(path), [f"origin is turned by {origin[2]:g}: turn the picture instead, only 0 is read"])
        low, high = _parse_number(path, about, "free_thresh"), _parse_number(path, about, "occupied_thresh")
        if not 0 <= low <= high <= 1:
            raise BadLayout(str(path), [f"free_thresh {low:g} and occupied_thresh {high:g}: 0 ≤ free ≤ occupied ≤ 1 is needed"])
        picture = _read_image(path, path.parent / str(about.get("image", "")))
        occupied = picture / 255 if about.get("negate") else 1 - picture / 255
        return cls(np.flipud(occupied < low), resolution, (float(origin[0]), float(origin[1])))

    def save(self, path: Path) -> None:
        """Write `path` (YAML) and a PGM picture of the same name."""
        picture = path.with_suffix(".pgm")
        image = Image.fromarray(np.flipud(np.where(self.free, FREE, OCCUPIED)).astype(np.uint8))
        write_atomic(picture, lambda to: image.save(to, format="PPM"))
        about = {"image": picture.name, "resolution": self.resolution_m, "origin": [*self.origin, 0.0], "negate": 0}
        write_text(path, yaml.safe_dump({**about, "occupied_thresh": 0.65, "free_thresh": 0.196}, sort_keys=False))

    @classmethod
    def from_layout(cls, layout: Layout, resolution_m: float = 0.05) -> "OccupancyMap":
        """A layout's free space, with one solid cell around it: a cell is free if its middle is."""
        hall = layout.hall
        columns, rows = (int(np.ceil(size / resolution_m)) + 2 for size in (hall.width, hall.depth))
        if columns * rows > MAX_CELLS:
            raise BadLayout(
                layout.name or layout.id, [f"{columns} × {rows} cells, at most {MAX_CELLS:,} are written: coarser ones"]
            )
        origin = (hall.x - resolution_m, hall.y - resolution_m)
        x, y = (start + (np.arange(n) + 0.5) * resolution_m for start, n in zip(origin, (columns, rows), strict=True))
        middles = np.stack(np.meshgrid(x, y), -1)
        boxes = layout.static_boxes
        reach = find_closest_points(middles[..., None, :], boxes[:, :2], boxes[:, 2], boxes[:, 3:5])
        solid = (np.linalg.norm(reach - middles[..., None, :], axis=-1) < 1e-9).any(-1)
        inside = (abs(x - hall.x - hall.width / 2) < hall.width / 2) & (abs(y - hall.y - hall.depth / 2) < hall.depth / 2)[
            :, None
        ]
        return cls(inside & ~solid, resolution_m, origin)

    def extract_hall(self, source: str = "map") -> tuple[Hall, tuple[Box, ...]]:
        """The hall around the largest free room, and what stands in it."""
        rooms, _ = label(self.free)
        sizes = np.bincount(rooms.ravel())[1:]
        if not len(sizes):
            raise BadLayout(source, ["has no free cell"])
        room = rooms == 1 + int(sizes.argmax())
        rows, columns = np.flatnonzero(room.any(1)), np.flatnonzero(room.any(0))
        room = room[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        size, (x, y) = self.resolution_m, self.origin
        hall = Hall(x + columns[0] * size, y + rows[0] * size, room.shape[1] * size, room.shape[0] * size)
        if hall.width * hall.depth > MAX_HALL_M2:
            raise BadLayout(source, [f"is {hall.width:.1f} m × {hall.depth:.1f} m, at most {MAX_HALL_M2} m² are allowed"])
        boxes = []
        for low_row, low_column, high_row, high_column in cover_with_rectangles(~room):
            width, depth = (high_column - low_column) * size, (high_row - low_row) * size
            middle = (hall.x + low_column * size + width / 2, hall.y + low_row * size + depth / 2)
            x, y, width, depth = (round(value, 6) for value in (*middle, width, depth))
            boxes.append(Box(x, y, width, depth, height=WALL_HEIGHT_M, kind="wall"))
        return hall, tuple(boxes)


def cover_with_rectangles(solid: np.ndarray) -> list[tuple[int, int, int, int]]:
    """(first row, first column, row and column after the last) of rectangles of solid cells. They cover all that touch a free
    one, and leave no hollow wider than two cells; no more than MOST_BOXES are looked for."""
    found = _cover_greedily(solid, solid & binary_dilation(~solid, np.ones((3, 3))), MAX_BOXES + 1)
    hollow = solid.copy()
    for top, low, bottom, high in found:
        hollow[top:bottom, low:high] = False
    return found + _cover_greedily(solid, binary_opening(hollow, np.ones((3, 3))), MAX_BOXES + 1 - len(found))


def _cover_greedily(solid: np.ndarray, left: np.ndarray, most: int) -> list[tuple[int, int, int, int]]:
    """At most so many rectangles of solid cells that cover those `left`, the one that covers most of them first."""
    rows, columns = (
        _find_row_groups(solid, left),
        _find_row_groups(solid.T, left.T),
    )  # between them all rows, or columns, are alike
    coarse = solid[np.ix_(rows[:-1], columns[:-1])]
    weights = left[np.ix_(rows[:-1], columns[:-1])] * np.outer(np.diff(rows), np.diff(columns))
    found: list[tuple[int, int, int, int]] = []
    while weights.any() and len(found) < most:
        top, low, bottom, high = _find_best_rectangle(coarse, weights)
        weights[top:bottom, low:high] = 0
        found.append((int(rows[top]), int(columns[low]), int(rows[bottom]), int(columns[high])))
    return found


def _find_row_groups(*grids: np.ndarray) -> np.ndarray:
    """First rows of groups of equal rows, and one past the last row."""
    differ = np.any([(grid[1:] != grid[:-1]).any(1) for grid in grids], axis=0)
    return np.concatenate([[0], 1 + np.flatnonzero(differ), [len(grids[0])]])


def _find_best_rectangle(solid: np.ndarray, weights: np.ndarray) -> tuple[int, int, int, int]:
    """The rectangle within `solid` with the largest sum of weights; of equals the largest. From each first row on, rows are
    added one by one: columns that stay solid fall into runs, and each run is a rectangle."""
    best, most = (0, 0, 0, 0), (0, 0)
    sums = np.pad(weights.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    for top in np.flatnonzero(solid.any(1)).tolist():
        stays = solid[top]
        for last in range(top, len(solid)):
            stays = stays & solid[last]
            if not stays.any():
                break
            edges = np.flatnonzero(np.diff(np.pad(stays, 1).astype(np.int8)))
            low, high = edges[::2], edges[1::2]
            covered = sums[last + 1, high] - sums[last + 1, low] - sums[top, high] + sums[top, low]
            run = int(covered.argmax())
            score = (int(covered[run]), int((last + 1 - top) * (high[run] - low[run])))
            if score > most:
                best, most = (top, int(low[run]), last + 1, int(high[run])), score
    return best


def _read_metadata(path: Path) -> dict[str, Any]:
    try:
        about = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadLayout(str(path), [f"cannot be read ({error.strerror})"]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise BadLayout(str(path), [f"is not YAML ({str(error).splitlines()[0]})"]) from error
    if not isinstance(about, dict) or not isinstance(about.get("image"), str):
        raise BadLayout(str(path), ["is no map: it names no image"])
    if about.get("mode", "trinary") != "trinary":
        raise BadLayout(str(path), [f"mode is {about['mode']}, only trinary is read"])
    return about


def _read_image(path: Path, file: Path) -> np.ndarray:
    """Grey values (rows from the top, columns)."""
    try:
        with Image.open(file) as image:
            if image.width * image.height > MAX_CELLS:
                raise BadLayout(
                    str(path), [f"{file.name} has {image.width} × {image.height} cells, at most {MAX_CELLS:,} are read"]
                )
            deep = image.mode.startswith("I")  # Pillow would cut values off
            grey = np.asarray(image, float) * 255 / 65535 if deep else np.asarray(image.convert("L"), float)
            if image.has_transparency_data:  # what is not drawn is not known
                grey[np.asarray(image.convert("RGBA"))[..., 3] < 255] = UNKNOWN
            return grey
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise BadLayout(str(path), [f"its picture {file.name} cannot be read ({reason})"]) from error


def _parse_number(path: Path, about: dict[str, Any], name: str) -> float:
    value = about.get(name)
    if not _is_finite_number(value):
        raise BadLayout(str(path), [f"{name} is {value}, a number is needed"])
    return float(value)  # type: ignore[arg-type]


def _is_finite_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))
