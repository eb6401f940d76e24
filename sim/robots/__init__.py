"""One file per robot: its shape, its drive and its limits, and what an action means."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from sim.bodies import Shape

MOTOR_HZ = 40.0  # how often a robot's controller looks at its speed
Motion = tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True)
class Visual:
    """What a link of a robot looks like: a mesh in the link's own frame, and a coarse one for Bullet's slow renderer."""

    link: str
    mesh: Path
    coarse: Path


class Robot(Protocol):
    """What moves when an action in [-1, 1]² is taken: a base, or the tool at the end of an arm. It stays upright."""

    half_extents: tuple[float, float, float]  # [m]
    shape: Shape
    centre_z_m: float
    visuals: tuple[Visual, ...]  # of the links that are drawn from files; none: its own body is all there is
    action_limits: np.ndarray  # (3, 2) speeds forward, to the left and turning that each number of an action asks for
    body: int  # Bullet's number, once spawned

    def spawn(self, client: int) -> None:
        """Build the robot at the world's origin."""

    def place(self, pose: np.ndarray, twist: np.ndarray) -> None:
        """Set pose (7,) and twist (6,), world frame."""

    def motion(self) -> Motion:
        """((x, y, yaw), (vx, vy, yaw rate)), world frame; read once between two commands."""

    def drive(self, first: float, second: float) -> None:
        """One tick, of 1 / MOTOR_HZ, of the controller, towards an action."""

    def wanted(self, first: float, second: float) -> tuple[float, ...]:
        """The speeds that the motors are asked for in this tick."""

    def links(self) -> np.ndarray:
        """Poses (V, 7) of the frames that `visuals` are in, world frame."""

    def faults(self) -> dict[str, bool]:
        """What is wrong with the robot itself now, by kind."""

    def command(self, velocity: tuple[float, ...]) -> None:
        """Set the motors, until the next command."""
