"""Training distance: distance of a layout from the training layouts, by six numbers of a layout."""

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

NUM_CELLS = 60  # along the longer side of a hall
ENDPOINT_RADIUS_SHARE = 0.1  # of that side: within this radius, a narrow start or goal is widened
DESCRIPTOR_NAMES = ("free area [m²]", "boxes", "loads and traffic", "widest passage [m]", "route [m]", "detour")


@lru_cache(maxsize=4096)
def compute_descriptor(layout: Layout) -> tuple[float, ...]:
    """Compute the numbers of DESCRIPTOR_NAMES for a layout of any scene.

    The route is the shortest one whose passages have at least half the widest width. It leads from
    the robot to the goal, over the first load if there is one. The detour is the length of the
    route divided by that of straight lines.

    Returns:
        Numbers (D,), in the units of DESCRIPTOR_NAMES.
    """
    waypoints = [layout.robot, *layout.loads[:1], layout.goal]
    hall = layout.hall
    boxes = layout.static_boxes
    size_m = max(hall.width, hall.depth)
    cell_m = size_m / NUM_CELLS
    extents = ((hall.x, hall.width), (hall.y, hall.depth))
    xs, ys = (low + cell_m * (np.arange(max(1, round(size / cell_m))) + 0.5) for low, size in extents)
    points = np.stack(np.meshgrid(xs, ys, indexing="ij"), -1)
    clearance = compute_signed_distance(points, boxes) if len(boxes) else np.full(points.shape[:2], size_m)
    cells = [_find_cell(waypoint, points) for waypoint in waypoints]
    widened = _widen_endpoints(clearance, points, waypoints, ENDPOINT_RADIUS_SHARE * size_m)
    passage_m = _find_widest_passage(widened, cells)
    min_clearance_m = passage_m / 4  # a passage of half the widest width has this clearance on each side
    route_m = sum(_compute_route_length(widened >= min_clearance_m, a, b) for a, b in pairwise(cells)) * cell_m
    straight_m = sum(float(np.hypot(b.x - a.x, b.y - a.y)) for a, b in pairwise(waypoints))
    free_area_m2 = float((clearance > 0).sum()) * cell_m**2
    num_dynamic = float(len(layout.loads) + len(layout.traffic))
    return free_area_m2, float(len(layout.boxes)), num_dynamic, passage_m, route_m, route_m / max(straight_m, cell_m)


def _find_cell(pose: Pose, points: np.ndarray) -> tuple[int, int]:
    x, y = np.unravel_index(int(np.linalg.norm(points - (pose.x, pose.y), axis=-1).argmin()), points.shape[:2])
    return int(x), int(y)


def _widen_endpoints(clearance: np.ndarray, points: np.ndarray, waypoints: list[Pose], radius_m: float) -> np.ndarray:
    """Raise the clearance within a radius of each start and goal to its largest value there."""
    widened = clearance.copy()
    for waypoint in waypoints:
        is_near = (np.linalg.norm(points - (waypoint.x, waypoint.y), axis=-1) <= radius_m) & (clearance > 0)
        widened[is_near] = clearance[is_near].max(initial=0.0)
    return widened


def _find_widest_passage(clearance: np.ndarray, cells: list[tuple[int, int]]) -> float:
    """Find the width [m] of the widest route between cells; zero where there is none.

    The width of a route is that of its narrowest point.
    """
    low, high = 0.0, float(min(clearance[cell] for cell in cells))
    for _ in range(10):
        threshold_m = (low + high) / 2
        regions, _ = label(clearance >= threshold_m, np.ones((3, 3)))
        is_connected = len({int(regions[cell]) for cell in cells}) == 1 and regions[cells[0]] > 0
        low, high = (threshold_m, high) if is_connected else (low, threshold_m)
    return 2 * low


def _compute_route_length(is_free: np.ndarray, start: tuple[int, int], goal: tuple[int, int]) -> float:
    """Compute the length of the shortest free route [cells], or of the straight line without one."""
    tail, head, length = connect_free_cells(is_free)
    graph = coo_array((length, (tail, head)), shape=(is_free.size, is_free.size)).tocsr()
    start_index, goal_index = (int(np.ravel_multi_index(cell, is_free.shape)) for cell in (start, goal))
    route_cells = float(dijkstra(graph, indices=start_index)[goal_index])
    return route_cells if np.isfinite(route_cells) else float(np.hypot(goal[0] - start[0], goal[1] - start[1]))


class TrainingDistance:
    """Distance of layouts from the training layouts.

    Each number of a layout is standardised by its mean and standard deviation over the training
    layouts. The distance is the Euclidean distance to the nearest training layout, in units of the
    typical distance between a training layout and its nearest neighbour.
    """

    def __init__(self, layouts: Iterable[Layout]) -> None:
        descriptors = np.array([compute_descriptor(layout) for layout in {layout.id: layout for layout in layouts}.values()])
        self.count = len(descriptors)
        self.mean = descriptors.mean(0)
        std = descriptors.std(0)
        self.std = np.where(std > 0, std, 1.0)
        self._tree = cKDTree((descriptors - self.mean) / self.std)
        neighbour_distances = self._tree.query(self._tree.data, k=[min(2, self.count)])[0]
        self.distance_unit = float(np.median(neighbour_distances)) or 1.0

    def compute_distance(self, layout: Layout) -> float:
        """Compute the training distance of a layout.

        Returns:
            Distance; 1 is the median distance between a training layout and its nearest neighbour.
        """
        descriptor = (np.array(compute_descriptor(layout)) - self.mean) / self.std
        return float(self._tree.query(descriptor)[0]) / self.distance_unit
