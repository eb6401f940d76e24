"""Covering of the solid cells of a grid with few boxes, at any angle.

Greedy set cover: the box that covers most uncovered cells comes first. The candidates are the
maximal rectangles of cells that may be covered, in grids that are turned like the walls.
"""

from dataclasses import dataclass
from itertools import compress

import numpy as np
from scipy.ndimage import binary_dilation, binary_opening, distance_transform_edt, gaussian_filter

MAX_TURNED_GRIDS = 3
MIN_YAW_SHARE = 0.08  # of the length of all walls, for a grid of its own
GAP_CELLS = 3  # a wider gap inside solid regions is filled
NEIGHBOURS = np.ones((3, 3))


class BoxCover:
    """Covers of the same solid cells with boxes, within several tolerances."""

    def __init__(self, solid: np.ndarray) -> None:
        """Find the rim of the solid cells, and the directions of their walls.

        Args:
            solid: (Y, X) bool.
        """
        self.solid = solid
        self._rim = solid & binary_dilation(~solid, NEIGHBOURS)
        self._distances = distance_transform_edt(~solid)  # of free cells from solid ones
        self._grids = [_TurnedGrid.create(solid.shape, yaw) for yaw in (0.0, *find_wall_yaws(solid))]

    def find_boxes(self, tolerance: float = 0.0, max_boxes: int = 10_000) -> np.ndarray | None:
        """Cover the solid cells with boxes.

        The boxes cover the centre of every solid cell next to a free cell, and leave no gap inside
        that is wider than a few cells.

        Args:
            tolerance: distance up to which a box may reach into free cells [cells].
            max_boxes: number of boxes that are allowed.

        Returns:
            (K, 5) x, y, width, depth [cells] and yaw [rad] of boxes, or None where more boxes are
            needed. Cell (0, 0) has its centre at (0.5, 0.5).
        """
        if not self.solid.any():
            return np.zeros((0, 5))
        allowed = self._distances <= tolerance
        rectangles = [_find_maximal_rectangles(grid.turn(allowed)) for grid in self._grids]
        boxes = _cover_greedily(self._grids, rectangles, self._rim, max_boxes)
        if boxes is None:
            return None
        size = max(GAP_CELLS, 2 * round(tolerance) + GAP_CELLS)
        gaps = binary_opening(self.solid & ~_draw_boxes(boxes, self.solid.shape), np.ones((size, size)))
        # only axis-aligned boxes fill gaps, which nobody sees
        more_boxes = _cover_greedily(self._grids[:1], rectangles[:1], gaps, max_boxes - len(boxes))
        return None if more_boxes is None else np.vstack([boxes, more_boxes])


def find_wall_yaws(solid: np.ndarray) -> list[float]:
    """Find the directions of many walls, besides the axes of the grid.

    Args:
        solid: (Y, X) bool.

    Returns:
        At most MAX_TURNED_GRIDS angles between 0 and π/2 [rad].
    """
    slope_y, slope_x = (gaussian_filter(solid.astype(np.float32), 2.0, order) for order in ((1, 0), (0, 1)))
    weights = np.hypot(slope_x, slope_y)
    degrees = np.degrees(np.arctan2(slope_y, slope_x)) % 90
    counts = np.histogram(degrees, 90, (0, 90), weights=weights)[0]
    counts[[0, 1, 88, 89]] = 0  # along the axes
    yaws: list[float] = []
    total = weights.sum()
    while len(yaws) < MAX_TURNED_GRIDS:
        window_sums = np.convolve(np.pad(counts, 2, mode="wrap"), np.ones(5), "valid")
        peak = int(window_sums.argmax())
        if window_sums[peak] <= MIN_YAW_SHARE * total:
            break
        bins = np.arange(peak - 2, peak + 3)
        yaws.append(float(np.radians(np.average(bins + 0.5, weights=counts[bins % 90]) % 90)))
        counts[np.arange(peak - 4, peak + 5) % 90] = 0
    return yaws


