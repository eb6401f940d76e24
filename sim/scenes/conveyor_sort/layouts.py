"""Layouts of conveyor-sort: a belt with bins at its sides, and parts that arrive on it.

Positions of bins are in the belt's frame: `along_m` from its start, in the direction of travel, and
the side as seen in this direction. The base of the arm is the origin.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations

import numpy as np
from shapely import Polygon, box

from sim.bodies import Kind
from sim.layout import Hall, Layout, LayoutDetails, Pose, StaticBody, find_value_faults, layout_details
from sim.layout_sampling import get_split_spec, sample_until_valid
from sim.variation import Variation, Variations

BELT_TOP_M = 0.12
WALL_M = 0.01  # thickness of a bin's walls and floor
RAIL_M = 0.02  # thickness of rails and stop
RAIL_HEIGHT_M = 0.03  # of rails, stop and walls of bins above the belt
PADDLE_HALF_M = (0.01, 0.035)  # half extents of the paddle along x and y
# the tool's middle stays in this rectangle: x, y [m]
TOOL_ZONE_M = ((0.295, 0.645), (-0.46, 0.46))
HALL = Hall(-0.2, -1.1, 1.2, 2.2)
SIDES = {"left": 1, "right": -1}  # sign of the lateral offset
SHAPES = ("box", "lying", "upright")
ENTRY_M = 0.08  # along the belt, where sampled parts enter
MAX_BIN_HALF_M = 0.1
MIN_BIN_HALF_M = 0.07
MAX_PARTS = 8
MAX_BINS = 4
BODIES_PER_BIN = 4  # a floor and three walls
MAX_SPEED_M_S = 1.0
MAX_ARRIVAL_S = 60.0
MAX_SLANT_RAD = 0.2  # of the belt, against the paddle
BASE = Variation(load_mass_kg=0.3, load_friction=0.5, speed_limit_m_s=1.0)


@dataclass(frozen=True)
class Belt:
    """A level belt: centre [m], direction of travel [rad], size [m], speed and friction."""

    x: float
    y: float
    yaw: float
    length_m: float
    width_m: float
    speed_m_s: float
    friction: float = 0.6  # against a part of equal friction


@dataclass(frozen=True)
class Bin:
    """A bin that is open towards the belt."""

    kind: int  # of the parts that belong into it
    side: str  # "left" or "right" in the direction of travel
    along_m: float  # of its centre, from the belt's start
    width_m: float  # of its mouth, along the belt
    depth_m: float = 0.18


@dataclass(frozen=True)
class Part:
    """A part; where it enters the belt is in the layout's `loads`."""

    kind: int  # that of its bin
    shape: str  # "box", "lying" or "upright" cylinder
    half_extents: tuple[float, float, float]  # of a cylinder: radius, radius, half of its length [m]
    mass_kg: float
    friction: float  # against a surface of equal friction
    arrival_s: float  # time at which it enters the belt

    @property
    def half_height_m(self) -> float:
        """Height of the part's middle above the belt."""
        return self.half_extents[0 if self.shape == "lying" else 2]

    @property
    def half_outline(self) -> tuple[float, float]:
        """Half extents of the part from above, in its frame."""
        x, y, z = self.half_extents
        return (x, z) if self.shape == "lying" else (x, y)


