"""Bodies: the state schema of every scene.

Bodies are boxes or cylinders with a pose, a twist, a kind and a presence mask. Arrays are numpy
arrays or torch tensors, because the task's cost is computed on both: for a single state in the
environment, and for thousands of states in a planner.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

from sim.geometry.arrays import Array

Observation = dict[str, np.ndarray]
CONTROL_DT_S = 0.1  # duration of a control step, in every scene


class Kind(IntEnum):
    """Role of a body in the task."""

    ROBOT = 0
    LOAD = 1
    WALL = 2
    RACK = 3
    CLAMP = 4
    PERSON = 5
    FORKLIFT = 6
    PALLET = 7
    BELT = 8  # its twist is that of its surface
    BIN = 9
    STATION = 10  # pedestals, infeed tables, frames and stops


TRAFFIC_KINDS = (Kind.PERSON, Kind.FORKLIFT)  # agents, which move by themselves


def is_static_kind(kind: Array) -> Array:
    """Test for kinds that never move.

    Args:
        kind: (...) Kind.

    Returns:
        (...) bool.
    """
    return ((kind >= Kind.WALL) & (kind <= Kind.CLAMP)) | (kind >= Kind.PALLET)


class Shape(IntEnum):
    """Shape of a body within its half extents."""

    BOX = 0
    CYLINDER = 1  # its axis is z of the body; radius = half_extents[0]


@dataclass(frozen=True)
class Bodies:
    """N rigid bodies, with any batch shape `...`.

    Order: the robot, the loads (first the load to deliver), the traffic, the static bodies. Padding
    follows the dynamic bodies and the static bodies.
    """

    pose: Array  # (..., N, 7) position [m] and quaternion xyzw, world frame
    twist: Array  # (..., N, 6) linear [m/s] and angular [rad/s], world frame
    half_extents: Array  # (..., N, 3) [m]
    kind: Array  # (..., N) Kind
    shape: Array  # (..., N) Shape
    present: Array  # (..., N) 0 or 1

    @classmethod
    def from_observation(cls, observation: Mapping[str, Array]) -> "Bodies":
        """Make bodies from the fields of an observation, without a copy.

        Args:
            observation: dictionary observation of GroundEnv, of any batch shape.
        """
        return cls(**{field.name: observation[field.name] for field in fields(cls)})

    def map(self, convert: Callable[[Array], Array]) -> "Bodies":
        """Apply a function to each array.

        Args:
            convert: from an array (..., N, D) to its new value.
        """
        return Bodies(**{field.name: convert(getattr(self, field.name)) for field in fields(self)})

    @property
    def is_static(self) -> Array:
        """(..., N) mask of the present bodies that never move."""
        return (self.present > 0) & is_static_kind(self.kind)

    @property
    def is_dynamic(self) -> Array:
        """(..., N) mask of the present bodies that can move."""
        return (self.present > 0) & ~is_static_kind(self.kind)


@dataclass(frozen=True)
class LoadSpec:
    """Physical properties of a load, which is a box or several rigidly connected boxes.

    Attributes:
        half_extents: of all boxes together, about their centre of mass [m].
        mass_kg: total mass.
        friction: coefficient of lateral friction.
        footprint: x, y, half width and half depth of each box [m]; empty for a single box.
    """

    half_extents: tuple[float, float, float]
    mass_kg: float
    friction: float
    footprint: tuple[tuple[float, float, float, float], ...] = ()

    @property
    def footprint_boxes(self) -> tuple[tuple[float, float, float, float], ...]:
        """Boxes from above, as in `footprint`; their centre of mass is (0, 0)."""
        return self.footprint or ((0.0, 0.0, *self.half_extents[:2]),)


ROBOT = 0  # index of the robot in Bodies
LOAD = 1  # index of the first load in Bodies, which is the load to deliver
