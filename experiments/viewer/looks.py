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
CHASSIS_COLOUR, DECK_COLOUR, RUBBER_COLOUR, LIDAR_COLOUR, SIGNAL_COLOUR = (
    (38, 46, 58),
    (24, 78, 190),
    (24, 24, 27),
    (15, 15, 18),
    (250, 204, 21),
)
RACK_POST_COLOUR, RACK_BEAM_COLOUR, RACK_BOARD_COLOUR, RACK_GUARD_COLOUR = (
    (42, 77, 135),
    (226, 104, 24),
    (202, 190, 168),
    (250, 204, 21),
)
CARTON_COLOURS: tuple[Colour, ...] = ((193, 154, 107), (181, 140, 92), (205, 170, 125), (168, 128, 84))
TASK_TOTE_COLOUR, OTHER_TOTE_COLOUR, TOTE_RIM = (217, 119, 6), (110, 133, 158), 0.85
WALL_COLOUR, WALL_BASE_COLOUR = (226, 229, 233), (120, 128, 138)
FLOOR_COLOUR, FLOOR_JOINT_COLOUR, LANE_COLOUR, GOAL_COLOUR = (212, 216, 219), (198, 202, 206), (234, 179, 8), (22, 163, 74)
STEEL_COLOUR, PART_COLOUR, PART_TOP_COLOUR, CLAMP_COLOUR = (172, 178, 186), (196, 107, 12), (236, 150, 50), (71, 85, 105)
VEST_COLOUR, REFLECTOR_COLOUR, TROUSERS_COLOUR, SKIN_COLOUR, FORKLIFT_COLOUR = (
    (234, 88, 12),
    (226, 232, 160),
    (30, 41, 82),
    (214, 170, 140),
    (234, 170, 8),
)
MAX_LINK_COLOUR = (238, 240, 242)  # of a robot: pure white would not show its shape
TABLE_COLOUR, TABLE_LINE_COLOUR = (203, 213, 205), (186, 198, 189)
PIXELS_PER_M = 60
MAX_LINK_FACES = 2500  # of a robot's link, at most: meshes of robots are made for closer looks than this


def make_robot_mesh(half_extents: np.ndarray) -> trimesh.Trimesh:
    """An AMR: dark chassis on two wheels and castors, blue deck, lidar in front, an arrow that shows where it heads."""
    radius, height = float(half_extents[0]), 2 * float(half_extents[2])
    bottom = -height / 2
    parts = [
        _place_part(_cylinder(radius, 0.55 * height), CHASSIS_COLOUR, z=bottom + 0.425 * height),
        _place_part(_cylinder(0.97 * radius, 0.12 * height), SIGNAL_COLOUR, z=bottom + 0.6 * height),
        _place_part(_cylinder(0.93 * radius, 0.28 * height), DECK_COLOUR, z=bottom + 0.8 * height),
        _place_part(_cylinder(0.16 * radius, 0.2 * height), LIDAR_COLOUR, x=0.72 * radius, z=height / 2 - 0.1 * radius),
        _place_part(_box((0.7 * radius, 0.14 * radius, 0.02)), (245, 245, 245), x=0.1 * radius, z=bottom + 0.95 * height),
    ]
    for side in (-1, 1):
        wheel = _cylinder(0.28 * height, 0.16 * radius, transform=rotation_matrix(np.pi / 2, (1, 0, 0)))
        parts.append(
            _place_part(wheel, RUBBER_COLOUR, y=side * 0.88 * radius, z=bottom + 0.16 * height)
        )  # on the floor, below the chassis
        arrow_head = _box((0.34 * radius, 0.12 * radius, 0.02), transform=rotation_matrix(side * -0.7, (0, 0, 1)))
        parts.append(_place_part(arrow_head, (245, 245, 245), x=0.36 * radius, y=side * 0.1 * radius, z=bottom + 0.95 * height))
    return _join_parts(parts)


