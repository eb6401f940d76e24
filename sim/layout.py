"""Layout: one space. Walls and racks as boxes, where robot and totes start, where the goal is; JSON in and out.

The file format (all lengths in metres, angles in radians, every field but `name` and `boxes` required)::

    {"format": "training-ground/layout", "version": 1, "name": "north hall",
     "hall":  {"x": 0, "y": 0, "width": 6, "depth": 6},          # lower left corner and size of the free rectangle
     "boxes": [{"x": 2, "y": 3, "yaw": 0, "width": 1.2, "depth": 0.6, "height": 1.6, "kind": "rack"}],
     "robot": {"x": 1, "y": 1, "yaw": 0},
     "loads": [{"x": 2, "y": 1.5, "yaw": 0}],                    # the first is the one to deliver
     "goal":  {"x": 4, "y": 4.5},                                # and its yaw, where the task asks for one
     "traffic": [{"x": 1, "y": 5, "yaw": 0, "kind": "person", "speed_m_s": 1.2, "stops": [{"x": 5, "y": 5}]}]}

`kind` is "rack", "wall" or "clamp". Four outer walls are added around the hall by the simulator. With "surface": "table" there
are none, and what leaves the table falls. "part" names the loads' shape in scenes with parts of several shapes. "traffic" goes
from stop to stop, round and round: its "kind" is "person" or "forklift".
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cattrs
import numpy as np

from sim.bodies import Kind
from sim.geometry.boxes import find_closest_points
from sim.utils.errors import BadLayout
from sim.utils.files import write_json

FORMAT = "training-ground/layout"
VERSION = 1
BOX_KIND_BY_NAME = {"rack": Kind.RACK, "wall": Kind.WALL, "clamp": Kind.CLAMP}
SURFACES = ("hall", "table")
AGENT_KIND_BY_NAME = {"person": Kind.PERSON, "forklift": Kind.FORKLIFT}
MAX_AGENT_SPEED_M_S = 3.0
TABLE_MARGIN_M = 0.08
WALL_THICKNESS_M = 0.2
WALL_HEIGHT_M = 1.0
MAX_HALL_M2 = 400  # the field of a larger one takes gigabytes


@dataclass(frozen=True)
class Hall:
    x: float
    y: float
    width: float
    depth: float


@dataclass(frozen=True)
class Box:
    x: float
    y: float
    width: float
    depth: float
    yaw: float = 0.0
    height: float = 1.6
    kind: str = "rack"


@dataclass(frozen=True)
class Pose:
    x: float
    y: float
    yaw: float = 0.0


@dataclass(frozen=True)
class AgentRoute:
    """A person or a forklift on its way from stop to stop."""

    x: float
    y: float
    yaw: float
    kind: str
    speed_m_s: float
    stops: tuple[Pose, ...]


@dataclass(frozen=True)
class Layout:
    """One space and one task in it."""

    hall: Hall
    robot: Pose
    loads: tuple[Pose, ...]
    goal: Pose
    boxes: tuple[Box, ...] = ()
    name: str = ""
    surface: str = "hall"
    part: str = ""
    traffic: tuple[AgentRoute, ...] = ()
    more_goals: tuple[Pose, ...] = ()  # of further bodies, in scenes with several goals

    @cached_property
    def id(self) -> str:
        """Hash of the content (the name left out): equal spaces have equal ids wherever they came from."""
        content = asdict(self)
        content.pop("name")
        if not self.goal.yaw:  # where it does not matter
            content["goal"].pop("yaw")
        for field, usual in (("surface", "hall"), ("part", ""), ("traffic", ()), ("more_goals", ())):
            if content[field] == usual:
                content.pop(field)
        text = json.dumps(_round_values(content), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def static_boxes(self) -> np.ndarray:
        """(S, 7) rows x, y, yaw, half width, half depth, half height, Kind; the four outer walls of a hall first."""
        hall, t = self.hall, WALL_THICKNESS_M
        cx, cy = hall.x + hall.width / 2, hall.y + hall.depth / 2
        long, deep, high = hall.width / 2 + t, hall.depth / 2 + t, WALL_HEIGHT_M / 2
        rows: list[tuple[float, ...]] = [
            (cx, hall.y - t / 2, 0, long, t / 2, high, Kind.WALL),
            (cx, hall.y + hall.depth + t / 2, 0, long, t / 2, high, Kind.WALL),
            (hall.x - t / 2, cy, 0, t / 2, deep, high, Kind.WALL),
            (hall.x + hall.width + t / 2, cy, 0, t / 2, deep, high, Kind.WALL),
        ]
        if self.surface == "table":
            rows = []
        for box in self.boxes:
            rows.append((box.x, box.y, box.yaw, box.width / 2, box.depth / 2, box.height / 2, BOX_KIND_BY_NAME[box.kind]))
        return np.array(rows, dtype=np.float64).reshape(-1, 7)

    @property
    def goals(self) -> tuple[Pose, ...]:
        """All goals, the first one first."""
        return (self.goal, *self.more_goals)

    @property
    def dynamic_kinds(self) -> list[Kind]:
        """Of everything that can move: the robot, the loads, the traffic."""
        return [Kind.ROBOT, *[Kind.LOAD] * len(self.loads), *(AGENT_KIND_BY_NAME[one.kind] for one in self.traffic)]

    @property
    def table_top(self) -> tuple[float, float, float, float] | None:
        """x, y, width and depth of a table's top, which reaches a little beyond the hall; None where the floor goes on."""
        hall, more = self.hall, TABLE_MARGIN_M
        return (hall.x - more, hall.y - more, hall.width + 2 * more, hall.depth + 2 * more) if self.surface == "table" else None

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    def save(self, path: Path) -> None:
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "Layout":
        """Read and check a file; BadLayout names every fault but those that a scene's `faults` tells, which knows its bodies."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadLayout(str(path), [f"cannot be read ({error.strerror})"]) from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, source: str = "layout") -> "Layout":
        """Read and check a file's content; BadLayout names every fault."""
        try:
            return cls.from_json(json.loads(content.decode("utf-8")), source)
        except (ValueError, RecursionError) as error:
            raise BadLayout(source, [f"is not JSON ({error})"]) from error

    @classmethod
    def from_json(cls, content: Any, source: str = "layout") -> "Layout":
        if not isinstance(content, Mapping):
            raise BadLayout(source, ["is not a JSON object"])
        content = dict(content)
        if content.pop("format", FORMAT) != FORMAT or content.pop("version", VERSION) != VERSION:
            raise BadLayout(source, [f"format or version is not {FORMAT} {VERSION}"])
        try:
            layout = _CONVERTER.structure(content, cls)
        except Exception as error:  # cattrs raises its own groups and whatever the fields raise
            raise BadLayout(source, [_format_error(line) for line in cattrs.transform_error(error)]) from error
        faults = find_value_faults(layout)
        if faults:
            raise BadLayout(source, faults)
        return layout


