"""World: one Bullet client with a robot, loads, traffic and the static boxes of a layout.

Loads are multibodies and statics are not: only the multibody solver keeps sliding and spinning friction of a flat contact
coupled (a tote that slides at 0.8 m/s and spins at 4 rad/s stops after 86 mm, theory says 91 mm; as a maximal-coordinates rigid
body it stops after 66 mm). `ground bench` shows both, and that 10 solver iterations move a pushed tote as 50 do.
"""

import math
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sim.bodies import Kind, yaw_of
from sim.bullet import pybullet
from sim.cameras import FLOOR, NOTHING, Picture, View
from sim.looks import Look
from sim.robots import MOTOR_HZ, Robot
from sim.traffic import Traffic, TrafficState

PHYSICS_HZ = 240
SOLVER_ITERATIONS = 10
FLOOR_FRICTION = 1.0  # Bullet multiplies the two bodies' coefficients, so a load's own is the pair's
COLOURS = {Kind.LOAD: (0.85, 0.45, 0.1, 1), Kind.WALL: (0.75, 0.75, 0.75, 1), Kind.RACK: (0.35, 0.45, 0.55, 1),
           Kind.CLAMP: (0.4, 0.4, 0.45, 1)}  # fmt: skip


@dataclass(frozen=True)
class LoadBody:
    """What can be pushed: a box, or a few that are one."""

    half_extents: tuple[float, float, float]  # of all of it, about its centre of mass
    mass_kg: float
    friction: float
    pieces: tuple[tuple[float, float, float, float], ...] = ()  # x, y, half width, half depth of its boxes; none: one box

    @property
    def boxes(self) -> tuple[tuple[float, float, float, float], ...]:
        """Its boxes seen from above; their common centre of mass is (0, 0)."""
        return self.pieces or ((0.0, 0.0, *self.half_extents[:2]),)


@dataclass(frozen=True)
class Truth:
    """The state of a world between two steps, as far as it can be set again."""

    pose: np.ndarray  # (M, 7) of the robot, loads and traffic
    twist: np.ndarray  # (M, 6)
    traffic: TrafficState | None = None


Pair = tuple[int, int]
Looks = dict[Pair, tuple[float, Any, Any]]  # force [N], point and normal of each pair that touches


@dataclass(frozen=True)
class Hit:
    """A contact between a moving and a static body, or between two moving ones; indices into the bodies' order."""

    first: int
    second: int
    static: bool  # whether the second one is
    force_n: float  # now, or the mean over a control period
    point: tuple[float, float, float]  # where they touch, world frame [m]; of several contacts, one
    normal: tuple[float, float, float]  # unit, out of the second one


def _inertia(load: LoadBody) -> list[float]:
    """Of boxes of equal density about the common centre of mass, which lies at (0, 0), along its axes [kg m²]."""
    boxes, high = np.array(load.boxes), load.half_extents[2]
    mass = load.mass_kg * boxes[:, 2] * boxes[:, 3] / (boxes[:, 2] * boxes[:, 3]).sum()
    along_x, along_y = (float((mass * (boxes[:, i] ** 2 + boxes[:, 2 + i] ** 2 / 3)).sum()) for i in (0, 1))
    upright = load.mass_kg * high**2 / 3
    return [along_y + upright, along_x + upright, along_x + along_y]


def _disconnect(client: int) -> None:
    if pybullet.isConnected(client):
        pybullet.disconnect(client)


