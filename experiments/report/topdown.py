"""Spaces and episodes seen from above. Drawn with matplotlib's object API: no display and no global figure."""

import hashlib
import io
import re
from collections.abc import Iterable
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
from sim.scenes.aisle_traffic.task import CrossingTask
from sim.scenes.push_fixture.layouts import PARTS, TOOL_RADIUS_M
from sim.scenes.tote_push.layouts import LOAD_HALF_M, ROBOT_RADIUS_M
from sim.scenes.tote_push.task import PushTask
from sim.traffic.simulation import PROFILES
from sim.utils.errors import GroundError
from sim.utils.files import write_atomic

FLOOR_COLOUR, WALL_COLOUR, RACK_COLOUR = "#f3f5f7", "#5b6572", "#a9b4c0"
ROBOT_COLOUR, LOAD_COLOUR, OTHER_LOAD_COLOUR, GOAL_COLOUR = "#2563eb", "#d97706", "#b59b7a", "#16a34a"
PERSON_COLOUR, FORKLIFT_COLOUR = "#db2777", "#7c3aed"
MAX_GHOSTS = 7
MAX_PATH_POINTS = 80
MAX_PANEL_COLUMNS = 4
PANEL_WIDTH_IN = 2.6
FILE_METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # equal layouts, equal bytes


def make_layout_figure(layout: Layout, episode: Episode | None = None, title: str = "") -> Figure:
    """A space as it starts or, with an episode, the paths, faint ghosts over time and the last state."""
    figure = Figure(figsize=(5.0, 5.0 * layout.hall.depth / layout.hall.width + 0.3), layout="constrained")
    draw_layout(figure.add_subplot(), layout, episode, title)
    return figure


def save_layout_image(layout: Layout, path: Path) -> None:
    """Write the picture of a space as PNG, SVG or PDF; GroundError for any other suffix."""
    file_format = path.suffix.lower().removeprefix(".")
    if file_format not in FILE_METADATA:
        allowed = ", ".join(f".{name}" for name in sorted(FILE_METADATA))
        raise GroundError(f"{path}: a picture cannot be written as '{path.suffix}', allowed: {allowed}")
    figure = make_layout_figure(layout, title=layout.name or layout.id)
    with rc_context({"svg.hashsalt": layout.id}):
        write_atomic(
            path, lambda target: figure.savefig(target, format=file_format, dpi=150, metadata=FILE_METADATA[file_format])
        )


