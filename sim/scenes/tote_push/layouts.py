"""A rectangular hall with racks: the space of one seed, and the shift tiers that are harder on purpose."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.costmaps.pushing import find_start_fault
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.rotations import rotate
from sim.layout import Box, Hall, Layout, Pose, find_geometric_faults
from sim.layout_sampling import complete_task, get_split_spec, sample_until_valid
from sim.variation import Span, Variations

LOAD_HALF_M = np.array([0.25, 0.2, 0.15])
ROBOT_RADIUS_M = 0.3
LOAD_RADIUS_M = 0.2  # of a circle within it


@dataclass(frozen=True)
class SplitSpec:
    """How spaces of one split are drawn. Lengths in metres."""

    seed: int  # splits draw from seed sequences of their own
    size_m: tuple[float, float] = (6.0, 6.0)
    racks: tuple[int, int] = (3, 6)
    gap_m: tuple[float, float] = (1.1, 9.0)  # allowed gaps between racks that face each other, or a wall
    loads: int = 1
    goal_distance_m: tuple[float, float] = (1.0, 3.0)
    variations: Variations = Variations()


FRICTION, MASS = ("load_friction", Span(0.2, 0.9, 0.35, 0.65)), ("load_mass_kg", Span(3.0, 12.0, 4.5, 8.0))
SCALE = ("load_scale", Span(0.75, 1.25, 0.9, 1.1))
SPLIT_SPECS = {
    "train": SplitSpec(1),
    "val": SplitSpec(2),
    "test": SplitSpec(23),
    "shift-large-hall": SplitSpec(24, size_m=(9.0, 8.0), racks=(7, 10), goal_distance_m=(2.0, 5.0)),
    "shift-narrow-aisles": SplitSpec(25, gap_m=(0.85, 1.1), racks=(4, 6)),
    "shift-more-racks": SplitSpec(26, racks=(7, 9), gap_m=(0.95, 9.0)),
    "shift-two-totes": SplitSpec(27, loads=2),
    "shift-physics": SplitSpec(28, variations=Variations(spans=(FRICTION, MASS))),
    "shift-friction": SplitSpec(29, variations=Variations(spans=(FRICTION,))),
    "shift-mass": SplitSpec(30, variations=Variations(spans=(MASS,))),
    "shift-size": SplitSpec(31, variations=Variations(spans=(SCALE,))),
}
SPLITS = ("train", "val", "test")


def get_spec(split: str) -> SplitSpec:
    return get_split_spec(SPLIT_SPECS, split)


@lru_cache(maxsize=4096)
def sample_layout(split: str, index: int) -> Layout:
    """Layout number `index` of a split; the same on every machine. Starts that are solved or unsolvable are drawn again."""
    tier = get_spec(split)
    return sample_until_valid(split, index, tier.seed, lambda rng, name: _sample_candidate(tier, rng, name))


def find_task_fault(layout: Layout) -> str | None:
    """Why a task in this space makes no sense, or None: it starts solved, or no route exists."""
    load, goal = layout.loads[0], layout.goal
    start, aim = np.array([load.x, load.y]), np.array([goal.x, goal.y])
    if np.linalg.norm(start - aim) < 0.15:
        return "the load starts at the goal"
    boxes = layout.static_boxes[:, [0, 1, 2, 3, 4, 6]]
    robot = np.array([layout.robot.x, layout.robot.y])
    return find_start_fault(boxes, aim, LOAD_HALF_M, ROBOT_RADIUS_M, start, robot)


def find_faults(layout: Layout) -> list[str]:
    """Everything that is wrong with a layout, geometry first, one line each."""
    if layout.surface != "hall":
        return [f"surface is '{layout.surface}', 'hall' is needed: --scene chooses another scene"]
    faults = find_geometric_faults(layout, ROBOT_RADIUS_M, LOAD_RADIUS_M)
    if not faults and (fault := find_task_fault(layout)):
        faults.append(fault)
    if not faults:
        faults = [
            f"loads[{i}] reaches into {what}" for i, load in enumerate(layout.loads) for what in _find_load_overlaps(load, layout)
        ]
    return faults


def _find_load_overlaps(load: Pose, layout: Layout) -> list[str]:
    """What a load's rim reaches into, boxes or the robot."""
    rim, ends = np.linspace(-1, 1, 9), np.ones(9)
    x, y = np.concatenate([rim, rim, ends, -ends]), np.concatenate([ends, -ends, rim, rim])
    points = np.array([load.x, load.y]) + rotate(LOAD_HALF_M[:2] * np.column_stack([x, y]), np.full(len(x), load.yaw))
    robot = np.linalg.norm(points - (layout.robot.x, layout.robot.y), axis=-1).min() < ROBOT_RADIUS_M
    box = compute_signed_distance(points, layout.static_boxes).min() <= 0
    return [what for what, there in (("a box", box), ("the robot", robot)) if there]


def _sample_candidate(spec: SplitSpec, rng: np.random.Generator, name: str) -> Layout | None:
    hall = Hall(0.0, 0.0, *spec.size_m)
    boxes = _sample_racks(spec, rng, hall)
    layout = None if boxes is None else _sample_task(hall, boxes, spec, rng, name)
    return layout if layout is not None and find_task_fault(layout) is None else None