@layout_details.add("conveyor-sort")
@dataclass(frozen=True)
class ConveyorDetails(LayoutDetails):
    """Belt, bins and parts. `rails` are the sides with a guard rail between the bins."""

    belt: Belt
    bins: tuple[Bin, ...]
    parts: tuple[Part, ...]
    rails: tuple[str, ...] = ()

    def locate(self, along_m: float, lateral_m: float) -> tuple[float, float]:
        """Compute the position x, y of a point in the belt's frame [m]."""
        belt = self.belt
        ahead, c, s = along_m - belt.length_m / 2, math.cos(belt.yaw), math.sin(belt.yaw)
        return belt.x + c * ahead - s * lateral_m, belt.y + s * ahead + c * lateral_m

    def locate_bin(self, number: int) -> tuple[float, float]:
        """Compute the position x, y of the middle of a bin [m]."""
        bin_ = self.bins[number]
        return self.locate(bin_.along_m, SIDES[bin_.side] * (self.belt.width_m + bin_.depth_m) / 2)

    def find_bin(self, part: int) -> int:
        """Find the number of the bin of a part.

        Raises:
            StopIteration: no bin has the kind of the part.
        """
        return next(number for number, bin_ in enumerate(self.bins) if bin_.kind == self.parts[part].kind)

    @property
    def belt_velocity(self) -> tuple[float, float, float]:
        """Velocity of the belt's surface [m/s]."""
        belt = self.belt
        return belt.speed_m_s * math.cos(belt.yaw), belt.speed_m_s * math.sin(belt.yaw), 0.0

    def list_static_bodies(self, layout: Layout) -> list[StaticBody]:
        """List the static bodies: floor and three walls of each bin, then belt, stop and rails."""
        belt, top = self.belt, BELT_TOP_M
        bodies = []

        def add(kind: Kind, along: float, lateral: float, size: tuple[float, float], low: float, high: float) -> None:
            half = (size[0] / 2, size[1] / 2, (high - low) / 2)
            velocity = self.belt_velocity if kind == Kind.BELT else (0.0, 0.0, 0.0)
            x, y = self.locate(along, lateral)
            bodies.append(StaticBody(kind, half, (x, y, (low + high) / 2), belt.yaw, velocity))

        high, edge = top + RAIL_HEIGHT_M, belt.width_m / 2
        for bin_ in self.bins:
            sign, width, depth = SIDES[bin_.side], bin_.width_m, bin_.depth_m
            middle = sign * (edge + depth / 2)
            add(Kind.BIN, bin_.along_m, middle, (width, depth), 0, WALL_M)
            back = sign * (edge + depth + WALL_M / 2)
            add(Kind.BIN, bin_.along_m, back, (width + 2 * WALL_M, WALL_M), 0, high)
            for sign_along in (-1, 1):
                add(Kind.BIN, bin_.along_m + sign_along * (width + WALL_M) / 2, middle, (WALL_M, depth), 0, high)
        add(Kind.BELT, belt.length_m / 2, 0, (belt.length_m, belt.width_m), 0, top)
        add(Kind.STATION, belt.length_m + RAIL_M / 2, 0, (RAIL_M, belt.width_m + 2 * RAIL_M), 0, high)
        for side in self.rails:
            for start, end in self.list_rail_spans(side):
                lateral = SIDES[side] * (edge + RAIL_M / 2)
                add(Kind.STATION, (start + end) / 2, lateral, (end - start, RAIL_M), 0, high)
        return bodies

    def list_load_outlines(self) -> list[tuple[float, float]]:
        """List the half extents of each part from above, in its frame [m]."""
        return [part.half_outline for part in self.parts]

    def list_rail_spans(self, side: str) -> list[tuple[float, float]]:
        """List start and end of the rails of a side, along the belt [m]."""
        half = [(bin_, bin_.width_m / 2 + WALL_M) for bin_ in self.bins if bin_.side == side]
        mouths = sorted((bin_.along_m - size, bin_.along_m + size) for bin_, size in half)
        starts = [0.0, *(end for _, end in mouths)]
        ends = [*(start for start, _ in mouths), self.belt.length_m]
        return [(start, end) for start, end in zip(starts, ends, strict=True) if end - start > WALL_M]

    def find_value_faults(self) -> list[str]:
        """Find values that are out of bounds, one line each."""
        belt = self.belt
        faults = []

        def check(name: str, value: float, low: float, high: float) -> None:
            if not low <= value <= high:
                faults.append(f"details.{name} is {value:g}, {low:g} to {high:g} is needed")

        check("belt.length_m", belt.length_m, 0.3, 10)
        check("belt.width_m", belt.width_m, 0.1, 1)
        check("belt.speed_m_s", belt.speed_m_s, 0.02, MAX_SPEED_M_S)
        check("belt.friction", belt.friction, 0.01, 2)
        for i, bin_ in enumerate(self.bins):
            if bin_.side not in SIDES:
                faults.append(f"details.bins[{i}].side is '{bin_.side}', 'left' or 'right' is needed")
            check(f"bins[{i}].width_m", bin_.width_m, 2 * MIN_BIN_HALF_M, 2 * MAX_BIN_HALF_M)
            check(f"bins[{i}].depth_m", bin_.depth_m, 2 * MIN_BIN_HALF_M, 2 * MAX_BIN_HALF_M)
        for i, part in enumerate(self.parts):
            if part.shape not in SHAPES:
                faults.append(f"details.parts[{i}].shape is '{part.shape}', 'box', 'lying' or 'upright' is needed")
            elif part.shape != "box" and part.half_extents[0] != part.half_extents[1]:
                faults.append(f"details.parts[{i}].half_extents: the first two of a cylinder are its radius, and equal")
            for half in part.half_extents:
                check(f"parts[{i}].half_extents", half, 0.01, 0.1)
            check(f"parts[{i}].mass_kg", part.mass_kg, 0.01, 20)
            check(f"parts[{i}].friction", part.friction, 0.01, 2)
            check(f"parts[{i}].arrival_s", part.arrival_s, 0, MAX_ARRIVAL_S)
        faults += [f"details.rails has '{side}', 'left' or 'right' is needed" for side in self.rails if side not in SIDES]
        return faults


