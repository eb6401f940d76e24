import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import trim_mean

from experiments.report.measures.formats import format_no_difference
from experiments.statistics import (
    compute_bootstrap_interval,
    compute_effective_trials,
    compute_iqm,
    compute_paired_rate_difference,
    compute_performance_profile,
    compute_probability_of_improvement,
    compute_profile_interval,
    compute_sign_test_p_value,
    compute_signed_rank_p_value,
    compute_smallest_mean_difference,
    compute_smallest_rate_difference,
    compute_wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (50, 100, 0.404, 0.596), (1, 1, 0.207, 1.0)],
)
def test_wilson_interval_agrees_with_tables(successes: int, n: int, low: float, high: float) -> None:
    assert compute_wilson_interval(successes, n) == pytest.approx((low, high), abs=6e-4)


def test_wilson_interval_without_trials_is_the_whole_range() -> None:
    assert compute_wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_interval_is_symmetric_and_widens_with_confidence() -> None:
    low, high = compute_wilson_interval(3, 20)
    assert compute_wilson_interval(17, 20) == pytest.approx((1 - high, 1 - low))
    wider_low, wider_high = compute_wilson_interval(3, 20, confidence=0.99)
    assert wider_low < low < 3 / 20 < high < wider_high


@pytest.mark.parametrize(("successes", "n"), [(-1, 10), (11, 10), (0, -1)])
def test_wilson_interval_refuses_impossible_counts(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="successes"):
        compute_wilson_interval(successes, n)


def test_wilson_interval_covers_the_true_rate() -> None:
    counts = np.random.default_rng(0).binomial(40, 0.7, size=2000)
    covered = [low <= 0.7 <= high for low, high in (compute_wilson_interval(int(count), 40) for count in counts)]
    assert 0.93 < np.mean(covered) < 0.97


