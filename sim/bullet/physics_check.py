"""Measurements of Bullet itself: the least time that a step could take, and how truly a box slides, spins and is pushed.

`ground bench` shows them. Theory is Coulomb friction on the four corners of a flat box, integrated in small steps.
"""

import time
from dataclasses import dataclass

import numpy as np

from sim.bodies import LOAD, ROBOT, LoadSpec
from sim.bullet.client import BulletClient
from sim.bullet.world import FLOOR_FRICTION, PHYSICS_HZ, SOLVER_ITERATIONS, World
from sim.env import GroundEnv
from sim.geometry.rotations import compute_yaw, make_upright_poses, wrap_angle
from sim.layout import Hall, Layout, Pose
from sim.robots.robot import MOTOR_HZ, Robot
from sim.scenes.scene import Scene
from sim.variation import Variation

GRAVITY_M_S2 = 9.81
OFFSETS_M = (-0.06, 0.0, 0.03, 0.12)  # of the robot from the line through the load, in `push`


@dataclass(frozen=True)
class CommandReplay:
    """The motor commands (one per tick of the drive) of an episode, to be given again without anything around them."""

    scene: Scene
    layout: Layout
    variation: Variation
    pose: np.ndarray  # (M, 7) at the start
    commands: list[tuple[float, ...]]

    @classmethod
    def record(cls, env: GroundEnv, actions: np.ndarray) -> "CommandReplay":
        """`env` stands at its start; actions (T, 2) are carried out in a world of its own."""
        movers = int(env.bodies.is_dynamic.sum())
        replay = cls(env.scene, env.layout, env.variation, env.bodies.pose[:movers].copy(), [])
        world = World()
        robot = replay._build(world)
        for action in actions.tolist():
            for _ in range(round(env.scene.control_dt_s * MOTOR_HZ)):
                replay.commands.append(robot.compute_command(tuple(action)))
                robot.set_motors(replay.commands[-1])
                _step_one_tick(world)
        world.close()
        return replay

    def measure_seconds(self) -> tuple[float, float]:
        """Time of motor commands and physics steps together, and of the physics steps alone [s]."""
        world = World()
        robot = self._build(world)
        simulating, begun = 0.0, time.perf_counter()
        for command in self.commands:
            robot.set_motors(command)
            before = time.perf_counter()
            _step_one_tick(world)
            simulating += time.perf_counter() - before
        total = time.perf_counter() - begun
        world.close()
        return total, simulating

    def _build(self, world: World) -> Robot:
        robot = self.scene.make_robot(self.variation)
        layout, loads = self.layout, self.scene.make_loads(self.layout, self.variation)
        traffic = self.scene.make_traffic(layout, self.variation, 0) if layout.traffic else None
        world.build(robot, loads, layout.static_boxes, layout.table_top, traffic)
        world.set_state(self.pose, np.zeros((len(self.pose), 6)))
        return robot


def _step_one_tick(world: World) -> None:
    """One tick of the drive, in physics steps."""
    for _ in range(int(PHYSICS_HZ / MOTOR_HZ)):
        world._client.stepSimulation()


def simulate_slide(load: LoadSpec, speed_m_s: float, spin_rad_s: float, maximal: bool = False) -> tuple[float, float]:
    """Way [m] and turn [rad] until a load that slides and spins on the floor stands still, in Bullet.

    maximal: as a rigid body in maximal coordinates instead of a multibody.
    """
    client = BulletClient()
    client.setGravity(0, 0, -GRAVITY_M_S2)
    client.setPhysicsEngineParameter(fixedTimeStep=1 / PHYSICS_HZ, numSolverIterations=SOLVER_ITERATIONS)
    sizes = (5, 5, 0.5), load.half_extents
    floor, box = (client.createCollisionShape(client.GEOM_BOX, halfExtents=half) for half in sizes)
    ground = client.createMultiBody(0, floor, -1, [0, 0, -0.5], useMaximalCoordinates=True)
    body = client.createMultiBody(load.mass_kg, box, -1, [0, 0, load.half_extents[2]], useMaximalCoordinates=maximal)
    client.changeDynamics(ground, -1, lateralFriction=FLOOR_FRICTION)
    client.changeDynamics(body, -1, lateralFriction=load.friction, linearDamping=0, angularDamping=0)
    client.resetBaseVelocity(body, [speed_m_s, 0, 0], [0, 0, spin_rad_s])
    for _ in range(2 * PHYSICS_HZ):
        client.stepSimulation()
    position, orientation = client.getBasePositionAndOrientation(body)
    client.close()
    return float(np.hypot(*position[:2])), float(compute_yaw(np.array(orientation)))


