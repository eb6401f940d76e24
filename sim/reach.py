"""How far the robot has to drive to get to a load, around the racks: shortest paths between all pairs of coarse cells."""

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

COARSE_M = 0.25
TOUCH_M = 0.7  # a free cell this near to a load counts as beside it
MOVES = np.array([(1, 0), (0, 1), (1, 1), (-1, 1), (2, 1), (1, 2), (-1, 2), (-2, 1)])


def driving_distances(free: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """From a mask (X, Y) of coarse cells where the robot fits: metres (X, Y, X, Y) from a robot's cell to another place of
    the robot, and to a load beside which it can stop. Finite everywhere."""
    nx, ny = free.shape
    index = np.arange(nx * ny).reshape(nx, ny)
    tails, heads, costs = [], [], []
    for dx, dy in MOVES:
        x, y = np.nonzero(free)
        inside = (x + dx >= 0) & (x + dx < nx) & (y + dy >= 0) & (y + dy < ny)
        x, y = x[inside], y[inside]
        ok = free[x + dx, y + dy]
        if abs(dx) + abs(dy) > 1:  # no cutting corners
            sx, sy = np.sign(dx), np.sign(dy)
            ok &= free[x + sx, y] & free[x, y + sy] if abs(dx) == abs(dy) else free[x + sx * (abs(dx) > 1), y + sy * (abs(dy) > 1)]
        tails.append(index[x, y][ok])
        heads.append(index[x + dx, y + dy][ok])
        costs.append(np.full(ok.sum(), COARSE_M * np.hypot(dx, dy)))
    n = nx * ny
    graph = coo_array((np.concatenate(costs), (np.concatenate(tails), np.concatenate(heads))), shape=(n, n)).tocsr()
    from_free = dijkstra(graph, directed=False, indices=index[free]).astype(np.float32).reshape(-1, nx, ny)
    out, nearest = distance_transform_edt(~free, return_indices=True)
    rank = np.cumsum(free.ravel()).reshape(nx, ny) - 1
    row = rank[nearest[0], nearest[1]]
    extra = (2 * COARSE_M * out[..., None, None]).astype(np.float32)
    far = np.float32(COARSE_M * (nx + ny))
    return np.minimum(from_free[row] + extra, far), np.minimum(_nearest_beside(from_free)[row] + extra, far)


def approach_costs(
    driving: np.ndarray, togo: np.ndarray, directions: np.ndarray, contact_m: float, drive_weight: float, turn_weight: float
) -> np.ndarray:
    """Cost (X, Y, X, Y) from robot cell and load cell: drive to a place behind the load, then push it home.

    driving: (X, Y, X, Y) between robot places; togo: (X, Y, K) by load cell and push direction; directions: (K, 2) unit vectors.
    The load itself is in the way, so a place on its far side costs at least the walk around it.
    """
    nx, ny, _ = togo.shape
    cells = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), indexing="ij"), -1)
    # the walk around depends on the offset alone, so it is computed once per offset and looked up
    offset = COARSE_M * np.stack(np.meshgrid(np.arange(1 - nx, nx), np.arange(1 - ny, ny), indexing="ij"), -1).reshape(-1, 2)
    apart, bearing = np.hypot(*offset.T), np.arctan2(offset[:, 1], offset[:, 0])
    flat = cells.reshape(-1, 2)
    between = flat[:, None] - flat + (nx - 1, ny - 1)
    at = between[..., 0] * (2 * ny - 1) + between[..., 1]  # (robot cell, load cell) -> offset
    driving = driving.reshape(nx * ny, nx * ny)
    best = np.full_like(driving, np.inf)
    for k in range(0, len(directions), 2):
        spot = np.clip(np.round(flat - contact_m * directions[k] / COARSE_M).astype(int), 0, (nx - 1, ny - 1))
        turn = np.abs((bearing - np.arctan2(-directions[k, 1], -directions[k, 0]) + np.pi) % (2 * np.pi) - np.pi)
        around = np.maximum(0, apart - contact_m) + turn_weight / drive_weight * contact_m * turn
        cost = np.maximum(np.take(driving, spot[:, 0] * ny + spot[:, 1], axis=1), around.astype(np.float32)[at])
        cost *= np.float32(drive_weight)
        cost += togo[..., k].reshape(-1)
        np.minimum(best, cost, out=best)
    return best.reshape(nx, ny, nx, ny)


def _nearest_beside(distance: np.ndarray) -> np.ndarray:
    """Distance to a load = least over the cells around it of the distance to that cell plus the rest of the way."""
    reach = int(TOUCH_M / COARSE_M)
    best = distance.copy()
    nx, ny = distance.shape[1:]
    for dx in range(-reach, reach + 1):
        for dy in range(-reach, reach + 1):
            gap = np.float32(COARSE_M * np.hypot(dx, dy))
            if 0 < gap <= TOUCH_M:
                to = best[:, max(0, -dx) : nx - max(0, dx), max(0, -dy) : ny - max(0, dy)]
                via = distance[:, max(0, dx) : nx + min(0, dx), max(0, dy) : ny + min(0, dy)]
                np.minimum(to, via + gap, out=to)
    return best