def get_details(layout: Layout) -> ConveyorDetails:
    """Get the details of a layout of this scene."""
    assert isinstance(layout.details, ConveyorDetails)
    return layout.details


@dataclass(frozen=True)
class SplitSpec:
    """Parameters of the layouts of one split. Pairs are ranges."""

    seed: int
    parts: tuple[int, int] = (3, 5)
    bins: tuple[int, int] = (2, 3)
    speed_m_s: tuple[float, float] = (0.2, 0.4)
    gap_s: tuple[float, float] = (1.4, 2.6)  # between parts at the mouths of their bins
    pair_share: float = 0.2  # of parts that follow the part before closely, into the same bin
    friction: tuple[float, float] = (0.3, 0.8)  # of parts


SPLIT_SPECS = {
    "train": SplitSpec(61),
    "val": SplitSpec(62),
    "test": SplitSpec(63),
    "shift-denser": SplitSpec(64, parts=(5, 8), gap_s=(1.0, 1.8), pair_share=0.35),
    "shift-faster": SplitSpec(65, speed_m_s=(0.45, 0.6)),
    "shift-slippery": SplitSpec(66, friction=(0.06, 0.15)),
}
VARIATIONS = Variations(BASE)


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


def _sample_candidate(spec: SplitSpec, rng: np.random.Generator, name: str) -> Layout | None:
    direction = int(rng.choice((-1, 1)))
    speed = round(float(rng.uniform(*spec.speed_m_s)), 3)
    belt = Belt(0.47, -0.25 * direction, direction * round(math.pi / 2, 6), 1.5, 0.3, speed)
    far = "right" if direction > 0 else "left"
    bins = _sample_bins(int(rng.integers(spec.bins[0], spec.bins[1] + 1)), far, rng)
    if bins is None:
        return None
    parts = _sample_parts(spec, bins, speed, rng)
    details = ConveyorDetails(belt, bins, parts, (far,))
    entries = [details.locate(ENTRY_M, float(rng.uniform(-0.05, 0.05))) for _ in parts]
    loads = tuple(Pose(round(x, 4), round(y, 4), round(float(rng.uniform(-math.pi, math.pi)), 4)) for x, y in entries)
    centres = [details.locate_bin(details.find_bin(number)) for number in range(len(parts))]
    goals = [Pose(round(x, 4), round(y, 4), belt.yaw) for x, y in centres]
    tool = Pose(0.47, round(float(rng.uniform(-0.3, 0.3)), 4))
    layout = Layout(HALL, tool, loads, goals[0], (), name, "cell", more_goals=tuple(goals[1:]), details=details)
    return None if find_faults(layout) else layout


def _sample_parts(spec: SplitSpec, bins: tuple[Bin, ...], speed_m_s: float, rng: np.random.Generator) -> tuple[Part, ...]:
    """Sample parts in the order of their arrival, with a gap between them at their bins."""
    parts: list[Part] = []
    time_s = 0.0  # at the mouth of the bin
    for number in range(int(rng.integers(spec.parts[0], spec.parts[1] + 1))):
        is_pair = number > 0 and rng.random() < spec.pair_share
        kind = parts[-1].kind if is_pair else int(rng.integers(len(bins)))
        part = _sample_part(kind, spec, rng)
        if is_pair:
            length = math.hypot(*part.half_outline) + math.hypot(*parts[-1].half_outline)
            time_s += (length + float(rng.uniform(0.005, 0.05))) / speed_m_s
        else:
            time_s += float(rng.uniform(*spec.gap_s))
        along = next(bin_.along_m for bin_ in bins if bin_.kind == kind)
        parts.append(replace(part, arrival_s=time_s - (along - ENTRY_M) / speed_m_s))
    parts.sort(key=lambda part: part.arrival_s)
    first_s = parts[0].arrival_s
    return tuple(replace(part, arrival_s=round(part.arrival_s - first_s, 3)) for part in parts)


