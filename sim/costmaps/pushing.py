"""How far a load is from its goal, for a robot that can only push: a cost-to-go around obstacles, one per space and goal.

A tote moves where the robot pushes it from, so the distance that matters is not the shortest path of the tote but the shortest
*pushing* path. States are (tote cell, direction of pushing); the robot stands behind the tote, opposite to the direction. Edges
push the tote one cell on, or walk the robot around it to the next direction. Where the robot's place is taken by a wall both are
dear, so a tote flush against a wall is far from everything behind it, as it really is. Dijkstra from the goal gives metres to go.
The same idea serves lattice planners for non-prehensile pushing (e.g. Lynch & Mason 1996, "Stable pushing").
"""

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
from sim.geometry.grid import Coordinates, GridCell, interpolate

CELL_M = 0.1
MOVES = ((1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1))  # cells; the other eight are their negatives
OFFSETS = np.array([*MOVES, *((-x, -y) for x, y in MOVES)])
DIRECTIONS = OFFSETS / np.linalg.norm(OFFSETS, axis=1, keepdims=True)
TURN_WEIGHT = 2.0  # walking around the tote, against pushing it, per metre: the robot also turns on the spot twice
DRIVE_WEIGHT = 1.0  # driving freely, against pushing
NEAR_COST_M, FAR_COST_M = 0.9, 1.4  # between these distances of robot and load the near cost gives way to the far one
COARSE_SLACK_M = 0.2  # what the coarse far cost may be wrong by beside the load; more is a way or a rack that the near misses
TOUCHING_M, TOUCHING_SLACK = 0.75, 3.0  # closer than this it may be too high by so much more, per metre
BLOCKED_PUSH_WEIGHT = 5.0  # how much dearer a push is when the robot has no room behind the tote
BLOCKED_TURN_WEIGHT = 3.0
MARGIN_M = 0.15  # closer to obstacles than this beyond the bodies' own size costs extra
ROBOT_SLACK_M = 0.02


@dataclass(frozen=True)
class PushingField:
    """Lookup tables over a grid; `origin` is the centre of cell (0, 0). Tables are numpy or torch, all of one kind.

    Lookups take points (..., 2), or their coordinates as a pair, and give (...); on a single point they use plain numbers.
    """

    origin: tuple[float, float]  # [m]
    goal: tuple[float, float]  # [m]
    contact_distance_m: float  # distance of the two centres while pushing
    pushing_cost: Array  # (X, Y, 16) metres to go, by the load's cell and the direction it is pushed in
    clearance: Array  # (X, Y) distance from the cell's centre to the nearest static box [m], negative inside
    min_cost: Array  # (X, Y) least of togo over the directions
    approach_cost: Array  # (X', Y', X", Y") what getting into position adds to it, by robot's and load's coarse cell [m]

    cell_m = CELL_M

    def map(self, convert: Callable[[Array], Array]) -> "PushingField":
        """The same field with converted tables."""
        return replace(
            self, **{name: convert(getattr(self, name)) for name in ("pushing_cost", "clearance", "min_cost", "approach_cost")}
        )

    def compute_cost_to_go(self, load_xy: Array, robot_xy: Array) -> Array:
        """Metres to go. Near the load it depends on the side that the robot is on; from far, on the drive around the racks
        to the best side."""
        load, robot = split_coordinates(load_xy), split_coordinates(robot_xy)
        cell = self._locate(load, CELL_M, self.min_cost.shape)
        apart = _compute_distance(load, robot)
        near = self._interpolate_pushing_cost(cell, load, robot) + DRIVE_WEIGHT * clamp(apart - self.contact_distance_m, 0)
        far = interpolate(self.min_cost, cell) + self.compute_approach_cost(load, robot)
        share = clamp((FAR_COST_M - apart) / (FAR_COST_M - NEAR_COST_M), 0, 1)
        least = -COARSE_SLACK_M - TOUCHING_SLACK * clamp(TOUCHING_M - apart, 0)
        xp = get_namespace(near)
        blend = far + share * xp.maximum(xp.minimum(near - far, COARSE_SLACK_M), least)
        # beside the goal a coarse cell cannot tell on which side of it the load is
        away = clamp((_compute_distance(load, self.goal) - 0.3) / 0.2, 0, 1)
        return near + away * (blend - near)

    def compute_pushing_cost(self, load_xy: Array, robot_xy: Array) -> Array:
        """Metres to go for a robot beside the load: linear between cells and between directions."""
        load, robot = split_coordinates(load_xy), split_coordinates(robot_xy)
        return self._interpolate_pushing_cost(self._locate(load, CELL_M, self.min_cost.shape), load, robot)

    def _interpolate_pushing_cost(self, cell: "GridCell", load: Coordinates, robot: Coordinates) -> Array:
        n, xp = len(OFFSETS), get_namespace(cell.fx)
        turn = xp.atan2(load[1] - robot[1], load[0] - robot[0]) * (n / (2 * np.pi))
        k = xp.floor(turn)
        fk = turn - k
        k = xp.astype(k, xp.int64) % n
        one, other = (interpolate(self.pushing_cost, cell, direction, n) for direction in (k, (k + 1) % n))
        return one + fk * (other - one)

    def compute_approach_cost(self, load_xy: Array, robot_xy: Array) -> Array:
        """Metres that a robot away from the load adds to go: linear between the coarse cells of both."""
        nx, ny, mx, my = self.approach_cost.shape
        load = self._locate(split_coordinates(load_xy), LOAD_BLOCK * CELL_M, (mx, my))
        robot = self._locate(split_coordinates(robot_xy), ROBOT_BLOCK * CELL_M, (nx, ny), 0.5 / ROBOT_BLOCK - 0.5)
        at = load.x * my + load.y
        low, low_right, high, high_right = (
            interpolate(self.approach_cost, robot, at + step, mx * my) for step in (0, my, 1, my + 1)
        )
        low += load.fx * (low_right - low)
        high += load.fx * (high_right - high)
        return low + load.fy * (high - low)

    def compute_clearance(self, xy: Array) -> Array:
        """Distance to the nearest static box [m]."""
        return interpolate(self.clearance, self._locate(split_coordinates(xy), CELL_M, self.clearance.shape))

    def _locate(self, point: Coordinates, cell_m: float, shape: tuple[int, int], shift: float = 0.0) -> "GridCell":
        return GridCell.locate(point, self.origin, cell_m, shape, shift)


