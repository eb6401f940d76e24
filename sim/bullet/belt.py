"""A conveyor belt: a static box whose surface moves.

Bullet has no moving surfaces. The belt is a multibody of mass 0 that is put back in its place
before each physics step and then given the belt's velocity, so that contacts see a surface that
moves and a body that stays.
"""

from dataclasses import dataclass

import numpy as np

from sim.bullet.client import BulletClient
from sim.bullet.stacks import set_friction
from sim.geometry.rotations import yaw_to_quaternion
from sim.utils.errors import GroundError


@dataclass(frozen=True)
class BeltSpec:
    """A level belt, one box for the whole line: parts snag at seams of several boxes."""

    x: float  # centre [m]
    y: float
    top_z_m: float
    yaw: float  # of the direction of travel [rad]
    length_m: float
    width_m: float
    thickness_m: float = 0.1
    friction: float = 0.8  # against a part of equal friction

    def __post_init__(self) -> None:
        if min(self.length_m, self.width_m, self.thickness_m) <= 0 or self.friction < 0:
            raise GroundError(f"belt: length, width and thickness must be positive, friction not negative: {self}")


class ConveyorBelt:
    """A belt in a physics server. Call `drive` before each physics step.

    Bodies on it must not have friction anchors, which hold on to the place of the belt's body.
    """

    def __init__(self, client: BulletClient, spec: BeltSpec, speed_m_s: float = 0.0) -> None:
        """Create the belt.

        Args:
            speed_m_s: speed of the surface, which may be changed at any time; negative: backwards.
        """
        self.spec = spec
        self.speed_m_s = speed_m_s
        self._client = client
        self._direction = np.array([np.cos(spec.yaw), np.sin(spec.yaw), 0.0])
        self._pose = ([spec.x, spec.y, spec.top_z_m - spec.thickness_m / 2], yaw_to_quaternion(np.array(spec.yaw)).tolist())
        half = [spec.length_m / 2, spec.width_m / 2, spec.thickness_m / 2]
        shape = client.createCollisionShape(client.GEOM_BOX, halfExtents=half)
        visual = client.createVisualShape(client.GEOM_BOX, halfExtents=half, rgbaColor=(0.2, 0.2, 0.22, 1))
        self.body = int(client.createMultiBody(0, shape, visual, *self._pose))
        set_friction(client, self.body, spec.friction)

    def drive(self) -> None:
        """Set the belt's place and velocity for the next physics step."""
        self._client.resetBasePositionAndOrientation(self.body, *self._pose)  # this call sets the velocity to zero
        self._client.resetBaseVelocity(self.body, (self.speed_m_s * self._direction).tolist(), [0, 0, 0])

    def compute_travel(self, position: np.ndarray) -> np.ndarray:
        """Compute the distance of positions from the belt's start, along its direction.

        Args:
            position: (..., 3) [m], world frame.

        Returns:
            (...) distance [m]; above `spec.length_m`: beyond the end.
        """
        offset = position - np.array(self._pose[0])
        return offset @ self._direction + self.spec.length_m / 2
