"""Overlays: a planner's predictions and a robot's contacts, drawn into the scene.

Handles are made once and then only changed.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import viser
from matplotlib import colormaps

from experiments.viewer.drawing.layout_view import FLAT, convert_to_wxyz
from experiments.viewer.replay.replay import Frame, PlannerTrace, Replay
from sim.bodies import LOAD, ROBOT, TRAFFIC_KINDS, Kind
from sim.geometry.rotations import compute_yaw, make_unit_vectors
from sim.sensors.lidar import compute_bearings, measure_ranges
from sim.visuals import KIND_COLOURS, Area, Colour, get_floor_area

NUM_GHOSTS = 4  # along the horizon
LINE_HEIGHT_M = 0.02  # of lines above the floor, times the scene's unit
ARROW_M_PER_N = 0.004  # beyond the arrow's head, times the scene's unit
DISC_SCALE = 5.0  # radius per disagreement, up to a unit of the scene
NUM_RAYS = 72
MAX_RANGE_M = 4.0
HIGH_COST_QUANTILE = 0.8  # of the candidates' costs, from which on all are red
LINE_WIDTH_M = 0.018
RAY_WIDTH_M = 0.006  # there are many rays
ARROW_SIZES_M = (0.02, 0.05, 0.1)  # radius of its shaft and head, length of the head
FORCE_COLOUR: Colour = (220, 38, 38)
DISAGREEMENT_COLOUR: Colour = (147, 51, 234)
OVERLAY_DESCRIPTIONS = {
    "plan": "the chosen plan: ghosts of the robot, loads and agents at later times",
    "candidates": "the robot's path in the candidate plans, from low cost (green) to high cost (red)",
    "cost-to-go field": "cost-to-go from each position to the goal; dark: high",
    "contact forces": "red arrows above contacts of the robot or a load, longer for larger forces",
    "disagreement": "a violet disc around the load, or around a robot without loads; its radius grows with the "
    "disagreement of the model's particles",
    "lidar rays": "the ranges that a lidar on the robot would measure",
    "trails": "the paths so far of the robot, the load and the agents",
}
DEFAULT_OVERLAYS = frozenset({"plan", "candidates", "contact forces", "trails"})


class Overlays:
    """The overlays of one replay; the set `shown_overlays` may change at any time."""

    def __init__(self, scene: viser.SceneApi, root: str, replay: Replay, shown_overlays: set[str]) -> None:
        """Draw nothing yet, below the node `root`."""
        self._scene, self._replay, self._shown_overlays = scene, replay, shown_overlays
        self._root = f"{root}/overlays"
        self._unit_m = replay.scene.unit_m  # lines and arrows are as large as the scene
        self._height_m = LINE_HEIGHT_M * self._unit_m
        self._handles: dict[str, Any] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        scene.add_frame(self._root, show_axes=False)

    def update(self, frame_index: int) -> None:
        """Draw the overlays of a frame, and hide those that are switched off or not known there."""
        frame, trace = self._replay.frames[frame_index], self._replay.get_planner_trace(frame_index)
        disagreement_m = None if trace is None else trace.disagreement_m
        self._update_overlay("trails", partial(self._draw_trails, frame_index) if frame_index else None)
        self._update_overlay("contact forces", partial(self._draw_forces, frame) if frame.contacts else None)
        self._update_overlay("lidar rays", partial(self._draw_rays, frame))
        has_field = hasattr(self._replay.cost_field, "min_cost")
        self._update_overlay("cost-to-go field", self._draw_cost_field if has_field else None)
        self._update_overlay("plan", None if trace is None else partial(self._draw_plan, trace))
        self._update_overlay("candidates", None if trace is None else partial(self._draw_candidates, trace))
        draw_disagreement = None if disagreement_m is None else partial(self._draw_disagreement, frame, disagreement_m)
        self._update_overlay("disagreement", draw_disagreement)

    def _update_overlay(self, name: str, draw: Callable[[], None] | None) -> None:
        """Draw an overlay, or hide it where it is switched off or `draw` is None."""
        is_visible = name in self._shown_overlays and draw is not None
        if draw is not None and is_visible:
            draw()
        for key, handle in self._handles.items():
            if key.partition("/")[0] == name and handle.visible != is_visible:
                handle.visible = is_visible

    def _draw_trails(self, frame_index: int) -> None:
        kinds = self._replay.setup.layout.dynamic_kinds
        shown_bodies = [body for body, kind in enumerate(kinds) if body <= LOAD or kind in TRAFFIC_KINDS]
        positions = np.stack([frame.pose[shown_bodies, :2] for frame in self._replay.frames[: frame_index + 1]])
        colours = np.array([KIND_COLOURS[kinds[body]] for body in shown_bodies], np.uint8)
        self._draw_lines("trails", positions.swapaxes(0, 1), colours, self._height_m)

    def _draw_plan(self, trace: PlannerTrace) -> None:
        steps = np.linspace(0, len(trace.plan_poses) - 1, NUM_GHOSTS + 1).round().astype(int)[1:]
        shown_names = set()
        for number, step in enumerate(steps):
            for body, pose in enumerate(trace.plan_poses[step].astype(float)):
                kind = Kind(int(trace.kinds[body]))
                name = f"plan/{number}/{body}/{kind.name.lower()}"
                shown_names.add(name)
                if name not in self._handles:
                    opacity = 0.4 - 0.25 * number / NUM_GHOSTS
                    self._handles[name] = self._add_ghost(name, kind, trace.half_extents[body], opacity)
                handle = self._handles[name]
                handle.position, handle.wxyz = pose[:3], convert_to_wxyz(pose[3:])
        for name in [name for name in self._handles if name.startswith("plan/") and name not in shown_names]:
            self._handles.pop(name).remove()  # of an agent that the planner no longer regards

    def _add_ghost(self, name: str, kind: Kind, half_extents: np.ndarray, opacity: float) -> viser.SceneNodeHandle:
        size, path, colour = 2 * np.asarray(half_extents, float), f"{self._root}/{name}", KIND_COLOURS[kind]
        if kind in (Kind.ROBOT, Kind.PERSON):
            return self._scene.add_cylinder(path, size[0] / 2, size[2], color=colour, opacity=opacity, cast_shadow=False)
        return self._scene.add_box(path, color=colour, dimensions=size, opacity=opacity, cast_shadow=False)

    def _draw_candidates(self, trace: PlannerTrace) -> None:
        costs = trace.candidate_costs
        cost_range = max(float(np.quantile(costs, HIGH_COST_QUANTILE) - costs.min()), 1e-6)
        colours = _apply_colormap("RdYlGn_r", (costs - costs.min()) / cost_range)
        self._draw_lines("candidates", trace.candidate_paths[:, :, ROBOT], colours, 2 * self._height_m)

    def _draw_disagreement(self, frame: Frame, disagreement_m: float) -> None:
        body = LOAD if self._replay.setup.layout.loads else ROBOT
        radius = 0.3 * self._unit_m + min(DISC_SCALE * disagreement_m, self._unit_m)
        if "disagreement" not in self._handles:
            self._handles["disagreement"] = self._scene.add_cylinder(
                f"{self._root}/disagreement", 1.0, 0.01, color=DISAGREEMENT_COLOUR, opacity=0.35, cast_shadow=False
            )
        self._handles["disagreement"].position = np.array((*frame.pose[body, :2].astype(float), self._height_m))
        self._handles["disagreement"].scale = (radius, radius, 1.0)

    def _draw_forces(self, frame: Frame) -> None:
        tops = frame.pose[:, 2] + self._replay.half_extents[:, 2]  # bodies would hide what is drawn between them
        points = np.array([contact.point for contact in frame.contacts])
        pairs = [(contact.first, contact.second) for contact in frame.contacts]
        points[:, 2] = [max(tops[body] for body in pair if body < len(tops)) for pair in pairs]
        lengths = ARROW_SIZES_M[-1] + ARROW_M_PER_N * np.array([[contact.force_n] for contact in frame.contacts])
        tips = points + self._unit_m * lengths * np.array([contact.normal for contact in frame.contacts])
        arrows = np.stack([points, tips], 1).astype(np.float32)
        self._set_points("contact forces", arrows, np.array(FORCE_COLOUR, np.uint8))

    def _draw_rays(self, frame: Frame) -> None:
        bodies, max_range_m = self._replay.bodies, MAX_RANGE_M * self._unit_m
        bodies = replace(bodies, pose=np.concatenate([frame.pose, bodies.pose[len(frame.pose) :]]))
        ranges = measure_ranges(bodies, NUM_RAYS, max_range_m)
        colours = _apply_colormap("plasma", 1 - ranges / max_range_m)
        directions = make_unit_vectors(float(compute_yaw(frame.pose[ROBOT, 3:])) + compute_bearings(NUM_RAYS))
        start = np.broadcast_to(frame.pose[ROBOT, :2], (NUM_RAYS, 2))
        if (table_top := self._replay.setup.layout.table_top) is not None:  # beyond its edge, a ray hits nothing
            ranges = np.minimum(ranges, compute_edge_distances(start, directions, table_top))
        ends = start + ranges[:, None] * directions
        self._draw_lines("lidar rays", np.stack([start, ends], 1), colours, float(frame.pose[ROBOT, 2]))

    def _draw_cost_field(self) -> None:
        if "cost-to-go field" in self._handles:
            return
        field = self._replay.cost_field
        x, y, width, depth = get_floor_area(self._replay.setup.layout)
        cost_grid, cell_m, origin = np.asarray(field.min_cost, float), field.cell_m, np.array(field.origin)  # (X, Y)
        corners = np.array([(x, y), (x + width, y + depth)])
        max_cell = np.array(cost_grid.shape) - 1  # a field may reach behind the walls
        first_cell, last_cell = np.round((corners - origin) / cell_m).astype(int).clip(0, max_cell)
        values = cost_grid[first_cell[0] : last_cell[0] + 1, first_cell[1] : last_cell[1] + 1]
        colours = _apply_colormap("viridis_r", values / np.quantile(values, 0.95))
        image = np.ascontiguousarray(colours.swapaxes(0, 1)[::-1])
        size_x, size_y = (np.array(values.shape) * cell_m).tolist()
        position = np.array((*origin + cell_m * (first_cell + last_cell) / 2, 0.5 * self._height_m))
        self._handles["cost-to-go field"] = self._scene.add_image(
            f"{self._root}/cost-to-go field", image, size_x, size_y, format="png", position=position, wxyz=FLAT, cast_shadow=False
        )

    def _draw_lines(self, name: str, paths: np.ndarray, colours: np.ndarray, height: float) -> None:
        """Draw paths (P, T, 2), each in its colour (P, 3)."""
        points = np.concatenate([paths, np.full((*paths.shape[:2], 1), height)], -1)
        segments = np.stack([points[:, :-1], points[:, 1:]], 2).reshape(-1, 2, 3)
        end_colours = colours.repeat(paths.shape[1] - 1, 0)[:, None].repeat(2, 1)
        self._set_points(name, segments.astype(np.float32), end_colours)

    def _set_points(self, name: str, points: np.ndarray, colours: np.ndarray) -> None:
        """Set the end points (N, 2, 3) of lines or arrows; a new number of them needs a new node."""
        colours = _convert_to_linear_colours(colours)
        handle = self._handles.get(name)
        if handle is not None and self._shapes[name] == points.shape:
            handle.points, handle.colors = points, colours
            return
        path = f"{self._root}/{name}"
        if name == "contact forces":
            shaft, head, length = (size * self._unit_m for size in ARROW_SIZES_M)
            self._handles[name] = self._scene.add_arrows(
                path, points, colours, shaft_radius=shaft, head_radius=head, head_length=length
            )
        else:
            width = self._unit_m * (RAY_WIDTH_M if name == "lidar rays" else LINE_WIDTH_M)
            self._handles[name] = self._scene.add_line_segments(path, points, colours, thickness=width)
        self._shapes[name] = points.shape


def compute_edge_distances(start: np.ndarray, directions: np.ndarray, area: Area) -> np.ndarray:
    """Compute the distances from positions inside an area to its edge.

    Args:
        start: (R, 2) positions [m].
        directions: (R, 2) unit vectors.
        area: x, y, width and depth [m].

    Returns:
        (R,) distances along the directions [m].
    """
    corner, size = np.array(area[:2]), np.array(area[2:])
    with np.errstate(divide="ignore", invalid="ignore"):
        edge_distances = (np.where(directions > 0, corner + size, corner) - start) / directions
    return np.where(directions == 0, np.inf, edge_distances).min(-1)


def _apply_colormap(name: str, values: np.ndarray) -> np.ndarray:
    """Map values (...) in [0, 1], clipped, to colours (..., 3) uint8."""
    return (colormaps[name](np.clip(values, 0, 1))[..., :3] * 255).astype(np.uint8)


def _convert_to_linear_colours(colours: np.ndarray) -> np.ndarray:
    """Convert sRGB colours (..., 3): viser takes those of lines, unlike those of meshes, as linear."""
    return (255 * (colours / 255) ** 2.2).round().astype(np.uint8)