def _compute_distance(a: Coordinates, b: Coordinates) -> Array:
    dx, dy = a[0] - b[0], a[1] - b[1]
    return get_namespace(dx).hypot(dx, dy)


def get_pushing_field(bodies: Bodies, goal: np.ndarray) -> PushingField:
    """The field of an observation's static bodies, first load and goal; computed once, then remembered."""
    robot, load = np.asarray(bodies.half_extents[:2], np.float64)
    return _FIELDS(extract_static_boxes(bodies), np.asarray(goal[:2], np.float64), load, robot[0])


def build_pushing_field(boxes: np.ndarray, goal: np.ndarray, load_half: np.ndarray, robot_radius_m: float) -> PushingField:
    """From static boxes (S, 6) x, y, yaw, half width, half depth, Kind; the hall is what the walls enclose."""
    space = _PushingGrid(boxes, goal, load_half, robot_radius_m)
    togo = _fill_unreachable(space.compute_costs(strict=False), space.load_free).astype(np.float32)
    clearance = space.clearance.astype(np.float32)
    beyond = [(0, -size % ROBOT_BLOCK) for size in clearance.shape]
    free = np.pad(clearance, beyond, constant_values=-1) > robot_radius_m + ROBOT_SLACK_M
    load_free, sparse = (table[::LOAD_BLOCK, ::LOAD_BLOCK] for table in (space.load_free, togo))
    approach = compute_approach_costs(free, load_free, sparse, DIRECTIONS, CELL_M, space.contact, DRIVE_WEIGHT)
    approach = np.ascontiguousarray(approach)  # lookups flatten it without a copy
    x, y = space.origin.tolist()
    goal_x, goal_y = goal.tolist()
    return PushingField((x, y), (goal_x, goal_y), float(space.contact), togo, clearance, togo.min(-1), approach)


_FIELDS = ContentCache(build_pushing_field)


def find_start_fault(boxes: np.ndarray, goal: np.ndarray, load_half: np.ndarray, robot_radius_m: float, load: np.ndarray,
                robot: np.ndarray) -> str | None:  # fmt: skip
    """Why a start at load and robot (2,) cannot be solved, or None: the robot must reach a place from which it can push home."""
    space = _PushingGrid(boxes, goal, load_half, robot_radius_m)
    cell = lambda xy: tuple(np.clip(np.round((xy - space.origin) / CELL_M).astype(int), 0, np.array(space.clearance.shape) - 1))  # noqa: E731
    ways = np.flatnonzero(np.isfinite(space.compute_costs(strict=True)[cell(load)]))
    if not len(ways):
        return "no route on which the robot could push the load to the goal"
    zones, _ = label(space.clearance > robot_radius_m + ROBOT_SLACK_M)
    home = zones[cell(robot)]
    if home == 0 or not any(zones[cell(load - (space.contact + 0.05) * d)] == home for d in DIRECTIONS[ways]):
        return "no route on which the robot could reach the load"
    return None


