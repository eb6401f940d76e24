"""The task of conveyor-sort: cost, success and violations."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sim.bodies import LOAD, ROBOT, Bodies, Kind
from sim.contacts import Contact
from sim.costmaps.cache import ContentCache
from sim.geometry.arrays import Array, clamp, get_namespace
from sim.geometry.rotations import compute_yaw, rotate
from sim.scenes.conveyor_sort.layouts import BELT_TOP_M, HALL, MAX_BIN_HALF_M, WALL_M
from sim.task import MISSING_GOAL

MAX_FORCE_N = 30.0  # of the tool on a static body, mean over a control step
MIN_BELT_SPEED_M_S = 0.05
GRID_M = 0.05  # cell of the table that the viewer draws
URGENCY_TIME_S = 0.8  # before its bin, a part is urgent
FEATURE_PARTS = 3  # most urgent parts in the features of policies


@dataclass(frozen=True)
class SortingField:
    """Places of belt and bins, for the G goals of a layout. Tables are all numpy or all torch.

    Lateral distances are positive on the left of the belt's direction of travel.
    """

    origin: tuple[float, float]  # centre of cell (0, 0) [m]
    cell_m: float
    min_cost: Array  # (X, Y) distance to the bin of the first part [m]
    belt: Array  # (7,) start x, y [m], direction x, y, length, half width [m], speed [m/s]
    mouth: Array  # (G, 2) centre along the belt and side, -1 or 1; zeros without a goal
    bin_half: Array  # (G, 2) half of the width along the belt and of the depth [m]
    bin_middle: Array  # (G, 2) along and lateral, in the belt's frame [m]
    has_goal: Array  # (G,) 1 or 0
    bins: Array  # (B, 4) middle of all bins along and lateral, half of their width and depth [m]

    def map(self, convert: Callable[[Array], Array]) -> "SortingField":
        """Convert every table.

        Args:
            convert: takes and returns an array of any shape, as `torch.as_tensor` does.
        """
        names = ("min_cost", "belt", "mouth", "bin_half", "bin_middle", "has_goal", "bins")
        return replace(self, **{name: convert(getattr(self, name)) for name in names})

    def locate(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Convert positions to the belt's frame.

        Args:
            x: (...) [m].
            y: (...) [m].

        Returns:
            Distance along the belt from its start, and lateral distance from its middle [m].
        """
        start_x, start_y, c, s = (self.belt[i] for i in range(4))
        dx, dy = x - start_x, y - start_y
        return c * dx + s * dy, c * dy - s * dx


@dataclass(frozen=True)
class Progress:
    """Progress of P parts, in the belt's frame. Arrays are (..., P)."""

    along: Array  # from the belt's start [m]
    lateral: Array  # from the belt's middle [m]
    side: Array  # of its bin, -1 or 1
    mouth_distance: Array  # along the belt, from the middle of the mouth of its bin [m]
    mouth_half: Array  # half of the width of that mouth [m]
    is_on_belt: Array
    is_active: Array  # on the belt, and not beyond the mouth of its bin
    is_sorted: Array  # in its bin
    is_lost: Array  # in a wrong bin, beside the belt, or beyond the mouth of its bin
    is_misplaced: Array  # in a wrong bin, or beside the belt
    is_binned: Array  # in any bin
    distance: Array  # across the belt to the mouth [m]
    way_m: Array  # along the belt to the middle of the mouth
    time_left_s: Array  # until the belt has carried it past the mouth

    @property
    def urgency(self) -> Array:
        """Weight of each part, from 0 to 1; 0 for parts that are not active."""
        xp = get_namespace(self.distance)
        return xp.exp(-self.time_left_s / URGENCY_TIME_S) * self.is_active


