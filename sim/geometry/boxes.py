"""TODO."""

import numpy as np

from sim.geometry.arrays import Array, get_namespace
from sim.geometry.rotations import rotate


def find_closest_points(point: Array, centre: Array, yaw: Array, half: Array) -> Array:
    """The point of each box nearest to each plane point; broadcasts (..., 2), (..., 2), (...), (..., 2) -> (..., 2) [m]."""
    xp = get_namespace(point)
    local = rotate(point - centre, -yaw)
    return centre + rotate(xp.minimum(xp.maximum(local, -half), half), yaw)


def compute_signed_distance(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Signed distance [m] from points (..., 2) to the nearest of boxes (S, 5+), negative inside."""
    best = np.full(points.shape[:-1], np.inf)
    for x, y, yaw, half_width, half_depth in boxes[:, :5]:
        offset = points - (x, y)
        c, s = np.cos(yaw), np.sin(yaw)
        dx = np.abs(c * offset[..., 0] + s * offset[..., 1]) - half_width
        dy = np.abs(c * offset[..., 1] - s * offset[..., 0]) - half_depth
        outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
        best = np.minimum(best, outside + np.minimum(np.maximum(dx, dy), 0))
    return best
