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

LABEL_HEIGHT_M = 1.2  # above the floor
HALL_CAMERA_OFFSET, TABLE_CAMERA_OFFSET = (
    (0.0, -0.75, 1.25),
    (0.75, -1.6, 1.0),
)  # the camera; an arm would hide its tool from above
DEFAULT_WINDOW_SIZE = (1000, 850)  # the scene beside the panel on a usual screen
TABLE_VIEW_HEIGHT_M = 0.2  # above a table the middle of what is to be seen


class LayoutView:
    """One space under `root`. Several stages can stand side by side on a page, each at its `offset`."""

    def __init__(self, scene: viser.SceneApi, root: str = "/stage", offset: tuple[float, float] = (0.0, 0.0)) -> None:
        self._scene, self.root = scene, root
        self._frame = scene.add_frame(root, show_axes=False, position=(*offset, 0.0))
        self._nodes: list[tuple[np.ndarray, viser.BatchedGlbHandle]] = []  # with the numbers of the bodies in each
        self._link_handles: list[viser.GlbHandle] = []

    def build(self, layout: Layout, half_extents: np.ndarray, poses: np.ndarray, visuals: Sequence[LinkVisual] = ()) -> None:
        """Draw a space, its movers (M, 3) at poses (M, 7), and the robot's links."""
        self.clear()
        self._draw_floor(layout)
        for number, (x, y, yaw, *half, kind) in enumerate(layout.static_boxes):
            name, mesh = _make_static_mesh(Kind(int(kind)), np.array(half), number)
            self._scene.add_mesh_trimesh(
                f"{self.root}/space/{name}/{number}",
                mesh,
                position=(x, y, half[2]),
                wxyz=to_wxyz(yaw_to_quaternion(np.array(yaw))),
                cast_shadow=False,
            )
        self._draw_dynamic_bodies(layout, half_extents)
        for visual in visuals:
            path = f"{self.root}/movers/links/{visual.link}"
            self._link_handles.append(self._scene.add_mesh_trimesh(path, looks.load_link_mesh(visual.mesh), cast_shadow=False))
        self.set_poses(poses)

    def _draw_dynamic_bodies(self, layout: Layout, half_extents: np.ndarray) -> None:
        """Bodies that look alike are one node of the page: sixty that move cost little more than one."""
        groups: dict[tuple[Kind, bool, tuple[float, ...]], list[int]] = {}
        for body, (kind, half) in enumerate(zip(layout.dynamic_kinds, np.asarray(half_extents, float), strict=False)):
            groups.setdefault((kind, body == LOAD, tuple(half)), []).append(body)  # the first load looks like no other
        for (kind, is_task_load, half), body_indices in groups.items():
            mesh = _make_dynamic_mesh(layout, kind, is_task_load, np.array(half))
            count = len(body_indices)
            node = self._scene.add_batched_meshes_trimesh(
                f"{self.root}/movers/{body_indices[0]}",
                mesh,
                np.tile((1.0, 0, 0, 0), (count, 1)),
                np.zeros((count, 3)),
                lod="off",
                cast_shadow=False,
            )
            self._nodes.append((np.array(body_indices), node))

    def set_poses(self, poses: np.ndarray, link_poses: np.ndarray | None = None) -> None:
        """Movers to poses (M, 7), the robot's links to theirs (V, 7)."""
        poses = np.asarray(poses, np.float32)
        for body_indices, node in self._nodes:
            node.batched_positions = poses[body_indices, :3]
            node.batched_wxyzs = to_wxyz(poses[body_indices, 3:])
        for handle, link_pose in zip(self._link_handles, () if link_poses is None else link_poses, strict=False):
            handle.position, handle.wxyz = link_pose[:3], to_wxyz(link_pose[3:])

    def add_label(self, text: str, layout: Layout, letter_height_m: float) -> None:
        """A sign behind the hall, of letters `height` [m] tall: of a size in the scene, a film of any window shows them alike."""
        hall = layout.hall
        position = (
            hall.x + hall.width / 2,
            hall.y + hall.depth,
            LABEL_HEIGHT_M if layout.table_top is None else 0.2 * LABEL_HEIGHT_M,
        )
        self._scene.add_label(
            f"{self.root}/sign",
            text,
            position=position,
            font_size_mode="scene",
            font_scene_height=letter_height_m,
            anchor="bottom-center",
        )

    def remove(self) -> None:
        """Everything under the stage's root."""
        self._frame.remove()

    def clear(self) -> None:
        for name in ("space", "movers"):
            self._scene.remove_by_name(f"{self.root}/{name}")
        self._nodes, self._link_handles = [], []

    def _draw_floor(self, layout: Layout) -> None:
        hall = layout.hall
        x, y, width, depth = layout.table_top or (hall.x, hall.y, hall.width, hall.depth)
        self._scene.add_frame(f"{self.root}/space", show_axes=False)
        if layout.table_top is not None:
            self._scene.add_mesh_trimesh(f"{self.root}/space/table", looks.make_table_mesh(layout), cast_shadow=False)
        self._scene.add_image(
            f"{self.root}/space/floor",
            looks.draw_floor_image(layout),
            width,
            depth,
            format="png",
            position=(x + width / 2, y + depth / 2, 0.0),
            wxyz=(0.0, 1.0, 0.0, 0.0),
            cast_shadow=False,
        )


