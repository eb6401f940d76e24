"""What a planner thinks and a robot feels, drawn into the scene. Handles are made once and then only changed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import viser
from matplotlib import colormaps

from experiments.viewer.stage import Stage, wxyz
from experiments.viewer.take import Frame, Take, Thought
from sim.bodies import LOAD, ROBOT, TRAFFIC_KINDS, Kind
from sim.geometry.rotations import compute_yaw, make_unit_vectors
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.sensors.lidar import compute_bearings, measure_ranges

GHOSTS = 4  # along the horizon
LIFT_M = 0.02  # lines above the floor
FORCE_M_PER_N = 0.004  # beyond the arrow's head, times the scene's unit
HALO = 5.0  # times as wide as members are apart, up to a unit
RAYS, REACH_M = 72, 4.0
DEAR = 0.8  # of the candidates' costs, from where on all are red
LINE_M, RAY_M = 0.018, 0.006  # thickness; there are many rays
ARROW_M = (0.02, 0.05, 0.1)  # radius of its shaft and head, length of the head
FORCE_COLOUR, HALO_COLOUR = (220, 38, 38), (147, 51, 234)
COLOURS = {
    Kind.ROBOT: (37, 99, 235),
    Kind.LOAD: (217, 119, 6),
    Kind.PERSON: (219, 39, 119),
    Kind.FORKLIFT: (124, 58, 237),
}
MEANINGS = {
    "plan": "ghosts of the robot, and of what it minds, along the chosen plan",
    "candidates": "where the robot would go in each candidate, from cheap (green) to dear (red)",
    "field": "what it costs to get from each place to the goal, dark: much",
    "forces": "arrows above where the robot or a load touches something, longer where the force is large",
    "disagreement": "a halo around the load, or a robot without one, wide where an ensemble, or futures of traffic, disagree",
    "rays": "what a lidar on the robot would read",
    "trails": "where the robot, the load and traffic have been",
}
USUAL = frozenset({"plan", "candidates", "forces", "trails"})


class Overlays:
    """Each of MEANINGS can be switched by `shown`; `update` shows one frame's."""

    def __init__(self, scene: viser.SceneApi, stage: Stage, take: Take, shown: set[str]) -> None:
        self._scene, self._take, self.shown = scene, take, shown
        self._root = f"{stage.root}/overlays"
        self._unit = scenes[take.setting.scene].unit_m  # lines and arrows are as large as the scene
        self._handles: dict[str, viser.SceneNodeHandle] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}
        scene.add_frame(self._root, show_axes=False)

    def update(self, index: int) -> None:
        """Draw what belongs to frame `index`; what is switched off, or not known, disappears."""
        frame, thought = self._take.frames[index], self._take.thought(index)
        self._show("trails", index > 0, lambda: self._trails(index))
        self._show("plan", thought is not None, lambda: self._plan(thought))
        self._show("candidates", thought is not None, lambda: self._candidates(thought))
        apart = None if thought is None else thought.disagreement
        self._show("disagreement", apart is not None, lambda: self._halo(frame, apart))
        self._show("forces", bool(frame.hits), lambda: self._forces(frame))
        self._show("rays", True, lambda: self._rays(frame))
        self._show("field", True, lambda: self._field(self._take.setting.layout))

    def _show(self, name: str, known: bool, draw: Callable[[], None]) -> None:
        visible = known and name in self.shown
        if visible:
            draw()
        for key, handle in self._handles.items():
            if key.partition("/")[0] == name and handle.visible != visible:
                handle.visible = visible

    def _trails(self, index: int) -> None:
        kinds = self._take.setting.layout.dynamic_kinds
        shown = [body for body, kind in enumerate(kinds) if body <= LOAD or kind in TRAFFIC_KINDS]
        poses = np.stack([frame.pose[shown, :2] for frame in self._take.frames[: index + 1]])
        colours = np.array([COLOURS[kinds[body]] for body in shown], np.uint8)
        self._lines("trails", poses.swapaxes(0, 1), np.repeat(colours[:, None], index, 1), LIFT_M * self._unit)

    def _plan(self, thought: Thought | None) -> None:
        assert thought is not None
        steps = np.linspace(0, len(thought.plan) - 1, GHOSTS + 1).round().astype(int)[1:]
        wanted = set()
        for number, step in enumerate(steps):
            for body, pose in enumerate(thought.plan[step].astype(float)):
                kind = Kind(int(thought.kinds[body]))
                name = f"plan/{number}/{body}/{kind.name.lower()}"
                wanted.add(name)
                if name not in self._handles:
                    self._handles[name] = self._ghost(name, kind, thought.half_extents[body], 0.4 - 0.25 * number / GHOSTS)
                self._handles[name].position = pose[:3]
                self._handles[name].wxyz = wxyz(pose[3:])
        for name in [name for name in self._handles if name.startswith("plan/") and name not in wanted]:
            self._handles.pop(name).remove()  # of somebody who is not minded any more

    def _ghost(self, name: str, kind: Kind, half_extents: np.ndarray, fade: float) -> viser.SceneNodeHandle:
        size, path, colour = 2 * np.asarray(half_extents, float), f"{self._root}/{name}", COLOURS[kind]
        if kind in (Kind.ROBOT, Kind.PERSON):
            return self._scene.add_cylinder(path, size[0] / 2, size[2], color=colour, opacity=fade, cast_shadow=False)
        return self._scene.add_box(path, color=colour, dimensions=size, opacity=fade, cast_shadow=False)

    def _candidates(self, thought: Thought | None) -> None:
        assert thought is not None
        least, dear = thought.costs.min(), np.quantile(thought.costs, DEAR)
        share = (thought.costs - least) / max(float(dear - least), 1e-6)
        colours = (colormaps["RdYlGn_r"](np.clip(share, 0, 1))[:, :3] * 255).astype(np.uint8)
        paths = thought.candidates[:, :, ROBOT]
        self._lines("candidates", paths, np.repeat(colours[:, None], paths.shape[1] - 1, 1), 2 * LIFT_M * self._unit)

    def _halo(self, frame: Frame, disagreement: float | None) -> None:
        assert disagreement is not None
        body = LOAD if self._take.setting.layout.loads else ROBOT
        radius = 0.3 * self._unit + min(HALO * disagreement, self._unit)
        place = (*frame.pose[body, :2].astype(float), LIFT_M * self._unit)
        if "disagreement" not in self._handles:
            path = f"{self._root}/disagreement"
            self._handles["disagreement"] = self._scene.add_cylinder(
                path, 1.0, 0.01, color=HALO_COLOUR, opacity=0.35, cast_shadow=False
            )
        self._handles["disagreement"].position = np.array(place)
        self._handles["disagreement"].scale = (radius, radius, 1.0)  # type: ignore[attr-defined]

    def _forces(self, frame: Frame) -> None:
        tops = frame.pose[:, 2] + self._take.half_extents[:, 2]  # bodies would hide what is drawn between them
        points = np.array([hit.point for hit in frame.hits])
        points[:, 2] = [max(tops[body] for body in (hit.first, hit.second) if body < len(tops)) for hit in frame.hits]
        force = np.array([[hit.force_n] for hit in frame.hits])
        tips = points + self._unit * (ARROW_M[-1] + FORCE_M_PER_N * force) * np.array([hit.normal for hit in frame.hits])
        arrows = np.stack([points, tips], 1).astype(np.float32)
        self._set("forces", arrows.shape, points=arrows, colors=np.array(FORCE_COLOUR, np.uint8))

    def _rays(self, frame: Frame) -> None:
        bodies, movers = self._take.bodies, len(frame.pose)
        bodies = replace(bodies, pose=np.concatenate([frame.pose, bodies.pose[movers:]]))
        ranges = measure_ranges(bodies, RAYS, REACH_M * self._unit)
        angles = float(compute_yaw(frame.pose[ROBOT, 3:])) + compute_bearings(RAYS)
        start = np.broadcast_to(frame.pose[ROBOT, :2], (RAYS, 2))
        near = np.clip(1 - ranges / (REACH_M * self._unit), 0, 1)
        towards = make_unit_vectors(angles)
        if (table := self._take.setting.layout.table_top) is not None:
            ranges = np.minimum(ranges, to_edge(start, towards, table))  # in the air beside a table there is nothing to be seen
        ends = start + ranges[:, None] * towards
        colours = (colormaps["plasma"](near)[:, :3] * 255).astype(np.uint8)
        self._lines("rays", np.stack([start, ends], 1), colours[:, None], float(frame.pose[ROBOT, 2]))

    def _field(self, layout: Layout) -> None:
        if "field" in self._handles:
            return
        field, hall = self._take.field, layout.hall
        x, y, width, depth = layout.table_top or (hall.x, hall.y, hall.width, hall.depth)
        best, cell_m = np.asarray(field.best, float), field.cell_m  # (X, Y), from low x and low y
        first, last = (np.round((np.array(end) - field.origin) / cell_m).astype(int) for end in ((x, y), (x + width, y + depth)))
        first, last = np.maximum(first, 0), np.minimum(last, np.array(best.shape) - 1)  # a field may reach behind the walls
        values = best[first[0] : last[0] + 1, first[1] : last[1] + 1]
        reach = np.quantile(values, 0.95)
        picture = (colormaps["viridis_r"](np.clip(values / reach, 0, 1))[..., :3] * 255).astype(np.uint8)
        size = np.array(values.shape) * cell_m
        centre = np.array(field.origin) + cell_m * (first + last) / 2
        self._handles["field"] = self._scene.add_image(
            f"{self._root}/field",
            np.ascontiguousarray(picture.swapaxes(0, 1)[::-1]),
            float(size[0]),
            float(size[1]),
            format="png",
            position=(float(centre[0]), float(centre[1]), 0.5 * LIFT_M * self._unit),
            wxyz=(0.0, 1.0, 0.0, 0.0),
            cast_shadow=False,
        )

    def _lines(self, name: str, paths: np.ndarray, colours: np.ndarray, height: float) -> None:
        """Paths (P, T, 2) with a colour per piece (P, T - 1, 3)."""
        points = np.concatenate([paths, np.full((*paths.shape[:2], 1), height)], -1)
        pieces = np.stack([points[:, :-1], points[:, 1:]], 2).reshape(-1, 2, 3)
        both = np.repeat(colours.reshape(-1, 1, 3), 2, 1)
        self._set(name, pieces.shape, points=pieces.astype(np.float32), colors=both)

    def _set(self, name: str, shape: tuple[int, ...], points: np.ndarray, colors: np.ndarray) -> None:
        """Lines or arrows with these points. They are made anew where their number changes, else only moved."""
        colors = _linear(colors)
        handle = self._handles.get(name)
        if handle is None or self._sizes[name] != shape:
            path = f"{self._root}/{name}"
            if name == "forces":
                shaft, head, length = (size * self._unit for size in ARROW_M)
                self._handles[name] = self._scene.add_arrows(
                    path, points, colors, shaft_radius=shaft, head_radius=head, head_length=length
                )
            else:
                thick = self._unit * (RAY_M if name == "rays" else LINE_M)
                self._handles[name] = self._scene.add_line_segments(path, points, colors, thickness=thick)
            self._sizes[name] = shape
            return
        handle.points, handle.colors = points, colors  # type: ignore[attr-defined]


def to_edge(start: np.ndarray, towards: np.ndarray, area: tuple[float, float, float, float]) -> np.ndarray:
    """How far it is from places (R, 2) inside an area (x, y, width, depth) to its edge along unit vectors (R, 2) [m]."""
    low, size = np.array(area[:2]), np.array(area[2:])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(towards == 0, np.inf, (np.where(towards > 0, low + size, low) - start) / towards).min(-1)


def _linear(colours: np.ndarray) -> np.ndarray:
    """Of sRGB colours (..., 3): viser takes the colours of lines and arrows, unlike those of meshes, as linear ones."""
    return (255 * (colours / 255) ** 2.2).round().astype(np.uint8)
