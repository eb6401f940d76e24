"""A planar lidar, and visibility between the robot and points.

Both are pure functions of bodies, so they apply to predicted and recorded states too.
"""

import numpy as np

from sim.bodies import Bodies, Shape
from sim.geometry.rotations import compute_yaw, make_unit_vectors

LIDAR_HEIGHT_M = 0.2  # of the scanning plane above the floor


def compute_bearings(rays: int) -> np.ndarray:
    """Compute the directions of the rays of a full turn.

    Returns:
        (R,) angles from straight ahead, counter-clockwise [rad].
    """
    return np.arange(rays) * (2 * np.pi / rays)


def measure_ranges(
    bodies: Bodies, rays: int = 360, max_range_m: float = 10.0, body: int = 0, height_m: float = LIDAR_HEIGHT_M
) -> np.ndarray:
    """Measure the distance from a body's centre to the nearest other body along each ray.

    Rays hit present bodies that reach the scanning plane: rectangles or circles, by their shape.

    Args:
        body: index of the body that carries the lidar.
        height_m: height of the scanning plane.

    Returns:
        (R,) ranges [m] in the directions of `compute_bearings`; max_range_m where nothing is hit.
    """
    pose, half = np.asarray(bodies.pose, float), np.asarray(bodies.half_extents, float)
    is_visible = (np.asarray(bodies.present) > 0) & (np.abs(pose[:, 2] - height_m) <= half[:, 2])
    is_visible[body] = False
    direction = make_unit_vectors(float(compute_yaw(pose[body, 3:])) + compute_bearings(rays))
    cylinders = is_visible & (np.asarray(bodies.shape) == Shape.CYLINDER)
    boxes = is_visible & ~cylinders
    to_boxes = _intersect_boxes(pose[body, :2], direction, pose[boxes], half[boxes, :2])
    to_circles = _intersect_circles(pose[body, :2], direction, pose[cylinders, :2], half[cylinders, 0])
    ranges = np.concatenate([to_boxes, to_circles], 1)
    return np.minimum(ranges.min(1, initial=max_range_m), max_range_m)


def is_in_sight(
    bodies: Bodies, places: np.ndarray, max_range_m: float, body: int = 0, height_m: float = LIDAR_HEIGHT_M
) -> np.ndarray:
    """Check which points a body sees: those in range without a static box in between.

    Args:
        places: (K, 2) points [m].
        body: index of the body that sees.
        height_m: height of the line of sight; lower boxes do not block it.

    Returns:
        (K,) bool.
    """
    pose, half = np.asarray(bodies.pose, float), np.asarray(bodies.half_extents, float)
    boxes = np.asarray(bodies.is_static) & (np.abs(pose[:, 2] - height_m) <= half[:, 2])
    offset = places - pose[body, :2]
    distance = np.linalg.norm(offset, axis=-1)
    direction = offset / np.maximum(distance, 1e-9)[:, None]
    free = _intersect_boxes(pose[body, :2], direction, pose[boxes], half[boxes, :2]).min(1, initial=np.inf)
    return np.asarray((distance < max_range_m) & (free > distance))


def _intersect_boxes(origin: np.ndarray, direction: np.ndarray, pose: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Intersect rays with rectangles by slabs in each box's frame (Kay and Kajiya 1986).

    Returns:
        (R, N) distance at which each ray enters each box [m]; inf where it does not.
    """
    yaw = compute_yaw(pose[:, 3:])
    cos, sin = np.cos(yaw), np.sin(yaw)
    rotation = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)  # world to box
    start = np.einsum("nij,nj->ni", rotation, origin - pose[:, :2])
    along = np.einsum("nij,rj->rni", rotation, direction)
    along = np.where(np.abs(along) < 1e-12, 1e-12, along)
    lower = (-half - start) / along
    upper = (half - start) / along
    enter = np.minimum(lower, upper).max(-1)
    leave = np.maximum(lower, upper).min(-1)
    return np.where((enter <= leave) & (leave >= 0), np.maximum(enter, 0.0), np.inf)


def _intersect_circles(origin: np.ndarray, direction: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Intersect rays with circles.

    Returns:
        (R, N) distance at which each ray enters each circle [m]; inf where it does not.
    """
    offset = centre - origin
    along = direction @ offset.T
    squared = radius**2 - ((offset**2).sum(-1) - along**2)  # half the chord, squared
    half_chord = np.sqrt(np.maximum(squared, 0.0))
    return np.where((squared >= 0) & (along + half_chord >= 0), np.maximum(along - half_chord, 0.0), np.inf)
