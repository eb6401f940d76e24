"""A hall with racks, people and forklifts: the space of one seed, and the shift tiers that are harder on purpose."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from sim.costmaps.navigation import Grid, route_m
from sim.geometry.boxes import clearance_of
from sim.geometry.rotations import unit
from sim.layout import TRAFFIC_KINDS, Box, Hall, Layout, Pose, Traveller, geometric_faults
from sim.layout_sampling import completed, first_good, tier_among
from sim.traffic.simulation import MANNERS
from sim.utils.errors import BadLayout
from sim.variation import Variation, Variations

ROBOT_RADIUS_M = 0.3
WAYS = Grid(0.1, beyond_m=0.2, thin_m=ROBOT_RADIUS_M + 0.03, wide_m=0.6, tight=1.0, far_m=3.0)  # of the robot
ROOM_M = {"person": 0.4, "forklift": 0.9}  # around stops and starts of each kind
START_GAP_M = 1.6  # between the robot and others at the start
PERSON_ROOM_M = 0.5  # between its edge and the robot's; less is a violation, at the start as later
SPEEDS_M_S = {"person": (0.7, 1.4), "forklift": (0.6, 1.2)}
RADII_M = {name: min(MANNERS[kind].half_extents[:2]) for name, kind in TRAFFIC_KINDS.items()}
USUAL = Variations(base=Variation(speed_limit_m_s=1.0))


@dataclass(frozen=True)
class Tier:
    """How spaces of one split are drawn. Lengths in metres."""

    seed: int  # splits draw from seed sequences of their own
    size_m: tuple[float, float] = (12.0, 10.0)
    rows: tuple[int, int] = (2, 3)  # of racks side by side
    racks: tuple[int, int] = (1, 2)  # in a row
    aisle_m: tuple[float, float] = (2.2, 3.0)
    people: tuple[int, int] = (2, 5)
    forklifts: tuple[int, int] = (0, 2)
    blocked: bool = False  # a pallet stands in an aisle
    way_m: tuple[float, float] = (5.0, 12.0)  # of the robot
    variations: Variations = USUAL


FAST = Variations(base=Variation(speed_limit_m_s=1.0, traffic_speed=1.3))
TIERS = {
    "train": Tier(41),
    "val": Tier(42),
    "test": Tier(43),
    "shift-dense": Tier(44, people=(6, 8), forklifts=(1, 3)),
    "shift-fast-people": Tier(45, variations=FAST),
    "shift-blocked-aisles": Tier(46, blocked=True),
}
MOST_TRAFFIC = 11


def tier_of(split: str) -> Tier:
    return tier_among(TIERS, split)


@lru_cache(maxsize=4096)
def draw(split: str, index: int) -> Layout:
    """Layout number `index` of a split; the same on every machine."""
    tier = tier_of(split)
    return first_good(split, index, tier.seed, lambda rng, name: _attempt(tier, rng, name))


def faults_of(layout: Layout) -> list[str]:
    """Everything that is wrong with a layout, geometry first, one line each."""
    if layout.surface != "hall":
        return [f"surface is '{layout.surface}', 'hall' is needed: --scene chooses another scene"]
    faults = geometric_faults(layout, ROBOT_RADIUS_M, ROBOT_RADIUS_M, RADII_M)
    for i, one in enumerate(layout.traffic if not faults else ()):
        gap = np.hypot(one.x - layout.robot.x, one.y - layout.robot.y) - ROBOT_RADIUS_M - RADII_M[one.kind]
        if one.kind == "person" and gap < PERSON_ROOM_M:
            faults.append(f"traffic[{i}] starts {gap:.2f} m from the robot, {PERSON_ROOM_M:g} m is needed")
    if not faults and np.hypot(layout.robot.x - layout.goal.x, layout.robot.y - layout.goal.y) < 0.5:
        faults.append("the robot starts at the goal")
    if not faults and np.isinf(way_m(layout)):
        faults.append("no route on which the robot could reach the goal")
    return faults


def way_m(layout: Layout) -> float:
    """How far the robot has to go, around boxes; inf where it cannot."""
    start, goal = (np.array([place.x, place.y]) for place in (layout.robot, layout.goal))
    return route_m(WAYS, layout.static_boxes[:, :5], start, goal)


def _attempt(tier: Tier, rng: np.random.Generator, name: str) -> Layout | None:
    hall = Hall(0.0, 0.0, *tier.size_m)
    boxes = _racks(tier, rng, hall)
    return None if boxes is None else _task_in(hall, boxes, tier, rng, name)


def task_in(
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
    tier = Tier(0, way_m=(min(2.0, 0.2 * size), 2 * size), people=(1, 3), forklifts=(0, 1))
    nothing = "has no room for a task: no free start, goal and traffic with ways between them were found"
    return completed(lambda: _task_in(hall, boxes, tier, rng, name, robot), faults_of, name, nothing, robot, None, goal)


def _task_in(
    hall: Hall, boxes: tuple[Box, ...], tier: Tier, rng: np.random.Generator, name: str, robot: Pose | None = None
) -> Layout | None:
    """robot: where it starts; None: anywhere."""
    space = Layout(hall, Pose(0, 0), (), Pose(0, 0), boxes)
    start, aim = (_pose(_places(space, rng, 0.6, 1)[0], rng) for _ in range(2))
    start = robot or start
    kinds = ["person"] * int(rng.integers(tier.people[0], tier.people[1] + 1))
    kinds += ["forklift"] * int(rng.integers(tier.forklifts[0], tier.forklifts[1] + 1))
    travellers: list[Traveller] = []
    for kind in kinds:
        taken = np.array([(start.x, start.y), *((one.x, one.y) for one in travellers)])
        drawn = (_traveller(space, kind, rng, taken) for _ in range(20))
        traveller = next((one for one in drawn if one is not None), None)
        if traveller is None:
            return None
        travellers.append(traveller)
    layout = Layout(hall, start, (), Pose(aim.x, aim.y), boxes, name, traffic=tuple(travellers))
    if geometric_faults(layout, ROBOT_RADIUS_M, ROBOT_RADIUS_M, RADII_M):
        return None
    return layout if tier.way_m[0] <= way_m(layout) <= tier.way_m[1] else None


def _traveller(space: Layout, kind: str, rng: np.random.Generator, taken: np.ndarray) -> Traveller | None:
    """Someone with a start away from those places, and two or three stops that are apart."""
    start, *stops = _places(space, rng, ROOM_M[kind], 1 + int(rng.integers(2, 4)))
    if np.linalg.norm(start - taken, axis=-1).min() < START_GAP_M or np.linalg.norm(stops[0] - stops[-1]) < 3:
        return None
    speed = round(float(rng.uniform(*SPEEDS_M_S[kind])), 3)
    pose = _pose(start, rng)
    return Traveller(pose.x, pose.y, pose.yaw, kind, speed, tuple(Pose(round(float(x), 3), round(float(y), 3)) for x, y in stops))


def _pose(place: np.ndarray, rng: np.random.Generator) -> Pose:
    return Pose(*(round(float(value), 3) for value in (*place, rng.uniform(-np.pi, np.pi))))


def _places(space: Layout, rng: np.random.Generator, room_m: float, count: int) -> np.ndarray:
    """(count, 2) uniform random places with so much room around them; where there are too few, any."""
    hall = space.hall
    places = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth), (200, 2))
    free = places[clearance_of(places, space.static_boxes) > room_m]
    return free[:count] if len(free) >= count else places[:count]


def _racks(tier: Tier, rng: np.random.Generator, hall: Hall) -> tuple[Box, ...] | None:
    """Rows of racks with aisles between and around them; None where they do not fit."""
    across = bool(rng.random() < 0.5)
    length, depth = (hall.width, hall.depth) if across else (hall.depth, hall.width)
    rows = int(rng.integers(tier.rows[0], tier.rows[1] + 1))
    thick = rng.uniform(0.7, 1.1, rows)
    aisles = rng.uniform(*tier.aisle_m, rows + 1)
    if rng.random() < 0.3:
        aisles[0] = 0.0  # a row stands against the wall
    total = thick.sum() + aisles.sum()
    if total > depth + 0.3 or total < depth - 3.0:
        return None
    aisles *= (depth - thick.sum()) / aisles.sum()
    starts = np.cumsum(np.concatenate([[0], aisles[:-1] + thick]))  # of aisles
    boxes = []
    for start, aisle, deep in zip(starts, aisles, thick, strict=False):
        boxes += _row(tier, rng, length, start + aisle + deep / 2, deep)
    if tier.blocked:
        aisle = int(rng.choice(np.flatnonzero(aisles)))
        at = float(rng.uniform(0.3, 0.7) * length)
        boxes.append((at, float(starts[aisle] + aisles[aisle] / 2), 1.2, float(aisles[aisle])))
    return tuple(_box(box, across) for box in boxes)


def _row(tier: Tier, rng: np.random.Generator, length: float, middle_y: float, thick: float) -> list[tuple[float, ...]]:
    """Racks in a row: (middle, middle, length, depth), with aisles at its ends and between them."""
    racks = int(rng.integers(tier.racks[0], tier.racks[1] + 1))
    gaps = rng.uniform(*tier.aisle_m, racks + 1)
    if rng.random() < 0.4:
        gaps[0] = 0.0
    shares = rng.uniform(0.7, 1.3, racks)
    sizes = shares / shares.sum() * (length - gaps.sum())
    starts = np.cumsum(gaps[:-1]) + np.concatenate([[0], np.cumsum(sizes[:-1])])
    return [
        (float(start + size / 2), float(middle_y), float(size), float(thick)) for start, size in zip(starts, sizes, strict=True)
    ]


def _box(along: tuple[float, ...], across: bool) -> Box:
    x, y, width, depth = (round(value, 3) for value in along)
    if not across:
        x, y, width, depth = y, x, depth, width
    return Box(x, y, width, depth)


def random_start(layout: Layout, rng: np.random.Generator) -> np.ndarray | None:
    """The robot anywhere with room, half of the time in somebody's way, up to 3.5 m ahead; None where 200 tries find nothing."""
    hall, boxes = layout.hall, layout.static_boxes
    others = np.array([(one.x, one.y) for one in layout.traffic]).reshape(-1, 2)
    for _ in range(200):
        place = rng.uniform((hall.x, hall.y), (hall.x + hall.width, hall.y + hall.depth))
        if len(others) and rng.random() < 0.5:
            one = layout.traffic[int(rng.integers(len(others)))]
            bearing = np.arctan2(one.stops[0].y - one.y, one.stops[0].x - one.x) + rng.normal(0, 0.3)
            place = np.array([one.x, one.y]) + rng.uniform(1.2, 3.5) * unit(bearing)
        room = clearance_of(place, boxes) - ROBOT_RADIUS_M
        if room > 0.1 and (not len(others) or np.linalg.norm(others - place, axis=-1).min() > 1.0):
            return np.array([[*place, rng.uniform(-np.pi, np.pi)]])
    return None
