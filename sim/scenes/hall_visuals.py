"""The look of halls: floor, walls, racks and the mobile robot, for every scene in a hall."""

import numpy as np

from sim.bodies import Kind
from sim.layout import Layout
from sim.visuals import GOAL_COLOUR, Colour, Primitive, Primitives, get_floor_area, make_pixel_grid

CHASSIS: Colour = (38, 46, 58)
DECK: Colour = (24, 78, 190)
RUBBER: Colour = (24, 24, 27)
LIDAR: Colour = (15, 15, 18)
SAFETY_YELLOW: Colour = (250, 204, 21)
ARROW: Colour = (245, 245, 245)
POST: Colour = (42, 77, 135)
BEAM: Colour = (226, 104, 24)
BOARD: Colour = (202, 190, 168)
CARTONS: tuple[Colour, ...] = ((193, 154, 107), (181, 140, 92), (205, 170, 125), (168, 128, 84))
WALL: Colour = (226, 229, 233)
WALL_BASE: Colour = (120, 128, 138)
STEEL: Colour = (172, 178, 186)
DARK_STEEL: Colour = (71, 85, 105)
FLOOR: Colour = (212, 216, 219)
FLOOR_JOINT: Colour = (198, 202, 206)
LANE: Colour = (234, 179, 8)
GOAL_RING: Colour = (240, 253, 244)
STRIPE: Colour = (40, 40, 40)
PIXELS_PER_M = 60


def make_mobile_robot(half_extents: np.ndarray) -> Primitives:
    """Make an AMR: chassis on two wheels, deck, lidar in front, and an arrow along its heading.

    Args:
        half_extents: (3,) half extents of the body [m].
    """
    radius, height = float(half_extents[0]), 2 * float(half_extents[2])
    bottom = -height / 2
    primitives = [
        Primitive("cylinder", (radius, 0.55 * height), CHASSIS, (0, 0, bottom + 0.425 * height)),
        Primitive("cylinder", (0.97 * radius, 0.12 * height), SAFETY_YELLOW, (0, 0, bottom + 0.6 * height)),
        Primitive("cylinder", (0.93 * radius, 0.28 * height), DECK, (0, 0, bottom + 0.8 * height)),
        Primitive("cylinder", (0.16 * radius, 0.2 * height), LIDAR, (0.72 * radius, 0, height / 2 - 0.1 * radius)),
        Primitive("box", (0.7 * radius, 0.14 * radius, 0.02), ARROW, (0.1 * radius, 0, bottom + 0.95 * height)),
    ]
    for side in (-1, 1):
        wheel_position = (0, side * 0.88 * radius, bottom + 0.16 * height)
        primitives.append(Primitive("wheel", (0.28 * height, 0.16 * radius), RUBBER, wheel_position))
        arrow_position = (0.36 * radius, side * 0.1 * radius, bottom + 0.95 * height)
        primitives.append(Primitive("box", (0.34 * radius, 0.12 * radius, 0.02), ARROW, arrow_position, side * -0.7))
    return tuple(primitives)


def make_static_body(kind: Kind, half_extents: np.ndarray, number: int) -> Primitives:
    """Make a wall or a rack.

    Args:
        half_extents: (3,) half extents of the body [m].
        number: seed of the cartons of a rack.
    """
    return make_wall(half_extents) if kind == Kind.WALL else make_rack(half_extents, number)


def make_wall(half_extents: np.ndarray) -> Primitives:
    """Make a plain panel with a dark base.

    Args:
        half_extents: (3,) half extents of the body [m].
    """
    width, depth, height = (2 * np.asarray(half_extents, float)).tolist()
    base_height = min(0.12, 0.2 * height)
    return (
        Primitive("box", (width, depth, height - base_height), WALL, (0, 0, base_height / 2)),
        Primitive("box", (width, depth, base_height), WALL_BASE, (0, 0, (base_height - height) / 2)),
    )


def make_rack(half_extents: np.ndarray, seed: int = 0) -> Primitives:
    """Make a pallet rack: posts with guards, levels of beams and boards, and cartons by the seed.

    Args:
        half_extents: (3,) half extents of the body [m].
        seed: seed of the cartons.
    """
    width, depth, height = (2 * np.asarray(half_extents, float)).tolist()
    rng, bottom = np.random.default_rng(seed), -height / 2
    primitives = []
    for x in (0.03 - width / 2, width / 2 - 0.03):
        for y in (0.03 - depth / 2, depth / 2 - 0.03):
            primitives.append(Primitive("box", (0.06, 0.06, height), POST, (x, y, 0)))
            primitives.append(Primitive("box", (0.062, 0.062, 0.12), SAFETY_YELLOW, (x, y, bottom + 0.06)))
    levels = [bottom + share * height for share in (0.08, 0.48, 0.88)]
    for z in levels:
        primitives += [Primitive("box", (width, 0.03, 0.07), BEAM, (0, y, z)) for y in (0.015 - depth / 2, depth / 2 - 0.015)]
        primitives.append(Primitive("box", (width - 0.04, depth - 0.06, 0.03), BOARD, (0, 0, z + 0.03)))
    carton_width, carton_depth = width / max(1, int(width / 0.35)), depth / max(1, int(depth / 0.4))
    for z, level_height in zip(levels[:-1], np.diff(levels), strict=True):
        for x in np.arange((carton_width - width) / 2, width / 2, carton_width).tolist():
            for y in np.arange((carton_depth - depth) / 2, depth / 2, carton_depth).tolist():
                if rng.random() < 0.15:
                    continue
                carton_height = float(rng.uniform(0.45, 0.85) * (level_height - 0.1))
                colour = CARTONS[rng.integers(len(CARTONS))]
                size = (0.8 * carton_width, 0.8 * carton_depth, carton_height)
                primitives.append(Primitive("box", size, colour, (x, y, z + 0.045 + carton_height / 2)))
    return tuple(primitives)


def draw_floor(layout: Layout, goal_radius_m: float) -> np.ndarray:
    """Draw a hall's floor: slabs, a lane along the walls, and the goal's circle in a hatched bay.

    Returns:
        Image (R, C, 3) uint8, as of SceneVisuals.draw_floor.
    """
    left, bottom, width, depth = area = get_floor_area(layout)
    x, y = make_pixel_grid(area, PIXELS_PER_M)
    image = np.empty((*x.shape, 3), np.uint8)
    image[:] = FLOOR
    image[(np.mod(x - left, 2) < 0.02) | (np.mod(y - bottom, 2) < 0.02)] = FLOOR_JOINT
    wall_distance = np.minimum.reduce([x - left, left + width - x, y - bottom, bottom + depth - y])
    image[(wall_distance > 0.12) & (wall_distance < 0.17)] = LANE
    dx, dy = x - layout.goal.x, y - layout.goal.y
    square_distance = np.maximum(np.abs(dx), np.abs(dy))
    is_bay_frame = (square_distance < 0.42) & (square_distance > 0.36)
    is_lane_stripe = np.mod(dx + dy, 0.16) < 0.08
    image[is_bay_frame & is_lane_stripe] = LANE
    image[is_bay_frame & ~is_lane_stripe] = STRIPE
    distance = np.hypot(dx, dy) / goal_radius_m
    image[distance < 1] = GOAL_COLOUR
    image[(distance < 0.8) & (distance > 0.7)] = GOAL_RING
    return image
