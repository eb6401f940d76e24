"""Physics of palletise: an arm with a suction gripper, infeed tables, a pallet and cartons.

Cartons are frozen (mass zero) while the arm picks and swings another one, because nothing can touch
them then; that saves most of the time. They are free while a carton is lowered and settles, after a
drop, and in the shake test. Each step starts in a rebuilt world, so that it depends on the state
alone: a restored world continues as the one that was never left.
"""

import math
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.bodies import ROBOT, Bodies, Kind, Shape
from sim.bullet.base import BulletWorld
from sim.bullet.stacks import PHYSICS_HZ, CartonSpec, PalletSpec, PalletStack, configure_physics, set_friction
from sim.bullet.suction import SuctionGripper, SuctionSpec
from sim.contacts import Contact
from sim.geometry.rotations import compute_tilt_cosine, compute_yaw, rotate, rotate_in_space, wrap_angle, yaw_to_quaternion
from sim.layout import Layout
from sim.policy import SimState
from sim.robots.iiwa import PAD_HALF_HEIGHT_M, Iiwa
from sim.scenes.palletise import geometry
from sim.scenes.palletise.geometry import OUTLINE_MARGIN_M, PALLET_HEIGHT_M
from sim.scenes.palletise.layouts import BASE, Carton, get_details
from sim.scenes.palletise.skill import Placement, decode_action
from sim.scenes.palletise.task import MIN_UPRIGHT_COSINE
from sim.sensors.appearance import Appearance
from sim.variation import Variation
from sim.world import MotionFrame

if TYPE_CHECKING:
    from sim.scenes.scene import Scene

CUPS = SuctionSpec(cup_radius_m=0.018, num_cups=4, circle_radius_m=0.037, vacuum_force_n=65.0)
STEPS_PER_TICK = 4  # physics steps of a tick of the arm's controller
STEPS_PER_FRAME = 24  # physics steps between two frames for viewers
ACCELERATION_S = 0.3  # time in which a motion reaches its speed
EMPTY_SPEED_M_S = 0.9  # of the arm without a carton
VERTICAL_SPEED_M_S = 0.35
TOUCH_SPEED_M_S = 0.06  # of the last SLOW_M of lowering
SLOW_M = 0.02
CLEARANCE_M = 0.04  # between a carton that is carried and the stack
RETRACT_M = 0.08
TOUCH_SHARE = 0.6  # of the weight on the cups, below which the carton has touched down
WEIGH_S = 0.1
MIN_SETTLE_S = 0.25
MAX_SETTLE_S = 2.0
REST_SPEED_M_S = 0.01
REST_SPIN_RAD_S = 0.05
MAX_PRESS_N = 80.0  # of a carton on others, beyond its weight
PRESS_STEPS = 12  # physics steps of the mean of pressing forces
MIN_COLLISION_N = 5.0
BLOCKED_RADIUS_M = 0.3  # around an infeed place
PARKED_Z_M = -10.0
HOME_Z_M = 0.6  # of the pad at the start
PALLET_FRICTION = 0.6
MIN_STANDING_SHARE = 0.95
TOOL_TURNS = (0.0, -math.pi / 2, math.pi / 2)  # of the gripper against the arm at a pick
CARTON_COLOURS = ((0.76, 0.6, 0.42, 1), (0.7, 0.53, 0.36, 1), (0.82, 0.67, 0.48, 1))
WOOD_COLOUR = (0.8, 0.68, 0.5, 1)
TABLE_COLOUR = (0.55, 0.58, 0.62, 1)
RawFrame = tuple[float, list[float], list[Any], list[Any], str]  # time, pad, cartons, links and note of a MotionFrame
VIOLATIONS = ("dropped_carton", "pressed_carton", "arm_collision", "outside_limits", "stack_fell")


@dataclass(frozen=True)
class PalletMemory:
    """Part of the state that poses do not show."""

    slots: tuple[int, ...]  # carton at each infeed place; -1: none
    num_arrived: int
    inertia: np.ndarray  # (M, 4) measured, zeros: unknown
    time_s: float
    violations: tuple[str, ...]
    press_force_n: float
    outcome: bool | None
    joints: tuple[tuple[float, float], ...]


