"""The interfaces of a scene's physics: SceneWorld, and Skill for actions that are whole skills."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sim.bodies import Bodies
from sim.contacts import Contact
from sim.geometry.arrays import Array
from sim.layout import Layout
from sim.policy import SimState
from sim.sensors.appearance import Appearance
from sim.sensors.cameras import CameraImage, CameraView
from sim.variation import Variation

if TYPE_CHECKING:
    from sim.scenes.scene import Scene


@dataclass(frozen=True)
class MotionFrame:
    """One moment within a skill, for viewers."""

    time_s: float  # since the start of the episode
    pose: np.ndarray  # (M, 7) of the dynamic bodies
    link_poses: np.ndarray  # (V, 7) of the robot's meshes
    note: str = ""  # what the robot does


class SceneWorld(Protocol):
    """The physics of one episode at a time.

    Equal layouts, variations, seeds and actions give equal bytes.
    """

    def start_episode(
        self, scene: "Scene", layout: Layout, variation: Variation, seed: int, poses: np.ndarray | None = None
    ) -> tuple[Bodies, np.ndarray | None]:
        """Build a layout from an empty world, and place its bodies.

        Args:
            scene: gives robot, loads and traffic.
            layout: layout without faults.
            variation: physics of the episode.
            seed: seed of hidden random numbers, such as the behaviour of traffic.
            poses: (K, 3) x, y, yaw of the first K dynamic bodies instead of those of the layout.

        Returns:
            The M dynamic bodies, and their footprints (M, P, 4); None: each is one box.
        """

    def step(self, action: tuple[float, ...], duration_s: float) -> None:
        """Simulate a control step, or a whole skill.

        Args:
            action: n numbers in [-1, 1].
            duration_s: control step; a skill takes the time that it needs.
        """

    def read_dynamic_bodies(self) -> tuple[list[list[float]], list[list[float]]]:
        """Read poses (M × 7) and twists (M × 6) of the dynamic bodies."""

    def read_present(self) -> Sequence[bool] | None:
        """Read which of the M dynamic bodies exist now; None: all."""

    def read_measured_inertia(self) -> np.ndarray | None:
        """Read mass [kg] and centre of mass [m] in the body's frame, as the robot measured them.

        Returns:
            (M, 4), zeros where unknown; None in scenes without this measurement.
        """

    def read_state(self) -> SimState:
        """Read the whole state between two steps."""

    def set_state(self, state: SimState) -> None:
        """Set the state, after `start_episode` with the same layout, variation and seed."""

    def restore_episode(self, scene: "Scene", layout: Layout, variation: Variation, seed: int, state: SimState) -> None:
        """Build a layout from an empty world, and set a state."""

    def read_contacts(self) -> list[Contact]:
        """Read the contacts of the last control step."""

    def read_violations(self) -> dict[str, bool]:
        """Read the violations that poses and contacts do not show, by kind; always the same kinds."""

    def read_outcome(self) -> bool | None:
        """Read whether the final test of the episode has been passed; None: it has not ended."""

    def read_time_s(self) -> float:
        """Read the simulated time since the start of the episode."""

    def read_link_poses(self) -> np.ndarray:
        """Read the poses (V, 7) of the frames of the robot's `visuals`."""

    def read_frames(self) -> list[MotionFrame]:
        """Read the motion within the last skill; empty where a step is a control step."""

    def apply_appearance(self, appearance: Appearance) -> None:
        """Change colours, textures and light of images, until the next episode."""

    def render(self, view: CameraView, width: int, height: int) -> CameraImage:
        """Render a camera image; its `body` is the index among dynamic and static bodies."""

    def close(self) -> None:
        """Free the physics server."""


class Skill(Protocol):
    """The intended effect of actions that are whole skills."""

    num_features: int  # F
    test_features: tuple[float, ...] | None  # (F,) of the final test, in which no body is moved; None: no test

    def compute_nominal(self, bodies: Bodies, action: Array) -> tuple[Array, Array]:
        """Compute where a skill leaves all bodies if nothing slips or falls.

        Args:
            bodies: (..., N) as in an observation.
            action: (..., n) in [-1, 1].

        Returns:
            poses: (..., N, 7) of all bodies [m, quaternion xyzw].
            features: (..., F) of the action, such as its speed.
        """
