"""Physics of conveyor-sort: a belt, parts that arrive, bins, and an arm with an upright roller.

A part that has not arrived is parked far below the floor. A part that lies still in a bin or on the
floor is frozen: it has mass zero, costs almost no time, and others can still fall on it.
"""

import math
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from sim.bodies import ROBOT, Bodies, Kind, Shape
from sim.bullet.base import BulletWorld
from sim.bullet.belt import BeltSpec, ConveyorBelt
from sim.bullet.stacks import configure_physics, set_friction
from sim.geometry.rotations import yaw_to_quaternion
from sim.layout import Layout, StaticBody
from sim.policy import SimState
from sim.robots.panda import Panda
from sim.robots.robot import MOTOR_HZ
from sim.scenes.conveyor_sort.layouts import BASE, BELT_TOP_M, BODIES_PER_BIN, Part, get_details
from sim.scenes.conveyor_sort.task import MAX_FORCE_N
from sim.variation import Variation

if TYPE_CHECKING:
    from sim.scenes.scene import Scene

STEPS_PER_TICK = 6  # physics steps of a tick of the robot's controller
ROLLING_FRICTION = 0.002  # [m] of cylinders, against rolling from rest
# Share of a part's size by which its contacts may shift in a step. With Bullet's 0.02, the belt
# carries a cylinder out of reach of its contacts: it keeps one of two, and rattles.
CONTACT_BREAKING_THRESHOLD = 0.2
PARKED_Z_M = -10.0
REST_SPEED_M_S = 0.03
REST_S = 0.3  # at rest for this time, a part in a bin is frozen
SLOW_SHARE = 0.15  # of the belt's speed, below which a part does not move with it
JAM_S = 2.0
STUCK_S = 1.0  # at the stop for this time, a part is missed
MAX_OVERLAP_M = 0.001  # with a part that is in the way of an arriving one
OUTSIDE = -1  # in no bin
STATIC_FRICTION = 0.4  # of bins, rails, stop and floor
COLOURS = ((0.15, 0.4, 0.92, 1), (0.9, 0.45, 0.05, 1), (0.1, 0.65, 0.3, 1), (0.55, 0.25, 0.9, 1))
STATIC_COLOUR = (0.62, 0.65, 0.68, 1)
FLOOR_COLOUR = (0.9, 0.9, 0.88, 1)


class Status(IntEnum):
    """Stage of a part."""

    WAITING = 0
    MOVING = 1
    FROZEN = 2


@dataclass(frozen=True)
class ConveyorMemory:
    """Part of the state that poses do not show."""

    time_s: float
    status: tuple[Status, ...]
    slow_s: tuple[float, ...]  # time since each part moved with the belt
    rest_s: tuple[float, ...]  # time since each part moved at all
    is_at_stop: tuple[bool, ...]  # held by the stop, or by a part at the stop
    force_n: float  # largest force of the tool on a static body
    joints: tuple[tuple[float, float], ...]  # angles and speeds of the arm