def _sample_bins(count: int, far: str, rng: np.random.Generator) -> tuple[Bin, ...] | None:
    """Sample bins whose mouths the tool reaches, in a random order of kinds; the third is near the arm."""
    near = "left" if far == "right" else "right"
    kinds = rng.permutation(count).tolist()
    bins = []
    for number, kind in enumerate(kinds):
        width = round(float(rng.uniform(0.15, 0.2)), 3)
        side = near if number == 2 else far
        bins.append(Bin(int(kind), side, round(float(rng.uniform(0.7, 1.3)), 3), width))
    for a, b in combinations(bins, 2):
        if a.side == b.side and abs(a.along_m - b.along_m) < (a.width_m + b.width_m) / 2 + 0.08:
            return None
    return tuple(sorted(bins, key=lambda bin_: bin_.kind))


def _sample_part(kind: int, spec: SplitSpec, rng: np.random.Generator) -> Part:
    shape = str(rng.choice(SHAPES, p=(0.6, 0.2, 0.2)))
    if shape == "box":
        half = rng.uniform((0.022, 0.022, 0.02), (0.045, 0.035, 0.035))
    else:
        radius = rng.uniform(0.02, 0.03)
        half = np.array([radius, radius, rng.uniform(0.03, 0.045) if shape == "lying" else rng.uniform(0.02, 0.035)])
    friction = float(rng.uniform(*spec.friction))
    size = tuple(half.round(4).tolist())
    return Part(kind, shape, size, round(float(rng.uniform(0.1, 0.5)), 3), round(friction, 3), 0.0)


def sample_near_start(layout: Layout, rng: np.random.Generator) -> np.ndarray | None:
    """Sample places of the first parts in the middle of the belt, and a place of the tool near one.

    Returns:
        (1 + K, 3) x, y, yaw of the tool and the parts [m, rad]; None where 200 tries find none.
    """
    details = get_details(layout)
    count = int(rng.integers(1, len(layout.loads) + 1))
    (low_x, high_x), (low_y, high_y) = TOOL_ZONE_M
    for _ in range(200):
        places = [details.locate(float(rng.uniform(0.25, 1.2)), float(rng.uniform(-0.1, 0.1))) for _ in range(count)]
        poses = [Pose(*place, float(rng.uniform(-math.pi, math.pi))) for place in places]
        outlines = [make_outline(part, pose).buffer(0.002) for part, pose in zip(details.parts, poses, strict=False)]
        target, bearing = poses[int(rng.integers(count))], rng.uniform(-math.pi, math.pi)
        distance = rng.uniform(0.05, 0.12)
        tool = target.x + distance * math.cos(bearing), target.y + distance * math.sin(bearing)
        width, depth = PADDLE_HALF_M
        outlines.append(box(tool[0] - width, tool[1] - depth, tool[0] + width, tool[1] + depth).buffer(0.002))
        edge = details.belt.width_m / 2 - PADDLE_HALF_M[0] - 0.005
        is_inside = low_x <= tool[0] <= high_x and low_y <= tool[1] <= high_y and abs(tool[0] - details.belt.x) < edge
        if is_inside and not any(a.intersects(b) for a, b in combinations(outlines, 2)):
            return np.array([(*tool, 0.0), *((pose.x, pose.y, pose.yaw) for pose in poses)])
    return None