@dataclass(frozen=True)
class ConveyorSortTask:
    """Push each part into its bin. Costs are in units of `unit_m`.

    A part costs its distance across the belt to its bin, more so as its bin comes nearer, its way
    along the belt to there, so that it does not pay to hold it back, and `lost_cost` once it is
    lost. The tool pays its distance from the place behind the most urgent
    parts. Parts that have not arrived cost nothing.
    """

    unit_m: float
    goal_radius_m: float = 0.09  # of a bin, for drawings
    lost_cost: float = 4.0  # more than that of a part at the belt's start
    violation_weight: float = 3.0
    early_share: float = 0.4  # of the cost of a part far from its bin
    along_weight: float = 0.6
    approach_weight: float = 0.4
    wrong_side_weight: float = 1.0
    edge_margin_m: float = 0.015  # distance of a part's middle from an edge below which it pays
    risk_time_constant_s: float = 1.0
    num_goal_features = 6 * FEATURE_PARTS + 1

    @property
    def cost_unit_m(self) -> float:
        """Metres in one unit of cost."""
        return self.unit_m

    def get_cost_field(self, bodies: Bodies, goal: np.ndarray) -> SortingField:
        """Get the field of a layout and its goals from the cache.

        Args:
            bodies: (N,) as in an observation, with static bodies.
            goal: (G, 3) x, y, yaw of the middle of each part's bin [m, rad].
        """
        is_belt, is_bin = (np.asarray(bodies.is_static & (bodies.kind == kind)) for kind in (Kind.BELT, Kind.BIN))
        is_floor = is_bin & (bodies.half_extents[:, 2] < 0.6 * WALL_M)
        rows = [np.flatnonzero(is_belt)[:1], np.flatnonzero(is_floor)]
        belt, bins = (
            np.column_stack([bodies.pose[r, :2], compute_yaw(bodies.pose[r, 3:]), bodies.half_extents[r, :2]]) for r in rows
        )
        speed = np.linalg.norm(bodies.twist[rows[0], :2], axis=-1)
        return _CACHE(np.append(belt[0], speed).astype(np.float64), bins.astype(np.float64), np.asarray(goal, np.float64))

    def compute_progress(self, bodies: Bodies, field: SortingField) -> Progress:
        """Compute the progress of parts.

        Args:
            bodies: (..., N) bodies; rows of parts that have not arrived may be left out.
            field: result of `get_cost_field`.

        Returns:
            Progress of P parts, at most MAX_PARTS.
        """
        count = min(bodies.pose.shape[-2] - LOAD, len(field.has_goal))
        rows = slice(LOAD, LOAD + count)
        x, y, z = (bodies.pose[..., rows, i] for i in range(3))
        exists = (bodies.present[..., rows] > 0) & (bodies.kind[..., rows] == Kind.LOAD) & (field.has_goal[:count] > 0)
        along, lateral = field.locate(x, y)
        half_width, speed = field.belt[5], field.belt[6]
        centre, side = field.mouth[:count, 0], field.mouth[:count, 1]
        half, middle = field.bin_half[:count], field.bin_middle[:count]
        is_low = z < BELT_TOP_M
        is_inside = (abs(along - middle[:, 0]) <= half[:, 0]) & (abs(lateral - middle[:, 1]) <= half[:, 1])
        offsets = abs(along[..., None] - field.bins[:, 0]), abs(lateral[..., None] - field.bins[:, 1])
        in_any = ((offsets[0] <= field.bins[:, 2]) & (offsets[1] <= field.bins[:, 3])).any(-1)
        left = centre + half[:, 0] - along
        is_sorted = exists & is_low & is_inside
        is_misplaced = exists & is_low & ~is_inside
        is_lost = is_misplaced | (exists & ~is_low & (left < 0))
        return Progress(
            along, lateral, side, abs(along - centre), half[:, 0],
            is_on_belt=exists & ~is_low,
            is_active=exists & ~is_low & (left >= 0),
            is_sorted=is_sorted,
            is_lost=is_lost,
            is_misplaced=is_misplaced,
            is_binned=exists & is_low & in_any,
            distance=clamp(half_width - side * lateral, 0),
            way_m=clamp(centre - along, 0),
            time_left_s=clamp(left, 0) / speed,
        )  # fmt: skip

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: SortingField) -> Array:
        """Compute the cost of bodies at one moment.

        Args:
            bodies: (..., N) bodies.
            action: without effect on the cost.
            goal: unused, the field knows the bins.
            field: result of `get_cost_field`.

        Returns:
            (...) cost in units of `unit_m`; zero when all parts are in their bins.
        """
        progress = self.compute_progress(bodies, field)
        xp, urgency = get_namespace(bodies.pose), progress.urgency
        share = self.early_share + (1 - self.early_share) * urgency
        # a part in the mouth has yet to fall
        way = share * (progress.distance + 0.02) + self.along_weight * progress.way_m
        part_cost = progress.is_active * way / self.unit_m + self.lost_cost * progress.is_lost
        tool_along, tool_lateral = field.locate(bodies.pose[..., ROBOT, 0], bodies.pose[..., ROBOT, 1])
        ahead = tool_along[..., None] - progress.along
        across = progress.side * (tool_lateral[..., None] - progress.lateral)  # positive: on the side of the bin
        behind = bodies.half_extents[..., ROBOT, :1] + bodies.half_extents[..., LOAD : LOAD + ahead.shape[-1], 0]
        distance = xp.hypot(ahead, across + behind)
        wrong_side = clamp(across + behind, 0, 0.1) * (abs(ahead) < 0.1)
        tool_cost = self.approach_weight * distance + self.wrong_side_weight * wrong_side
        weight = urgency / clamp(urgency.sum(-1)[..., None], 1e-9)
        return part_cost.sum(-1) + (weight * tool_cost).sum(-1) / self.unit_m

    def compute_violation_penalty(self, bodies: Bodies, command: Array, field: SortingField) -> Array:
        """Compute the penalty of misplaced parts, and of parts near an open edge or a wrong mouth.

        Args:
            bodies: (..., N) bodies.
            command: without effect on the penalty.
            field: result of `get_cost_field`.

        Returns:
            (...) penalty in units of `unit_m`.
        """
        progress = self.compute_progress(bodies, field)
        half_width, inside = field.belt[5], abs(progress.lateral)
        is_in_mouth = (progress.side * progress.lateral > 0) & (progress.mouth_distance <= progress.mouth_half)
        overhang = clamp(inside - half_width + self.edge_margin_m, 0, self.edge_margin_m) / self.edge_margin_m
        at_edge = overhang * (progress.is_on_belt & ~is_in_mouth)
        return self.violation_weight * (progress.is_misplaced + 0.5 * at_edge).sum(-1)

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        """Find out whether all parts are in their bins.

        All bins are at most 2 × MAX_BIN_HALF_M wide, and at least so wide that a part beside a bin
        is farther from its middle.

        Args:
            bodies: (..., N) bodies; rows of parts that have not arrived may be left out.
            goal: (G, 3) x, y, yaw of the middle of each part's bin; MISSING_GOAL beyond the parts.
            margin_m: unused: a part is in its bin or not.

        Returns:
            (...) bool.
        """
        count = min(bodies.pose.shape[-2] - LOAD, len(goal))
        rows = slice(LOAD, LOAD + count)
        xp = get_namespace(bodies.pose)
        has_goal = goal[:, 0] < MISSING_GOAL
        dx, dy = (bodies.pose[..., rows, i] - goal[:count, i] for i in (0, 1))
        c, s = xp.cos(goal[:count, 2]), xp.sin(goal[:count, 2])
        is_near = (abs(c * dx + s * dy) <= MAX_BIN_HALF_M) & (abs(c * dy - s * dx) <= MAX_BIN_HALF_M)
        is_there = is_near & (bodies.pose[..., rows, 2] < BELT_TOP_M) & (bodies.present[..., rows] > 0)
        return (is_there | ~has_goal[:count]).all(-1) & (not bool(has_goal[count:].any()))

    def find_violations(self, bodies: Bodies, contacts: Sequence[Contact], is_inside: bool) -> dict[str, bool]:
        """Find hard contacts of the tool; the world finds all other violations."""
        forces = [contact.force_n for contact in contacts if contact.first == ROBOT and contact.is_static]
        return {"tool_collision": max(forces, default=0.0) > MAX_FORCE_N}

    def predict_violations(self, bodies: Bodies) -> dict[str, Array]:
        """Return an empty mapping: bins are not among predicted bodies.

        Returns:
            Empty mapping.
        """
        return {}

    def compute_goal_features(self, bodies: Bodies, goal: np.ndarray) -> np.ndarray:
        """Compute the goal features of one state, in the belt's frame and in units of `unit_m`.

        Args:
            bodies: (N,) as in an observation.
            goal: (G, 3) as in an observation.

        Returns:
            (6 FEATURE_PARTS + 1,) of the most urgent parts: place relative to the tool, distance to
            the mouth along and across the belt, urgency and side; and the cost.
        """
        field = self.get_cost_field(bodies, goal)
        progress = self.compute_progress(bodies, field)
        tool = field.locate(*bodies.pose[ROBOT, :2])
        order = np.argsort(-progress.urgency, kind="stable")[:FEATURE_PARTS]
        ahead = field.mouth[: len(progress.along), 0] - progress.along
        columns = (progress.along - tool[0], progress.lateral - tool[1], ahead, progress.distance)
        lengths = np.column_stack(columns) / self.unit_m
        features = np.column_stack([lengths, progress.urgency, progress.side]) * (progress.urgency > 0)[:, None]
        cost = self.compute_cost(bodies, np.zeros(2), goal, field)
        return np.append(np.pad(features[order], [(0, FEATURE_PARTS - len(order)), (0, 0)]), cost)