class _PushingGrid:
    """The grid of one space: where the load and the robot behind it fit, and the graph of pushes over it."""

    def __init__(self, boxes: np.ndarray, goal: np.ndarray, load_half: np.ndarray, robot_radius_m: float) -> None:
        low, self.high = _find_hall_corners(boxes)
        shape = np.maximum(2, np.round((self.high - low) / CELL_M).astype(int))
        self.origin = low + (self.high - low - (shape - 1) * CELL_M) / 2
        axes = [self.origin[i] + CELL_M * np.arange(shape[i]) for i in range(2)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        self.clearance = compute_signed_distance(points, boxes)
        inner, outer = float(load_half[:2].min()), float(np.hypot(*load_half[:2]))
        self.contact = robot_radius_m + float(load_half[:2].mean())
        room = (
            np.stack([compute_signed_distance(points - self.contact * d, boxes) for d in DIRECTIONS], -1) - robot_radius_m
        )  # (X, Y, K)
        self.load_free = self.clearance > inner
        tight = np.maximum(0, outer + MARGIN_M - self.clearance)[..., None] + np.maximum(0, MARGIN_M - room)
        self._graph = _PushingGraph(self.load_free, room < ROBOT_SLACK_M, tight, self.contact)
        self._near = np.linalg.norm(points - goal, axis=-1)

    def compute_costs(self, strict: bool) -> np.ndarray:
        """(X, Y, K) cost to the goal; `strict` forbids what the robot has no room for."""
        nearest = self._near[self.load_free].min(initial=np.inf) + 1e-9
        sources = np.argwhere(self.load_free & (self._near <= max(0.75 * CELL_M, nearest)))
        return self._graph.compute_costs(sources, self._near, strict)


def _find_hall_corners(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner of the space that the outer walls (the first four boxes) enclose."""
    walls = boxes[boxes[:, 5] == Kind.WALL][:4]
    inside = walls[:, :2].mean(0)
    faces = find_closest_points(inside, walls[:, :2], walls[:, 2], walls[:, 3:5])
    return faces.min(0), faces.max(0)


class _PushingGraph:
    """Edges between (cell, direction) states, kept as index arrays, so that costs can be set twice."""

    def __init__(self, load_free: np.ndarray, blocked: np.ndarray, tight: np.ndarray, contact_m: float) -> None:
        self.shape = blocked.shape
        index = np.arange(blocked.size).reshape(self.shape)
        turn = TURN_WEIGHT * contact_m * 2 * np.pi / len(OFFSETS)
        tail, head, cost, hard = (list[np.ndarray]() for _ in range(4))
        for k, (dx, dy) in enumerate(OFFSETS):
            here, there = _make_neighbour_slices(self.shape[:2], dx, dy)
            free = load_free[here] & load_free[there]
            stuck = blocked[here][..., k] | blocked[there][..., k]
            extra = 2 * (tight[here][..., k] + tight[there][..., k])
            step = CELL_M * np.hypot(dx, dy) * (1 + extra + BLOCKED_PUSH_WEIGHT * stuck)
            for part, values in ((tail, index[here][..., k]), (head, index[there][..., k]), (cost, step), (hard, stuck)):
                part.append(values[free])
            for other in ((k + 1) % len(OFFSETS), (k - 1) % len(OFFSETS)):
                stuck = blocked[..., k] | blocked[..., other]
                step = turn * (1 + BLOCKED_TURN_WEIGHT * stuck)
                for part, values in ((tail, index[..., k]), (head, index[..., other]), (cost, step), (hard, stuck)):
                    part.append(values[load_free])
        self._tail, self._head = np.concatenate(tail), np.concatenate(head)
        self._cost, self._hard = np.concatenate(cost), np.concatenate(hard)
        self._index = index

    def compute_costs(self, sources: np.ndarray, start: np.ndarray, strict: bool) -> np.ndarray:
        """Cost from each state to the source cells (G, 2); `strict` forbids what the robot has no room for."""
        n = self._index.size
        keep = ~self._hard if strict else np.ones(len(self._hard), bool)
        ends = self._index[sources[:, 0], sources[:, 1]]  # (G, K)
        first = np.repeat(start[sources[:, 0], sources[:, 1]] + 1e-6, len(OFFSETS))
        tail = np.concatenate([self._tail[keep], ends.ravel()])
        head = np.concatenate([self._head[keep], np.full(ends.size, n)])
        cost = np.concatenate([self._cost[keep], first])
        reverse = coo_array((cost, (head, tail)), shape=(n + 1, n + 1)).tocsr()
        return dijkstra(reverse, indices=n)[:n].reshape(self.shape)


def _make_neighbour_slices(shape: tuple[int, ...], dx: int, dy: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the cells that have a neighbour at (dx, dy), and of those neighbours."""
    pairs = []
    for size, d in zip(shape, (dx, dy), strict=True):
        pairs.append((slice(max(0, -d), size - max(0, d)), slice(max(0, d), size + min(0, d))))
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


def _fill_unreachable(togo: np.ndarray, load_free: np.ndarray) -> np.ndarray:
    """Finite everywhere: cells the load cannot be in take the nearest good cell's value and more, so that costs lead out."""
    known = np.isfinite(togo).all(-1)
    if not known.any():
        return np.zeros_like(togo) + np.linalg.norm(togo.shape[:2]) * CELL_M
    distance, nearest = distance_transform_edt(~known, return_indices=True)
    return togo[nearest[0], nearest[1]] + 2 * CELL_M * distance[..., None]
