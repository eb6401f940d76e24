"""Navigation field: cost-to-go around boxes for a body that moves in any direction."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from sim.bodies import Bodies
from sim.costmaps.cache import ContentCache, extract_static_boxes
from sim.geometry.arrays import Array, split_coordinates
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.free_space import ALIGNED_SHARE, align_axes, get_free_space
from sim.geometry.grid import GridCell, connect_free_cells, interpolate


@dataclass(frozen=True)
class GridSpec:
    """Resolution of a grid, and the clearance that routes keep."""

    cell_m: float
    margin_m: float  # by which the grid extends beyond boxes and goal
    min_clearance_m: float  # least distance of a route from boxes
    free_clearance_m: float  # distance from boxes below which a route costs more
    proximity_weight: float  # added cost of a metre at distance zero
    max_clearance_m: float  # larger clearances are clipped to it
    is_aligned: bool = False  # shifted where that opens passages


@dataclass(frozen=True)
class NavigationField:
    """Clearance and cost-to-go over a grid. Tables are all numpy or all torch."""

    origin: tuple[float, float]  # centre of cell (0, 0) [m]
    cell_m: float
    clearance: Array  # (X, Y) distance to the nearest box [m], negative inside
    min_cost: Array  # (X, Y) cost of the route to the goal [m]
    detour: Array  # (X, Y) min_cost minus the straight distance to the goal [m], at least 0

    def map(self, convert: Callable[[Array], Array]) -> "NavigationField":
        """Convert every table.

        Args:
            convert: takes and returns an array of any shape, as `torch.as_tensor` does.
        """
        return replace(self, **{name: convert(getattr(self, name)) for name in ("clearance", "min_cost", "detour")})

    def compute_cost_to_go(self, xy: Array) -> Array:
        """Compute the cost of the route from points to the goal.

        Args:
            xy: (..., 2) points [m].

        Returns:
            (...) cost [m], linear between cells.
        """
        return self._interpolate(self.min_cost, xy)

    def compute_detour(self, xy: Array) -> Array:
        """Compute the detour of the route from points to the goal.

        Args:
            xy: (..., 2) points [m].

        Returns:
            (...) detour [m], linear between cells.
        """
        return self._interpolate(self.detour, xy)

    def compute_clearance(self, xy: Array) -> Array:
        """Compute the distance from points to the nearest box.

        Args:
            xy: (..., 2) points [m].

        Returns:
            (...) distance [m], linear between cells.
        """
        return self._interpolate(self.clearance, xy)

    def _interpolate(self, table: Array, xy: Array) -> Array:
        return interpolate(table, GridCell.locate(split_coordinates(xy), self.origin, self.cell_m, table.shape))


def get_navigation_field(grid: GridSpec, bodies: Bodies, goal: np.ndarray) -> NavigationField:
    """Get the field of an observation's static bodies and goal from the cache.

    Args:
        grid: resolution and clearances.
        bodies: N bodies of one observation.
        goal: (2+,) x and y of the goal [m].
    """
    return _get_cache(grid)(extract_static_boxes(bodies)[:, :5], np.asarray(goal[:2], np.float64))


@lru_cache(maxsize=8)
def _get_cache(grid: GridSpec) -> ContentCache[NavigationField]:
    return ContentCache(lambda boxes, goal: build_navigation_fields(grid, boxes, goal[None])[0])


def _fill_obstacles(cost: np.ndarray, cell_m: float) -> np.ndarray:
    """Fill unreachable cells with more than the nearest finite cost: costs lead out of boxes."""
    distance, nearest = distance_transform_edt(~np.isfinite(cost), return_indices=True)
    return np.asarray(cost[nearest[0], nearest[1]] + 3 * cell_m * distance)


def build_navigation_fields(
    grid: GridSpec, boxes: np.ndarray, goals: np.ndarray, fill: Callable[[np.ndarray, float], np.ndarray] = _fill_obstacles
) -> list[NavigationField]:
    """Build a field for each goal.

    Args:
        grid: resolution and clearances.
        boxes: (S, 5) x, y, yaw, half width, half depth.
        goals: (G, 2) [m].
        fill: replaces the infinite costs of a table, of cells of a size [m].
    """
    centres = np.vstack([boxes[:, :2], goals])
    low, high = centres.min(0) - grid.margin_m, centres.max(0) + grid.margin_m
    axes = [np.arange(low[i], high[i] + grid.cell_m, grid.cell_m) for i in range(2)]
    passages: np.ndarray | bool = False
    if grid.is_aligned:
        axes, passages = align_axes(axes, boxes, grid.cell_m, grid.min_clearance_m)
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    clearance = np.minimum(compute_signed_distance(points, boxes), grid.max_clearance_m)
    straight = np.linalg.norm(points - goals[:, None, None], axis=-1)
    goal_cells = straight.reshape(len(goals), -1).argmin(1)
    costs = np.stack([fill(cost, grid.cell_m) for cost in _compute_route_costs(grid, clearance, passages, goal_cells)])
    detours = np.maximum(0, costs - straight)
    origin = (float(axes[0][0]), float(axes[1][0]))
    return [
        NavigationField(origin, grid.cell_m, *(table.astype(np.float32) for table in (clearance, cost, detour)))
        for cost, detour in zip(costs, detours, strict=True)
    ]


def compute_route_length(grid: GridSpec, boxes: np.ndarray, start: np.ndarray, goal: np.ndarray) -> float:
    """Compute the cost of the route from start to goal.

    Args:
        grid: resolution and clearances.
        boxes: (S, 5) x, y, yaw, half width, half depth.
        start: (2,) [m].
        goal: (2,) [m].

    Returns:
        Cost [m]; inf without a route.
    """
    if grid.is_aligned:
        clearance_m = grid.min_clearance_m + ALIGNED_SHARE * grid.cell_m
        if not get_free_space(boxes, clearance_m).connects(start, goal):
            return float("inf")
    field = build_navigation_fields(grid, boxes, goal[None], lambda cost, cell_m: cost)[0]
    cell = np.round((start - field.origin) / grid.cell_m).astype(int)
    return float(field.min_cost[tuple(np.clip(cell, 0, np.array(field.min_cost.shape) - 1))])


def _compute_route_costs(
    grid: GridSpec, clearance: np.ndarray, passages: np.ndarray | bool, goal_cells: np.ndarray
) -> np.ndarray:
    """Compute the cost (G, X, Y) of the route from each cell to the goal cells (G,), else inf."""
    free = (clearance > grid.min_clearance_m) | passages
    free.flat[goal_cells] = True
    tail, head, length = connect_free_cells(free)
    proximity = grid.proximity_weight * np.clip(1 - clearance.ravel() / grid.free_clearance_m, 0, 1)
    cost = grid.cell_m * length * (1 + (proximity[tail] + proximity[head]) / 2)
    graph = coo_array((cost, (tail, head)), shape=(clearance.size,) * 2).tocsr()
    return np.asarray(dijkstra(graph, indices=goal_cells).reshape(-1, *clearance.shape))
