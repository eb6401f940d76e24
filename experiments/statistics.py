"""Intervals for what evaluation counts: rates of success, and differences between arms that met the same episodes."""

from math import sqrt

import numpy as np
from scipy.special import ndtri

RESAMPLES = 10_000


def wilson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a rate after `successes` of `n` trials (Wilson 1927); (0, 1) where nothing was tried."""
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: between 0 and {n} are possible")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: a number between 0 and 1 is needed")
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri((1 + confidence) / 2))
    rate, shrink = successes / n, 1 + z**2 / n
    centre = (rate + z**2 / (2 * n)) / shrink
    half = z * sqrt(rate * (1 - rate) / n + z**2 / (4 * n**2)) / shrink
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == n else centre + half
    return low, high


def paired_difference(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Mean of a - b, both (n,) over the same n episodes, and its percentile bootstrap interval: (mean, low, high)."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ValueError(f"shapes {a.shape} and {b.shape}: two rows of equal length, at least 1, are needed")
    differences = a - b
    means = np.array([differences[rng.integers(len(a), size=len(a))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(differences.mean()), float(low), float(high)
