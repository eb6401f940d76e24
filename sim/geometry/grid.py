"""TODO."""

from typing import NamedTuple

import numpy as np

from sim.geometry.arrays import Array, clamp, get_namespace

Coordinates = tuple[Array, ...]  # x, y


class GridCell(NamedTuple):
    """Lower corner and the fractions beyond it, in a grid of `ny` columns."""

    x: Array
    y: Array
    fx: Array
    fy: Array
    ny: int

    @classmethod
    def locate(
        cls, point: Coordinates, origin: tuple[float, float], cell_m: float, shape: tuple[int, int], shift: float = 0.0
    ) -> "GridCell":
        """The cell of a grid (X, Y) that a point lies in; `shift` moves the point, in cells."""
        ax = clamp((point[0] - origin[0]) / cell_m + shift, 0, shape[0] - 1.001)
        ay = clamp((point[1] - origin[1]) / cell_m + shift, 0, shape[1] - 1.001)
        xp = get_namespace(ax)
        x, y = xp.astype(ax, xp.int64), xp.astype(ay, xp.int64)
        return cls(x, y, ax - x, ay - y, shape[1])


def interpolate(table: Array, cell: GridCell, channel: Array = 0, channels: int = 1) -> Array:
    """Linear between the four cells around: number `entry` of the `entries` that each cell of the table has."""
    at, right = (cell.x * cell.ny + cell.y) * channels + channel, cell.ny * channels
    if isinstance(at, int):
        low, low_right, high, high_right = map(table.item, (at, at + right, at + channels, at + right + channels))
    else:
        flat = table.reshape(-1)
        low, low_right, high, high_right = flat[at], flat[at + right], flat[at + channels], flat[at + right + channels]
    low += cell.fx * (low_right - low)
    high += cell.fx * (high_right - high)
    return low + cell.fy * (high - low)


MOVES = np.array([(1, 0), (0, 1), (1, 1), (-1, 1), (2, 1), (1, 2), (-1, 2), (-2, 1)])


def connect_free_cells(free: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both ways between free cells; lengths in cells; no cutting of corners."""
    nx, ny = free.shape
    index = np.arange(nx * ny).reshape(nx, ny)
    tails, heads, lengths = [], [], []
    for dx, dy in MOVES:
        x, y = np.nonzero(free)
        inside = (x + dx >= 0) & (x + dx < nx) & (y + dy >= 0) & (y + dy < ny)
        x, y = x[inside], y[inside]
        ok = free[x + dx, y + dy]
        sx, sy = np.sign(dx), np.sign(dy)
        if abs(dx) == abs(dy):
            ok &= free[x + sx, y] & free[x, y + sy]
        elif abs(dx) + abs(dy) == 3:
            ok &= free[x + sx, y + sy] & free[x + sx * (abs(dx) > 1), y + sy * (abs(dy) > 1)]
        a, b = index[x, y][ok], index[x + dx, y + dy][ok]
        tails += [a, b]
        heads += [b, a]
        lengths.append(np.full(2 * len(a), np.hypot(dx, dy)))
    return np.concatenate(tails), np.concatenate(heads), np.concatenate(lengths)
