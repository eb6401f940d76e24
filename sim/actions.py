"""What the numbers of a robot's action mean."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.utils.errors import GroundError

TWIST_NAMES = ("forward", "left", "up", "roll", "pitch", "turn")
PLANAR_TWIST = [0, 1, 5]  # rows of a twist that an upright body on a floor has: forward, left, turn
TWIST_UNITS = ("m/s", "m/s", "m/s", "rad/s", "rad/s", "rad/s")


@dataclass(frozen=True)
class ActionSpec:
    """An action is a vector in [-1, 1]ⁿ; each number commands one component of the robot's velocity.

    Attributes:
        components: of each number, the component of the body-frame twist that it commands, one of TWIST_NAMES.
        limits: of each number, the speed that an action of 1 commands [m/s or rad/s].
    """

    components: tuple[str, ...]
    limits: tuple[float, ...]

    def __post_init__(self) -> None:
        unknown = set(self.components) - set(TWIST_NAMES)
        if unknown or not self.components or len(self.components) != len(self.limits):
            raise GroundError(f"an action needs a limit for each of its components {', '.join(TWIST_NAMES)}, not {self}")

    @property
    def size(self) -> int:
        """How many numbers an action has."""
        return len(self.components)

    @property
    def twist(self) -> np.ndarray:
        """(6, n) body-frame twist [m/s, rad/s] that each number commands at 1."""
        matrix = np.zeros((6, self.size))
        for column, (component, limit) in enumerate(zip(self.components, self.limits, strict=True)):
            matrix[TWIST_NAMES.index(component), column] = limit
        return matrix

    def describe(self) -> list[str]:
        """Name, unit and range of each number, for people."""
        units = (TWIST_UNITS[TWIST_NAMES.index(component)] for component in self.components)
        return [f"{c}: ±{limit:g} {unit}" for c, limit, unit in zip(self.components, self.limits, units, strict=True)]

    def clip(self, action: Sequence[float] | np.ndarray) -> tuple[float, ...]:
        """An action within [-1, 1], as plain numbers.

        Args:
            action: n numbers.

        Raises:
            GroundError: another count of numbers.
        """
        values = np.asarray(action, np.float64).ravel().tolist()
        if len(values) != self.size:
            raise GroundError(f"an action of {len(values)} numbers: {self.size} are needed ({'; '.join(self.describe())})")
        return tuple(min(1.0, max(-1.0, value)) for value in values)
