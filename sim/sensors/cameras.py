"""Camera poses and the content of camera images. `sim/bullet/world.py` renders the images."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim.layout import Hall

MAX_PIXELS = 4096  # of an image's width and height
FLOOR, BACKGROUND = -1, -2  # in the segmentation, beside the indices of bodies
ROBOT_CAMERA_OFFSET_M = 0.2  # ahead of the robot's centre, in the scene's units
OVERHEAD_MIN_HEIGHT_M = 1.6  # height of bodies that overhead images show whole, in units


@dataclass(frozen=True)
class CameraView:
    """A pinhole camera in the world frame [m]."""

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    up: tuple[float, float, float]
    fov_deg: float = 60.0  # vertical field of view
    near_m: float = 0.05
    far_m: float = 40.0


@dataclass(frozen=True)
class CameraImage:
    """Colour, depth and segmentation of a camera image."""

    rgb: np.ndarray  # (H, W, 3) uint8
    depth_m: np.ndarray  # (H, W) float32 along the camera's axis; far_m where there is nothing
    body: np.ndarray  # (H, W) int16: index into an observation's bodies, FLOOR or BACKGROUND


def place_overhead(hall: Hall, robot: tuple[float, float, float], robot_height_m: float, unit_m: float = 1.0) -> CameraView:
    """Place a camera straight above the hall; the image shows all of it, north is up."""
    x, y = hall.x + hall.width / 2, hall.y + hall.depth / 2
    height = OVERHEAD_MIN_HEIGHT_M * unit_m + 0.52 * max(hall.width, hall.depth) / math.tan(math.radians(30))
    return CameraView((x, y, height), (x, y, 0.0), (0.0, 1.0, 0.0), near_m=0.05 * unit_m)


def place_on_robot(hall: Hall, robot: tuple[float, float, float], robot_height_m: float, unit_m: float = 1.0) -> CameraView:
    """Place a camera on a mast at the robot's front; it looks ahead and a little down."""
    x, y, yaw = robot
    cos, sin = math.cos(yaw), math.sin(yaw)
    ahead = ROBOT_CAMERA_OFFSET_M * unit_m
    eye = (x + ahead * cos, y + ahead * sin, robot_height_m + 0.25 * unit_m)
    return CameraView(eye, (eye[0] + cos, eye[1] + sin, eye[2] - 0.35), (0.0, 0.0, 1.0), fov_deg=75.0, near_m=0.05 * unit_m)


def place_beside(hall: Hall, robot: tuple[float, float, float], robot_height_m: float, unit_m: float = 1.0) -> CameraView:
    """Place a camera above the hall's near side; the image shows all of the hall."""
    x, y = hall.x + hall.width / 2, hall.y + hall.depth / 2
    span = max(hall.width, hall.depth)
    return CameraView((x, y - 0.35 * span, 1.15 * span), (x, y, 0.0), (0.0, 1.0, 0.0), fov_deg=50.0, far_m=6 * span)


# Arguments: hall, the robot's x, y [m] and yaw [rad], its height [m], the scene's unit [m].
CAMERAS: dict[str, Callable[[Hall, tuple[float, float, float], float, float], CameraView]] = {
    "overhead": place_overhead,
    "robot": place_on_robot,
    "side": place_beside,
}
