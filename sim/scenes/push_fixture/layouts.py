"""Layouts of push-fixture: a table with clamps and a fixture, sampled per split.

Distribution shifts are harder on purpose.

A fixture is two or three stops around the goal pose of the part. Clamps are obstacles anywhere on
the table. A part is a box, or several boxes joined together.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from scipy.ndimage import label

from sim.geometry.boxes import compute_signed_distance
from sim.geometry.free_space import find_overlaps, make_polygons
from sim.layout import Box, Hall, Layout, Pose, find_geometric_faults
from sim.layout_sampling import get_split_spec, sample_until_valid
from sim.variation import Span, Variation, Variations

# within reach of the upright tool; the base of the arm is the origin
TABLE = Hall(0.3, -0.34, 0.4, 0.68)
HEIGHT_M = 0.04  # of parts, stops and clamps
TOOL_RADIUS_M = 0.015
GRID_M = 0.01
Footprint = tuple[tuple[float, float, float, float], ...]


def _centre_footprint(*boxes: tuple[float, float, float, float]) -> Footprint:
    """Move boxes (x, y, half width, half depth) so that their centre of mass is (0, 0)."""
    rows = np.array(boxes)
    area = rows[:, 2] * rows[:, 3]
    rows[:, :2] -= area @ rows[:, :2] / area.sum()
    return tuple(tuple(row) for row in rows.round(5).tolist())


PARTS: dict[str, Footprint] = {
    "box": _centre_footprint((0, 0, 0.05, 0.04)),
    "L": _centre_footprint((0, 0, 0.06, 0.016), (-0.044, 0.046, 0.016, 0.03)),
    # the proportions of PushT
    "T": _centre_footprint((0, 0, 0.06, 0.015), (0, -0.06, 0.015, 0.045)),
    "plate": _centre_footprint((0, 0, 0.065, 0.03)),
    "Z": _centre_footprint((0, 0, 0.015, 0.04), (0.03, 0.055, 0.045, 0.015)),
    "plug": _centre_footprint((0, 0, 0.045, 0.03), (0.06, 0, 0.015, 0.015)),
}
MAX_FOOTPRINT_BOXES = max(map(len, PARTS.values()))
TRAINING_PARTS = ("box", "L", "T")
FRICTION, MASS_KG = Span(0.2, 0.8), Span(0.1, 1.0)


@dataclass(frozen=True)
class SplitSpec:
    """Parameters of the layouts of one split. Pairs are ranges."""

    seed: int  # each split has its own random sequence
    parts: tuple[str, ...] = TRAINING_PARTS
    clamps: tuple[int, int] = (1, 3)
    stops: tuple[int, int] = (1, 2)
    goal_distance_m: tuple[float, float] = (0.1, 0.35)
    load_friction: Span = FRICTION
    load_mass_kg: Span = MASS_KG

    @property
    def variations(self) -> Variations:
        """Variations of the physics."""
        base = Variation(load_mass_kg=0.4, load_friction=0.4, speed_limit_m_s=0.25)
        return Variations(base, (("load_friction", self.load_friction), ("load_mass_kg", self.load_mass_kg)))


SPLIT_SPECS = {
    "train": SplitSpec(21),
    "val": SplitSpec(22),
    "test": SplitSpec(23),
    "shift-parts": SplitSpec(24, parts=("plate", "Z", "plug")),
    "shift-friction": SplitSpec(25, load_friction=Span(0.1, 1.0, 0.2, 0.8)),
    "shift-crowded": SplitSpec(26, clamps=(4, 6), stops=(2, 3)),
}


def get_spec(split: str) -> SplitSpec:
    """Get the parameters of a split.

    Raises:
        UnknownName: no split has this name.
    """
    return get_split_spec(SPLIT_SPECS, split)


def compute_outline(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Compute the bounding rectangle of a part about its centre of mass.

    Args:
        part: name of the part.

    Returns:
        Lower and upper corner (2,) [m].
    """
    boxes = np.array(PARTS[part])
    return (boxes[:, :2] - boxes[:, 2:]).min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)


def compute_half_extents(part: str) -> tuple[float, float, float]:
    """Compute the half extents of the box about the centre of mass that contains the part [m]."""
    low, high = compute_outline(part)
    width, depth = np.maximum(-low, high).tolist()
    return width, depth, HEIGHT_M / 2


@lru_cache(maxsize=4096)
def sample_layout(split: str, index: int) -> Layout:
    """Sample layout `index` of a split, the same on every machine.

    Solved and unsolvable starts are rejected.

    Raises:
        UnknownName: no split has this name.
    """
    spec = get_spec(split)
    return sample_until_valid(split, index, spec.seed, lambda rng, name: _sample_candidate(spec, rng, name))


