"""The look of logistics/tote-push: an AMR and totes in a hall."""

from functools import partial

import numpy as np

from sim.bodies import LOAD, ROBOT, Kind
from sim.layout import Layout
from sim.scenes.hall_visuals import CARTONS, RUBBER, draw_floor, make_mobile_robot, make_static_body
from sim.scenes.tote_push.task import PushTask
from sim.visuals import ORANGE, Colour, Primitive, Primitives, SceneVisuals

OTHER_TOTE: Colour = (110, 133, 158)


def make_tote(half_extents: np.ndarray, is_task_load: bool = True) -> Primitives:
    """Make an open container with a rim, handles and a carton; the tote to deliver is orange.

    Args:
        half_extents: (3,) half extents of the body [m].
        is_task_load: True for the tote to deliver.
    """
    width, depth, height = (2 * np.asarray(half_extents, float)).tolist()
    colour = ORANGE if is_task_load else OTHER_TOTE
    dark: Colour = (int(0.72 * colour[0]), int(0.72 * colour[1]), int(0.72 * colour[2]))
    thickness, rim_z = 0.03, height / 2 - 0.025
    primitives = [
        Primitive("box", (width - 0.02, depth - 0.02, 0.02), dark, (0, 0, 0.02 - height / 2)),
        Primitive("box", (0.6 * width, 0.5 * depth, 0.5 * height), CARTONS[0], (0, 0, -0.15 * height)),
    ]
    for side in (-1, 1):
        x, y = side * (width - thickness) / 2, side * (depth - thickness) / 2
        wall_x, wall_y = side * (width / 2 - thickness), side * (depth / 2 - thickness)
        primitives += [
            Primitive("box", (width - 0.03, thickness, height - 0.04), colour, (0, wall_y, -0.01)),
            Primitive("box", (thickness, depth - 0.03, height - 0.04), colour, (wall_x, 0, -0.01)),
            Primitive("box", (width, thickness, 0.05), dark, (0, y, rim_z)),
            Primitive("box", (thickness, depth, 0.05), dark, (x, 0, rim_z)),
            Primitive("box", (0.012, 0.35 * depth, 0.04), RUBBER, (x + side * 0.01, 0, 0.2 * height)),
        ]
    return tuple(primitives)


def _make_body(layout: Layout, body: int, half_extents: np.ndarray) -> Primitives:
    return make_mobile_robot(half_extents) if body == ROBOT else make_tote(half_extents, body == LOAD)


VISUALS = SceneVisuals(
    make_body=_make_body,
    make_static_body=make_static_body,
    draw_floor=partial(draw_floor, goal_radius_m=PushTask.goal_radius_m),
    goal_radius_m=PushTask.goal_radius_m,
    body_names={Kind.LOAD: "tote"},
)
