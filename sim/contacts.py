"""Contacts between bodies."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Contact:
    """A contact of a dynamic body with a static or another dynamic body.

    A pair of bodies that touch at several points is a single contact.
    """

    first: int  # index of the dynamic body
    second: int  # index of the other body
    is_static: bool  # the second body is static
    force_n: float  # current normal force, or its mean over a control step
    point: tuple[float, float, float]  # one of the contact points, world frame [m]
    normal: tuple[float, float, float]  # unit vector out of the second body, world frame
