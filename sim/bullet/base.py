"""BulletWorld: the parts of a scene's physics that all scenes share: contacts and camera images."""

import itertools
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from sim.bodies import Bodies
from sim.bullet.client import BulletClient
from sim.contacts import Contact
from sim.layout import Layout
from sim.policy import SimState
from sim.robots.robot import LinkVisual
from sim.sensors.appearance import Appearance, Material
from sim.sensors.cameras import BACKGROUND, FLOOR, CameraImage, CameraView
from sim.variation import Variation
from sim.world import MotionFrame

if TYPE_CHECKING:
    from sim.scenes.scene import Scene

Pair = tuple[int, int]
ContactSample = dict[Pair, tuple[float, Any, Any]]  # force [N], point and normal


class BulletWorld:
    """A Bullet client with dynamic and static bodies; base of every scene's world.

    Subclasses call `start_build` first, then create bodies, and set the attributes.

    Attributes:
        visuals: meshes of the robot's links.
        loads: Bullet's ids of the loads.
        static: ids of the static bodies.
        floor: id of the floor.
    """

    visuals: tuple[LinkVisual, ...] = ()

    def __init__(self, gui: bool = False) -> None:
        """Connect to a physics server.

        Args:
            gui: open Bullet's own window.
        """
        self._client = BulletClient(gui)
        self.close = self._client.close
        self._index: dict[int, int] = {}  # from Bullet's ids to rows: dynamic bodies, then static ones
        self._dynamic_count = 0
        self._loads: list[int] = []
        self._static: list[int] = []
        self._floor = -1
        self._start_images()

    def _start_images(self) -> None:
        """Forget the materials of the last build."""
        self._samples: list[ContactSample] = []  # one per physics step of the last control step
        self._light: dict[str, Any] = {}
        self._link_bodies: list[int] | None = None  # created with the first image

    def start_episode(
        self, scene: "Scene", layout: Layout, variation: Variation, seed: int, poses: np.ndarray | None = None
    ) -> tuple[Bodies, np.ndarray | None]:
        """Build a layout, and place its bodies, as `SceneWorld` describes."""
        raise NotImplementedError

    def set_state(self, state: SimState) -> None:
        """Set the state, as `SceneWorld` describes."""
        raise NotImplementedError

    def restore_episode(self, scene: "Scene", layout: Layout, variation: Variation, seed: int, state: SimState) -> None:
        """Build a layout from an empty world, and set a state."""
        self.start_episode(scene, layout, variation, seed)
        self.set_state(state)

    def read_present(self) -> list[bool] | None:
        """Return None: all bodies exist from the start."""
        return None

    def read_measured_inertia(self) -> np.ndarray | None:
        """Return None: the robot does not weigh bodies."""
        return None

    def read_outcome(self) -> bool | None:
        """Return None: there is no final test."""
        return None

    def read_frames(self) -> list[MotionFrame]:
        """Return an empty list: a step is a control step."""
        return []

    def read_link_poses(self) -> np.ndarray:
        """Read the poses (V, 7) of the frames of `visuals`."""
        raise NotImplementedError

    def read_contacts(self) -> list[Contact]:
        """Read the contacts of dynamic bodies, except with the floor.

        Returns:
            A contact for each pair of bodies: now, or in the last control period if forces are
            averaged.
        """
        samples = self._samples or [self._sample_contacts()]
        means: ContactSample = {}
        for sample in samples:
            for pair, (force, point, normal) in sample.items():
                force_sum = means[pair][0] if pair in means else 0.0
                means[pair] = force_sum + force / len(samples), point, normal
        count = self._dynamic_count
        return [Contact(a, b, b >= count, force, point, normal) for (a, b), (force, point, normal) in means.items()]

    def _sample_contacts(self) -> ContactSample:
        """Read the force of each pair in contact now, with a point and normal of the contact."""
        sample: ContactSample = {}
        for contact in self._client.getContactPoints():
            a, b = self._index.get(contact[1]), self._index.get(contact[2])
            if a is not None and b is not None:
                pair = (a, b) if a < b else (b, a)
                force = contact[9] + (sample[pair][0] if pair in sample else 0.0)
                normal = contact[7] if pair[0] == a else tuple(-part for part in contact[7])
                sample[pair] = force, contact[6], normal
        return sample

    def apply_appearance(self, appearance: Appearance) -> None:
        """Change colours, textures and light of images, until the next `build`."""
        materials = [(self._floor, appearance.floor), *((body, appearance.load) for body in self._loads)]
        materials += zip(self._static, itertools.cycle(appearance.static))
        # Bullet keeps every texture file in its cache, even after `build`; meshes are to stay there
        self._client.setPhysicsEngineParameter(enableFileCaching=0)
        for body, material in materials:
            self._apply_material(body, material)
        self._client.setPhysicsEngineParameter(enableFileCaching=1)
        self._light = appearance.light

    def _apply_material(self, body: int, material: Material) -> None:
        """Set colour and texture of a body and all its links."""
        changes: dict[str, Any] = {"rgbaColor": (*material.colour, 1.0)}
        if material.texture is not None:
            # by way of a file, as Bullet needs
            with tempfile.NamedTemporaryFile(suffix=".png") as file:
                Image.fromarray(material.texture).convert("RGB").save(file, "PNG", compress_level=1)
                file.flush()
                changes["textureUniqueId"] = self._client.loadTexture(file.name)  # until `build`
        for link in range(-1, self._client.getNumJoints(body)):
            self._client.changeVisualShape(body, link, **changes)

    def _update_link_bodies(self) -> None:
        """Move the bodies that draw the robot's links; they have no collision shapes."""
        client = self._client
        if self._link_bodies is None:
            meshes = [str(visual.coarse_mesh) for visual in self.visuals]
            shapes = [client.createVisualShape(client.GEOM_MESH, fileName=mesh) for mesh in meshes]
            self._link_bodies = [client.createMultiBody(0, -1, shape, useMaximalCoordinates=True) for shape in shapes]
            self._index |= dict.fromkeys(self._link_bodies, 0)
        for body, pose in zip(self._link_bodies, self.read_link_poses().tolist(), strict=True):
            client.resetBasePositionAndOrientation(body, pose[:3], pose[3:])

    def render(self, view: CameraView, width: int, height: int) -> CameraImage:
        """Render a camera image.

        Returns:
            An image whose `body` is the index among dynamic and static bodies.
        """
        self._update_link_bodies()
        client = self._client
        near, far = view.near_m, view.far_m
        eye = client.computeViewMatrix(view.eye, view.target, view.up)
        lens = client.computeProjectionMatrixFOV(view.fov_deg, width / height, near, far)
        image = client.getCameraImage(width, height, eye, lens, renderer=client.ER_TINY_RENDERER, **self._light)
        # PyBullet built without numpy gives flat tuples.
        rgba, buffer, body_ids = (np.reshape(values, (height, width, -1)) for values in image[2:])
        depth = far * near / (far - (far - near) * buffer[..., 0])
        indices = np.full(2 + max(self._index), FLOOR, np.int16)  # by body id; -1: no body
        indices[-1] = BACKGROUND
        indices[list(self._index)] = list(self._index.values())
        return CameraImage(rgba[..., :3].astype(np.uint8), depth.astype(np.float32), indices[body_ids[..., 0]])