@dataclass(frozen=True)
class _TurnedGrid:
    """A grid that is turned by `yaw` and contains the centres of all cells of the map."""

    yaw: float
    corner: np.ndarray  # (2,) row and column of its first cell's corner, in turned coordinates
    sources: np.ndarray  # (Y, X) index of the map's cell at each centre; beyond the map: the number of its cells

    @classmethod
    def create(cls, map_shape: tuple[int, ...], yaw: float) -> "_TurnedGrid":
        cos, sin = np.cos(yaw), np.sin(yaw)
        last_row, last_column = np.array(map_shape) - 1
        extreme_cells = np.array([(0, 0), (0, last_column), (last_row, 0), (last_row, last_column)])
        turned = _turn_centres(extreme_cells, yaw)
        corner = np.floor(turned.min(0))
        num_rows, num_columns = np.floor(turned - corner).astype(int).max(0) + 1
        row = np.arange(num_rows)[:, None] + 0.5 + corner[0]
        column = np.arange(num_columns) + 0.5 + corner[1]
        at_x = np.floor(cos * column - sin * row).astype(np.int32)
        at_y = np.floor(sin * column + cos * row).astype(np.int32)
        is_inside = (at_x >= 0) & (at_x <= last_column) & (at_y >= 0) & (at_y <= last_row)
        return cls(yaw, corner, np.where(is_inside, at_y * np.int32(map_shape[1]) + at_x, np.int32(np.prod(map_shape))))

    def find_bins(self, cells: np.ndarray) -> np.ndarray:
        """Find the cells of this grid with the centres of cells of the map, both (N, 2) row, column."""
        return np.floor(_turn_centres(cells, self.yaw) - self.corner).astype(np.int32)

    def turn(self, allowed: np.ndarray) -> np.ndarray:
        """Turn the cells that a box may cover.

        A turned cell is allowed if the cell at its centre is, and no forbidden centre lies in it.
        """
        if not self.yaw:
            return allowed
        turned = np.append(allowed.ravel(), False)[self.sources]
        # Other forbidden centres are too far from allowed cells.
        forbidden = np.argwhere(~allowed & binary_dilation(allowed, NEIGHBOURS))
        turned[tuple(self.find_bins(forbidden).T)] = False
        return turned

    def convert_to_box(self, rectangle: np.ndarray) -> tuple[float, ...]:
        top, left, bottom, right = (float(value) for value in rectangle)
        x, y = (left + right) / 2 + self.corner[1], (top + bottom) / 2 + self.corner[0]
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return (cos * x - sin * y, sin * x + cos * y, right - left, bottom - top, self.yaw)


def _turn_centres(cells: np.ndarray, yaw: float) -> np.ndarray:
    """Compute the rows and columns of centres in turned coordinates, (N, 2) from (N, 2)."""
    y, x = cells.T + 0.5
    cos, sin = np.cos(yaw), np.sin(yaw)
    return np.stack([cos * y - sin * x, cos * x + sin * y], -1)


