"""How far it is to a goal around boxes, for something that goes or is pushed any way: one table per space and goal."""

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
from sim.geometry.grid import GridCell, connect_free_cells, interpolate


@dataclass(frozen=True)
class GridSpec:
    """How finely ways are looked for, and what keeps them from boxes. Lengths in metres."""

    cell_m: float
    margin_m: float  # of the grid around boxes and goal
    min_clearance_m: float  # a centre never comes nearer to boxes than this
    free_clearance_m: float  # nearer than this costs extra
    proximity_weight: float  # how much dearer a way beside a box is, per metre
    max_clearance_m: float  # from boxes; nothing asks about more


@dataclass(frozen=True)
class NavigationField:
    """How far points are from the boxes, and from the goal around them; `origin` is the centre of cell (0, 0)."""

    origin: tuple[float, float]  # [m]
    cell_m: float
    clearance: Array  # (X, Y) [m], negative inside
    min_cost: Array  # (X, Y) cost of the way to the goal [m]
    detour: Array  # (X, Y) by how much that is more than the straight way [m]

    def map(self, convert: Callable[[Array], Array]) -> "NavigationField":
        return replace(self, **{name: convert(getattr(self, name)) for name in ("clearance", "min_cost", "detour")})

    def compute_cost_to_go(self, xy: Array) -> Array:
        """Cost of the way to the goal [m], linear between cells."""
        return self._interpolate(self.min_cost, xy)

    def compute_detour(self, xy: Array) -> Array:
        return self._interpolate(self.detour, xy)

    def compute_clearance(self, xy: Array) -> Array:
        """Distance to the nearest box [m], linear between cells."""
        return self._interpolate(self.clearance, xy)

    def _interpolate(self, table: Array, xy: Array) -> Array:
        return interpolate(table, GridCell.locate(split_coordinates(xy), self.origin, self.cell_m, table.shape))


def get_navigation_field(grid: GridSpec, bodies: Bodies, goal: np.ndarray) -> NavigationField:
    """The field of an observation's static bodies and goal; computed once, then remembered."""
    return _get_cache(grid)(extract_static_boxes(bodies)[:, :5], np.asarray(goal[:2], np.float64))


@lru_cache(maxsize=8)
def _get_cache(grid: GridSpec) -> ContentCache[NavigationField]:
    return ContentCache(lambda boxes, goal: build_navigation_fields(grid, boxes, goal[None])[0])


def build_navigation_fields(grid: GridSpec, boxes: np.ndarray, goals: np.ndarray) -> list[NavigationField]:
    """A field for each of the goals (G, 2) among boxes (S, 5): x, y, yaw, half width, half depth."""
    return _build_fields(grid, boxes, goals, _fill_obstacles)


def compute_route_length(grid: GridSpec, boxes: np.ndarray, start: np.ndarray, goal: np.ndarray) -> float:
    """Cost of the way from start to goal (2,) [m]; inf where there is none."""
    field = _build_fields(grid, boxes, goal[None], lambda togo, cell_m: togo)[0]
    cell = np.round((start - field.origin) / grid.cell_m).astype(int)
    return float(field.min_cost[tuple(np.clip(cell, 0, np.array(field.min_cost.shape) - 1))])


def _build_fields(
    grid: GridSpec, boxes: np.ndarray, goals: np.ndarray, fill: Callable[[np.ndarray, float], np.ndarray]
) -> list[NavigationField]:
    around = np.vstack([boxes[:, :2], goals])
    low, high = around.min(0) - grid.margin_m, around.max(0) + grid.margin_m
    axes = [np.arange(low[i], high[i] + grid.cell_m, grid.cell_m) for i in range(2)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    empty = np.full(points.shape[:2], grid.max_clearance_m)
    clearance = np.minimum(compute_signed_distance(points, boxes), grid.max_clearance_m) if len(boxes) else empty
    straight = np.linalg.norm(points - goals[:, None, None], axis=-1)
    ways = np.stack(
        [fill(way, grid.cell_m) for way in _compute_route_costs(grid, clearance, straight.reshape(len(goals), -1).argmin(1))]
    )
    detours = np.maximum(0, ways - straight)
    return [
        NavigationField(
            (float(low[0]), float(low[1])), grid.cell_m, *(table.astype(np.float32) for table in (clearance, way, detour))
        )
        for way, detour in zip(ways, detours, strict=True)
    ]


def _compute_route_costs(grid: GridSpec, clearance: np.ndarray, homes: np.ndarray) -> np.ndarray:
    """(G, X, Y) cost of the way to each of some cells (G,); inf where there is none."""
    free = clearance > grid.min_clearance_m
    free.flat[homes] = True
    tail, head, length = connect_free_cells(free)
    tight = grid.proximity_weight * np.clip(1 - clearance.ravel() / grid.free_clearance_m, 0, 1)
    cost = grid.cell_m * length * (1 + (tight[tail] + tight[head]) / 2)
    graph = coo_array((cost, (tail, head)), shape=(clearance.size,) * 2).tocsr()
    return np.asarray(dijkstra(graph, indices=homes).reshape(-1, *clearance.shape))


def _fill_obstacles(togo: np.ndarray, cell_m: float) -> np.ndarray:
    """Inside of boxes as beside them, and more."""
    out, nearest = distance_transform_edt(~np.isfinite(togo), return_indices=True)
    return np.asarray(togo[nearest[0], nearest[1]] + 3 * cell_m * out)
