"""The look of factory/conveyor-sort: belt, bins in the colours of their kinds, parts and tool."""

import numpy as np

from sim.bodies import ROBOT, Bodies, Kind
from sim.layout import Layout
from sim.scenes.conveyor_sort.layouts import BELT_TOP_M, WALL_M, get_details
from sim.scenes.conveyor_sort.task import ConveyorSortTask, SortingField
from sim.scenes.hall_visuals import DARK_STEEL, RUBBER, SAFETY_YELLOW, STEEL
from sim.scenes.scene import IndicatorSet
from sim.visuals import GOAL_COLOUR, Colour, Primitive, Primitives, SceneVisuals, ViewSettings, get_floor_area, make_pixel_grid

KIND_FACES: tuple[Colour, ...] = ((37, 99, 235), (230, 115, 12), (22, 163, 74), (124, 58, 237))  # of parts and bins
BELT_RUBBER: Colour = (38, 40, 44)
FLOOR: Colour = (205, 210, 214)
FLOOR_LINE: Colour = (190, 196, 201)
PEDESTAL: Colour = (120, 128, 138)
GOAL_RADIUS_M = 0.03
PIXELS_PER_M = 250


def _make_part(layout: Layout, index: int, half: np.ndarray) -> Primitives:
    """Make a part in the colour of its kind, with a bright mark that shows how it turns."""
    part = get_details(layout).parts[index]
    colour = KIND_FACES[part.kind % len(KIND_FACES)]
    x, y, z = np.asarray(half, float).tolist()
    bright: Colour = (*(min(255, channel + 70) for channel in colour),)  # type: ignore[assignment]
    if part.shape == "box":
        return Primitive("box", (2 * x, 2 * y, 2 * z), colour), Primitive("box", (x, 0.4 * y, 2 * z + 0.002), bright)
    return Primitive("cylinder", (x, 2 * z), colour), Primitive("box", (1.2 * x, 0.3 * x, 2 * z + 0.002), bright)


def _make_paddle(half: np.ndarray) -> Primitives:
    """Make a rubber paddle with a steel spine, and the flange that holds it."""
    x, y, z = (2 * np.asarray(half, float)).tolist()
    return (
        Primitive("box", (x, y, 0.75 * z), SAFETY_YELLOW, (0, 0, -0.1 * z)),
        Primitive("box", (1.15 * x, 1.02 * y, 0.15 * z), RUBBER, (0, 0, -0.4 * z)),
        Primitive("box", (0.7 * x, 0.4 * y, 0.4 * z), STEEL, (0, 0, 0.3 * z)),
        Primitive("cylinder", (0.022, 0.2 * z), RUBBER, (0, 0, 0.6 * z)),
    )


def _make_static_body(kind: Kind, half_extents: np.ndarray, number: int) -> Primitives:
    """Make a belt on a frame, a wall of a bin, a rail or a stop."""
    x, y, z = (2 * np.asarray(half_extents, float)).tolist()
    if kind == Kind.BELT:
        frame = Primitive("box", (x, y, 0.7 * z), STEEL, (0, 0, -0.15 * z))
        return Primitive("box", (x, y, 0.3 * z), BELT_RUBBER, (0, 0, 0.35 * z)), frame
    colour = DARK_STEEL if kind == Kind.STATION else STEEL
    return (Primitive("box", (x, y, z), colour),)


def _make_surface(layout: Layout) -> Primitives:
    """Make the coloured faces of the bins, and the pedestal of the arm at the origin."""
    details = get_details(layout)
    primitives = [Primitive("cylinder", (0.09, 0.02), PEDESTAL, (0, 0, 0.01))]
    yaw = details.belt.yaw
    for number, bin_ in enumerate(details.bins):
        x, y = details.locate_bin(number)
        colour = KIND_FACES[bin_.kind % len(KIND_FACES)]
        primitives.append(Primitive("box", (bin_.width_m, bin_.depth_m, 0.002), colour, (x, y, WALL_M + 0.001), yaw))
        back = details.locate(
            bin_.along_m, (1 if bin_.side == "left" else -1) * (details.belt.width_m / 2 + bin_.depth_m + WALL_M / 2)
        )
        size = (bin_.width_m + 4 * WALL_M, 3 * WALL_M, 0.02)
        primitives.append(Primitive("box", size, colour, (*back, BELT_TOP_M + 0.03), yaw))
    return tuple(primitives)


def _draw_floor(layout: Layout) -> np.ndarray:
    """Draw a floor with joints, and a disc in the middle of the first part's bin."""
    x, y = make_pixel_grid(get_floor_area(layout), PIXELS_PER_M)
    image = np.empty((*x.shape, 3), np.uint8)
    image[:] = FLOOR
    image[(np.mod(x, 0.5) < 0.006) | (np.mod(y, 0.5) < 0.006)] = FLOOR_LINE
    image[np.hypot(x - layout.goal.x, y - layout.goal.y) < GOAL_RADIUS_M] = GOAL_COLOUR
    return image


def _compute_indicators(states: Bodies, field: SortingField, speed_limit_m_s: float, control_dt_s: float) -> dict[str, float]:
    """Compute throughput, purity and the number of missed parts from the last state."""
    progress = ConveyorSortTask(unit_m=1.0).compute_progress(states.map(lambda values: values[-1]), field)
    in_bin = progress.is_binned
    minutes = max(len(states.pose) - 1, 1) * control_dt_s / 60
    total, right = int(in_bin.sum()), int(progress.is_sorted.sum())
    return {
        "throughput": right / minutes,
        "purity": right / total if total else 1.0,
        "missed": float(field.has_goal.sum() - total - (progress.is_misplaced & ~in_bin).sum()),
    }


INDICATORS = IndicatorSet(
    {
        "throughput": "parts in their bins [1/min]",
        "purity": "share of the parts in bins that are in the right bin",
        "missed": "parts that are in no bin at the end, and not beside the belt",
    },
    _compute_indicators,
)
VISUALS = SceneVisuals(
    make_body=lambda layout, body, half: _make_paddle(half) if body == ROBOT else _make_part(layout, body - 1, half),
    make_static_body=_make_static_body,
    draw_floor=_draw_floor,
    goal_radius_m=GOAL_RADIUS_M,
    make_surface=_make_surface,
    view=ViewSettings(camera_offset=(0.7, -0.3, 0.6), centre_height_m=0.1, gap_m=0.7, label_height_m=0.3),
    drive={"forward": ("left", 1.0), "left": ("forward", -1.0), "up": ("up", 1.0)},
    body_names={Kind.ROBOT: "tool", Kind.LOAD: "part"},
)
