"""What it costs from afar: the robot's drive around racks and load to a place behind the load, then the push home.

For each of the load's cells one Dijkstra search over the robot's coarse cells, backwards from the places behind the load, each of
which starts with the pushing cost-to-go from there. The load blocks the robot's way, as it does in the hall: from one coarse cell
to the next there is a way where fine cells on both sides of their border are free of racks and load.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from sim.geometry.grid import connect_free_cells

ROBOT_BLOCK = 3  # fine cells along one of the robot's
LOAD_BLOCK = 2  # and along one of the load's: where it stands decides whether the robot passes between it and a rack
LOAD_RADIUS_M = 0.55  # places of the robot nearer to the load than this are taken: it touches between 0.5 and 0.62
WINDOW = 2  # coarse cells around the load's own in which it can be in the way


def compute_approach_costs(
    robot_free: np.ndarray,
    load_free: np.ndarray,
    cost_to_go: np.ndarray,
    directions: np.ndarray,
    cell_m: float,
    contact_m: float,
    drive_weight: float,
) -> np.ndarray:
    """What getting into position adds to the load's least cost: (X, Y, X', Y') from the robot's and the load's cell, finite
    everywhere.

    fine: (BLOCK X, BLOCK Y) cells of `cell_m` in which the robot fits; load_free: (X', Y') cells in which the load fits, every
    LOAD_BLOCK-th fine one; togo: (X', Y', K) from there by push direction; directions: (K, 2), unit.
    """
    nx, ny = (size // ROBOT_BLOCK for size in robot_free.shape)
    count, coarse_m = cost_to_go.shape[-1], ROBOT_BLOCK * cell_m
    free = np.asarray(robot_free.reshape(nx, ROBOT_BLOCK, ny, ROBOT_BLOCK).any((1, 3)))
    tail, head, length = connect_free_cells(free)
    order = np.argsort(tail, kind="stable")
    tail, head = tail[order], head[order]
    n = nx * ny
    borders = _list_needed_passages(tail, head, (nx, ny))
    starts = np.concatenate([np.searchsorted(tail, np.arange(n + 1)), [len(tail) + count]])
    heads = np.concatenate([head, np.zeros(count, int)])  # the last row leads from home to the places behind the load
    weights = np.concatenate([length[order] * (drive_weight * coarse_m), np.zeros(count)])
    loads = LOAD_BLOCK * np.stack(np.meshgrid(*map(np.arange, cost_to_go.shape[:2]), indexing="ij"), -1).reshape(
        -1, 2
    )  # fine cells
    table = np.full((n, len(loads)), np.inf, np.float32)
    spots = np.round(loads[:, None] - 1.15 * contact_m / cell_m * directions).astype(int)  # (L, K, 2)
    inside = np.asarray(((spots >= 0) & (spots < robot_free.shape)).all(-1))
    x, y = np.moveaxis(np.where(inside[..., None], spots, 0), -1, 0)
    off, nearest = distance_transform_edt(~robot_free, return_indices=True)  # a place beside a cell with room will do
    usable = inside & (off[x, y] < 1.5) & bool(free.any())
    places = nearest[0, x, y] // ROBOT_BLOCK * ny + nearest[1, x, y] // ROBOT_BLOCK
    pushing = cost_to_go.reshape(-1, count) + 2 * drive_weight * cell_m * off[x, y]
    radius = LOAD_RADIUS_M / cell_m
    empty = _find_passages(robot_free)
    for load in np.flatnonzero(usable.any(1) & load_free.ravel()):
        passages, room = _find_passages_around_load(robot_free, empty, loads[load], radius)
        data = weights.copy()
        data[: len(tail)][~passages[borders].all(0)] = np.inf
        heads[len(tail) :] = places[load]
        data[len(tail) :] = np.where(usable[load] & room[places[load]], pushing[load] + 1e-6, np.inf)
        graph = csr_array((data, heads, starts), shape=(n + 1, n + 1))
        table[:, load] = dijkstra(graph, indices=n)[:n]
    return _fill_unreachable(table.reshape(nx, ny, *cost_to_go.shape[:2]) - cost_to_go.min(-1), coarse_m)


def _find_passages(fine: np.ndarray) -> np.ndarray:
    """(2, X, Y) whether the robot gets from a coarse cell to its right and to its upper neighbour."""
    nx, ny = (size // ROBOT_BLOCK for size in fine.shape)
    cells = fine.reshape(nx, ROBOT_BLOCK, ny, ROBOT_BLOCK)
    open_ = np.zeros((2, nx, ny), bool)
    open_[0, :-1] = (cells[:-1, -1] & cells[1:, 0]).any(-1)
    open_[1, :, :-1] = (cells[:, :, :-1, -1] & cells[:, :, 1:, 0]).any(1)
    return open_


def _find_passages_around_load(
    fine: np.ndarray, empty: np.ndarray, load: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """Passages (2 X Y + 1), the last one always open, and cells with room (X Y), with a load at a fine cell."""
    _, nx, ny = empty.shape
    (x0, y0), (x1, y1) = np.maximum(0, load // ROBOT_BLOCK - WINDOW), np.minimum((nx, ny), load // ROBOT_BLOCK + WINDOW + 1)
    part = fine[ROBOT_BLOCK * x0 : ROBOT_BLOCK * x1, ROBOT_BLOCK * y0 : ROBOT_BLOCK * y1]
    dx, dy = (ROBOT_BLOCK * low + np.arange(size) - at for low, size, at in zip((x0, y0), part.shape, load, strict=True))
    part = part & (dx[:, None] ** 2 + dy**2 >= radius**2)
    passages = np.ones(empty.size + 1, bool)
    passages[:-1] = empty.ravel()
    here = passages[:-1].reshape(empty.shape)
    inside = _find_passages(part)
    here[0, x0 : x1 - 1, y0:y1], here[1, x0:x1, y0 : y1 - 1] = inside[0, :-1], inside[1, :, :-1]
    room = np.ones((nx, ny), bool)
    room[x0:x1, y0:y1] = part.reshape(x1 - x0, ROBOT_BLOCK, y1 - y0, ROBOT_BLOCK).any((1, 3))
    return passages, room.ravel()


def _list_needed_passages(tail: np.ndarray, head: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(5, E) numbers of the passages that each of the `edges` needs; a diagonal, those on both ways round the corner."""
    a, b = np.stack(np.unravel_index(tail, shape)), np.stack(np.unravel_index(head, shape))
    size, way = shape[0] * shape[1], b - a
    one, far = np.sign(way), np.abs(way) > 1
    first = a + one * ~far[::-1] * [[1], [0]] + one * far * [[0], [1]]  # along x, or along y where it goes two cells that way
    corner, other = a + one, a + one * [[0], [1]]
    diagonal = (way != 0).all(0) & ~far.any(0)

    def border(p: np.ndarray, q: np.ndarray, needed: np.ndarray | bool = True) -> np.ndarray:
        lower = np.ravel_multi_index(tuple(np.minimum(p, q)), shape)
        return np.where(needed & (p != q).any(0), lower + size * (p[1] != q[1]), 2 * size)

    both = border(a, other, diagonal), border(other, b, diagonal)
    return np.stack([border(a, first), border(first, corner), border(corner, b), *both])


def _fill_unreachable(table: np.ndarray, cell_m: float) -> np.ndarray:
    """Fill what no route reaches. Robot's cells ring by ring, dearer than the dearest beside them, so that lookups between cells
    do not leak through a gap that is closed; then load cells, from the nearest."""
    known = np.isfinite(table)
    highest = float(table[known].max(initial=1.0))
    blank = ~known.any((0, 1))
    if blank.all():
        return np.full_like(table, highest)
    lowest = np.where(known, table, -np.inf)[:, :, ~blank]
    while (empty := np.isneginf(lowest)).any():
        ring = maximum_filter(lowest, 3, axes=(0, 1), mode="nearest")
        lowest[empty] = ring[empty] + 2 * cell_m
    table[:, :, ~blank] = lowest
    _, nearest = distance_transform_edt(blank, return_indices=True)
    return np.minimum(table[:, :, nearest[0], nearest[1]], highest + 5)