class PalletWorld(BulletWorld):
    """Physics of one episode at a time.

    Attributes:
        grasp_offset_m: x, y of the cups from the middle of a carton's top, to test the suction.
    """

    grasp_offset_m: tuple[float, float] = (0.0, 0.0)
    _appearance: Appearance | None = None

    def start_episode(
        self, scene: "Scene", layout: Layout, variation: Variation, seed: int, poses: np.ndarray | None = None
    ) -> tuple[Bodies, None]:
        """Build a layout, and place its bodies, as `SceneWorld` describes.

        Args:
            scene: gives the robot.
            layout: layout without faults.
            variation: mass, friction and size are factors on those of the cartons, relative to the
                scene's base values.
            seed: unused, nothing is random.
            poses: unused.
        """
        self._build(scene, layout, variation)
        self._arm.set_state(np.array([layout.robot.x, layout.robot.y, HOME_Z_M, 0, 0, 0, 1]), np.zeros(6))
        for slot in range(len(self._slots)):
            self._fill_slot(slot)
        pose, twist = self.read_dynamic_bodies()
        half_extents = [Iiwa.half_extents, *(carton.half_extents for carton in self._cartons)]
        count = len(half_extents)
        shapes = np.array([Shape.CYLINDER, *[Shape.BOX] * (count - 1)], np.int8)
        kinds = np.array([Kind.ROBOT, *[Kind.LOAD] * (count - 1)], np.int8)
        present = np.array(self.read_present(), np.int8)
        return Bodies(np.array(pose), np.array(twist), np.array(half_extents), kinds, shapes, present), None

    def restore_episode(self, scene: "Scene", layout: Layout, variation: Variation, seed: int, state: SimState) -> None:
        """Build a layout from an empty world, and set a state."""
        self._build(scene, layout, variation)
        self.set_state(state)
        self._is_restored = True

    def apply_appearance(self, appearance: Appearance) -> None:
        """Change colours, textures and light of images, until the next episode."""
        super().apply_appearance(appearance)
        self._appearance = appearance

    def _build(self, scene: "Scene", layout: Layout, variation: Variation) -> None:
        client = self._client
        configure_physics(client)
        self._start_images()
        self._arguments = scene, layout, variation
        self._appearance = None
        self._is_restored = False
        self._layout, details = layout, get_details(layout)
        self._cartons = [_apply_variation(carton, variation) for carton in details.cartons]
        self._dynamic_count = 1 + len(self._cartons)
        self._static_bodies = layout.static_bodies
        goal = layout.goal
        half = (details.pallet_width_m / 2, details.pallet_length_m / 2, PALLET_HEIGHT_M / 2)
        self._stack = PalletStack(client, PalletSpec(half, goal.x, goal.y, PALLET_FRICTION))
        self._floor = self._stack.floor
        tables = [body for body in details.list_static_bodies(layout) if body.kind == Kind.STATION]
        self._tables = [self._create_table(body.half_extents, body.position, body.yaw) for body in tables]
        self._static = [self._stack.pallet_body, *self._tables]
        robot = scene.make_robot(variation)
        assert isinstance(robot, Iiwa)
        self._arm = robot
        self.visuals = robot.visuals
        robot.spawn(client)
        self._gripper = SuctionGripper(client, robot.body, robot.tool, (0.0, 0.0, PAD_HALF_HEIGHT_M), spec=CUPS)
        rows = [self._dynamic_count, *range(self._dynamic_count + 2, self._dynamic_count + 2 + len(tables))]  # a post is between
        self._index = {robot.body: ROBOT, **dict(zip(self._static, rows, strict=True))}
        self._loads = self._stack.cartons
        self._slots = [-1] * len(details.slots)
        self._num_arrived = 0
        self._inertia = np.zeros((self._dynamic_count, 4))
        self._masses: list[tuple[float, list[float]]] = []  # with moments of inertia
        self._time_s = self._press_force_n = 0.0
        self._outcome: bool | None = None
        self._violations: set[str] = set()
        self._frames: list[RawFrame] = []
        self._note, self._held_row, self._num_steps = "", 0, 0
        self._is_watching = self._is_lowering = False
        self._press_forces: deque[float] = deque(maxlen=PRESS_STEPS)

    def _create_table(self, half: tuple[float, float, float], position: tuple[float, float, float], yaw: float) -> int:
        client = self._client
        shape = client.createCollisionShape(client.GEOM_BOX, halfExtents=list(half))
        visual = client.createVisualShape(client.GEOM_BOX, halfExtents=list(half), rgbaColor=TABLE_COLOUR)
        body = int(client.createMultiBody(0, shape, visual, list(position), yaw_to_quaternion(np.array(yaw)).tolist()))
        set_friction(client, body, PALLET_FRICTION)
        return body

    def _add_carton(self, pose: np.ndarray) -> None:
        """Create the next carton of the order."""
        index, client = len(self._stack.cartons), self._client
        carton = self._cartons[index]
        spec = CartonSpec(carton.half_extents, carton.mass_kg, carton.friction, carton.mass_centre_m, carton.stiffness_n_m)
        body = self._stack.add_carton(spec, pose)
        self._masses.append((carton.mass_kg, list(client.getDynamicsInfo(body, -1)[2])))
        client.changeVisualShape(body, -1, rgbaColor=CARTON_COLOURS[index % len(CARTON_COLOURS)])
        self._index[body] = 1 + index

    def _fill_slot(self, slot: int) -> None:
        """Let the next carton of the order appear at an infeed place."""
        if self._num_arrived == len(self._cartons):
            return
        table = self._stack_table(slot)
        carton = self._cartons[self._num_arrived]
        position = (table[0], table[1], table[2] + carton.half_extents[2])
        self._add_carton(np.array([*position, *yaw_to_quaternion(np.array(table[3]))]))
        self._slots[slot] = self._num_arrived
        self._num_arrived += 1

    def _is_blocked(self, slot: int) -> bool:
        """Return True if a carton, such as a dropped one, lies where the next one would appear."""
        x, y, top, _ = self._stack_table(slot)
        poses = self._stack.read_poses()
        near = np.hypot(poses[:, 0] - x, poses[:, 1] - y) < BLOCKED_RADIUS_M
        return bool((near & (poses[:, 2] > top)).any())

    def _stack_table(self, slot: int) -> tuple[float, float, float, float]:
        """Get x, y, height of the top and yaw of an infeed table."""
        static, row = self._static_bodies, 2 + slot
        x, y, z = static.pose[row, :3].tolist()
        return x, y, z + float(static.half_extents[row, 2]), float(compute_yaw(static.pose[row, 3:]))

    def step(self, action: tuple[float, ...], duration_s: float) -> None:
        """Carry out a whole placement, or the shake test where no carton is left."""
        if self._outcome is not None:
            self._violations, self._frames = set(), []
            return
        if not self._is_restored:
            appearance = self._appearance
            self.restore_episode(*self._arguments, 0, self.read_state())
            if appearance:
                self.apply_appearance(appearance)
        self._is_restored, self._violations, self._press_force_n = False, set(), 0.0
        bodies = self._make_bodies()
        field = geometry.make_field(bodies)
        placement = decode_action(bodies, np.array(action), field)
        if not placement.row:
            self._shake()
            return
        was_outside = self._find_excess() > OUTLINE_MARGIN_M
        self._place_carton(placement)
        if ((self._find_excess() > OUTLINE_MARGIN_M) & ~was_outside).any():
            self._violations.add("outside_limits")
        for slot, index in enumerate(self._slots):
            if index == placement.row - 1 and not self._is_blocked(slot):
                self._slots[slot] = -1
                self._fill_slot(slot)

    def _make_bodies(self) -> Bodies:
        """Make the bodies of an observation without padding."""
        poses, twists = self.read_dynamic_bodies()
        static = self._static_bodies
        half_extents = [Iiwa.half_extents, *(carton.half_extents for carton in self._cartons)]
        kinds = [Kind.ROBOT, *[Kind.LOAD] * len(self._cartons)]
        present = [*map(int, self.read_present()), *static.present]
        return Bodies(
            np.vstack([poses, static.pose]), np.vstack([twists, static.twist]), np.vstack([half_extents, static.half_extents]),
            np.array([*kinds, *static.kind]), np.zeros(len(kinds) + len(static.kind)), np.array(present),
        )  # fmt: skip

    def _place_carton(self, placement: Placement) -> None:
        """Pick, swing, lower and release a carton, and let the stack settle."""
        index = placement.row - 1
        carton, goal = self._cartons[index], self._layout.goal
        height = 2 * carton.half_extents[2]
        pose = self._stack.read_poses()[index]
        yaw = float(compute_yaw(pose[3:]))
        offset = rotate(np.array(self.grasp_offset_m), np.array(yaw))
        start = np.array([*(pose[:2] + offset), pose[2] + height / 2 + PAD_HALF_HEIGHT_M])
        place = np.array([goal.x, goal.y]) + rotate(np.array([placement.x, placement.y]), np.array(goal.yaw))
        turn = float(wrap_angle(goal.yaw + placement.yaw - yaw))
        end_xy = place + rotate(offset, np.array(turn))
        pick_yaw, place_yaw = _choose_tool_yaws(start, end_xy, turn)
        half = carton.half_extents[:2] if not placement.yaw else carton.half_extents[1::-1]
        support = self._find_support_height(placement, half)
        stack_top = self._find_highest_top(placement.row)
        carry_z = max(stack_top, support) + CLEARANCE_M + height + PAD_HALF_HEIGHT_M
        carry_z = max(carry_z, start[2] + CLEARANCE_M)
        empty_z = max(stack_top + CLEARANCE_M, start[2] + CLEARANCE_M)
        self._held_row, self._note = placement.row, "moves to the infeed"
        self._set_frozen(True)
        x, y, z, tool_yaw = self._read_tool()
        self._move(np.array([x, y, max(z, empty_z), tool_yaw]), VERTICAL_SPEED_M_S)
        self._move(np.array([start[0], start[1], max(z, empty_z), pick_yaw]), EMPTY_SPEED_M_S)
        self._move(np.array([*start, pick_yaw]), VERTICAL_SPEED_M_S)
        self._gripper.attach(self._stack.cartons[index])
        self._note = "lifts"
        if self._move(np.array([start[0], start[1], carry_z, pick_yaw]), VERTICAL_SPEED_M_S) and self._weigh(index):
            self._note, self._is_watching = "swings", True
            if self._move(np.array([*end_xy, carry_z, place_yaw]), placement.speed_m_s):
                self._lower(placement, np.array([*end_xy, support + height + PAD_HALF_HEIGHT_M, place_yaw]), carton)
        if self._gripper.carton is None:
            self._violations.add("dropped_carton")
        self._gripper.release()
        self._set_frozen(False)
        self._note = "settles"
        x, y, z, tool_yaw = self._read_tool()
        self._move(np.array([x, y, z + RETRACT_M, tool_yaw]), VERTICAL_SPEED_M_S)
        self._settle()
        self._is_watching, self._held_row = False, 0
        if not self._measure_stack().is_placed[placement.row]:
            self._violations.add("dropped_carton")

    def _lower(self, placement: Placement, end: np.ndarray, carton: Carton) -> None:
        """Lower a carton to its release height, or until it touches."""
        self._set_frozen(False)
        self._note, self._is_lowering = "lowers", True
        self._press_forces.clear()
        above, low = end.copy(), end.copy()
        above[2] += SLOW_M + placement.release_m
        low[2] += placement.release_m - 0.002 * (placement.release_m == 0)
        if self._move(above, VERTICAL_SPEED_M_S):
            self._move(low, TOUCH_SPEED_M_S, weight_n=9.81 * carton.mass_kg)
        self._is_lowering = False

    def _move(self, end: np.ndarray, speed_m_s: float, weight_n: float = 0.0) -> bool:
        """Move the pad along an arc around the arm's base, with a trapezoidal speed.

        Args:
            end: (4,) x, y, z [m] and yaw [rad].
            speed_m_s: of the pad.
            weight_n: weight of the carton, to stop where it has touched down; 0: do not.

        Returns:
            False if a carton was held and is lost.
        """
        start = np.array(self._read_tool())
        is_held = self._gripper.carton is not None
        turn, change = _plan_arc(start, end)
        length = max(
            math.hypot(change[0], change[1] * (math.hypot(*start[:2]) + math.hypot(*end[:2])) / 2, change[2]), 0.15 * abs(turn)
        )
        acceleration = speed_m_s / ACCELERATION_S
        peak = min(speed_m_s, math.sqrt(acceleration * length)) if length > 1e-6 else 0.0
        if not peak:
            return True
        ramp_s = peak / acceleration
        duration_s = length / peak + ramp_s
        tick_s = STEPS_PER_TICK / PHYSICS_HZ
        previous = start
        for tick in range(1, math.ceil(duration_s / tick_s) + 1):
            share = _compute_travel(min(tick * tick_s, duration_s), ramp_s, duration_s, peak) / length
            goal = _locate_on_arc(start, turn, change, share)
            velocity = (goal - previous) / tick_s
            self._arm.follow(previous, velocity)
            previous = goal
            for _ in range(STEPS_PER_TICK):
                self._advance()
                if weight_n and self._read_pull() < TOUCH_SHARE * weight_n:
                    self._arm.hold()
                    return self._gripper.carton is not None
            if is_held and self._gripper.carton is None:
                self._arm.hold()
                return False
        self._arm.follow(previous, np.zeros(4))
        for _ in range(STEPS_PER_TICK):
            self._advance()
        self._arm.hold()
        return not is_held or self._gripper.carton is not None

    def _advance(self) -> None:
        """Simulate one physics step."""
        self._client.stepSimulation()
        self._gripper.update()
        self._num_steps += 1
        self._time_s += 1 / PHYSICS_HZ
        if self._is_lowering:
            self._measure_press()
        if self._is_watching and self._num_steps % STEPS_PER_TICK == 0:
            self._find_collisions()
        if self._num_steps % STEPS_PER_FRAME == 0:
            self._record_frame()

    def _record_frame(self) -> None:
        """Record poses as Bullet gives them; `read_frames` converts those that are asked for."""
        states = [self._client.getBasePositionAndOrientation(body) for body in self._stack.cartons]
        self._frames.append((self._time_s, self._arm.read_state()[0], states, self._arm.read_link_states(), self._note))

    def _measure_press(self) -> None:
        """Measure the force between the held carton and others."""
        points = self._client.getContactPoints(self._stack.cartons[self._held_row - 1])
        self._press_forces.append(sum(point[9] for point in points))
        mean = sum(self._press_forces) / PRESS_STEPS
        self._press_force_n = max(self._press_force_n, mean)
        if mean > MAX_PRESS_N + 9.81 * self._cartons[self._held_row - 1].mass_kg:
            self._violations.add("pressed_carton")

    def _find_collisions(self) -> None:
        """Find contacts of the arm with cartons other than the held one, or with the pallet."""
        for point in self._client.getContactPoints(self._arm.body):
            row = self._index.get(point[2], -1)
            if row > 0 and row != self._held_row and point[9] > MIN_COLLISION_N:
                self._violations.add("arm_collision")

    def _read_pull(self) -> float:
        return float(self._gripper.read_wrench()[2])

    def _weigh(self, index: int) -> bool:
        """Measure mass and centre of mass of the held carton by the mean load of the cups."""
        wrenches = []
        for _ in range(round(WEIGH_S * PHYSICS_HZ)):
            self._advance()
            wrenches.append(self._gripper.read_wrench())
        if self._gripper.carton is None:
            return False
        wrench = np.mean(wrenches, axis=0)
        force = max(float(wrench[2]), 1e-6)
        cup = self._gripper.read_cup_pose()
        lever = np.array([-wrench[4] / force, wrench[3] / force, 0.0])
        pose = self._stack.read_poses()[index]
        inverse = pose[3:] * (-1, -1, -1, 1)
        centre = rotate_in_space(cup[:3] + rotate_in_space(lever, cup[3:]) - pose[:3], inverse)
        self._inertia[1 + index] = force / 9.81, centre[0], centre[1], 0.0
        return True

    def _settle(self) -> None:
        """Simulate until all cartons rest."""
        for step in range(round(MAX_SETTLE_S * PHYSICS_HZ)):
            self._advance()
            if step >= MIN_SETTLE_S * PHYSICS_HZ and step % STEPS_PER_FRAME == 0:
                velocities = [self._client.getBaseVelocity(body) for body in self._stack.cartons]
                if all(math.hypot(*v) < REST_SPEED_M_S and math.hypot(*w) < REST_SPIN_RAD_S for v, w in velocities):
                    return

    def _shake(self) -> None:
        """Run the shake test, which decides the episode."""
        self._note = "shake test"
        self._set_frozen(False)
        result = self._stack.shake(on_step=self._advance_in_test)
        is_good = result.is_standing & (self._find_excess()[1 : 1 + len(self._stack.cartons)] < 2 * OUTLINE_MARGIN_M)
        is_good &= compute_tilt_cosine(self._stack.read_poses()[:, 3:]) > MIN_UPRIGHT_COSINE
        self._outcome = bool(is_good.sum() >= MIN_STANDING_SHARE * len(self._cartons))
        if not self._outcome:
            self._violations.add("stack_fell")

    def _advance_in_test(self) -> None:
        self._num_steps += 1
        self._time_s += 1 / PHYSICS_HZ
        if self._num_steps % STEPS_PER_FRAME == 0:
            self._record_frame()

    def _set_frozen(self, is_frozen: bool) -> None:
        """Freeze or free all cartons but the one that the arm moves."""
        for index, body in enumerate(self._stack.cartons):
            if index == self._held_row - 1:
                continue
            mass, inertia = (0.0, [0.0, 0.0, 0.0]) if is_frozen else self._masses[index]
            self._client.changeDynamics(body, -1, mass=mass, localInertiaDiagonal=inertia)
            if is_frozen:
                self._client.resetBaseVelocity(body, [0, 0, 0], [0, 0, 0])

    def _measure_stack(self) -> geometry.Stack:
        bodies = self._make_bodies()
        return geometry.measure_stack(bodies, geometry.make_field(bodies))

    def _find_highest_top(self, row: int) -> float:
        """Find the highest top of all cartons but one, which the arm must not touch on its way."""
        stack = self._measure_stack()
        others = stack.is_carton & (np.arange(len(stack.top)) != row)
        return max(PALLET_HEIGHT_M, float((stack.top * others).max()))

    def _find_support_height(self, placement: Placement, half: tuple[float, ...]) -> float:
        bodies = self._make_bodies()
        field = geometry.make_field(bodies)
        stack = geometry.measure_stack(bodies, field)
        ignored = np.arange(len(bodies.kind))[None] == placement.row
        x, y, half_x, half_y = (np.array([value]) for value in (placement.x, placement.y, *half))
        return float(geometry.find_support_heights(stack, field, x, y, half_x, half_y, ignored)[0])

    def _find_excess(self) -> np.ndarray:
        """Find the distance (N,) by which placed cartons are beyond the outline or the height limit [m]."""
        bodies = self._make_bodies()
        field = geometry.make_field(bodies)
        stack = geometry.measure_stack(bodies, field)
        excess = np.maximum(geometry.compute_overhang(stack, field), stack.top - field.limits[1])
        return np.where(stack.is_placed, excess, 0.0)

    def _read_tool(self) -> tuple[float, float, float, float]:
        """Read x, y, z [m] and yaw [rad] of the pad."""
        (x, y, z, *quaternion), _ = self._arm.read_state()
        return x, y, z, float(compute_yaw(np.array(quaternion)))

    def read_dynamic_bodies(self) -> tuple[list[list[float]], list[list[float]]]:
        """Read poses (M × 7) and twists (M × 6) of the pad and the cartons, as plain lists."""
        pose, twist = self._arm.read_state()
        parked = self._list_parked_poses(len(self._stack.cartons))
        velocities = [self._client.getBaseVelocity(body) for body in self._stack.cartons]
        twists = [twist, *([*linear, *angular] for linear, angular in velocities), *([0.0] * 6 for _ in parked)]
        return [pose, *self._stack.read_poses().tolist(), *parked], twists

    def _list_parked_poses(self, count: int) -> list[list[float]]:
        """List the poses of all but the first cartons, which have not arrived: far below the floor."""
        indices = range(count, len(self._cartons))
        return [[0.4 * index, 0.0, PARKED_Z_M, 0.0, 0.0, 0.0, 1.0] for index in indices]

    def read_present(self) -> list[bool]:
        """Read which bodies exist: the pad, and the cartons that have arrived."""
        return [True, *(index < self._num_arrived for index in range(len(self._cartons)))]

    def read_measured_inertia(self) -> np.ndarray:
        """Read mass and centre of mass (M, 4) of the cartons that were lifted."""
        return self._inertia.copy()

    def read_state(self) -> SimState:
        """Read the whole state between two steps."""
        poses, twists = self.read_dynamic_bodies()
        memory = PalletMemory(
            tuple(self._slots), self._num_arrived, self._inertia.copy(), self._time_s,
            tuple(sorted(self._violations)), self._press_force_n, self._outcome, self._arm.read_joint_states(),
        )  # fmt: skip
        return SimState(np.array(poses), np.array(twists), memory=memory)

    def set_state(self, state: SimState) -> None:
        """Set the whole state, after the build of the same layout."""
        memory = state.memory
        assert isinstance(memory, PalletMemory)
        for pose in state.pose[1 + len(self._stack.cartons) : 1 + memory.num_arrived]:
            self._add_carton(pose)
        for index, pose in enumerate(state.pose[1 : 1 + memory.num_arrived]):
            self._stack.set_pose(index, pose)
        self._slots, self._num_arrived = list(memory.slots), memory.num_arrived
        self._inertia = memory.inertia.copy()
        self._time_s = memory.time_s
        self._press_force_n = memory.press_force_n
        self._outcome = memory.outcome
        self._violations = set(memory.violations)
        self._arm.set_joint_states(memory.joints)

    def read_contacts(self) -> list[Contact]:
        """Read the contact in which the last carton was pressed hardest, as one with the pallet."""
        if not self._press_force_n:
            return []
        return [Contact(1, self._dynamic_count, True, self._press_force_n, (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))]

    def read_violations(self) -> dict[str, bool]:
        """Read all violations of the last skill, by kind."""
        return {kind: kind in self._violations for kind in VIOLATIONS}

    def read_outcome(self) -> bool | None:
        """Read whether the order stood the shake test; None: before it."""
        return self._outcome

    def read_time_s(self) -> float:
        """Read the simulated time since the start of the episode."""
        return self._time_s

    def read_frames(self) -> list[MotionFrame]:
        """Read the motion within the last skill."""
        return [self._make_frame(*frame) for frame in self._frames]

    def _make_frame(self, time_s: float, pad: list[float], states: list[Any], links: list[Any], note: str) -> MotionFrame:
        poses = self._stack.compute_middles(np.array([[*position, *quaternion] for position, quaternion in states]))
        pose = np.array([pad, *poses.tolist(), *self._list_parked_poses(len(states))])
        return MotionFrame(time_s, pose, self._arm.make_link_poses(links), note)

    def read_link_poses(self) -> np.ndarray:
        """Read the poses (V, 7) of the frames of the robot's `visuals`."""
        return self._arm.read_link_poses()


