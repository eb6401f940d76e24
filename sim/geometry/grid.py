"""Grids over the plane: cell lookup, bilinear interpolation and the graph of free cells."""

from typing import NamedTuple

import numpy as np

from sim.geometry.arrays import Array, clamp, get_namespace

Coordinates = tuple[Array, ...]  # x, y

# Moves from a cell to its neighbours [cells]; connect_free_cells adds the opposite of each.
MOVES = np.array([(1, 0), (0, 1), (1, 1), (-1, 1), (2, 1), (1, 2), (-1, 2), (-2, 1)])


class GridCell(NamedTuple):
    """The cell of a point: index of its lower corner, and the fractions of a cell beyond it.

    Points come in any batch shape `...`.
    """

    x: Array  # (...) index along x
    y: Array  # (...) index along y
    fx: Array  # (...) fraction along x in [0, 1)
    fy: Array  # (...) fraction along y in [0, 1)
    ny: int  # cells of the grid along y

    @classmethod
    def locate(
        cls, point: Coordinates, origin: tuple[float, float], cell_m: float, shape: tuple[int, int], shift: float = 0.0
    ) -> "GridCell":
        """Find the cell of a grid that a point lies in. Points outside get the nearest cell.

        Args:
            point: x (...) and y (...) [m].
            origin: x and y of the centre of cell (0, 0) [m].
            shape: number of cells along x and y.
            shift: offset that is added to the point [cells].

        Returns:
            Cell with fields (...).
        """
        ax = clamp((point[0] - origin[0]) / cell_m + shift, 0, shape[0] - 1.001)
        ay = clamp((point[1] - origin[1]) / cell_m + shift, 0, shape[1] - 1.001)
        xp = get_namespace(ax)
        x, y = xp.astype(ax, xp.int64), xp.astype(ay, xp.int64)
        return cls(x, y, ax - x, ay - y, shape[1])


def interpolate(table: Array, cell: GridCell, channel: Array = 0, channels: int = 1) -> Array:
    """Interpolate a table bilinearly between the four cells around a point.

    Args:
        table: (X, Y) or (X, Y, channels) values at the centres of the cells.
        cell: the cell of each point, with fields (...).
        channel: index (...) of the channel to read.
        channels: number of channels of the table.

    Returns:
        (...) interpolated values.
    """
    start = (cell.x * cell.ny + cell.y) * channels + channel
    right = cell.ny * channels
    indices = (start, start + right, start + channels, start + right + channels)
    if isinstance(start, int):
        low, low_right, high, high_right = map(table.item, indices)
    else:
        flat = table.reshape(-1)
        low, low_right, high, high_right = [flat[index] for index in indices]
    low += cell.fx * (low_right - low)
    high += cell.fx * (high_right - high)
    return low + cell.fy * (high - low)


def connect_free_cells(free: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Connect free cells by edges in both directions. Edges do not cut corners of occupied cells.

    Args:
        free: (X, Y) bool.

    Returns:
        Start cells (E,), end cells (E,) as flat indices, and lengths (E,) [cells].
    """
    nx, ny = free.shape
    edges = []
    for dx, dy in MOVES:
        x, y = np.nonzero(free)
        inside = (x + dx >= 0) & (x + dx < nx) & (y + dy >= 0) & (y + dy < ny)
        x, y = x[inside], y[inside]
        is_passable = free[x + dx, y + dy]
        sx, sy = np.sign(dx), np.sign(dy)
        if abs(dx) == abs(dy):
            is_passable &= free[x + sx, y] & free[x, y + sy]
        elif abs(dx) + abs(dy) == 3:
            is_passable &= free[x + sx, y + sy] & free[x + sx * (abs(dx) > 1), y + sy * (abs(dy) > 1)]
        tail = (x * ny + y)[is_passable]
        head = tail + dx * ny + dy
        length = np.full(len(tail), np.hypot(dx, dy))
        edges += [(tail, head, length), (head, tail, length)]
    tails, heads, lengths = map(np.concatenate, zip(*edges, strict=True))
    return tails, heads, lengths