class ConveyorWorld(BulletWorld):
    """Physics of one episode at a time."""

    def start_episode(
        self, scene: "Scene", layout: Layout, variation: Variation, seed: int, poses: np.ndarray | None = None
    ) -> tuple[Bodies, None]:
        """Build a layout, and place its bodies, as `SceneWorld` describes.

        Args:
            scene: gives the robot.
            layout: layout without faults.
            variation: mass, friction and size are factors on those of the parts, relative to the
                scene's base values.
            seed: unused, nothing is random.
            poses: (K, 3) x, y, yaw of the tool and the first parts, which are on the belt at once.
        """
        self._build(scene, layout, variation)
        x, y = (layout.robot.x, layout.robot.y) if poses is None else poses[0, :2].tolist()
        self._robot.set_state(np.array([x, y, 0, 0, 0, 0, 1.0]), np.zeros(6))
        for index, (x, y, yaw) in enumerate([] if poses is None else poses[1:].tolist()):
            self._place(index, x, y, yaw)
        self._admit_parts()
        pose, twist = self.read_dynamic_bodies()
        self._locate_parts(pose[1:])
        half_extents = [self._robot.half_extents, *(part.half_extents for part in self._parts)]
        shapes = [self._robot.shape, *(Shape.BOX if part.shape == "box" else Shape.CYLINDER for part in self._parts)]
        kinds = np.array(layout.dynamic_kinds, np.int8)
        present = np.array(self.read_present(), np.int8)
        return Bodies(np.array(pose), np.array(twist), np.array(half_extents), kinds, np.array(shapes, np.int8), present), None

    def restore_episode(self, scene: "Scene", layout: Layout, variation: Variation, seed: int, state: SimState) -> None:
        """Build a layout from an empty world, and set a state."""
        self._build(scene, layout, variation)
        self.set_state(state)

    def _build(self, scene: "Scene", layout: Layout, variation: Variation) -> None:
        client = self._client
        configure_physics(client)
        client.contact_breaking_threshold = CONTACT_BREAKING_THRESHOLD
        self._start_images()
        self._details = details = get_details(layout)
        self._entries = layout.loads
        self._parts = [_apply_variation(part, variation) for part in details.parts]
        yaw = details.belt.yaw
        self._axes = math.cos(yaw), math.sin(yaw)
        self._bins = [(*details.locate_bin(i), b.width_m / 2, b.depth_m / 2) for i, b in enumerate(details.bins)]
        self._targets = [details.find_bin(index) for index in range(len(self._parts))]
        self._floor = self._create_static(StaticBody(Kind.WALL, (2, 2, 0.5), (0.4, 0, -0.5)), FLOOR_COLOUR)
        belt = details.belt
        spec = BeltSpec(belt.x, belt.y, BELT_TOP_M, belt.yaw, belt.length_m, belt.width_m, BELT_TOP_M, belt.friction)
        self._belt = ConveyorBelt(client, spec, belt.speed_m_s)
        bodies = details.list_static_bodies(layout)
        bin_colours = [COLOURS[bin_.kind % len(COLOURS)] for bin_ in details.bins for _ in range(BODIES_PER_BIN)]
        colours = bin_colours + [STATIC_COLOUR] * (len(bodies) - len(bin_colours))
        self._static = [
            self._belt.body if body.kind == Kind.BELT else self._create_static(body, colour)
            for body, colour in zip(bodies, colours, strict=True)
        ]
        self._stop = self._static[1 + len(bin_colours)]
        self._loads = [self._create_part(part, index) for index, part in enumerate(self._parts)]
        robot = scene.make_robot(variation)
        assert isinstance(robot, Panda)
        self._robot = robot
        self.visuals = robot.visuals
        robot.spawn(client)
        dynamic = [robot.body, *self._loads]
        self._dynamic_count = len(dynamic)
        self._index = {body: index for index, body in enumerate([*dynamic, *self._static])}
        count = len(self._parts)
        self._time_s, self._force_n = 0.0, 0.0
        self._bodies: tuple[list[list[float]], list[list[float]]] | None = None  # read since the last step
        self._status = [Status.WAITING] * count
        self._slow_s, self._rest_s, self._is_at_stop = [0.0] * count, [0.0] * count, [False] * count

    def _create_static(self, body: StaticBody, colour: tuple[float, ...]) -> int:
        client, half = self._client, list(body.half_extents)
        shape = client.createCollisionShape(client.GEOM_BOX, halfExtents=half)
        visual = client.createVisualShape(client.GEOM_BOX, halfExtents=half, rgbaColor=colour)
        rotation = yaw_to_quaternion(np.array(body.yaw)).tolist()
        bullet_id = int(client.createMultiBody(0, shape, visual, list(body.position), rotation))
        set_friction(client, bullet_id, STATIC_FRICTION)
        return bullet_id

    def _create_part(self, part: Part, index: int) -> int:
        """Create a part, parked below the floor."""
        client, colour = self._client, COLOURS[part.kind % len(COLOURS)]
        if part.shape == "box":
            size = {"halfExtents": list(part.half_extents)}
            shape = client.createCollisionShape(client.GEOM_BOX, **size)
            visual = client.createVisualShape(client.GEOM_BOX, rgbaColor=colour, **size)
        else:
            radius, _, half = part.half_extents
            shape = client.createCollisionShape(client.GEOM_CYLINDER, radius=radius, height=2 * half)
            visual = client.createVisualShape(client.GEOM_CYLINDER, radius=radius, length=2 * half, rgbaColor=colour)
        body = int(client.createMultiBody(part.mass_kg, shape, visual, [0.3 * index, 0, PARKED_Z_M]))
        set_friction(client, body, part.friction)
        if part.shape != "box":
            client.changeDynamics(body, -1, rollingFriction=ROLLING_FRICTION)
        client.changeDynamics(body, -1, mass=0)
        return body

    def _set_mass(self, index: int, mass_kg: float) -> None:
        """Set the mass of a part and its inertia, which Bullet would set to zero with the mass."""
        self._client.changeDynamics(
            self._loads[index], -1, mass=mass_kg, localInertiaDiagonal=compute_inertia(self._parts[index], mass_kg)
        )

    def _place(self, index: int, x: float, y: float, yaw: float) -> None:
        """Place a part on the belt, at the belt's speed."""
        part, client, body = self._parts[index], self._client, self._loads[index]
        client.resetBasePositionAndOrientation(body, [x, y, BELT_TOP_M + part.half_height_m], make_rotation(part, yaw))
        self._set_mass(index, part.mass_kg)
        client.resetBaseVelocity(body, self._details.belt_velocity, [0, 0, 0])
        self._status[index] = Status.MOVING

    def _admit_parts(self) -> None:
        """Place the parts whose time has come, unless another part is in the way."""
        for index, part in enumerate(self._parts):
            if self._status[index] != Status.WAITING or part.arrival_s > self._time_s + 1e-9:
                continue
            entry = self._entries[index]
            self._place(index, entry.x, entry.y, entry.yaw)
            others = [body for body, status in zip(self._loads, self._status, strict=True) if status == Status.MOVING]
            others = [*others, self._robot.body]
            others.remove(self._loads[index])
            pairs = [point for body in others for point in self._client.getClosestPoints(self._loads[index], body, 0.0)]
            if any(point[8] < -MAX_OVERLAP_M for point in pairs):
                self._park(index)
                return  # later parts wait, too

    def _park(self, index: int) -> None:
        self._status[index] = Status.WAITING
        self._client.resetBasePositionAndOrientation(self._loads[index], [0.3 * index, 0, PARKED_Z_M], [0, 0, 0, 1])
        self._client.resetBaseVelocity(self._loads[index], [0, 0, 0], [0, 0, 0])
        self._client.changeDynamics(self._loads[index], -1, mass=0)

    def step(self, action: tuple[float, ...], duration_s: float) -> None:
        """Simulate one control period with an action in [-1, 1]²."""
        client, robot, belt = self._client, self._robot, self._belt
        self._samples = []
        self._bodies = None
        for _ in range(round(duration_s * MOTOR_HZ)):
            robot.set_motors(robot.compute_command(robot.action_spec.limit_to_zone(robot.read_state()[0], action)))
            for _ in range(STEPS_PER_TICK):
                belt.drive()
                client.stepSimulation()
            self._samples.append(self._sample_contacts())
            self._time_s += 1 / MOTOR_HZ
            self._admit_parts()
        self._update_parts(duration_s)

    def _update_parts(self, duration_s: float) -> None:
        """Update the timers of parts, freeze those that rest, and find the tool's largest force."""
        static = range(self._dynamic_count, self._dynamic_count + len(self._static))
        contacts = self.read_contacts()
        forces = [contact.force_n for contact in contacts if contact.first == ROBOT and contact.second in static]
        self._force_n = max(forces, default=0.0)
        poses, twists = self.read_dynamic_bodies()
        self._locate_parts(poses[1:])
        min_speed = SLOW_SHARE * self._belt.speed_m_s
        for index, status in enumerate(self._status):
            if status != Status.MOVING:
                continue
            speed, spin = math.hypot(*twists[1 + index][:3]), math.hypot(*twists[1 + index][3:])
            self._slow_s[index] = self._slow_s[index] + duration_s if speed < min_speed else 0.0
            is_at_rest = speed + 0.02 * spin < REST_SPEED_M_S
            self._rest_s[index] = self._rest_s[index] + duration_s if is_at_rest else 0.0
            if self._is_low[index] and self._rest_s[index] >= REST_S:
                self._freeze(index)
        self._update_stop([(contact.first, contact.second) for contact in contacts])

    def _locate_parts(self, poses: list[list[float]]) -> None:
        """Find the parts that are below the belt's top, and the bin in which each is."""
        self._is_low = [
            pose[2] < BELT_TOP_M and status != Status.WAITING for pose, status in zip(poses, self._status, strict=True)
        ]
        self._places = [self._find_bin(pose) if low else OUTSIDE for pose, low in zip(poses, self._is_low, strict=True)]

    def _find_bin(self, pose: list[float]) -> int:
        c, s = self._axes
        for number, (x, y, half_width, half_depth) in enumerate(self._bins):
            dx, dy = pose[0] - x, pose[1] - y
            if abs(c * dx + s * dy) <= half_width and abs(c * dy - s * dx) <= half_depth:
                return number
        return OUTSIDE

    def _freeze(self, index: int) -> None:
        self._bodies = None
        self._status[index] = Status.FROZEN
        self._client.changeDynamics(self._loads[index], -1, mass=0)
        self._client.resetBaseVelocity(self._loads[index], [0, 0, 0], [0, 0, 0])

    def _update_stop(self, pairs: list[tuple[int, int]]) -> None:
        """Find the parts that the stop holds, also by way of other parts."""
        held = {self._index[self._stop]}
        for _ in self._parts:
            held |= {a for a, b in pairs if b in held and a != ROBOT} | {
                b for a, b in pairs if a in held and ROBOT < b < self._dynamic_count and a != ROBOT
            }
        self._is_at_stop = [1 + index in held for index in range(len(self._parts))]

    def read_dynamic_bodies(self) -> tuple[list[list[float]], list[list[float]]]:
        """Read poses (M × 7) and twists (M × 6) of the tool and the parts, as plain lists."""
        if self._bodies is not None:
            return self._bodies
        pose, twist = self._robot.read_state()
        poses, twists = [pose], [twist]
        for body in self._loads:
            position, rotation = self._client.getBasePositionAndOrientation(body)
            linear, angular = self._client.getBaseVelocity(body)
            poses.append([*position, *rotation])
            twists.append([*linear, *angular])
        self._bodies = poses, twists
        return self._bodies

    def read_present(self) -> list[bool]:
        """Read which bodies exist: the tool, and the parts that have arrived."""
        return [True, *(status != Status.WAITING for status in self._status)]

    def read_state(self) -> SimState:
        """Read the whole state between two steps."""
        poses, twists = self.read_dynamic_bodies()
        memory = ConveyorMemory(
            self._time_s, tuple(self._status), tuple(self._slow_s), tuple(self._rest_s), tuple(self._is_at_stop),
            self._force_n, self._robot.read_joint_states(),
        )  # fmt: skip
        return SimState(np.array(poses), np.array(twists), memory=memory)

    def set_state(self, state: SimState) -> None:
        """Set the whole state, after the build of the same layout."""
        memory = state.memory
        assert isinstance(memory, ConveyorMemory)
        self._samples = []
        self._bodies = None
        self._robot.set_joint_states(memory.joints)
        self._time_s, self._force_n = memory.time_s, memory.force_n
        self._status, self._is_at_stop = list(memory.status), list(memory.is_at_stop)
        self._slow_s, self._rest_s = list(memory.slow_s), list(memory.rest_s)
        for index, (pose, twist) in enumerate(zip(state.pose[1:].tolist(), state.twist[1:].tolist(), strict=True)):
            body, part = self._loads[index], self._parts[index]
            self._client.resetBasePositionAndOrientation(body, pose[:3], pose[3:])
            if self._status[index] == Status.MOVING:
                self._set_mass(index, part.mass_kg)
            self._client.resetBaseVelocity(body, twist[:3], twist[3:])
        self._locate_parts(state.pose[1:].tolist())

    def read_violations(self) -> dict[str, bool]:
        """Read all violations, by kind."""
        parts = list(zip(self._is_low, self._places, self._targets, strict=True))
        on_belt = [
            self._slow_s[index] >= JAM_S
            for index, status in enumerate(self._status)
            if status == Status.MOVING and not self._is_low[index] and not self._is_at_stop[index]
        ]
        return {
            "part_off_belt": any(low and bin_ == OUTSIDE for low, bin_, _ in parts),
            "wrong_bin": any(bin_ not in (OUTSIDE, target) for _, bin_, target in parts),
            "jam": bool(on_belt) and all(on_belt),
            "tool_collision": self._force_n > MAX_FORCE_N,
        }

    def read_outcome(self) -> bool | None:
        """Read whether all parts are in their bins; None: some part may still get there."""
        if self._places == self._targets:
            return True
        stuck = [at_stop and slow >= STUCK_S for at_stop, slow in zip(self._is_at_stop, self._slow_s, strict=True)]
        is_over = all(low or is_stuck for low, is_stuck in zip(self._is_low, stuck, strict=True))
        return False if is_over and Status.WAITING not in self._status else None

    def read_time_s(self) -> float:
        """Read the simulated time since the start of the episode."""
        return self._time_s

    def read_link_poses(self) -> np.ndarray:
        """Read the poses (V, 7) of the frames of the robot's `visuals`.

        Returns:
            (V, 7) position [m] and quaternion xyzw, world frame.
        """
        return self._robot.read_link_poses()


