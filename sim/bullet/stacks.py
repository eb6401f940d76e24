"""Cartons, a pallet to stack them on, and the shake test of a stack.

Cartons are multibodies with friction anchors: contacts that stick are held at their place. Without
anchors an untouched stack creeps apart by centimetres within a minute.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.bullet.client import BulletClient
from sim.geometry.rotations import rotate_in_space
from sim.utils.errors import GroundError

PHYSICS_HZ = 240
SOLVER_ITERATIONS = 50  # with 10, a carton of 0.5 kg below one of 10 kg is pressed in by 4 mm
GRAVITY_M_S2 = 9.81
MAX_TILT_RAD = math.radians(10)  # of a carton that stands, against its place before
MAX_DROP_M = 0.02
FLOOR_HALF_EXTENTS_M = (5.0, 5.0, 0.5)


@dataclass(frozen=True)
class CartonSpec:
    """A box with a friction, a mass and a centre of mass that need not be its middle."""

    half_extents: tuple[float, float, float]  # [m]
    mass_kg: float
    friction: float = 0.5  # against a carton of equal friction
    mass_centre: tuple[float, float, float] = (0.0, 0.0, 0.0)  # from the middle [m]
    stiffness_n_m: float | None = None  # of each contact point, for soft cartons; None: rigid
    damping_n_s_m: float = 200.0  # of each contact point of a soft carton

    def __post_init__(self) -> None:
        if min(*self.half_extents, self.mass_kg) <= 0 or self.friction < 0:
            raise GroundError(f"carton: size and mass must be positive, friction not negative: {self}")
        if any(abs(offset) >= half for offset, half in zip(self.mass_centre, self.half_extents, strict=True)):
            raise GroundError(f"carton: the centre of mass lies outside the carton: {self}")


@dataclass(frozen=True)
class PalletSpec:
    """A pallet on the floor z = 0."""

    half_extents: tuple[float, float, float] = (0.6, 0.4, 0.072)  # [m]
    x: float = 0.0  # centre [m]
    y: float = 0.0
    friction: float = 0.5  # against a carton of equal friction


@dataclass(frozen=True)
class ShakeResult:
    """Movement of N cartons in a shake test."""

    shift_m: np.ndarray  # (N,) horizontal, the largest after any of the pushes
    drop_m: np.ndarray  # (N,) loss of height at the end
    tilt_rad: np.ndarray  # (N,) of the vertical axis at the end
    is_on_pallet: np.ndarray  # (N,) bool: the middle is above the pallet

    @property
    def is_standing(self) -> np.ndarray:
        """(N,) bool: on the pallet, neither fallen nor tilted."""
        return self.is_on_pallet & (self.drop_m <= MAX_DROP_M) & (self.tilt_rad <= MAX_TILT_RAD)


def configure_physics(client: BulletClient) -> None:
    """Empty a physics server and set it up for stacks."""
    client.resetSimulation()
    client.setGravity(0, 0, -GRAVITY_M_S2)
    client.setPhysicsEngineParameter(
        fixedTimeStep=1 / PHYSICS_HZ, numSolverIterations=SOLVER_ITERATIONS, deterministicOverlappingPairs=1
    )


def set_friction(client: BulletClient, body: int, friction: float) -> None:
    """Set the friction of a body against a body of equal friction.

    Bullet multiplies the coefficients of two bodies. With roots the pair has their geometric mean.
    """
    client.changeDynamics(body, -1, lateralFriction=math.sqrt(friction), linearDamping=0, angularDamping=0)


def create_carton(client: BulletClient, spec: CartonSpec, anchored: bool = True) -> int:
    """Create a carton at the world's origin.

    The frame of Bullet's body is at the centre of mass; poses of `PalletStack` are those of the
    middle of the box. The inertia about the centre of mass is that of a box of equal density.

    Args:
        anchored: add friction anchors. A carton on a conveyor belt must not have them.

    Returns:
        Bullet's body id.
    """
    offset = [-part for part in spec.mass_centre]
    half = list(spec.half_extents)
    shape = client.createCollisionShape(client.GEOM_BOX, halfExtents=half, collisionFramePosition=offset)
    colour = (0.76, 0.6, 0.42, 1)
    visual = client.createVisualShape(client.GEOM_BOX, halfExtents=half, visualFramePosition=offset, rgbaColor=colour)
    body = int(client.createMultiBody(spec.mass_kg, shape, visual))
    set_friction(client, body, spec.friction)
    client.changeDynamics(body, -1, frictionAnchor=int(anchored))
    if spec.stiffness_n_m is not None:
        client.changeDynamics(body, -1, contactStiffness=spec.stiffness_n_m, contactDamping=spec.damping_n_s_m)
    return body


class PalletStack:
    """A pallet on a floor, and cartons, in a physics server that `configure_physics` set up."""

    def __init__(self, client: BulletClient, pallet: PalletSpec | None = None) -> None:
        self.pallet = pallet or PalletSpec()
        self.specs: list[CartonSpec] = []
        self.cartons: list[int] = []
        self._client = client
        half = self.pallet.half_extents
        self.floor = self._create_static_box(FLOOR_HALF_EXTENTS_M, [0, 0, -FLOOR_HALF_EXTENTS_M[2]])
        self.pallet_body = self._create_static_box(half, [self.pallet.x, self.pallet.y, half[2]])

    def _create_static_box(self, half_extents: tuple[float, float, float], position: list[float]) -> int:
        client = self._client
        shape = client.createCollisionShape(client.GEOM_BOX, halfExtents=list(half_extents))
        body = int(client.createMultiBody(0, shape, -1, position))
        set_friction(client, body, self.pallet.friction)
        return body

    def add_carton(self, spec: CartonSpec, pose: np.ndarray, anchored: bool = True) -> int:
        """Add a carton, at rest.

        Args:
            pose: (7,) position [m] of the carton's middle and quaternion xyzw, world frame.
            anchored: as in `create_carton`.

        Returns:
            Bullet's body id.
        """
        self.specs.append(spec)
        self.cartons.append(create_carton(self._client, spec, anchored))
        self.set_pose(len(self.cartons) - 1, pose)
        return self.cartons[-1]

    def set_pose(self, index: int, pose: np.ndarray) -> None:
        """Set the pose of a carton, at rest.

        Args:
            pose: (7,) as in `add_carton`.
        """
        position = pose[:3] + rotate_in_space(np.array(self.specs[index].mass_centre), pose[3:])
        self._client.resetBasePositionAndOrientation(self.cartons[index], position.tolist(), pose[3:].tolist())

    def read_poses(self) -> np.ndarray:
        """Read the poses of the cartons' middles.

        Returns:
            (N, 7) position [m] and quaternion xyzw, world frame.
        """
        states = (self._client.getBasePositionAndOrientation(body) for body in self.cartons)
        return self.compute_middles(np.array([[*position, *quaternion] for position, quaternion in states]))

    def compute_middles(self, poses: np.ndarray) -> np.ndarray:
        """Compute the poses of the cartons' middles from those of their centres of mass.

        Args:
            poses: (K, 7) of the first K cartons [m, quaternion xyzw].

        Returns:
            (K, 7) poses.
        """
        poses = poses.reshape(-1, 7).copy()
        offsets = np.array([spec.mass_centre for spec in self.specs[: len(poses)]]).reshape(-1, 3)
        poses[:, :3] -= rotate_in_space(offsets, poses[:, 3:])
        return poses

    def simulate(self, duration_s: float) -> None:
        """Simulate without an action."""
        for _ in range(round(duration_s * PHYSICS_HZ)):
            self._client.stepSimulation()

    def shake(
        self,
        acceleration_m_s2: float = 2.0,
        push_s: float = 0.6,
        ramp_s: float = 0.1,
        rest_s: float = 0.3,
        on_step: Callable[[], object] = lambda: None,
    ) -> ShakeResult:
        """Accelerate the pallet forwards, backwards, left and right, as a vehicle does.

        The test runs in the pallet's frame: gravity gains the opposite acceleration. Cartons move
        as on a pallet that moves, and bodies beside the pallet are not hit.

        Args:
            push_s: duration of each acceleration, with ramps of `ramp_s` at both ends.
            rest_s: time without acceleration after each direction.
            on_step: called after each physics step.

        Returns:
            Movement against the poses at the start.
        """
        before = self.read_poses()
        shift = np.zeros(len(before))
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            for step in range(round((push_s + rest_s) * PHYSICS_HZ)):
                time_s = step / PHYSICS_HZ
                push = acceleration_m_s2 * float(np.clip(min(time_s, push_s - time_s) / ramp_s, 0, 1))
                self._client.setGravity(-push * x, -push * y, -GRAVITY_M_S2)
                self._client.stepSimulation()
                on_step()
            after = self.read_poses()
            shift = np.maximum(shift, np.linalg.norm((after - before)[:, :2], axis=-1))
        self._client.setGravity(0, 0, -GRAVITY_M_S2)
        up = np.array([0.0, 0.0, 1.0])
        cosine = (rotate_in_space(up, before[:, 3:]) * rotate_in_space(up, after[:, 3:])).sum(-1)
        distance = np.abs(after[:, :2] - (self.pallet.x, self.pallet.y))
        return ShakeResult(
            shift_m=shift,
            drop_m=before[:, 2] - after[:, 2],
            tilt_rad=np.arccos(np.clip(cosine, -1, 1)),
            is_on_pallet=np.all(distance <= self.pallet.half_extents[:2], axis=-1),
        )