def _build_field(belt: np.ndarray, bins: np.ndarray, goal: np.ndarray) -> SortingField:
    """Build a field.

    Args:
        belt: (6,) x, y, yaw, half length, half width, speed.
        bins: (B, 5) x, y, yaw, half width, half depth.
        goal: (G, 3) middle of each part's bin; MISSING_GOAL beyond the parts.
    """
    x, y, yaw, half_length, half_width, speed = belt.tolist()
    c, s = math.cos(yaw), math.sin(yaw)
    goal = goal.reshape(-1, 3)
    has_goal = goal[:, 0] < MISSING_GOAL
    goals = np.where(has_goal[:, None], goal[:, :2], goal[0, :2])
    nearest = np.linalg.norm(goals[:, None] - bins[:, :2], axis=-1).argmin(-1)
    places = rotate(bins[:, :2] - (x, y), np.full(len(bins), -yaw)) + np.array([half_length, 0])
    middle = places[nearest]
    axes = [np.arange(low, high, GRID_M) for low, high in ((HALL.x, HALL.x + HALL.width), (HALL.y, HALL.y + HALL.depth))]
    grid_x, grid_y = np.meshgrid(*axes, indexing="ij")
    start = x - half_length * c, y - half_length * s
    field = SortingField(
        (HALL.x, HALL.y), GRID_M, np.hypot(grid_x - goals[0, 0], grid_y - goals[0, 1]),
        belt=np.array([*start, c, s, 2 * half_length, half_width, max(speed, MIN_BELT_SPEED_M_S)]),
        mouth=np.column_stack([middle[:, 0], np.sign(middle[:, 1])]),
        bin_half=bins[nearest, 3:],
        bin_middle=middle,
        has_goal=has_goal,
        bins=np.column_stack([places, bins[:, 3:]]),
    )  # fmt: skip
    return field.map(lambda table: table.astype(np.float32))  # as the tensors of planners


_CACHE = ContentCache(_build_field)
