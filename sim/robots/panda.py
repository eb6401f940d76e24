"""A Franka Panda that holds a stick or paddle upright over a surface and moves it in the plane.

The arm is the URDF of the `pybullet_data` package. Its links have no collision shapes, because
only the stick comes near other bodies. The viewer and cameras draw its meshes.

Joint speeds follow from the tool's speed by the damped pseudo-inverse of the Jacobian (Nakamura &
Hanafusa 1986). A null-space task keeps the joints near the rest posture. The joints therefore
follow almost completely from the tool's pose and twist.
"""

import atexit
import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from sim.actions import ActionSpec
from sim.bodies import Shape
from sim.bullet.assets import DATA
from sim.robots.robot import MOTOR_HZ, UNDAMPED, LinkVisual, RobotState

if TYPE_CHECKING:
    from sim.bullet.client import BulletClient

ARM = DATA / "franka_panda" / "panda.urdf"
JOINTS = 7
REST_JOINTS_RAD = np.array([0.0, 0.55, 0.0, -2.0, 0.0, 2.55, 0.785])  # the tool is 0.5 m in front
LIMITS_RAD = np.array([[-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973],
                       [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]])  # fmt: skip
MAX_SPEEDS_RAD_S = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
MAX_TORQUES_NM = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
NEAR_LIMIT_RAD = 0.02
# Distances of the tool from the base at which no joint of the arm is at its limit, at table height.
TOOL_RANGE_M = (0.285, 0.8)
DAMPING = 1e-4 * np.eye(6)
MAX_IK_ITERATIONS = 60
MAX_IK_ERROR = 1e-7  # [m or rad] largest component of the tool's error after inverse kinematics
IK_POSTURE_GAIN = 0.1  # of the null-space task, per iteration
POSTURE_GAIN_PER_S = 2.0  # gain of the null-space task
TOOL_GAIN_PER_S = 10.0  # gain of the tool's height and tilt
TOOL_DOWN_QUATERNION = np.array([1.0, 0.0, 0.0, 0.0])  # xyzw, of the hand
STICK_TO_HAND_M = 0.03  # from the stick's upper end to the hand's frame

STICK_LINK_XML = """<link name="stick">
  <inertial><mass value="0.2"/><inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" izz="1e-4"/></inertial>
  <collision><geometry>{shape}</geometry></collision>
</link>"""
STICK_JOINT_XML = """<joint name="hold" type="fixed">
  <parent link="panda_hand"/><child link="stick"/><origin xyz="0 0 {middle}"/>
</joint>"""


@dataclass(frozen=True)
class ToolLimits:
    """Limits of the tool. An action in [-1, 1]² scales the speed along x and y."""

    speed_m_s: float = 0.25
    acceleration_m_s2: float = 1.5