def find_faults(layout: Layout) -> list[str]:
    """Find everything that is wrong with a layout, geometry first, one line for each fault."""
    if layout.part not in PARTS:
        return [f"part is '{layout.part}', one of {', '.join(PARTS)} is needed"]
    if layout.surface != "table":
        return [f"surface is '{layout.surface}', 'table' is needed: --scene selects another scene"]
    faults = find_geometric_faults(layout, TOOL_RADIUS_M, _compute_min_half_width(layout.part))
    if not faults:
        hall, boxes = layout.hall, layout.static_boxes
        start, goal = layout.loads[0], layout.goal
        box_names = layout.static_names
        for name, place in (("loads[0]", start), ("goal", goal)):
            if not _is_inside(layout.part, place, hall):
                faults.append(f"the part at {name} reaches beyond the table")
            faults += find_overlaps([f"the part at {name}"], [make_outline(layout.part, place)], box_names, make_polygons(boxes))
        tool = shapely.Point(layout.robot.x, layout.robot.y)
        if shapely.distance(make_outline(layout.part, start), tool) < TOOL_RADIUS_M:
            faults.append("the tool overlaps the part at loads[0]")
        if np.hypot(start.x - goal.x, start.y - goal.y) < 0.03:
            faults.append("the part starts at the goal")
        if not faults and not _is_connected(layout):
            faults.append("no route on which the tool could push the part to the goal")
    return faults


def compute_corners(part: str, pose: Pose) -> np.ndarray:
    """Compute the corners of a part's P boxes.

    Args:
        part: name of the part.
        pose: pose of the part.

    Returns:
        (4 P, 2) corners, world frame [m].
    """
    boxes = np.array(PARTS[part])
    signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
    local = (boxes[:, None, :2] + signs * boxes[:, None, 2:]).reshape(-1, 2)
    c, s = np.cos(pose.yaw), np.sin(pose.yaw)
    return np.asarray(local @ np.array([(c, s), (-s, c)]) + (pose.x, pose.y))


def make_outline(part: str, pose: Pose) -> Any:
    """Make the outline of a part as a polygon."""
    return shapely.union_all(shapely.polygons(compute_corners(part, pose).reshape(-1, 4, 2)))


def is_overlapping(part: str, pose: Pose, boxes: np.ndarray, margin_m: float = 0.003) -> bool:
    """Find out whether points along a part's edges are in boxes or closer than a margin.

    This is a quick check for sampling: between two points, the corner of a box remains unseen.

    Args:
        part: name of the part.
        pose: pose of the part.
        boxes: (S, 5 or more) x, y, yaw, half width, half depth.
        margin_m: least distance that is allowed.
    """
    if not len(boxes):
        return False
    corners = compute_corners(part, pose).reshape(-1, 4, 2)
    along = np.linspace(0, 1, 12, endpoint=False)[:, None]
    points = np.concatenate([a + along * (b - a) for box in corners for a, b in zip(box, np.roll(box, -1, 0), strict=True)])
    return bool(compute_signed_distance(points, boxes).min() < margin_m)


def _is_inside(part: str, pose: Pose, hall: Hall) -> bool:
    points = compute_corners(part, pose)
    return bool((points > (hall.x, hall.y)).all() and (points < (hall.x + hall.width, hall.y + hall.depth)).all())


def _compute_min_half_width(part: str) -> float:
    """Compute half the width of a part's narrowest box [m]."""
    return float(np.array(PARTS[part])[:, 2:].min())


def _is_connected(layout: Layout) -> bool:
    """Find out whether a part as small as its narrowest box can slide from start to goal."""
    hall, boxes = layout.hall, layout.static_boxes
    if not len(boxes):
        return True
    axes = np.arange(hall.x, hall.x + hall.width, GRID_M), np.arange(hall.y, hall.y + hall.depth, GRID_M)
    clearance = compute_signed_distance(np.stack(np.meshgrid(*axes, indexing="ij"), -1), boxes)
    zones, _ = label(clearance > max(_compute_min_half_width(layout.part), TOOL_RADIUS_M) + 0.002)

    def get_zone(place: Pose) -> int:
        cell = np.round((np.array([place.x, place.y]) - (hall.x, hall.y)) / GRID_M).astype(int)
        return int(zones[tuple(np.clip(cell, 0, np.array(zones.shape) - 1))])

    return get_zone(layout.loads[0]) == get_zone(layout.goal) == get_zone(layout.robot) > 0


