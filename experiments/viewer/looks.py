"""How bodies look: meshes that a person from a warehouse recognises, and the floor's picture.

Meshes are in the frame of the body, z up, no larger than its box (the robot's wheels aside, which reach the floor). Each vertex
has a colour, so that one body is one node of the page.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import trimesh
from trimesh.creation import box as _box
from trimesh.creation import cylinder as _cylinder
from trimesh.creation import icosphere
from trimesh.transformations import rotation_matrix

from sim.layout import Layout
from sim.scenes.aisle_traffic.task import CrossingTask
from sim.scenes.push_fixture.layouts import PARTS
from sim.scenes.tote_push.task import PushTask

Colour = tuple[int, int, int]
CHASSIS, DECK, RUBBER, LIDAR, SIGNAL = (38, 46, 58), (24, 78, 190), (24, 24, 27), (15, 15, 18), (250, 204, 21)
POST, BEAM, BOARD, STOP = (42, 77, 135), (226, 104, 24), (202, 190, 168), (250, 204, 21)
CARTONS: tuple[Colour, ...] = ((193, 154, 107), (181, 140, 92), (205, 170, 125), (168, 128, 84))
TOTE, OTHER_TOTE, TOTE_RIM = (217, 119, 6), (110, 133, 158), 0.85
WALL, WALL_FOOT = (226, 229, 233), (120, 128, 138)
FLOOR, JOINT, LANE, BAY = (212, 216, 219), (198, 202, 206), (234, 179, 8), (22, 163, 74)
STEEL, PART, PART_FACE, CLAMP = (172, 178, 186), (196, 107, 12), (236, 150, 50), (71, 85, 105)
VEST, REFLEX, TROUSERS, SKIN, TRUCK = (234, 88, 12), (226, 232, 160), (30, 41, 82), (214, 170, 140), (234, 170, 8)
WHITE = (238, 240, 242)  # of a robot: pure white would not show its shape
TABLE, TABLE_LINE = (203, 213, 205), (186, 198, 189)
PIXELS_PER_M = 60
LINK_FACES = 2500  # of a robot's link, at most: meshes of robots are made for closer looks than this


def robot(half_extents: np.ndarray) -> trimesh.Trimesh:
    """An AMR: dark chassis on two wheels and castors, blue deck, lidar in front, an arrow that shows where it heads."""
    radius, height = float(half_extents[0]), 2 * float(half_extents[2])
    low = -height / 2
    parts = [
        _at(_cylinder(radius, 0.55 * height), CHASSIS, z=low + 0.425 * height),
        _at(_cylinder(0.97 * radius, 0.12 * height), SIGNAL, z=low + 0.6 * height),
        _at(_cylinder(0.93 * radius, 0.28 * height), DECK, z=low + 0.8 * height),
        _at(_cylinder(0.16 * radius, 0.2 * height), LIDAR, x=0.72 * radius, z=height / 2 - 0.1 * radius),
        _at(_box((0.7 * radius, 0.14 * radius, 0.02)), (245, 245, 245), x=0.1 * radius, z=low + 0.95 * height),
    ]
    for side in (-1, 1):
        wheel = _cylinder(0.28 * height, 0.16 * radius, transform=rotation_matrix(np.pi / 2, (1, 0, 0)))
        parts.append(_at(wheel, RUBBER, y=side * 0.88 * radius, z=low + 0.16 * height))  # on the floor, below the chassis
        head = _box((0.34 * radius, 0.12 * radius, 0.02), transform=rotation_matrix(side * -0.7, (0, 0, 1)))
        parts.append(_at(head, (245, 245, 245), x=0.36 * radius, y=side * 0.1 * radius, z=low + 0.95 * height))
    return _joined(parts)


def tote(half_extents: np.ndarray, first: bool = True) -> trimesh.Trimesh:
    """An open container with a rim, ribs and handles; the one to deliver is orange."""
    width, depth, height = 2 * np.asarray(half_extents, float)
    colour = TOTE if first else OTHER_TOTE
    wall, low = 0.03, -height / 2
    inner = tuple(int(0.72 * part) for part in colour)
    parts = [_at(_box((width - 0.02, depth - 0.02, 0.02)), inner, z=low + 0.02)]
    for side in (-1, 1):
        parts += [
            _at(_box((width - 0.03, wall, height - 0.04)), colour, y=side * (depth / 2 - wall), z=-0.01),
            _at(_box((wall, depth - 0.03, height - 0.04)), colour, x=side * (width / 2 - wall), z=-0.01),
            _at(_box((width, wall, 0.05)), inner, y=side * (depth / 2 - wall / 2), z=height / 2 - 0.025),
            _at(_box((wall, depth, 0.05)), inner, x=side * (width / 2 - wall / 2), z=height / 2 - 0.025),
            _at(_box((0.012, 0.35 * depth, 0.04)), RUBBER, x=side * (width / 2 - wall / 2 + 0.01), z=0.2 * height),
        ]
    parts.append(_at(_box((0.6 * width, 0.5 * depth, 0.5 * height)), CARTONS[0], z=-0.15 * height))
    return _joined(parts)


@lru_cache(maxsize=64)
def link(file: Path) -> trimesh.Trimesh:
    """A link of a robot from its mesh file, with fewer faces, each part in its material's colour."""
    parts = list(trimesh.load_scene(file).geometry.values())
    share = min(1.0, LINK_FACES / sum(len(part.faces) for part in parts))
    fewer = []
    for part in parts:
        part.merge_vertices(merge_tex=True, merge_norm=True)  # else its seams tear open
        material = getattr(part.visual, "material", None)
        colour = (*(WHITE if material is None else material.main_color[:3]),)
        simple = part.simplify_quadric_decimation(face_count=max(4, int(share * len(part.faces)))) if share < 1 else part
        fewer.append(_painted(simple, np.minimum(colour, WHITE).tolist()))
    return _joined(fewer)