@dataclass
class Panda:
    """Arm with a stick, or a paddle of the same thickness. The base is at the world's origin."""

    limits: ToolLimits = field(default_factory=ToolLimits)
    stick_radius_m: float = 0.015
    stick_length_m: float = 0.12
    friction: float = 0.4
    surface_z_m: float = 0.0  # height above which the tool moves
    paddle_width_m: float = 0.0  # along y; 0: a round stick
    zone: tuple[tuple[float, float], ...] = ()  # range of x and of y of the tool [m]; empty: no border

    def __post_init__(self) -> None:
        self.shape = Shape.BOX if self.paddle_width_m else Shape.CYLINDER
        self.half_extents = (self.stick_radius_m, self.paddle_width_m / 2 or self.stick_radius_m, self.stick_length_m / 2)
        self.centre_z_m = self.surface_z_m + self.stick_length_m / 2 + 0.004
        self.visuals = _load_visuals()
        self.action_spec = ActionSpec(("forward", "left"), (self.limits.speed_m_s,) * 2, zone=self.zone)
        self._state: RobotState | None = None
        self._link_state: tuple[Any, ...] = ()  # of the tool, when `_state` was read

    def spawn(self, client: "BulletClient") -> None:
        self._client = client
        self._state = None
        self.body = client.loadURDF(_write_urdf(*self.half_extents, self.shape), useFixedBase=True)
        links = range(client.getNumJoints(self.body))
        self._tool = links[-1]
        names = {client.getJointInfo(self.body, link)[12].decode(): link for link in links}
        self._visual_links = [names[visual.link] for visual in self.visuals[1:]]  # base: fixed
        for link in links:
            client.changeDynamics(self.body, link, lateralFriction=self.friction, **UNDAMPED)
        self._set_joints(REST_JOINTS_RAD, np.zeros(JOINTS))

    def set_state(self, pose: np.ndarray, twist: np.ndarray) -> None:
        """Set the tool's state, with joints from inverse kinematics.

        Inverse kinematics starts from the rest posture, so that equal poses give equal joints.

        Args:
            pose: (7,) of the tool; only x and y are used [m].
            twist: (6,) of the tool; only the velocities along x and y are used [m/s].
        """
        goal = np.array([pose[0], pose[1], self.centre_z_m])
        joints = REST_JOINTS_RAD.copy()
        for _ in range(MAX_IK_ITERATIONS):
            self._set_joints(joints, np.zeros(JOINTS))
            error = self._compute_tool_error(goal, self._client.getLinkState(self.body, self._tool, 0, 1))
            if np.abs(error).max() < MAX_IK_ERROR:
                break
            changes = self._solve_joint_speeds(joints, error, IK_POSTURE_GAIN * (REST_JOINTS_RAD - joints))
            joints = np.clip(joints + changes, *LIMITS_RAD)
        self._set_joints(joints, np.zeros(JOINTS))
        speeds = self._solve_joint_speeds(joints, np.array([*twist[:2], 0, 0, 0, 0]), np.zeros(JOINTS))
        self._set_joints(joints, speeds)
        self._state = None

    def read_state(self) -> RobotState:
        if self._state is None:
            self._link_state = state = self._client.getLinkState(self.body, self._tool, 1, 1)
            self._state = [*state[0][:2], self.centre_z_m, 0.0, 0.0, 0.0, 1.0], [*state[6][:2], 0.0, 0.0, 0.0, 0.0]
        return self._state

    def compute_command(self, action: tuple[float, ...]) -> tuple[float, ...]:
        """Compute the joint speeds (7,) [rad/s] from an action: the tool's speed along x and y."""
        (x, y, *_), (*velocity, _, _, _, _) = self.read_state()
        change = np.array(action) * self.limits.speed_m_s - velocity
        max_change = self.limits.acceleration_m_s2 / MOTOR_HZ
        twist = TOOL_GAIN_PER_S * self._compute_tool_error(np.array([x, y, self.centre_z_m]), self._link_state)
        twist[:2] = velocity + change * min(1.0, max_change / max(float(np.hypot(*change)), 1e-9))
        joints = self._read_joints()
        null_space_speeds = POSTURE_GAIN_PER_S * (REST_JOINTS_RAD - joints)
        return tuple(self._solve_joint_speeds(joints, twist, null_space_speeds).tolist())

    def set_motors(self, command: tuple[float, ...]) -> None:
        self._state = None
        motors = {"targetVelocities": command, "forces": MAX_TORQUES_NM}
        self._client.setJointMotorControlArray(self.body, range(JOINTS), self._client.VELOCITY_CONTROL, **motors)

    def read_link_poses(self) -> np.ndarray:
        states = self._client.getLinkStates(self.body, self._visual_links, 0, 1)
        return np.array([(0, 0, 0, 0, 0, 0, 1), *((*state[4], *state[5]) for state in states)])

    def read_limit_violations(self) -> dict[str, bool]:
        low, high = LIMITS_RAD
        joints = self._read_joints()
        return {"joint_limit": bool(((joints < low + NEAR_LIMIT_RAD) | (joints > high - NEAR_LIMIT_RAD)).any())}

    def read_joint_states(self) -> tuple[tuple[float, float], ...]:
        """Read the angle [rad] and speed [rad/s] of each joint."""
        return tuple((state[0], state[1]) for state in self._client.getJointStates(self.body, range(JOINTS)))

    def set_joint_states(self, states: tuple[tuple[float, float], ...]) -> None:
        """Set the joints to states as of `read_joint_states`."""
        self._set_joints(*np.array(states).T)
        self._state = None

    def _read_joints(self) -> np.ndarray:
        return np.array([state[0] for state in self._client.getJointStates(self.body, range(JOINTS))])

    def _set_joints(self, joints: np.ndarray, speeds: np.ndarray) -> None:
        for joint, (angle, speed) in enumerate(zip(joints.tolist(), speeds.tolist(), strict=True)):
            self._client.resetJointState(self.body, joint, angle, speed)

    def _compute_tool_error(self, goal: np.ndarray, state: tuple[Any, ...]) -> np.ndarray:
        """Compute the displacement (6,) [m, rad] of the tool to an upright pose at `goal` (3,).

        `state` is the tool's link state now.
        """
        x, y, z, w = self._client.getDifferenceQuaternion(state[1], TOOL_DOWN_QUATERNION.tolist())
        turn = 2 * np.array([x, y, z]) * (1 if w >= 0 else -1)
        return np.concatenate([goal - state[0], turn])

    def _solve_joint_speeds(self, joints: np.ndarray, twist: np.ndarray, null_space_speeds: np.ndarray) -> np.ndarray:
        """Solve for the joint speeds (7,) of a tool twist (6,) at joint angles (7,), within limits.

        `null_space_speeds` (7,) are joint speeds; their part that does not move the tool is added.
        """
        zeros = [0.0] * JOINTS
        linear, angular = self._client.calculateJacobian(self.body, self._tool, zeros[:3], joints.tolist(), zeros, zeros)
        jacobian = np.array([*linear, *angular])
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING)
        speeds = inverse @ twist + null_space_speeds - inverse @ (jacobian @ null_space_speeds)
        return np.asarray(speeds / max(1.0, float(np.abs(speeds / MAX_SPEEDS_RAD_S).max())))


