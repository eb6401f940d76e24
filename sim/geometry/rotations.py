"""Rotations in the plane and in space, for numpy arrays and torch tensors alike; quaternions are xyzw."""

import numpy as np

from sim.geometry.arrays import Array, get_namespace, split_coordinates


def compute_yaw(quaternion: Array) -> Array:
    """Heading [rad] of quaternions (..., 4) xyzw -> (...)."""
    xp = get_namespace(quaternion)
    x, y, z, w = (quaternion[..., i] for i in range(4))
    return xp.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def yaw_to_quaternion(yaw: Array) -> Array:
    """Quaternions (..., 4) xyzw of upright bodies with heading yaw (...) [rad]."""
    xp = get_namespace(yaw)
    zero = xp.zeros_like(yaw)
    return xp.stack([zero, zero, xp.sin(yaw / 2), xp.cos(yaw / 2)], axis=-1)


def compute_tilt_cosine(quaternion: Array) -> Array:
    """Cosine of the angle between a body's up axis and the world's, (..., 4) -> (...)."""
    x, y, *_ = split_coordinates(quaternion)
    return 1 - 2 * (x * x + y * y)


def rotate(xy: Array, yaw: Array) -> Array:
    """Turn plane vectors (..., 2) by yaw (...) [rad]."""
    xp = get_namespace(xy)
    c, s = xp.cos(yaw), xp.sin(yaw)
    return xp.stack([c * xy[..., 0] - s * xy[..., 1], s * xy[..., 0] + c * xy[..., 1]], axis=-1)


def make_unit_vectors(angle: float | np.ndarray) -> np.ndarray:
    """Plane vectors (..., 2) of length 1 at angles (...) [rad]."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def wrap_angle(angle: Array) -> Array:
    """An angle [rad] in (-pi, pi]."""
    xp = get_namespace(angle)
    return xp.atan2(xp.sin(angle), xp.cos(angle))


def make_upright_poses(places: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Poses (M, 7) from x, y, yaw (M, 3) and the heights of the centres (M,)."""
    half = places[:, 2] / 2
    zero = np.zeros(len(places))
    return np.column_stack([places[:, :2], heights, zero, zero, np.sin(half), np.cos(half)])


def interpolate_quaternions(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate spherically (Shoemake 1985, "Animating rotation with quaternion curves").

    Args:
        start, end: (..., 4) unit quaternions xyzw.
        share: (..., 1) in [0, 1].
    """
    dot = (start * end).sum(-1, keepdims=True)
    end, angle = np.where(dot < 0, -end, end), np.arccos(np.clip(abs(dot), 0, 1))
    sine = np.maximum(np.sin(angle), 1e-9)
    near = angle < 1e-4  # linear there, where the sine vanishes
    weights = [np.where(near, part, np.sin(part * angle) / sine) for part in (1 - share, share)]
    mixed = weights[0] * start + weights[1] * end
    return np.asarray(mixed / np.linalg.norm(mixed, axis=-1, keepdims=True))