def _make_static_mesh(kind: Kind, half_extents: np.ndarray, box_index: int) -> tuple[str, trimesh.Trimesh]:
    """Folder and mesh of a static box."""
    if kind == Kind.WALL:
        return "walls", looks.make_wall_mesh(half_extents)
    return (
        ("clamps", looks.make_clamp_mesh(half_extents))
        if kind == Kind.CLAMP
        else ("racks", looks.make_rack_mesh(half_extents, box_index))
    )


def _make_dynamic_mesh(layout: Layout, kind: Kind, is_task_load: bool, half_extents: np.ndarray) -> trimesh.Trimesh:
    if kind in TRAFFIC_KINDS:
        return looks.make_person_mesh(half_extents) if kind == Kind.PERSON else looks.make_forklift_mesh(half_extents)
    if layout.table_top is not None:
        return (
            looks.make_pusher_mesh(half_extents)
            if kind == Kind.ROBOT
            else looks.make_part_mesh(np.array(PARTS[layout.part]), half_extents[2])
        )
    return looks.make_robot_mesh(half_extents) if kind == Kind.ROBOT else looks.make_tote_mesh(half_extents, is_task_load)


def configure_lights_and_camera(
    server: viser.ViserServer, layout: Layout, width: float | None = None, window_size: tuple[int, int] = DEFAULT_WINDOW_SIZE
) -> None:
    """A clear view from above the near side of a hall, or of several in a row that is `width` wide [m]; `window`: its shape."""
    hall = layout.hall
    width = width or hall.width
    view_size_m = max(window_size[1] / window_size[0] * width, hall.depth)
    centre = np.array([hall.x + width / 2, hall.y + hall.depth / 2, 0.0 if layout.table_top is None else TABLE_VIEW_HEIGHT_M])
    server.scene.set_up_direction("+z")
    server.scene.configure_default_lights(cast_shadow=False)
    server.initial_camera.look_at = centre
    table_offset = np.array(TABLE_CAMERA_OFFSET) * (hall.width / width, 1.0, 1.0)  # a row of tables is looked at from its front
    server.initial_camera.position = centre + view_size_m * (
        np.array(HALL_CAMERA_OFFSET) if layout.table_top is None else table_offset
    )
    server.initial_camera.fov = np.deg2rad(50)


@contextmanager
def run_server(host: str = "127.0.0.1", port: int = 0) -> Iterator[viser.ViserServer]:
    """A server, by default on a free port of this machine only."""
    logging.getLogger("websockets.server").addFilter(_is_worth_logging)
    with _silence_console():
        server = viser.ViserServer(host=host, port=port, verbose=False)
    try:
        yield server
    finally:
        with _silence_console():
            server.stop()


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Browsers open connections ahead of need and close some unused: no mistake, and not worth a traceback."""
    return record.msg != "opening handshake failed"


@contextmanager
def _silence_console() -> Iterator[None]:
    """viser speaks to rich's console whatever `verbose` says."""
    console = rich.get_console()
    was_quiet, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = was_quiet


def to_wxyz(quaternion: np.ndarray) -> np.ndarray:
    """viser's order of quaternions xyzw (..., 4)."""
    return quaternion[..., [3, 0, 1, 2]]
