"""Layouts of aisle-traffic: halls with rows of racks, people and forklifts, sampled per split.

Distribution shifts are harder on purpose.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely

from sim.bodies import Shape
from sim.costmaps.navigation import GridSpec, compute_route_length
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.free_space import find_overlaps, get_free_space, make_polygons
from sim.geometry.rotations import make_unit_vectors
from sim.layout import AGENT_KIND_BY_NAME, AgentRoute, Box, Hall, Layout, Pose, find_geometric_faults
from sim.layout_sampling import complete_task, get_split_spec, sample_until_valid
from sim.robots.differential_drive import DifferentialDrive
from sim.traffic.simulation import PROFILES
from sim.utils.errors import BadLayout
from sim.variation import Variation, Variations

ROBOT_RADIUS_M = DifferentialDrive.radius_m
ROBOT_GRID = GridSpec(
    0.1,
    margin_m=0.2,
    min_clearance_m=ROBOT_RADIUS_M + 0.03,
    free_clearance_m=0.6,
    proximity_weight=1.0,
    max_clearance_m=3.0,
    is_aligned=True,
)
AGENT_CLEARANCE_M = {"person": 0.4, "forklift": 0.9}  # clearance of starts and stops of each kind
START_GAP_M = 1.6  # least distance between the starts of robot and agents
PERSONAL_DISTANCE_M = 0.5  # between the edges of a person and the robot; less is a violation
SPEEDS_M_S = {"person": (0.7, 1.4), "forklift": (0.6, 1.2)}
RADII_M = {name: min(PROFILES[kind].half_extents[:2]) for name, kind in AGENT_KIND_BY_NAME.items()}
BASE_VARIATIONS = Variations(base=Variation(speed_limit_m_s=1.0))


@dataclass(frozen=True)
class SplitSpec:
    """Parameters of the layouts of one split. Pairs are ranges, except the size."""

    seed: int  # each split has its own random sequence
    size_m: tuple[float, float] = (12.0, 10.0)  # width and depth of the hall
    rows: tuple[int, int] = (2, 3)  # rows of racks
    racks: tuple[int, int] = (1, 2)  # racks in a row
    aisle_m: tuple[float, float] = (2.2, 3.0)
    people: tuple[int, int] = (2, 5)
    forklifts: tuple[int, int] = (0, 2)
    has_blocked_aisle: bool = False  # a pallet stands in an aisle
    route_m: tuple[float, float] = (5.0, 12.0)  # length of the robot's route
    variations: Variations = BASE_VARIATIONS


FAST_TRAFFIC = Variations(base=Variation(speed_limit_m_s=1.0, traffic_speed=1.3))
SPLIT_SPECS = {
    "train": SplitSpec(41),
    "val": SplitSpec(42),
    "test": SplitSpec(43),
    "shift-dense": SplitSpec(44, people=(6, 8), forklifts=(1, 3)),
    "shift-fast-people": SplitSpec(45, variations=FAST_TRAFFIC),
    "shift-blocked-aisles": SplitSpec(46, has_blocked_aisle=True),
}
MAX_TRAFFIC = 11


def get_spec(split: str) -> SplitSpec:
    """Get the parameters of a split.

    Raises:
        UnknownName: no split has this name.
    """
    return get_split_spec(SPLIT_SPECS, split)


@lru_cache(maxsize=4096)
def sample_layout(split: str, index: int) -> Layout:
    """Sample layout `index` of a split, the same on every machine.

    Raises:
        UnknownName: no split has this name.
    """
    spec = get_spec(split)
    return sample_until_valid(split, index, spec.seed, lambda rng, name: _sample_candidate(spec, rng, name))


def find_faults(layout: Layout) -> list[str]:
    """Find everything that is wrong with a layout, geometry first, one line for each fault."""
    if layout.surface != "hall":
        return [f"surface is '{layout.surface}', 'hall' is needed: --scene selects another scene"]
    faults = find_geometric_faults(layout, ROBOT_RADIUS_M, ROBOT_RADIUS_M, RADII_M)
    for i, agent in enumerate(layout.traffic if not faults else ()):
        gap = np.hypot(agent.x - layout.robot.x, agent.y - layout.robot.y) - ROBOT_RADIUS_M - RADII_M[agent.kind]
        if agent.kind == "person" and gap < PERSONAL_DISTANCE_M:
            faults.append(f"traffic[{i}] starts {gap:.2f} m from the robot, {PERSONAL_DISTANCE_M:g} m is needed")
    if not faults:
        faults = _find_agent_overlaps(layout) or _find_unreachable_stops(layout)
    if not faults and np.hypot(layout.robot.x - layout.goal.x, layout.robot.y - layout.goal.y) < 0.5:
        faults.append("the robot starts at the goal")
    if not faults and np.isinf(compute_robot_route(layout)):
        faults.append("no route on which the robot could reach the goal")
    return faults


def _find_agent_overlaps(layout: Layout) -> list[str]:
    """Find agents that overlap a box, the robot or another agent, one line each."""
    shapes = [shapely.Point(layout.robot.x, layout.robot.y).buffer(ROBOT_RADIUS_M)]
    for agent in layout.traffic:
        profile = PROFILES[AGENT_KIND_BY_NAME[agent.kind]]
        half_x, half_y, _ = profile.half_extents
        is_box = profile.shape == Shape.BOX
        box = make_polygons(np.array([(agent.x, agent.y, agent.yaw, half_x, half_y)]))[0]
        shapes.append(box if is_box else shapely.Point(agent.x, agent.y).buffer(half_x))
    names = ["the robot", *(f"traffic[{i}]" for i in range(len(layout.traffic)))]
    return find_overlaps(names, shapes, layout.static_names, make_polygons(layout.static_boxes))


def _list_unreachable_stops(layout: Layout, agent: AgentRoute) -> list[int]:
    """List the stops that an agent of its own size cannot reach from its start."""
    free_space = get_free_space(layout.static_boxes, RADII_M[agent.kind])
    return [k for k, stop in enumerate(agent.stops) if not free_space.connects((agent.x, agent.y), (stop.x, stop.y))]


def _find_unreachable_stops(layout: Layout) -> list[str]:
    """Find stops that no agent of this size can reach, one line each."""
    return [
        f"traffic[{i}].stops[{k}] cannot be reached by a {agent.kind} from its start"
        for i, agent in enumerate(layout.traffic)
        for k in _list_unreachable_stops(layout, agent)
    ]


def compute_robot_route(layout: Layout) -> float:
    """Compute the cost of the robot's route to the goal [m]; inf without a route."""
    start, goal = (np.array([place.x, place.y]) for place in (layout.robot, layout.goal))
    return compute_route_length(ROBOT_GRID, layout.static_boxes[:, :5], start, goal)


