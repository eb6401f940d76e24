"""A Franka Panda with a pusher: a stick that it holds upright over a table and moves in the table's plane.

The arm is the URDF of the `pybullet_data` package. Physics has it without its shapes, which would only cost time: nothing but
the stick comes near anything; a viewer and cameras draw its meshes. Joint speeds follow from the tool's speed by the damped
pseudo-inverse of the Jacobian (Nakamura & Hanafusa 1986), with the arm's posture as the secondary task, so that the tool's pose
and twist say nearly all of the state.
"""

import atexit
import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from sim.bodies import Shape
from sim.bullet import DATA, pybullet
from sim.robots import MOTOR_HZ, Motion, Visual

ARM = DATA / "franka_panda" / "panda.urdf"
JOINTS = 7
REST = np.array([0.0, 0.55, 0.0, -2.0, 0.0, 2.55, 0.785])  # [rad] with the tool half a metre in front
LIMITS_RAD = np.array([[-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973],
                       [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973]])  # fmt: skip
SPEEDS_RAD_S = np.array([2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61])
TORQUES_NM = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
NEAR_LIMIT_RAD = 0.02
REACH_M = (0.285, 0.8)  # of the tool from the base, at the height of a table: no joint is at its limit between (a test)
DAMPING = 1e-4
POSTURE_PER_S, HOLD_PER_S = 2.0, 10.0  # how fast the arm's posture, and the tool's height and tilt, are put right
DOWN = np.array([1.0, 0.0, 0.0, 0.0])  # orientation of the hand, xyzw
STICK_TO_HAND_M = 0.03  # between the stick's upper end and the hand's frame

STICK = """<link name="stick">
  <inertial><mass value="0.2"/><inertia ixx="1e-4" ixy="0" ixz="0" iyy="1e-4" iyz="0" izz="1e-4"/></inertial>
  <collision><geometry><cylinder radius="{radius}" length="{length}"/></geometry></collision>
</link>"""
HOLD = """<joint name="hold" type="fixed">
  <parent link="panda_hand"/><child link="stick"/><origin xyz="0 0 {middle}"/>
</joint>"""


@dataclass(frozen=True)
class ToolLimits:
    """What the tool can do; an action in [-1, 1]² scales the speed along x and y."""

    speed_m_s: float = 0.25
    acceleration_m_s2: float = 1.5