def make_tote_mesh(half_extents: np.ndarray, is_task_load: bool = True) -> trimesh.Trimesh:
    """An open container with a rim, ribs and handles; the one to deliver is orange."""
    width, depth, height = 2 * np.asarray(half_extents, float)
    colour = TASK_TOTE_COLOUR if is_task_load else OTHER_TOTE_COLOUR
    wall_thickness, bottom = 0.03, -height / 2
    inner_colour = tuple(int(0.72 * channel) for channel in colour)
    parts = [_place_part(_box((width - 0.02, depth - 0.02, 0.02)), inner_colour, z=bottom + 0.02)]
    for side in (-1, 1):
        parts += [
            _place_part(
                _box((width - 0.03, wall_thickness, height - 0.04)), colour, y=side * (depth / 2 - wall_thickness), z=-0.01
            ),
            _place_part(
                _box((wall_thickness, depth - 0.03, height - 0.04)), colour, x=side * (width / 2 - wall_thickness), z=-0.01
            ),
            _place_part(
                _box((width, wall_thickness, 0.05)), inner_colour, y=side * (depth / 2 - wall_thickness / 2), z=height / 2 - 0.025
            ),
            _place_part(
                _box((wall_thickness, depth, 0.05)), inner_colour, x=side * (width / 2 - wall_thickness / 2), z=height / 2 - 0.025
            ),
            _place_part(
                _box((0.012, 0.35 * depth, 0.04)), RUBBER_COLOUR, x=side * (width / 2 - wall_thickness / 2 + 0.01), z=0.2 * height
            ),
        ]
    parts.append(_place_part(_box((0.6 * width, 0.5 * depth, 0.5 * height)), CARTON_COLOURS[0], z=-0.15 * height))
    return _join_parts(parts)


@lru_cache(maxsize=64)
def load_link_mesh(file: Path) -> trimesh.Trimesh:
    """A link of a robot from its mesh file, with fewer faces, each part in its material's colour."""
    parts = list(trimesh.load_scene(file).geometry.values())
    face_share = min(1.0, MAX_LINK_FACES / sum(len(part.faces) for part in parts))
    simplified_parts = []
    for part in parts:
        part.merge_vertices(merge_tex=True, merge_norm=True)  # else its seams tear open
        material = getattr(part.visual, "material", None)
        colour = (*(MAX_LINK_COLOUR if material is None else material.main_color[:3]),)
        simplified_part = (
            part.simplify_quadric_decimation(face_count=max(4, int(face_share * len(part.faces)))) if face_share < 1 else part
        )
        simplified_parts.append(_paint(simplified_part, np.minimum(colour, MAX_LINK_COLOUR).tolist()))
    return _join_parts(simplified_parts)


def make_person_mesh(half_extents: np.ndarray) -> trimesh.Trimesh:
    """Somebody in a safety vest and helmet, who looks along x."""
    radius, height = float(half_extents[0]), 2 * float(half_extents[2])
    bottom = -height / 2
    parts = [
        _place_part(_cylinder(0.5 * radius, 0.34 * height), VEST_COLOUR, z=bottom + 0.63 * height),
        _place_part(_cylinder(0.52 * radius, 0.03 * height), REFLECTOR_COLOUR, z=bottom + 0.6 * height),
        _place_part(_cylinder(0.2 * radius, 0.06 * height), SKIN_COLOUR, z=bottom + 0.82 * height),
        _place_part(icosphere(subdivisions=2, radius=0.42 * radius), SKIN_COLOUR, z=bottom + 0.88 * height),
        _place_part(_cylinder(0.46 * radius, 0.06 * height), SIGNAL_COLOUR, z=bottom + 0.94 * height),
        _place_part(_box((0.3 * radius, 0.5 * radius, 0.015)), SIGNAL_COLOUR, x=0.5 * radius, z=bottom + 0.915 * height),
    ]
    for side in (-1, 1):
        parts.append(
            _place_part(
                _cylinder(0.22 * radius, 0.46 * height), TROUSERS_COLOUR, y=side * 0.26 * radius, z=bottom + 0.24 * height
            )
        )
        parts.append(
            _place_part(
                _box((0.7 * radius, 0.32 * radius, 0.06)), RUBBER_COLOUR, 0.12 * radius, side * 0.26 * radius, bottom + 0.03
            )
        )
        parts.append(
            _place_part(_cylinder(0.15 * radius, 0.36 * height), VEST_COLOUR, y=side * 0.68 * radius, z=bottom + 0.6 * height)
        )
        parts.append(
            _place_part(
                icosphere(subdivisions=1, radius=0.16 * radius), SKIN_COLOUR, y=side * 0.68 * radius, z=bottom + 0.41 * height
            )
        )
    return _join_parts(parts)


