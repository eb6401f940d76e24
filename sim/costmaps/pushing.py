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
from sim.costmaps.approach import BLOCK, LOAD_BLOCK, approach_costs
from sim.costmaps.cache import Remembered, boxes_of
from sim.geometry.arrays import Array, clamp, coordinates, namespace
from sim.geometry.boxes import clearance_of, closest_on_box
from sim.geometry.grid import Cell, Coordinates, between

CELL_M = 0.1
MOVES = ((1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 2), (-1, 1), (-2, 1))  # cells; the other eight are their negatives
OFFSETS = np.array([*MOVES, *((-x, -y) for x, y in MOVES)])
DIRECTIONS = OFFSETS / np.linalg.norm(OFFSETS, axis=1, keepdims=True)
TURN_WEIGHT = 2.0  # walking around the tote, against pushing it, per metre: the robot also turns on the spot twice
DRIVE_WEIGHT = 1.0  # driving freely, against pushing
NEAR_M, FAR_M = 0.9, 1.4  # between these distances of robot and load the near cost gives way to the far one
COARSE_SLACK_M = 0.2  # what the coarse far cost may be wrong by beside the load; more is a way or a rack that the near misses
TOUCHING_M, TOUCHING_SLACK = 0.75, 3.0  # closer than this it may be too high by so much more, per metre
BLOCKED_PUSH = 5.0  # how much dearer a push is when the robot has no room behind the tote
BLOCKED_TURN = 3.0
MARGIN_M = 0.15  # closer to obstacles than this beyond the bodies' own size costs extra
ROBOT_SLACK_M = 0.02


@dataclass(frozen=True)
class GeodesicField:
    """Lookup tables over a grid; `origin` is the centre of cell (0, 0). Tables are numpy or torch, all of one kind.

    Lookups take points (..., 2), or their coordinates as a pair, and give (...); on a single point they use plain numbers.
    """

    origin: tuple[float, float]  # [m]
    goal: tuple[float, float]  # [m]
    contact_m: float  # distance of the two centres while pushing
    togo: Array  # (X, Y, 16) metres to go, by the load's cell and the direction it is pushed in
    clearance: Array  # (X, Y) distance from the cell's centre to the nearest static box [m], negative inside
    best: Array  # (X, Y) least of togo over the directions
    approach: Array  # (X', Y', X", Y") what getting into position adds to it, by robot's and load's coarse cell [m]

    cell_m = CELL_M

    def map(self, convert: Callable[[Array], Array]) -> "GeodesicField":
        """The same field with converted tables."""
        return replace(self, **{name: convert(getattr(self, name)) for name in ("togo", "clearance", "best", "approach")})

    def cost_to_go(self, load_xy: Array, robot_xy: Array) -> Array:
        """Metres to go. Near the load it depends on the side that the robot is on; from far, on the drive around the racks
        to the best side."""
        load, robot = coordinates(load_xy), coordinates(robot_xy)
        cell = self._cell(load, CELL_M, self.best.shape)
        apart = _distance(load, robot)
        near = self._pushing(cell, load, robot) + DRIVE_WEIGHT * clamp(apart - self.contact_m, 0)
        far = between(self.best, cell) + self.approaching(load, robot)
        share = clamp((FAR_M - apart) / (FAR_M - NEAR_M), 0, 1)
        least = -COARSE_SLACK_M - TOUCHING_SLACK * clamp(TOUCHING_M - apart, 0)
        xp = namespace(near)
        blend = far + share * xp.maximum(xp.minimum(near - far, COARSE_SLACK_M), least)
        # beside the goal a coarse cell cannot tell on which side of it the load is
        away = clamp((_distance(load, self.goal) - 0.3) / 0.2, 0, 1)
        return near + away * (blend - near)

    def pushing(self, load_xy: Array, robot_xy: Array) -> Array:
        """Metres to go for a robot beside the load: linear between cells and between directions."""
        load, robot = coordinates(load_xy), coordinates(robot_xy)
        return self._pushing(self._cell(load, CELL_M, self.best.shape), load, robot)

    def _pushing(self, cell: "Cell", load: Coordinates, robot: Coordinates) -> Array:
        n, xp = len(OFFSETS), namespace(cell.fx)
        turn = xp.atan2(load[1] - robot[1], load[0] - robot[0]) * (n / (2 * np.pi))
        k = xp.floor(turn)
        fk = turn - k
        k = xp.astype(k, xp.int64) % n
        one, other = (between(self.togo, cell, direction, n) for direction in (k, (k + 1) % n))
        return one + fk * (other - one)

    def approaching(self, load_xy: Array, robot_xy: Array) -> Array:
        """Metres that a robot away from the load adds to go: linear between the coarse cells of both."""
        nx, ny, mx, my = self.approach.shape
        load = self._cell(coordinates(load_xy), LOAD_BLOCK * CELL_M, (mx, my))
        robot = self._cell(coordinates(robot_xy), BLOCK * CELL_M, (nx, ny), 0.5 / BLOCK - 0.5)
        at = load.x * my + load.y
        low, low_right, high, high_right = (between(self.approach, robot, at + step, mx * my) for step in (0, my, 1, my + 1))
        low += load.fx * (low_right - low)
        high += load.fx * (high_right - high)
        return low + load.fy * (high - low)

    def clearance_at(self, xy: Array) -> Array:
        """Distance to the nearest static box [m]."""
        return between(self.clearance, self._cell(coordinates(xy), CELL_M, self.clearance.shape))

    def _cell(self, point: Coordinates, cell_m: float, shape: tuple[int, int], shift: float = 0.0) -> "Cell":
        return Cell.at(point, self.origin, cell_m, shape, shift)


