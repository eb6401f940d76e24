"""What a planner thinks, drawn into the scene: ghosts of its plan, candidates as a fan, the field on the floor, forces, doubt."""

import numpy as np
import viser
from matplotlib import colormaps

from experiments.viewer.stage import Stage, wxyz
from experiments.viewer.take import Frame, Take, Thought
from sim.geodesic import CELL_M
from sim.layout import Layout
from sim.task import LOAD, ROBOT

GHOSTS = 4  # along the horizon
LIFT_M = 0.02  # lines above the floor
FORCE_M_PER_N = 0.004
NAMES = ("plan", "candidates", "field", "forces", "doubt", "way")


class Overlays:
    """Each of NAMES can be switched; `update` shows one frame's."""

    def __init__(self, scene: viser.SceneApi, stage: Stage, take: Take, shown: set[str]) -> None:
        self._scene, self._stage, self._take, self.shown = scene, stage, take, shown
        self._root = f"{stage.root}/overlays"
        self._field_drawn = False
        scene.add_frame(self._root, show_axes=False)

    def update(self, index: int) -> None:
        """Draw what belongs to frame `index`; what is switched off, or not known, disappears."""
        frame = self._take.frames[index]
        thought = frame.thought
        self._way(index)
        self._plan(thought if "plan" in self.shown else None)
        self._candidates(thought if "candidates" in self.shown else None)
        self._doubt(frame, thought if "doubt" in self.shown else None)
        self._forces(frame)
        self._field()

    def _way(self, index: int) -> None:
        """Where robot and load have been."""
        poses = np.stack([frame.pose[: LOAD + 1, :2] for frame in self._take.frames[: index + 1]])
        if "way" not in self.shown or len(poses) < 2:
            self._remove("way")
            return
        paths = poses.swapaxes(0, 1)  # (2, T, 2)
        colours = np.array([(37, 99, 235), (217, 119, 6)], np.uint8)
        self._lines("way", paths, np.repeat(colours[:, None], len(poses) - 1, 1), LIFT_M)

    def _plan(self, thought: Thought | None) -> None:
        if thought is None:
            self._remove("plan")
            return
        steps = np.linspace(0, len(thought.plan) - 1, GHOSTS + 1).round().astype(int)[1:]
        for number, step in enumerate(steps):
            for body, half in enumerate(self._take.half_extents):
                name, pose = f"{self._root}/plan/{number}/{body}", thought.plan[step, body]
                size, fade = 2 * np.asarray(half, float), 0.4 - 0.25 * number / GHOSTS
                position, turn = pose[:3].astype(float), wxyz(pose[3:])
                if body == ROBOT:
                    self._scene.add_cylinder(
                        name,
                        size[0] / 2,
                        size[2],
                        color=(37, 99, 235),
                        opacity=fade,
                        position=position,
                        wxyz=turn,
                        cast_shadow=False,
                    )
                else:
                    self._scene.add_box(
                        name, color=(217, 119, 6), dimensions=size, opacity=fade, position=position, wxyz=turn, cast_shadow=False
                    )

    def _candidates(self, thought: Thought | None) -> None:
        """Paths of the robot in each candidate, from cheap (green) to dear (red)."""
        if thought is None:
            self._remove("candidates")
            return
        rank = thought.costs.argsort().argsort() / max(1, len(thought.costs) - 1)
        colours = (colormaps["RdYlGn_r"](rank)[:, :3] * 255).astype(np.uint8)
        paths = thought.candidates[:, :, ROBOT]
        self._lines("candidates", paths, np.repeat(colours[:, None], paths.shape[1] - 1, 1), 2 * LIFT_M)

    def _doubt(self, frame: Frame, thought: Thought | None) -> None:
        """A halo around the load, as wide as the model's members disagree."""
        if thought is None or thought.disagreement is None:
            self._remove("doubt")
            return
        radius = 0.3 + 5 * thought.disagreement
        place = (*frame.pose[LOAD, :2].astype(float), LIFT_M)
        self._scene.add_cylinder(f"{self._root}/doubt", radius, 0.01, color=(147, 51, 234), opacity=0.35, position=place)

    def _forces(self, frame: Frame) -> None:
        """How hard something presses on a static box: a red post on the robot."""
        if "forces" not in self.shown or frame.static_force_n <= 1:
            self._remove("forces")
            return
        height = FORCE_M_PER_N * frame.static_force_n
        x, y, z = frame.pose[ROBOT, :3].astype(float)
        self._scene.add_cylinder(
            f"{self._root}/forces", 0.03, height, color=(220, 38, 38), position=(x, y, z + 0.15 + height / 2)
        )

    def _field(self) -> None:
        if "field" not in self.shown:
            self._remove("field")
            self._field_drawn = False
        elif not self._field_drawn:
            self._field_drawn = True
            self._draw_field(self._take.setting.layout)

    def _draw_field(self, layout: Layout) -> None:
        field = self._take.field
        values = np.asarray(field.best, float)  # (X, Y), from low x and low y
        reach = np.quantile(values, 0.95)
        picture = (colormaps["viridis_r"](np.clip(values / reach, 0, 1))[..., :3] * 255).astype(np.uint8)
        size = np.array(values.shape) * CELL_M
        centre = np.array(field.origin) + (np.array(values.shape) - 1) * CELL_M / 2
        self._scene.add_image(
            f"{self._root}/field",
            np.ascontiguousarray(picture.swapaxes(0, 1)[::-1]),
            float(size[0]),
            float(size[1]),
            format="png",
            position=(float(centre[0]), float(centre[1]), 0.5 * LIFT_M),
            wxyz=(0.0, 1.0, 0.0, 0.0),
            cast_shadow=False,
        )

    def _lines(self, name: str, paths: np.ndarray, colours: np.ndarray, height: float) -> None:
        """Paths (P, T, 2) with a colour per piece (P, T - 1, 3)."""
        points = np.concatenate([paths, np.full((*paths.shape[:2], 1), height)], -1)
        pieces = np.stack([points[:, :-1], points[:, 1:]], 2).reshape(-1, 2, 3)
        both = np.repeat(colours.reshape(-1, 1, 3), 2, 1)
        self._scene.add_line_segments(f"{self._root}/{name}", pieces.astype(np.float32), both)

    def _remove(self, name: str) -> None:
        self._scene.remove_by_name(f"{self._root}/{name}")
