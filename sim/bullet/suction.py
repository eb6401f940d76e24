"""A suction gripper: a constraint between a tool and a carton that fails by force and by moment.

Bullet's constraints never let a carton go, because `maxForce` limits force and moment by the same
number along each axis. This module reads the load of the constraint after each physics step and
releases the carton as a rigid pad of cups would.
"""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from sim.bullet.client import BulletClient
from sim.utils.errors import GroundError

MAX_CONSTRAINT_FORCE_N = 1e6  # Bullet's own limit stays far above the vacuum's
NUM_AVERAGED_STEPS = 4  # a seal does not open within a single physics step


@dataclass(frozen=True)
class SuctionSpec:
    """Equal cups on a circle, pressed on a face by the vacuum.

    The pad is rigid. Loads act about the centre of the cups' plane. The pad tips about the edge
    of its cups: lever_m is the distance of the edge in the weakest direction.
    """

    cup_radius_m: float = 0.02
    num_cups: int = 4
    circle_radius_m: float = 0.04  # of the cups' centres
    vacuum_force_n: float = 40.0  # of one cup: pressure difference × area
    friction: float = 0.5  # of the cups' lips

    def __post_init__(self) -> None:
        if self.num_cups < 1 or min(self.cup_radius_m, self.vacuum_force_n, self.friction) <= 0 or self.circle_radius_m < 0:
            raise GroundError(f"suction gripper: cups, radius, vacuum force and friction must be positive: {self}")

    @property
    def force_n(self) -> float:
        """Force that pulls the pad off a face at its centre."""
        return self.num_cups * self.vacuum_force_n

    @property
    def lever_m(self) -> float:
        """Distance from the pad's centre to the edge about which it tips."""
        circle_radius = self.circle_radius_m if self.num_cups > 1 else 0.0
        return circle_radius * math.cos(math.pi / self.num_cups) + self.cup_radius_m

    @property
    def peel_moment_nm(self) -> float:
        """Moment that tips the pad off a face without a pull."""
        return self.force_n * self.lever_m

    def compute_load_share(self, wrench: np.ndarray) -> np.ndarray:
        """Compute the share of the gripper's capacity that a load takes; above 1 the seal opens.

        The pull F lowers what presses the pad on the face. The pad slips as in Coulomb's law, and
        tips where the moment of the remaining force about its edge is exceeded.

        Args:
            wrench: (..., 6) as of `SuctionGripper.read_wrench`.

        Returns:
            (...) share of the capacity.
        """
        shear = np.hypot(wrench[..., 0], wrench[..., 1])
        bending = np.hypot(wrench[..., 3], wrench[..., 4])
        mean_radius = math.hypot(self.cup_radius_m, self.circle_radius_m if self.num_cups > 1 else 0.0)
        slip = (shear + np.abs(wrench[..., 5]) / mean_radius) / self.friction
        return (wrench[..., 2] + np.maximum(slip, bending / self.lever_m)) / self.force_n


class SuctionGripper:
    """Cups on a link of a multibody.

    Call `update` after each physics step. The tool needs at least 1/20 of the mass of its load:
    a lighter tool sags.
    """

    def __init__(
        self,
        client: BulletClient,
        body: int,
        link: int = -1,
        cup_position: tuple[float, float, float] = (0.0, 0.0, 0.0),
        cup_quaternion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 1.0),
        spec: SuctionSpec | None = None,
    ) -> None:
        """Describe the cups of a tool.

        Args:
            body: a multibody; Bullet refuses a rigid body as the parent of a constraint.
            link: link of the body; -1: the base.
            cup_position: centre of the cups' plane [m], in the link's frame.
            cup_quaternion: xyzw of the cups' frame in the link's frame; z points out of the cups.
        """
        self.spec = spec or SuctionSpec()
        self.carton: int | None = None
        self._client = client
        self.body = body
        self.link = link
        self._cup_in_link = (cup_position, cup_quaternion)
        self._constraint = -1
        self._wrenches: deque[np.ndarray] = deque(maxlen=NUM_AVERAGED_STEPS)

    def read_cup_pose(self) -> np.ndarray:
        """Read the pose of the cups' frame.

        Returns:
            (7,) position [m] and quaternion xyzw, world frame.
        """
        position, quaternion = self._locate_cups()
        return np.array([*position, *quaternion])

    def _locate_cups(self) -> tuple[list[float], list[float]]:
        _, link_pose = self._read_tool_poses()
        position, quaternion = self._client.multiplyTransforms(*link_pose, *self._cup_in_link)
        return position, quaternion

    def attach(self, carton: int) -> None:
        """Hold a carton as it lies now. The vacuum replaces contacts of tool and carton.

        Args:
            carton: Bullet's id of a body of one link.

        Raises:
            GroundError: the gripper holds a carton already.
        """
        if self.carton is not None:
            raise GroundError("suction gripper: release the carton before another one is attached")
        client = self._client
        cup = self.read_cup_pose().tolist()
        frames = []
        for pose in (self._read_tool_poses()[0], client.getBasePositionAndOrientation(carton)):
            frames.append(client.multiplyTransforms(*client.invertTransform(*pose), cup[:3], cup[3:]))
        (parent_position, parent_quaternion), (child_position, child_quaternion) = frames
        self._constraint = client.createConstraint(
            self.body, self.link, carton, -1, client.JOINT_FIXED, [0, 0, 0],
            parent_position, child_position, parent_quaternion, child_quaternion,
        )  # fmt: skip
        client.changeConstraint(self._constraint, maxForce=MAX_CONSTRAINT_FORCE_N)
        client.setCollisionFilterPair(self.body, carton, self.link, -1, 0)
        self.carton = carton

    def release(self) -> None:
        """Let the carton go, if there is one."""
        if self.carton is not None:
            self._client.removeConstraint(self._constraint)
            self._client.setCollisionFilterPair(self.body, self.carton, self.link, -1, 1)
            self.carton = None
            self._wrenches.clear()

    def read_wrench(self) -> np.ndarray:
        """Read the load of the carton on the cups in the last physics step.

        Returns:
            (6,) force [N] and moment [N m] about the centre of the cups' plane, in the cups' frame.
            A positive force along z pulls the carton off. Zeros without a carton.
        """
        if self.carton is None:
            return np.zeros(6)
        x, y, z, *moment = self._client.getConstraintState(self._constraint)
        # Bullet gives the force in the world's axes and the moment in those of the parent's frame.
        # Plain numbers: this runs in each physics step.
        axes = self._client.getMatrixFromQuaternion(self._locate_cups()[1])
        force = [axes[i] * x + axes[3 + i] * y + axes[6 + i] * z for i in range(3)]
        return np.array([*force, *moment])

    def update(self) -> bool:
        """Release the carton if the load of the last physics steps opens the seal.

        Returns:
            Whether the gripper holds a carton.
        """
        if self.carton is not None:
            self._wrenches.append(self.read_wrench())
            if self.spec.compute_load_share(np.mean(self._wrenches, axis=0)) > 1:
                self.release()
        return self.carton is not None

    def _read_tool_poses(self) -> list[tuple[list[float], list[float]]]:
        """Read the poses of the tool's centre of mass and of its link's frame."""
        client = self._client
        if self.link >= 0:
            state = client.getLinkState(self.body, self.link, 0, 1)
            return [state[0:2], state[4:6]]
        pose = client.getBasePositionAndOrientation(self.body)
        inertial = client.getDynamicsInfo(self.body, -1)[3:5]
        return [pose, client.multiplyTransforms(*pose, *client.invertTransform(*inertial))]