def _distance(a: Coordinates, b: Coordinates) -> Array:
    dx, dy = a[0] - b[0], a[1] - b[1]
    return namespace(dx).hypot(dx, dy)


def field_of(bodies: Bodies, goal: np.ndarray) -> GeodesicField:
    """The field of an observation's static bodies, first load and goal; computed once, then remembered."""
    robot, load = np.asarray(bodies.half_extents[:2], np.float64)
    return _FIELDS(boxes_of(bodies), np.asarray(goal[:2], np.float64), load, robot[0])


def build_field(boxes: np.ndarray, goal: np.ndarray, load_half: np.ndarray, robot_radius_m: float) -> GeodesicField:
    """From static boxes (S, 6) x, y, yaw, half width, half depth, Kind; the hall is what the walls enclose."""
    space = _Space(boxes, goal, load_half, robot_radius_m)
    togo = _fill(space.distances(strict=False), space.load_free).astype(np.float32)
    clearance = space.clearance.astype(np.float32)
    beyond = [(0, -size % BLOCK) for size in clearance.shape]
    free = np.pad(clearance, beyond, constant_values=-1) > robot_radius_m + ROBOT_SLACK_M
    load_free, sparse = (table[::LOAD_BLOCK, ::LOAD_BLOCK] for table in (space.load_free, togo))
    approach = approach_costs(free, load_free, sparse, DIRECTIONS, CELL_M, space.contact, DRIVE_WEIGHT)
    approach = np.ascontiguousarray(approach)  # lookups flatten it without a copy
    x, y = space.origin.tolist()
    goal_x, goal_y = goal.tolist()
    return GeodesicField((x, y), (goal_x, goal_y), float(space.contact), togo, clearance, togo.min(-1), approach)


_FIELDS = Remembered(build_field)


def start_fault(boxes: np.ndarray, goal: np.ndarray, load_half: np.ndarray, robot_radius_m: float, load: np.ndarray,
                robot: np.ndarray) -> str | None:  # fmt: skip
    """Why a start at load and robot (2,) cannot be solved, or None: the robot must reach a place from which it can push home."""
    space = _Space(boxes, goal, load_half, robot_radius_m)
    cell = lambda xy: tuple(np.clip(np.round((xy - space.origin) / CELL_M).astype(int), 0, np.array(space.clearance.shape) - 1))  # noqa: E731
    ways = np.flatnonzero(np.isfinite(space.distances(strict=True)[cell(load)]))
    if not len(ways):
        return "no route on which the robot could push the load to the goal"
    zones, _ = label(space.clearance > robot_radius_m + ROBOT_SLACK_M)
    home = zones[cell(robot)]
    if home == 0 or not any(zones[cell(load - (space.contact + 0.05) * d)] == home for d in DIRECTIONS[ways]):
        return "no route on which the robot could reach the load"
    return None


