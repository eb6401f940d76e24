"""TODO."""

import math
from typing import Any

import numpy as np
from array_api_compat import array_namespace

Array = Any  # numpy array or torch tensor; sim does not import torch


class _Numbers:
    """What `namespace` gives for Python's own numbers, which for a single state are many times faster than arrays."""

    int64 = int
    atan2, hypot, floor, sin, cos = math.atan2, math.hypot, math.floor, math.sin, math.cos
    minimum, maximum = min, max

    @staticmethod
    def astype(value: float, kind: type[int]) -> int:
        return kind(value)


def get_namespace(array: Array) -> Any:
    """The functions for an array's library, or for a plain number."""
    if isinstance(array, float | int):
        return _Numbers
    return np if isinstance(array, np.ndarray | np.generic) else array_namespace(array)


def split_coordinates(vectors: Array) -> tuple[Array, ...]:
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
    return np.minimum(np.maximum(values, low), high) if get_namespace(values) is np else values.clamp(low, high)
