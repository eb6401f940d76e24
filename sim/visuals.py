"""SceneVisuals: the appearance of a scene as plain data, for the 3-D viewer, figures and legends.

A body is a tuple of coloured primitives in its own frame. This module draws nothing and needs no
mesh library.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from sim.bodies import LOAD, Kind
from sim.layout import Layout

Colour = tuple[int, int, int]  # sRGB, 0 to 255
Area = tuple[float, float, float, float]  # x, y of the lower left corner, width, depth [m]

BLUE: Colour = (37, 99, 235)
ORANGE: Colour = (217, 119, 6)
SAND: Colour = (181, 155, 122)
PINK: Colour = (219, 39, 119)
VIOLET: Colour = (124, 58, 237)
GREEN: Colour = (22, 163, 74)
GREY: Colour = (169, 180, 192)
DARK_GREY: Colour = (91, 101, 114)
COLOUR_NAMES = {BLUE: "blue", ORANGE: "orange", SAND: "sand", PINK: "pink", VIOLET: "violet", GREEN: "green",
                GREY: "grey", DARK_GREY: "dark grey"}  # fmt: skip

GOAL_COLOUR = GREEN
OTHER_LOAD_COLOUR = SAND  # loads that need not be delivered
KIND_COLOURS: Mapping[Kind, Colour] = {  # in figures, overlays and legends
    Kind.ROBOT: BLUE,
    Kind.LOAD: ORANGE,  # the load to deliver
    Kind.PERSON: PINK,
    Kind.FORKLIFT: VIOLET,
    Kind.WALL: DARK_GREY,
    Kind.CLAMP: DARK_GREY,
    Kind.RACK: GREY,
    Kind.PALLET: SAND,
    Kind.BELT: DARK_GREY,
    Kind.BIN: GREY,
    Kind.STATION: GREY,
}


@dataclass(frozen=True)
class Primitive:
    """A coloured shape in the frame of its body, z up.

    Attributes:
        shape: a "wheel" is a cylinder along y.
        size: width, depth, height of a box; radius, height of a cylinder or wheel; radius of a
            sphere [m].
        colour: of its whole surface.
        position: of its centre [m].
        yaw: of a box, about z [rad].
    """

    shape: Literal["box", "cylinder", "wheel", "sphere"]
    size: tuple[float, ...]
    colour: Colour
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    yaw: float = 0.0


Primitives = tuple[Primitive, ...]


@dataclass(frozen=True)
class ViewSettings:
    """The default camera, and distances around a layout. The default values suit a hall.

    Attributes:
        camera_offset: vector from the centre to the camera, as a multiple of the view's size.
        centre_height_m: height of the point that the camera looks at.
        gap_m: gap between two layouts side by side.
        label_height_m: height of a label above the floor.
    """

    camera_offset: tuple[float, float, float] = (0.0, -0.75, 1.25)
    centre_height_m: float = 0.0
    gap_m: float = 1.5
    label_height_m: float = 1.2


@dataclass(frozen=True)
class SceneVisuals:
    """The data that is needed to draw a scene.

    Attributes:
        make_body: (layout, index of a dynamic body, half extents [m]) -> primitives; equal bodies
            give equal primitives.
        make_static_body: (kind, half extents [m], number of the box) -> primitives.
        draw_floor: layout -> image (R, C, 3) uint8 of `get_floor_area`, with the goal; the first
            row is at the largest y.
        goal_radius_m: radius of a circular goal.
        get_goal_boxes: layout -> (P, 4) x, y, half width, half depth in the goal's frame [m], where
            the goal is a pose.
        make_surface: layout -> primitives in the world frame, such as a table.
        view: camera and distances.
        drive: for each key direction (forward, left, up): the component of the action that it
            commands, and its sign.
        body_names: names of the kinds of dynamic bodies in the scene.
    """

    make_body: Callable[[Layout, int, np.ndarray], Primitives]
    make_static_body: Callable[[Kind, np.ndarray, int], Primitives]
    draw_floor: Callable[[Layout], np.ndarray]
    goal_radius_m: float = 0.0
    get_goal_boxes: Callable[[Layout], np.ndarray] | None = None
    make_surface: Callable[[Layout], Primitives] = lambda layout: ()
    view: ViewSettings = ViewSettings()
    drive: Mapping[str, tuple[str, float]] = field(
        default_factory=lambda: {"forward": ("forward", 1.0), "left": ("turn", 1.0), "up": ("up", 1.0)}, hash=False
    )
    body_names: Mapping[Kind, str] = field(default_factory=dict, hash=False)

    def get_name(self, kind: Kind) -> str:
        """Get the name of a kind of body in this scene."""
        return self.body_names.get(kind, kind.name.lower())

    def make_legend(self, layouts: Iterable[Layout]) -> dict[str, Colour]:
        """Make the legend of layouts: the colours of their dynamic bodies and goals, by name."""
        layouts = list(layouts)
        kinds = dict.fromkeys(kind for layout in layouts for kind in layout.dynamic_kinds)
        legend = {self.get_name(kind): KIND_COLOURS[kind] for kind in kinds}
        if any(len(layout.loads) > 1 for layout in layouts):
            legend[f"other {self.get_name(Kind.LOAD)}"] = OTHER_LOAD_COLOUR
        return {**legend, "goal": GOAL_COLOUR}


def get_body_colours(kinds: Iterable[Kind]) -> list[Colour]:
    """Get the colours of dynamic bodies in figures; only the first load has the colour of loads."""
    return [OTHER_LOAD_COLOUR if kind == Kind.LOAD and body != LOAD else KIND_COLOURS[kind] for body, kind in enumerate(kinds)]


def format_hex(colour: Colour) -> str:
    """Format a colour as #rrggbb."""
    return "#{:02x}{:02x}{:02x}".format(*colour)


def get_floor_area(layout: Layout) -> Area:
    """Get the area that a floor image covers: the top of a table, or else the hall."""
    hall = layout.hall
    return layout.table_top or (hall.x, hall.y, hall.width, hall.depth)


def make_pixel_grid(area: Area, pixels_per_m: float) -> tuple[np.ndarray, np.ndarray]:
    """Make the coordinates of the pixel centres of an image; its first row is at the largest y.

    Args:
        area: area that the image covers.
        pixels_per_m: resolution.

    Returns:
        x (R, C) and y (R, C) [m].
    """
    left, bottom, width, depth = area
    x = left + (np.arange(round(width * pixels_per_m)) + 0.5) / pixels_per_m
    y = bottom + depth - (np.arange(round(depth * pixels_per_m)) + 0.5) / pixels_per_m
    grid_x, grid_y = np.meshgrid(x, y)
    return grid_x, grid_y