def compute_inertia(part: Part, mass_kg: float) -> list[float]:
    """Compute the moments of inertia of a part about its axes [kg m²]."""
    x, y, z = part.half_extents
    if part.shape == "box":
        return [mass_kg * (y * y + z * z) / 3, mass_kg * (x * x + z * z) / 3, mass_kg * (x * x + y * y) / 3]
    across = mass_kg * (3 * x * x + 4 * z * z) / 12
    return [across, across, mass_kg * x * x / 2]


def make_rotation(part: Part, yaw: float) -> list[float]:
    """Make the quaternion xyzw of a part; the axis of a lying cylinder is across its heading."""
    c, s = math.cos(yaw / 2), math.sin(yaw / 2)
    half = math.sqrt(0.5)
    return [half * c, half * s, half * s, half * c] if part.shape == "lying" else [0.0, 0.0, s, c]


def _apply_variation(part: Part, variation: Variation) -> Part:
    """Scale mass, friction and size, relative to the scene's base values."""
    x, y, z = (variation.load_scale * half for half in part.half_extents)
    mass = part.mass_kg * variation.load_mass_kg / BASE.load_mass_kg
    return replace(
        part, half_extents=(x, y, z), mass_kg=mass, friction=part.friction * variation.load_friction / BASE.load_friction
    )
