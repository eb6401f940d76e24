"""LayoutView: a layout and its bodies in viser's scene, built once and then only moved."""

from collections.abc import Sequence

import numpy as np
import trimesh
import viser

from experiments.viewer.drawing.meshes import load_link_mesh, make_trimesh
from sim.bodies import Kind
from sim.geometry.rotations import rotate_in_space
from sim.layout import Layout
from sim.robots.robot import LinkVisual
from sim.visuals import Primitive, Primitives, SceneVisuals, ViewSettings, get_floor_area

FLAT = (0.0, 1.0, 0.0, 0.0)  # orientation (wxyz) of an image that lies on the floor, its first row at the largest y
BELT_MARK_SPACING_M = 0.15
BELT_MARK_COLOUR = (140, 140, 145)
OUT_OF_SIGHT_M = -1000.0  # height of bodies that do not exist
DEFAULT_WINDOW_SIZE = (1000, 850)  # pixels of the scene beside the panel on a usual screen
LABEL_HEIGHT_SHARE = 1 / 28  # of a letter, of the width of a layout, so that labels of 40 letters do not overlap


class LayoutView:
    """One layout under a root node. Several can stand side by side."""

    def __init__(
        self,
        scene: viser.SceneApi,
        visuals: SceneVisuals,
        layout: Layout,
        root: str = "/layout",
        offset: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        """Draw the layout without its dynamic bodies.

        Args:
            scene: viser's.
            visuals: of the layout's scene.
            layout: to draw.
            root: name of the root node.
            offset: x and y of the root [m].
        """
        self._scene, self._visuals, self._layout, self.root = scene, visuals, layout, root
        self._frame = scene.add_frame(root, show_axes=False, position=(*offset, 0.0))
        self._nodes: list[tuple[np.ndarray, viser.BatchedGlbHandle]] = []  # each with the indices of its bodies
        self._link_handles: list[viser.GlbHandle] = []
        x, y, width, depth = get_floor_area(layout)
        position = (x + width / 2, y + depth / 2, 0.0)
        image = visuals.draw_floor(layout)
        scene.add_image(f"{root}/floor", image, width, depth, format="png", position=position, wxyz=FLAT, cast_shadow=False)
        if surface := visuals.make_surface(layout):
            self._add_mesh("surface", make_trimesh(surface))
        static = layout.static_bodies
        for number, (pose, half, kind) in enumerate(zip(static.pose, static.half_extents, static.kind, strict=True)):
            handle = self._add_mesh(f"static/{number}", make_trimesh(visuals.make_static_body(Kind(int(kind)), half, number)))
            handle.position, handle.wxyz = pose[:3], convert_to_wxyz(pose[3:])
        self._belts = [self._add_belt_marks(int(number)) for number in np.flatnonzero(static.kind == Kind.BELT)]

    def add_bodies(self, half_extents: np.ndarray, poses: np.ndarray, link_visuals: Sequence[LinkVisual] = ()) -> None:
        """Draw dynamic bodies and the robot's links.

        Equal bodies are one node of the page: sixty bodies cost little more than one.

        Args:
            half_extents: (M, 3) half extents of the bodies [m].
            poses: (M, 7) position [m] and quaternion xyzw of the bodies.
        """
        groups: dict[Primitives, list[int]] = {}
        for body, half in enumerate(np.asarray(half_extents, float)):
            groups.setdefault(self._visuals.make_body(self._layout, body, half), []).append(body)
        for primitives, indices in groups.items():
            path = f"{self.root}/dynamic/{indices[0]}"
            positions = np.zeros((len(indices), 3))
            wxyzs = np.tile((1.0, 0, 0, 0), (len(indices), 1))
            node = self._scene.add_batched_meshes_trimesh(
                path, make_trimesh(primitives), wxyzs, positions, lod="off", cast_shadow=False
            )
            self._nodes.append((np.array(indices), node))
        self._link_handles += [self._add_mesh(f"links/{visual.link}", load_link_mesh(visual.mesh)) for visual in link_visuals]
        self.set_poses(poses)

    def _add_belt_marks(self, number: int) -> tuple[viser.BatchedGlbHandle, np.ndarray, np.ndarray]:
        """Draw stripes across a belt, which move with its surface."""
        static = self._layout.static_bodies
        length, width, height = static.half_extents[number]
        count = max(2, round(2 * length / BELT_MARK_SPACING_M))
        stripe = make_trimesh((Primitive("box", (0.01, 1.9 * width, 0.002), BELT_MARK_COLOUR),))
        wxyzs = np.tile(convert_to_wxyz(static.pose[number, 3:]), (count, 1))
        path = f"{self.root}/belt/{number}"
        node = self._scene.add_batched_meshes_trimesh(path, stripe, wxyzs, np.zeros((count, 3)), lod="off", cast_shadow=False)
        direction = rotate_in_space(np.array([1.0, 0.0, 0.0]), static.pose[number, 3:])
        start = static.pose[number, :3] + (0, 0, height) - length * direction
        belt = node, start, 2 * length * direction
        self._move_belt(belt, float(static.twist[number, :3] @ direction), 0.0)
        return belt

    @staticmethod
    def _move_belt(belt: tuple[viser.BatchedGlbHandle, np.ndarray, np.ndarray], speed_m_s: float, time_s: float) -> None:
        node, start, extent = belt
        count = len(node.batched_positions)
        shares = np.mod(np.arange(count) / count + speed_m_s * time_s / np.linalg.norm(extent), 1)
        node.batched_positions = (start + shares[:, None] * extent).astype(np.float32)

    def move_belts(self, time_s: float) -> None:
        """Move the stripes on belts to a time since the start of the episode."""
        static = self._layout.static_bodies
        for belt, number in zip(self._belts, np.flatnonzero(static.kind == Kind.BELT), strict=True):
            direction = belt[2] / np.linalg.norm(belt[2])
            self._move_belt(belt, float(static.twist[number, :3] @ direction), time_s)

    def set_poses(self, poses: np.ndarray, link_poses: np.ndarray | None = None, present: np.ndarray | None = None) -> None:
        """Move dynamic bodies and the robot's links.

        Args:
            poses: (M, 7) position [m] and quaternion xyzw of the bodies.
            link_poses: (V, 7) poses of the links; None: the links stay.
            present: (M,) bodies that exist; None: all. Others are moved out of sight.
        """
        poses = np.array(poses, np.float32)
        if present is not None:
            poses[~present.astype(bool), 2] = OUT_OF_SIGHT_M
        for indices, node in self._nodes:
            node.batched_positions = poses[indices, :3]
            node.batched_wxyzs = convert_to_wxyz(poses[indices, 3:])
        for handle, link_pose in zip(self._link_handles, () if link_poses is None else link_poses, strict=False):
            handle.position, handle.wxyz = link_pose[:3], convert_to_wxyz(link_pose[3:])

    def add_label(self, text: str, spacing_m: float) -> viser.LabelHandle:
        """Add a label behind the hall. Its size in metres is the same in videos of any size."""
        hall = self._layout.hall
        path = f"{self.root}/label"
        size_m = LABEL_HEIGHT_SHARE * spacing_m
        position = (hall.x + hall.width / 2, hall.y + hall.depth, self._visuals.view.label_height_m)
        return self._scene.add_label(
            path, text, position=position, font_size_mode="scene", font_scene_height=size_m, anchor="bottom-center"
        )

    def remove(self) -> None:
        """Remove everything under the root."""
        self._frame.remove()

    def _add_mesh(self, name: str, mesh: trimesh.Trimesh) -> viser.GlbHandle:
        return self._scene.add_mesh_trimesh(f"{self.root}/{name}", mesh, cast_shadow=False)


def configure_lights_and_camera(
    server: viser.ViserServer,
    view: ViewSettings,
    layout: Layout,
    width: float | None = None,
    window_size: tuple[int, int] = DEFAULT_WINDOW_SIZE,
) -> None:
    """Set the initial camera in front of a layout.

    Args:
        server: whose clients begin with this camera.
        view: of the layout's scene.
        layout: the first one, at x = 0.
        width: of all layouts in a row [m]; None: of the one.
        window_size: width and height of the browser's window.
    """
    hall = layout.hall
    width = width or hall.width
    view_size_m = max(window_size[1] / window_size[0] * width, hall.depth)
    centre = np.array([hall.x + width / 2, hall.y + hall.depth / 2, view.centre_height_m])
    offset = np.array(view.camera_offset) * (hall.width / width, 1.0, 1.0)  # the camera faces a row from its front
    server.scene.set_up_direction("+z")
    server.scene.configure_default_lights(cast_shadow=False)
    server.initial_camera.look_at = centre
    server.initial_camera.position = centre + view_size_m * offset
    server.initial_camera.fov = np.deg2rad(50)


def convert_to_wxyz(quaternion: np.ndarray) -> np.ndarray:
    """Convert quaternions to the order of viser.

    Args:
        quaternion: (..., 4) xyzw.

    Returns:
        (..., 4) wxyz.
    """
    return quaternion[..., [3, 0, 1, 2]]