def make_forklift_mesh(half_extents: np.ndarray) -> trimesh.Trimesh:
    """A counterbalanced truck: forks and mast in front, counterweight behind, a seat under an overhead guard."""
    length, width, height = 2 * np.asarray(half_extents, float)
    bottom, rear = -height / 2, -length / 2
    parts = [
        _place_part(
            _box((0.62 * length, 0.9 * width, 0.26 * height)), FORKLIFT_COLOUR, x=rear + 0.33 * length, z=bottom + 0.22 * height
        ),
        _place_part(
            _box((0.2 * length, 0.9 * width, 0.2 * height)), CLAMP_COLOUR, x=rear + 0.1 * length, z=bottom + 0.42 * height
        ),
        _place_part(
            _box((0.16 * length, 0.5 * width, 0.06 * height)), RUBBER_COLOUR, x=rear + 0.34 * length, z=bottom + 0.38 * height
        ),
        _place_part(
            _box((0.05 * length, 0.5 * width, 0.22 * height)), RUBBER_COLOUR, x=rear + 0.25 * length, z=bottom + 0.5 * height
        ),
        _place_part(
            _box((0.46 * length, 0.84 * width, 0.02 * height)), RUBBER_COLOUR, x=rear + 0.36 * length, z=bottom + 0.98 * height
        ),
        _place_part(
            _box((0.03 * length, 0.8 * width, 0.12 * height)), CLAMP_COLOUR, x=rear + 0.69 * length, z=bottom + 0.12 * height
        ),
    ]
    for side in (-1, 1):
        for x in (0.15, 0.57):
            parts.append(
                _place_part(
                    _box((0.03, 0.03, 0.56 * height)), CLAMP_COLOUR, rear + x * length, side * 0.4 * width, bottom + 0.7 * height
                )
            )
        mast, fork = _box((0.05, 0.05, 0.96 * height)), _box((0.29 * length, 0.11, 0.03))
        parts.append(_place_part(mast, RUBBER_COLOUR, rear + 0.66 * length, side * 0.3 * width, bottom + 0.48 * height))
        parts.append(_place_part(fork, STEEL_COLOUR, rear + 0.855 * length, side * 0.22 * width, bottom + 0.05 * height))
        for x in (0.13, 0.52):
            wheel = _cylinder(0.13 * height, 0.12 * width, transform=rotation_matrix(np.pi / 2, (1, 0, 0)))
            parts.append(_place_part(wheel, RUBBER_COLOUR, x=rear + x * length, y=side * 0.43 * width, z=bottom + 0.13 * height))
    return _join_parts(parts)


def make_pusher_mesh(half_extents: np.ndarray) -> trimesh.Trimesh:
    """The stick of an arm's tool."""
    radius, height = float(half_extents[0]), 2 * float(half_extents[2])
    return _join_parts(
        [
            _place_part(_cylinder(radius, height), STEEL_COLOUR),
            _place_part(_cylinder(0.9 * radius, 0.1 * height), RUBBER_COLOUR, z=-0.45 * height),
            _place_part(_cylinder(1.6 * radius, 0.25 * height), RUBBER_COLOUR, z=0.62 * height),
        ]
    )


def make_part_mesh(footprint: np.ndarray, half_height: float) -> trimesh.Trimesh:
    """A machined part of boxes (P, 4): x, y, half width, half depth, with a face on top that shows where it is."""
    parts = []
    for x, y, width, depth in footprint[footprint[:, 2] > 0]:
        parts.append(_place_part(_box((2 * width, 2 * depth, 2 * half_height)), PART_COLOUR, x=x, y=y))
        parts.append(_place_part(_box((1.8 * width, 1.8 * depth, 0.001)), PART_TOP_COLOUR, x=x, y=y, z=half_height))
    return _join_parts(parts)