def find_value_faults(layout: Layout) -> list[str]:
    """What is wrong with a layout in any scene, one line each: numbers that are not finite or too large, names, nothing there."""
    hall = layout.hall
    named = [(f"boxes[{i}]", box) for i, box in enumerate(layout.boxes)]
    placed = [("robot", layout.robot), *((f"loads[{i}]", load) for i, load in enumerate(layout.loads)), ("goal", layout.goal),
              *((f"more_goals[{i}]", goal) for i, goal in enumerate(layout.more_goals))]
    traffic = [(f"traffic[{i}]", traveller) for i, traveller in enumerate(layout.traffic)]
    stops = [(f"{name}.stops[{i}]", stop) for name, traveller in traffic for i, stop in enumerate(traveller.stops)]
    faults = []
    things: list[tuple[str, Any]] = [("hall", hall), *named, *placed, *traffic, *stops]
    for name, thing in things:
        for field, value in asdict(thing).items():
            if isinstance(value, float) and not np.isfinite(value):
                faults.append(f"{name}.{field} is {value}, a finite number is needed")
            elif isinstance(value, float) and abs(value) > 1e3:
                faults.append(f"{name}.{field} is {value:g}, at most 1000 is allowed")
            elif field in ("width", "depth", "height") and value <= 0:
                faults.append(f"{name}.{field} is {value:g}, a positive length is needed")
    for name, box in named:
        if box.kind not in BOX_KIND_BY_NAME:
            faults.append(f"{name}.kind is '{box.kind}', {_join_names(BOX_KIND_BY_NAME)} is needed")
    for name, traveller in traffic:
        if traveller.kind not in AGENT_KIND_BY_NAME:
            faults.append(f"{name}.kind is '{traveller.kind}', {_join_names(AGENT_KIND_BY_NAME)} is needed")
        if not 0 < traveller.speed_m_s <= MAX_AGENT_SPEED_M_S:
            faults.append(
                f"{name}.speed_m_s is {traveller.speed_m_s:g}, more than 0 and at most {MAX_AGENT_SPEED_M_S:g} is needed"
            )
        if not traveller.stops:
            faults.append(f"{name}.stops is empty, at least one stop is needed")
    if layout.surface not in SURFACES:
        faults.append(f"surface is '{layout.surface}', {_join_names(SURFACES)} is needed")
    if not faults and hall.width * hall.depth > MAX_HALL_M2:
        faults.append(f"hall is {hall.width:g} m × {hall.depth:g} m, at most {MAX_HALL_M2} m² are allowed")
    return faults