def _plan_arc(start: np.ndarray, end: np.ndarray) -> tuple[float, np.ndarray]:
    """Plan the turn of the tool, and the change of radius, angle and height, between two places."""
    angle = float(wrap_angle(math.atan2(end[1], end[0]) - math.atan2(start[1], start[0])))
    change = np.array([math.hypot(*end[:2]) - math.hypot(*start[:2]), angle, end[2] - start[2]])
    return float(wrap_angle(end[3] - start[3] - angle)) + angle, change


def _locate_on_arc(start: np.ndarray, turn: float, change: np.ndarray, share: float) -> np.ndarray:
    """Compute x, y, z, yaw after a share of an arc."""
    radius = math.hypot(*start[:2]) + share * change[0]
    angle = math.atan2(start[1], start[0]) + share * change[1]
    return np.array([radius * math.cos(angle), radius * math.sin(angle), start[2] + share * change[2], start[3] + share * turn])


def _compute_travel(time_s: float, ramp_s: float, duration_s: float, speed_m_s: float) -> float:
    """Compute the distance after a time of a motion with a trapezoidal speed [m]."""
    left_s = duration_s - time_s
    if time_s < ramp_s:
        return speed_m_s * time_s**2 / (2 * ramp_s)
    total = speed_m_s * (duration_s - ramp_s)
    if left_s < ramp_s:
        return total - speed_m_s * left_s**2 / (2 * ramp_s)
    return speed_m_s * (time_s - ramp_s / 2)


def _choose_tool_yaws(start: np.ndarray, end: np.ndarray, turn: float) -> tuple[float, float]:
    """Choose the yaw of the tool at a pick and at a placement, so that its last joint turns least."""
    pick, place = math.atan2(start[1], start[0]), math.atan2(end[1], end[0])
    offsets = [float(wrap_angle(pick + extra + turn - place)) for extra in TOOL_TURNS]
    best = min(range(len(TOOL_TURNS)), key=lambda number: max(abs(TOOL_TURNS[number]), abs(offsets[number])))
    return pick + TOOL_TURNS[best], place + offsets[best]


def _apply_variation(carton: Carton, variation: Variation) -> Carton:
    """Scale mass and friction, relative to the scene's base values."""
    mass = carton.mass_kg * variation.load_mass_kg / BASE.load_mass_kg
    return replace(carton, mass_kg=mass, friction=carton.friction * variation.load_friction / BASE.load_friction)
