"""Bodies: the one schema of every scene. Oriented boxes with a pose, a twist, a kind and a presence mask.

Everything here takes numpy arrays and torch tensors alike (through the array API), because the task's cost is
computed on both: one state at a time in the environment, thousands at a time in a planner.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from array_api_compat import array_namespace

Array = Any  # numpy array or torch tensor; sim does not import torch
Observation = dict[str, np.ndarray]
DT_S = 0.1  # of a control step, in every scene


class _Numbers:
    """What `namespace` gives for Python's own numbers, which for a single state are many times faster than arrays."""

    int64 = int
    atan2, hypot, floor, sin, cos = math.atan2, math.hypot, math.floor, math.sin, math.cos
    minimum, maximum = min, max

    @staticmethod
    def astype(value: float, kind: type[int]) -> int:
        return kind(value)


def namespace(array: Array) -> Any:
    """The functions for an array's library, or for a plain number."""
    if isinstance(array, float | int):
        return _Numbers
    return np if isinstance(array, np.ndarray | np.generic) else array_namespace(array)


def coordinates(vectors: Array) -> tuple[Array, ...]:
    """The components of vectors (..., D): D arrays (...), of a single numpy vector plain numbers. Components stay as they are."""
    if isinstance(vectors, tuple):
        return vectors
    if isinstance(vectors, np.ndarray) and vectors.ndim == 1:
        return tuple(vectors.tolist())
    return tuple(vectors[..., i] for i in range(vectors.shape[-1]))


def clamp(values: Array, low: float = -np.inf, high: float = np.inf) -> Array:
    """Values within [low, high]; many times faster than numpy's own clip on small arrays."""
    if isinstance(values, float | int):
        return min(max(values, low), high)
    return np.minimum(np.maximum(values, low), high) if namespace(values) is np else values.clamp(low, high)


class Kind(IntEnum):
    """What a body is to the task."""

    ROBOT = 0
    LOAD = 1
    WALL = 2
    RACK = 3
    CLAMP = 4
    PERSON = 5
    FORKLIFT = 6


TRAFFIC = (Kind.PERSON, Kind.FORKLIFT)  # what moves by a will of its own


def stands(kind: Array) -> Array:
    """(...) mask of the kinds that never move."""
    return (kind >= Kind.WALL) & (kind <= Kind.CLAMP)


class Shape(IntEnum):
    """How the half extents are filled."""

    BOX = 0
    CYLINDER = 1  # upright; radius = half_extents[0]


@dataclass(frozen=True)
class Bodies:
    """N rigid bodies for any batch shape `...`. Order: the robot, loads (the task's load first), traffic, static bodies; padding
    ends each."""

    pose: Array  # (..., N, 7) position [m] and quaternion xyzw, world frame
    twist: Array  # (..., N, 6) linear [m/s] and angular [rad/s], world frame
    half_extents: Array  # (..., N, 3) [m]
    kind: Array  # (..., N) Kind
    shape: Array  # (..., N) Shape
    present: Array  # (..., N) 0 or 1

    @classmethod
    def of(cls, observation: Mapping[str, Array]) -> "Bodies":
        return cls(**{field.name: observation[field.name] for field in fields(cls)})

    def map(self, convert: Callable[[Array], Array]) -> "Bodies":
        return Bodies(**{field.name: convert(getattr(self, field.name)) for field in fields(self)})

    @property
    def static(self) -> Array:
        """(..., N) mask of the present bodies that never move."""
        return (self.present > 0) & stands(self.kind)

    @property
    def dynamic(self) -> Array:
        """(..., N) mask of the present bodies that can move."""
        return (self.present > 0) & ~stands(self.kind)


def yaw_of(quaternion: Array) -> Array:
    """Heading [rad] of quaternions (..., 4) xyzw -> (...)."""
    xp = namespace(quaternion)
    x, y, z, w = (quaternion[..., i] for i in range(4))
    return xp.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def quaternion_of(yaw: Array) -> Array:
    """Quaternions (..., 4) xyzw of upright bodies with heading yaw (...) [rad]."""
    xp = namespace(yaw)
    zero = xp.zeros_like(yaw)
    return xp.stack([zero, zero, xp.sin(yaw / 2), xp.cos(yaw / 2)], axis=-1)


def tilt_of(quaternion: Array) -> Array:
    """Cosine of the angle between a body's up axis and the world's, (..., 4) -> (...)."""
    x, y, *_ = coordinates(quaternion)
    return 1 - 2 * (x * x + y * y)


def rotate(xy: Array, yaw: Array) -> Array:
    """Turn plane vectors (..., 2) by yaw (...) [rad]."""
    xp = namespace(xy)
    c, s = xp.cos(yaw), xp.sin(yaw)
    return xp.stack([c * xy[..., 0] - s * xy[..., 1], s * xy[..., 0] + c * xy[..., 1]], axis=-1)


def unit(angle: float | np.ndarray) -> np.ndarray:
    """Plane vectors (..., 2) of length 1 at angles (...) [rad]."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)


def closest_on_box(point: Array, centre: Array, yaw: Array, half: Array) -> Array:
    """The point of each box nearest to each plane point; broadcasts (..., 2), (..., 2), (...), (..., 2) -> (..., 2) [m]."""
    xp = namespace(point)
    local = rotate(point - centre, -yaw)
    return centre + rotate(xp.minimum(xp.maximum(local, -half), half), yaw)


def wrap(angle: Array) -> Array:
    """An angle [rad] in (-pi, pi]."""
    xp = namespace(angle)
    return xp.atan2(xp.sin(angle), xp.cos(angle))
