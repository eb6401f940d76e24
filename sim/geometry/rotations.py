"""Rotations in the plane and in space, for numpy arrays and torch tensors.

Quaternions are xyzw.
"""

import numpy as np

from sim.geometry.arrays import Array, get_namespace, split_coordinates


def compute_yaw(quaternion: Array) -> Array:
    """Compute the heading of bodies.

    Args:
        quaternion: (..., 4) xyzw.

    Returns:
        (...) yaw [rad].
    """
    xp = get_namespace(quaternion)
    x, y, z, w = (quaternion[..., i] for i in range(4))
    return xp.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def yaw_to_quaternion(yaw: Array) -> Array:
    """Convert the heading of upright bodies to quaternions.

    Args:
        yaw: (...) [rad].

    Returns:
        (..., 4) quaternions xyzw.
    """
    xp = get_namespace(yaw)
    zero = xp.zeros_like(yaw)
    return xp.stack([zero, zero, xp.sin(yaw / 2), xp.cos(yaw / 2)], axis=-1)


def compute_tilt_cosine(quaternion: Array) -> Array:
    """Compute the cosine of the angle between a body's up axis and the world's up axis.

    Args:
        quaternion: (..., 4) xyzw, or its components as a tuple.

    Returns:
        (...) cosines; 1 for an upright body.
    """
    x, y, *_ = split_coordinates(quaternion)
    return 1 - 2 * (x * x + y * y)


def rotate(xy: Array, yaw: Array) -> Array:
    """Rotate plane vectors counter-clockwise.

    Args:
        xy: (..., 2) vectors.
        yaw: (...) angles [rad].

    Returns:
        (..., 2) rotated vectors.
    """
    xp = get_namespace(xy)
    c = xp.cos(yaw)
    s = xp.sin(yaw)
    return xp.stack([c * xy[..., 0] - s * xy[..., 1], s * xy[..., 0] + c * xy[..., 1]], axis=-1)


def make_unit_vectors(angle: float | np.ndarray) -> np.ndarray:
    """Make plane vectors of length 1.

    Args:
        angle: (...) directions [rad].

    Returns:
        (..., 2) unit vectors.
    """
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def wrap_angle(angle: Array) -> Array:
    """Wrap angles into (-pi, pi].

    Args:
        angle: (...) [rad], an array or a plain number.

    Returns:
        (...) equivalent angles [rad].
    """
    xp = get_namespace(angle)
    return xp.atan2(xp.sin(angle), xp.cos(angle))


def make_upright_poses(places: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Make the poses of upright bodies.

    Args:
        places: (M, 3) x, y [m] and yaw [rad].
        heights: (M,) heights of the centres above the floor [m].

    Returns:
        (M, 7) position [m] and quaternion xyzw.
    """
    half = places[:, 2] / 2
    zero = np.zeros(len(places))
    return np.column_stack([places[:, :2], heights, zero, zero, np.sin(half), np.cos(half)])


def interpolate_quaternions(start: np.ndarray, end: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Interpolate spherically (Shoemake 1985, "Animating rotation with quaternion curves").

    Args:
        start: (..., 4) unit quaternions xyzw.
        end: (..., 4) unit quaternions xyzw.
        share: (..., 1) position between start (0) and end (1).

    Returns:
        (..., 4) unit quaternions xyzw.
    """
    dot = (start * end).sum(-1, keepdims=True)
    end = np.where(dot < 0, -end, end)
    angle = np.arccos(np.clip(abs(dot), 0, 1))
    sine = np.maximum(np.sin(angle), 1e-9)
    is_small = angle < 1e-4  # the sine vanishes: interpolate linearly
    weights = [np.where(is_small, part, np.sin(part * angle) / sine) for part in (1 - share, share)]
    mixed = weights[0] * start + weights[1] * end
    return np.asarray(mixed / np.linalg.norm(mixed, axis=-1, keepdims=True))


def multiply_quaternions(a: Array, b: Array) -> Array:
    """Multiply quaternions: the product rotates by `b` first, then by `a`.

    Args:
        a: (..., 4) xyzw.
        b: (..., 4) xyzw.

    Returns:
        (..., 4) products xyzw.
    """
    xp = get_namespace(a)
    ax, ay, az, aw = (a[..., i] for i in range(4))
    bx, by, bz, bw = (b[..., i] for i in range(4))
    x = aw * bx + ax * bw + ay * bz - az * by
    y = aw * by - ax * bz + ay * bw + az * bx
    z = aw * bz + ax * by - ay * bx + az * bw
    return xp.stack([x, y, z, aw * bw - ax * bx - ay * by - az * bz], axis=-1)


def rotate_in_space(vectors: Array, quaternion: Array) -> Array:
    """Rotate vectors by quaternions. Both broadcast.

    Args:
        vectors: (..., 3).
        quaternion: (..., 4) xyzw.

    Returns:
        (..., 3) rotated vectors.
    """
    xp = get_namespace(vectors)
    axis = quaternion[..., :3]
    axis, vectors = xp.broadcast_arrays(axis, vectors) if xp is np else xp.broadcast_tensors(axis, vectors)
    turned = xp.linalg.cross(axis, vectors)
    return vectors + 2 * (quaternion[..., 3:] * turned + xp.linalg.cross(axis, turned))


def integrate_rotation(quaternion: Array, angular_velocity: Array, duration_s: float) -> Array:
    """Rotate bodies with constant angular velocity for a time.

    Args:
        quaternion: (..., 4) orientations xyzw.
        angular_velocity: (..., 3) in the world frame [rad/s].
        duration_s: the time.

    Returns:
        (..., 4) orientations xyzw after the time.
    """
    xp = get_namespace(quaternion)
    half = angular_velocity * (duration_s / 2)
    angle = xp.linalg.vector_norm(half, axis=-1, keepdims=True)
    scale = xp.sinc(angle / np.pi)  # sin(angle) / angle
    turned = multiply_quaternions(xp.concat([half * scale, xp.cos(angle)], axis=-1), quaternion)
    return turned / xp.linalg.vector_norm(turned, axis=-1, keepdims=True)
