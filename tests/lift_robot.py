"""A test robot with three action components: it drives, turns and lifts a plate."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sim.actions import ActionSpec
from sim.bodies import ROBOT, Bodies
from sim.geometry.arrays import Array
from sim.layout import Hall, Layout, Pose
from sim.policy import RANDOM_BEHAVIOURS
from sim.robots.differential_drive import DifferentialDrive
from sim.robots.robot import RobotState
from sim.scenes.scene import Scene, scenes
from sim.task import GoalDistanceTask
from sim.variation import Variations

if TYPE_CHECKING:
    from sim.bullet.client import BulletClient

NAME = "test/lift"
LIFTED_M, LIFT_M_S, MAX_LIFT_M = 0.25, 0.5, 0.4
LAYOUT = Layout(Hall(0, 0, 6, 4), Pose(1, 2), (), Pose(1.6, 2), name="lift")


class LiftDrive(DifferentialDrive):
    """A differential drive whose state is that of its plate."""

    def __post_init__(self) -> None:
        super().__post_init__()
        limits = (self.limits.speed_m_s, self.limits.turn_rad_s, LIFT_M_S)
        self.action_spec = ActionSpec(("forward", "turn", "up"), limits)

    def spawn(self, client: "BulletClient") -> None:
        self._client, self._state = client, None
        hull = client.createCollisionShape(client.GEOM_CYLINDER, radius=self.radius_m, height=self.height_m)
        plate = client.createCollisionShape(client.GEOM_BOX, halfExtents=[0.2, 0.2, 0.02])
        slide, hinge = client.JOINT_PRISMATIC, client.JOINT_REVOLUTE
        origins, rotations = [[0, 0, 0]] * 4, [[0, 0, 0, 1]] * 4
        top = [[0, 0, 0]] * 3 + [[0, 0, self.height_m / 2 + 0.05]]
        self.body = client.createMultiBody(
            baseMass=0,
            basePosition=[0, 0, self.centre_z_m],
            linkMasses=[0.1, 0.1, self.mass_kg, 2.0],
            linkCollisionShapeIndices=[-1, -1, hull, plate],
            linkVisualShapeIndices=[-1] * 4,
            linkPositions=top,
            linkOrientations=rotations,
            linkInertialFramePositions=origins,
            linkInertialFrameOrientations=rotations,
            linkParentIndices=[0, 1, 2, 3],
            linkJointTypes=[slide, slide, hinge, slide],
            linkJointAxis=[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 1]],
        )

    def set_state(self, pose: np.ndarray, twist: np.ndarray) -> None:
        super().set_state(pose, twist)
        self._client.resetJointState(self.body, 3, float(pose[2] - self.centre_z_m), float(twist[2]))

    def read_state(self) -> RobotState:
        if self._state is None:
            pose, twist = super().read_state()
            height, speed, *_ = self._client.getJointState(self.body, 3)
            self._state = [*pose[:2], pose[2] + height, *pose[3:]], [*twist[:2], speed, *twist[3:]]
        return self._state

    def compute_command(self, action: tuple[float, ...]) -> tuple[float, ...]:
        height = self.read_state()[0][2] - self.centre_z_m
        speed = action[2] * LIFT_M_S
        return *super().compute_command(action[:2]), speed if 0 < height + 0.05 * speed < MAX_LIFT_M else 0.0

    def set_motors(self, command: tuple[float, ...]) -> None:
        super().set_motors(command[:3])
        client = self._client
        client.setJointMotorControl2(self.body, 3, client.VELOCITY_CONTROL, targetVelocity=command[3], force=200)


@dataclass(frozen=True)
class LiftTask(GoalDistanceTask):
    """Drive to the goal and lift the plate; the goal needs no cost-to-go field."""

    rows: tuple[int, ...] = (ROBOT,)

    def _compute_missing_height(self, bodies: Bodies) -> Array:
        return abs(LIFTED_M - (bodies.pose[..., ROBOT, 2] - DifferentialDrive().centre_z_m))

    def compute_cost(self, bodies: Bodies, action: Array, goal: Array, field: None) -> Array:
        return super().compute_cost(bodies, action, goal, field) + self._compute_missing_height(bodies)

    def is_success(self, bodies: Bodies, goal: Array, margin_m: float = 0.0) -> Array:
        return super().is_success(bodies, goal, margin_m) & (self._compute_missing_height(bodies) < 0.05)


def register() -> Scene:
    """Register the scene of this robot under NAME."""
    scene = Scene(
        name=NAME,
        gym_id="ground/TestLift-v0",
        task=LiftTask(),
        make_robot=lambda variation: LiftDrive(),
        sample_layout=lambda split, index: LAYOUT,
        find_scene_faults=lambda layout: [],
        splits=("train", "val", "test"),
        get_variations=lambda split: Variations(),
        behaviours={**RANDOM_BEHAVIOURS, "scripted": RANDOM_BEHAVIOURS["smooth-random"]},
        behaviour_mix={"smooth-random": 1.0},
        sample_near_start=lambda layout, rng: None,
        max_loads=0,
        visuals=scenes["logistics/aisle-traffic"].visuals,
        episode_steps=40,
    )
    return scenes.add(NAME)(scene)
