"""A space and its bodies on a viser page: drawn once, then only moved."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import rich
import trimesh
import viser

from experiments.viewer import looks
from sim.bodies import LOAD, TRAFFIC_KINDS, Kind
from sim.geometry.rotations import yaw_to_quaternion
from sim.layout import Layout
from sim.robots.robot import LinkVisual
from sim.scenes.push_fixture.layouts import PARTS

SIGN_M = 1.2  # above the floor
ABOVE_HALL, BESIDE_TABLE = (0.0, -0.75, 1.25), (0.75, -1.6, 1.0)  # the camera; an arm would hide its tool from above
PAGE = (1000, 850)  # the scene beside the panel on a usual screen
ARM_M = 0.2  # above a table the middle of what is to be seen


class Stage:
    """One space under `root`. Several stages can stand side by side on a page, each at its `offset`."""

    def __init__(self, scene: viser.SceneApi, root: str = "/stage", offset: tuple[float, float] = (0.0, 0.0)) -> None:
        self._scene, self.root = scene, root
        self._frame = scene.add_frame(root, show_axes=False, position=(*offset, 0.0))
        self._nodes: list[tuple[np.ndarray, viser.BatchedGlbHandle]] = []  # with the numbers of the bodies in each
        self._links: list[viser.GlbHandle] = []

    def build(self, layout: Layout, half_extents: np.ndarray, poses: np.ndarray, visuals: Sequence[LinkVisual] = ()) -> None:
        """Draw a space, its movers (M, 3) at poses (M, 7), and the robot's links."""
        self.clear()
        self._ground(layout)
        for number, (x, y, yaw, *half, kind) in enumerate(layout.static_boxes):
            name, mesh = _standing(Kind(int(kind)), np.array(half), number)
            self._scene.add_mesh_trimesh(
                f"{self.root}/space/{name}/{number}",
                mesh,
                position=(x, y, half[2]),
                wxyz=wxyz(yaw_to_quaternion(np.array(yaw))),
                cast_shadow=False,
            )
        self._draw(layout, half_extents)
        for visual in visuals:
            path = f"{self.root}/movers/links/{visual.link}"
            self._links.append(self._scene.add_mesh_trimesh(path, looks.link(visual.mesh), cast_shadow=False))
        self.move(poses)

    def _draw(self, layout: Layout, half_extents: np.ndarray) -> None:
        """Bodies that look alike are one node of the page: sixty that move cost little more than one."""
        alike: dict[tuple[Kind, bool, tuple[float, ...]], list[int]] = {}
        for body, (kind, half) in enumerate(zip(layout.dynamic_kinds, np.asarray(half_extents, float), strict=False)):
            alike.setdefault((kind, body == LOAD, tuple(half)), []).append(body)  # the first load looks like no other
        for (kind, first, half), members in alike.items():
            mesh = _moving(layout, kind, first, np.array(half))
            count = len(members)
            node = self._scene.add_batched_meshes_trimesh(
                f"{self.root}/movers/{members[0]}",
                mesh,
                np.tile((1.0, 0, 0, 0), (count, 1)),
                np.zeros((count, 3)),
                lod="off",
                cast_shadow=False,
            )
            self._nodes.append((np.array(members), node))

    def move(self, poses: np.ndarray, links: np.ndarray | None = None) -> None:
        """Movers to poses (M, 7), the robot's links to theirs (V, 7)."""
        poses = np.asarray(poses, np.float32)
        for members, node in self._nodes:
            node.batched_positions = poses[members, :3]
            node.batched_wxyzs = wxyz(poses[members, 3:])
        for handle, link in zip(self._links, () if links is None else links, strict=False):
            handle.position, handle.wxyz = link[:3], wxyz(link[3:])

    def name(self, text: str, layout: Layout, height: float) -> None:
        """A sign behind the hall, of letters `height` [m] tall: of a size in the scene, a film of any window shows them alike."""
        hall = layout.hall
        position = (hall.x + hall.width / 2, hall.y + hall.depth, SIGN_M if layout.table_top is None else 0.2 * SIGN_M)
        self._scene.add_label(
            f"{self.root}/sign",
            text,
            position=position,
            font_size_mode="scene",
            font_scene_height=height,
            anchor="bottom-center",
        )

    def remove(self) -> None:
        """Everything under the stage's root."""
        self._frame.remove()

    def clear(self) -> None:
        for name in ("space", "movers"):
            self._scene.remove_by_name(f"{self.root}/{name}")
        self._nodes, self._links = [], []

    def _ground(self, layout: Layout) -> None:
        hall = layout.hall
        x, y, width, depth = layout.table_top or (hall.x, hall.y, hall.width, hall.depth)
        self._scene.add_frame(f"{self.root}/space", show_axes=False)
        if layout.table_top is not None:
            self._scene.add_mesh_trimesh(f"{self.root}/space/table", looks.table(layout), cast_shadow=False)
        self._scene.add_image(
            f"{self.root}/space/floor",
            looks.floor(layout),
            width,
            depth,
            format="png",
            position=(x + width / 2, y + depth / 2, 0.0),
            wxyz=(0.0, 1.0, 0.0, 0.0),
            cast_shadow=False,
        )


def _standing(kind: Kind, half: np.ndarray, number: int) -> tuple[str, trimesh.Trimesh]:
    """Folder and mesh of a static box."""
    if kind == Kind.WALL:
        return "walls", looks.wall(half)
    return ("clamps", looks.clamp(half)) if kind == Kind.CLAMP else ("racks", looks.rack(half, number))


def _moving(layout: Layout, kind: Kind, first: bool, half: np.ndarray) -> trimesh.Trimesh:
    if kind in TRAFFIC_KINDS:
        return looks.person(half) if kind == Kind.PERSON else looks.forklift(half)
    if layout.table_top is not None:
        return looks.pusher(half) if kind == Kind.ROBOT else looks.part(np.array(PARTS[layout.part]), half[2])
    return looks.robot(half) if kind == Kind.ROBOT else looks.tote(half, first)


def light_and_camera(
    server: viser.ViserServer, layout: Layout, width: float | None = None, window: tuple[int, int] = PAGE
) -> None:
    """A clear view from above the near side of a hall, or of several in a row that is `width` wide [m]; `window`: its shape."""
    hall = layout.hall
    width = width or hall.width
    size = max(window[1] / window[0] * width, hall.depth)
    centre = np.array([hall.x + width / 2, hall.y + hall.depth / 2, 0.0 if layout.table_top is None else ARM_M])
    server.scene.set_up_direction("+z")
    server.scene.configure_default_lights(cast_shadow=False)
    server.initial_camera.look_at = centre
    beside = np.array(BESIDE_TABLE) * (hall.width / width, 1.0, 1.0)  # a row of tables is looked at from its front
    server.initial_camera.position = centre + size * (np.array(ABOVE_HALL) if layout.table_top is None else beside)
    server.initial_camera.fov = np.deg2rad(50)


@contextmanager
def serving(host: str = "127.0.0.1", port: int = 0) -> Iterator[viser.ViserServer]:
    """A server, by default on a free port of this machine only."""
    logging.getLogger("websockets.server").addFilter(_meant)
    with _silent():
        server = viser.ViserServer(host=host, port=port, verbose=False)
    try:
        yield server
    finally:
        with _silent():
            server.stop()


def _meant(record: logging.LogRecord) -> bool:
    """Browsers open connections ahead of need and close some unused: no mistake, and not worth a traceback."""
    return record.msg != "opening handshake failed"


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
    """viser's order of quaternions xyzw (..., 4)."""
    return quaternion[..., [3, 0, 1, 2]]
