"""A space and its bodies on a viser page: drawn once, then only moved."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import rich
import viser

from experiments.viewer import looks
from sim.bodies import Kind, quaternion_of
from sim.layout import Layout
from sim.task import LOAD

SIGN_M = 1.2  # above the floor


class Stage:
    """One space under `root`. Several stages can stand side by side on a page, each at its `offset`."""

    def __init__(self, scene: viser.SceneApi, root: str = "/stage", offset: tuple[float, float] = (0.0, 0.0)) -> None:
        self._scene, self.root = scene, root
        self._frame = scene.add_frame(root, show_axes=False, position=(*offset, 0.0))
        self.movers: list[viser.SceneNodeHandle] = []

    def build(self, layout: Layout, half_extents: np.ndarray, poses: np.ndarray) -> None:
        """Draw a space, and the robot and loads (M, 3) at poses (M, 7)."""
        self.clear()
        self._ground(layout)
        for number, (x, y, yaw, *half, kind) in enumerate(layout.static_boxes):
            name, mesh = (
                ("walls", looks.wall(np.array(half))) if kind == Kind.WALL else ("racks", looks.rack(np.array(half), number))
            )
            self._scene.add_mesh_trimesh(
                f"{self.root}/space/{name}/{number}",
                mesh,
                position=(x, y, half[2]),
                wxyz=wxyz(quaternion_of(np.array(yaw))),
                cast_shadow=False,
            )
        self.movers = self.bodies("movers", half_extents)
        self.move(poses)

    def bodies(self, name: str, half_extents: np.ndarray) -> list[viser.SceneNodeHandle]:
        """Handles of a robot and loads (M, 3), in the order of an episode's bodies."""
        handles: list[viser.SceneNodeHandle] = []
        for body, half in enumerate(np.asarray(half_extents, float)):
            mesh = looks.robot(half) if body < LOAD else looks.tote(half, first=body == LOAD)
            handles.append(self._scene.add_mesh_trimesh(f"{self.root}/{name}/{body}", mesh, cast_shadow=False))
        return handles

    def move(self, poses: np.ndarray) -> None:
        """Robot and loads to poses (M, 7); viser sends only what changed."""
        for handle, pose in zip(self.movers, np.asarray(poses, float), strict=True):
            handle.position = pose[:3]
            handle.wxyz = wxyz(pose[3:])

    def name(self, text: str, layout: Layout) -> None:
        """A sign behind the hall."""
        hall = layout.hall
        position = (hall.x + hall.width / 2, hall.y + hall.depth, SIGN_M)
        self._scene.add_label(f"{self.root}/sign", text, position=position)

    def remove(self) -> None:
        """Everything under the stage's root."""
        self._frame.remove()

    def clear(self) -> None:
        for name in ("space", "movers"):
            self._scene.remove_by_name(f"{self.root}/{name}")
        self.movers = []

    def _ground(self, layout: Layout) -> None:
        hall = layout.hall
        self._scene.add_frame(f"{self.root}/space", show_axes=False)
        self._scene.add_image(
            f"{self.root}/space/floor",
            looks.floor(layout),
            hall.width,
            hall.depth,
            format="png",
            position=(hall.x + hall.width / 2, hall.y + hall.depth / 2, 0.0),
            wxyz=(0.0, 1.0, 0.0, 0.0),
            cast_shadow=False,
        )


def light_and_camera(server: viser.ViserServer, layout: Layout, width: float | None = None) -> None:
    """A clear view from above the near side of a hall, or of several in a row that is `width` wide [m]."""
    hall = layout.hall
    width = width or hall.width
    size = max(0.8 * width, hall.depth)
    centre = np.array([hall.x + width / 2, hall.y + hall.depth / 2, 0.0])
    server.scene.set_up_direction("+z")
    server.scene.configure_default_lights(cast_shadow=False)
    server.initial_camera.look_at = centre
    server.initial_camera.position = centre + size * np.array([0.0, -0.75, 1.25])
    server.initial_camera.fov = np.deg2rad(50)


@contextmanager
def serving(host: str = "127.0.0.1", port: int = 0) -> Iterator[viser.ViserServer]:
    """A server, by default on a free port of this machine only."""
    with _silent():
        server = viser.ViserServer(host=host, port=port, verbose=False)
    try:
        yield server
    finally:
        with _silent():
            server.stop()


@contextmanager
def _silent() -> Iterator[None]:
    """viser speaks to rich's console whatever `verbose` says."""
    console = rich.get_console()
    quiet, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = quiet


def wxyz(quaternion: np.ndarray) -> np.ndarray:
    """viser's order of a quaternion xyzw."""
    return np.roll(quaternion, 1)