@dataclass
class Panda:
    """The arm's base is the world's origin, the table's top is z = 0."""

    limits: ToolLimits = field(default_factory=ToolLimits)
    radius_m: float = 0.015
    stick_m: float = 0.12
    friction: float = 0.4
    shape = Shape.CYLINDER

    def __post_init__(self) -> None:
        self.half_extents = (self.radius_m, self.radius_m, self.stick_m / 2)
        self.centre_z_m = self.stick_m / 2 + 0.004
        self.visuals = _visuals()
        self.action_limits = np.array([(self.limits.speed_m_s, 0.0), (0.0, self.limits.speed_m_s), (0.0, 0.0)])

    def spawn(self, client: int) -> None:
        self._client = client
        self._motion: Motion | None = None
        self.body = pybullet.loadURDF(_urdf(self.radius_m, self.stick_m), useFixedBase=True, physicsClientId=client)
        links = range(pybullet.getNumJoints(self.body, physicsClientId=client))
        self._tool = links[-1]
        names = {pybullet.getJointInfo(self.body, link, client)[12].decode(): link for link in links}
        self._drawn = [names[visual.link] for visual in self.visuals[1:]]  # the first one is the base, which stays
        for link in links:
            pybullet.changeDynamics(
                self.body,
                link,
                linearDamping=0,
                angularDamping=0,
                jointDamping=0,
                lateralFriction=self.friction,
                physicsClientId=client,
            )
        self._set(REST, np.zeros(JOINTS))

    def place(self, pose: np.ndarray, twist: np.ndarray) -> None:
        """Solved from the rest posture each time, so that equal poses give equal joints."""
        goal, joints = np.array([pose[0], pose[1], self.centre_z_m]), REST.copy()
        for _ in range(60):
            self._set(joints, np.zeros(JOINTS))
            error = self._error(goal)
            if np.abs(error).max() < 1e-7:
                break
            joints = np.clip(joints + self._follow(error, 0.1 * (REST - joints)), *LIMITS_RAD)
        self._set(joints, self._follow(np.array([twist[0], twist[1], 0, 0, 0, 0]), np.zeros(JOINTS)))
        self._motion = None

    def motion(self) -> Motion:
        if self._motion is None:
            state = pybullet.getLinkState(self.body, self._tool, 1, 1, self._client)
            (x, y, _), (vx, vy, _) = state[0], state[6]
            self._motion = (x, y, 0.0), (vx, vy, 0.0)
        return self._motion

    def drive(self, first: float, second: float) -> None:
        self.command(self.wanted(first, second))

    def wanted(self, first: float, second: float) -> tuple[float, ...]:
        (x, y, _), now = self.motion()
        change = np.array([first, second]) * self.limits.speed_m_s - now[:2]
        most = self.limits.acceleration_m_s2 / MOTOR_HZ
        speed = now[:2] + change * min(1.0, most / max(float(np.hypot(*change)), 1e-9))
        wanted = HOLD_PER_S * self._error(np.array([x, y, self.centre_z_m]))
        wanted[:2] = speed
        return tuple(self._follow(wanted, POSTURE_PER_S * (REST - self._joints())).tolist())

    def command(self, velocity: tuple[float, ...]) -> None:
        self._motion = None
        pybullet.setJointMotorControlArray(
            self.body,
            range(JOINTS),
            pybullet.VELOCITY_CONTROL,
            targetVelocities=velocity,
            forces=TORQUES_NM,
            physicsClientId=self._client,
        )

    def links(self) -> np.ndarray:
        states = pybullet.getLinkStates(self.body, self._drawn, 0, 1, self._client)
        return np.array([(0, 0, 0, 0, 0, 0, 1), *((*state[4], *state[5]) for state in states)])

    def faults(self) -> dict[str, bool]:
        """What is wrong with the arm now."""
        low, high = LIMITS_RAD
        joints = self._joints()
        return {"joint_limit": bool((joints < low + NEAR_LIMIT_RAD).any() or (joints > high - NEAR_LIMIT_RAD).any())}

    def _joints(self) -> np.ndarray:
        return np.array([state[0] for state in pybullet.getJointStates(self.body, range(JOINTS), self._client)])

    def _set(self, joints: np.ndarray, speeds: np.ndarray) -> None:
        for joint, (angle, speed) in enumerate(zip(joints.tolist(), speeds.tolist(), strict=True)):
            pybullet.resetJointState(self.body, joint, angle, speed, physicsClientId=self._client)

    def _error(self, goal: np.ndarray) -> np.ndarray:
        """(6,) from the tool's place and tilt to the goal (3,), upright [m, rad]."""
        state = pybullet.getLinkState(self.body, self._tool, 0, 1, self._client)
        x, y, z, w = pybullet.getDifferenceQuaternion(state[1], DOWN.tolist())
        turn = 2 * np.array([x, y, z]) * (1 if w >= 0 else -1)
        return np.concatenate([goal - state[0], turn])

    def _follow(self, twist: np.ndarray, posture: np.ndarray) -> np.ndarray:
        """(7,) joint speeds for a twist of the tool (6,), towards a posture as far as that leaves freedom, within the limits."""
        joints, still = self._joints().tolist(), [0.0] * JOINTS
        moves, turns = pybullet.calculateJacobian(self.body, self._tool, [0.0, 0.0, 0.0], joints, still, still, self._client)
        jacobian = np.array([*moves, *turns])
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + DAMPING * np.eye(6))
        speeds = inverse @ twist + posture - inverse @ (jacobian @ posture)
        return np.asarray(speeds / max(1.0, float(np.abs(speeds / SPEEDS_RAD_S).max())))


def _arm() -> ElementTree.Element:
    """The arm's URDF up to its hand, which holds the stick instead of fingers."""
    robot = ElementTree.parse(ARM).getroot()
    for part in list(robot):
        if "finger" in part.get("name", "") or "grasptarget" in part.get("name", ""):
            robot.remove(part)
    return robot


@lru_cache(maxsize=1)
def _visuals() -> tuple[Visual, ...]:
    """The base first. Every mesh of this arm lies in its link's frame, unmoved and unscaled."""
    links = _arm().findall("link")
    names = [link.get("name", "") for link in links if link.find("visual/geometry/mesh") is not None]
    fine, coarse = (
        [mesh.get("filename", "").removeprefix("package://") for link in links for mesh in link.findall(f"{kind}/geometry/mesh")]
        for kind in ("visual", "collision")
    )
    return tuple(Visual(name, ARM.parent / a, ARM.parent / b) for name, a, b in zip(names, fine, coarse, strict=True))


@lru_cache(maxsize=4)
def _urdf(radius_m: float, stick_m: float) -> str:
    """A file with the arm, no shapes, and the stick."""
    robot = _arm()
    for part in robot:
        for shape in [*part.findall("visual"), *part.findall("collision")]:
            part.remove(shape)
    middle = STICK_TO_HAND_M + stick_m / 2
    for text in (STICK.format(radius=radius_m, length=stick_m), HOLD.format(middle=middle)):
        robot.append(ElementTree.fromstring(text))
    with tempfile.NamedTemporaryFile("wb", suffix=".urdf", delete=False) as file:
        ElementTree.ElementTree(robot).write(file)
    atexit.register(Path(file.name).unlink, missing_ok=True)
    return file.name