def person(half_extents: np.ndarray) -> trimesh.Trimesh:
    """Somebody in a safety vest and helmet, who looks along x."""
    radius, height = float(half_extents[0]), 2 * float(half_extents[2])
    low = -height / 2
    parts = [
        _at(_cylinder(0.5 * radius, 0.34 * height), VEST, z=low + 0.63 * height),
        _at(_cylinder(0.52 * radius, 0.03 * height), REFLEX, z=low + 0.6 * height),
        _at(_cylinder(0.2 * radius, 0.06 * height), SKIN, z=low + 0.82 * height),
        _at(icosphere(subdivisions=2, radius=0.42 * radius), SKIN, z=low + 0.88 * height),
        _at(_cylinder(0.46 * radius, 0.06 * height), SIGNAL, z=low + 0.94 * height),
        _at(_box((0.3 * radius, 0.5 * radius, 0.015)), SIGNAL, x=0.5 * radius, z=low + 0.915 * height),
    ]
    for side in (-1, 1):
        parts.append(_at(_cylinder(0.22 * radius, 0.46 * height), TROUSERS, y=side * 0.26 * radius, z=low + 0.24 * height))
        parts.append(_at(_box((0.7 * radius, 0.32 * radius, 0.06)), RUBBER, 0.12 * radius, side * 0.26 * radius, low + 0.03))
        parts.append(_at(_cylinder(0.15 * radius, 0.36 * height), VEST, y=side * 0.68 * radius, z=low + 0.6 * height))
        parts.append(_at(icosphere(subdivisions=1, radius=0.16 * radius), SKIN, y=side * 0.68 * radius, z=low + 0.41 * height))
    return _joined(parts)


def forklift(half_extents: np.ndarray) -> trimesh.Trimesh:
    """A counterbalanced truck: forks and mast in front, counterweight behind, a seat under an overhead guard."""
    length, width, height = 2 * np.asarray(half_extents, float)
    low, back = -height / 2, -length / 2
    parts = [
        _at(_box((0.62 * length, 0.9 * width, 0.26 * height)), TRUCK, x=back + 0.33 * length, z=low + 0.22 * height),
        _at(_box((0.2 * length, 0.9 * width, 0.2 * height)), CLAMP, x=back + 0.1 * length, z=low + 0.42 * height),
        _at(_box((0.16 * length, 0.5 * width, 0.06 * height)), RUBBER, x=back + 0.34 * length, z=low + 0.38 * height),
        _at(_box((0.05 * length, 0.5 * width, 0.22 * height)), RUBBER, x=back + 0.25 * length, z=low + 0.5 * height),
        _at(_box((0.46 * length, 0.84 * width, 0.02 * height)), RUBBER, x=back + 0.36 * length, z=low + 0.98 * height),
        _at(_box((0.03 * length, 0.8 * width, 0.12 * height)), CLAMP, x=back + 0.69 * length, z=low + 0.12 * height),
    ]
    for side in (-1, 1):
        for x in (0.15, 0.57):
            parts.append(_at(_box((0.03, 0.03, 0.56 * height)), CLAMP, back + x * length, side * 0.4 * width, low + 0.7 * height))
        mast, fork = _box((0.05, 0.05, 0.96 * height)), _box((0.29 * length, 0.11, 0.03))
        parts.append(_at(mast, RUBBER, back + 0.66 * length, side * 0.3 * width, low + 0.48 * height))
        parts.append(_at(fork, STEEL, back + 0.855 * length, side * 0.22 * width, low + 0.05 * height))
        for x in (0.13, 0.52):
            wheel = _cylinder(0.13 * height, 0.12 * width, transform=rotation_matrix(np.pi / 2, (1, 0, 0)))
            parts.append(_at(wheel, RUBBER, x=back + x * length, y=side * 0.43 * width, z=low + 0.13 * height))
    return _joined(parts)