def render_episode_panels(items: list[tuple[str, Episode]]) -> str:
    """Titled episodes in rows of four as one <svg> to put into a page; the same episodes give the same text."""
    num_columns = max(1, min(MAX_PANEL_COLUMNS, len(items)))
    num_rows = max(1, -(-len(items) // num_columns))
    figure = Figure(figsize=(PANEL_WIDTH_IN * num_columns, (PANEL_WIDTH_IN + 0.25) * num_rows), layout="constrained")
    for index, (title, episode) in enumerate(items):
        draw_layout(figure.add_subplot(num_rows, num_columns, index + 1), episode.layout, episode, title)
    titles = "; ".join(title for title, _ in items)
    salt = hashlib.sha256("".join([titles, *(episode.layout.id for _, episode in items)]).encode()).hexdigest()
    text = io.StringIO()
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.sans-serif": ["system-ui", "DejaVu Sans"]}):
        figure.savefig(text, format="svg", transparent=True, metadata=FILE_METADATA["svg"])
    return _clean_svg(text.getvalue(), titles)


def describe_colours(layouts: Iterable[Layout]) -> str:
    """Which colour means what in pictures of these spaces."""
    kinds = {kind for layout in layouts for kind in layout.dynamic_kinds}
    kind_texts = {Kind.LOAD: "the load to deliver orange", Kind.PERSON: "people pink", Kind.FORKLIFT: "forklifts violet"}
    present_texts = "".join(f"{kind_text}, " for kind, kind_text in kind_texts.items() if kind in kinds)
    return f"The robot is blue, {present_texts}the goal green; outlines are earlier states."


def draw_layout(axes: Axes, layout: Layout, episode: Episode | None = None, title: str = "") -> None:
    """Put one space, and what happened in it, onto matplotlib axes [m]."""
    _draw_static_layout(axes, layout)
    if episode is None:
        start_poses: list[Any] = [layout.robot, *layout.loads, *layout.traffic]
        poses = np.array([(start_pose.x, start_pose.y, start_pose.yaw) for start_pose in start_poses])
        radius = ROBOT_RADIUS_M if layout.table_top is None else TOOL_RADIUS_M
        load_boxes = np.array(PARTS.get(layout.part, [(0.0, 0.0, *LOAD_HALF_M[:2])]))
        profiles = [PROFILES[kind] for kind in layout.dynamic_kinds if kind in PROFILES]
        boxes = [load_boxes] * len(layout.loads) + [np.array([(0.0, 0.0, *profile.half_extents[:2])]) for profile in profiles]
        _draw_bodies(axes, poses, radius, boxes, layout.dynamic_kinds)
    else:
        _draw_episode(axes, episode)
    axes.set_title(title, fontsize=9, parse_math=False)


def _draw_static_layout(axes: Axes, layout: Layout) -> None:
    hall, margin_m = layout.hall, WALL_THICKNESS_M if layout.table_top is None else TABLE_MARGIN_M
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(hall.x - margin_m, hall.x + hall.width + margin_m)
    axes.set_ylim(hall.y - margin_m, hall.y + hall.depth + margin_m)
    centre = np.array([hall.x + hall.width / 2, hall.y + hall.depth / 2])
    floor = _compute_corners(centre, 0.0, np.array([hall.width, hall.depth]) / 2)
    axes.add_patch(Polygon(floor, facecolor=FLOOR_COLOUR))
    for x, y, yaw, half_width, half_depth, _, kind in layout.static_boxes:
        corners = _compute_corners(np.array([x, y]), yaw, np.array([half_width, half_depth]))
        axes.add_patch(Polygon(corners, facecolor=WALL_COLOUR if kind in (Kind.WALL, Kind.CLAMP) else RACK_COLOUR))
    goal = layout.goal
    style: dict[str, Any] = {"facecolor": GOAL_COLOUR + "40", "edgecolor": GOAL_COLOUR, "linewidth": 1.5, "zorder": 2}
    if layout.part in PARTS:
        for corners in _compute_footprint_corners(np.array([goal.x, goal.y, goal.yaw]), np.array(PARTS[layout.part])):
            axes.add_patch(Polygon(corners, **style))
    else:
        axes.add_patch(Circle((goal.x, goal.y), (PushTask if layout.loads else CrossingTask).goal_radius_m, **style))


def _draw_episode(axes: Axes, episode: Episode) -> None:
    pose = np.asarray(episode.pose, np.float64)
    poses = np.concatenate([pose[..., :2], compute_yaw(pose[..., 3:])[..., None]], axis=-1)  # (T+1, M, 3)
    half_extents = np.asarray(episode.half_extents, np.float64)[:, :2]
    kinds = episode.layout.dynamic_kinds
    boxes = [np.array([(0.0, 0.0, *size)]) for size in half_extents[1:]]
    if episode.footprints is not None:
        boxes[: len(episode.layout.loads)] = list(episode.footprints[1:])[: len(episode.layout.loads)]
    for step in _select_spread_indices(len(poses), MAX_GHOSTS)[:-1]:
        _draw_bodies(axes, poses[step], half_extents[0, 0], boxes, kinds, is_ghost=True)
    path_poses = poses[_select_spread_indices(len(poses), MAX_PATH_POINTS)]
    for body, colour in enumerate(_get_body_colours(kinds)):
        axes.plot(path_poses[:, body, 0], path_poses[:, body, 1], color=colour, linewidth=1.0, alpha=0.8, zorder=4)
    _draw_bodies(axes, poses[-1], half_extents[0, 0], boxes, kinds)


def _draw_bodies(
    axes: Axes, poses: np.ndarray, radius: float, footprints: list[np.ndarray], kinds: list[Kind], is_ghost: bool = False
) -> None:
    """Movers at places (M, 3) x, y, yaw; all but the robot are boxes (P, 4) in their frame; a ghost is a faint outline."""
    style: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.45, "zorder": 3} if is_ghost else {"linewidth": 1.0, "zorder": 5}
    robot_pose, (robot_colour, *colours) = poses[0], _get_body_colours(kinds)
    for pose, boxes, colour, kind in zip(poses[1:], footprints, colours, kinds[1:], strict=True):
        patch_style: dict[str, Any] = {"facecolor": "none" if is_ghost else colour + "b0", "edgecolor": colour, **style}
        if kind == Kind.PERSON:
            axes.add_patch(Circle(pose[:2], boxes[0, 2], **patch_style))
            continue
        for corners in _compute_footprint_corners(pose, boxes):
            axes.add_patch(Polygon(corners, **patch_style))
    axes.add_patch(
        Circle(robot_pose[:2], radius, facecolor="none" if is_ghost else robot_colour + "b0", edgecolor=robot_colour, **style)
    )
    heading_point = robot_pose[:2] + radius * np.array([np.cos(robot_pose[2]), np.sin(robot_pose[2])])
    heading_style: dict[str, Any] = {"color": robot_colour, **style} if is_ghost else {"color": "white", **style, "linewidth": 2}
    axes.plot(*zip(robot_pose[:2], heading_point, strict=True), **heading_style)


def _compute_footprint_corners(pose: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Corners (4, 2) of each of the boxes (P, 4) of a body at x, y, yaw."""
    yaw = np.full(len(boxes), pose[2])
    centres = pose[:2] + rotate(boxes[:, :2].astype(float), yaw)
    return [_compute_corners(centre, pose[2], size) for centre, size in zip(centres, boxes[:, 2:], strict=True) if size[0] > 0]


def _compute_corners(centre: np.ndarray, yaw: float, half_size: np.ndarray) -> np.ndarray:
    """(4, 2) corners of an oriented box."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half_size
    return np.asarray(centre + rotate(corners, np.full(4, yaw)))


def _get_body_colours(kinds: list[Kind]) -> list[str]:
    kind_colours = {Kind.ROBOT: ROBOT_COLOUR, Kind.PERSON: PERSON_COLOUR, Kind.FORKLIFT: FORKLIFT_COLOUR}
    return [
        LOAD_COLOUR if body == 1 and kind == Kind.LOAD else kind_colours.get(kind, OTHER_LOAD_COLOUR)
        for body, kind in enumerate(kinds)
    ]


def _select_spread_indices(length: int, max_indices: int) -> np.ndarray:
    """At most `number` indices over a row of `length`, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, max_indices).round().astype(int))


def _clean_svg(svg: str, label: str) -> str:
    """Only the <svg> element, short; its style and its counted ids, which would reach the rest of a page, taken out."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z0-9]+_\d+"', "", svg)
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg)
    opening_tag = f'<svg role="img" aria-label="{escape(label)}" style="stroke-linejoin:round"'
    return re.sub(r"\s*\n\s*", "\n", svg.replace("<svg", opening_tag, 1)).strip()
