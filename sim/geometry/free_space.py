"""Free space of a disc among boxes, and grids that are connected like it.

The free space is made of polygons, so that no passage is missed; its rounded corners are exact to
0.2 % of the radius. A grid of cells misses a passage that lies between its rows: a verdict from a
grid depends on where the passage lies on it.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from scipy.ndimage import label

from sim.geometry.boxes import compute_signed_distance
from sim.geometry.rotations import rotate

MAX_OVERLAP_M2 = 1e-6  # of bodies that touch: rounding
MAX_GAP_M = 0.02  # between a point and its area: a body may stand a little nearer to a box than it drives
SHIFTS = (0.0, 0.25, -0.25, 0.5)  # of a grid, in cells
ALIGNED_SHARE = 0.125  # of a cell: clearance beyond the least one with which some shift finds a passage


def make_polygons(boxes: np.ndarray) -> np.ndarray:
    """Make the outlines (S,) of boxes (S, 5+): x, y, yaw, half width, half depth."""
    corners = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)]) * boxes[:, None, 3:5]
    return np.asarray(shapely.polygons(boxes[:, None, :2] + rotate(corners, boxes[:, 2, None])))


def find_overlaps(names: Sequence[str], shapes: Sequence[Any], box_names: Sequence[str], boxes: np.ndarray) -> list[str]:
    """Find bodies that overlap a box or another body, one line each. Bodies may touch.

    Args:
        names: of the bodies.
        shapes: outlines of the bodies.
        box_names: of the static boxes.
        boxes: outlines of the static boxes.
    """
    faults = []
    for i, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        areas_m2 = shapely.area(shapely.intersection([*boxes, *shapes[:i]], shape))
        others = [*box_names, *names[:i]]
        faults += [f"{name} overlaps {others[k]}" for k in np.flatnonzero(areas_m2 > MAX_OVERLAP_M2)]
    return faults


class FreeSpace:
    """The areas in which the centre of a disc can move without touching a box."""

    def __init__(self, boxes: np.ndarray, radius_m: float) -> None:
        """Compute the areas.

        Args:
            boxes: (S, 5+) x, y, yaw, half width, half depth.
            radius_m: radius of the disc.
        """
        solid = shapely.union_all(make_polygons(boxes)).buffer(radius_m)
        frame = shapely.box(*solid.bounds).buffer(1.0)
        self.areas = shapely.get_parts(frame.difference(solid))
        shapely.prepare(self.areas)
        is_outside = shapely.intersects(self.areas, frame.boundary)
        self.enclosed_areas = self.areas[~is_outside]

    def find_areas(self, xy: Sequence[float] | np.ndarray, gap_m: float = MAX_GAP_M) -> set[int]:
        """Find the indices of the areas at a point (x, y), or at most `gap_m` from it [m]."""
        return set(np.flatnonzero(shapely.dwithin(self.areas, shapely.Point(xy[0], xy[1]), gap_m)).tolist())

    def connects(
        self, xy: Sequence[float] | np.ndarray, other_xy: Sequence[float] | np.ndarray, gap_m: float = MAX_GAP_M
    ) -> bool:
        """Return True if the disc can move from a point (x, y) to another one, or at most `gap_m`
        from it [m].
        """
        return bool(self.find_areas(xy) & self.find_areas(other_xy, gap_m))


@lru_cache(maxsize=64)
def _get_free_space(content: bytes, radius_m: float) -> FreeSpace:
    return FreeSpace(np.frombuffer(content).reshape(-1, 5), radius_m)


def get_free_space(boxes: np.ndarray, radius_m: float) -> FreeSpace:
    """Get the free space among boxes (S, 5+) from a cache."""
    return _get_free_space(np.ascontiguousarray(boxes[:, :5], np.float64).tobytes(), radius_m)


def align_axes(
    axes: list[np.ndarray], boxes: np.ndarray, cell_m: float, min_clearance_m: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """Shift a grid by parts of a cell, where cells with enough clearance are not connected as they
    should be.

    Args:
        axes: x of the columns and y of the rows [m].
        boxes: (S, 5+) x, y, yaw, half width, half depth.
        cell_m: distance of the rows.
        min_clearance_m: distance to boxes above which a cell is free.

    Returns:
        The axes, shifted where that connects areas. Then (X, Y) bool, further cells that connect
        areas where no shift does, as in a narrow passage at an angle. A passage that is wider than
        twice the clearance by at least a quarter of a cell is found.
    """
    areas = get_free_space(boxes, min_clearance_m + ALIGNED_SHARE * cell_m).enclosed_areas
    for shift_y in SHIFTS:
        for shift_x in SHIFTS:
            shifted = [axes[0] + shift_x * cell_m, axes[1] + shift_y * cell_m]
            x, y = np.meshgrid(*shifted, indexing="ij")
            free = compute_signed_distance(np.stack([x, y], -1), boxes) > min_clearance_m
            if not _find_split_areas(areas, x, y, free):
                return shifted, np.zeros_like(free)
    x, y = np.meshgrid(*axes, indexing="ij")
    free = compute_signed_distance(np.stack([x, y], -1), boxes) > min_clearance_m
    points = shapely.points(x, y)
    passages = np.zeros_like(free)
    for area in _find_split_areas(areas, x, y, free):  # the cells that an area touches are connected
        passages |= shapely.dwithin(area, points, cell_m / np.sqrt(2))
    return axes, passages & ~free


def _find_split_areas(areas: np.ndarray, x: np.ndarray, y: np.ndarray, free: np.ndarray) -> list[Any]:
    """Find the areas whose cells of a grid are not connected by free cells."""
    zones, _ = label(free)
    return [area for area in areas if len(np.unique(zones[shapely.contains_xy(area, x, y)])) > 1]
