"""A differential-drive base: a cylinder on the floor plane that drives forward and turns, and cannot slide sideways."""

import math
from dataclasses import dataclass, field

import numpy as np

from sim.bodies import Shape
from sim.bullet import pybullet
from sim.robots import MOTOR_HZ, Motion, Visual


@dataclass(frozen=True)
class DriveLimits:
    """What the drive can do; an action in [-1, 1]² scales the two speeds."""

    speed_m_s: float = 0.8
    turn_rad_s: float = 1.5
    acceleration_m_s2: float = 2.0
    turn_acceleration_rad_s2: float = 6.0
    force_n: float = 160.0  # traction of a 40 kg base with rubber wheels (friction about 0.4)
    torque_nm: float = 40.0


@dataclass
class DifferentialDrive:
    """Two prismatic joints and a hinge with velocity motors of limited force: contacts push back on it.

    The speed asked for grows from the speed measured, at most by the acceleration limit, so the base's pose and twist are
    its whole state. Friction of the wheels against sliding sideways is the same limited motor force. The motors pull along the
    world's axes, each with as much as `force_n`: against a wall that stands across both the base presses up to √2 times as hard.
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
        self.visuals: tuple[Visual, ...] = ()  # the viewer's own AMR
        self.action_limits = np.array([(self.limits.speed_m_s, 0.0), (0.0, 0.0), (0.0, self.limits.turn_rad_s)])

    def spawn(self, client: int) -> None:
        """Build the robot at the world's origin."""
        shape = pybullet.createCollisionShape(
            pybullet.GEOM_CYLINDER, radius=self.radius_m, height=self.height_m, physicsClientId=client
        )
        look = pybullet.createVisualShape(
            pybullet.GEOM_CYLINDER,
            radius=self.radius_m,
            length=self.height_m,
            rgbaColor=[0.15, 0.35, 0.75, 1],
            physicsClientId=client,
        )
        nose = pybullet.createVisualShape(
            pybullet.GEOM_BOX,
            halfExtents=[0.08, 0.04, 0.02],
            rgbaColor=[1, 0.8, 0.1, 1],
            visualFramePosition=[0.2, 0, self.height_m / 2],
            physicsClientId=client,
        )
        none, origin, upright = [-1] * 4, [[0, 0, 0]] * 4, [[0, 0, 0, 1]] * 4
        self._motion: Motion | None = None
        kinds = [pybullet.JOINT_PRISMATIC, pybullet.JOINT_PRISMATIC, pybullet.JOINT_REVOLUTE, pybullet.JOINT_FIXED]
        self._client = client
        self.body = pybullet.createMultiBody(
            baseMass=0,
            basePosition=[0, 0, self.centre_z_m],
            linkMasses=[0.1, 0.1, self.mass_kg, 0.01],
            linkCollisionShapeIndices=[-1, -1, shape, -1],
            linkVisualShapeIndices=[*none[:2], look, nose],
            linkPositions=origin,
            linkOrientations=upright,
            linkInertialFramePositions=origin,
            linkInertialFrameOrientations=upright,
            linkParentIndices=[0, 1, 2, 3],
            linkJointTypes=kinds,
            linkJointAxis=[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]],
            physicsClientId=client,
        )
        for link in range(3):
            pybullet.changeDynamics(
                self.body,
                link,
                lateralFriction=self.friction,
                linearDamping=0,
                angularDamping=0,
                jointDamping=0,
                physicsClientId=client,
            )

    def place(self, pose: np.ndarray, twist: np.ndarray) -> None:
        """Set pose (7,) and twist (6,), world frame."""
        yaw = 2 * math.atan2(pose[5], pose[6])
        for joint, (position, speed) in enumerate([(pose[0], twist[0]), (pose[1], twist[1]), (yaw, twist[5])]):
            pybullet.resetJointState(self.body, joint, float(position), float(speed), physicsClientId=self._client)
        self._motion = None

    def motion(self) -> Motion:
        """((x, y, yaw), (vx, vy, yaw rate)), world frame; read once between two commands."""
        if self._motion is None:
            x, y, yaw = pybullet.getJointStates(self.body, (0, 1, 2), self._client)
            self._motion = (x[0], y[0], yaw[0]), (x[1], y[1], yaw[1])
        return self._motion

    def drive(self, forward: float, turn: float) -> None:
        """One tick of the drive's controller towards a forward and a turning speed, both in [-1, 1]."""
        self.command(self.wanted(forward, turn))

    def wanted(self, forward: float, turn: float) -> tuple[float, float, float]:
        """The velocity (vx, vy, yaw rate), world frame, that the motors are asked for in this tick."""
        (_, _, yaw), (vx, vy, turning) = self.motion()
        limits, tick = self.limits, 1 / MOTOR_HZ
        c, s = math.cos(yaw), math.sin(yaw)
        step = limits.acceleration_m_s2 * tick
        now = vx * c + vy * s
        speed = now + min(step, max(-step, forward * limits.speed_m_s - now))
        step = limits.turn_acceleration_rad_s2 * tick
        turning += min(step, max(-step, turn * limits.turn_rad_s - turning))
        return speed * c, speed * s, turning

    def links(self) -> np.ndarray:
        return np.zeros((0, 7))

    def faults(self) -> dict[str, bool]:
        return {}

    def command(self, velocity: tuple[float, ...]) -> None:
        """Set the motors, until the next command."""
        self._motion = None
        pybullet.setJointMotorControlArray(
            self.body,
            (0, 1, 2),
            pybullet.VELOCITY_CONTROL,
            targetVelocities=velocity,
            forces=(self.limits.force_n, self.limits.force_n, self.limits.torque_nm),
            physicsClientId=self._client,
        )
