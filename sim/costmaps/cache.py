"""Content-keyed cache of what is computed once per layout and goal."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from operator import itemgetter
from typing import Generic, TypeVar

import numpy as np

from sim.bodies import Bodies
from sim.geometry.rotations import compute_yaw

Field = TypeVar("Field")
CACHE_SIZE = 64  # results per function
MAX_CACHE_BYTES = 2**31  # per function: fields of large halls take 100 MB each
_ALL: list[OrderedDict[bytes, object]] = []


class ContentCache(Generic[Field]):
    """A function of arrays that remembers its last results. Equal bytes give the same object."""

    def __init__(self, build: Callable[..., Field]) -> None:
        self._build = build
        self._results: OrderedDict[bytes, Field] = OrderedDict()
        _ALL.append(self._results)  # type: ignore[arg-type]  # clear_caches only clears it

    def __call__(self, *arrays: np.ndarray) -> Field:
        key = hashlib.blake2b()
        for array in arrays:
            key.update(array.tobytes())
        digest = key.digest()
        if digest not in self._results:
            self._results[digest] = self._build(*arrays)
            while len(self._results) > CACHE_SIZE or (
                len(self._results) > 1 and sum(map(_count_bytes, self._results.values())) > MAX_CACHE_BYTES
            ):
                self._results.popitem(last=False)
        self._results.move_to_end(digest)
        return self._results[digest]


def _count_bytes(result: object) -> int:
    """Count the bytes of a field's tables."""
    return sum(values.nbytes for values in getattr(result, "__dict__", {}).values() if isinstance(values, np.ndarray))


def clear_caches() -> None:
    """Forget all results, so that each is computed again."""
    for results in _ALL:
        results.clear()


def extract_static_boxes(bodies: Bodies) -> np.ndarray:
    """Extract the static bodies of an observation.

    Returns:
        (S, 6) float64: x, y, yaw, half width, half depth, Kind.
    """
    boxes = bodies.map(itemgetter(bodies.is_static))
    columns = (boxes.pose[:, :2], compute_yaw(boxes.pose[:, 3:]), boxes.half_extents[:, :2], boxes.kind)
    return np.column_stack(columns).astype(np.float64)
