"""What it costs from afar: the robot's drive around racks and load to a place behind the load, then the push home.

For each coarse cell of the load one Dijkstra search over the robot's cells, backwards from the places behind the load, each of
which starts with the pushing cost-to-go from there. The load blocks the robot's way, as it does in the hall.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

BLOCK = 3  # fine cells along a coarse one
LOAD_RADIUS_M = 0.5  # places of the robot nearer to the load than this are taken
WINDOW = 2  # coarse cells around the load in which it can be in the way
MOVES = np.array([(1, 0), (0, 1), (1, 1), (-1, 1), (2, 1), (1, 2), (-1, 2), (-2, 1)])


def approach_costs(
    fine: np.ndarray, togo: np.ndarray, directions: np.ndarray, cell_m: float, contact_m: float, drive_weight: float
) -> np.ndarray:
    """Cost (X, Y, X, Y) from the robot's and the load's coarse cell, finite everywhere.

    fine: (BLOCK X, BLOCK Y) where the robot fits; togo: (X, Y, K) by load cell and push direction; directions: (K, 2), unit.
    """
    nx, ny, count = togo.shape
    free = _any(fine)
    cells = np.stack(np.meshgrid(np.arange(nx), np.arange(ny), indexing="ij"), -1).reshape(-1, 2)
    tail, head, length = edges(free)
    order = np.argsort(tail, kind="stable")
    n = nx * ny
    starts = np.concatenate([np.searchsorted(tail[order], np.arange(n + 1)), [len(tail) + count]])
    heads = np.concatenate([head[order], np.zeros(count, int)])  # the last row leads from home to the places behind the load
    weights = np.concatenate([length[order] * (drive_weight * cell_m), np.zeros(count)])
    tails = tail[order]
    beside = _beside(cell_m / BLOCK)
    table = np.full((n, n), np.inf, np.float32)
    spots = cells[:, None] - np.round(contact_m * 1.15 * directions / cell_m).astype(int)  # (n, K, 2)
    inside = ((spots >= 0) & (spots < (nx, ny))).all(-1)
    spots = np.where(inside[..., None], spots, 0)
    off, nearest = distance_transform_edt(~free, return_indices=True)  # a place beside a coarse cell with room will do
    off = off[spots[..., 0], spots[..., 1]]
    usable = inside & (off < 1.5) & free.any()
    places = (nearest[0] * ny + nearest[1])[spots[..., 0], spots[..., 1]]
    pushing = togo.reshape(n, count) + 2 * drive_weight * cell_m * off
    for load in np.flatnonzero(usable.any(1)):
        taken = _taken(fine, free, beside, *cells[load])
        data = weights.copy()
        data[: len(tails)][taken[tails] | taken[heads[: len(tails)]]] = np.inf
        ways = usable[load] & ~taken[places[load]]
        heads[len(tails) :] = places[load]
        data[len(tails) :] = np.where(ways, pushing[load] + 1e-6, np.inf)
        graph = csr_array((data, heads, starts), shape=(n + 1, n + 1))
        table[:, load] = dijkstra(graph, indices=n)[:n]
    return _finite(table.reshape(nx, ny, nx, ny), cell_m)


def _any(fine: np.ndarray) -> np.ndarray:
    """(X, Y) coarse cells with room somewhere in them."""
    nx, ny = (size // BLOCK for size in fine.shape)
    return np.asarray(fine.reshape(nx, BLOCK, ny, BLOCK).any((1, 3)))


def _beside(fine_m: float) -> np.ndarray:
    """Mask of the fine cells in the window around a load that lie far enough from its centre."""
    size = BLOCK * (2 * WINDOW + 1)
    at = (np.arange(size) - size // 2) * fine_m
    return np.hypot(at[:, None], at) >= LOAD_RADIUS_M


def _taken(fine: np.ndarray, free: np.ndarray, beside: np.ndarray, x: int, y: int) -> np.ndarray:
    """(X * Y) mask of the free coarse cells in which a load at cell (x, y) leaves the robot no room."""
    nx, ny = free.shape
    x0, x1, y0, y1 = max(0, x - WINDOW), min(nx, x + WINDOW + 1), max(0, y - WINDOW), min(ny, y + WINDOW + 1)
    here = beside[BLOCK * (x0 - x + WINDOW) : BLOCK * (x1 - x + WINDOW), BLOCK * (y0 - y + WINDOW) : BLOCK * (y1 - y + WINDOW)]
    taken = np.zeros((nx, ny), bool)
    taken[x0:x1, y0:y1] = free[x0:x1, y0:y1] & ~_any(fine[BLOCK * x0 : BLOCK * x1, BLOCK * y0 : BLOCK * y1] & here)
    return taken.ravel()


def edges(free: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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


def _finite(table: np.ndarray, cell_m: float) -> np.ndarray:
    """Fill what no route reaches: per load cell, from the nearest robot cell with one, dearer with distance; then load cells."""
    known = np.isfinite(table)
    highest = float(table[known].max(initial=1.0))
    for x, y in np.argwhere(known.any((0, 1)) & ~known.all((0, 1))):
        out, nearest = distance_transform_edt(~known[:, :, x, y], return_indices=True)
        table[:, :, x, y] = table[nearest[0], nearest[1], x, y] + (2 * cell_m * out).astype(np.float32)
    blank = ~known.any((0, 1))
    if blank.all():
        return np.full_like(table, highest)
    _, nearest = distance_transform_edt(blank, return_indices=True)
    return np.minimum(table[:, :, nearest[0], nearest[1]], highest + 5)
