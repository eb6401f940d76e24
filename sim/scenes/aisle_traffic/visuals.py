"""The look of logistics/aisle-traffic: an AMR, people and forklifts in a hall."""

from functools import partial

import numpy as np

from sim.bodies import Kind
from sim.layout import Layout
from sim.scenes.aisle_traffic.task import CrossingTask
from sim.scenes.hall_visuals import DARK_STEEL, RUBBER, SAFETY_YELLOW, STEEL, draw_floor, make_mobile_robot, make_static_body
from sim.visuals import Colour, Primitive, Primitives, SceneVisuals

VEST: Colour = (234, 88, 12)
REFLECTOR: Colour = (226, 232, 160)
TROUSERS: Colour = (30, 41, 82)
SKIN: Colour = (214, 170, 140)
TRUCK: Colour = (234, 170, 8)


def make_person(half_extents: np.ndarray) -> Primitives:
    """Make a person in a safety vest and a helmet who looks along x.

    Args:
        half_extents: (3,) half extents of the body [m].
    """
    radius, height = float(half_extents[0]), 2 * float(half_extents[2])
    bottom = -height / 2
    primitives = [
        Primitive("cylinder", (0.5 * radius, 0.34 * height), VEST, (0, 0, bottom + 0.63 * height)),
        Primitive("cylinder", (0.52 * radius, 0.03 * height), REFLECTOR, (0, 0, bottom + 0.6 * height)),
        Primitive("cylinder", (0.2 * radius, 0.06 * height), SKIN, (0, 0, bottom + 0.82 * height)),
        Primitive("sphere", (0.42 * radius,), SKIN, (0, 0, bottom + 0.88 * height)),
        Primitive("cylinder", (0.46 * radius, 0.06 * height), SAFETY_YELLOW, (0, 0, bottom + 0.94 * height)),
        Primitive("box", (0.3 * radius, 0.5 * radius, 0.015), SAFETY_YELLOW, (0.5 * radius, 0, bottom + 0.915 * height)),
    ]
    for side in (-1, 1):
        leg_y, arm_y = side * 0.26 * radius, side * 0.68 * radius
        primitives += [
            Primitive("cylinder", (0.22 * radius, 0.46 * height), TROUSERS, (0, leg_y, bottom + 0.24 * height)),
            Primitive("box", (0.7 * radius, 0.32 * radius, 0.06), RUBBER, (0.12 * radius, leg_y, bottom + 0.03)),
            Primitive("cylinder", (0.15 * radius, 0.36 * height), VEST, (0, arm_y, bottom + 0.6 * height)),
            Primitive("sphere", (0.16 * radius,), SKIN, (0, arm_y, bottom + 0.41 * height)),
        ]
    return tuple(primitives)


def make_forklift(half_extents: np.ndarray) -> Primitives:
    """Make a truck: forks and mast in front, counterweight behind, a seat under an overhead guard.

    Args:
        half_extents: (3,) half extents of the body [m].
    """
    length, width, height = (2 * np.asarray(half_extents, float)).tolist()
    body_boxes = (  # size, and x and z of the centre from the lower rear edge, as shares of length, width and height
        ((0.62, 0.9, 0.26), (0.33, 0.22), TRUCK),  # chassis
        ((0.2, 0.9, 0.2), (0.1, 0.42), DARK_STEEL),  # counterweight
        ((0.16, 0.5, 0.06), (0.34, 0.38), RUBBER),  # seat
        ((0.05, 0.5, 0.22), (0.25, 0.5), RUBBER),  # back of the seat
        ((0.46, 0.84, 0.02), (0.36, 0.98), RUBBER),  # overhead guard
        ((0.03, 0.8, 0.12), (0.69, 0.12), DARK_STEEL),  # carriage
    )

    def place(x: float, y: float, z: float) -> tuple[float, float, float]:
        return (x - 0.5) * length, y * width, (z - 0.5) * height

    primitives = [
        Primitive("box", (size[0] * length, size[1] * width, size[2] * height), colour, place(x, 0, z))
        for size, (x, z), colour in body_boxes
    ]
    for side in (-1, 1):
        posts = [Primitive("box", (0.03, 0.03, 0.56 * height), DARK_STEEL, place(x, side * 0.4, 0.7)) for x in (0.15, 0.57)]
        wheel_size = (0.13 * height, 0.12 * width)
        wheels = [Primitive("wheel", wheel_size, RUBBER, place(x, side * 0.43, 0.13)) for x in (0.13, 0.52)]
        mast = Primitive("box", (0.05, 0.05, 0.96 * height), RUBBER, place(0.66, side * 0.3, 0.48))
        fork = Primitive("box", (0.29 * length, 0.11, 0.03), STEEL, place(0.855, side * 0.22, 0.05))
        primitives += [*posts, mast, fork, *wheels]
    return tuple(primitives)


def _make_body(layout: Layout, body: int, half_extents: np.ndarray) -> Primitives:
    makers = {Kind.ROBOT: make_mobile_robot, Kind.PERSON: make_person, Kind.FORKLIFT: make_forklift}
    return makers[layout.dynamic_kinds[body]](half_extents)


VISUALS = SceneVisuals(
    make_body=_make_body,
    make_static_body=make_static_body,
    draw_floor=partial(draw_floor, goal_radius_m=CrossingTask.goal_radius_m),
    goal_radius_m=CrossingTask.goal_radius_m,
)
