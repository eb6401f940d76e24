"""World: a Bullet client with a robot, loads, traffic and the static boxes of a layout.

Loads are multibodies, static boxes are rigid bodies in maximal coordinates. Only the multibody
solver couples sliding and spinning friction of a flat contact. A tote that slides at 0.8 m/s and
spins at 4 rad/s stops after 86 mm; theory gives 91 mm, and maximal coordinates give 66 mm.
`ground bench` shows these values, and that a pushed tote moves alike with 10 and with 50 solver
iterations.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.bodies import Bodies, Kind, LoadSpec, Shape
from sim.bullet.base import BulletWorld
from sim.geometry.rotations import compute_yaw, make_upright_poses
from sim.layout import Layout
from sim.policy import SimState
from sim.robots.robot import MOTOR_HZ, Robot
from sim.traffic.simulation import AgentProfile, TrafficSimulation
from sim.variation import Variation

if TYPE_CHECKING:
    from sim.scenes.scene import Scene

PHYSICS_HZ = 240
SOLVER_ITERATIONS = 10
FLOOR_FRICTION = 1.0  # Bullet multiplies both coefficients: a load's friction is the pair's
Colour = tuple[float, float, float, float]
FLOOR_COLOUR: Colour = (0.92, 0.92, 0.9, 1)
LOAD_COLOUR: Colour = (0.85, 0.45, 0.1, 1)
STATIC_COLOURS: dict[Kind, Colour] = {
    Kind.WALL: (0.75, 0.75, 0.75, 1),
    Kind.RACK: (0.35, 0.45, 0.55, 1),
    Kind.CLAMP: (0.4, 0.4, 0.45, 1),
}


def _compute_inertia(load: LoadSpec) -> list[float]:
    """Compute the moments of inertia [kg m²] of boxes of equal density about (0, 0).

    (0, 0) is their common centre of mass.
    """
    boxes = np.array(load.footprint_boxes)
    mass = load.mass_kg * boxes[:, 2] * boxes[:, 3] / (boxes[:, 2] * boxes[:, 3]).sum()
    along_x, along_y = (float((mass * (boxes[:, i] ** 2 + boxes[:, 2 + i] ** 2 / 3)).sum()) for i in (0, 1))
    vertical = load.mass_kg * load.half_extents[2] ** 2 / 3
    return [along_y + vertical, along_x + vertical, along_x + along_y]


class World(BulletWorld):
    """Physics of a single scene.

    `build` starts from an empty world, so equal inputs give equal bytes.
    """

    def __init__(
        self, gui: bool = False, physics_hz: int = PHYSICS_HZ, solver_iterations: int = SOLVER_ITERATIONS, averaged: bool = False
    ) -> None:
        """Connect to a physics server.

        Args:
            averaged: contact forces are means over the last control period. Those of single physics
                steps vary tenfold from step to step. Contacts are then read after each physics
                step.
        """
        super().__init__(gui)
        self._physics_hz = physics_hz
        self._solver_iterations = solver_iterations
        self._averaged = averaged

    def start_episode(
        self, scene: "Scene", layout: Layout, variation: Variation, seed: int, poses: np.ndarray | None = None
    ) -> tuple[Bodies, np.ndarray]:
        """Build a layout, and place its bodies, as `SceneWorld` describes."""
        robot, loads, traffic = self._build_layout(scene, layout, variation, seed)
        starts: list[Any] = [layout.robot, *layout.loads, *layout.traffic]
        layout_poses = np.array([(start.x, start.y, start.yaw) for start in starts])
        places = layout_poses if poses is None else np.concatenate([poses, layout_poses[len(poses) :]])
        half_extents = np.array([robot.half_extents, *(load.half_extents for load in loads)])
        shapes = [robot.shape, *[Shape.BOX] * len(loads)]
        footprints = np.zeros((len(starts), scene.footprint_size, 4))
        for row, load in enumerate(loads, 1):
            footprints[row, : len(load.footprint_boxes)] = load.footprint_boxes
        if traffic:
            half_extents = np.concatenate([half_extents, traffic.half_extents])
            shapes += [profile.shape for profile in traffic.profiles]
            is_box = np.array(shapes[1 + len(loads) :])[:, None] == Shape.BOX
            footprints[1 + len(loads) :, 0, 2:] = traffic.half_extents[:, :2] * is_box
        heights = np.array([robot.centre_z_m, *half_extents[1:, 2]])
        twist = np.zeros((len(starts), 6))
        self.set_state(SimState(make_upright_poses(places, heights), twist))
        pose, _ = self.read_dynamic_bodies()
        kinds = np.array(layout.dynamic_kinds, np.int8)
        present = np.ones(len(starts), np.int8)
        return Bodies(np.array(pose), twist, half_extents, kinds, np.array(shapes, np.int8), present), footprints

    def restore_episode(self, scene: "Scene", layout: Layout, variation: Variation, seed: int, state: SimState) -> None:
        """Build a layout from an empty world, and set a state."""
        self._build_layout(scene, layout, variation, seed)
        self.set_state(state)

    def _build_layout(
        self, scene: "Scene", layout: Layout, variation: Variation, seed: int
    ) -> tuple[Robot, list[LoadSpec], TrafficSimulation | None]:
        robot = scene.make_robot(variation)
        loads = scene.make_loads(layout, variation)
        traffic = scene.make_traffic(layout, variation, seed) if layout.traffic else None
        self.build(robot, loads, layout.static_boxes, layout.table_top, traffic)
        return robot, loads, traffic

    def build(
        self,
        robot: Robot,
        loads: list[LoadSpec],
        static_boxes: np.ndarray,
        floor: tuple[float, float, float, float] | None = None,
        traffic: TrafficSimulation | None = None,
    ) -> None:
        """Build a fresh world; `set_state` then places the dynamic bodies.

        Args:
            static_boxes: (S, 7) as in Layout.static_boxes.
            floor: x, y, width, depth of a table's top [m]; None: a floor larger than the layout.
        """
        client = self._client
        client.resetSimulation()
        client.setGravity(0, 0, -9.81)
        client.setPhysicsEngineParameter(
            fixedTimeStep=1 / self._physics_hz, numSolverIterations=self._solver_iterations, deterministicOverlappingPairs=1
        )
        if floor is None:
            low, high = static_boxes[:, :2].min(0) - 1, static_boxes[:, :2].max(0) + 1
        else:
            low, high = np.array(floor[:2]), np.array(floor[:2]) + floor[2:]
        self._start_images()
        self._floor = self._create_box([*((high - low) / 2), 0.5], [*((high + low) / 2), -0.5], 0, FLOOR_COLOUR, mass=0)
        client.changeDynamics(self._floor, -1, lateralFriction=FLOOR_FRICTION)
        self._static = [
            self._create_box(row[3:6], [row[0], row[1], row[5]], row[2], STATIC_COLOURS[Kind(int(row[6]))], mass=0)
            for row in static_boxes
        ]
        self._loads = [self._create_load(load) for load in loads]
        for body, load in zip(self._loads, loads, strict=True):
            client.changeDynamics(body, -1, lateralFriction=load.friction, linearDamping=0, angularDamping=0)
        self._robot = robot
        self.visuals = robot.visuals
        robot.spawn(client)
        self.traffic = traffic
        self._agents = [self._create_agent(profile) for profile in traffic.profiles] if traffic else []
        dynamic = [robot.body, *self._loads, *self._agents]
        self._dynamic_count = len(dynamic)
        self._index = {body: index for index, body in enumerate([*dynamic, *self._static])}
        self._time_s = 0.0

    def _create_box(
        self, size: Sequence[float] | np.ndarray, position: list[float], yaw: float, colour: Colour, mass: float
    ) -> int:
        client = self._client
        half = [float(h) for h in size]
        collision = client.createCollisionShape(client.GEOM_BOX, halfExtents=half)
        visual = client.createVisualShape(client.GEOM_BOX, halfExtents=half, rgbaColor=colour)
        pose = [float(x) for x in position], [0, 0, math.sin(yaw / 2), math.cos(yaw / 2)]
        return int(client.createMultiBody(mass, collision, visual, *pose, useMaximalCoordinates=mass == 0))

    def _create_load(self, load: LoadSpec) -> int:
        if not load.footprint:
            return self._create_box(load.half_extents, [0, 0, 0], 0, LOAD_COLOUR, load.mass_kg)
        client = self._client
        count = len(load.footprint)
        half = [[width, depth, load.half_extents[2]] for _, _, width, depth in load.footprint]
        places = [[x, y, 0.0] for x, y, _, _ in load.footprint]
        shape = {"shapeTypes": [client.GEOM_BOX] * count, "halfExtents": half}
        collision = client.createCollisionShapeArray(collisionFramePositions=places, **shape)
        visual = client.createVisualShapeArray(visualFramePositions=places, rgbaColors=[LOAD_COLOUR] * count, **shape)
        body = int(client.createMultiBody(load.mass_kg, collision, visual))
        # Bullet would take the inertia of the bounding box.
        client.changeDynamics(body, -1, localInertiaDiagonal=_compute_inertia(load))
        return body

    def _create_agent(self, profile: AgentProfile) -> int:
        """Create the body of a person or forklift: its contacts are detected but do not push it."""
        radius, _, half_height = profile.half_extents
        if profile.shape == Shape.BOX:
            return self._create_box(profile.half_extents, [0, 0, 0], 0, profile.colour, mass=0)
        client = self._client
        collision = client.createCollisionShape(client.GEOM_CYLINDER, radius=radius, height=2 * half_height)
        size = {"radius": radius, "length": 2 * half_height}
        visual = client.createVisualShape(client.GEOM_CYLINDER, rgbaColor=profile.colour, **size)
        return int(client.createMultiBody(0, collision, visual, useMaximalCoordinates=True))

    def _move_agents(self, traffic: TrafficSimulation, agents: Iterable[int] | None = None) -> None:
        """Move the bodies of agents to their states in the traffic simulation; None: all agents."""
        states = traffic.list_states()
        for index in range(len(states)) if agents is None else agents:
            self._move_body(self._agents[index], *states[index])

    def _move_body(self, body: int, pose: list[float], twist: list[float]) -> None:
        self._client.resetBasePositionAndOrientation(body, pose[:3], pose[3:])
        self._client.resetBaseVelocity(body, twist[:3], twist[3:])

    def set_state(self, state: SimState) -> None:
        """Set the state of the robot, the loads and the traffic.

        Args:
            state: traffic without its hidden part starts anew from its poses.
        """
        pose = state.pose
        twist = state.twist
        self._samples = []
        if self.traffic and state.traffic:
            self.traffic.set_full_state(state.traffic)
        self._robot.set_state(pose[0], twist[0])
        end = 1 + len(self._loads)
        for load in zip(self._loads, pose[1:end].tolist(), twist[1:end].tolist(), strict=True):
            self._move_body(*load)
        if self.traffic:
            planar = np.column_stack([pose[end:, :2], compute_yaw(pose[end:, 3:])])
            self.traffic.set_poses(planar, twist[end:][:, [0, 1, 5]])
            self._move_agents(self.traffic)

    def step(self, action: tuple[float, ...], duration_s: float) -> None:
        """Simulate one control period with an action in [-1, 1]ⁿ."""
        step = self._client.stepSimulation
        self._time_s += duration_s
        robot = self._robot
        self._samples = []
        if self.traffic:
            (x, y, *_), (vx, vy, *_) = robot.read_state()
            self.traffic.choose_velocities((x, y), (vx, vy))
            near = self.traffic.find_near((x, y))
        for _ in range(round(duration_s * MOTOR_HZ)):
            if self.traffic:
                self.traffic.advance(1 / MOTOR_HZ)
                self._move_agents(self.traffic, near)
            robot.set_motors(robot.compute_command(action))
            for _ in range(int(self._physics_hz / MOTOR_HZ)):
                step()
                if self._averaged:
                    self._samples.append(self._sample_contacts())
        if self.traffic:
            self._move_agents(self.traffic)

    def read_dynamic_bodies(self) -> tuple[list[list[float]], list[list[float]]]:
        """Read poses (M × 7) and twists (M × 6) of robot, loads and traffic, as plain lists."""
        states = [self._robot.read_state()]
        for body in self._loads:
            position, rotation = self._client.getBasePositionAndOrientation(body)
            linear, angular = self._client.getBaseVelocity(body)
            states.append(([*position, *rotation], [*linear, *angular]))
        states += self.traffic.list_states() if self.traffic else []
        return [pose for pose, _ in states], [twist for _, twist in states]

    def read_state(self) -> SimState:
        """Read the state between two steps."""
        pose, twist = self.read_dynamic_bodies()
        return SimState(np.array(pose), np.array(twist), self.traffic.state if self.traffic else None)

    def read_time_s(self) -> float:
        """Read the simulated time since `build`."""
        return self._time_s

    def read_link_poses(self) -> np.ndarray:
        """Read the poses of the frames of the robot's `visuals`.

        Returns:
            (V, 7) position [m] and quaternion xyzw, world frame.
        """
        return self._robot.read_link_poses()

    def read_violations(self) -> dict[str, bool]:
        """Read the violations of the robot's limits, by kind."""
        return self._robot.read_limit_violations()
