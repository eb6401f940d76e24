"""A KUKA LBR iiwa on a pedestal with a suction gripper that points down.

The arm is the URDF of the `pybullet_data` package, and moves by joint speed motors. Joint speeds
follow from the tool's speed by the damped pseudo-inverse of the Jacobian (Nakamura & Hanafusa
1986). A null-space task keeps the elbow upright.
"""

import atexit
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from sim.actions import ActionSpec
from sim.bodies import Shape
from sim.bullet.assets import DATA
from sim.robots.robot import UNDAMPED, LinkVisual, RobotState

if TYPE_CHECKING:
    from sim.bullet.client import BulletClient

ARM = DATA / "kuka_iiwa" / "model.urdf"
JOINTS = 7
PEDESTAL_M = 0.2  # height of the arm's base
LIMITS_RAD = np.array([2.967, 2.094, 2.967, 2.094, 2.967, 2.094, 3.054])
MAX_SPEEDS_RAD_S = np.array([1.71, 1.71, 1.75, 2.27, 2.44, 3.14, 3.14])
MAX_TORQUES_NM = (320.0, 320.0, 176.0, 176.0, 110.0, 40.0, 40.0)
UPRIGHT_ELBOW_RAD = np.array([0.0, 0.4, 0.0, -1.5, 0.0, 1.24, 0.0])  # the tool points down
POSTURE_GAIN_PER_S = 2.0
TOOL_GAIN_PER_S = 12.0
DAMPING = 1e-4
MAX_IK_ITERATIONS = 100
MAX_IK_ERROR = 1e-6  # [m or rad]
PAD_RADIUS_M = 0.055
PAD_HALF_HEIGHT_M = 0.01
PAD_TO_WRIST_M = 0.135  # from the frame of the last link to the middle of the pad
TOOL_MASS_KG = 0.6  # a lighter tool sags under 10 kg
COLLIDING_LINKS = ("lbr_iiwa_link_4", "lbr_iiwa_link_5", "lbr_iiwa_link_6", "lbr_iiwa_link_7")

TOOL_LINK_XML = f"""<link name="suction">
  <inertial><mass value="{TOOL_MASS_KG}"/><inertia ixx="1e-3" ixy="0" ixz="0" iyy="1e-3" iyz="0" izz="1e-3"/></inertial>
  <collision><geometry><cylinder radius="{PAD_RADIUS_M}" length="{2 * PAD_HALF_HEIGHT_M}"/></geometry></collision>
</link>"""
TOOL_JOINT_XML = f"""<joint name="hold" type="fixed">
  <parent link="lbr_iiwa_link_7"/><child link="suction"/><origin xyz="0 0 {PAD_TO_WRIST_M}"/>
</joint>"""


