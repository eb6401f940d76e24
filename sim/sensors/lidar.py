"""What a robot's sensors would read. Pure functions of bodies, so that they work on imagined and recorded states too."""

import numpy as np

from sim.bodies import Bodies, Shape
from sim.geometry.rotations import compute_yaw, make_unit_vectors

LIDAR_HEIGHT_M = 0.2  # of the scanning plane above the floor


def compute_bearings(rays: int) -> np.ndarray:
    """(R,) directions of a full turn, from straight ahead, counter-clockwise [rad]."""
    return np.arange(rays) * (2 * np.pi / rays)


def measure_ranges(
    bodies: Bodies, rays: int = 360, max_range_m: float = 10.0, body: int = 0, height_m: float = LIDAR_HEIGHT_M
) -> np.ndarray:
    """(R,) distance from the centre of body `of` to the nearest other body along each of `bearings` in its own frame [m];
    `reach_m` where there is none. Boxes as rectangles, cylinders as circles, each if it is there and as high as the plane."""
    pose, half = np.asarray(bodies.pose, float), np.asarray(bodies.half_extents, float)
    seen = (np.asarray(bodies.present) > 0) & (np.abs(pose[:, 2] - height_m) <= half[:, 2])
    seen[body] = False
    heading = float(compute_yaw(pose[body, 3:]))
    angles = heading + compute_bearings(rays)
    direction = make_unit_vectors(angles)  # (R, 2)
    round_ = seen & (np.asarray(bodies.shape) == Shape.CYLINDER)
    boxes = seen & ~round_
    to_boxes = _intersect_boxes(pose[body, :2], direction, pose[boxes], half[boxes, :2])
    to_circles = _intersect_circles(pose[body, :2], direction, pose[round_, :2], half[round_, 0])
    ranges = np.concatenate([to_boxes, to_circles], 1)
    return np.minimum(ranges.min(1, initial=max_range_m), max_range_m)


def is_in_sight(
    bodies: Bodies, places: np.ndarray, max_range_m: float, body: int = 0, height_m: float = LIDAR_HEIGHT_M
) -> np.ndarray:
    """(K,) whether places (K, 2) are within reach of body `of`, with no static box that is as high as the plane between them."""
    pose, half = np.asarray(bodies.pose, float), np.asarray(bodies.half_extents, float)
    boxes = np.asarray(bodies.is_static) & (np.abs(pose[:, 2] - height_m) <= half[:, 2])
    way = places - pose[body, :2]
    distance = np.linalg.norm(way, axis=-1)
    free = _intersect_boxes(pose[body, :2], way / np.maximum(distance, 1e-9)[:, None], pose[boxes], half[boxes, :2]).min(
        1, initial=np.inf
    )
    return np.asarray((distance < max_range_m) & (free > distance))


def _intersect_boxes(origin: np.ndarray, direction: np.ndarray, pose: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(R, N) where rays enter rectangles, by slabs in each box's own frame (Kay and Kajiya 1986); inf where they do not."""
    yaw = compute_yaw(pose[:, 3:])
    cos, sin = np.cos(yaw), np.sin(yaw)
    rotation = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)  # (N, 2, 2) into the box's frame
    start = np.einsum("nij,nj->ni", rotation, origin - pose[:, :2])
    along = np.einsum("nij,rj->rni", rotation, direction)
    along = np.where(np.abs(along) < 1e-12, 1e-12, along)
    one, other = (-half - start) / along, (half - start) / along
    enter, leave = np.minimum(one, other).max(-1), np.maximum(one, other).min(-1)
    return np.where((enter <= leave) & (leave >= 0), np.maximum(enter, 0.0), np.inf)


def _intersect_circles(origin: np.ndarray, direction: np.ndarray, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(R, N) where rays enter circles; inf where they do not."""
    offset = centre - origin
    along = direction @ offset.T
    chord = radius**2 - ((offset**2).sum(-1) - along**2)  # half of it, squared
    half = np.sqrt(np.maximum(chord, 0.0))
    return np.where((chord >= 0) & (along + half >= 0), np.maximum(along - half, 0.0), np.inf)