def _sample_candidate(spec: SplitSpec, rng: np.random.Generator, name: str) -> Layout | None:
    hall = Hall(0.0, 0.0, *spec.size_m)
    boxes = _sample_racks(spec, rng, hall)
    layout = None if boxes is None else _sample_task(hall, boxes, spec, rng, name)
    return None if layout is None or _find_unreachable_stops(layout) else layout


def make_task(
    hall: Hall,
    boxes: tuple[Box, ...],
    name: str = "",
    seed: int = 0,
    robot: Pose | None = None,
    load: Pose | None = None,
    goal: Pose | None = None,
) -> Layout:
    """Make a task in a given hall. Poses that are not given, and the traffic, are sampled.

    Raises:
        BadLayout: a load is given, or no sampled task can be solved.
    """
    if load is not None:
        raise BadLayout(name or "map", ["this scene has no load to place"])
    size, rng = float(np.hypot(hall.width, hall.depth)), np.random.default_rng([seed, 98])
    spec = SplitSpec(0, route_m=(min(2.0, 0.2 * size), 2 * size), people=(1, 3), forklifts=(0, 1))
    fault = "has no space for a task: no free start, goal and traffic with routes between them were found"
    empty = Layout(hall, Pose(hall.x, hall.y), (), Pose(hall.x, hall.y), boxes, name)
    return complete_task(
        empty,
        lambda: _sample_task(hall, boxes, spec, rng, name, robot, are_routes_checked=True),
        find_faults,
        fault,
        robot,
        None,
        goal,
    )


def _sample_task(
    hall: Hall,
    boxes: tuple[Box, ...],
    spec: SplitSpec,
    rng: np.random.Generator,
    name: str,
    robot: Pose | None = None,
    are_routes_checked: bool = False,
) -> Layout | None:
    """Sample a task.

    Args:
        robot: its start; None: any start.
        are_routes_checked: other routes are sampled for agents that cannot reach a stop.
    """
    empty = Layout(hall, Pose(0, 0), (), Pose(0, 0), boxes)
    start, goal = (_sample_pose(_sample_places(empty, rng, 0.6, 1)[0], rng) for _ in range(2))
    start = robot or start
    kinds = ["person"] * int(rng.integers(spec.people[0], spec.people[1] + 1))
    kinds += ["forklift"] * int(rng.integers(spec.forklifts[0], spec.forklifts[1] + 1))
    agents: list[AgentRoute] = []
    for kind in kinds:
        starts = np.array([(start.x, start.y), *((agent.x, agent.y) for agent in agents)])
        candidates = filter(None, (_sample_route(empty, kind, rng, starts) for _ in range(20)))
        agent = next((route for route in candidates if not (are_routes_checked and _list_unreachable_stops(empty, route))), None)
        if agent is None:
            return None
        agents.append(agent)
    layout = Layout(hall, start, (), Pose(goal.x, goal.y), boxes, name, traffic=tuple(agents))
    if find_geometric_faults(layout, ROBOT_RADIUS_M, ROBOT_RADIUS_M, RADII_M):
        return None
    return layout if spec.route_m[0] <= compute_robot_route(layout) <= spec.route_m[1] else None


