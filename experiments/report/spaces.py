"""How far a space is from those that were trained in: a few numbers of a layout, standardised by the training set."""

from collections.abc import Iterable
from functools import lru_cache
from itertools import pairwise

import numpy as np
from scipy.ndimage import label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import cKDTree

from sim.geometry.boxes import compute_signed_distance
from sim.geometry.grid import connect_free_cells
from sim.layout import Layout, Pose

CELLS = 60  # along the longer side of a hall
AROUND = 0.1  # of that side: so far from a start or goal the way may be narrow, it counts as wide as its widest place there
DESCRIPTOR = ("free area [m²]", "boxes", "loads and traffic", "widest passage [m]", "route [m]", "detour")
DESCRIPTOR_SAYS = (
    "A space's numbers: free area, boxes, loads and traffic, the widest passage from start to goal, the length of a route through"
    " passages at least half as wide (by way of a load where there is one), and that over the straight way. Distance: to the"
    " nearest training space, each number in standard deviations of the training set, in units of the median distance between "
    "a training space and its own nearest neighbour: up to 2 or so a space is like those trained in."
)


@lru_cache(maxsize=4096)
def describe(layout: Layout) -> tuple[float, ...]:
    """What DESCRIPTOR names, of a layout of any scene: with loads the route leads over the first one."""
    stops = [layout.robot, *layout.loads[:1], layout.goal]
    hall, boxes = layout.hall, layout.static_boxes
    cell_m = max(hall.width, hall.depth) / CELLS
    xs, ys = (low + cell_m * (np.arange(max(1, round(size / cell_m))) + 0.5) for low, size in _sides(layout))
    points = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1)
    clearance = compute_signed_distance(points, boxes) if len(boxes) else np.full(points.shape[:2], cell_m * CELLS)
    at = [_cell(stop, points) for stop in stops]
    lifted = _lifted(clearance, points, stops, AROUND * max(hall.width, hall.depth))
    passage = _widest(lifted, at)
    route = sum(_way(lifted >= passage / 4, a, b) for a, b in pairwise(at)) * cell_m
    straight = sum(float(np.hypot(b.x - a.x, b.y - a.y)) for a, b in pairwise(stops))
    free = float((clearance > 0).sum()) * cell_m**2
    standing, others = float(len(layout.boxes)), float(len(layout.loads) + len(layout.traffic))
    return free, standing, others, passage, route, route / max(straight, cell_m)


def _sides(layout: Layout) -> tuple[tuple[float, float], tuple[float, float]]:
    return (layout.hall.x, layout.hall.width), (layout.hall.y, layout.hall.depth)


def _cell(place: Pose, points: np.ndarray) -> tuple[int, int]:
    x, y = np.unravel_index(int(np.linalg.norm(points - (place.x, place.y), axis=-1).argmin()), points.shape[:2])
    return int(x), int(y)


def _lifted(clearance: np.ndarray, points: np.ndarray, stops: list[Pose], around_m: float) -> np.ndarray:
    """Clearance that does not tell how near to a wall a start or goal is."""
    lifted = clearance.copy()
    for stop in stops:
        near = (np.linalg.norm(points - (stop.x, stop.y), axis=-1) <= around_m) & (clearance > 0)
        lifted[near] = clearance[near].max(initial=0.0)
    return lifted


def _widest(clearance: np.ndarray, at: list[tuple[int, int]]) -> float:
    """Width [m] of the narrowest place of the widest way between cells; zero where there is none."""
    low, high = 0.0, float(min(clearance[cell] for cell in at))
    for _ in range(10):
        middle = (low + high) / 2
        areas, _ = label(clearance >= middle, np.ones((3, 3)))
        joined = len({int(areas[cell]) for cell in at}) == 1 and areas[at[0]] > 0
        low, high = (middle, high) if joined else (low, middle)
    return 2 * low


def _way(free: np.ndarray, start: tuple[int, int], goal: tuple[int, int]) -> float:
    """Length of the shortest way [cells]; the straight one where none is free."""
    tail, head, length = connect_free_cells(free)
    graph = coo_array((length, (tail, head)), shape=(free.size, free.size)).tocsr()
    found = float(dijkstra(graph, indices=int(np.ravel_multi_index(start, free.shape)))[np.ravel_multi_index(goal, free.shape)])
    return found if np.isfinite(found) else float(np.hypot(goal[0] - start[0], goal[1] - start[1]))


class TrainingSpaces:
    """Distances from the spaces that models were trained in."""

    def __init__(self, layouts: Iterable[Layout]) -> None:
        numbers = np.array([describe(layout) for layout in {layout.id: layout for layout in layouts}.values()])
        self.mean = numbers.mean(0)
        spread = numbers.std(0)
        self.std = np.where(spread > 0, spread, 1.0)
        self._tree = cKDTree((numbers - self.mean) / self.std)
        own = self._tree.query(self._tree.data, k=min(2, len(numbers)))[0].reshape(len(numbers), -1)[:, -1]
        self.unit = float(np.median(own)) or 1.0
        self.count = len(numbers)

    def distance(self, layout: Layout) -> float:
        """To the nearest one, in median distances between them and their own nearest neighbours."""
        return float(self._tree.query((np.array(describe(layout)) - self.mean) / self.std)[0]) / self.unit