def pusher(half_extents: np.ndarray) -> trimesh.Trimesh:
    """The stick of an arm's tool."""
    radius, height = float(half_extents[0]), 2 * float(half_extents[2])
    return _joined(
        [
            _at(_cylinder(radius, height), STEEL),
            _at(_cylinder(0.9 * radius, 0.1 * height), RUBBER, z=-0.45 * height),
            _at(_cylinder(1.6 * radius, 0.25 * height), RUBBER, z=0.62 * height),
        ]
    )


def part(pieces: np.ndarray, half_height: float) -> trimesh.Trimesh:
    """A machined part of boxes (P, 4): x, y, half width, half depth, with a face on top that shows where it is."""
    parts = []
    for x, y, width, depth in pieces[pieces[:, 2] > 0]:
        parts.append(_at(_box((2 * width, 2 * depth, 2 * half_height)), PART, x=x, y=y))
        parts.append(_at(_box((1.8 * width, 1.8 * depth, 0.001)), PART_FACE, x=x, y=y, z=half_height))
    return _joined(parts)


def clamp(half_extents: np.ndarray) -> trimesh.Trimesh:
    """A block screwed to the table."""
    width, depth, height = 2 * np.asarray(half_extents, float)
    parts = [_at(_box((width, depth, height)), CLAMP)]
    for side in (-1, 1):
        x, y = (side * 0.3 * width, 0.0) if width > depth else (0.0, side * 0.3 * depth)
        parts.append(_at(_cylinder(0.22 * min(width, depth), 0.1 * height), STEEL, x, y, height / 2))
    return _joined(parts)


def rack(half_extents: np.ndarray, seed: int = 0) -> trimesh.Trimesh:
    """A pallet rack: posts, two levels of beams and boards, cartons on them, a yellow guard at the foot."""
    width, depth, height = 2 * np.asarray(half_extents, float)
    rng, low = np.random.default_rng(seed), -height / 2
    parts = []
    for x in (-1, 1):
        for y in (-1, 1):
            post = (x * (width / 2 - 0.03), y * (depth / 2 - 0.03))
            parts.append(_at(_box((0.06, 0.06, height)), POST, *post))
            parts.append(_at(_box((0.062, 0.062, 0.12)), STOP, *post, z=low + 0.06))
    levels = np.array([0.08, 0.48, 0.88]) * height
    for level in levels:
        for y in (-1, 1):
            parts.append(_at(_box((width, 0.03, 0.07)), BEAM, y=y * (depth / 2 - 0.015), z=low + level))
        parts.append(_at(_box((width - 0.04, depth - 0.06, 0.03)), BOARD, z=low + level + 0.03))
    for level, room in zip(levels[:-1], np.diff(levels), strict=True):
        along, across = max(1, int(width / 0.35)), max(1, int(depth / 0.4))
        for column in range(along):
            for row in range(across):
                if rng.random() < 0.15:
                    continue
                size = np.array([0.8 * width / along, 0.8 * depth / across, rng.uniform(0.45, 0.85) * (room - 0.1)])
                at = ((column + 0.5) * width / along - width / 2, (row + 0.5) * depth / across - depth / 2)
                parts.append(_at(_box(size), CARTONS[rng.integers(len(CARTONS))], *at, z=low + level + 0.045 + size[2] / 2))
    return _joined(parts)


def wall(half_extents: np.ndarray) -> trimesh.Trimesh:
    """Plain panels with a dark foot."""
    size = 2 * np.asarray(half_extents, float)
    foot = min(0.12, 0.2 * size[2])
    return _joined(
        [
            _at(_box((size[0], size[1], size[2] - foot)), WALL, z=foot / 2),
            _at(_box((size[0], size[1], foot)), WALL_FOOT, z=foot / 2 - size[2] / 2),
        ]
    )


