"""How far it is to a goal around boxes, for something that goes or is pushed any way: one table per space and goal."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from sim.bodies import Bodies
from sim.costmaps.cache import Remembered, boxes_of
from sim.geometry.arrays import Array, coordinates
from sim.geometry.boxes import clearance_of
from sim.geometry.grid import Cell, between, edges


@dataclass(frozen=True)
class Grid:
    """How finely ways are looked for, and what keeps them from boxes. Lengths in metres."""

    cell_m: float
    beyond_m: float  # of the grid around boxes and goal
    thin_m: float  # a centre never comes nearer to boxes than this
    wide_m: float  # nearer than this costs extra
    tight: float  # how much dearer a way beside a box is, per metre
    far_m: float  # from boxes; nothing asks about more


@dataclass(frozen=True)
class WayField:
    """How far points are from the boxes, and from the goal around them; `origin` is the centre of cell (0, 0)."""

    origin: tuple[float, float]  # [m]
    cell_m: float
    clearance: Array  # (X, Y) [m], negative inside
    best: Array  # (X, Y) cost of the way to the goal [m]
    detour: Array  # (X, Y) by how much that is more than the straight way [m]

    def map(self, convert: Callable[[Array], Array]) -> "WayField":
        return replace(self, **{name: convert(getattr(self, name)) for name in ("clearance", "best", "detour")})

    def togo_at(self, xy: Array) -> Array:
        """Cost of the way to the goal [m], linear between cells."""
        return self._at(self.best, xy)

    def detour_at(self, xy: Array) -> Array:
        return self._at(self.detour, xy)

    def clearance_at(self, xy: Array) -> Array:
        """Distance to the nearest box [m], linear between cells."""
        return self._at(self.clearance, xy)

    def _at(self, table: Array, xy: Array) -> Array:
        return between(table, Cell.at(coordinates(xy), self.origin, self.cell_m, table.shape))


def way_field(grid: Grid, bodies: Bodies, goal: np.ndarray) -> WayField:
    """The field of an observation's static bodies and goal; computed once, then remembered."""
    return _fields(grid)(boxes_of(bodies)[:, :5], np.asarray(goal[:2], np.float64))


@lru_cache(maxsize=8)
def _fields(grid: Grid) -> Remembered[WayField]:
    return Remembered(lambda boxes, goal: build(grid, boxes, goal[None])[0])


def build(grid: Grid, boxes: np.ndarray, goals: np.ndarray) -> list[WayField]:
    """A field for each of the goals (G, 2) among boxes (S, 5): x, y, yaw, half width, half depth."""
    return _build(grid, boxes, goals, _everywhere)


def route_m(grid: Grid, boxes: np.ndarray, start: np.ndarray, goal: np.ndarray) -> float:
    """Cost of the way from start to goal (2,) [m]; inf where there is none."""
    field = _build(grid, boxes, goal[None], lambda togo, cell_m: togo)[0]
    cell = np.round((start - field.origin) / grid.cell_m).astype(int)
    return float(field.best[tuple(np.clip(cell, 0, np.array(field.best.shape) - 1))])


def _build(grid: Grid, boxes: np.ndarray, goals: np.ndarray, fill: Callable[[np.ndarray, float], np.ndarray]) -> list[WayField]:
    around = np.vstack([boxes[:, :2], goals])
    low, high = around.min(0) - grid.beyond_m, around.max(0) + grid.beyond_m
    axes = [np.arange(low[i], high[i] + grid.cell_m, grid.cell_m) for i in range(2)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
    empty = np.full(points.shape[:2], grid.far_m)
    clearance = np.minimum(clearance_of(points, boxes), grid.far_m) if len(boxes) else empty
    straight = np.linalg.norm(points - goals[:, None, None], axis=-1)
    ways = np.stack([fill(way, grid.cell_m) for way in _ways(grid, clearance, straight.reshape(len(goals), -1).argmin(1))])
    detours = np.maximum(0, ways - straight)
    return [
        WayField((float(low[0]), float(low[1])), grid.cell_m, *(table.astype(np.float32) for table in (clearance, way, detour)))
        for way, detour in zip(ways, detours, strict=True)
    ]


def _ways(grid: Grid, clearance: np.ndarray, homes: np.ndarray) -> np.ndarray:
    """(G, X, Y) cost of the way to each of some cells (G,); inf where there is none."""
    free = clearance > grid.thin_m
    free.flat[homes] = True
    tail, head, length = edges(free)
    tight = grid.tight * np.clip(1 - clearance.ravel() / grid.wide_m, 0, 1)
    cost = grid.cell_m * length * (1 + (tight[tail] + tight[head]) / 2)
    graph = coo_array((cost, (tail, head)), shape=(clearance.size,) * 2).tocsr()
    return np.asarray(dijkstra(graph, indices=homes).reshape(-1, *clearance.shape))


def _everywhere(togo: np.ndarray, cell_m: float) -> np.ndarray:
    """Inside of boxes as beside them, and more."""
    out, nearest = distance_transform_edt(~np.isfinite(togo), return_indices=True)
    return np.asarray(togo[nearest[0], nearest[1]] + 3 * cell_m * out)
