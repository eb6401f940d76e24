"""Cameras: where they stand, and what a picture holds. Bullet's software renderer takes the pictures (sim/world.py)."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.layout import Hall

MAX_PIXELS = 4096  # of a picture, a side
FLOOR, BACKGROUND = -1, -2  # in the segmentation, beside the rows of bodies
ROBOT_CAMERA_OFFSET_M = 0.2  # of the robot's middle
OVERHEAD_MIN_HEIGHT_M = 1.6  # bodies up to here are whole in a picture from overhead; this and AHEAD_M in the scene's units


@dataclass(frozen=True)
class CameraView:
    """A pinhole camera in the world frame [m]."""

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    fov_deg: float = 60.0  # of the picture's height
    near_m: float = 0.05
    far_m: float = 40.0


@dataclass(frozen=True)
class CameraImage:
    """What a camera sees."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth_m: np.ndarray  # (H, W) float32, along the camera's axis; far_m where there is nothing
    body: np.ndarray  # (H, W) int16: row in an observation's bodies, FLOOR, or NOTHING


def place_overhead(hall: Hall, robot: tuple[float, float, float], robot_height_m: float, unit_m: float = 1.0) -> CameraView:
    """The whole hall from straight above; north is up."""
    x, y = hall.x + hall.width / 2, hall.y + hall.depth / 2
    height = OVERHEAD_MIN_HEIGHT_M * unit_m + 0.52 * max(hall.width, hall.depth) / math.tan(math.radians(30))
    return CameraView((x, y, height), (x, y, 0.0), (0.0, 1.0, 0.0), near_m=0.05 * unit_m)


def place_on_robot(hall: Hall, robot: tuple[float, float, float], robot_height_m: float, unit_m: float = 1.0) -> CameraView:
    """From a mast on the robot's front, ahead and a little down."""
    x, y, yaw = robot
    cos, sin = math.cos(yaw), math.sin(yaw)
    ahead = ROBOT_CAMERA_OFFSET_M * unit_m
    eye = (x + ahead * cos, y + ahead * sin, robot_height_m + 0.25 * unit_m)
    return CameraView(eye, (eye[0] + cos, eye[1] + sin, eye[2] - 0.35), (0.0, 0.0, 1.0), fov_deg=75.0, near_m=0.05 * unit_m)


def place_beside(hall: Hall, robot: tuple[float, float, float], robot_height_m: float, unit_m: float = 1.0) -> CameraView:
    """The whole hall from above its near side."""
    x, y, span = hall.x + hall.width / 2, hall.y + hall.depth / 2, max(hall.width, hall.depth)
    return CameraView((x, y - 0.35 * span, 1.15 * span), (x, y, 0.0), (0.0, 1.0, 0.0), fov_deg=50.0, far_m=6 * span)


CAMERAS: dict[str, Callable[[Hall, tuple[float, float, float], float, float], CameraView]] = {
    "overhead": place_overhead,
    "robot": place_on_robot,
    "side": place_beside,
}