def find_geometric_faults(
    layout: Layout, robot_radius_m: float, load_radius_m: float, traffic_radii_m: Mapping[str, float] | None = None
) -> list[str]:
    """What is wrong with a layout for bodies of some size, one line each: `number_faults`, outside the hall, overlapping.

    traffic_radii_m: of each kind, in scenes that have traffic, and no loads; the goal is then the robot's.
    """
    faults = find_value_faults(layout)
    if not layout.loads and traffic_radii_m is None:
        faults.append("loads is empty, at least one load is needed")
    if layout.loads and traffic_radii_m is not None:
        faults.append("loads are not part of this scene: leave the list empty")
    if layout.traffic and traffic_radii_m is None:
        faults.append("traffic is not part of this scene: leave it out, or choose another with --scene")
    if faults:
        return faults
    hall = layout.hall
    for i, box in enumerate(layout.boxes):
        beside = abs(box.x - hall.x - hall.width / 2) - hall.width / 2, abs(box.y - hall.y - hall.depth / 2) - hall.depth / 2
        if max(beside) > np.hypot(box.width, box.depth) / 2:
            faults.append(f"boxes[{i}] at ({box.x:g}, {box.y:g}) is outside the hall")
    if faults:
        return faults
    placed: list[tuple[str, Pose, float]] = [("robot", layout.robot, robot_radius_m)]
    placed += [(f"loads[{i}]", load, load_radius_m) for i, load in enumerate(layout.loads)]
    for i, traveller in enumerate(layout.traffic):
        radius = (traffic_radii_m or {})[traveller.kind]
        placed.append((f"traffic[{i}]", Pose(traveller.x, traveller.y), radius))
    bodies = list(placed)
    for (name, _, radius), traveller in zip(placed[1 + len(layout.loads) :], layout.traffic, strict=True):
        placed += [(f"{name}.stops[{i}]", stop, radius) for i, stop in enumerate(traveller.stops)]
    placed += [("goal", layout.goal, load_radius_m)]
    for name, place, radius in placed:
        xy = np.array([place.x, place.y])
        if not (hall.x <= place.x <= hall.x + hall.width and hall.y <= place.y <= hall.y + hall.depth):
            faults.append(f"{name} at ({place.x:g}, {place.y:g}) is outside the hall")
            continue
        boxes = layout.static_boxes
        gaps = np.linalg.norm(find_closest_points(xy, boxes[:, :2], boxes[:, 2], boxes[:, 3:5]) - xy, axis=-1)
        for index in np.flatnonzero(gaps < radius):
            outer = len(boxes) - len(layout.boxes)
            what = "an outer wall" if index < outer else f"boxes[{index - outer}]"
            faults.append(f"{name} at ({place.x:g}, {place.y:g}) overlaps {what} ({gaps[index]:.2f} m, {radius:g} m is needed)")
    for i, (name, place, radius) in enumerate(bodies):
        for other_name, other, other_radius in bodies[i + 1 :]:
            gap = np.hypot(place.x - other.x, place.y - other.y)
            if gap < radius + other_radius:
                faults.append(
                    f"{name} overlaps {other_name} ({gap:.2f} m between their centres, {radius + other_radius:g} m is needed)"
                )
    return faults


def _join_names(names: Iterable[str]) -> str:
    *rest, last = map(repr, names)
    return f"{', '.join(rest)} or {last}"


def _round_values(value: Any) -> Any:
    if isinstance(value, float | int):
        return round(float(value), 6) + 0.0  # 1 and 1.0 are one place, and so are -0.0 and 0.0
    if isinstance(value, dict):
        return {key: _round_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_round_values(item) for item in value]
    return value


def _structure_number(value: Any, _: type) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _format_error(line: str) -> str:
    """cattrs' message with the path first: '$.robot.x: ...'."""
    message, _, path = line.rpartition(" @ ")
    return f"{path.removeprefix('$.').removeprefix('$') or 'file'}: {message}"


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)
_CONVERTER.register_structure_hook(float, _structure_number)
