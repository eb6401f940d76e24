"""A hall with racks, people and forklifts: the space of one seed, and the shift tiers that are harder on purpose."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.costmaps.navigation import GridSpec, compute_route_length
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.rotations import make_unit_vectors
from sim.layout import AGENT_KIND_BY_NAME, AgentRoute, Box, Hall, Layout, Pose, find_geometric_faults
from sim.layout_sampling import complete_task, get_split_spec, sample_until_valid
from sim.traffic.simulation import PROFILES
from sim.utils.errors import BadLayout
from sim.variation import Variation, Variations

ROBOT_RADIUS_M = 0.3
ROBOT_GRID = GridSpec(
    0.1, margin_m=0.2, min_clearance_m=ROBOT_RADIUS_M + 0.03, free_clearance_m=0.6, proximity_weight=1.0, max_clearance_m=3.0
)  # of the robot
AGENT_CLEARANCE_M = {"person": 0.4, "forklift": 0.9}  # around stops and starts of each kind
START_GAP_M = 1.6  # between the robot and others at the start
PERSONAL_DISTANCE_M = 0.5  # between its edge and the robot's; less is a violation, at the start as later
SPEEDS_M_S = {"person": (0.7, 1.4), "forklift": (0.6, 1.2)}
RADII_M = {name: min(PROFILES[kind].half_extents[:2]) for name, kind in AGENT_KIND_BY_NAME.items()}
BASE_VARIATIONS = Variations(base=Variation(speed_limit_m_s=1.0))


@dataclass(frozen=True)
class SplitSpec:
    """How spaces of one split are drawn. Lengths in metres."""

    seed: int  # splits draw from seed sequences of their own
    size_m: tuple[float, float] = (12.0, 10.0)
    rows: tuple[int, int] = (2, 3)  # of racks side by side
    racks: tuple[int, int] = (1, 2)  # in a row
    aisle_m: tuple[float, float] = (2.2, 3.0)
    people: tuple[int, int] = (2, 5)
    forklifts: tuple[int, int] = (0, 2)
    has_blocked_aisle: bool = False  # a pallet stands in an aisle
    route_m: tuple[float, float] = (5.0, 12.0)  # of the robot
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
    return get_split_spec(SPLIT_SPECS, split)


@lru_cache(maxsize=4096)
def sample_layout(split: str, index: int) -> Layout:
    """Layout number `index` of a split; the same on every machine."""
    tier = get_spec(split)
    return sample_until_valid(split, index, tier.seed, lambda rng, name: _sample_candidate(tier, rng, name))


def find_faults(layout: Layout) -> list[str]:
    """Everything that is wrong with a layout, geometry first, one line each."""
    if layout.surface != "hall":
        return [f"surface is '{layout.surface}', 'hall' is needed: --scene chooses another scene"]
    faults = find_geometric_faults(layout, ROBOT_RADIUS_M, ROBOT_RADIUS_M, RADII_M)
    for i, one in enumerate(layout.traffic if not faults else ()):
        gap = np.hypot(one.x - layout.robot.x, one.y - layout.robot.y) - ROBOT_RADIUS_M - RADII_M[one.kind]
        if one.kind == "person" and gap < PERSONAL_DISTANCE_M:
            faults.append(f"traffic[{i}] starts {gap:.2f} m from the robot, {PERSONAL_DISTANCE_M:g} m is needed")
    if not faults and np.hypot(layout.robot.x - layout.goal.x, layout.robot.y - layout.goal.y) < 0.5:
        faults.append("the robot starts at the goal")
    if not faults and np.isinf(compute_robot_route(layout)):
        faults.append("no route on which the robot could reach the goal")
    return faults


def compute_robot_route(layout: Layout) -> float:
    """How far the robot has to go, around boxes; inf where it cannot."""
    start, goal = (np.array([place.x, place.y]) for place in (layout.robot, layout.goal))
    return compute_route_length(ROBOT_GRID, layout.static_boxes[:, :5], start, goal)


def _sample_candidate(spec: SplitSpec, rng: np.random.Generator, name: str) -> Layout | None:
    hall = Hall(0.0, 0.0, *spec.size_m)
    boxes = _sample_racks(spec, rng, hall)
    return None if boxes is None else _sample_task(hall, boxes, spec, rng, name)


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
    if load is not None:
        raise BadLayout(name or "map", ["this scene has no load to place"])
    size, rng = float(np.hypot(hall.width, hall.depth)), np.random.default_rng([seed, 98])
    tier = SplitSpec(0, route_m=(min(2.0, 0.2 * size), 2 * size), people=(1, 3), forklifts=(0, 1))
    nothing = "has no room for a task: no free start, goal and traffic with ways between them were found"
    return complete_task(lambda: _sample_task(hall, boxes, tier, rng, name, robot), find_faults, name, nothing, robot, None, goal)


def _sample_task(
    hall: Hall, boxes: tuple[Box, ...], spec: SplitSpec, rng: np.random.Generator, name: str, robot: Pose | None = None
) -> Layout | None:
    """robot: where it starts; None: anywhere."""
    space = Layout(hall, Pose(0, 0), (), Pose(0, 0), boxes)
    start, aim = (_sample_pose(_sample_places(space, rng, 0.6, 1)[0], rng) for _ in range(2))
    start = robot or start
    kinds = ["person"] * int(rng.integers(spec.people[0], spec.people[1] + 1))
    kinds += ["forklift"] * int(rng.integers(spec.forklifts[0], spec.forklifts[1] + 1))
    travellers: list[AgentRoute] = []
    for kind in kinds:
        taken = np.array([(start.x, start.y), *((one.x, one.y) for one in travellers)])
        drawn = (_sample_route(space, kind, rng, taken) for _ in range(20))
        traveller = next((one for one in drawn if one is not None), None)
        if traveller is None:
            return None
        travellers.append(traveller)
    layout = Layout(hall, start, (), Pose(aim.x, aim.y), boxes, name, traffic=tuple(travellers))
    if find_geometric_faults(layout, ROBOT_RADIUS_M, ROBOT_RADIUS_M, RADII_M):
        return None
    return layout if spec.route_m[0] <= compute_robot_route(layout) <= spec.route_m[1] else None


def _sample_route(space: Layout, kind: str, rng: np.random.Generator, taken: np.ndarray) -> AgentRoute | None:
    """Someone with a start away from those places, and two or three stops that are apart."""
    start, *stops = _sample_places(space, rng, AGENT_CLEARANCE_M[kind], 1 + int(rng.integers(2, 4)))
    if np.linalg.norm(start - taken, axis=-1).min() < START_GAP_M or np.linalg.norm(stops[0] - stops[-1]) < 3:
        return None
    speed = round(float(rng.uniform(*SPEEDS_M_S[kind])), 3)
    pose = _sample_pose(start, rng)
    return AgentRoute(
        pose.x, pose.y, pose.yaw, kind, speed, tuple(Pose(round(float(x), 3), round(float(y), 3)) for x, y in stops)
    )


def _sample_pose(place: np.ndarray, rng: np.random.Generator) -> Pose:
    return Pose(*(round(float(value), 3) for value in (*place, rng.uniform(-np.pi, np.pi))))


def _sample_places(space: Layout, rng: np.random.Generator, room_m: float, count: int) -> np.ndarray:
    """(count, 2) uniform random places with so much room around them; where there are too few, any."""
    hall = space.hall
    places = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth), (200, 2))
    free = places[compute_signed_distance(places, space.static_boxes) > room_m]
    return free[:count] if len(free) >= count else places[:count]


def _sample_racks(spec: SplitSpec, rng: np.random.Generator, hall: Hall) -> tuple[Box, ...] | None:
    """Rows of racks with aisles between and around them; None where they do not fit."""
    across = bool(rng.random() < 0.5)
    length, depth = (hall.width, hall.depth) if across else (hall.depth, hall.width)
    rows = int(rng.integers(spec.rows[0], spec.rows[1] + 1))
    thick = rng.uniform(0.7, 1.1, rows)
    aisles = rng.uniform(*spec.aisle_m, rows + 1)
    if rng.random() < 0.3:
        aisles[0] = 0.0  # a row stands against the wall
    total = thick.sum() + aisles.sum()
    if total > depth + 0.3 or total < depth - 3.0:
        return None
    aisles *= (depth - thick.sum()) / aisles.sum()
    starts = np.cumsum(np.concatenate([[0], aisles[:-1] + thick]))  # of aisles
    boxes = []
    for start, aisle, deep in zip(starts, aisles, thick, strict=False):
        boxes += _sample_row(spec, rng, length, start + aisle + deep / 2, deep)
    if spec.has_blocked_aisle:
        aisle = int(rng.choice(np.flatnonzero(aisles)))
        at = float(rng.uniform(0.3, 0.7) * length)
        boxes.append((at, float(starts[aisle] + aisles[aisle] / 2), 1.2, float(aisles[aisle])))
    return tuple(_make_box(box, across) for box in boxes)


def _sample_row(
    spec: SplitSpec, rng: np.random.Generator, length: float, middle_y: float, thick: float
) -> list[tuple[float, ...]]:
    """Racks in a row: (middle, middle, length, depth), with aisles at its ends and between them."""
    racks = int(rng.integers(spec.racks[0], spec.racks[1] + 1))
    gaps = rng.uniform(*spec.aisle_m, racks + 1)
    if rng.random() < 0.4:
        gaps[0] = 0.0
    shares = rng.uniform(0.7, 1.3, racks)
    sizes = shares / shares.sum() * (length - gaps.sum())
    starts = np.cumsum(gaps[:-1]) + np.concatenate([[0], np.cumsum(sizes[:-1])])
    return [
        (float(start + size / 2), float(middle_y), float(size), float(thick)) for start, size in zip(starts, sizes, strict=True)
    ]


def _make_box(along: tuple[float, ...], across: bool) -> Box:
    x, y, width, depth = (round(value, 3) for value in along)
    if not across:
        x, y, width, depth = y, x, depth, width
    return Box(x, y, width, depth)


def sample_near_start(layout: Layout, rng: np.random.Generator) -> np.ndarray | None:
    """The robot anywhere with room, half of the time in somebody's way, up to 3.5 m ahead; None where 200 tries find nothing."""
    hall, boxes = layout.hall, layout.static_boxes
    others = np.array([(one.x, one.y) for one in layout.traffic]).reshape(-1, 2)
    for _ in range(200):
        place = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth))
        if len(others) and rng.random() < 0.5:
            one = layout.traffic[int(rng.integers(len(others)))]
            bearing = np.arctan2(one.stops[0].y - one.y, one.stops[0].x - one.x) + rng.normal(0, 0.3)
            place = np.array([one.x, one.y]) + rng.uniform(1.2, 3.5) * make_unit_vectors(bearing)
        room = compute_signed_distance(place, boxes) - ROBOT_RADIUS_M
        if room > 0.1 and (not len(others) or np.linalg.norm(others - place, axis=-1).min() > 1.0):
            return np.array([[*place, rng.uniform(-np.pi, np.pi)]])
    return None
