"""Layout: a hall or table with static boxes, start poses and a goal; read and written as JSON.

File format (lengths in metres, angles in radians, every field except `name` and `boxes` required)::

    {"format": "training-ground/layout", "version": 1, "name": "north hall",
     "hall":  {"x": 0, "y": 0, "width": 6, "depth": 6},      # lower left corner and size
     "boxes": [{"x": 2, "y": 3, "yaw": 0, "width": 1.2, "depth": 0.6, "height": 1.6,
                "kind": "rack"}],
     "robot": {"x": 1, "y": 1, "yaw": 0},
     "loads": [{"x": 2, "y": 1.5, "yaw": 0}],                # the first load is the one to deliver
     "goal":  {"x": 4, "y": 4.5},                            # and a yaw, where the task has one
     "traffic": [{"x": 1, "y": 5, "yaw": 0, "kind": "person", "speed_m_s": 1.2,
                  "stops": [{"x": 5, "y": 5}]}]}

"map_offset": {"x": 448251, "y": 5411932}, if it is there, is to be added to all positions for those
of the map from which the layout was imported.

A box's `kind` is "rack", "wall" or "clamp". The simulator adds four outer walls around the hall.
With "surface": "table" there are no walls, and a load that leaves the table falls. `part` is the
shape of the loads in scenes with several shapes. Agents in `traffic` go from stop to stop and start
again after the last stop. An agent's `kind` is "person" or "forklift". With "surface": "cell" there
are no walls either, and `details` hold what a scene alone needs, such as a belt or an order of
cartons; its `kind` is the scene's.

Limits of every layout: MAX_HALL_M2, MAX_BOXES, MAX_LENGTH_M, MAX_YAW_RAD and MAX_AGENT_SPEED_M_S in
this module. A scene limits the number of loads and agents (`max_loads` and `max_traffic` of Scene).
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import cattrs
import numpy as np

from sim.bodies import Bodies, Kind
from sim.geometry.boxes import find_closest_points
from sim.geometry.rotations import make_upright_poses
from sim.utils.errors import BadLayout, UnknownName
from sim.utils.files import write_json
from sim.utils.registry import Registry

FORMAT = "training-ground/layout"
VERSION = 1
BOX_KIND_BY_NAME = {"rack": Kind.RACK, "wall": Kind.WALL, "clamp": Kind.CLAMP}
SURFACES = ("hall", "table", "cell")
AGENT_KIND_BY_NAME = {"person": Kind.PERSON, "forklift": Kind.FORKLIFT}
TABLE_MARGIN_M = 0.08  # by which a table's top extends beyond the hall
WALL_THICKNESS_M = 0.2
WALL_HEIGHT_M = 1.0
# limits of a layout
MAX_HALL_M2 = 2500  # area of the hall: a larger pushing field takes minutes and gigabytes
MAX_BOXES = 400  # without the four outer walls
MAX_LENGTH_M = 1000.0  # of each coordinate and size
MAX_YAW_RAD = 2 * np.pi
MAX_AGENT_SPEED_M_S = 3.0


@dataclass(frozen=True)
class Hall:
    """The free rectangle: lower left corner and size [m]."""

    x: float
    y: float
    width: float
    depth: float

    def contains(self, x: float, y: float) -> bool:
        """Return True if the point [m] is in the hall or at its edge."""
        return self.x <= x <= self.x + self.width and self.y <= y <= self.y + self.depth


@dataclass(frozen=True)
class Box:
    """A static box on the floor: centre, size [m] and yaw [rad]."""

    x: float
    y: float
    width: float
    depth: float
    yaw: float = 0.0
    height: float = 1.6
    kind: str = "rack"


@dataclass(frozen=True)
class Pose:
    """A pose on the floor [m, rad]."""

    x: float
    y: float
    yaw: float = 0.0


@dataclass(frozen=True)
class AgentRoute:
    """Start pose [m, rad], speed and stops of a person or a forklift."""

    x: float
    y: float
    yaw: float
    kind: str
    speed_m_s: float
    stops: tuple[Pose, ...]


@dataclass(frozen=True)
class StaticBody:
    """A static box anywhere in space, which belongs to a layout's details."""

    kind: Kind
    half_extents: tuple[float, float, float]  # [m]
    position: tuple[float, float, float]  # of its middle [m]
    yaw: float = 0.0
    velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of its surface [m/s], for a belt


