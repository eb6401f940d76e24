"""Approach cost: a robot that is far from the load drives to a place behind it before it pushes.

For each cell of the load, one Dijkstra search over the robot's coarse cells starts at the places
behind the load. Each place starts with its pushing cost-to-go. The load blocks the robot, as it
does in the hall. Two coarse cells are connected where fine cells on both sides of their border are
free of boxes and of the load.
"""

import numpy as np
from scipy.ndimage import distance_transform_edt, maximum_filter
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from sim.geometry.grid import connect_free_cells

ROBOT_BLOCK = 3  # fine cells along a coarse cell of the robot
# fine cells along a coarse cell of the load, whose place decides whether the robot can pass a rack
LOAD_BLOCK = 2
LOAD_RADIUS_M = 0.55  # the robot's centre keeps this distance: it touches between 0.5 and 0.62
WINDOW = 2  # coarse cells around the load's cell in which the load can block the robot


def compute_approach_costs(
    robot_free: np.ndarray,
    load_free: np.ndarray,
    cost_to_go: np.ndarray,
    directions: np.ndarray,
    cell_m: float,
    contact_m: float,
    drive_weight: float,
    coarsening: int = 1,
) -> np.ndarray:
    """Compute the cost that getting into position adds to the load's least cost-to-go.

    Args:
        robot_free: (X * robot block, Y * robot block) fine cells in which the robot fits.
        load_free: (X', Y') every load block-th fine cell: whether the load fits.
        cost_to_go: (X', Y', K) pushing cost from these cells by push direction [m].
        directions: (K, 2) unit vectors.
        cell_m: size of a fine cell.
        contact_m: distance of the two centres while pushing.
        drive_weight: cost of driving relative to pushing.
        coarsening: factor on ROBOT_BLOCK and LOAD_BLOCK.

    Returns:
        (X, Y, X', Y') cost by the robot's and the load's coarse cell [m], finite everywhere.
    """
    block = ROBOT_BLOCK * coarsening
    nx, ny = (size // block for size in robot_free.shape)
    num_directions, coarse_m = cost_to_go.shape[-1], block * cell_m
    tail, head, length = connect_free_cells(np.asarray(_split_blocks(robot_free, block).any((1, 3))))
    order = np.argsort(tail, kind="stable")
    tail, head = tail[order], head[order]
    n = nx * ny
    needed = _list_needed_passages(tail, head, (nx, ny))
    # the last row of the graph leads from the goal to the places behind the load
    starts = np.concatenate([np.searchsorted(tail, np.arange(n + 1)), [len(tail) + num_directions]])
    heads = np.concatenate([head, np.zeros(num_directions, int)])
    weights = np.concatenate([length[order] * (drive_weight * coarse_m), np.zeros(num_directions)])
    cells = np.stack(np.meshgrid(*map(np.arange, cost_to_go.shape[:2]), indexing="ij"), -1).reshape(-1, 2)
    loads = LOAD_BLOCK * coarsening * cells  # in fine cells
    table = np.full((n, len(loads)), np.inf, np.float32)
    places = np.round(loads[:, None] - 1.15 * contact_m / cell_m * directions).astype(int)
    inside = np.asarray(((places >= 0) & (places < robot_free.shape)).all(-1))
    x, y = np.moveaxis(np.where(inside[..., None], places, 0), -1, 0)
    # a place next to a free cell is usable: the robot starts from the free cell
    distance, nearest = distance_transform_edt(~robot_free, return_indices=True)
    usable = inside & (distance[x, y] < 1.5) & bool(robot_free.any())
    place_cells = nearest[0, x, y] // block * ny + nearest[1, x, y] // block
    pushing = cost_to_go.reshape(-1, num_directions) + 2 * drive_weight * cell_m * distance[x, y]
    without_load = _find_passages(robot_free, block)
    for load in np.flatnonzero(usable.any(1) & load_free.ravel()):
        passages, free = _block_passages(robot_free, without_load, loads[load], LOAD_RADIUS_M / cell_m, block)
        data = weights.copy()
        data[: len(tail)][~passages[needed].all(0)] = np.inf
        heads[len(tail) :] = place_cells[load]
        data[len(tail) :] = np.where(usable[load] & free[place_cells[load]], pushing[load] + 1e-6, np.inf)
        graph = csr_array((data, heads, starts), shape=(n + 1, n + 1))
        table[:, load] = dijkstra(graph, indices=n)[:n]
    return _fill_unreachable(table.reshape(nx, ny, *cost_to_go.shape[:2]) - cost_to_go.min(-1), coarse_m)


def _split_blocks(fine: np.ndarray, block: int) -> np.ndarray:
    """Reshape fine cells (X * block, Y * block) to (X, block, Y, block)."""
    nx, ny = (size // block for size in fine.shape)
    return fine.reshape(nx, block, ny, block)


def _find_passages(fine: np.ndarray, block: int) -> np.ndarray:
    """Find passages (2, X, Y) from each coarse cell to its right and to its upper neighbour."""
    cells = _split_blocks(fine, block)
    passages = np.zeros((2, cells.shape[0], cells.shape[2]), bool)
    passages[0, :-1] = (cells[:-1, -1] & cells[1:, 0]).any(-1)
    passages[1, :, :-1] = (cells[:, :, :-1, -1] & cells[:, :, 1:, 0]).any(1)
    return passages


def _block_passages(
    fine: np.ndarray, without_load: np.ndarray, load: np.ndarray, radius: float, block: int
) -> tuple[np.ndarray, np.ndarray]:
    """Close the passages that a load at a fine cell blocks.

    Returns:
        Passages (2 * X * Y + 1), the last one always open, and cells with free space (X * Y).
    """
    _, nx, ny = without_load.shape
    (x0, y0), (x1, y1) = np.maximum(0, load // block - WINDOW), np.minimum((nx, ny), load // block + WINDOW + 1)
    window = fine[block * x0 : block * x1, block * y0 : block * y1]
    dx, dy = (block * low + np.arange(size) - at for low, size, at in zip((x0, y0), window.shape, load, strict=True))
    window = window & (dx[:, None] ** 2 + dy**2 >= radius**2)
    passages = np.ones(without_load.size + 1, bool)
    passages[:-1] = without_load.ravel()
    grid = passages[:-1].reshape(without_load.shape)
    inside = _find_passages(window, block)
    grid[0, x0 : x1 - 1, y0:y1] = inside[0, :-1]
    grid[1, x0:x1, y0 : y1 - 1] = inside[1, :, :-1]
    free = np.ones((nx, ny), bool)
    free[x0:x1, y0:y1] = _split_blocks(window, block).any((1, 3))
    return passages, free.ravel()


def _list_needed_passages(tail: np.ndarray, head: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """List the passages (5, E) that each edge needs; a diagonal edge needs both ways round."""
    a, b = np.stack(np.unravel_index(tail, shape)), np.stack(np.unravel_index(head, shape))
    size = shape[0] * shape[1]
    move = b - a
    step = np.sign(move)
    is_far = np.abs(move) > 1
    # the first cell on the way lies along x, or along y where the edge goes two cells along y
    first = a + step * ~is_far[::-1] * [[1], [0]] + step * is_far * [[0], [1]]
    corner = a + step
    other_corner = a + step * [[0], [1]]
    is_diagonal = (move != 0).all(0) & ~is_far.any(0)

    def get_passage(p: np.ndarray, q: np.ndarray, is_needed: np.ndarray | bool = True) -> np.ndarray:
        lower = np.ravel_multi_index(tuple(np.minimum(p, q)), shape)
        return np.where(is_needed & (p != q).any(0), lower + size * (p[1] != q[1]), 2 * size)

    second_way = get_passage(a, other_corner, is_diagonal), get_passage(other_corner, b, is_diagonal)
    return np.stack([get_passage(a, first), get_passage(first, corner), get_passage(corner, b), *second_way])


def _fill_unreachable(table: np.ndarray, cell_m: float) -> np.ndarray:
    """Fill the pairs of cells that no route connects.

    The robot's cells are filled ring by ring, each with more than its most expensive neighbour, so
    that interpolated costs do not lead through a closed gap. Then cells of the load take the values
    of the nearest filled cell.
    """
    known = np.isfinite(table)
    highest = float(table[known].max(initial=1.0))
    is_blank = ~known.any((0, 1))
    if is_blank.all():
        return np.full_like(table, highest)
    filled = np.where(known, table, -np.inf)[:, :, ~is_blank]
    while (empty := np.isneginf(filled)).any():
        ring = maximum_filter(filled, 3, axes=(0, 1), mode="nearest")
        filled[empty] = ring[empty] + 2 * cell_m
    table[:, :, ~is_blank] = filled
    _, nearest = distance_transform_edt(is_blank, return_indices=True)
    return np.minimum(table[:, :, nearest[0], nearest[1]], highest + 5)
