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
from sim.data.store import Episode
from sim.geometry.rotations import compute_yaw, rotate
from sim.layout import TABLE_MARGIN_M, WALL_THICKNESS_M, Layout
from sim.scenes.aisle_traffic.task import CrossingTask
from sim.scenes.push_fixture.layouts import PARTS, TOOL_RADIUS_M
from sim.scenes.tote_push.layouts import LOAD_HALF_M, ROBOT_RADIUS_M
from sim.scenes.tote_push.task import PushTask
from sim.traffic.simulation import PROFILES
from sim.utils.errors import GroundError
from sim.utils.files import write_atomic

FLOOR, WALL, RACK = "#f3f5f7", "#5b6572", "#a9b4c0"
ROBOT, LOAD, OTHER_LOAD, GOAL = "#2563eb", "#d97706", "#b59b7a", "#16a34a"
PERSON, FORKLIFT = "#db2777", "#7c3aed"
GHOSTS = 7
PATH_POINTS = 80
COLUMNS = 4
PANEL_IN = 2.6
METADATA = {"png": {"Software": None}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}  # equal layouts, equal bytes


def picture(layout: Layout, episode: Episode | None = None, title: str = "") -> Figure:
    """A space as it starts or, with an episode, the paths, faint ghosts over time and the last state."""
    figure = Figure(figsize=(5.0, 5.0 * layout.hall.depth / layout.hall.width + 0.3), layout="constrained")
    draw(figure.add_subplot(), layout, episode, title)
    return figure


def save_layout(layout: Layout, path: Path) -> None:
    """Write the picture of a space as PNG, SVG or PDF; GroundError for any other suffix."""
    kind = path.suffix.lower().removeprefix(".")
    if kind not in METADATA:
        allowed = ", ".join(f".{name}" for name in sorted(METADATA))
        raise GroundError(f"{path}: a picture cannot be written as '{path.suffix}', allowed: {allowed}")
    figure = picture(layout, title=layout.name or layout.id)
    with rc_context({"svg.hashsalt": layout.id}):
        write_atomic(path, lambda to: figure.savefig(to, format=kind, dpi=150, metadata=METADATA[kind]))


