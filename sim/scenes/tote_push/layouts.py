"""Layouts of tote-push: rectangular halls with racks, sampled per split.

Distribution shifts are harder on purpose.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely

from sim.costmaps.pushing import find_start_fault
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.free_space import find_overlaps, make_polygons
from sim.layout import Box, Hall, Layout, Pose, find_geometric_faults
from sim.layout_sampling import complete_task, get_split_spec, sample_until_valid
from sim.robots.differential_drive import DifferentialDrive
from sim.variation import Span, Variations

LOAD_HALF_M = np.array([0.25, 0.2, 0.15])
ROBOT_RADIUS_M = DifferentialDrive.radius_m
LOAD_RADIUS_M = 0.2  # circle inside the load


@dataclass(frozen=True)
class SplitSpec:
    """Parameters of the layouts of one split. Pairs are ranges, except the size."""

    seed: int  # each split has its own random sequence
    size_m: tuple[float, float] = (6.0, 6.0)  # width and depth of the hall
    racks: tuple[int, int] = (3, 6)
    # allowed gaps between a rack and its neighbours or walls
    gap_m: tuple[float, float] = (1.1, 9.0)
    loads: int = 1
    goal_distance_m: tuple[float, float] = (1.0, 3.0)
    variations: Variations = Variations()


FRICTION = ("load_friction", Span(0.2, 0.9, 0.35, 0.65))
MASS = ("load_mass_kg", Span(3.0, 12.0, 4.5, 8.0))
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
    """Get the parameters of a split.

    Raises:
        UnknownName: no split has this name.
    """
    return get_split_spec(SPLIT_SPECS, split)


@lru_cache(maxsize=4096)
def sample_layout(split: str, index: int) -> Layout:
    """Sample layout `index` of a split, the same on every machine.

    Solved and unsolvable starts are rejected.

    Raises:
        UnknownName: no split has this name.
    """
    spec = get_spec(split)
    return sample_until_valid(split, index, spec.seed, lambda rng, name: _sample_candidate(spec, rng, name))


def find_task_fault(layout: Layout, needs_grid_route: bool = False) -> str | None:
    """Find out why the task makes no sense: it starts solved, or no route exists; else None.

    Args:
        layout: layout to check.
        needs_grid_route: as of `find_start_fault`; sampled layouts do.
    """
    robot, load, goal = (np.array([pose.x, pose.y]) for pose in (layout.robot, layout.loads[0], layout.goal))
    if np.linalg.norm(load - goal) < 0.15:
        return "the load starts at the goal"
    boxes = layout.static_boxes[:, [0, 1, 2, 3, 4, 6]]
    return find_start_fault(boxes, goal, LOAD_HALF_M, ROBOT_RADIUS_M, load, robot, needs_grid_route)


def find_faults(layout: Layout) -> list[str]:
    """Find everything that is wrong with a layout, geometry first, one line for each fault."""
    if layout.surface != "hall":
        return [f"surface is '{layout.surface}', 'hall' is needed: --scene selects another scene"]
    faults = find_geometric_faults(layout, ROBOT_RADIUS_M, LOAD_RADIUS_M)
    if not faults and (fault := find_task_fault(layout)):
        faults.append(fault)
    if not faults:
        loads = make_polygons(np.array([(load.x, load.y, load.yaw, *LOAD_HALF_M[:2]) for load in layout.loads]))
        robot = shapely.Point(layout.robot.x, layout.robot.y).buffer(ROBOT_RADIUS_M)
        names = ["the robot", *(f"loads[{i}]" for i in range(len(loads)))]
        faults = find_overlaps(names, [robot, *loads], layout.static_names, make_polygons(layout.static_boxes))
    return faults


def _sample_candidate(spec: SplitSpec, rng: np.random.Generator, name: str) -> Layout | None:
    hall = Hall(0.0, 0.0, *spec.size_m)
    boxes = _sample_racks(spec, rng, hall)
    layout = None if boxes is None else _sample_task(hall, boxes, spec, rng, name)
    return layout if layout is not None and find_task_fault(layout, needs_grid_route=True) is None else None


def make_task(
    hall: Hall,
    boxes: tuple[Box, ...],
    name: str = "",
    seed: int = 0,
    robot: Pose | None = None,
    load: Pose | None = None,
    goal: Pose | None = None,
) -> Layout:
    """Make a task in a given hall. Poses that are not given are sampled.

    Raises:
        BadLayout: no sampled task can be solved.
    """
    spec, rng = SPLIT_SPECS["test"], np.random.default_rng([seed, 99])
    fault = "has no space for a task: no free start, load and goal with a route between them were found"
    empty = Layout(hall, Pose(hall.x, hall.y), (), Pose(hall.x, hall.y), boxes, name)
    return complete_task(empty, lambda: _sample_task(hall, boxes, spec, rng, name), find_faults, fault, robot, load, goal)


def _sample_task(hall: Hall, boxes: tuple[Box, ...], spec: SplitSpec, rng: np.random.Generator, name: str) -> Layout | None:
    empty = Layout(hall, Pose(0, 0), (), Pose(0, 0), boxes)
    load = _sample_free_place(rng, empty, 0.5)
    robot = _sample_free_place(rng, empty, 0.4)
    more_loads = [_sample_free_place(rng, empty, 0.45) for _ in range(spec.loads - 1)]
    distance, bearing = rng.uniform(*spec.goal_distance_m), rng.uniform(-np.pi, np.pi)
    goal = load + distance * np.array([np.cos(bearing), np.sin(bearing)])
    if not _is_clear(empty, goal[None], 0.35)[0]:
        return None
    places = [robot, load, *more_loads]
    gaps = [np.linalg.norm(a - b) for i, a in enumerate(places) for b in places[i + 1 :]]
    if min(gaps) < 0.75 or any(np.linalg.norm(goal - place) < 0.6 for place in more_loads):
        return None
    yaws = rng.uniform(-np.pi, np.pi, len(places))
    poses = [Pose(*(round(float(v), 4) for v in (*place, yaw))) for place, yaw in zip(places, yaws, strict=True)]
    layout = Layout(hall, poses[0], tuple(poses[1:]), Pose(*(round(float(v), 4) for v in goal)), boxes, name)
    return None if find_geometric_faults(layout, ROBOT_RADIUS_M, LOAD_RADIUS_M) else layout


def _sample_racks(spec: SplitSpec, rng: np.random.Generator, hall: Hall) -> tuple[Box, ...] | None:
    """Sample racks along either axis.

    Their gaps to each other and to walls leave aisles; some stand against a wall.
    """
    low, high = spec.gap_m
    count = int(rng.integers(spec.racks[0], spec.racks[1] + 1))
    boxes: list[Box] = []
    spans: list[np.ndarray] = []  # x0, y0, x1, y1
    for _ in range(400):
        if len(boxes) == count:
            return tuple(boxes)
        size = np.array([rng.uniform(0.8, 1.8), rng.uniform(0.35, 0.6)])
        size = size[::-1] if rng.random() < 0.5 else size
        max_corner = np.array([hall.width, hall.depth]) - size
        # clipped racks stand against a wall
        corner = np.clip(rng.uniform(-0.4, max_corner + 0.4), 0, max_corner)
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
    """Sample a uniform random place at least `clearance_m` from racks and walls; any place where 64
    tries find none.
    """
    hall = layout.hall
    places = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth), (64, 2))
    free = np.flatnonzero(_is_clear(layout, places, clearance_m))
    return places[free[0]] if len(free) else places[0]


def _is_clear(layout: Layout, places: np.ndarray, clearance_m: float) -> np.ndarray:
    return compute_signed_distance(places, layout.static_boxes) >= clearance_m


def sample_near_start(layout: Layout, rng: np.random.Generator) -> np.ndarray | None:
    """Sample free poses of the loads, and a pose of the robot beside the first load.

    Returns:
        (1 + loads, 3) x, y, yaw of the robot and the loads [m, rad]; None where 200 tries find
        none.
    """
    hall, boxes = layout.hall, layout.static_boxes
    for _ in range(200):
        loads = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth), (len(layout.loads), 2))
        bearing = rng.uniform(-np.pi, np.pi)
        robot = loads[0] + rng.uniform(0.65, 1.3) * np.array([np.cos(bearing), np.sin(bearing)])
        places = np.vstack([robot, loads])
        clearance = compute_signed_distance(places, boxes) - np.array([0.31, *[0.33] * len(loads)])
        gaps = np.linalg.norm(places[:, None] - places[None], axis=-1)[np.triu_indices(len(places), 1)]
        if clearance.min() > 0 and gaps.min() > 0.64:
            return np.column_stack([places, rng.uniform(-np.pi, np.pi, len(places))])
    return None
