"""The interface of robots: shape, controller, limits, and what an action means."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from sim.actions import ActionSpec
from sim.bodies import Shape

if TYPE_CHECKING:
    from sim.bullet.client import BulletClient

MOTOR_HZ = 40.0  # rate of a robot's velocity controller
RobotState = tuple[list[float], list[float]]  # pose (7,) and twist (6,), world frame


@dataclass(frozen=True)
class LinkVisual:
    """The mesh that draws a robot's link, in the link's own frame."""

    link: str
    mesh: Path
    coarse_mesh: Path  # for Bullet's slow renderer


class Robot(Protocol):
    """A base, or the tool at the end of an arm, that moves as actions in [-1, 1]ⁿ command. It stays upright."""

    half_extents: tuple[float, float, float]  # [m]
    shape: Shape
    centre_z_m: float
    visuals: tuple[LinkVisual, ...]  # empty: the body itself is drawn
    action_spec: ActionSpec
    body: int  # Bullet's body id, once spawned

    def spawn(self, client: "BulletClient") -> None:
        """Build the robot at the world's origin."""

    def set_state(self, pose: np.ndarray, twist: np.ndarray) -> None:
        """Set pose (7,) [m, quaternion xyzw] and twist (6,) [m/s, rad/s], world frame."""

    def read_state(self) -> RobotState:
        """Read pose and twist; Bullet is asked once between two commands."""

    def compute_command(self, action: tuple[float, ...]) -> tuple[float, ...]:
        """Compute the motor speeds of one controller tick, of 1 / MOTOR_HZ, towards an action."""

    def set_motors(self, command: tuple[float, ...]) -> None:
        """Set the motor speeds until the next command."""

    def read_link_poses(self) -> np.ndarray:
        """Read the poses (V, 7) of the frames of `visuals`, world frame."""

    def read_faults(self) -> dict[str, bool]:
        """Read the violations of the robot's own limits, by kind."""
