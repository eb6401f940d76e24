"""Layouts and episodes from above, with matplotlib's object API: no display, no global figure."""

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from sim.bodies import Kind
from sim.data.episode import Episode
from sim.geometry.rotations import compute_yaw, rotate
from sim.layout import TABLE_MARGIN_M, WALL_THICKNESS_M, Layout
from sim.scenes.scene import Scene, scenes
from sim.utils.errors import GroundError
from sim.utils.files import write_atomic
from sim.visuals import COLOUR_NAMES, GOAL_COLOUR, KIND_COLOURS, format_hex, get_body_colours

FLOOR_COLOUR = "#f3f5f7"
MAX_GHOSTS = 7
MAX_PATH_POINTS = 80
MAX_PANEL_COLUMNS = 4
PANEL_WIDTH_IN = 2.6
FILE_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # equal layouts, equal bytes


def make_layout_figure(scene: Scene, layout: Layout, episode: Episode | None = None, title: str = "") -> Figure:
    """Draw a layout at its start, or an episode: paths, faint ghosts and the last state."""
    figure = Figure(figsize=(5.0, 5.0 * layout.hall.depth / layout.hall.width + 0.3), layout="constrained")
    draw_layout(figure.add_subplot(), scene, layout, episode, title)
    return figure


def save_layout_image(layout: Layout, path: Path) -> None:
    """Write the image of a layout as PNG, SVG or PDF.

    Raises:
        GroundError: the suffix names another format.
    """
    file_format = path.suffix.lower().removeprefix(".")
    if file_format not in FILE_METADATA:
        allowed = ", ".join(f".{name}" for name in sorted(FILE_METADATA))
        raise GroundError(f"{path}: an image cannot be written as '{path.suffix}', allowed: {allowed}")
    figure = make_layout_figure(scenes.find_by_layout(layout), layout, title=layout.name or layout.id)
    with rc_context({"svg.hashsalt": layout.id}):
        write_atomic(path, partial(figure.savefig, format=file_format, dpi=150, metadata=FILE_METADATA[file_format]))