def _cover_greedily(
    grids: list[_TurnedGrid], rectangles: list[np.ndarray], targets: np.ndarray, max_boxes: int
) -> np.ndarray | None:
    """Cover target cells; the box that covers most of them comes first, then the larger one.

    Args:
        grids: turned grids.
        rectangles: (4, M) of each grid, as of `_find_maximal_rectangles`.
        targets: (Y, X) bool.
        max_boxes: number of boxes that are allowed.

    Returns:
        (K, 5) boxes, or None where more are needed.
    """
    cells = np.argwhere(targets)
    has_rectangles = [candidates.size > 0 for candidates in rectangles]
    grids = list(compress(grids, has_rectangles))
    rectangles = list(compress(rectangles, has_rectangles))
    bins = [grid.find_bins(cells) for grid in grids]
    area_base = 1 + max(grid.sources.size for grid in grids)
    ranks = []  # number of uncovered cells, then area
    for k, candidates in enumerate(rectangles):
        top, left, bottom, right = candidates.astype(np.int64)
        ranks.append(_count_points(bins[k], candidates) * area_base + (bottom - top) * (right - left))
    boxes: list[tuple[float, ...]] = []
    while len(bins[0]):
        best = [int(rank.argmax()) for rank in ranks]
        k = int(np.argmax([rank[i] for rank, i in zip(ranks, best, strict=True)]))
        # No later box covers more cells than this one.
        if len(boxes) + -(-len(bins[0]) // int(ranks[k][best[k]] // area_base)) > max_boxes:
            return None
        rectangle = rectangles[k][:, best[k]]
        boxes.append(grids[k].convert_to_box(rectangle))
        covered = ((bins[k] >= rectangle[:2]) & (bins[k] < rectangle[2:])).all(1)
        for rank, points, candidates in zip(ranks, bins, rectangles, strict=True):
            top, left, bottom, right = candidates
            low, high = points[covered].min(0), points[covered].max(0)
            near = np.flatnonzero((top <= high[0]) & (bottom > low[0]) & (left <= high[1]) & (right > low[1]))
            rank[near] -= _count_points(points[covered], candidates[:, near]) * area_base
        bins = [points[~covered] for points in bins]
    return np.array(boxes).reshape(-1, 5)


def _count_points(points: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    """Count the points (N, 2) in each rectangle (4, M): (M,)."""
    if not len(points):
        return np.zeros(rectangles.shape[1], np.int64)
    low = points.min(0)
    shape = points.max(0) - low + 1
    row, column = (points - low).T
    counts = np.bincount(row * shape[1] + column, minlength=int(shape.prod())).reshape(shape)
    sums = np.pad(counts.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    top, bottom = np.clip(rectangles[::2] - low[0], 0, shape[0])
    left, right = np.clip(rectangles[1::2] - low[1], 0, shape[1])
    return sums[bottom, right] - sums[bottom, left] - sums[top, right] + sums[top, left]


def _find_maximal_rectangles(allowed: np.ndarray) -> np.ndarray:
    """Find the rectangles of allowed cells that no larger one contains.

    Each is as high as the run of allowed cells above one of its lowest cells, and as wide as this
    height allows: a sweep over the rows finds all of them.

    Returns:
        (4, M) first row, first column, row and column after the last; in this order.
    """
    rows, columns = allowed.shape
    index = np.arange(columns)
    height, low, high = np.zeros(columns, int), np.zeros(columns, int), np.full(columns, columns)
    keys = []  # the four values as the digits of a number: faster to sort than rows
    base = max(rows, columns) + 1
    row_sums = np.pad(allowed, ((0, 1), (1, 0))).cumsum(1)  # the row after the last is forbidden
    for row, is_allowed in enumerate(allowed):
        run_start = np.maximum.accumulate(np.where(is_allowed, 0, index + 1))
        run_end = np.minimum.accumulate(np.where(is_allowed, columns, index)[::-1])[::-1]
        height = np.where(is_allowed, height + 1, 0)
        low = np.where(is_allowed, np.maximum(low, run_start), 0)
        high = np.where(is_allowed, np.minimum(high, run_end), columns)
        goes_on = row_sums[row + 1, high] - row_sums[row + 1, low] == high - low
        last = np.flatnonzero(is_allowed & ~goes_on)
        keys.append((((row + 1 - height[last]) * base + low[last]) * base + row + 1) * base + high[last])
    key, right = np.divmod(np.unique(np.concatenate(keys)), base)
    key, bottom = np.divmod(key, base)
    return np.stack([*np.divmod(key, base), bottom, right]).astype(np.int32)


def _draw_boxes(boxes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Draw boxes: (Y, X) bool, cells whose centre is in a box."""
    drawn = np.zeros(shape, bool)
    for x, y, width, depth, yaw in boxes:
        cos, sin = np.cos(yaw), np.sin(yaw)
        half_x, half_y = (cos * width + sin * depth) / 2, (sin * width + cos * depth) / 2
        left, top = max(int(x - half_x), 0), max(int(y - half_y), 0)
        window = drawn[top : int(y + half_y) + 1, left : int(x + half_x) + 1]
        dy, dx = np.indices(window.shape) + 0.5 + np.array([top - y, left - x])[:, None, None]
        window |= (abs(cos * dx + sin * dy) < width / 2) & (abs(cos * dy - sin * dx) < depth / 2)
    return drawn