def table(layout: Layout) -> trimesh.Trimesh:
    """The slab under a table's top, its legs, and the pedestal of the arm at the origin."""
    assert layout.table_top is not None
    x, y, width, depth = layout.table_top
    thick, high, leg = 0.03, 0.4, 0.04
    parts = [_at(_box((width, depth, thick)), CLAMP, x + width / 2, y + depth / 2, -0.002 - thick / 2)]
    for across in (x + leg, x + width - leg):
        for along in (y + leg, y + depth - leg):
            parts.append(_at(_box((leg, leg, high)), STEEL, across, along, -thick - high / 2))
    parts.append(_at(_box((0.24, 0.24, high + thick)), WALL_FOOT, z=-(high + thick) / 2))
    return _joined(parts)


def floor(layout: Layout) -> np.ndarray:
    """Picture (rows, columns, 3) uint8 of the hall's floor: slabs, a lane along the walls, the hatched bay and its circle.

    Of a table: a grid, and the part's outline at its goal. The first row is at the largest y.
    """
    if layout.table_top is not None:
        return _table(layout)
    hall = layout.hall
    x, y = _grid(hall.x, hall.y, hall.width, hall.depth, PIXELS_PER_M)
    picture = np.empty((*x.shape, 3), np.uint8)
    picture[:] = FLOOR
    picture[(np.mod(x - hall.x, 2) < 0.02) | (np.mod(y - hall.y, 2) < 0.02)] = JOINT
    edge = np.minimum.reduce([x - hall.x, hall.x + hall.width - x, y - hall.y, hall.y + hall.depth - y])
    picture[(edge > 0.12) & (edge < 0.17)] = LANE
    dx, dy = x - layout.goal.x, y - layout.goal.y
    square = np.maximum(np.abs(dx), np.abs(dy))
    bay = (square < 0.42) & (square > 0.36)
    picture[bay & (np.mod(dx + dy, 0.16) < 0.08)] = LANE
    picture[bay & (np.mod(dx + dy, 0.16) >= 0.08)] = (40, 40, 40)
    distance, radius = np.hypot(dx, dy), (PushTask if layout.loads else CrossingTask).goal_radius_m
    picture[distance < radius] = BAY
    picture[(distance < 0.8 * radius) & (distance > 0.7 * radius)] = (240, 253, 244)
    return picture


def _grid(left: float, low: float, width: float, depth: float, pixels_per_m: float) -> tuple[np.ndarray, ...]:
    """x and y of each pixel's centre, the first row at the largest y."""
    x = left + (np.arange(round(width * pixels_per_m)) + 0.5) / pixels_per_m
    y = low + depth - (np.arange(round(depth * pixels_per_m)) + 0.5) / pixels_per_m
    return tuple(np.meshgrid(x, y))


def _table(layout: Layout) -> np.ndarray:
    assert layout.table_top is not None
    x, y = _grid(*layout.table_top, 10 * PIXELS_PER_M)
    picture = np.empty((*x.shape, 3), np.uint8)
    picture[:] = TABLE
    picture[(np.mod(x, 0.1) < 0.002) | (np.mod(y, 0.1) < 0.002)] = TABLE_LINE
    goal = layout.goal
    c, s = np.cos(goal.yaw), np.sin(goal.yaw)
    dx, dy = x - goal.x, y - goal.y
    along, across = c * dx + s * dy, c * dy - s * dx
    boxes = [np.maximum(np.abs(along - a) - w, np.abs(across - b) - d) for a, b, w, d in PARTS[layout.part]]
    outside = np.minimum.reduce(boxes)
    picture[outside < 0.003] = BAY
    picture[outside < -0.002] = (187, 222, 197)
    return picture


def _at(mesh: trimesh.Trimesh, colour: Colour | tuple[int, ...], x: float = 0, y: float = 0, z: float = 0) -> trimesh.Trimesh:
    """A part in its place, painted. Vertices are not shared between faces, so that edges stay sharp."""
    mesh.apply_translation((x, y, z))
    mesh.unmerge_vertices()
    return _painted(mesh, colour)


def _painted(mesh: trimesh.Trimesh, colour: Sequence[int]) -> trimesh.Trimesh:
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.array([*colour, 255], np.uint8))
    return mesh


def _joined(parts: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    whole = trimesh.util.concatenate(parts)
    assert isinstance(whole, trimesh.Trimesh)
    return whole
