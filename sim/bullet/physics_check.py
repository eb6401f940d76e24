"""Measurements of Bullet: the minimum time of a step, and the accuracy of sliding and pushing.

`ground bench` shows them. Theory is Coulomb friction on the four corners of a flat box,
integrated in small steps.
"""

import time
from dataclasses import dataclass

import numpy as np

from sim.bodies import LOAD, ROBOT, LoadSpec
from sim.bullet.client import BulletClient
from sim.bullet.world import FLOOR_FRICTION, PHYSICS_HZ, SOLVER_ITERATIONS, World
from sim.env import GroundEnv
from sim.geometry.rotations import compute_yaw, wrap_angle
from sim.layout import Hall, Layout, Pose
from sim.policy import SimState
from sim.robots.robot import MOTOR_HZ, Robot
from sim.scenes.scene import Scene
from sim.variation import Variation

GRAVITY_M_S2 = 9.81
OFFSETS_M = (-0.06, 0.0, 0.03, 0.12)  # lateral, of the robot from the load in `simulate_push`


@dataclass(frozen=True)
class CommandReplay:
    """The motor commands of an episode, to repeat without the environment around them."""

    scene: Scene
    layout: Layout
    variation: Variation
    pose: np.ndarray  # (M, 7) at the start
    commands: list[tuple[float, ...]]  # one per controller tick

    @classmethod
    def record(cls, env: GroundEnv, actions: np.ndarray) -> "CommandReplay":
        """Record the motor commands of actions.

        Args:
            env: an environment that was reset; it is not stepped.
            actions: (T, n), executed in a separate world.
        """
        replay = cls(env.scene, env.layout, env.variation, env.bodies.pose[env.bodies.is_dynamic], [])
        world, robot = replay._build()
        for action in actions.tolist():
            for _ in range(round(env.scene.control_dt_s * MOTOR_HZ)):
                replay.commands.append(robot.compute_command(tuple(action)))
                robot.set_motors(replay.commands[-1])
                _step_one_tick(world)
        world.close()
        return replay

    def measure_seconds(self) -> tuple[float, float]:
        """Measure the wall time of a replay.

        Returns:
            Seconds of motor commands and physics steps together, and of the physics steps only.
        """
        world, robot = self._build()
        physics_s = 0.0
        start = time.perf_counter()
        for command in self.commands:
            robot.set_motors(command)
            before = time.perf_counter()
            _step_one_tick(world)
            physics_s += time.perf_counter() - before
        total_s = time.perf_counter() - start
        world.close()
        return total_s, physics_s

    def _build(self) -> tuple[World, Robot]:
        world = World()
        robot = self.scene.make_robot(self.variation)
        layout = self.layout
        loads = self.scene.make_loads(layout, self.variation)
        traffic = self.scene.make_traffic(layout, self.variation, 0) if layout.traffic else None
        world.build(robot, loads, layout.static_boxes, layout.table_top, traffic)
        world.set_state(SimState(self.pose, np.zeros((len(self.pose), 6))))
        return world, robot


def _step_one_tick(world: World) -> None:
    for _ in range(int(PHYSICS_HZ / MOTOR_HZ)):
        world._client.stepSimulation()


def simulate_slide(load: LoadSpec, speed_m_s: float, yaw_rate_rad_s: float, maximal: bool = False) -> tuple[float, float]:
    """Simulate in Bullet a load that slides and spins on the floor until it rests.

    Args:
        maximal: simulate a rigid body in maximal coordinates instead of a multibody.

    Returns:
        Distance [m] and change of yaw [rad].
    """
    client = BulletClient()
    client.setGravity(0, 0, -GRAVITY_M_S2)
    client.setPhysicsEngineParameter(fixedTimeStep=1 / PHYSICS_HZ, numSolverIterations=SOLVER_ITERATIONS)
    half_extents = ((5, 5, 0.5), load.half_extents)
    floor, box = (client.createCollisionShape(client.GEOM_BOX, halfExtents=half) for half in half_extents)
    ground = client.createMultiBody(0, floor, -1, [0, 0, -0.5], useMaximalCoordinates=True)
    body = client.createMultiBody(load.mass_kg, box, -1, [0, 0, load.half_extents[2]], useMaximalCoordinates=maximal)
    client.changeDynamics(ground, -1, lateralFriction=FLOOR_FRICTION)
    client.changeDynamics(body, -1, lateralFriction=load.friction, linearDamping=0, angularDamping=0)
    client.resetBaseVelocity(body, [speed_m_s, 0, 0], [0, 0, yaw_rate_rad_s])
    for _ in range(2 * PHYSICS_HZ):
        client.stepSimulation()
    position, orientation = client.getBasePositionAndOrientation(body)
    client.close()
    return float(np.hypot(*position[:2])), float(compute_yaw(np.array(orientation)))