def _sample_route(empty: Layout, kind: str, rng: np.random.Generator, starts: np.ndarray) -> AgentRoute | None:
    """Sample an agent that starts away from other starts, with two or three distant stops."""
    place, *stops = _sample_places(empty, rng, AGENT_CLEARANCE_M[kind], 1 + int(rng.integers(2, 4)))
    if np.linalg.norm(place - starts, axis=-1).min() < START_GAP_M or np.linalg.norm(stops[0] - stops[-1]) < 3:
        return None
    speed = round(float(rng.uniform(*SPEEDS_M_S[kind])), 3)
    pose = _sample_pose(place, rng)
    stop_poses = tuple(Pose(round(float(x), 3), round(float(y), 3)) for x, y in stops)
    return AgentRoute(pose.x, pose.y, pose.yaw, kind, speed, stop_poses)


def _sample_pose(place: np.ndarray, rng: np.random.Generator) -> Pose:
    return Pose(*(round(float(value), 3) for value in (*place, rng.uniform(-np.pi, np.pi))))


def _sample_places(layout: Layout, rng: np.random.Generator, clearance_m: float, count: int) -> np.ndarray:
    """Sample uniform random places (count, 2) with this clearance from boxes; any places where
    there are too few.
    """
    hall = layout.hall
    places = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth), (200, 2))
    free = places[compute_signed_distance(places, layout.static_boxes) > clearance_m]
    return free[:count] if len(free) >= count else places[:count]


def _sample_racks(spec: SplitSpec, rng: np.random.Generator, hall: Hall) -> tuple[Box, ...] | None:
    """Sample rows of racks with aisles between and around them; None where they do not fit."""
    is_along_x = bool(rng.random() < 0.5)
    length, depth = (hall.width, hall.depth) if is_along_x else (hall.depth, hall.width)
    rows = int(rng.integers(spec.rows[0], spec.rows[1] + 1))
    row_depths = rng.uniform(0.7, 1.1, rows)
    aisles = rng.uniform(*spec.aisle_m, rows + 1)
    if rng.random() < 0.3:
        aisles[0] = 0.0  # a row stands against the wall
    total = row_depths.sum() + aisles.sum()
    if total > depth + 0.3 or total < depth - 3.0:
        return None
    aisles *= (depth - row_depths.sum()) / aisles.sum()
    aisle_starts = np.cumsum(np.concatenate([[0], aisles[:-1] + row_depths]))
    boxes = []
    for start, aisle, row_depth in zip(aisle_starts, aisles, row_depths, strict=False):
        boxes += _sample_row(spec, rng, length, start + aisle + row_depth / 2, row_depth)
    if spec.has_blocked_aisle:
        aisle = int(rng.choice(np.flatnonzero(aisles)))
        along = float(rng.uniform(0.3, 0.7) * length)
        boxes.append([along, float(aisle_starts[aisle] + aisles[aisle] / 2), 1.2, float(aisles[aisle])])
    return tuple(_make_box(box, is_along_x) for box in boxes)


def _sample_row(spec: SplitSpec, rng: np.random.Generator, length: float, middle: float, depth: float) -> list[list[float]]:
    """Sample the racks of a row with aisles at its ends and between them.

    Returns:
        Lists of the centre along and across the row, length and depth.
    """
    racks = int(rng.integers(spec.racks[0], spec.racks[1] + 1))
    gaps = rng.uniform(*spec.aisle_m, racks + 1)
    if rng.random() < 0.4:
        gaps[0] = 0.0
    shares = rng.uniform(0.7, 1.3, racks)
    sizes = shares / shares.sum() * (length - gaps.sum())
    starts = np.cumsum(gaps[:-1]) + np.concatenate([[0], np.cumsum(sizes[:-1])])
    return np.column_stack([starts + sizes / 2, np.full(racks, middle), sizes, np.full(racks, depth)]).tolist()


def _make_box(rack: list[float], is_along_x: bool) -> Box:
    x, y, width, depth = (round(value, 3) for value in rack)
    return Box(x, y, width, depth) if is_along_x else Box(y, x, depth, width)


def sample_near_start(layout: Layout, rng: np.random.Generator) -> np.ndarray | None:
    """Sample a free pose of the robot; half of the poses are up to 3.5 m ahead of an agent.

    Returns:
        (1, 3) x, y, yaw of the robot [m, rad]; None where 200 tries find none.
    """
    hall, boxes = layout.hall, layout.static_boxes
    agent_xy = np.array([(agent.x, agent.y) for agent in layout.traffic]).reshape(-1, 2)
    for _ in range(200):
        place = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth))
        if len(agent_xy) and rng.random() < 0.5:
            agent = layout.traffic[int(rng.integers(len(agent_xy)))]
            bearing = np.arctan2(agent.stops[0].y - agent.y, agent.stops[0].x - agent.x) + rng.normal(0, 0.3)
            place = np.array([agent.x, agent.y]) + rng.uniform(1.2, 3.5) * make_unit_vectors(bearing)
        clearance = compute_signed_distance(place, boxes) - ROBOT_RADIUS_M
        if clearance > 0.1 and (not len(agent_xy) or np.linalg.norm(agent_xy - place, axis=-1).min() > 1.0):
            return np.array([[*place, rng.uniform(-np.pi, np.pi)]])
    return None
