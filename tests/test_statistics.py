import numpy as np
import pytest

from experiments.statistics import paired_difference, wilson


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (50, 100, 0.404, 0.596), (1, 1, 0.207, 1.0)],
)
def test_wilson_agrees_with_tables(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=6e-4)


def test_wilson_knows_nothing_without_trials() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def test_wilson_mirrors_and_widens() -> None:
    low, high = wilson(3, 20)
    assert wilson(17, 20) == pytest.approx((1 - high, 1 - low))
    wider_low, wider_high = wilson(3, 20, confidence=0.99)
    assert wider_low < low < 3 / 20 < high < wider_high


@pytest.mark.parametrize(("successes", "n"), [(-1, 10), (11, 10), (0, -1)])
def test_wilson_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        wilson(successes, n)


def test_wilson_covers_the_true_rate() -> None:
    counts = np.random.default_rng(0).binomial(40, 0.7, size=2000)
    covered = [low <= 0.7 <= high for low, high in (wilson(int(count), 40) for count in counts)]
    assert 0.93 < np.mean(covered) < 0.97


def test_paired_difference_of_a_constant_lead_is_certain() -> None:
    b = np.random.default_rng(0).normal(size=30)
    assert paired_difference(b + 0.25, b, np.random.default_rng(1)) == pytest.approx((0.25, 0.25, 0.25))


def test_paired_difference_matches_the_normal_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(1.0, 1.0, 400), rng.normal(0.0, 1.0, 400)
    mean, low, high = paired_difference(a, b, np.random.default_rng(1))
    half = 1.96 * np.std(a - b) / 20
    assert mean == pytest.approx(np.mean(a - b))
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.02)
    assert paired_difference(a, b, np.random.default_rng(1)) == (mean, low, high)


@pytest.mark.parametrize(("a", "b"), [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_paired_difference_refuses_what_is_not_paired(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="equal length"):
        paired_difference(np.zeros(a), np.zeros(b), np.random.default_rng(0))
