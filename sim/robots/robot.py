"""The interface of robots: shape, controller, limits and meaning of an action."""

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
UNDAMPED = {"linearDamping": 0, "angularDamping": 0, "jointDamping": 0}  # for changeDynamics


@dataclass(frozen=True)
class LinkVisual:
    """Mesh that draws a robot's link, in the link's frame."""

    link: str
    mesh: Path
    coarse_mesh: Path  # for Bullet's slow renderer


class Robot(Protocol):
    """An upright base, or the tool of an arm, that actions in [-1, 1]ⁿ move."""

    half_extents: tuple[float, float, float]  # [m]
    shape: Shape
    centre_z_m: float  # height of the centre above the floor
    visuals: tuple[LinkVisual, ...]  # empty: the body itself is drawn
    action_spec: ActionSpec
    body: int  # Bullet's body id, once spawned

    def spawn(self, client: "BulletClient") -> None:
        """Build the robot at the world's origin."""

    def set_state(self, pose: np.ndarray, twist: np.ndarray) -> None:
        """Set the robot's state.

        Args:
            pose: (7,) position [m] and quaternion xyzw, world frame.
            twist: (6,) linear [m/s] and angular [rad/s] velocity, world frame.
        """

    def read_state(self) -> RobotState:
        """Read pose and twist; the state is cached until the next command."""

    def compute_command(self, action: tuple[float, ...]) -> tuple[float, ...]:
        """Compute the motor speeds of one controller tick, 1 / MOTOR_HZ, for an action."""

    def set_motors(self, command: tuple[float, ...]) -> None:
        """Set the motor speeds until the next command."""

    def read_link_poses(self) -> np.ndarray:
        """Read the poses of the frames of `visuals`.

        Returns:
            (V, 7) position [m] and quaternion xyzw, world frame.
        """

    def read_limit_violations(self) -> dict[str, bool]:
        """Read the violations of the robot's limits, by kind."""
