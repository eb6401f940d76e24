"""Meaning of the numbers in a robot's action."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.utils.errors import GroundError

TWIST_NAMES = ("forward", "left", "up", "roll", "pitch", "turn")
PLANAR_TWIST = [0, 1, 5]  # twist components of an upright body on a floor: forward, left, turn
TWIST_UNITS = ("m/s", "m/s", "m/s", "rad/s", "rad/s", "rad/s")
ZONE_GAIN_PER_S = 8.0  # a robot slows down before the border of its zone


@dataclass(frozen=True)
class ActionSpec:
    """Meaning and range of an action in [-1, 1]ⁿ.

    Attributes:
        components: name of each number. Names in TWIST_NAMES are components of the body-frame
            twist; others are parameters of a skill.
        limits: for each number, the value that an action of 1 commands.
        units: for each number; empty where all are velocities [m/s or rad/s].
        zone: range [m] of x and of y that the robot does not leave; empty: no border. Its velocities
            are then along the axes of the world.
    """

    components: tuple[str, ...]
    limits: tuple[float, ...]
    units: tuple[str, ...] = ()
    zone: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        unknown = set(self.components) - set(TWIST_NAMES)
        if (unknown and not self.units) or not self.components or len(self.components) != len(self.limits):
            raise GroundError(f"an action needs a limit for each component of {', '.join(TWIST_NAMES)}, not {self}")
        if self.units and len(self.units) != self.size:
            raise GroundError(f"an action needs a unit for each component, not {self}")

    @property
    def size(self) -> int:
        """Number of components of an action."""
        return len(self.components)

    @property
    def twist(self) -> np.ndarray:
        """(6, n) body-frame twist that each number commands at 1 [m/s, rad/s]; zero for others."""
        matrix = np.zeros((6, self.size))
        for column, (component, limit) in enumerate(zip(self.components, self.limits, strict=True)):
            if component in TWIST_NAMES:
                matrix[TWIST_NAMES.index(component), column] = limit
        return matrix

    def limit_to_zone(self, position: Sequence[float], action: tuple[float, ...]) -> tuple[float, ...]:
        """Limit the speeds towards the border of the zone to `ZONE_GAIN_PER_S` times the distance.

        Args:
            position: x and y of the robot [m].
            action: n numbers in [-1, 1].

        Returns:
            The n limited numbers.
        """
        limited = list(action)
        for axis, (low, high) in enumerate(self.zone):
            gain = ZONE_GAIN_PER_S / self.limits[axis]
            limited[axis] = min(max(action[axis], gain * (low - position[axis])), gain * (high - position[axis]))
        return tuple(limited)

    def describe(self) -> list[str]:
        """Describe name, range and unit of each number, as text."""
        units = self.units or tuple(TWIST_UNITS[TWIST_NAMES.index(component)] for component in self.components)
        return [f"{c}: ±{limit:g} {unit}".strip() for c, limit, unit in zip(self.components, self.limits, units, strict=True)]

    def clip(self, action: Sequence[float] | np.ndarray) -> tuple[float, ...]:
        """Clip an action to [-1, 1].

        Args:
            action: n numbers.

        Returns:
            The n clipped numbers, as plain floats.

        Raises:
            GroundError: the action has another size, or a value in it is NaN or no number.
        """
        try:
            values = np.asarray(action, np.float64).ravel().tolist()
        except (TypeError, ValueError, OverflowError) as error:
            raise GroundError(f"an action is {action!r:.100}; numbers are needed ({'; '.join(self.describe())})") from error
        if len(values) != self.size:
            raise GroundError(f"an action has {len(values)} numbers; {self.size} are needed ({'; '.join(self.describe())})")
        if any(value != value for value in values):  # NaN; `min` below would make it −1
            raise GroundError(f"action {values} holds a NaN; numbers are needed ({'; '.join(self.describe())})")
        return tuple(min(1.0, max(-1.0, value)) for value in values)
