"""Drop tests: boxes fall on a floor, slide and tip. Training data of the rigid-body model."""

import numpy as np

from sim.bodies import CONTROL_DT_S, Kind
from sim.bullet.client import BulletClient
from sim.bullet.world import FLOOR_FRICTION, PHYSICS_HZ
from sim.data.episode import Episode, EpisodeSource
from sim.layout import Hall, Layout, Pose
from sim.variation import Variation

LAYOUT = Layout(Hall(-2, -2, 4, 4), Pose(0, 0), (), Pose(0, 0), name="drop test")


def simulate_drop(rng: np.random.Generator, seed: int = 0, steps: int = 20, friction: float = 0.5) -> Episode:
    """Drop one box of random size, pose and velocity on the floor z = 0.

    Args:
        rng: samples the box; equal states give equal episodes.
        seed: stored in the source of the episode.
        steps: control steps T.
        friction: friction coefficient of the box.

    Returns:
        An episode of one body whose actions (T + 1, 1) are zero.
    """
    half = rng.uniform(0.05, 0.25, 3)
    rotation = rng.normal(size=4) if rng.random() < 0.5 else np.array([0.0, 0.0, *rng.normal(size=2)])
    height = rng.uniform(0.0, 0.5) + (np.linalg.norm(half) if abs(rotation[:2]).any() else half[2])
    velocity = rng.normal(0, (0.8, 0.8, 0.3))
    angular_velocity = rng.normal(0, 1.5, 3)
    client = BulletClient()
    client.setGravity(0, 0, -9.81)
    client.setPhysicsEngineParameter(fixedTimeStep=1 / PHYSICS_HZ, numSolverIterations=50)
    floor = client.createCollisionShape(client.GEOM_BOX, halfExtents=[10, 10, 0.5])
    ground = client.createMultiBody(0, floor, -1, [0, 0, -0.5], useMaximalCoordinates=True)
    shape = client.createCollisionShape(client.GEOM_BOX, halfExtents=half.tolist())
    quaternion = (rotation / np.linalg.norm(rotation)).tolist()
    box = client.createMultiBody(1.0, shape, -1, [0, 0, float(height)], quaternion)
    client.changeDynamics(ground, -1, lateralFriction=FLOOR_FRICTION)
    client.changeDynamics(box, -1, lateralFriction=friction, linearDamping=0, angularDamping=0)
    client.resetBaseVelocity(box, velocity.tolist(), angular_velocity.tolist())
    poses, twists = [], []
    for step in range(steps + 1):
        position, orientation = client.getBasePositionAndOrientation(box)
        linear, angular = client.getBaseVelocity(box)
        poses.append([*position, *orientation])
        twists.append([*linear, *angular])
        for _ in range(round(CONTROL_DT_S * PHYSICS_HZ) if step < steps else 0):
            client.stepSimulation()
    client.close()
    return Episode(
        layout=LAYOUT,
        source=EpisodeSource("drop-test", seed),
        behaviour="drop",
        variation=Variation(load_friction=friction),
        half_extents=half[None],
        pose=np.array(poses)[:, None],
        twist=np.array(twists)[:, None],
        action=np.zeros((steps + 1, 1)),
        action_twist=np.zeros((6, 1)),
        kind=np.array([Kind.LOAD]),
    )
