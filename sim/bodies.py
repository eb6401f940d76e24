"""Bodies: the one schema of every scene. Oriented boxes with a pose, a twist, a kind and a presence mask.

Everything here takes numpy arrays and torch tensors alike (through the array API), because the task's cost is
computed on both: one state at a time in the environment, thousands at a time in a planner.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np

from sim.geometry.arrays import Array

Observation = dict[str, np.ndarray]
CONTROL_DT_S = 0.1  # of a control step, in every scene


class Kind(IntEnum):
    """What a body is to the task."""

    ROBOT = 0
    LOAD = 1
    WALL = 2
    RACK = 3
    CLAMP = 4
    PERSON = 5
    FORKLIFT = 6


TRAFFIC_KINDS = (Kind.PERSON, Kind.FORKLIFT)  # what moves by a will of its own


def is_static_kind(kind: Array) -> Array:
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
    def from_observation(cls, observation: Mapping[str, Array]) -> "Bodies":
        return cls(**{field.name: observation[field.name] for field in fields(cls)})

    def map(self, convert: Callable[[Array], Array]) -> "Bodies":
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
    """What can be pushed: a box, or a few that are one."""

    half_extents: tuple[float, float, float]  # of all of it, about its centre of mass
    mass_kg: float
    friction: float
    footprint: tuple[tuple[float, float, float, float], ...] = ()  # x, y, half width, half depth of its boxes; none: one box

    @property
    def footprint_boxes(self) -> tuple[tuple[float, float, float, float], ...]:
        """Its boxes seen from above; their common centre of mass is (0, 0)."""
        return self.footprint or ((0.0, 0.0, *self.half_extents[:2]),)


ROBOT, LOAD = 0, 1  # indices into Bodies; the first load is the one to deliver
