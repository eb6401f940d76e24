"""The look of logistics/palletise, and its indicators: pallet, cartons with labels, infeed tables."""

import numpy as np

from sim.bodies import ROBOT, Bodies, Kind
from sim.layout import Layout
from sim.robots.iiwa import PEDESTAL_M
from sim.scenes.hall_visuals import DARK_STEEL, RUBBER, STEEL
from sim.scenes.palletise import geometry
from sim.scenes.palletise.geometry import PalletField
from sim.scenes.scene import IndicatorSet
from sim.visuals import GOAL_COLOUR, Colour, Primitive, Primitives, SceneVisuals, ViewSettings, get_floor_area, make_pixel_grid

BROWNS: tuple[Colour, ...] = ((194, 153, 107), (178, 135, 92), (209, 171, 122), (160, 120, 82), (201, 160, 110))
TAPE: Colour = (226, 205, 160)
LABEL: Colour = (245, 245, 240)
WOOD: Colour = (196, 164, 116)
DARK_WOOD: Colour = (150, 120, 80)
CONCRETE: Colour = (214, 216, 218)
LINE: Colour = (240, 200, 60)
PIXELS_PER_M = 300


def _make_carton(half: np.ndarray) -> Primitives:
    """Make a carton with a strip of tape and a label; its brown depends on its size."""
    width, depth, height = (2 * half).tolist()
    brown = BROWNS[int(1e4 * float(half.sum())) % len(BROWNS)]
    return (
        Primitive("box", (width, depth, height), brown),
        Primitive("box", (1.002 * width, 0.18 * depth, 1.004 * height), TAPE),
        Primitive("box", (0.3 * width, 1.004 * depth, 0.4 * height), LABEL, (0.25 * width, 0, 0.1 * height)),
    )


def _make_gripper(half: np.ndarray) -> Primitives:
    """Make the pad with four cups, and the pipe to the arm."""
    radius, height = float(half[0]), float(half[2])
    cups = [Primitive("cylinder", (0.018, 0.012), RUBBER, (x, y, -height)) for x in (-0.026, 0.026) for y in (-0.026, 0.026)]
    return (
        Primitive("cylinder", (radius, 2 * height), DARK_STEEL),
        Primitive("cylinder", (0.018, 0.09), STEEL, (0, 0, 0.05)),
        *cups,
    )


def _make_static(kind: Kind, half: np.ndarray, number: int) -> Primitives:
    width, depth, height = (2 * half).tolist()
    if kind == Kind.PALLET:
        boards = [
            Primitive("box", (width / 8.5, depth, 0.2 * height), WOOD, ((i - 3) * width / 7 * 1.02, 0, 0.4 * height))
            for i in range(7)
        ]
        beams = [
            Primitive("box", (width, 0.12 * depth, 0.8 * height), DARK_WOOD, (0, y, -0.1 * height))
            for y in (-0.42 * depth, 0, 0.42 * depth)
        ]
        return (*boards, *beams)
    if kind == Kind.WALL:  # the post that shows the height limit
        return (
            Primitive("box", (width, depth, height), DARK_STEEL),
            Primitive("box", (6 * width, depth, 0.01), LINE, (-3 * width, 0, height / 2)),
        )
    rollers = [
        Primitive("box", (0.01, 0.9 * depth, 0.004), DARK_STEEL, (x, 0, height / 2)) for x in np.linspace(-0.4, 0.4, 7) * width
    ]
    return (Primitive("box", (width, depth, height), STEEL), *rollers)


def _make_cell(layout: Layout) -> Primitives:
    """Make the pedestal of the arm."""
    return (Primitive("cylinder", (0.12, PEDESTAL_M), DARK_STEEL, (0, 0, PEDESTAL_M / 2)),)


def _draw_floor(layout: Layout) -> np.ndarray:
    """Draw concrete, a line around the place of the pallet, and its middle."""
    x, y = make_pixel_grid(get_floor_area(layout), PIXELS_PER_M)
    image = np.empty((*x.shape, 3), np.uint8)
    image[:] = CONCRETE
    goal = layout.goal
    c, s = np.cos(goal.yaw), np.sin(goal.yaw)
    along, across = c * (x - goal.x) + s * (y - goal.y), c * (y - goal.y) - s * (x - goal.x)
    half = (geometry.PALLET_LENGTH_M / 2 + 0.03, geometry.PALLET_WIDTH_M / 2 + 0.03)
    distance = np.maximum(abs(along) - half[0], abs(across) - half[1])
    image[(abs(distance) < 0.008) | (np.hypot(along, across) < 0.02)] = GOAL_COLOUR
    return image


def _make_body(layout: Layout, body: int, half_extents: np.ndarray) -> Primitives:
    half = np.asarray(half_extents, float)
    return _make_gripper(half) if body == ROBOT else _make_carton(half)


def _get_goal_boxes(layout: Layout) -> np.ndarray:
    return np.array([(0.0, 0.0, geometry.PALLET_LENGTH_M / 2, geometry.PALLET_WIDTH_M / 2)])


VISUALS = SceneVisuals(
    make_body=_make_body,
    make_static_body=_make_static,
    draw_floor=_draw_floor,
    get_goal_boxes=_get_goal_boxes,
    make_surface=_make_cell,
    view=ViewSettings(camera_offset=(0.9, -0.75, 0.75), centre_height_m=0.25, gap_m=0.6, label_height_m=1.0),
    body_names={Kind.ROBOT: "suction gripper", Kind.LOAD: "carton"},
)


def _compute_indicators(states: Bodies, field: PalletField, speed_limit_m_s: float, step_s: float) -> dict[str, float]:
    """Compute the indicators of an episode from its states (T+1, N)."""
    stack = geometry.measure_stack(states, field)
    volume = 8 * states.half_extents.prod(-1) * stack.is_placed
    top = (stack.top * stack.is_placed).max(-1) - field.limits[0]
    area = float(4 * field.half[0] * field.half[1])
    used = volume[-1].sum() / max(area * float(top[-1]), 1e-9) if stack.is_placed[-1].any() else 0.0
    stays = stack.is_placed[1:] & stack.is_placed[:-1]
    moved = np.linalg.norm(np.diff(states.pose[..., :3], axis=0), axis=-1)[stays]
    hours = max(step_s * (len(states.pose) - 1), 1e-9) / 3600
    return {
        "volume_use": float(used),
        "picks_per_hour": float(stack.is_placed[-1].sum() / hours),
        "settle_movement_mm": 1e3 * float(moved.mean()) if len(moved) else 0.0,
    }


INDICATORS = IndicatorSet(
    {
        "volume_use": "volume of the placed cartons, as a share of the pallet's area times the height of the stack",
        "picks_per_hour": "cartons on the pallet per hour, with the shake test [1/h]",
        "settle_movement_mm": "movement of placed cartons in a later step, mean [mm]",
    },
    _compute_indicators,
)