def strip(items: list[tuple[str, Episode]]) -> str:
    """Titled episodes in rows of four as one <svg> to put into a page; the same episodes give the same text."""
    columns = max(1, min(COLUMNS, len(items)))
    rows = max(1, -(-len(items) // columns))
    figure = Figure(figsize=(PANEL_IN * columns, (PANEL_IN + 0.25) * rows), layout="constrained")
    for number, (title, episode) in enumerate(items):
        draw(figure.add_subplot(rows, columns, number + 1), episode.layout, episode, title)
    names = "; ".join(title for title, _ in items)
    salt = hashlib.sha256("".join([names, *(episode.layout.id for _, episode in items)]).encode()).hexdigest()
    text = io.StringIO()
    with rc_context({"svg.hashsalt": salt, "svg.fonttype": "none", "font.sans-serif": ["system-ui", "DejaVu Sans"]}):
        figure.savefig(text, format="svg", transparent=True, metadata=METADATA["svg"])
    return _inline(text.getvalue(), names)


def colours_say(layouts: Iterable[Layout]) -> str:
    """Which colour means what in pictures of these spaces."""
    there = {kind for layout in layouts for kind in layout.dynamic_kinds}
    names = {Kind.LOAD: "the load to deliver orange", Kind.PERSON: "people pink", Kind.FORKLIFT: "forklifts violet"}
    others = "".join(f"{name}, " for kind, name in names.items() if kind in there)
    return f"The robot is blue, {others}the goal green; outlines are earlier states."


def draw(axes: Axes, layout: Layout, episode: Episode | None = None, title: str = "") -> None:
    """Put one space, and what happened in it, onto matplotlib axes [m]."""
    _space(axes, layout)
    if episode is None:
        starts: list[Any] = [layout.robot, *layout.loads, *layout.traffic]
        places = np.array([(start.x, start.y, start.yaw) for start in starts])
        radius = ROBOT_RADIUS_M if layout.table_top is None else TOOL_RADIUS_M
        load = np.array(PARTS.get(layout.part, [(0.0, 0.0, *LOAD_HALF_M[:2])]))
        traffic = [PROFILES[kind] for kind in layout.dynamic_kinds if kind in PROFILES]
        boxes = [load] * len(layout.loads) + [np.array([(0.0, 0.0, *manner.half_extents[:2])]) for manner in traffic]
        _movers(axes, places, radius, boxes, layout.dynamic_kinds)
    else:
        _history(axes, episode)
    axes.set_title(title, fontsize=9, parse_math=False)


def _space(axes: Axes, layout: Layout) -> None:
    hall, edge = layout.hall, WALL_THICKNESS_M if layout.table_top is None else TABLE_MARGIN_M
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.set_xlim(hall.x - edge, hall.x + hall.width + edge)
    axes.set_ylim(hall.y - edge, hall.y + hall.depth + edge)
    centre = np.array([hall.x + hall.width / 2, hall.y + hall.depth / 2])
    floor = _corners(centre, 0.0, np.array([hall.width, hall.depth]) / 2)
    axes.add_patch(Polygon(floor, facecolor=FLOOR))
    for x, y, yaw, half_width, half_depth, _, kind in layout.static_boxes:
        corners = _corners(np.array([x, y]), yaw, np.array([half_width, half_depth]))
        axes.add_patch(Polygon(corners, facecolor=WALL if kind in (Kind.WALL, Kind.CLAMP) else RACK))
    goal = layout.goal
    look: dict[str, Any] = {"facecolor": GOAL + "40", "edgecolor": GOAL, "linewidth": 1.5, "zorder": 2}
    if layout.part in PARTS:
        for corners in _boxes(np.array([goal.x, goal.y, goal.yaw]), np.array(PARTS[layout.part])):
            axes.add_patch(Polygon(corners, **look))
    else:
        axes.add_patch(Circle((goal.x, goal.y), (PushTask if layout.loads else CrossingTask).goal_radius_m, **look))


def _history(axes: Axes, episode: Episode) -> None:
    pose = np.asarray(episode.pose, np.float64)
    places = np.concatenate([pose[..., :2], compute_yaw(pose[..., 3:])[..., None]], axis=-1)  # (T+1, M, 3)
    half = np.asarray(episode.half_extents, np.float64)[:, :2]
    kinds = episode.layout.dynamic_kinds
    boxes = [np.array([(0.0, 0.0, *size)]) for size in half[1:]]
    if episode.footprints is not None:
        boxes[: len(episode.layout.loads)] = list(episode.footprints[1:])[: len(episode.layout.loads)]
    for step in _spread(len(places), GHOSTS)[:-1]:
        _movers(axes, places[step], half[0, 0], boxes, kinds, ghost=True)
    some = places[_spread(len(places), PATH_POINTS)]
    for body, colour in enumerate(_colours(kinds)):
        axes.plot(some[:, body, 0], some[:, body, 1], color=colour, linewidth=1.0, alpha=0.8, zorder=4)
    _movers(axes, places[-1], half[0, 0], boxes, kinds)


def _movers(
    axes: Axes, places: np.ndarray, radius: float, others: list[np.ndarray], kinds: list[Kind], ghost: bool = False
) -> None:
    """Movers at places (M, 3) x, y, yaw; all but the robot are boxes (P, 4) in their frame; a ghost is a faint outline."""
    look: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.45, "zorder": 3} if ghost else {"linewidth": 1.0, "zorder": 5}
    place, (colour, *colours) = places[0], _colours(kinds)
    for other, boxes, paint, kind in zip(places[1:], others, colours, kinds[1:], strict=True):
        faces: dict[str, Any] = {"facecolor": "none" if ghost else paint + "b0", "edgecolor": paint, **look}
        if kind == Kind.PERSON:
            axes.add_patch(Circle(other[:2], boxes[0, 2], **faces))
            continue
        for corners in _boxes(other, boxes):
            axes.add_patch(Polygon(corners, **faces))
    axes.add_patch(Circle(place[:2], radius, facecolor="none" if ghost else colour + "b0", edgecolor=colour, **look))
    nose = place[:2] + radius * np.array([np.cos(place[2]), np.sin(place[2])])
    needle: dict[str, Any] = {"color": colour, **look} if ghost else {"color": "white", **look, "linewidth": 2}
    axes.plot(*zip(place[:2], nose, strict=True), **needle)


def _boxes(place: np.ndarray, boxes: np.ndarray) -> list[np.ndarray]:
    """Corners (4, 2) of each of the boxes (P, 4) of a body at x, y, yaw."""
    yaw = np.full(len(boxes), place[2])
    centres = place[:2] + rotate(boxes[:, :2].astype(float), yaw)
    return [_corners(centre, place[2], size) for centre, size in zip(centres, boxes[:, 2:], strict=True) if size[0] > 0]


def _corners(centre: np.ndarray, yaw: float, half: np.ndarray) -> np.ndarray:
    """(4, 2) corners of an oriented box."""
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * half
    return np.asarray(centre + rotate(corners, np.full(4, yaw)))


def _colours(kinds: list[Kind]) -> list[str]:
    usual = {Kind.ROBOT: ROBOT, Kind.PERSON: PERSON, Kind.FORKLIFT: FORKLIFT}
    return [LOAD if body == 1 and kind == Kind.LOAD else usual.get(kind, OTHER_LOAD) for body, kind in enumerate(kinds)]


def _spread(length: int, number: int) -> np.ndarray:
    """At most `number` indices over a row of `length`, the first and the last among them."""
    return np.unique(np.linspace(0, length - 1, number).round().astype(int))


def _inline(svg: str, label: str) -> str:
    """Only the <svg> element, short; its style and its counted ids, which would reach the rest of a page, taken out."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z0-9]+_\d+"', "", svg)
    svg = re.sub(r"(\.\d\d)\d+", r"\1", svg)
    start = f'<svg role="img" aria-label="{escape(label)}" style="stroke-linejoin:round"'
    return re.sub(r"\s*\n\s*", "\n", svg.replace("<svg", start, 1)).strip()
