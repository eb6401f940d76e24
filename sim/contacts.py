"""Contacts between bodies."""

from collections.abc import Sequence
from dataclasses import dataclass

from sim.bodies import LOAD, ROBOT


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


def find_hard_contacts(
    contacts: Sequence[Contact], max_force_n: float, robot: str = "robot", load: str = "load"
) -> dict[str, bool]:
    """Find out whether the robot or a load touches a static body with more than a force.

    Args:
        contacts: contacts of a state.
        max_force_n: largest force that is allowed.
        robot: noun for the robot in the kind of its violation.
        load: noun for a load in the kind of its violation.

    Returns:
        True or False for both kinds of violation.
    """
    hard = {contact.first for contact in contacts if contact.is_static and contact.force_n > max_force_n}
    return {f"{robot}_collision": ROBOT in hard, f"{load}_collision": max(hard, default=ROBOT) >= LOAD}
