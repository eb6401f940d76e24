"""A differential-drive base: a cylinder that drives and turns, and cannot slide sideways."""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sim.actions import ActionSpec
from sim.bodies import Shape
from sim.robots.robot import MOTOR_HZ, UNDAMPED, LinkVisual, RobotState
from sim.variation import Variation

if TYPE_CHECKING:
    from sim.bullet.client import BulletClient


@dataclass(frozen=True)
class DriveLimits:
    """Limits of the drive. An action in [-1, 1]² scales the two speeds."""

    speed_m_s: float = 0.8
    turn_rad_s: float = 1.5
    acceleration_m_s2: float = 2.0
    turn_acceleration_rad_s2: float = 6.0
    force_n: float = 160.0  # traction of a 40 kg base with rubber wheels (friction about 0.4)
    torque_nm: float = 40.0


@dataclass
class DifferentialDrive:
    """Two prismatic joints and a hinge with velocity motors of limited force.

    Contacts can push the base back. The commanded speed starts from the measured speed and
    changes at most by the acceleration limit. Pose and twist are therefore the whole state.

    The limited motor force also acts as the wheels' friction against sliding sideways. The motors
    act along the world's axes, each with up to `force_n`. Against a wall diagonal to both axes,
    the base presses up to √2 times as hard.
    """

    limits: DriveLimits = field(default_factory=DriveLimits)
    radius_m: float = 0.3
    height_m: float = 0.25
    mass_kg: float = 40.0
    friction: float = 0.5
    shape = Shape.CYLINDER

    def __post_init__(self) -> None:
        self.half_extents = (self.radius_m, self.radius_m, self.height_m / 2)
        self.centre_z_m = self.height_m / 2 + 0.03
        self.visuals: tuple[LinkVisual, ...] = ()  # the viewer draws an AMR
        self.action_spec = ActionSpec(("forward", "turn"), (self.limits.speed_m_s, self.limits.turn_rad_s))
        self._state: RobotState | None = None

    def spawn(self, client: "BulletClient") -> None:
        self._client = client
        self._state = None
        shape = client.createCollisionShape(client.GEOM_CYLINDER, radius=self.radius_m, height=self.height_m)
        blue = [0.15, 0.35, 0.75, 1]
        hull = client.createVisualShape(client.GEOM_CYLINDER, radius=self.radius_m, length=self.height_m, rgbaColor=blue)
        nose_pose = {"halfExtents": [0.08, 0.04, 0.02], "visualFramePosition": [0.2, 0, self.height_m / 2]}
        nose = client.createVisualShape(client.GEOM_BOX, rgbaColor=[1, 0.8, 0.1, 1], **nose_pose)
        origins = [[0, 0, 0]] * 4
        rotations = [[0, 0, 0, 1]] * 4
        slide = client.JOINT_PRISMATIC
        self.body = client.createMultiBody(
            baseMass=0,
            basePosition=[0, 0, self.centre_z_m],
            linkMasses=[0.1, 0.1, self.mass_kg, 0.01],
            linkCollisionShapeIndices=[-1, -1, shape, -1],
            linkVisualShapeIndices=[-1, -1, hull, nose],
            linkPositions=origins,
            linkOrientations=rotations,
            linkInertialFramePositions=origins,
            linkInertialFrameOrientations=rotations,
            linkParentIndices=[0, 1, 2, 3],
            linkJointTypes=[slide, slide, client.JOINT_REVOLUTE, client.JOINT_FIXED],
            linkJointAxis=[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]],
        )
        for link in range(3):
            client.changeDynamics(self.body, link, lateralFriction=self.friction, **UNDAMPED)

    def set_state(self, pose: np.ndarray, twist: np.ndarray) -> None:
        yaw = 2 * math.atan2(pose[5], pose[6])
        for joint, (position, speed) in enumerate([(pose[0], twist[0]), (pose[1], twist[1]), (yaw, twist[5])]):
            self._client.resetJointState(self.body, joint, float(position), float(speed))
        self._state = None

    def read_state(self) -> RobotState:
        if self._state is None:
            (x, vx, *_), (y, vy, *_), (self._yaw, rate, *_) = self._client.getJointStates(self.body, (0, 1, 2))
            pose = [x, y, self.centre_z_m, 0.0, 0.0, math.sin(self._yaw / 2), math.cos(self._yaw / 2)]
            self._state = pose, [vx, vy, 0.0, 0.0, 0.0, rate]
        return self._state

    def compute_command(self, action: tuple[float, ...]) -> tuple[float, ...]:
        """Compute the motor speeds vx, vy and yaw rate, world frame, for an action."""
        forward, turn = action
        vx, vy, *_, rate = self.read_state()[1]
        limits = self.limits
        c, s = math.cos(self._yaw), math.sin(self._yaw)
        step = limits.acceleration_m_s2 * (1 / MOTOR_HZ)
        speed = vx * c + vy * s
        speed += min(step, max(-step, forward * limits.speed_m_s - speed))
        step = limits.turn_acceleration_rad_s2 * (1 / MOTOR_HZ)
        rate += min(step, max(-step, turn * limits.turn_rad_s - rate))
        return speed * c, speed * s, rate

    def set_motors(self, command: tuple[float, ...]) -> None:
        self._state = None
        client = self._client
        forces = (self.limits.force_n, self.limits.force_n, self.limits.torque_nm)
        client.setJointMotorControlArray(self.body, (0, 1, 2), client.VELOCITY_CONTROL, targetVelocities=command, forces=forces)

    def read_link_poses(self) -> np.ndarray:
        return np.zeros((0, 7))

    def read_limit_violations(self) -> dict[str, bool]:
        return {}


def make_drive(variation: Variation) -> DifferentialDrive:
    """Make the drive of an AMR with the speed limit of a variation."""
    return DifferentialDrive(DriveLimits(speed_m_s=variation.speed_limit_m_s))