class _Space:
    """The grid of one space: where the load and the robot behind it fit, and the graph of pushes over it."""

    def __init__(self, boxes: np.ndarray, goal: np.ndarray, load_half: np.ndarray, robot_radius_m: float) -> None:
        low, self.high = _hall(boxes)
        shape = np.maximum(2, np.round((self.high - low) / CELL_M).astype(int))
        self.origin = low + (self.high - low - (shape - 1) * CELL_M) / 2
        axes = [self.origin[i] + CELL_M * np.arange(shape[i]) for i in range(2)]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1)
        self.clearance = clearance_of(points, boxes)
        inner, outer = float(load_half[:2].min()), float(np.hypot(*load_half[:2]))
        self.contact = robot_radius_m + float(load_half[:2].mean())
        room = np.stack([clearance_of(points - self.contact * d, boxes) for d in DIRECTIONS], -1) - robot_radius_m  # (X, Y, K)
        self.load_free = self.clearance > inner
        tight = np.maximum(0, outer + MARGIN_M - self.clearance)[..., None] + np.maximum(0, MARGIN_M - room)
        self._graph = _Graph(self.load_free, room < ROBOT_SLACK_M, tight, self.contact)
        self._near = np.linalg.norm(points - goal, axis=-1)

    def distances(self, strict: bool) -> np.ndarray:
        """(X, Y, K) cost to the goal; `strict` forbids what the robot has no room for."""
        nearest = self._near[self.load_free].min(initial=np.inf) + 1e-9
        sources = np.argwhere(self.load_free & (self._near <= max(0.75 * CELL_M, nearest)))
        return self._graph.distances(sources, self._near, strict)


def _hall(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper corner of the space that the outer walls (the first four boxes) enclose."""
    walls = boxes[boxes[:, 5] == Kind.WALL][:4]
    inside = walls[:, :2].mean(0)
    faces = closest_on_box(inside, walls[:, :2], walls[:, 2], walls[:, 3:5])
    return faces.min(0), faces.max(0)


class _Graph:
    """Edges between (cell, direction) states, kept as index arrays, so that costs can be set twice."""

    def __init__(self, load_free: np.ndarray, blocked: np.ndarray, tight: np.ndarray, contact_m: float) -> None:
        self.shape = blocked.shape
        index = np.arange(blocked.size).reshape(self.shape)
        turn = TURN_WEIGHT * contact_m * 2 * np.pi / len(OFFSETS)
        tail, head, cost, hard = (list[np.ndarray]() for _ in range(4))
        for k, (dx, dy) in enumerate(OFFSETS):
            here, there = _shifted(self.shape[:2], dx, dy)
            free = load_free[here] & load_free[there]
            stuck = blocked[here][..., k] | blocked[there][..., k]
            extra = 2 * (tight[here][..., k] + tight[there][..., k])
            step = CELL_M * np.hypot(dx, dy) * (1 + extra + BLOCKED_PUSH * stuck)
            for part, values in ((tail, index[here][..., k]), (head, index[there][..., k]), (cost, step), (hard, stuck)):
                part.append(values[free])
            for other in ((k + 1) % len(OFFSETS), (k - 1) % len(OFFSETS)):
                stuck = blocked[..., k] | blocked[..., other]
                step = turn * (1 + BLOCKED_TURN * stuck)
                for part, values in ((tail, index[..., k]), (head, index[..., other]), (cost, step), (hard, stuck)):
                    part.append(values[load_free])
        self._tail, self._head = np.concatenate(tail), np.concatenate(head)
        self._cost, self._hard = np.concatenate(cost), np.concatenate(hard)
        self._index = index

    def distances(self, sources: np.ndarray, start: np.ndarray, strict: bool) -> np.ndarray:
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


def _shifted(shape: tuple[int, ...], dx: int, dy: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Slices of the cells that have a neighbour at (dx, dy), and of those neighbours."""
    pairs = []
    for size, d in zip(shape, (dx, dy), strict=True):
        pairs.append((slice(max(0, -d), size - max(0, d)), slice(max(0, d), size + min(0, d))))
    return (pairs[0][0], pairs[1][0]), (pairs[0][1], pairs[1][1])


def _fill(togo: np.ndarray, load_free: np.ndarray) -> np.ndarray:
    """Finite everywhere: cells the load cannot be in take the nearest good cell's value and more, so that costs lead out."""
    known = np.isfinite(togo).all(-1)
    if not known.any():
        return np.zeros_like(togo) + np.linalg.norm(togo.shape[:2]) * CELL_M
    distance, nearest = distance_transform_edt(~known, return_indices=True)
    return togo[nearest[0], nearest[1]] + 2 * CELL_M * distance[..., None]
