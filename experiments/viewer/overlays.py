"""What a planner thinks and a robot feels, drawn into the scene. Handles are made once and then only changed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import viser
from matplotlib import colormaps

from experiments.viewer.stage import LayoutView, to_wxyz
from experiments.viewer.take import Frame, PlannerTrace, Replay
from sim.bodies import LOAD, ROBOT, TRAFFIC_KINDS, Kind
from sim.geometry.rotations import compute_yaw, make_unit_vectors
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.sensors.lidar import compute_bearings, measure_ranges

NUM_GHOSTS = 4  # along the horizon
LINE_HEIGHT_M = 0.02  # lines above the floor
ARROW_M_PER_N = 0.004  # beyond the arrow's head, times the scene's unit
HALO_SCALE = 5.0  # times as wide as members are apart, up to a unit
NUM_RAYS, MAX_RANGE_M = 72, 4.0
HIGH_COST_QUANTILE = 0.8  # of the candidates' costs, from where on all are red
LINE_WIDTH_M, RAY_WIDTH_M = 0.018, 0.006  # thickness; there are many rays
ARROW_SIZES_M = (0.02, 0.05, 0.1)  # radius of its shaft and head, length of the head
FORCE_COLOUR, HALO_COLOUR = (220, 38, 38), (147, 51, 234)
KIND_COLOURS = {Kind.ROBOT: (37, 99, 235), Kind.LOAD: (217, 119, 6), Kind.PERSON: (219, 39, 119), Kind.FORKLIFT: (124, 58, 237)}
OVERLAY_DESCRIPTIONS = {
    "plan": "ghosts of the robot, and of what it minds, along the chosen plan",
    "candidates": "where the robot would go in each candidate, from cheap (green) to dear (red)",
    "field": "what it costs to get from each place to the goal, dark: much",
    "forces": "arrows above where the robot or a load touches something, longer where the force is large",
    "disagreement": "a halo around the load, or a robot without one, wide where an ensemble, or futures of traffic, disagree",
    "rays": "what a lidar on the robot would read",
    "trails": "where the robot, the load and traffic have been",
}
DEFAULT_OVERLAYS = frozenset({"plan", "candidates", "forces", "trails"})


class Overlays:
    """Each of MEANINGS can be switched by `shown`; `update` shows one frame's."""

    def __init__(self, scene: viser.SceneApi, view: LayoutView, replay: Replay, shown_overlays: set[str]) -> None:
        self._scene, self._replay, self.shown_overlays = scene, replay, shown_overlays
        self._root = f"{view.root}/overlays"
        self._unit_m = scenes[replay.setup.scene].unit_m  # lines and arrows are as large as the scene
        self._handles: dict[str, viser.SceneNodeHandle] = {}
        self._sizes: dict[str, tuple[int, ...]] = {}
        scene.add_frame(self._root, show_axes=False)

    def update(self, frame_index: int) -> None:
        """Draw what belongs to frame `index`; what is switched off, or not known, disappears."""
        frame, trace = self._replay.frames[frame_index], self._replay.get_planner_trace(frame_index)
        self._update_overlay("trails", frame_index > 0, lambda: self._draw_trails(frame_index))
        self._update_overlay("plan", trace is not None, lambda: self._draw_plan(trace))
        self._update_overlay("candidates", trace is not None, lambda: self._draw_candidates(trace))
        disagreement_m = None if trace is None else trace.disagreement_m
        self._update_overlay("disagreement", disagreement_m is not None, lambda: self._draw_disagreement(frame, disagreement_m))
        self._update_overlay("forces", bool(frame.contacts), lambda: self._draw_forces(frame))
        self._update_overlay("rays", True, lambda: self._draw_rays(frame))
        self._update_overlay("field", True, lambda: self._draw_cost_field(self._replay.setup.layout))

    def _update_overlay(self, name: str, is_available: bool, draw: Callable[[], None]) -> None:
        is_visible = is_available and name in self.shown_overlays
        if is_visible:
            draw()
        for key, handle in self._handles.items():
            if key.partition("/")[0] == name and handle.visible != is_visible:
                handle.visible = is_visible

    def _draw_trails(self, frame_index: int) -> None:
        kinds = self._replay.setup.layout.dynamic_kinds
        shown_bodies = [body for body, kind in enumerate(kinds) if body <= LOAD or kind in TRAFFIC_KINDS]
        positions = np.stack([frame.pose[shown_bodies, :2] for frame in self._replay.frames[: frame_index + 1]])
        colours = np.array([KIND_COLOURS[kinds[body]] for body in shown_bodies], np.uint8)
        self._draw_lines(
            "trails", positions.swapaxes(0, 1), np.repeat(colours[:, None], frame_index, 1), LINE_HEIGHT_M * self._unit_m
        )

    def _draw_plan(self, trace: PlannerTrace | None) -> None:
        assert trace is not None
        steps = np.linspace(0, len(trace.plan_poses) - 1, NUM_GHOSTS + 1).round().astype(int)[1:]
        shown_names = set()
        for number, step in enumerate(steps):
            for body, pose in enumerate(trace.plan_poses[step].astype(float)):
                kind = Kind(int(trace.kinds[body]))
                name = f"plan/{number}/{body}/{kind.name.lower()}"
                shown_names.add(name)
                if name not in self._handles:
                    self._handles[name] = self._add_ghost(name, kind, trace.half_extents[body], 0.4 - 0.25 * number / NUM_GHOSTS)
                self._handles[name].position = pose[:3]
                self._handles[name].wxyz = to_wxyz(pose[3:])
        for name in [name for name in self._handles if name.startswith("plan/") and name not in shown_names]:
            self._handles.pop(name).remove()  # of somebody who is not minded any more

    def _add_ghost(self, name: str, kind: Kind, half_extents: np.ndarray, opacity: float) -> viser.SceneNodeHandle:
        size, path, colour = 2 * np.asarray(half_extents, float), f"{self._root}/{name}", KIND_COLOURS[kind]
        if kind in (Kind.ROBOT, Kind.PERSON):
            return self._scene.add_cylinder(path, size[0] / 2, size[2], color=colour, opacity=opacity, cast_shadow=False)
        return self._scene.add_box(path, color=colour, dimensions=size, opacity=opacity, cast_shadow=False)

    def _draw_candidates(self, trace: PlannerTrace | None) -> None:
        assert trace is not None
        min_cost, high_cost = trace.candidate_costs.min(), np.quantile(trace.candidate_costs, HIGH_COST_QUANTILE)
        relative_costs = (trace.candidate_costs - min_cost) / max(float(high_cost - min_cost), 1e-6)
        colours = (colormaps["RdYlGn_r"](np.clip(relative_costs, 0, 1))[:, :3] * 255).astype(np.uint8)
        paths = trace.candidate_paths[:, :, ROBOT]
        self._draw_lines(
            "candidates", paths, np.repeat(colours[:, None], paths.shape[1] - 1, 1), 2 * LINE_HEIGHT_M * self._unit_m
        )

    def _draw_disagreement(self, frame: Frame, disagreement_m: float | None) -> None:
        assert disagreement_m is not None
        body = LOAD if self._replay.setup.layout.loads else ROBOT
        radius = 0.3 * self._unit_m + min(HALO_SCALE * disagreement_m, self._unit_m)
        position = (*frame.pose[body, :2].astype(float), LINE_HEIGHT_M * self._unit_m)
        if "disagreement" not in self._handles:
            path = f"{self._root}/disagreement"
            self._handles["disagreement"] = self._scene.add_cylinder(
                path, 1.0, 0.01, color=HALO_COLOUR, opacity=0.35, cast_shadow=False
            )
        self._handles["disagreement"].position = np.array(position)
        self._handles["disagreement"].scale = (radius, radius, 1.0)  # type: ignore[attr-defined]

    def _draw_forces(self, frame: Frame) -> None:
        tops = frame.pose[:, 2] + self._replay.half_extents[:, 2]  # bodies would hide what is drawn between them
        points = np.array([contact.point for contact in frame.contacts])
        points[:, 2] = [
            max(tops[body] for body in (contact.first, contact.second) if body < len(tops)) for contact in frame.contacts
        ]
        force = np.array([[contact.force_n] for contact in frame.contacts])
        tips = points + self._unit_m * (ARROW_SIZES_M[-1] + ARROW_M_PER_N * force) * np.array(
            [contact.normal for contact in frame.contacts]
        )
        arrows = np.stack([points, tips], 1).astype(np.float32)
        self._set_points("forces", arrows.shape, points=arrows, colors=np.array(FORCE_COLOUR, np.uint8))

    def _draw_rays(self, frame: Frame) -> None:
        bodies, num_dynamic = self._replay.bodies, len(frame.pose)
        bodies = replace(bodies, pose=np.concatenate([frame.pose, bodies.pose[num_dynamic:]]))
        ranges = measure_ranges(bodies, NUM_RAYS, MAX_RANGE_M * self._unit_m)
        angles = float(compute_yaw(frame.pose[ROBOT, 3:])) + compute_bearings(NUM_RAYS)
        start = np.broadcast_to(frame.pose[ROBOT, :2], (NUM_RAYS, 2))
        nearness = np.clip(1 - ranges / (MAX_RANGE_M * self._unit_m), 0, 1)
        directions = make_unit_vectors(angles)
        if (table_top := self._replay.setup.layout.table_top) is not None:
            ranges = np.minimum(
                ranges, compute_edge_distances(start, directions, table_top)
            )  # in the air beside a table there is nothing to be seen
        ends = start + ranges[:, None] * directions
        colours = (colormaps["plasma"](nearness)[:, :3] * 255).astype(np.uint8)
        self._draw_lines("rays", np.stack([start, ends], 1), colours[:, None], float(frame.pose[ROBOT, 2]))

    def _draw_cost_field(self, layout: Layout) -> None:
        if "field" in self._handles:
            return
        cost_field, hall = self._replay.cost_field, layout.hall
        x, y, width, depth = layout.table_top or (hall.x, hall.y, hall.width, hall.depth)
        cost_grid, cell_m = np.asarray(cost_field.best, float), cost_field.cell_m  # (X, Y), from low x and low y
        first_cell, last_cell = (
            np.round((np.array(corner) - cost_field.origin) / cell_m).astype(int) for corner in ((x, y), (x + width, y + depth))
        )
        first_cell, last_cell = (
            np.maximum(first_cell, 0),
            np.minimum(last_cell, np.array(cost_grid.shape) - 1),
        )  # a field may reach behind the walls
        values = cost_grid[first_cell[0] : last_cell[0] + 1, first_cell[1] : last_cell[1] + 1]
        max_shown_cost = np.quantile(values, 0.95)
        image = (colormaps["viridis_r"](np.clip(values / max_shown_cost, 0, 1))[..., :3] * 255).astype(np.uint8)
        size = np.array(values.shape) * cell_m
        centre = np.array(cost_field.origin) + cell_m * (first_cell + last_cell) / 2
        self._handles["field"] = self._scene.add_image(
            f"{self._root}/field",
            np.ascontiguousarray(image.swapaxes(0, 1)[::-1]),
            float(size[0]),
            float(size[1]),
            format="png",
            position=(float(centre[0]), float(centre[1]), 0.5 * LINE_HEIGHT_M * self._unit_m),
            wxyz=(0.0, 1.0, 0.0, 0.0),
            cast_shadow=False,
        )

    def _draw_lines(self, name: str, paths: np.ndarray, colours: np.ndarray, height: float) -> None:
        """Paths (P, T, 2) with a colour per piece (P, T - 1, 3)."""
        points = np.concatenate([paths, np.full((*paths.shape[:2], 1), height)], -1)
        segments = np.stack([points[:, :-1], points[:, 1:]], 2).reshape(-1, 2, 3)
        end_colours = np.repeat(colours.reshape(-1, 1, 3), 2, 1)
        self._set_points(name, segments.shape, points=segments.astype(np.float32), colors=end_colours)

    def _set_points(self, name: str, shape: tuple[int, ...], points: np.ndarray, colors: np.ndarray) -> None:
        """Lines or arrows with these points. They are made anew where their number changes, else only moved."""
        colors = _to_linear_colours(colors)
        handle = self._handles.get(name)
        if handle is None or self._sizes[name] != shape:
            path = f"{self._root}/{name}"
            if name == "forces":
                shaft, head, length = (size * self._unit_m for size in ARROW_SIZES_M)
                self._handles[name] = self._scene.add_arrows(
                    path, points, colors, shaft_radius=shaft, head_radius=head, head_length=length
                )
            else:
                width = self._unit_m * (RAY_WIDTH_M if name == "rays" else LINE_WIDTH_M)
                self._handles[name] = self._scene.add_line_segments(path, points, colors, thickness=width)
            self._sizes[name] = shape
            return
        handle.points, handle.colors = points, colors  # type: ignore[attr-defined]


def compute_edge_distances(start: np.ndarray, directions: np.ndarray, area: tuple[float, float, float, float]) -> np.ndarray:
    """How far it is from places (R, 2) inside an area (x, y, width, depth) to its edge along unit vectors (R, 2) [m]."""
    lower_corner, size = np.array(area[:2]), np.array(area[2:])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(
            directions == 0, np.inf, (np.where(directions > 0, lower_corner + size, lower_corner) - start) / directions
        ).min(-1)


def _to_linear_colours(colours: np.ndarray) -> np.ndarray:
    """Of sRGB colours (..., 3): viser takes the colours of lines and arrows, unlike those of meshes, as linear ones."""
    return (255 * (colours / 255) ** 2.2).round().astype(np.uint8)
