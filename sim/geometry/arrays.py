"""Functions that accept numpy arrays, torch tensors and plain Python numbers."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from array_api_compat import array_namespace

Array = Any  # numpy array or torch tensor; sim does not import torch

# Array-API functions for plain numbers: for a single state they are many times faster than arrays.
_SCALAR_NAMESPACE = SimpleNamespace(
    int64=int, atan2=math.atan2, hypot=math.hypot, floor=math.floor, sin=math.sin, cos=math.cos,
    minimum=min, maximum=max, astype=lambda value, kind: kind(value),
)  # fmt: skip

_NAMESPACES: dict[type, Any] = {}  # by type of array; a look-up that compilers of models can follow


def get_namespace(array: Array) -> Any:
    """Get the array-API functions of an array's library.

    Args:
        array: numpy array, torch tensor or plain number.

    Returns:
        Namespace with functions such as `sin` and `minimum`.
    """
    if isinstance(array, float | int):
        return _SCALAR_NAMESPACE
    if isinstance(array, np.ndarray | np.generic):
        return np
    kind = type(array)
    if kind not in _NAMESPACES:
        _NAMESPACES[kind] = array_namespace(array)
    return _NAMESPACES[kind]


def split_coordinates(vectors: Array) -> tuple[Array, ...]:
    """Split vectors into their components.

    Args:
        vectors: (..., D) array, or a tuple of components, which is returned as it is.

    Returns:
        D arrays (...); plain numbers for a single numpy vector.
    """
    if isinstance(vectors, tuple):
        return vectors
    if isinstance(vectors, np.ndarray) and vectors.ndim == 1:
        return tuple(vectors.tolist())
    return tuple(vectors[..., i] for i in range(vectors.shape[-1]))


def clamp(values: Array, low: float = -np.inf, high: float = np.inf) -> Array:
    """Limit values to [low, high]; on small arrays much faster than numpy's own clip.

    Args:
        values: array (...) or plain number.

    Returns:
        Limited values (...).
    """
    if isinstance(values, float | int):
        return min(max(values, low), high)
    return np.minimum(np.maximum(values, low), high) if get_namespace(values) is np else values.clamp(low, high)