def integrate_slide(load: LoadSpec, speed_m_s: float, yaw_rate_rad_s: float, step_s: float = 1e-4) -> tuple[float, float]:
    """Integrate the motion of `simulate_slide` in theory: each corner has a quarter of the weight.

    Returns:
        Distance [m] and change of yaw [rad].
    """
    width, depth = load.half_extents[:2]
    corners = np.array([(x, y) for x in (-width, width) for y in (-depth, depth)])
    inertia = (width**2 + depth**2) / 3  # per kilogram
    pose = np.zeros(3)  # x, y, yaw
    velocity = np.array([speed_m_s, 0.0, yaw_rate_rad_s])
    while True:
        c, s = np.cos(pose[2]), np.sin(pose[2])
        lever = corners @ np.array([[c, s], [-s, c]])
        sliding = velocity[:2] + velocity[2] * np.stack([-lever[:, 1], lever[:, 0]], -1)
        length = np.maximum(np.linalg.norm(sliding, axis=-1, keepdims=True), 1e-9)
        force = -load.friction * GRAVITY_M_S2 / 4 * sliding / length  # per kilogram
        torque = float(np.sum(lever[:, 0] * force[:, 1] - lever[:, 1] * force[:, 0]))
        if np.linalg.norm(velocity[:2]) < load.friction * GRAVITY_M_S2 * step_s and abs(velocity[2]) < 40 * step_s:
            return float(np.linalg.norm(pose[:2])), float(pose[2])
        velocity += np.array([*force.sum(0), torque / inertia]) * step_s
        pose += velocity * step_s


def simulate_push(scene: Scene, physics_hz: int = PHYSICS_HZ, solver_iterations: int = SOLVER_ITERATIONS) -> np.ndarray:
    """Simulate the robot pushing a tote for 2.5 s, from each of OFFSETS_M.

    Returns:
        (len(OFFSETS_M), 3) final x, y [m] and yaw [rad] of the tote.
    """
    variation = Variation()
    load = scene.make_loads(scene.sample_layout("train", 0), variation)[0]
    robot = scene.make_robot(variation)
    gap = robot.half_extents[0] + load.half_extents[0] + 0.02
    ends = []
    for offset in OFFSETS_M:
        layout = Layout(Hall(0, 0, 8, 6), Pose(2 - gap, 3 + offset), (Pose(2, 3),), Pose(6, 3))
        world = World(physics_hz=physics_hz, solver_iterations=solver_iterations)
        world.start_episode(scene, layout, variation, 0)
        for _ in range(25):
            world.step((0.7, 0.05), scene.control_dt_s)
        pose = np.array(world.read_dynamic_bodies()[0])
        world.close()
        assert pose[LOAD, 0] > 2.3, "the robot lost the load"
        assert pose[ROBOT, 0] < pose[LOAD, 0]
        ends.append((*pose[LOAD, :2], compute_yaw(pose[LOAD, 3:])))
    return np.array(ends)


def compute_deviation(ends: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Compute the largest deviation between two results of `simulate_push`.

    Args:
        ends: (K, 3) x, y [m] and yaw [rad].
        reference: (K, 3) as `ends`.

    Returns:
        Distance [m] and angle [rad].
    """
    distance = np.linalg.norm(ends[:, :2] - reference[:, :2], axis=-1)
    return float(distance.max()), float(np.abs(wrap_angle(ends[:, 2] - reference[:, 2])).max())