def sample_outcomes(rng: np.random.Generator, n: int, table: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Sample outcomes of two methods on n episodes; `table` has the rates of both, first only, second only, none."""
    kind = rng.choice(4, n, p=table)
    return kind < 2, (kind == 0) | (kind == 2)


outcomes = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60).map(lambda pairs: np.array(pairs).T)


@given(outcomes)
def test_the_interval_of_paired_rates_contains_the_difference_and_is_symmetric(pair: np.ndarray) -> None:
    a, b = pair
    difference, low, high = compute_paired_rate_difference(a, b)
    assert difference == pytest.approx(a.mean() - b.mean())
    assert -1 <= low <= difference <= high <= 1
    assert compute_paired_rate_difference(b, a) == pytest.approx((-difference, -high, -low))


@pytest.mark.parametrize("table", [(0.6, 0.2, 0.05, 0.15), (0.9, 0.08, 0.0, 0.02), (0.3, 0.2, 0.2, 0.3), (0.0, 0.9, 0.0, 0.1)])
def test_the_interval_of_paired_rates_covers_the_true_difference(table: tuple[float, ...]) -> None:
    rng, true_difference = np.random.default_rng(0), table[1] - table[2]
    covered = [
        low <= true_difference <= high
        for _, low, high in (compute_paired_rate_difference(*sample_outcomes(rng, 50, table)) for _ in range(1500))
    ]
    assert 0.93 < np.mean(covered) <= 1


def test_three_episodes_show_no_difference() -> None:
    won, lost = np.ones(3, bool), np.zeros(3, bool)
    assert compute_sign_test_p_value(won, lost) == pytest.approx(0.25)
    assert compute_paired_rate_difference(won, lost)[1] < 0.3
    assert compute_smallest_rate_difference(won, lost) == math.inf
    assert compute_sign_test_p_value(won, won) == 1


def test_the_sign_test_keeps_its_error_rate() -> None:
    rng = np.random.default_rng(0)
    wrong = [compute_sign_test_p_value(*sample_outcomes(rng, 60, (0.5, 0.15, 0.15, 0.2))) < 0.05 for _ in range(1500)]
    assert np.mean(wrong) < 0.05


def test_the_smallest_detectable_difference_is_shown_with_a_power_of_80_percent() -> None:
    rng, n, differing_share = np.random.default_rng(0), 200, 0.3
    smallest = np.mean([compute_smallest_rate_difference(*sample_outcomes(rng, n, (0.5, 0.15, 0.15, 0.2))) for _ in range(50)])
    lead = smallest / 2
    table = (0.5, differing_share / 2 + lead, differing_share / 2 - lead, 0.2)
    significant = [compute_sign_test_p_value(*sample_outcomes(rng, n, table)) < 0.05 for _ in range(600)]
    assert 0.75 < np.mean(significant) < 0.97


@given(outcomes, st.integers(2, 5))
def test_more_episodes_detect_smaller_differences(pair: np.ndarray, times: int) -> None:
    assert compute_smallest_rate_difference(*np.tile(pair, times)) <= compute_smallest_rate_difference(*pair)


@pytest.mark.parametrize(("a", "b"), [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_paired_rates_refuse_unpaired_outcomes(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="equal length"):
        compute_paired_rate_difference(np.zeros(a), np.zeros(b))


def test_iqm_is_the_mean_of_the_middle_half() -> None:
    assert compute_iqm(np.array([[0.0, 1, 2, 3], [4, 5, 6, 100]])) == pytest.approx(
        (2 + 3 + 4 + 5) / 4
    )  # 25 % of 8 cut at both ends
    assert compute_iqm(np.array([1.0, 2, 3, 4, 5])) == 3  # one value is cut at each end, as in scipy's trim_mean
    assert compute_iqm(np.array([np.nan, 7.0])) == 7
    scores = np.random.default_rng(0).normal(size=(3, 25))
    assert compute_iqm(scores) == pytest.approx(float(trim_mean(scores, 0.25, axis=None)))  # as rliable computes it
    assert np.isnan(compute_iqm(np.array([np.nan])))


def test_a_profile_is_the_share_of_costs_below_each_threshold() -> None:
    costs, thresholds = np.array([[0.1, 0.5], [0.5, np.nan]]), np.array([0.0, 0.1, 0.4, 0.5])
    assert compute_performance_profile(costs, thresholds) == pytest.approx([0, 1 / 3, 1 / 3, 1])
    share, low, high = compute_profile_interval(costs, thresholds)
    assert share == pytest.approx([0, 1 / 3, 1 / 3, 1])
    assert list(low) == [0, 0, 0, 1]
    assert list(high) == [0, 1, 1, 1]


def test_the_interval_of_a_profile_equals_the_bootstrap_interval_of_its_share() -> None:
    costs = np.random.default_rng(0).normal(size=(3, 40))
    _, low, high = compute_profile_interval(costs, np.array([0.2]))
    usual = compute_bootstrap_interval(lambda sample: float((sample <= 0.2).mean()), costs)
    assert (low[0], high[0]) == pytest.approx(usual[1:], abs=0.03)


def test_probability_of_improvement_is_the_mean_of_the_episodes_mann_whitney_shares() -> None:
    a, b = np.array([[1.0, 0.0], [3.0, 0.0]]), np.array([[2.0, 0.0]])
    assert compute_probability_of_improvement(a, b) == pytest.approx((0.5 + 0.5) / 2)  # one of two wins; two ties
    a, b = np.array([[3.0, 5.0], [1.0, 1.0]]), np.array([[2.0, 0.0], [1.0, 4.0]])
    assert compute_probability_of_improvement(a, b) == pytest.approx(((2 + 0.5) / 4 + (2 + 1) / 4) / 2)
    assert compute_probability_of_improvement(b, a) == pytest.approx(1 - compute_probability_of_improvement(a, b))
    missing = np.array([[3.0, np.nan]])
    assert compute_probability_of_improvement(missing, b) == 1


def test_the_bootstrap_interval_over_trainings_and_episodes_covers_the_true_mean() -> None:
    rng, covered = np.random.default_rng(0), []
    for _ in range(200):
        scores = rng.normal(0, 1, (8, 1)) + rng.normal(0, 1, (1, 40)) + rng.normal(0, 0.5, (8, 40))
        _, low, high = compute_bootstrap_interval(np.mean, scores, num_resamples=200)
        covered.append(low <= 0 <= high)
    assert 0.85 < np.mean(covered) <= 1  # eight trainings are few; resampled episodes alone cover less than half


def test_the_bootstrap_interval_includes_the_variation_between_trainings() -> None:
    scores = np.repeat(np.random.default_rng(0).normal(0, 1, (5, 1)), 50, axis=1)  # trainings differ, episodes do not
    _, low, high = compute_bootstrap_interval(np.mean, scores)
    assert high - low > 0.5
    _, low, high = compute_bootstrap_interval(np.mean, scores[:1])
    assert low == pytest.approx(high)


def test_strata_keep_their_shares_and_the_bootstrap_is_reproducible() -> None:
    scores, strata = np.array([[0.0] * 10 + [1.0] * 10]), np.repeat([0, 1], 10)
    assert compute_bootstrap_interval(np.mean, scores, strata=strata) == pytest.approx((0.5, 0.5, 0.5))
    assert compute_bootstrap_interval(np.mean, scores)[1] < 0.5
    assert compute_bootstrap_interval(np.mean, scores) == compute_bootstrap_interval(np.mean, scores)


def test_paired_methods_share_the_resampled_episodes() -> None:
    hard = np.random.default_rng(0).normal(0, 10, (1, 50))
    value, low, high = compute_bootstrap_interval(lambda a, b: float(np.mean(a) - np.mean(b)), hard + 1, hard)
    assert (value, low, high) == pytest.approx((1, 1, 1))


def test_signed_ranks_and_the_smallest_mean_difference() -> None:
    assert compute_signed_rank_p_value(np.zeros(5)) == 1
    assert compute_signed_rank_p_value(np.array([1.0, 2, 3])) == pytest.approx(0.25)  # the smallest value with three differences
    assert compute_signed_rank_p_value(np.arange(1.0, 9)) == pytest.approx(2 / 256)
    assert compute_smallest_mean_difference(np.array([1.0])) == float("inf")
    rng = np.random.default_rng(0)
    smallest = compute_smallest_mean_difference(rng.normal(0, 1, 100))
    significant = [compute_signed_rank_p_value(rng.normal(smallest, 1, 100)) < 0.05 for _ in range(400)]
    assert 0.7 < np.mean(significant) < 0.92


@pytest.mark.parametrize("n", [6, 16, 100])
def test_the_smallest_detectable_difference_of_equal_outcomes_has_its_power(n: int) -> None:
    smallest, rng = compute_smallest_rate_difference(np.ones(n), np.ones(n)), np.random.default_rng(0)
    significant = [
        compute_sign_test_p_value(rng.random(n) < smallest, np.zeros(n)) <= 0.05 for _ in range(2000)
    ]  # all differences favour one method
    assert np.mean(significant) > 0.75


@given(st.integers(0, 5))
def test_fewer_than_six_episodes_detect_no_difference(n: int) -> None:
    assert compute_smallest_rate_difference(np.ones(n), np.zeros(n)) == math.inf
    assert compute_smallest_mean_difference(np.arange(n, dtype=float)) == math.inf


def test_methods_with_shared_trainings_are_compared_by_training() -> None:
    bias = np.array([[0.1], [0.5], [0.9]]) * np.ones((3, 20))

    def compute_difference(a: np.ndarray, b: np.ndarray) -> float:
        return float((a - b).mean())

    value, low, high = compute_bootstrap_interval(compute_difference, bias + 0.05, bias, has_shared_trainings=True)
    assert (value, low, high) == pytest.approx((0.05, 0.05, 0.05))
    _, low, high = compute_bootstrap_interval(compute_difference, bias + 0.05, bias)
    assert low < 0 < high


def test_different_trainings_lower_the_number_of_effective_trials() -> None:
    equal = np.repeat(np.array([[1.0] * 6 + [0.0] * 10]), 3, 0)
    assert compute_effective_trials(equal) == pytest.approx(16)
    varied = np.array([[1.0] * 16, [0.0] * 16, [1.0] * 16])  # the number of trainings limits the precision
    assert compute_effective_trials(varied) == pytest.approx(2)
    independent = np.random.default_rng(0).random((3, 400)) < 0.5
    assert compute_effective_trials(independent.astype(float)) == 400
    assert compute_effective_trials(np.ones((3, 5))) == 5


def test_the_smallest_mean_difference_of_equal_scores_is_unknown() -> None:
    assert np.isnan(compute_smallest_mean_difference(np.zeros(20)))
    assert np.isinf(compute_smallest_mean_difference(np.zeros(3)))
    assert format_no_difference(math.nan, " m", 2) == "no difference shown (smallest detectable: unknown)"


def test_strata_of_one_episode_are_pooled() -> None:
    scores = np.array([[0.0, 1.0, 0.0, 1.0, 1.0, 0.0]])
    _, low, high = compute_bootstrap_interval(np.mean, scores, strata=np.arange(6))
    assert (low, high) == compute_bootstrap_interval(np.mean, scores)[1:], "not as one stratum"
    assert low < 0.5 < high
    strata = np.array([0, 1, 1, 2, 2, 2])  # the stratum of one episode is pooled with the smallest
    draws: list[np.ndarray] = []
    compute_bootstrap_interval(lambda sample: draws.append(sample) or 0.0, np.array([[0.0, 1, 1, 2, 2, 2]]), strata=strata)
    assert all((draw == 2).sum() == 3 for draw in draws)
    assert {int((draw == 0).sum()) for draw in draws} == {0, 1, 2, 3}