def make_clamp_mesh(half_extents: np.ndarray) -> trimesh.Trimesh:
    """A block screwed to the table."""
    width, depth, height = 2 * np.asarray(half_extents, float)
    parts = [_place_part(_box((width, depth, height)), CLAMP_COLOUR)]
    for side in (-1, 1):
        x, y = (side * 0.3 * width, 0.0) if width > depth else (0.0, side * 0.3 * depth)
        parts.append(_place_part(_cylinder(0.22 * min(width, depth), 0.1 * height), STEEL_COLOUR, x, y, height / 2))
    return _join_parts(parts)


def make_rack_mesh(half_extents: np.ndarray, seed: int = 0) -> trimesh.Trimesh:
    """A pallet rack: posts, two levels of beams and boards, cartons on them, a yellow guard at the foot."""
    width, depth, height = 2 * np.asarray(half_extents, float)
    rng, bottom = np.random.default_rng(seed), -height / 2
    parts = []
    for x in (-1, 1):
        for y in (-1, 1):
            post_xy = (x * (width / 2 - 0.03), y * (depth / 2 - 0.03))
            parts.append(_place_part(_box((0.06, 0.06, height)), RACK_POST_COLOUR, *post_xy))
            parts.append(_place_part(_box((0.062, 0.062, 0.12)), RACK_GUARD_COLOUR, *post_xy, z=bottom + 0.06))
    levels = np.array([0.08, 0.48, 0.88]) * height
    for level in levels:
        for y in (-1, 1):
            parts.append(_place_part(_box((width, 0.03, 0.07)), RACK_BEAM_COLOUR, y=y * (depth / 2 - 0.015), z=bottom + level))
        parts.append(_place_part(_box((width - 0.04, depth - 0.06, 0.03)), RACK_BOARD_COLOUR, z=bottom + level + 0.03))
    for level, level_height in zip(levels[:-1], np.diff(levels), strict=True):
        num_columns, num_rows = max(1, int(width / 0.35)), max(1, int(depth / 0.4))
        for column in range(num_columns):
            for row in range(num_rows):
                if rng.random() < 0.15:
                    continue
                size = np.array(
                    [0.8 * width / num_columns, 0.8 * depth / num_rows, rng.uniform(0.45, 0.85) * (level_height - 0.1)]
                )
                carton_xy = ((column + 0.5) * width / num_columns - width / 2, (row + 0.5) * depth / num_rows - depth / 2)
                parts.append(
                    _place_part(
                        _box(size),
                        CARTON_COLOURS[rng.integers(len(CARTON_COLOURS))],
                        *carton_xy,
                        z=bottom + level + 0.045 + size[2] / 2,
                    )
                )
    return _join_parts(parts)


def make_wall_mesh(half_extents: np.ndarray) -> trimesh.Trimesh:
    """Plain panels with a dark foot."""
    size = 2 * np.asarray(half_extents, float)
    base_height = min(0.12, 0.2 * size[2])
    return _join_parts(
        [
            _place_part(_box((size[0], size[1], size[2] - base_height)), WALL_COLOUR, z=base_height / 2),
            _place_part(_box((size[0], size[1], base_height)), WALL_BASE_COLOUR, z=base_height / 2 - size[2] / 2),
        ]
    )


def make_table_mesh(layout: Layout) -> trimesh.Trimesh:
    """The slab under a table's top, its legs, and the pedestal of the arm at the origin."""
    assert layout.table_top is not None
    x, y, width, depth = layout.table_top
    thickness, leg_height, leg_width = 0.03, 0.4, 0.04
    parts = [_place_part(_box((width, depth, thickness)), CLAMP_COLOUR, x + width / 2, y + depth / 2, -0.002 - thickness / 2)]
    for leg_x in (x + leg_width, x + width - leg_width):
        for leg_y in (y + leg_width, y + depth - leg_width):
            parts.append(
                _place_part(_box((leg_width, leg_width, leg_height)), STEEL_COLOUR, leg_x, leg_y, -thickness - leg_height / 2)
            )
    parts.append(_place_part(_box((0.24, 0.24, leg_height + thickness)), WALL_BASE_COLOUR, z=-(leg_height + thickness) / 2))
    return _join_parts(parts)