def find_faults(layout: Layout) -> list[str]:
    """Find everything that is wrong with a layout, one line for each fault."""
    if not isinstance(layout.details, ConveyorDetails):
        return ["details of the kind 'conveyor-sort' are needed: --scene selects another scene"]
    if layout.surface != "cell":
        return [f"surface is '{layout.surface}', 'cell' is needed"]
    details = layout.details
    faults = find_value_faults(layout)
    if layout.traffic:
        faults.append("traffic is not part of this scene: leave it out")
    if not layout.loads:
        faults.append("loads is empty, at least one part is needed")
    counts = (len(layout.loads), len(details.parts), len(layout.goals))
    if len(set(counts)) > 1:
        faults.append("loads, details.parts and goals differ in number: {}, {} and {}".format(*counts))
    if not 0 < len(details.bins) <= MAX_BINS:
        faults.append(f"details.bins has {len(details.bins)} bins, 1 to {MAX_BINS} are needed")
    if abs(abs(details.belt.yaw) - math.pi / 2) > MAX_SLANT_RAD:
        faults.append(f"details.belt.yaw is {details.belt.yaw:g}: the paddle needs a belt along y, ±π/2")
    kinds = [bin_.kind for bin_ in details.bins]
    faults += [f"details.bins: {kinds.count(kind)} bins have the kind {kind}" for kind in set(kinds) if kinds.count(kind) > 1]
    unknown = [(i, part.kind) for i, part in enumerate(details.parts) if kinds and part.kind not in kinds]
    faults += [f"details.parts[{i}] has the kind {kind}, which no bin has" for i, kind in unknown]
    return faults or [*_find_bin_faults(layout), *_find_part_faults(layout)]


def _find_bin_faults(layout: Layout) -> list[str]:
    details = get_details(layout)
    (low_x, high_x), (low_y, high_y) = TOOL_ZONE_M
    faults = []
    if not (low_x <= layout.robot.x <= high_x and low_y <= layout.robot.y <= high_y):
        zone = f"x from {low_x:g} to {high_x:g}, y from {low_y:g} to {high_y:g}"
        faults.append(f"robot at ({layout.robot.x:g}, {layout.robot.y:g}) is beyond the reach of the arm ({zone})")
    for i, bin_ in enumerate(details.bins):
        half = bin_.width_m / 2 + WALL_M
        if not half <= bin_.along_m <= details.belt.length_m - half:
            faults.append(f"details.bins[{i}] reaches beyond the ends of the belt")
        x, y = details.locate(bin_.along_m, SIDES[bin_.side] * (details.belt.width_m / 2 - 0.05))
        if not (low_x <= x <= high_x and low_y <= y <= high_y):
            faults.append(f"details.bins[{i}]: its mouth at ({x:.2f}, {y:.2f}) is out of the arm's reach")
    for (i, a), (j, b) in combinations(enumerate(details.bins), 2):
        if a.side == b.side and abs(a.along_m - b.along_m) < (a.width_m + b.width_m) / 2 + 2 * WALL_M:
            faults.append(f"details.bins[{i}] overlaps details.bins[{j}]")
    for i, goal in enumerate(layout.goals if not faults else ()):
        x, y = details.locate_bin(details.find_bin(i))
        if math.hypot(goal.x - x, goal.y - y) > 0.01 or abs(goal.yaw - details.belt.yaw) > 0.01:
            middle = f"x {x:.3f}, y {y:.3f}, yaw {details.belt.yaw:.3f}"
            faults.append(f"goal {i} at ({goal.x:g}, {goal.y:g}) is not the middle of its bin, with the belt's yaw: {middle}")
    return faults


def _find_part_faults(layout: Layout) -> list[str]:
    details = get_details(layout)
    belt, parts = details.belt, details.parts
    faults = []
    times = [part.arrival_s for part in parts]
    if times != sorted(times):
        faults.append("details.parts: the arrival times are not in rising order")
    corners = [
        details.locate(along, side * belt.width_m / 2)
        for along, side in ((0, -1), (belt.length_m, -1), (belt.length_m, 1), (0, 1))
    ]
    surface = Polygon(corners)
    vx, vy, _ = details.belt_velocity
    outlines = [make_outline(part, pose) for part, pose in zip(parts, layout.loads, strict=True)]
    faults += [f"loads[{i}] is not on the belt" for i, outline in enumerate(outlines) if not surface.contains(outline)]
    for (i, a), (j, b) in combinations(enumerate(outlines), 2):
        seconds = times[j] - times[i]
        moved = Polygon(np.array(a.exterior.coords) + np.array([vx, vy]) * seconds)
        if moved.intersects(b):
            faults.append(f"loads[{j}] overlaps loads[{i}] when it enters the belt")
    return faults


def make_outline(part: Part, pose: Pose) -> Polygon:
    """Make the outline of a part from above, as a rectangle."""
    x, y = part.half_outline
    c, s = math.cos(pose.yaw), math.sin(pose.yaw)
    return Polygon([(pose.x + c * u - s * v, pose.y + s * u + c * v) for u, v in ((-x, -y), (x, -y), (x, y), (-x, y))])
