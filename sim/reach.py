"""How far the robot has to drive to get to a load, around the racks: shortest paths between all pairs of coarse cells."""

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

COARSE_M = 0.25
TOUCH_M = 0.7  # a free cell this near to a load counts as beside it
MOVES = np.array([(1, 0), (0, 1), (1, 1), (-1, 1), (2, 1), (1, 2), (-1, 2), (-2, 1)])


def driving_distances(free: np.ndarray) -> np.ndarray:
    """From a mask (X, Y) of coarse cells where the robot fits: metres (X, Y, X, Y) from robot cell to load cell, finite."""
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
    beside = _nearest_beside(from_free)
    out, nearest = distance_transform_edt(~free, return_indices=True)
    rank = np.cumsum(free.ravel()).reshape(nx, ny) - 1
    table = beside[rank[nearest[0], nearest[1]]] + (2 * COARSE_M * out[..., None, None]).astype(np.float32)
    far = np.float32(COARSE_M * (nx + ny))
    return np.minimum(table, far)


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
