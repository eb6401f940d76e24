"""Windows of several scenes, for one model of them all."""

from collections.abc import Mapping

import numpy as np

from sim.utils.errors import GroundError
from worldmodels.training.windows import Batch, Windows


class JointWindows:
    """Each batch is of a single scene, which the dice choose, all alike: so none is padded to the bodies of another, and none
    counts for more because more of it was collected."""

    def __init__(self, parts: Mapping[str, Windows]) -> None:
        if not parts:
            raise GroundError("no episodes to train on")
        self.parts = dict(sorted(parts.items()))

    def sample(self, rng: np.random.Generator, size: int, length: int) -> Batch:
        names = list(self.parts)
        return self.parts[names[int(rng.integers(len(names)))]].sample(rng, size, length)