def draw_floor_image(layout: Layout) -> np.ndarray:
    """Picture (rows, columns, 3) uint8 of the hall's floor: slabs, a lane along the walls, the hatched bay and its circle.

    Of a table: a grid, and the part's outline at its goal. The first row is at the largest y.
    """
    if layout.table_top is not None:
        return _draw_table_image(layout)
    hall = layout.hall
    x, y = _make_pixel_grid(hall.x, hall.y, hall.width, hall.depth, PIXELS_PER_M)
    image = np.empty((*x.shape, 3), np.uint8)
    image[:] = FLOOR_COLOUR
    image[(np.mod(x - hall.x, 2) < 0.02) | (np.mod(y - hall.y, 2) < 0.02)] = FLOOR_JOINT_COLOUR
    wall_distance = np.minimum.reduce([x - hall.x, hall.x + hall.width - x, y - hall.y, hall.y + hall.depth - y])
    image[(wall_distance > 0.12) & (wall_distance < 0.17)] = LANE_COLOUR
    dx, dy = x - layout.goal.x, y - layout.goal.y
    square_distance = np.maximum(np.abs(dx), np.abs(dy))
    is_bay_frame = (square_distance < 0.42) & (square_distance > 0.36)
    image[is_bay_frame & (np.mod(dx + dy, 0.16) < 0.08)] = LANE_COLOUR
    image[is_bay_frame & (np.mod(dx + dy, 0.16) >= 0.08)] = (40, 40, 40)
    distance, radius = np.hypot(dx, dy), (PushTask if layout.loads else CrossingTask).goal_radius_m
    image[distance < radius] = GOAL_COLOUR
    image[(distance < 0.8 * radius) & (distance > 0.7 * radius)] = (240, 253, 244)
    return image


def _make_pixel_grid(left: float, bottom: float, width: float, depth: float, pixels_per_m: float) -> tuple[np.ndarray, ...]:
    """x and y of each pixel's centre, the first row at the largest y."""
    x = left + (np.arange(round(width * pixels_per_m)) + 0.5) / pixels_per_m
    y = bottom + depth - (np.arange(round(depth * pixels_per_m)) + 0.5) / pixels_per_m
    return tuple(np.meshgrid(x, y))


def _draw_table_image(layout: Layout) -> np.ndarray:
    assert layout.table_top is not None
    x, y = _make_pixel_grid(*layout.table_top, 10 * PIXELS_PER_M)
    image = np.empty((*x.shape, 3), np.uint8)
    image[:] = TABLE_COLOUR
    image[(np.mod(x, 0.1) < 0.002) | (np.mod(y, 0.1) < 0.002)] = TABLE_LINE_COLOUR
    goal = layout.goal
    cos_yaw, sin_yaw = np.cos(goal.yaw), np.sin(goal.yaw)
    dx, dy = x - goal.x, y - goal.y
    along, across = cos_yaw * dx + sin_yaw * dy, cos_yaw * dy - sin_yaw * dx
    box_distances = [np.maximum(np.abs(along - a) - w, np.abs(across - b) - d) for a, b, w, d in PARTS[layout.part]]
    part_distance = np.minimum.reduce(box_distances)
    image[part_distance < 0.003] = GOAL_COLOUR
    image[part_distance < -0.002] = (187, 222, 197)
    return image


def _place_part(
    mesh: trimesh.Trimesh, colour: Colour | tuple[int, ...], x: float = 0, y: float = 0, z: float = 0
) -> trimesh.Trimesh:
    """A part in its place, painted. Vertices are not shared between faces, so that edges stay sharp."""
    mesh.apply_translation((x, y, z))
    mesh.unmerge_vertices()
    return _paint(mesh, colour)


def _paint(mesh: trimesh.Trimesh, colour: Sequence[int]) -> trimesh.Trimesh:
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.array([*colour, 255], np.uint8))
    return mesh


def _join_parts(parts: list[trimesh.Trimesh]) -> trimesh.Trimesh:
    mesh = trimesh.util.concatenate(parts)
    assert isinstance(mesh, trimesh.Trimesh)
    return mesh