class World:
    """Physics of one scene at a time; `build` starts from nothing, so equal inputs give equal bytes.

    averaged: forces of hits are means over the last control period, as they matter to what is touched: those of single physics
    steps are the solver's, ten times as high in one as in the next. It takes a look at the contacts after each of them.
    """

    def __init__(
        self,
        gui: bool = False,
        physics_hz: int = PHYSICS_HZ,
        solver_iterations: int = SOLVER_ITERATIONS,
        averaged: bool = False,
    ) -> None:
        self._physics_hz, self._solver_iterations, self._averaged = physics_hz, solver_iterations, averaged
        self._looks: list[Looks] = []  # at the contacts, in the last control period
        self._client = pybullet.connect(pybullet.GUI if gui else pybullet.DIRECT)
        if self._client < 0:
            raise RuntimeError("Bullet gave no client")
        self.close = weakref.finalize(self, _disconnect, self._client)  # by hand, or when nobody has the world any more

    def build(
        self,
        robot: Robot,
        loads: list[LoadBody],
        static_boxes: np.ndarray,
        floor: tuple[float, float, float, float] | None = None,
        traffic: Traffic | None = None,
    ) -> None:
        """A fresh world: robot, loads, traffic, static boxes (S, 7) as in Layout.static_boxes. Place the movers with `place`.

        floor: x, y, width, depth of a table's top, which ends there; None: a floor that goes on beyond the boxes.
        """
        client = self._client
        pybullet.resetSimulation(physicsClientId=client)
        pybullet.setGravity(0, 0, -9.81, physicsClientId=client)
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=1 / self._physics_hz,
            numSolverIterations=self._solver_iterations,
            deterministicOverlappingPairs=1,
            physicsClientId=client,
        )
        if floor is None:
            low, high = static_boxes[:, :2].min(0) - 1, static_boxes[:, :2].max(0) + 1
        else:
            low, high = np.array(floor[:2]), np.array(floor[:2]) + floor[2:]
        half = [*((high - low) / 2), 0.5]
        self._light: dict[str, Any] = {}
        self._drawn: list[int] | None = None  # bodies that the robot's links are seen as, from the first picture on
        self._ground = ground = self._box(half, [*((high + low) / 2), -0.5], 0, (0.92, 0.92, 0.9, 1), mass=0)
        pybullet.changeDynamics(ground, -1, lateralFriction=FLOOR_FRICTION, physicsClientId=client)
        self._static = [
            self._box(row[3:6], [row[0], row[1], row[5]], row[2], COLOURS[Kind(int(row[6]))], mass=0) for row in static_boxes
        ]
        self._loads = [self._load(load) for load in loads]
        for body, load in zip(self._loads, loads, strict=True):
            pybullet.changeDynamics(
                body, -1, lateralFriction=load.friction, linearDamping=0, angularDamping=0, physicsClientId=client
            )
        self._robot = robot
        robot.spawn(client)
        self.traffic = traffic
        movers = [robot.body, *self._loads, *(traffic.spawn(client) if traffic else [])]
        self._movers = len(movers)
        self._index = {body: index for index, body in enumerate(movers)}
        self._index |= {body: len(movers) + index for index, body in enumerate(self._static)}
        self.robot_z_m = robot.centre_z_m

    def _box(
        self, size: Sequence[float] | np.ndarray, position: list[float], yaw: float, colour: tuple[float, ...], mass: float
    ) -> int:
        half = [float(h) for h in size]
        shape = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half, physicsClientId=self._client)
        look = pybullet.createVisualShape(pybullet.GEOM_BOX, halfExtents=half, rgbaColor=colour, physicsClientId=self._client)
        return pybullet.createMultiBody(
            mass,
            shape,
            look,
            [float(x) for x in position],
            [0, 0, math.sin(yaw / 2), math.cos(yaw / 2)],
            useMaximalCoordinates=mass == 0,
            physicsClientId=self._client,
        )

    def _load(self, load: LoadBody) -> int:
        if not load.pieces:
            return self._box(load.half_extents, [0, 0, 0], 0, COLOURS[Kind.LOAD], load.mass_kg)
        client, high = self._client, load.half_extents[2]
        kinds = [pybullet.GEOM_BOX] * len(load.pieces)
        halves = [[width, depth, high] for _, _, width, depth in load.pieces]
        places = [[x, y, 0.0] for x, y, _, _ in load.pieces]
        body = pybullet.createMultiBody(
            load.mass_kg,
            pybullet.createCollisionShapeArray(
                shapeTypes=kinds, halfExtents=halves, collisionFramePositions=places, physicsClientId=client
            ),
            pybullet.createVisualShapeArray(
                shapeTypes=kinds,
                halfExtents=halves,
                visualFramePositions=places,
                rgbaColors=[COLOURS[Kind.LOAD]] * len(kinds),
                physicsClientId=client,
            ),
            physicsClientId=client,
        )
        inertia = _inertia(load)
        pybullet.changeDynamics(body, -1, localInertiaDiagonal=inertia, physicsClientId=client)  # Bullet takes the outer box
        return body

    def place(self, pose: np.ndarray, twist: np.ndarray) -> None:
        """Set poses (M, 7) and twists (M, 6) of the robot, the loads and the traffic."""
        self._looks = []
        self._robot.place(pose[0], twist[0])
        end = 1 + len(self._loads)
        for body, p, v in zip(self._loads, pose[1:end].tolist(), twist[1:end].tolist(), strict=True):
            pybullet.resetBasePositionAndOrientation(body, p[:3], p[3:], physicsClientId=self._client)
            pybullet.resetBaseVelocity(body, v[:3], v[3:], physicsClientId=self._client)
        if self.traffic:
            self.traffic.place(np.column_stack([pose[end:, :2], yaw_of(pose[end:, 3:])]), twist[end:][:, [0, 1, 5]])
            self.traffic.show()

    def step(self, forward: float, turn: float, duration_s: float) -> None:
        """Drive for one control period."""
        client, step = self._client, pybullet.stepSimulation
        self._looks = []
        if self.traffic:
            (x, y, _), (vx, vy, _) = self._robot.motion()
            self.traffic.think((x, y), (vx, vy))
            near = self.traffic.near((x, y))
        for _ in range(round(duration_s * MOTOR_HZ)):
            if self.traffic:
                self.traffic.move(1 / MOTOR_HZ)
                self.traffic.show(near)
            self._robot.drive(forward, turn)
            for _ in range(int(self._physics_hz / MOTOR_HZ)):
                step(client)
                if self._averaged:
                    self._looks.append(self._contacts())
        if self.traffic:
            self.traffic.show()

    def movers(self) -> tuple[list[list[float]], list[list[float]]]:
        """Poses (M × 7) and twists (M × 6) of the robot, the loads and the traffic, as plain lists."""
        (x, y, yaw), (vx, vy, turning) = self._robot.motion()
        poses = [[x, y, self.robot_z_m, 0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2)]]
        twists = [[vx, vy, 0.0, 0.0, 0.0, turning]]
        for body in self._loads:
            position, orientation = pybullet.getBasePositionAndOrientation(body, self._client)
            linear, angular = pybullet.getBaseVelocity(body, self._client)
            poses.append([*position, *orientation])
            twists.append([*linear, *angular])
        if self.traffic:
            for all_, more in zip((poses, twists), self.traffic.movers(), strict=True):
                all_ += more
        return poses, twists

    def truth(self) -> Truth:
        """The state now."""
        pose, twist = self.movers()
        return Truth(np.array(pose), np.array(twist), self.traffic.state if self.traffic else None)

    def hits(self) -> list[Hit]:
        """Contacts of the movers, the floor left out, with the normal force of each pair [N]: now, or in the last control
        period where forces are averaged."""
        looks = self._looks or [self._contacts()]
        forces, places = dict[Pair, float](), dict[Pair, list[Any]]()
        for look in looks:
            for pair, (force, *place) in look.items():
                forces[pair] = forces.get(pair, 0.0) + force / len(looks)
                places[pair] = place
        return [Hit(*pair, pair[1] >= self._movers, force, *places[pair]) for pair, force in forces.items()]

    def _contacts(self) -> Looks:
        """Force of each pair that touches now, and one place where it does."""
        found: Looks = {}
        for contact in pybullet.getContactPoints(physicsClientId=self._client):
            one, other = self._index.get(contact[1]), self._index.get(contact[2])
            if one is not None and other is not None:
                pair = (one, other) if one < other else (other, one)
                force = contact[9] + (found[pair][0] if pair in found else 0.0)
                found[pair] = force, contact[6], contact[7] if pair[0] == one else tuple(-part for part in contact[7])
        return found

    def robot_links(self) -> np.ndarray:
        """Poses (V, 7) of what the robot's `visuals` are drawn in."""
        return self._robot.links()

    def robot_faults(self) -> dict[str, bool]:
        """What is wrong with the robot itself now, by kind."""
        return self._robot.faults()

    def wear(self, look: Look) -> None:
        """Look like that in pictures, until the world is built anew."""
        coats = [(self._ground, look.floor), *((body, look.load) for body in self._loads)]
        coats += [(body, look.static[number % len(look.static)]) for number, body in enumerate(self._static)]
        for body, coat in coats:
            coat.put_on(body, self._client)
        self._light = look.light

    def _draw_robot(self) -> None:
        """Put what the robot's links look like where they are. Nothing touches these bodies."""
        client = self._client
        if self._drawn is None:
            looks = [
                pybullet.createVisualShape(pybullet.GEOM_MESH, fileName=str(visual.coarse), physicsClientId=client)
                for visual in self._robot.visuals
            ]
            self._drawn = [
                pybullet.createMultiBody(0, -1, look, useMaximalCoordinates=True, physicsClientId=client) for look in looks
            ]
            self._index |= dict.fromkeys(self._drawn, 0)
        for body, pose in zip(self._drawn, self._robot.links().tolist(), strict=True):
            pybullet.resetBasePositionAndOrientation(body, pose[:3], pose[3:], physicsClientId=client)

    def picture(self, view: View, width: int, height: int) -> Picture:
        """What a camera sees; `body` counts the robot, the loads and the traffic that are there, and the static boxes."""
        self._draw_robot()
        matrices = (
            pybullet.computeViewMatrix(view.eye, view.target, view.up),
            pybullet.computeProjectionMatrixFOV(view.fov_deg, width / height, view.near_m, view.far_m),
        )
        _, _, rgba, buffer, seen = pybullet.getCameraImage(
            width, height, *matrices, renderer=pybullet.ER_TINY_RENDERER, physicsClientId=self._client, **self._light
        )
        depth = view.far_m * view.near_m / (view.far_m - (view.far_m - view.near_m) * np.reshape(buffer, (height, width)))
        numbers = np.full(2 + max(self._index), FLOOR, np.int16)  # by Bullet's own number of a body; the last is no body, -1
        numbers[-1] = NOTHING
        numbers[list(self._index)] = list(self._index.values())
        rgb = np.reshape(np.asarray(rgba, np.uint8), (height, width, 4))[:, :, :3]
        return Picture(rgb, depth.astype(np.float32), numbers[np.reshape(seen, (height, width))])