def _sample_candidate(spec: SplitSpec, rng: np.random.Generator, name: str) -> Layout | None:
    part = str(rng.choice(spec.parts))
    goal = _sample_pose(rng, 0.09)
    boxes = _sample_stops(part, goal, int(rng.integers(spec.stops[0], spec.stops[1] + 1)), rng)
    for _ in range(int(rng.integers(spec.clamps[0], spec.clamps[1] + 1))):
        place = _sample_pose(rng, 0.03)
        size = rng.uniform(0.03, 0.07, 2).round(3).tolist()
        boxes.append(Box(place.x, place.y, size[0], size[1], place.yaw, HEIGHT_M, "clamp"))
    start, tool = _sample_pose(rng, 0.08), _sample_pose(rng, 0.02)
    distance = float(np.hypot(start.x - goal.x, start.y - goal.y))
    if not spec.goal_distance_m[0] <= distance <= spec.goal_distance_m[1]:
        return None
    layout = Layout(TABLE, Pose(tool.x, tool.y), (start,), goal, tuple(boxes), name, "table", part)
    if is_overlapping(part, start, layout.static_boxes, 0.02) or is_overlapping(part, goal, layout.static_boxes):
        return None
    part_boxes = np.array([(x, y, 0.0, w, d) for x, y, w, d in PARTS[part]])
    c, s = np.cos(start.yaw), np.sin(start.yaw)
    # the tool in the part's frame
    tool_b = np.array([tool.x - start.x, tool.y - start.y]) @ np.array([(c, -s), (s, c)])
    return layout if compute_signed_distance(tool_b, part_boxes) > TOOL_RADIUS_M + 0.01 and not find_faults(layout) else None


def _sample_pose(rng: np.random.Generator, margin_m: float) -> Pose:
    x = rng.uniform(TABLE.x + margin_m, TABLE.x + TABLE.width - margin_m)
    y = rng.uniform(TABLE.y + margin_m, TABLE.y + TABLE.depth - margin_m)
    return Pose(*(round(float(value), 4) for value in (x, y, rng.uniform(-np.pi, np.pi))))


def _sample_stops(part: str, goal: Pose, count: int, rng: np.random.Generator) -> list[Box]:
    """Sample stops along neighbouring sides of the part's outline at the goal, with a small gap."""
    low, high = compute_outline(part)
    thickness = 0.02
    gap = rng.uniform(0.006, 0.015)
    first = int(rng.integers(4))
    c, s = np.cos(goal.yaw), np.sin(goal.yaw)
    boxes = []
    for side in range(first, first + count):
        axis, outward = side % 2, 1 if side % 4 < 2 else -1
        centre = (low + high) / 2
        centre[axis] = (high if outward > 0 else low)[axis] + outward * (gap + thickness / 2)
        size = np.full(2, thickness)
        size[1 - axis] = 0.8 * (high - low)[1 - axis]
        x, y = goal.x + c * centre[0] - s * centre[1], goal.y + s * centre[0] + c * centre[1]
        x, y, width, depth = (round(float(value), 4) for value in (x, y, *size))
        boxes.append(Box(x, y, width, depth, goal.yaw, HEIGHT_M, "clamp"))
    return boxes


def sample_near_start(layout: Layout, rng: np.random.Generator) -> np.ndarray | None:
    """Sample a free pose of the part, and a position of the tool near it.

    Returns:
        (2, 3) x, y, yaw of the tool and the part [m, rad]; None where 200 tries find none.
    """
    boxes, hall = layout.static_boxes, layout.hall
    low, high = np.array([hall.x, hall.y]), np.array([hall.x + hall.width, hall.y + hall.depth])
    part_radius = float(np.hypot(*compute_half_extents(layout.part)[:2]))
    for _ in range(200):
        start, bearing = _sample_pose(rng, 0.06), rng.uniform(-np.pi, np.pi)
        distance = rng.uniform(part_radius + 0.02, part_radius + 0.08)
        tool = np.array([start.x + distance * np.cos(bearing), start.y + distance * np.sin(bearing)])
        is_near_edge = ((tool < low + 0.02) | (tool > high - 0.02)).any()
        is_free = compute_signed_distance(tool, boxes) > TOOL_RADIUS_M + 0.005  # inf without boxes
        is_inside = _is_inside(layout.part, start, hall)
        if is_free and not is_near_edge and is_inside and not is_overlapping(layout.part, start, boxes, 0.01):
            return np.array([(*tool, 0.0), (start.x, start.y, start.yaw)])
    return None