def _parse_arm() -> ElementTree.Element:
    """Parse the arm's URDF up to its hand; the stick replaces the fingers."""
    robot = ElementTree.parse(ARM).getroot()
    for part in list(robot):
        if "finger" in part.get("name", "") or "grasptarget" in part.get("name", ""):
            robot.remove(part)
    return robot


@lru_cache(maxsize=1)
def _load_visuals() -> tuple[LinkVisual, ...]:
    """Load the meshes of the links, the base first. No mesh of this arm is offset or scaled."""
    arm = _parse_arm()
    names = [link.get("name", "") for link in arm.findall("link") if link.find("visual/geometry/mesh") is not None]
    fine_meshes, coarse_meshes = (
        [ARM.parent / mesh.get("filename", "")[len("package://") :] for mesh in arm.iterfind(f"link/{kind}/geometry/mesh")]
        for kind in ("visual", "collision")
    )
    return tuple(LinkVisual(*link) for link in zip(names, fine_meshes, coarse_meshes, strict=True))


@lru_cache(maxsize=4)
def _write_urdf(half_x: float, half_y: float, half_length: float, tool_shape: Shape) -> str:
    """Write a URDF file of the tool and of the arm without its visual and collision shapes."""
    robot = _parse_arm()
    for part in robot:
        for unused in [*part.findall("visual"), *part.findall("collision")]:
            part.remove(unused)
    box = f'<box size="{2 * half_x} {2 * half_y} {2 * half_length}"/>'
    shape = box if tool_shape == Shape.BOX else f'<cylinder radius="{half_x}" length="{2 * half_length}"/>'
    for text in (STICK_LINK_XML.format(shape=shape), STICK_JOINT_XML.format(middle=STICK_TO_HAND_M + half_length)):
        robot.append(ElementTree.fromstring(text))
    with tempfile.NamedTemporaryFile("wb", suffix=".urdf", delete=False) as file:
        ElementTree.ElementTree(robot).write(file)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return file.name
