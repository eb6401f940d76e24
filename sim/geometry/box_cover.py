"""Covering of the solid cells of a grid with few boxes, at any angle.

Greedy set cover: the box that covers most uncovered cells comes first. The candidates are the
maximal rectangles of cells that may be covered, in grids that are turned like the walls.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_dilation, binary_opening, distance_transform_edt, gaussian_filter

MAX_TURNED_GRIDS = 3
MIN_YAW_SHARE = 0.08  # of the length of all walls, for a grid of its own
GAP_CELLS = 3  # a wider gap inside solid regions is filled


def cover_with_boxes(solid: np.ndarray, tolerance: float = 0.0, max_count: int = 10_000) -> np.ndarray:
    """Cover solid cells with boxes.

    The boxes cover the centre of every solid cell next to a free cell, and leave no gap inside
    that is wider than a few cells.

    Args:
        solid: (Y, X) bool.
        tolerance: distance up to which a box may reach into free cells [cells].
        max_count: number of boxes after which the covering stops, incomplete.

    Returns:
        (K, 5) x, y, width, depth [cells] and yaw [rad] of boxes. Cell (0, 0) has its centre at
        (0.5, 0.5). At most `max_count`.
    """
    rim = solid & binary_dilation(~solid, np.ones((3, 3)))
    if not solid.any():
        return np.zeros((0, 5))
    allowed = distance_transform_edt(~solid) <= tolerance
    grids = [_TurnedGrid.create(allowed, yaw) for yaw in (0.0, *find_wall_yaws(solid))]
    boxes = _cover_greedily(grids, rim, max_count)
    size = max(GAP_CELLS, 2 * round(tolerance) + GAP_CELLS)
    gaps = solid & ~_draw_boxes(boxes, solid.shape)
    # only axis-aligned boxes fill gaps, which nobody sees
    return np.vstack([boxes, _cover_greedily(grids[:1], binary_opening(gaps, np.ones((size, size))), max_count - len(boxes))])


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


@dataclass
class _TurnedGrid:
    """The cells in a grid that is turned by `yaw`, and its maximal rectangles of allowed cells."""

    yaw: float
    bins: np.ndarray  # (Y, X, 2) row and column of each cell's centre in the turned grid
    corner: np.ndarray  # (2,) x, y of the turned grid's corner, in turned coordinates
    rectangles: np.ndarray  # (M, 4) first row, first column, row and column after the last
    weights: np.ndarray  # number of uncovered cells in each cell of the turned grid

    @classmethod
    def create(cls, allowed: np.ndarray, yaw: float) -> "_TurnedGrid":
        rows, columns = np.indices(allowed.shape)
        x, y = columns + 0.5, rows + 0.5
        cos, sin = np.cos(yaw), np.sin(yaw)
        turned = np.stack([cos * y - sin * x, cos * x + sin * y], -1)  # row, column
        corner = np.floor(turned.min((0, 1)))
        bins = np.floor(turned - corner).astype(np.intp)
        shape = tuple(bins.max((0, 1)) + 1)
        # a turned cell is allowed if the cell at its centre is, and no forbidden centre lies in it
        row, column = np.indices(shape) + 0.5 + corner[:, None, None]
        at_x, at_y = np.floor(cos * column - sin * row).astype(int), np.floor(sin * column + cos * row).astype(int)
        is_inside = (at_x >= 0) & (at_x < allowed.shape[1]) & (at_y >= 0) & (at_y < allowed.shape[0])
        turned_allowed = np.zeros(shape, bool)
        turned_allowed[is_inside] = allowed[at_y[is_inside], at_x[is_inside]]
        turned_allowed[tuple(bins[~allowed].T)] = False
        rectangles = _find_maximal_rectangles(turned_allowed)
        return cls(yaw, bins, corner[::-1], rectangles, np.zeros(shape, np.int32))

    def convert_to_box(self, rectangle: np.ndarray) -> tuple[float, ...]:
        top, left, bottom, right = (float(value) for value in rectangle)
        x, y = (left + right) / 2 + self.corner[0], (top + bottom) / 2 + self.corner[1]
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        return (cos * x - sin * y, sin * x + cos * y, right - left, bottom - top, self.yaw)


def _cover_greedily(grids: list[_TurnedGrid], targets: np.ndarray, max_count: int) -> np.ndarray:
    """Cover target cells; the box that covers most of them comes first, then the larger one.

    A box can only lose uncovered cells, so that an old count is an upper bound: boxes wait in a
    heap, and are counted again when they come up.
    """
    heap: list[tuple[int, int, int, int]] = []  # − covered cells, − area, grid, rectangle
    cells = np.argwhere(targets)
    uncovered = np.ones(len(cells), bool)
    target_bins = [grid.bins[tuple(cells.T)] for grid in grids]
    for k, (grid, bins) in enumerate(zip(grids, target_bins, strict=True)):
        grid.weights[:] = 0
        np.add.at(grid.weights, tuple(bins.T), 1)
        sums = np.pad(grid.weights.cumsum(0).cumsum(1), ((1, 0), (1, 0)))
        top, left, bottom, right = grid.rectangles.T
        counts = sums[bottom, right] - sums[bottom, left] - sums[top, right] + sums[top, left]
        areas = (bottom - top) * (right - left)
        heap += [(-int(counts[i]), -int(areas[i]), k, int(i)) for i in np.flatnonzero(counts)]
    heapq.heapify(heap)
    boxes: list[tuple[float, ...]] = []
    while heap and uncovered.any() and len(boxes) < max_count:
        bound, area, k, i = heap[0]
        top, left, bottom, right = grids[k].rectangles[i]
        count = int(grids[k].weights[top:bottom, left:right].sum())
        if count < -bound:
            if count:
                heapq.heapreplace(heap, (-count, area, k, i))
            else:
                heapq.heappop(heap)
            continue
        heapq.heappop(heap)
        boxes.append(grids[k].convert_to_box(grids[k].rectangles[i]))
        row, column = target_bins[k].T
        covered = uncovered & (row >= top) & (row < bottom) & (column >= left) & (column < right)
        uncovered[covered] = False
        for grid, bins in zip(grids, target_bins, strict=True):
            np.subtract.at(grid.weights, tuple(bins[covered].T), 1)
    return np.array(boxes).reshape(-1, 5)


def _find_maximal_rectangles(allowed: np.ndarray) -> np.ndarray:
    """Find the rectangles of allowed cells that no larger one contains.

    Each is as high as the run of allowed cells above one of its lowest cells, and as wide as this
    height allows: a sweep over the rows finds all of them.

    Returns:
        (M, 4) first row, first column, row and column after the last.
    """
    columns = allowed.shape[1]
    index = np.arange(columns)
    height, low, high = np.zeros(columns, int), np.zeros(columns, int), np.full(columns, columns)
    found = []
    row_sums = np.pad(allowed, ((0, 1), (1, 0))).cumsum(1)  # the row after the last is forbidden
    for row, is_allowed in enumerate(allowed):
        run_start = np.maximum.accumulate(np.where(is_allowed, 0, index + 1))
        run_end = np.minimum.accumulate(np.where(is_allowed, columns, index)[::-1])[::-1]
        height = np.where(is_allowed, height + 1, 0)
        low = np.where(is_allowed, np.maximum(low, run_start), 0)
        high = np.where(is_allowed, np.minimum(high, run_end), columns)
        width = high - low
        goes_on = row_sums[row + 1, high] - row_sums[row + 1, low] == width
        last = np.flatnonzero(is_allowed & ~goes_on)
        found.append(np.stack([row + 1 - height[last], low[last], np.full(len(last), row + 1), high[last]], -1))
    return np.unique(np.concatenate(found), axis=0)


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