class LayoutDetails:
    """Base of the parts of a layout that belong to one scene: frozen dataclasses of plain values."""

    def list_static_bodies(self, layout: "Layout") -> list[StaticBody]:
        """List static bodies beside the layout's boxes."""
        return []

    def list_load_outlines(self) -> list[tuple[float, float]]:
        """List the half extents of each load from above, in its frame [m]."""
        return []

    def find_value_faults(self) -> list[str]:
        """Find values that are out of bounds, one line each."""
        return []


layout_details: Registry[type[LayoutDetails]] = Registry("scene", "sim.scenes")


@dataclass(frozen=True)
class Layout:
    """Static boxes, start poses and the goal of one task."""

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
    map_offset: Pose = Pose(0.0, 0.0)  # added to positions here: those of the imported map
    details: LayoutDetails | None = None

    @cached_property
    def id(self) -> str:
        """Hash of the content without the name and the map's offset: equal layouts have equal ids,
        wherever they come from.
        """
        content = self._to_dictionary()
        content.pop("name")
        content.pop("map_offset")
        if not self.goal.yaw:  # tasks that ask for a position alone leave it out
            content["goal"].pop("yaw")
        for field, default in (("surface", "hall"), ("part", ""), ("traffic", ()), ("more_goals", ()), ("details", None)):
            if content[field] == default:
                content.pop(field)
        text = json.dumps(_round_values(content), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @cached_property
    def static_boxes(self) -> np.ndarray:
        """(S, 7) x, y, yaw, half width, half depth, half height, Kind; the four outer walls of a
        hall first.
        """
        hall, t = self.hall, WALL_THICKNESS_M
        cx, cy = hall.x + hall.width / 2, hall.y + hall.depth / 2
        half_width, half_depth, half_height = hall.width / 2 + t, hall.depth / 2 + t, WALL_HEIGHT_M / 2
        rows: list[tuple[float, ...]] = [
            (cx, hall.y - t / 2, 0, half_width, t / 2, half_height, Kind.WALL),
            (cx, hall.y + hall.depth + t / 2, 0, half_width, t / 2, half_height, Kind.WALL),
            (hall.x - t / 2, cy, 0, t / 2, half_depth, half_height, Kind.WALL),
            (hall.x + hall.width + t / 2, cy, 0, t / 2, half_depth, half_height, Kind.WALL),
        ]
        if self.surface != "hall":
            rows = []
        for box in self.boxes:
            rows.append((box.x, box.y, box.yaw, box.width / 2, box.depth / 2, box.height / 2, BOX_KIND_BY_NAME[box.kind]))
        return np.array(rows, dtype=np.float64).reshape(-1, 7)

    @cached_property
    def static_bodies(self) -> Bodies:
        """(S, ...) `static_boxes`, then the static bodies of `details`."""
        boxes = self.static_boxes
        more = self.details.list_static_bodies(self) if self.details else []
        pose = make_upright_poses(boxes[:, :3], boxes[:, 5])
        placed = np.array([(*body.position[:2], body.yaw) for body in more]).reshape(-1, 3)
        pose = np.vstack([pose, make_upright_poses(placed, np.array([body.position[2] for body in more]))])
        twist = np.zeros((len(pose), 6))
        twist[len(boxes) :, :3] = np.array([body.velocity for body in more]).reshape(-1, 3)
        return Bodies(
            pose=pose,
            twist=twist,
            half_extents=np.vstack([boxes[:, 3:6], np.array([body.half_extents for body in more]).reshape(-1, 3)]),
            kind=np.array([*boxes[:, 6], *(body.kind for body in more)], np.int8),
            shape=np.zeros(len(pose), np.int8),
            present=np.ones(len(pose), np.int8),
        )

    @property
    def static_names(self) -> list[str]:
        """Names of `static_boxes` in messages."""
        num_walls = len(self.static_boxes) - len(self.boxes)
        return ["an outer wall"] * num_walls + [f"boxes[{i}]" for i in range(len(self.boxes))]

    @property
    def goals(self) -> tuple[Pose, ...]:
        """All goals, the first one first."""
        return (self.goal, *self.more_goals)

    @property
    def dynamic_kinds(self) -> list[Kind]:
        """Kinds of the dynamic bodies in their order: the robot, the loads, the traffic."""
        return [Kind.ROBOT, *[Kind.LOAD] * len(self.loads), *(AGENT_KIND_BY_NAME[agent.kind] for agent in self.traffic)]

    @property
    def table_top(self) -> tuple[float, float, float, float] | None:
        """x, y, width and depth of a table's top [m]; None on a floor."""
        hall, margin = self.hall, TABLE_MARGIN_M
        top = (hall.x - margin, hall.y - margin, hall.width + 2 * margin, hall.depth + 2 * margin)
        return top if self.surface == "table" else None

    def _to_dictionary(self) -> dict[str, Any]:
        content = asdict(self)
        if self.details:
            kind = next(kind for kind in layout_details if layout_details[kind] is type(self.details))
            content["details"] = {"kind": kind, **content["details"]}
        return content

    def to_json(self) -> dict[str, Any]:
        """Convert to a JSON object in the file format."""
        content = self._to_dictionary()
        if self.map_offset == Pose(0.0, 0.0):
            content.pop("map_offset")
        if self.details is None:
            content.pop("details")
        return {"format": FORMAT, "version": VERSION, **content}

    def save(self, path: Path) -> None:
        """Write a file."""
        write_json(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> "Layout":
        """Read and check a file.

        Raises:
            BadLayout: the file cannot be read, or has faults; it lists every fault. Faults that
                depend on the size of bodies are found by `find_faults` of a scene.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadLayout(str(path), [f"cannot be read ({error.strerror})"]) from error
        return cls.parse(content, str(path))

    @classmethod
    def parse(cls, content: bytes, source: str = "layout") -> "Layout":
        """Read and check a file's content.

        Raises:
            BadLayout: the content has faults; it lists every fault.
        """
        try:
            return cls.from_json(json.loads(content.decode("utf-8")), source)
        except (ValueError, RecursionError) as error:
            raise BadLayout(source, [f"is not JSON ({error})"]) from error

    @classmethod
    def from_json(cls, content: Any, source: str = "layout") -> "Layout":
        """Convert from a JSON object in the file format.

        Raises:
            BadLayout: the object has faults; it lists every fault.
        """
        if not isinstance(content, Mapping):
            raise BadLayout(source, ["is not a JSON object"])
        content = dict(content)
        if content.pop("format", FORMAT) != FORMAT or content.pop("version", VERSION) != VERSION:
            raise BadLayout(source, [f"format or version is not {FORMAT} {VERSION}"])
        try:
            layout = _CONVERTER.structure(content, cls)
        except Exception as error:  # cattrs raises exception groups of its own and of the fields
            lines = cattrs.transform_error(error, format_exception=_format_exception)
            raise BadLayout(source, [fault for line in lines for fault in _split_faults(line)]) from error
        faults = find_value_faults(layout)
        if faults:
            raise BadLayout(source, faults)
        return layout


def find_value_faults(layout: Layout) -> list[str]:
    """Find faults that do not depend on the scene: values, names, empty lists.

    Returns:
        One line for each fault.
    """
    hall = layout.hall
    boxes = [(f"boxes[{i}]", box) for i, box in enumerate(layout.boxes)]
    agents = [(f"traffic[{i}]", agent) for i, agent in enumerate(layout.traffic)]
    parts: list[tuple[str, Any]] = [("hall", hall), *boxes, ("robot", layout.robot)]
    parts += [*((f"loads[{i}]", load) for i, load in enumerate(layout.loads)), ("goal", layout.goal)]
    parts += [*((f"more_goals[{i}]", goal) for i, goal in enumerate(layout.more_goals)), *agents]
    parts += [(f"{name}.stops[{i}]", stop) for name, agent in agents for i, stop in enumerate(agent.stops)]
    faults = []
    for name, part in parts:
        for field, value in asdict(part).items():
            if isinstance(value, float) and not np.isfinite(value):
                faults.append(f"{name}.{field} is {value}, a finite number is needed")
            elif field == "yaw" and abs(value) > MAX_YAW_RAD:
                faults.append(f"{name}.yaw is {value:g}: angles are in radians, at most 2π")
            elif isinstance(value, float) and abs(value) > MAX_LENGTH_M:
                faults.append(f"{name}.{field} is {value:g}, at most {MAX_LENGTH_M:g} is allowed")
            elif field in ("width", "depth", "height") and value <= 0:
                faults.append(f"{name}.{field} is {value:g}, a positive length is needed")
    for name, box in boxes:
        if box.kind not in BOX_KIND_BY_NAME:
            faults.append(f"{name}.kind is '{box.kind}', {_join_names(BOX_KIND_BY_NAME)} is needed")
    for name, agent in agents:
        if agent.kind not in AGENT_KIND_BY_NAME:
            faults.append(f"{name}.kind is '{agent.kind}', {_join_names(AGENT_KIND_BY_NAME)} is needed")
        if not 0 < agent.speed_m_s <= MAX_AGENT_SPEED_M_S:
            limit = f"more than 0 and at most {MAX_AGENT_SPEED_M_S:g} is needed"
            faults.append(f"{name}.speed_m_s is {agent.speed_m_s:g}, {limit}")
        if not agent.stops:
            faults.append(f"{name}.stops is empty, at least one stop is needed")
    if layout.details:
        faults += [
            f"details.{name} is {value}, a finite number is needed" for name, value in _list_infinite_values(layout.details)
        ]
        faults += [] if faults else layout.details.find_value_faults()
    if layout.surface not in SURFACES:
        faults.append(f"surface is '{layout.surface}', {_join_names(SURFACES)} is needed")
    if len(layout.boxes) > MAX_BOXES:
        faults.append(f"{len(layout.boxes)} boxes, at most {MAX_BOXES} are allowed")
    if not faults and hall.width * hall.depth > MAX_HALL_M2:
        faults.append(f"hall is {hall.width:g} m × {hall.depth:g} m, at most {MAX_HALL_M2} m² are allowed")
    return faults


def find_geometric_faults(
    layout: Layout, robot_radius_m: float, load_radius_m: float, traffic_radii_m: Mapping[str, float] | None = None
) -> list[str]:
    """Find the faults of `find_value_faults`, and bodies that are outside the hall or overlap.

    Args:
        layout: layout to check.
        robot_radius_m: radius of the robot.
        load_radius_m: radius of a load; in scenes with traffic, of the robot at its goal.
        traffic_radii_m: radius of each kind of agent in scenes with traffic, which have no loads;
            None in scenes with loads.

    Returns:
        One line for each fault.
    """
    faults = find_value_faults(layout)
    if not layout.loads and traffic_radii_m is None:
        faults.append("loads is empty, at least one load is needed")
    if layout.loads and traffic_radii_m is not None:
        faults.append("loads are not part of this scene: leave the list empty")
    if layout.traffic and traffic_radii_m is None:
        faults.append("traffic is not part of this scene: leave it out, or choose another scene with --scene")
    hall = layout.hall
    for i, box in enumerate(() if faults else layout.boxes):
        beyond_x = abs(box.x - hall.x - hall.width / 2) - hall.width / 2
        beyond_y = abs(box.y - hall.y - hall.depth / 2) - hall.depth / 2
        if max(beyond_x, beyond_y) > np.hypot(box.width, box.depth) / 2:
            faults.append(f"boxes[{i}] at ({box.x:g}, {box.y:g}) is outside the hall")
    if faults:
        return faults
    radii = traffic_radii_m or {}
    bodies: list[tuple[str, Any, float]] = [("robot", layout.robot, robot_radius_m)]
    bodies += [(f"loads[{i}]", load, load_radius_m) for i, load in enumerate(layout.loads)]
    bodies += [(f"traffic[{i}]", agent, radii[agent.kind]) for i, agent in enumerate(layout.traffic)]
    stops = [
        (f"traffic[{i}].stops[{k}]", stop, radii[agent.kind])
        for i, agent in enumerate(layout.traffic)
        for k, stop in enumerate(agent.stops)
    ]
    boxes = layout.static_boxes
    for name, place, radius in [*bodies, *stops, ("goal", layout.goal, load_radius_m)]:
        xy = np.array([place.x, place.y])
        if not hall.contains(place.x, place.y):
            faults.append(f"{name} at ({place.x:g}, {place.y:g}) is outside the hall")
            continue
        gaps = np.linalg.norm(find_closest_points(xy, boxes[:, :2], boxes[:, 2], boxes[:, 3:5]) - xy, axis=-1)
        for index in np.flatnonzero(gaps < radius):
            gap = f"{gaps[index]:.2f} m, {radius:g} m is needed"
            faults.append(f"{name} at ({place.x:g}, {place.y:g}) overlaps {layout.static_names[index]} ({gap})")
    for (name, place, radius), (other_name, other, other_radius) in combinations(bodies, 2):
        gap, needed = np.hypot(place.x - other.x, place.y - other.y), radius + other_radius
        if gap < needed:
            faults.append(f"{name} overlaps {other_name} ({gap:.2f} m between their centres, {needed:g} m is needed)")
    return faults


def _list_infinite_values(details: LayoutDetails) -> list[tuple[str, float]]:
    """List the numbers in details that are not finite, with their places."""

    def walk(name: str, value: Any) -> Iterator[tuple[str, float]]:
        pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
        for key, item in pairs:
            yield from walk(f"{name}[{key}]" if isinstance(key, int) else f"{name}.{key}".lstrip("."), item)
        if isinstance(value, float) and not np.isfinite(value):
            yield name, value

    return list(walk("", asdict(details)))  # type: ignore[call-overload]  # subclasses are dataclasses


def _join_names(names: Iterable[str]) -> str:
    *rest, last = map(repr, names)
    return f"{', '.join(rest)} or {last}"


def _round_values(value: Any) -> Any:
    if isinstance(value, float | int):
        return round(float(value), 6) + 0.0  # so that 1 equals 1.0, and -0.0 equals 0.0
    if isinstance(value, dict):
        return {key: _round_values(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_round_values(item) for item in value]
    return value


def _structure_number(value: Any, _: type) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _format_exception(error: BaseException, type_: type | None) -> str:
    """Format an exception of cattrs, one line for each unknown key."""
    if not isinstance(error, cattrs.ForbiddenExtraKeysError):
        return cattrs.v.format_exception(error, type_)
    names = [field.name for field in fields(error.cl)]
    return "\n".join(str(UnknownName("key", repr(key)[1:-1], names)) for key in sorted(error.extra_fields, key=str))


def _split_faults(line: str) -> list[str]:
    """Split a line of cattrs into faults with the path first: '$.robot.x: ...'."""
    message, _, path = line.rpartition(" @ ")
    place = path.removeprefix("$.").removeprefix("$") or "file"
    return [f"{place}: {fault}" for fault in message.splitlines()]


def _structure_details(value: Any, _: type) -> LayoutDetails:
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        raise ValueError("details need the name of a scene as 'kind'")
    details = _CONVERTER.structure({name: item for name, item in value.items() if name != "kind"}, layout_details[value["kind"]])
    return details


_CONVERTER = cattrs.Converter(forbid_extra_keys=True)
_CONVERTER.register_structure_hook(float, _structure_number)
_CONVERTER.register_structure_hook_func(lambda cls: cls is LayoutDetails, _structure_details)
