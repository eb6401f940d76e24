"""Pushing field: cost-to-go of a load around obstacles, for a robot that can only push it.

A load moves where the robot pushes it from, so its distance to the goal is the length of the
shortest *pushing* path. States are (load cell, push direction). The robot stands behind the load,
opposite to the direction. Edges push the load to a neighbour cell, or drive the robot around the
load to the next direction. Both cost more where a box takes the robot's place, so a load flush
against a wall is far from everything behind it. Dijkstra's algorithm from the goal gives metres.
Lattice planners for non-prehensile pushing do the same (e.g. Lynch & Mason 1996, "Stable pushing").

The approach table (`sim/costmaps/approach.py`) grows with the square of the hall's area. In halls
above FINE_HALL_M2 its cells are larger, so that it does not grow: in a hall of 20 × 20 m twice the
usual size, 0.6 m for the robot and 0.4 m for the load. The drive to the load is then approximate:
among racks the cost-to-go differs by 0.2 m on average, and with three times the usual size by
0.4 m, of 16 m. The pushing cost and the clearance have the same resolution in every hall.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy.ndimage import distance_transform_edt, label
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from sim.bodies import Bodies, Kind
from sim.costmaps.approach import LOAD_BLOCK, ROBOT_BLOCK, compute_approach_costs
from sim.costmaps.cache import ContentCache, extract_static_boxes
from sim.geometry.arrays import Array, clamp, get_namespace, split_coordinates
from sim.geometry.boxes import compute_signed_distance, find_closest_points
from sim.geometry.free_space import ALIGNED_SHARE, align_axes, get_free_space
from sim.geometry.grid import Coordinates, GridCell, interpolate

CELL_M = 0.1
FINE_HALL_M2 = 144  # up to this area the approach table has its usual resolution
# moves of the load [cells]; the other eight are their negatives
MOVES = ((1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1))
OFFSETS = np.array([*MOVES, *((-x, -y) for x, y in MOVES)])
DIRECTIONS = OFFSETS / np.linalg.norm(OFFSETS, axis=1, keepdims=True)
# cost of driving around the load relative to pushing: the robot also turns on the spot twice
TURN_WEIGHT = 2.0
DRIVE_WEIGHT = 1.0  # cost of driving freely relative to pushing
# the near cost changes to the far cost between these distances of robot and load
NEAR_COST_M = 0.9
FAR_COST_M = 1.4
# error of the far cost beside the load; a larger difference is a route that the near cost misses
COARSE_SLACK_M = 0.2
# below this distance the far cost may be too high by this much more per metre
TOUCHING_M = 0.75
TOUCHING_SLACK = 3.0
# added cost of a push without space for the robot behind the load, relative to its length
BLOCKED_PUSH_WEIGHT = 5.0
BLOCKED_TURN_WEIGHT = 3.0
MARGIN_M = 0.15  # clearance beyond the bodies' own size below which a push costs more
ROBOT_SLACK_M = 0.02


@dataclass(frozen=True)
class PushingField:
    """Lookup tables over a grid, all numpy or all torch.

    Lookups take points (..., 2), or their coordinates as a pair, and return (...). A single point
    gives plain numbers.
    """

    origin: tuple[float, float]  # centre of cell (0, 0) [m]
    goal: tuple[float, float]  # [m]
    contact_distance_m: float  # distance of the two centres while pushing
    pushing_cost: Array  # (X, Y, 16) metres to go by the load's cell and its push direction
    # (X, Y) distance from the cell's centre to the nearest static box [m], negative inside
    clearance: Array
    min_cost: Array  # (X, Y) least pushing_cost over the directions
    # (X', Y', X", Y") cost to get into position, by the robot's and the load's coarse cell [m]
    approach_cost: Array
    coarsening: int = 1  # size of the coarse cells relative to the usual size

    cell_m = CELL_M

    def map(self, convert: Callable[[Array], Array]) -> "PushingField":
        """Convert every table.

        Args:
            convert: takes and returns an array of any shape, as `torch.as_tensor` does.
        """
        names = ("pushing_cost", "clearance", "min_cost", "approach_cost")
        return replace(self, **{name: convert(getattr(self, name)) for name in names})

    def compute_cost_to_go(self, load_xy: Array, robot_xy: Array) -> Array:
        """Compute the metres to go.

        Near the load the cost depends on the robot's side of the load. Far from it, the cost
        depends on the drive around the boxes to the best side.

        Args:
            load_xy: (..., 2) centre of the load [m].
            robot_xy: (..., 2) centre of the robot [m].

        Returns:
            (...) cost [m].
        """
        load, robot = split_coordinates(load_xy), split_coordinates(robot_xy)
        cell = self._locate(load, CELL_M, self.min_cost.shape)
        distance = _compute_distance(load, robot)
        near = self._interpolate_pushing_cost(cell, load, robot) + DRIVE_WEIGHT * clamp(distance - self.contact_distance_m, 0)
        far = interpolate(self.min_cost, cell) + self.compute_approach_cost(load, robot)
        near_share = clamp((FAR_COST_M - distance) / (FAR_COST_M - NEAR_COST_M), 0, 1)
        slack = self.coarsening * COARSE_SLACK_M
        min_difference = -slack - TOUCHING_SLACK * clamp(TOUCHING_M - distance, 0)
        xp = get_namespace(near)
        blend = far + near_share * xp.maximum(xp.minimum(near - far, slack), min_difference)
        # next to the goal a coarse cell cannot tell on which side of the goal the load is
        blend_share = clamp((_compute_distance(load, self.goal) - 0.3) / 0.2, 0, 1)
        return near + blend_share * (blend - near)

    def compute_pushing_cost(self, load_xy: Array, robot_xy: Array) -> Array:
        """Compute the metres to go for a robot beside the load.

        Args:
            load_xy: (..., 2) centre of the load [m].
            robot_xy: (..., 2) centre of the robot [m]; only its direction from the load counts.

        Returns:
            (...) cost [m], linear between cells and between directions.
        """
        load, robot = split_coordinates(load_xy), split_coordinates(robot_xy)
        return self._interpolate_pushing_cost(self._locate(load, CELL_M, self.min_cost.shape), load, robot)

    def _interpolate_pushing_cost(self, cell: GridCell, load: Coordinates, robot: Coordinates) -> Array:
        n, xp = len(OFFSETS), get_namespace(cell.fx)
        turn = xp.atan2(load[1] - robot[1], load[0] - robot[0]) * (n / (2 * np.pi))
        k = xp.floor(turn)
        fk = turn - k
        k = xp.astype(k, xp.int64) % n
        low, high = (interpolate(self.pushing_cost, cell, direction, n) for direction in (k, (k + 1) % n))
        return low + fk * (high - low)

    def compute_approach_cost(self, load_xy: Array, robot_xy: Array) -> Array:
        """Compute the metres that a robot away from the load adds to the load's least cost.

        Args:
            load_xy: (..., 2) centre of the load [m].
            robot_xy: (..., 2) centre of the robot [m].

        Returns:
            (...) cost [m], linear between the coarse cells of both.
        """
        nx, ny, mx, my = self.approach_cost.shape
        robot_block, load_block = ROBOT_BLOCK * self.coarsening, LOAD_BLOCK * self.coarsening
        load = self._locate(split_coordinates(load_xy), load_block * CELL_M, (mx, my))
        robot = self._locate(split_coordinates(robot_xy), robot_block * CELL_M, (nx, ny), 0.5 / robot_block - 0.5)
        channel = load.x * my + load.y
        low, low_right, high, high_right = (
            interpolate(self.approach_cost, robot, channel + step, mx * my) for step in (0, my, 1, my + 1)
        )
        low += load.fx * (low_right - low)
        high += load.fx * (high_right - high)
        return low + load.fy * (high - low)

    def compute_clearance(self, xy: Array) -> Array:
        """Compute the distance from points to the nearest static box.

        Args:
            xy: (..., 2) points [m].

        Returns:
            (...) distance [m], linear between cells.
        """
        return interpolate(self.clearance, self._locate(split_coordinates(xy), CELL_M, self.clearance.shape))

    def _locate(self, point: Coordinates, cell_m: float, shape: tuple[int, int], shift: float = 0.0) -> GridCell:
        return GridCell.locate(point, self.origin, cell_m, shape, shift)


def _compute_distance(a: Coordinates, b: Coordinates) -> Array:
    dx, dy = a[0] - b[0], a[1] - b[1]
    return get_namespace(dx).hypot(dx, dy)


def get_pushing_field(bodies: Bodies, goal: np.ndarray) -> PushingField:
    """Get the field of an observation's static bodies, first load and goal from the cache.

    Args:
        bodies: N bodies of one observation.
        goal: (2+,) x and y of the goal [m].
    """
    robot, load = np.asarray(bodies.half_extents[:2], np.float64)
    return _FIELDS(extract_static_boxes(bodies), np.asarray(goal[:2], np.float64), load, robot[0])


def build_pushing_field(boxes: np.ndarray, goal: np.ndarray, load_half: np.ndarray, robot_radius_m: float) -> PushingField:
    """Build the field of a layout.

    Args:
        boxes: (S, 6) x, y, yaw, half width, half depth and Kind; the first four walls enclose the
            hall.
        goal: (2,) [m].
        load_half: (3,) half extents of the load [m].
        robot_radius_m: radius of the robot.
    """
    grid = _PushingGrid(boxes, goal, load_half, robot_radius_m)
    cost = _fill_unreachable(grid.compute_costs(strict=False), grid.load_free).astype(np.float32)
    clearance = grid.clearance.astype(np.float32)
    coarsening = math.ceil(math.sqrt(clearance.size * CELL_M**2 / FINE_HALL_M2) - 1e-6)
    load_block = LOAD_BLOCK * coarsening
    padding = [(0, -size % (ROBOT_BLOCK * coarsening)) for size in clearance.shape]
    robot_free = np.pad(clearance, padding, constant_values=-1) > robot_radius_m + ROBOT_SLACK_M
    load_free, load_cost = (table[::load_block, ::load_block] for table in (grid.load_free, cost))
    approach = compute_approach_costs(
        robot_free, load_free, load_cost, DIRECTIONS, CELL_M, grid.contact_m, DRIVE_WEIGHT, coarsening
    )
    approach = np.ascontiguousarray(approach)  # lookups flatten it without a copy
    x, y = grid.origin.tolist()
    goal_x, goal_y = goal.tolist()
    return PushingField((x, y), (goal_x, goal_y), float(grid.contact_m), cost, clearance, cost.min(-1), approach, coarsening)


_FIELDS = ContentCache(build_pushing_field)


def find_start_fault(
    boxes: np.ndarray,
    goal: np.ndarray,
    load_half: np.ndarray,
    robot_radius_m: float,
    load: np.ndarray,
    robot: np.ndarray,
    needs_grid_route: bool = False,
) -> str | None:
    """Find out why a start cannot be solved.

    The robot must reach a place from which it can push the load to the goal.

    Args:
        boxes: (S, 6) as for build_pushing_field.
        goal: (2,) [m].
        load_half: (3,) half extents of the load [m].
        robot_radius_m: radius of the robot.
        load: (2,) centre of the load at the start [m].
        robot: (2,) centre of the robot at the start [m].
        needs_grid_route: the robot must also reach the load on the grid, which misses passages
            that are hardly wide enough.

    Returns:
        The fault in one line, or None.
    """
    grid = _PushingGrid(boxes, goal, load_half, robot_radius_m)
    directions = np.flatnonzero(np.isfinite(grid.compute_costs(strict=True)[grid.locate(load)]))
    if not len(directions):
        return "no route on which the robot could push the load to the goal"
    places = [load - (grid.contact_m + 0.05) * direction for direction in DIRECTIONS[directions]]
    free_space = get_free_space(boxes, robot_radius_m + ROBOT_SLACK_M + ALIGNED_SHARE * CELL_M)
    if needs_grid_route:
        zones, _ = label(grid.clearance > robot_radius_m + ROBOT_SLACK_M)
        robot_zone = zones[grid.locate(robot)]
        places = [place for place in places if zones[grid.locate(place)] == robot_zone > 0]
    if not any(free_space.connects(robot, place, CELL_M) for place in places):
        return "no route on which the robot could reach the load"
    if not any(free_space.connects(robot, goal - grid.contact_m * direction, CELL_M) for direction in DIRECTIONS):
        return "no route on which the robot could push the load to the goal"
    return None


class _PushingGrid:
    """Grid of one layout: cells in which the load and the robot behind it fit, and the graph of
    pushes.
    """

    def __init__(self, boxes: np.ndarray, goal: np.ndarray, load_half: np.ndarray, robot_radius_m: float) -> None:
        low, high = _find_hall_corners(boxes)
        shape = np.maximum(2, np.round((high - low) / CELL_M).astype(int))
        origin = low + (high - low - (shape - 1) * CELL_M) / 2
        axes = [origin[i] + CELL_M * np.arange(shape[i]) for i in range(2)]
        axes, _ = align_axes(axes, boxes, CELL_M, robot_radius_m + ROBOT_SLACK_M)
        self.origin = np.array([axes[0][0], axes[1][0]])
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        self.clearance = compute_signed_distance(points, boxes)
        inner, outer = float(load_half[:2].min()), float(np.hypot(*load_half[:2]))
        self.contact_m = robot_radius_m + float(load_half[:2].mean())
        robot_clearance = self._compute_robot_clearance(points, boxes, robot_radius_m)
        self.load_free = self.clearance > inner
        tightness = np.maximum(0, outer + MARGIN_M - self.clearance)[..., None] + np.maximum(0, MARGIN_M - robot_clearance)
        self._index = np.arange(robot_clearance.size).reshape(robot_clearance.shape)  # of each state
        self._edges = self._connect_states(robot_clearance < ROBOT_SLACK_M, tightness)
        self._goal_distance = np.linalg.norm(points - goal, axis=-1)

    def _compute_robot_clearance(self, points: np.ndarray, boxes: np.ndarray, robot_radius_m: float) -> np.ndarray:
        """Compute the clearance (X, Y, K) of the robot behind the load, exact up to MARGIN_M and
        larger beyond it.
        """
        places = points[:, :, None] - self.contact_m * DIRECTIONS
        clearance = np.full(places.shape[:-1], np.inf)
        for box in boxes:
            c, s = abs(np.cos(box[2])), abs(np.sin(box[2]))
            extent = np.array([(c, s), (s, c)]) @ box[3:5] + self.contact_m + robot_radius_m + MARGIN_M + CELL_M
            (x0, y0), (x1, y1) = (
                np.clip((box[:2] + side * extent - self.origin) / CELL_M + 1, 0, points.shape[:2]).astype(int) for side in (-1, 1)
            )
            window = clearance[x0:x1, y0:y1]
            np.minimum(window, compute_signed_distance(places[x0:x1, y0:y1], box[None]), out=window)
        return clearance - robot_radius_m

    def locate(self, xy: np.ndarray) -> tuple[int, ...]:
        """Find the cell nearest to a point (2,)."""
        return tuple(np.clip(np.round((xy - self.origin) / CELL_M).astype(int), 0, np.array(self.clearance.shape) - 1))

    def compute_costs(self, strict: bool) -> np.ndarray:
        """Compute the cost to the goal (X, Y, K); `strict` forbids edges without space for the
        robot.
        """
        n = self._index.size
        nearest = self._goal_distance[self.load_free].min(initial=np.inf) + 1e-9
        is_end = self.load_free & (self._goal_distance <= max(0.75 * CELL_M, nearest))
        ends = self._index[is_end]  # (G, K)
        end_costs = np.repeat(self._goal_distance[is_end] + 1e-6, len(OFFSETS))
        *edges, blocked = self._edges
        tail, head, cost = (values[~blocked] if strict else values for values in edges)
        tail = np.concatenate([tail, ends.ravel()])
        head = np.concatenate([head, np.full(ends.size, n)])
        reverse = coo_array((np.concatenate([cost, end_costs]), (head, tail)), shape=(n + 1, n + 1)).tocsr()
        return dijkstra(reverse, indices=n)[:n].reshape(self._index.shape)

    def _connect_states(self, is_blocked: np.ndarray, tightness: np.ndarray) -> list[np.ndarray]:
        """Connect states by pushes and turns.

        Args:
            is_blocked: (X, Y, K) the robot has no space behind the load.
            tightness: (X, Y, K) clearance that load and robot lack [m].

        Returns:
            Tail, head, cost, and whether the robot has no space: (E,) each.
        """
        index = self._index
        load_free = self.load_free
        turn_m = TURN_WEIGHT * self.contact_m * 2 * np.pi / len(OFFSETS)
        edges: list[tuple[np.ndarray, ...]] = []
        for k, (dx, dy) in enumerate(OFFSETS):
            cells, neighbours = _make_neighbour_slices(load_free.shape, dx, dy)
            free = load_free[cells] & load_free[neighbours]
            blocked = is_blocked[cells][..., k] | is_blocked[neighbours][..., k]
            extra = 2 * (tightness[cells][..., k] + tightness[neighbours][..., k])
            cost = CELL_M * np.hypot(dx, dy) * (1 + extra + BLOCKED_PUSH_WEIGHT * blocked)
            edges.append(tuple(values[free] for values in (index[cells][..., k], index[neighbours][..., k], cost, blocked)))
            for next_k in ((k + 1) % len(OFFSETS), (k - 1) % len(OFFSETS)):
                blocked = is_blocked[..., k] | is_blocked[..., next_k]
                cost = turn_m * (1 + BLOCKED_TURN_WEIGHT * blocked)
                edges.append(tuple(values[load_free] for values in (index[..., k], index[..., next_k], cost, blocked)))
        return [np.concatenate(values) for values in zip(*edges, strict=True)]


def _find_hall_corners(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the lower and upper corner of the hall that the outer walls, the first four walls,
    enclose.
    """
    walls = boxes[boxes[:, 5] == Kind.WALL][:4]
    middle = walls[:, :2].mean(0)
    faces = find_closest_points(middle, walls[:, :2], walls[:, 2], walls[:, 3:5])
    return faces.min(0), faces.max(0)


def _make_neighbour_slices(shape: tuple[int, ...], dx: int, dy: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Make slices of the cells that have a neighbour at (dx, dy), and of these neighbours."""
    nx, ny = shape
    moves = ((dx, dy), (-dx, -dy))
    low, high = ((slice(max(0, -x), nx - max(0, x)), slice(max(0, -y), ny - max(0, y))) for x, y in moves)
    return low, high


def _fill_unreachable(cost: np.ndarray, load_free: np.ndarray) -> np.ndarray:
    """Fill unreachable cells with the nearest finite cell's cost and more, so that costs lead out
    of them.
    """
    known = np.isfinite(cost).all(-1)
    if not known.any():
        return np.zeros_like(cost) + np.linalg.norm(cost.shape[:2]) * CELL_M
    distance, nearest = distance_transform_edt(~known, return_indices=True)
    return cost[nearest[0], nearest[1]] + 2 * CELL_M * distance[..., None]
