"""The look of factory/push-fixture: the tool of an arm, a machined part, clamps and a table."""

import numpy as np

from sim.bodies import ROBOT, Kind
from sim.layout import Layout
from sim.scenes.hall_visuals import DARK_STEEL, RUBBER, STEEL
from sim.scenes.push_fixture.layouts import PARTS
from sim.visuals import GOAL_COLOUR, Colour, Primitive, Primitives, SceneVisuals, ViewSettings, get_floor_area, make_pixel_grid

PART: Colour = (196, 107, 12)
PART_TOP: Colour = (236, 150, 50)
PEDESTAL: Colour = (120, 128, 138)
TABLE: Colour = (203, 213, 205)
TABLE_LINE: Colour = (186, 198, 189)
GOAL_FACE: Colour = (187, 222, 197)
PIXELS_PER_M = 600


def make_tool(half_extents: np.ndarray) -> Primitives:
    """Make the stick of an arm's tool.

    Args:
        half_extents: (3,) half extents of the body [m].
    """
    radius, height = float(half_extents[0]), 2 * float(half_extents[2])
    return (
        Primitive("cylinder", (radius, height), STEEL),
        Primitive("cylinder", (0.9 * radius, 0.1 * height), RUBBER, (0, 0, -0.45 * height)),
        Primitive("cylinder", (1.6 * radius, 0.25 * height), RUBBER, (0, 0, 0.62 * height)),
    )


def _make_part(part: str, half_height: float) -> Primitives:
    """Make a part with a bright face on top, so that it can be seen from above."""
    primitives = []
    for x, y, width, depth in PARTS[part]:
        primitives.append(Primitive("box", (2 * width, 2 * depth, 2 * half_height), PART, (x, y, 0)))
        primitives.append(Primitive("box", (1.8 * width, 1.8 * depth, 0.001), PART_TOP, (x, y, half_height)))
    return tuple(primitives)


def _make_clamp(kind: Kind, half_extents: np.ndarray, number: int) -> Primitives:
    """Make a block with two screws."""
    width, depth, height = (2 * np.asarray(half_extents, float)).tolist()
    radius = 0.22 * min(width, depth)
    x, y = (0.3 * width, 0.0) if width > depth else (0.0, 0.3 * depth)
    screws = (Primitive("cylinder", (radius, 0.1 * height), STEEL, (side * x, side * y, height / 2)) for side in (-1, 1))
    return (Primitive("box", (width, depth, height), DARK_STEEL), *screws)


def _make_table(layout: Layout) -> Primitives:
    """Make the slab under the table's top, its legs, and the pedestal of the arm at the origin."""
    x, y, width, depth = get_floor_area(layout)
    thickness, leg_height, leg_width = 0.03, 0.4, 0.04
    legs = [
        Primitive("box", (leg_width, leg_width, leg_height), STEEL, (leg_x, leg_y, -thickness - leg_height / 2))
        for leg_x in (x + leg_width, x + width - leg_width)
        for leg_y in (y + leg_width, y + depth - leg_width)
    ]
    slab_position = (x + width / 2, y + depth / 2, -0.002 - thickness / 2)
    pedestal_height = leg_height + thickness
    return (
        Primitive("box", (width, depth, thickness), DARK_STEEL, slab_position),
        *legs,
        Primitive("box", (0.24, 0.24, pedestal_height), PEDESTAL, (0, 0, -pedestal_height / 2)),
    )


def _draw_table_top(layout: Layout) -> np.ndarray:
    """Draw a grid, and the part's outline at its goal."""
    x, y = make_pixel_grid(get_floor_area(layout), PIXELS_PER_M)
    image = np.empty((*x.shape, 3), np.uint8)
    image[:] = TABLE
    image[(np.mod(x, 0.1) < 0.002) | (np.mod(y, 0.1) < 0.002)] = TABLE_LINE
    goal = layout.goal
    cos_yaw, sin_yaw = np.cos(goal.yaw), np.sin(goal.yaw)
    dx, dy = x - goal.x, y - goal.y
    along, across = cos_yaw * dx + sin_yaw * dy, cos_yaw * dy - sin_yaw * dx
    box_distances = [np.maximum(np.abs(along - a) - w, np.abs(across - b) - d) for a, b, w, d in PARTS[layout.part]]
    part_distance = np.minimum.reduce(box_distances)
    image[part_distance < 0.003] = GOAL_COLOUR
    image[part_distance < -0.002] = GOAL_FACE
    return image


VISUALS = SceneVisuals(
    make_body=lambda layout, body, half: make_tool(half) if body == ROBOT else _make_part(layout.part, float(half[2])),
    make_static_body=_make_clamp,
    draw_floor=_draw_table_top,
    get_goal_boxes=lambda layout: np.array(PARTS[layout.part]),
    make_surface=_make_table,
    # From above, the arm would hide its tool.
    view=ViewSettings(camera_offset=(0.75, -1.6, 1.0), centre_height_m=0.2, gap_m=0.7, label_height_m=0.24),
    # The camera looks along y: the table's x axis points to the right.
    drive={"forward": ("left", 1.0), "left": ("forward", -1.0), "up": ("up", 1.0)},
    body_names={Kind.ROBOT: "tool", Kind.LOAD: "part"},
)