@dataclass
class Iiwa:
    """Arm with a suction gripper. The base is at x = y = 0."""

    action_spec: ActionSpec
    shape = Shape.CYLINDER
    half_extents = (PAD_RADIUS_M, PAD_RADIUS_M, PAD_HALF_HEIGHT_M)
    centre_z_m = 0.0

    def __post_init__(self) -> None:
        self.visuals = _load_visuals()

    def spawn(self, client: "BulletClient") -> None:
        """Build the arm in its home posture."""
        self._client = client
        self.body = client.loadURDF(_write_urdf(), basePosition=[0, 0, PEDESTAL_M], useFixedBase=True)
        links = range(client.getNumJoints(self.body))
        self.tool = links[-1]
        names = {client.getJointInfo(self.body, link)[12].decode(): link for link in links}
        self._visual_links = [names[visual.link] for visual in self.visuals[1:]]  # base: fixed
        for link in links:
            client.changeDynamics(self.body, link, **UNDAMPED)
        self.set_joint_states(tuple((float(angle), 0.0) for angle in UPRIGHT_ELBOW_RAD))

    def read_joint_states(self) -> tuple[tuple[float, float], ...]:
        """Read the angle [rad] and speed [rad/s] of each joint."""
        return tuple((state[0], state[1]) for state in self._client.getJointStates(self.body, range(JOINTS)))

    def set_joint_states(self, states: tuple[tuple[float, float], ...]) -> None:
        """Set the joints to states as of `read_joint_states`."""
        for joint, (angle, speed) in enumerate(states):
            self._client.resetJointState(self.body, joint, angle, speed)
        self.hold()

    def set_state(self, pose: np.ndarray, twist: np.ndarray) -> None:
        """Place the middle of the pad at a position, at rest, by inverse kinematics.

        Args:
            pose: (7,) position [m]; of the quaternion xyzw only the yaw is used.
            twist: unused.
        """
        joints = UPRIGHT_ELBOW_RAD.copy()
        joints[0] = np.arctan2(pose[1], pose[0])
        goal = np.array([*pose[:3], 2 * np.arctan2(pose[5], pose[6])])
        for _ in range(MAX_IK_ITERATIONS):
            self.set_joint_states(tuple((float(angle), 0.0) for angle in joints))
            error = self.compute_tool_error(goal)
            if np.abs(error).max() < MAX_IK_ERROR:
                break
            joints = np.clip(joints + self._solve_joint_speeds(error, joints), -LIMITS_RAD, LIMITS_RAD)

    def read_state(self) -> RobotState:
        """Read pose and twist of the pad; its frame is upright, turned by the tool's yaw."""
        state = self._client.getLinkState(self.body, self.tool, 1, 1)
        x, y, *_ = state[5]
        length = max(float(np.hypot(x, y)), 1e-9)  # 1 where the tool points down
        return [*state[4], 0.0, 0.0, -x / length, y / length], [*state[6], *state[7]]

    def follow(self, goal: np.ndarray, velocity: np.ndarray) -> None:
        """Set the motors so that the pad follows a moving goal.

        Args:
            goal: (4,) x, y, z [m] and yaw [rad] where the pad is to be now.
            velocity: (4,) of the goal [m/s, rad/s].
        """
        twist = TOOL_GAIN_PER_S * self.compute_tool_error(goal)
        twist[:3] += velocity[:3]
        twist[5] += velocity[3]
        joints = np.array([state[0] for state in self.read_joint_states()])
        speeds = self._solve_joint_speeds(twist, joints)
        self._set_speeds((speeds / max(1.0, float(np.abs(speeds / MAX_SPEEDS_RAD_S).max()))).tolist())

    def hold(self) -> None:
        """Stop all joints."""
        self._set_speeds([0.0] * JOINTS)

    def _set_speeds(self, speeds: list[float]) -> None:
        motors = {"targetVelocities": speeds, "forces": MAX_TORQUES_NM}
        self._client.setJointMotorControlArray(self.body, range(JOINTS), self._client.VELOCITY_CONTROL, **motors)

    def compute_tool_error(self, goal: np.ndarray) -> np.ndarray:
        """Compute the displacement (6,) [m, rad] of the pad to x, y, z, yaw of a goal."""
        state = self._client.getLinkState(self.body, self.tool, 0, 1)
        half = goal[3] / 2
        down = [-float(np.sin(half)), float(np.cos(half)), 0.0, 0.0]  # yaw, after half a turn about y
        x, y, z, w = self._client.getDifferenceQuaternion(state[5], down)
        turn = 2 * np.array([x, y, z]) * (1 if w >= 0 else -1)
        return np.concatenate([goal[:3] - state[4], turn])

    def _solve_joint_speeds(self, twist: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """Solve for the joint speeds (7,) of a tool twist (6,) that keep the elbow upright."""
        zeros = [0.0] * JOINTS
        linear, angular = self._client.calculateJacobian(self.body, self.tool, [0.0, 0.0, 0.0], joints.tolist(), zeros, zeros)
        jacobian = np.array([*linear, *angular])
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING * np.eye(6))
        posture = np.zeros(JOINTS)
        posture[2] = -POSTURE_GAIN_PER_S * joints[2]
        return np.asarray(inverse @ twist + posture - inverse @ (jacobian @ posture))

    def read_link_poses(self) -> np.ndarray:
        """Read the poses (V, 7) of the frames of `visuals`."""
        return self.make_link_poses(self.read_link_states())

    def read_link_states(self) -> list[Any]:
        """Read Bullet's states of the links of `visuals`."""
        return list(self._client.getLinkStates(self.body, self._visual_links, 0, 1))

    def make_link_poses(self, states: list[Any]) -> np.ndarray:
        """Make the poses (V, 7) of the frames of `visuals` from states of the links."""
        return np.array([(0, 0, PEDESTAL_M, 0, 0, 0, 1), *((*state[4], *state[5]) for state in states)])

    def compute_command(self, action: tuple[float, ...]) -> tuple[float, ...]:
        """Return no command: actions are skills, which the world carries out."""
        return ()

    def set_motors(self, command: tuple[float, ...]) -> None:
        """Do nothing: see `compute_command`."""

    def read_limit_violations(self) -> dict[str, bool]:
        """Return an empty dictionary: the world reports violations."""
        return {}


def _parse_arm() -> ElementTree.Element:
    return ElementTree.parse(ARM).getroot()


@lru_cache(maxsize=1)
def _load_visuals() -> tuple[LinkVisual, ...]:
    """List the meshes of the links, the base first; no mesh of this arm is offset or scaled."""
    names = [link.get("name", "") for link in _parse_arm().findall("link")]
    meshes = [ARM.parent / f"meshes/link_{number}" for number in range(len(names))]
    return tuple(
        LinkVisual(name, mesh.with_suffix(".obj"), mesh.with_suffix(".obj")) for name, mesh in zip(names, meshes, strict=True)
    )


@lru_cache(maxsize=1)
def _write_urdf() -> str:
    """Write a URDF file of the arm without visual shapes, with collision shapes near the tool."""
    robot = _parse_arm()
    for link in robot.findall("link"):
        for shape in [*link.findall("visual"), *link.findall("collision")]:
            mesh = shape.find("geometry/mesh")
            if shape.tag == "visual" or link.get("name") not in COLLIDING_LINKS or mesh is None:
                link.remove(shape)
            else:
                mesh.set("filename", str(ARM.parent / mesh.get("filename", "")))
    for text in (TOOL_LINK_XML, TOOL_JOINT_XML):
        robot.append(ElementTree.fromstring(text))
    with tempfile.NamedTemporaryFile("wb", suffix=".urdf", delete=False) as file:
        ElementTree.ElementTree(robot).write(file)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return file.name