def make_task(
    hall: Hall,
    boxes: tuple[Box, ...],
    name: str = "",
    seed: int = 0,
    robot: Pose | None = None,
    load: Pose | None = None,
    goal: Pose | None = None,
) -> Layout:
    """A task in a space that came from elsewhere: what is not given is drawn; solvable, or BadLayout."""
    tier, rng = SPLIT_SPECS["test"], np.random.default_rng([seed, 99])
    nothing = "has no room for a task: no free start, load and goal with a route between them were found"
    return complete_task(lambda: _sample_task(hall, boxes, tier, rng, name), find_faults, name, nothing, robot, load, goal)


def _sample_task(hall: Hall, boxes: tuple[Box, ...], spec: SplitSpec, rng: np.random.Generator, name: str) -> Layout | None:
    probe = Layout(hall, Pose(0, 0), (), Pose(0, 0), boxes)
    load = _sample_free_place(rng, probe, 0.5)
    robot = _sample_free_place(rng, probe, 0.4)
    others = [_sample_free_place(rng, probe, 0.45) for _ in range(spec.loads - 1)]
    distance, bearing = rng.uniform(*spec.goal_distance_m), rng.uniform(-np.pi, np.pi)
    goal = load + distance * np.array([np.cos(bearing), np.sin(bearing)])
    if not _is_clear(probe, goal[None], 0.35)[0]:
        return None
    places = [robot, load, *others]
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[i + 1 :]]
    if min(gaps) < 0.75 or any(np.linalg.norm(goal - other) < 0.6 for other in others):
        return None
    yaws = rng.uniform(-np.pi, np.pi, len(places))
    poses = [Pose(*(round(float(v), 4) for v in (*place, yaw))) for place, yaw in zip(places, yaws, strict=True)]
    layout = Layout(hall, poses[0], tuple(poses[1:]), Pose(*(round(float(v), 4) for v in goal)), boxes, name)
    return None if find_geometric_faults(layout, ROBOT_RADIUS_M, LOAD_RADIUS_M) else layout


def _sample_racks(spec: SplitSpec, rng: np.random.Generator, hall: Hall) -> tuple[Box, ...] | None:
    """Racks along either axis whose gaps to each other and to the walls leave an aisle; some stand against a wall."""
    low, high = spec.gap_m
    number = int(rng.integers(spec.racks[0], spec.racks[1] + 1))
    boxes: list[Box] = []
    spans: list[np.ndarray] = []  # x0, y0, x1, y1
    for _ in range(400):
        if len(boxes) == number:
            return tuple(boxes)
        size = np.array([rng.uniform(0.8, 1.8), rng.uniform(0.35, 0.6)])
        size = size[::-1] if rng.random() < 0.5 else size
        corner = rng.uniform(-0.4, np.array([hall.width, hall.depth]) - size + 0.4)
        corner = np.clip(corner, 0, np.array([hall.width, hall.depth]) - size)  # some end flush with a wall
        span = np.concatenate([corner, corner + size])
        to_walls = np.array([span[0], span[1], hall.width - span[2], hall.depth - span[3]])
        if np.any((to_walls > 0) & (to_walls < low)):
            continue
        gaps = [np.linalg.norm(np.maximum(0, np.maximum(span[:2] - s[2:], s[:2] - span[2:]))) for s in spans]
        nearest = min([*gaps, *to_walls[to_walls > 0]], default=np.inf)
        if (gaps and min(gaps) < low) or nearest > high:
            continue
        spans.append(span)
        x, y, width, depth = (round(float(v), 3) for v in (*(corner + size / 2), *size))
        boxes.append(Box(x, y, width, depth))
    return None


def _sample_free_place(rng: np.random.Generator, layout: Layout, clearance_m: float) -> np.ndarray:
    """A uniform random place at least `clearance_m` from racks and walls."""
    hall = layout.hall
    places = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth), (64, 2))
    free = np.flatnonzero(_is_clear(layout, places, clearance_m))
    return places[free[0]] if len(free) else places[0]


def _is_clear(layout: Layout, places: np.ndarray, clearance_m: float) -> np.ndarray:
    return compute_signed_distance(places, layout.static_boxes) >= clearance_m


def sample_near_start(layout: Layout, rng: np.random.Generator) -> np.ndarray | None:
    """Loads anywhere with room, the robot beside the first one; None where 200 tries find nothing."""
    hall, boxes = layout.hall, layout.static_boxes
    for _ in range(200):
        loads = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth), (len(layout.loads), 2))
        bearing = rng.uniform(-np.pi, np.pi)
        robot = loads[0] + rng.uniform(0.65, 1.3) * np.array([np.cos(bearing), np.sin(bearing)])
        places = np.vstack([robot, loads])
        room = compute_signed_distance(places, boxes) - np.array([0.31, *[0.33] * len(loads)])
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(len(places), 1)]
        if room.min() > 0 and gaps.min() > 0.64:
            return np.column_stack([places, rng.uniform(-np.pi, np.pi, len(places))])
    return None
