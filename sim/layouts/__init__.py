"""Layout families: spaces drawn from a seed, and the splits that keep training and test spaces apart."""

from collections.abc import Callable

import numpy as np

from sim.errors import GroundError
from sim.layout import Layout

ATTEMPTS = 5000  # tiers accept one in a few


def first_good(split: str, index: int, seed: int, attempt: Callable[[np.random.Generator, str], Layout | None]) -> Layout:
    """Layout number `index` of a split; the same on every machine. What `attempt` gives up is drawn again."""
    if index < 0:
        raise GroundError(f"layout number {index} must not be negative")
    rng = np.random.default_rng([seed, index])
    for _ in range(ATTEMPTS):
        layout = attempt(rng, f"{split}/{index}")
        if layout is not None:
            return layout
    raise RuntimeError(f"no layout found for {split}/{index}")