def integrate_slide(load: LoadSpec, speed_m_s: float, spin_rad_s: float, step_s: float = 1e-4) -> tuple[float, float]:
    """Way [m] and turn [rad] of the same load, a quarter of its weight on each corner."""
    width, depth = load.half_extents[:2]
    corners = np.array([(x, y) for x in (-width, width) for y in (-depth, depth)])
    inertia = (width**2 + depth**2) / 3  # per kilogram
    place, velocity, yaw, spin = np.zeros(2), np.array([speed_m_s, 0.0]), 0.0, spin_rad_s
    while True:
        c, s = np.cos(yaw), np.sin(yaw)
        arm = corners @ np.array([[c, s], [-s, c]])
        sliding = velocity + spin * np.stack([-arm[:, 1], arm[:, 0]], -1)
        length = np.maximum(np.linalg.norm(sliding, axis=-1, keepdims=True), 1e-9)
        force = -load.friction * GRAVITY_M_S2 / 4 * sliding / length  # per kilogram
        push, torque = force.sum(0), float(np.sum(arm[:, 0] * force[:, 1] - arm[:, 1] * force[:, 0]))
        if np.linalg.norm(velocity) < load.friction * GRAVITY_M_S2 * step_s and abs(spin) < 40 * step_s:
            return float(np.linalg.norm(place)), float(yaw)
        velocity, spin = velocity + push * step_s, spin + torque / inertia * step_s
        place, yaw = place + velocity * step_s, yaw + spin * step_s


def simulate_push(scene: Scene, physics_hz: int = PHYSICS_HZ, solver_iterations: int = SOLVER_ITERATIONS) -> np.ndarray:
    """Where a tote ends that the robot pushes for 2.5 s, for each of OFFSETS_M: (len, 3) x, y [m] and yaw [rad]."""
    variation = Variation()
    load, robot = scene.make_loads(scene.sample_layout("train", 0), variation)[0], scene.make_robot(variation)
    gap = robot.half_extents[0] + load.half_extents[0] + 0.02
    ends = []
    for offset in OFFSETS_M:
        layout = Layout(Hall(0, 0, 8, 6), Pose(2 - gap, 3 + offset), (Pose(2, 3),), Pose(6, 3))
        world = World(physics_hz=physics_hz, solver_iterations=solver_iterations)
        world.build(scene.make_robot(variation), [load], layout.static_boxes)
        places = np.array([(p.x, p.y, p.yaw) for p in (layout.robot, *layout.loads)])
        world.set_state(make_upright_poses(places, np.array([world.robot_z_m, load.half_extents[2]])), np.zeros((2, 6)))
        for _ in range(25):
            world.step((0.7, 0.05), scene.control_dt_s)
        pose = np.array(world.read_dynamic_bodies()[0])
        world.close()
        assert pose[LOAD, 0] > 2.3, "the robot lost the load"
        assert pose[ROBOT, 0] < pose[LOAD, 0]
        ends.append((*pose[LOAD, :2], compute_yaw(pose[LOAD, 3:])))
    return np.array(ends)


def compute_deviation(ends: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Largest distance [m] and turn [rad] between two results of `push`."""
    apart = np.linalg.norm(ends[:, :2] - others[:, :2], axis=-1)
    return float(apart.max()), float(np.abs(wrap_angle(ends[:, 2] - others[:, 2])).max())
