"""TODO."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Contact:
    """A contact between a moving and a static body, or between two moving ones; indices into the bodies' order."""

    first: int
    second: int
    is_static: bool  # whether the second one is
    force_n: float  # now, or the mean over a control period
    point: tuple[float, float, float]  # where they touch, world frame [m]; of several contacts, one
    normal: tuple[float, float, float]  # unit, out of the second one