def render_episode_panels(scene: Scene, items: Sequence[tuple[str, Episode]]) -> str:
    """Draw titled episodes in rows of four as one <svg> element; equal episodes give equal text."""
    num_columns = max(1, min(MAX_PANEL_COLUMNS, len(items)))
    num_rows = max(1, -(-len(items) // num_columns))
    figure = Figure(figsize=(PANEL_WIDTH_IN * num_columns, (PANEL_WIDTH_IN + 0.25) * num_rows), layout="constrained")
    for index, (title, episode) in enumerate(items):
        draw_layout(figure.add_subplot(num_rows, num_columns, index + 1), scene, episode.layout, episode, title)
    titles = "; ".join(title for title, _ in items)
    salt = hashlib.sha256("".join([titles, *(episode.layout.id for _, episode in items)]).encode()).hexdigest()
    text = io.StringIO()
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.sans-serif": ["system-ui", "DejaVu Sans"]}):
        figure.savefig(text, format="svg", transparent=True, metadata=FILE_METADATA["svg"])
    return _clean_svg(text.getvalue(), titles)


def describe_colours(scene: Scene, layouts: Iterable[Layout]) -> str:
    """Make the legend of the colours in images of layouts."""
    names = ", ".join(f"{name} {COLOUR_NAMES[colour]}" for name, colour in scene.visuals.make_legend(layouts).items())
    return f"Colours: {names}; outlines are earlier states."


def draw_layout(axes: Axes, scene: Scene, layout: Layout, episode: Episode | None = None, title: str = "") -> None:
    """Draw a layout, and what happened in it, onto matplotlib axes [m]."""
    _draw_static_layout(axes, scene, layout)
    if episode is None:
        starts: list[Any] = [layout.robot, *layout.loads, *layout.traffic]
        poses = np.array([(start.x, start.y, start.yaw) for start in starts])
        _draw_bodies(axes, poses, scene.get_footprints(layout), layout.dynamic_kinds)
    else:
        _draw_episode(axes, episode)
    axes.set_title(title, fontsize=9, parse_math=False)


def _draw_static_layout(axes: Axes, scene: Scene, layout: Layout) -> None:
    hall = layout.hall
    margin_m = WALL_THICKNESS_M if layout.table_top is None else TABLE_MARGIN_M
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(hall.x - margin_m, hall.x + hall.width + margin_m)
    axes.set_ylim(hall.y - margin_m, hall.y + hall.depth + margin_m)
    half_size = np.array([hall.width, hall.depth]) / 2
    axes.add_patch(Polygon(_compute_corners(np.array([hall.x, hall.y]) + half_size, 0.0, half_size), facecolor=FLOOR_COLOUR))
    static = layout.static_bodies
    for pose, half_extents, kind in zip(static.pose, static.half_extents, static.kind, strict=True):
        corners = _compute_corners(pose[:2], float(compute_yaw(pose[3:])), half_extents[:2])
        axes.add_patch(Polygon(corners, facecolor=format_hex(KIND_COLOURS[Kind(int(kind))])))
    goal = layout.goal
    colour = format_hex(GOAL_COLOUR)
    style: dict[str, Any] = {"facecolor": colour + "40", "edgecolor": colour, "linewidth": 1.5, "zorder": 2}
    if scene.visuals.get_goal_boxes is None:
        axes.add_patch(Circle((goal.x, goal.y), scene.visuals.goal_radius_m, **style))
    else:
        goal_boxes = scene.visuals.get_goal_boxes(layout)
        for corners in _compute_footprint_corners(np.array([goal.x, goal.y, goal.yaw]), goal_boxes):
            axes.add_patch(Polygon(corners, **style))


def _draw_episode(axes: Axes, episode: Episode) -> None:
    pose = np.asarray(episode.pose, np.float64)
    poses = np.concatenate([pose[..., :2], compute_yaw(pose[..., 3:])[..., None]], axis=-1)  # (T + 1, M, 3)
    kinds = episode.layout.dynamic_kinds
    footprints = [np.array([(0.0, 0.0, *size)]) for size in np.asarray(episode.half_extents, np.float64)[:, :2]]
    if episode.footprints is not None:
        num_loads = len(episode.layout.loads)
        footprints[1 : 1 + num_loads] = list(episode.footprints[1:])[:num_loads]
    for step in _select_spread_indices(len(poses), MAX_GHOSTS)[:-1]:
        _draw_bodies(axes, poses[step], footprints, kinds, is_ghost=True)
    path = poses[_select_spread_indices(len(poses), MAX_PATH_POINTS)]
    for body, colour in enumerate(map(format_hex, get_body_colours(kinds))):
        axes.plot(path[:, body, 0], path[:, body, 1], color=colour, linewidth=1.0, alpha=0.8, zorder=4)
    _draw_bodies(axes, poses[-1], footprints, kinds)


def _draw_bodies(
    axes: Axes, poses: np.ndarray, footprints: Sequence[np.ndarray], kinds: Sequence[Kind], is_ghost: bool = False
) -> None:
    """Draw dynamic bodies at poses (M, 3) x, y, yaw.

    Footprints are boxes (P, 4); a ghost is a faint outline.
    """
    style: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.45, "zorder": 3} if is_ghost else {"linewidth": 1.0, "zorder": 5}
    colours = [format_hex(colour) for colour in get_body_colours(kinds)]
    for body in (*range(1, len(kinds)), 0):  # the robot on top
        colour = colours[body]
        patch_style = {"facecolor": "none" if is_ghost else colour + "b0", "edgecolor": colour, **style}
        if kinds[body] in (Kind.PERSON, Kind.ROBOT):
            axes.add_patch(Circle(tuple(poses[body, :2]), footprints[body][0, 2], **patch_style))
        else:
            for corners in _compute_footprint_corners(poses[body], footprints[body]):
                axes.add_patch(Polygon(corners, **patch_style))
    heading = poses[0, :2] + footprints[0][0, 2] * np.array([np.cos(poses[0, 2]), np.sin(poses[0, 2])])
    heading_style: dict[str, Any] = {"color": colours[0], **style} if is_ghost else {"color": "white", **style, "linewidth": 2}
    axes.plot(*zip(poses[0, :2], heading, strict=True), **heading_style)


def _compute_footprint_corners(pose: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Compute the corners (4, 2) of each of the boxes (P, 4) of a body at x, y, yaw."""
    centres = pose[:2] + rotate(boxes[:, :2].astype(float), np.full(len(boxes), pose[2]))
    return [_compute_corners(centre, pose[2], size) for centre, size in zip(centres, boxes[:, 2:], strict=True) if size[0] > 0]


def _compute_corners(centre: np.ndarray, yaw: float, half_size: np.ndarray) -> np.ndarray:
    """Compute the corners (4, 2) of an oriented box."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half_size
    return np.asarray(centre + rotate(corners, np.full(4, yaw)))


def _select_spread_indices(length: int, max_indices: int) -> np.ndarray:
    """Select at most so many indices over a length, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, max_indices).round().astype(int))


def _clean_svg(svg: str, label: str) -> str:
    """Keep the <svg> element without its style and counted ids, which would affect a page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z0-9]+_\d+"', "", svg)
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg)
    opening_tag = f'<svg role="img" aria-label="{escape(label)}" style="stroke-linejoin:round"'
    return re.sub(r"\s*\n\s*", "\n", svg.replace("<svg", opening_tag, 1)).strip()
