"""Closest points on boxes and signed distances to them, in the plane."""

import numpy as np

from sim.geometry.arrays import Array, get_namespace
from sim.geometry.rotations import rotate


def find_closest_points(point: Array, centre: Array, yaw: Array, half: Array) -> Array:
    """Find the point of each box that is closest to a plane point. All arguments broadcast.

    Args:
        point: (..., 2) points [m].
        centre: (..., 2) centres of the boxes [m].
        yaw: (...) headings of the boxes [rad].
        half: (..., 2) half extents of the boxes [m].

    Returns:
        (..., 2) closest points [m]; a point inside its box is its own closest point.
    """
    xp = get_namespace(point)
    local = rotate(point - centre, -yaw)
    return centre + rotate(xp.minimum(xp.maximum(local, -half), half), yaw)


def compute_signed_distance(points: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Compute the signed distance from points to the nearest of several boxes.

    Args:
        points: (..., 2) [m].
        boxes: (S, 5 or more) x, y, yaw, half width, half depth [m, rad].

    Returns:
        (...) distances [m], negative inside a box.
    """
    nearest = np.full(points.shape[:-1], np.inf)
    for x, y, yaw, half_width, half_depth in boxes[:, :5]:
        offset = points - (x, y)
        c = np.cos(yaw)
        s = np.sin(yaw)
        dx = np.abs(c * offset[..., 0] + s * offset[..., 1]) - half_width
        dy = np.abs(c * offset[..., 1] - s * offset[..., 0]) - half_depth
        outside = np.hypot(np.maximum(dx, 0), np.maximum(dy, 0))
        nearest = np.minimum(nearest, outside + np.minimum(np.maximum(dx, dy), 0))
    return nearest
