"""Intervals, tests and power for success rates and paired differences; aggregates.

The aggregates are those of Agarwal et al. 2021, "Deep reinforcement learning at the edge of the
statistical precipice". Scores of a method are arrays (S, E): a row for each training, a column for
each episode, nan where it did not run.
"""

from collections.abc import Callable
from functools import lru_cache
from math import inf, nan, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import binom, binomtest, wilcoxon

NUM_RESAMPLES = 1000
TAILS = ((1 - 0.95) / 2, (1 + 0.95) / 2)  # quantiles at the ends of a 95 % interval
POWER = 0.8  # probability with which a smallest difference would be shown
MIN_EPISODES = 6  # fewer show nothing: five of five have a p-value above 0.05


def compute_wilson_interval(successes: float, num_trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the interval of a rate (Wilson 1927).

    Args:
        successes: may be a fraction, as `num_trials`: correlated trials count as fewer.

    Returns:
        Lower and upper end; (0, 1) for no trials.

    Raises:
        ValueError: more successes than trials, or the confidence is not in (0, 1).
    """
    if not 0 <= successes <= num_trials:
        raise ValueError(f"{successes} successes of {num_trials}: between 0 and {num_trials} are possible")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: a number between 0 and 1 is needed")
    if num_trials == 0:
        return 0.0, 1.0
    z = compute_z_score(confidence)
    rate = successes / num_trials
    shrink = 1 + z**2 / num_trials
    centre = (rate + z**2 / (2 * num_trials)) / shrink
    half_width = z * sqrt(rate * (1 - rate) / num_trials + z**2 / (4 * num_trials**2)) / shrink
    low = 0.0 if successes == 0 else centre - half_width
    high = 1.0 if successes == num_trials else centre + half_width
    return low, high


def compute_effective_trials(outcomes: np.ndarray) -> float:
    """Compute how many independent trials a rate is worth (Korn and Graubard 1998).

    That is p (1 - p) over the variance of the rate p.

    Args:
        outcomes: (S, E) of S trainings in E episodes, nan where one did not run.

    Returns:
        At most E, as trainings share their episodes; fewer where trainings differ.
    """
    num_trainings, num_episodes = outcomes.shape
    rate = float(np.nanmean(outcomes))
    variance = np.nanmean(outcomes, 0).var() / num_episodes
    if num_trainings > 1:
        variance += np.nanmean(outcomes, 1).var(ddof=1) / num_trainings
    return min(float(num_episodes), rate * (1 - rate) / variance) if variance > 0 else float(num_episodes)


def compute_paired_rate_difference(a: np.ndarray, b: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Compute the difference of two rates over the same episodes (Newcombe 1998, method 10).

    With Wilson intervals (l_p, u_p) and (l_q, u_q) of the rates p and q and their correlation phi,
    the lower end is p - q - sqrt((p - l_p)² - 2 phi (p - l_p) (u_q - q) + (u_q - q)²). It holds
    where a bootstrap sees no spread.

    Args:
        a, b: outcomes (n,) bool.

    Returns:
        The difference p - q, and the lower and upper end of its interval.

    Raises:
        ValueError: the shapes differ, or there is no episode.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ValueError(f"shapes {a.shape} and {b.shape}: two rows of equal length, at least 1, are needed")
    n = len(a)
    both, only_a, only_b, neither = (int(x.sum()) for x in (a & b, a & ~b, ~a & b, ~a & ~b))
    p, q = (both + only_a) / n, (both + only_b) / n
    p_low, p_high = compute_wilson_interval(both + only_a, n, confidence)
    q_low, q_high = compute_wilson_interval(both + only_b, n, confidence)
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    cross = float(both * neither - only_a * only_b)
    cross = max(cross - n / 2, 0.0) if cross > 0 else cross
    phi = cross / sqrt(product) if product else 0.0

    def compute_half_width(up: float, down: float) -> float:
        return sqrt(max(0.0, up**2 - 2 * phi * up * down + down**2))

    return p - q, p - q - compute_half_width(p - p_low, q_high - q), p - q + compute_half_width(p_high - p, q - q_low)


def compute_sign_test_p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the exact two-sided p-value of the sign test (McNemar's test on booleans).

    Args:
        a, b: paired outcomes (n,).
    """
    num_above = int((np.asarray(a) > np.asarray(b)).sum())
    num_below = int((np.asarray(a) < np.asarray(b)).sum())
    return float(binomtest(num_above, num_above + num_below).pvalue) if num_above + num_below else 1.0


def compute_smallest_rate_difference(a: np.ndarray, b: np.ndarray, confidence: float = 0.95, power: float = 0.8) -> float:
    """Compute the smallest rate difference that the sign test shows with probability `power`.

    The number of episodes that differ is binomial (n, s), and of those the wins are binomial with
    share (1 + d / s) / 2 for a difference d. s is the upper end of the Wilson interval of the share
    that differs here, or d where that is larger.

    Args:
        a, b: paired outcomes (n,) in [0, 1].

    Returns:
        The difference; inf where no difference would be shown.
    """
    n = len(a)
    max_share_different = compute_wilson_interval(int(np.count_nonzero(np.asarray(a) != np.asarray(b))), n, confidence)[1]
    min_wins = _compute_min_wins(n, confidence)
    counts = np.arange(n + 1)

    def compute_power(difference: float) -> float:
        share_different = max(max_share_different, difference)
        win_share = (1 + difference / share_different) / 2
        return float(binom.pmf(counts, n, share_different) @ binom.sf(min_wins - 1, counts, win_share))

    if compute_power(1.0) < power:
        return inf
    return float(brentq(lambda difference: compute_power(difference) - power, 0.0, 1.0, xtol=1e-4))


@lru_cache(maxsize=256)
def _compute_min_wins(n: int, confidence: float) -> np.ndarray:
    """(n + 1,) wins that a two-sided sign test needs among 0 to n episodes that differ."""
    return np.asarray(binom.isf((1 - confidence) / 2, np.arange(n + 1), 0.5)) + 1


def compute_iqm(scores: np.ndarray) -> float:
    """Compute the interquartile mean of all known scores.

    Args:
        scores: (...), nan where unknown.

    Returns:
        The mean of the middle half; nan where no score is known.
    """
    known = np.sort(scores[~np.isnan(scores)])
    cut = len(known) // 4
    return float(known[cut : len(known) - cut].mean()) if len(known) else nan


def compute_performance_profile(costs: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Compute the share of known costs at or below each threshold.

    Agarwal et al. 2021 count scores above it.

    Args:
        costs: (...), nan where unknown.
        thresholds: (T,).

    Returns:
        Shares (T,).
    """
    known = costs[~np.isnan(costs)]
    return (known[:, None] <= thresholds).mean(0)


def compute_profile_interval(costs: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the performance profile of costs (S, E) and its 95 % bootstrap percentile interval.

    Resamples are weights, which is faster than `compute_bootstrap_interval`.

    Args:
        costs: (S, E) of S trainings in E episodes, nan where unknown.
        thresholds: (T,).

    Returns:
        Profile, lower and upper end, each (T,).
    """
    rng = np.random.default_rng(0)
    is_known = ~np.isnan(costs)
    counts = [rng.multinomial(n, np.full(n, 1 / n), NUM_RESAMPLES).astype(np.float32) for n in costs.shape]
    weights = np.einsum("rs,re->rse", *counts)[:, is_known]  # (R, known), of trainings times episodes
    weights = weights[weights.sum(1) > 0]
    is_below = (costs[is_known][:, None] <= thresholds).astype(np.float32)
    resampled_profiles = weights @ is_below / weights.sum(1, keepdims=True)
    low, high = np.quantile(resampled_profiles, TAILS, axis=0)
    return compute_performance_profile(costs, thresholds), low, high


def compute_probability_of_improvement(a: np.ndarray, b: np.ndarray) -> float:
    """Compute the probability that a's score in an episode is above b's (Mann-Whitney).

    Args:
        a: (S, E) scores.
        b: (R, E) scores in the same episodes.

    Returns:
        Mean over the episodes of the share of training pairs where a is above, equal scores
        counting half; nan without pairs.
    """
    scores_a, scores_b = a[:, None], b[None]
    wins = ((scores_a > scores_b) + 0.5 * (scores_a == scores_b)).sum((0, 1))  # nan is neither above nor equal
    num_pairs = (~np.isnan(a)).sum(0) * (~np.isnan(b)).sum(0)
    has_pairs = num_pairs > 0
    return float((wins[has_pairs] / num_pairs[has_pairs]).mean()) if has_pairs.any() else nan


def compute_bootstrap_interval(
    statistic: Callable[..., float],
    *scores: np.ndarray,
    strata: np.ndarray | None = None,
    num_resamples: int = NUM_RESAMPLES,
    has_shared_trainings: bool = False,
) -> tuple[float, float, float]:
    """Compute a statistic and its bootstrap percentile interval (pigeonhole bootstrap, Owen 2007).

    There are two crossed levels. Each resample draws the trainings of every method, and then the
    episodes, shared by all trainings and methods. With one training the interval covers the choice
    of episodes alone.

    Args:
        statistic: function of the scores.
        scores: (S, E) of each method, on the same E episodes.
        strata: (E,) labels, such as splits, within which episodes are drawn. Strata of one episode
            are drawn as one stratum: alone they would have no spread.
        has_shared_trainings: the methods share their trainings, row by row.

    Returns:
        The statistic, and the lower and upper end of its interval.
    """
    rng = np.random.default_rng(0)
    num_episodes = scores[0].shape[1]
    groups = _group_strata(np.zeros(num_episodes) if strata is None else np.asarray(strata))
    drawn_methods = scores[:1] if has_shared_trainings else scores
    values = []
    for _ in range(num_resamples):
        episodes = np.concatenate([group[rng.integers(len(group), size=len(group))] for group in groups])
        trainings = [rng.integers(len(rows), size=len(rows)) for rows in drawn_methods]
        trainings *= len(scores) if has_shared_trainings else 1
        values.append(statistic(*(rows[indices][:, episodes] for rows, indices in zip(scores, trainings, strict=True))))
    low, high = np.nanquantile(values, TAILS)
    return statistic(*scores), float(low), float(high)


def _group_strata(labels: np.ndarray) -> list[np.ndarray]:
    """Group episode indices by label (E,); those of one episode together, or, where only one has one, with the smallest other."""
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    num_single = sum(len(group) == 1 for group in groups)
    if not num_single:
        return groups
    groups.sort(key=len)
    num_merged = max(2, num_single)
    return [*groups[num_merged:], np.concatenate(groups[:num_merged])]


def compute_signed_rank_p_value(differences: np.ndarray) -> float:
    """Compute the p-value of Wilcoxon's signed-rank test.

    Args:
        differences: paired differences (n,).
    """
    nonzero = differences[differences != 0]
    return float(wilcoxon(nonzero).pvalue) if len(nonzero) else 1.0


def compute_smallest_mean_difference(differences: np.ndarray) -> float:
    """Compute the mean difference that a sample with this spread shows with probability POWER.

    Args:
        differences: paired differences (n,).

    Returns:
        The difference; inf below MIN_EPISODES, nan where no difference has any spread.
    """
    if len(differences) < MIN_EPISODES:
        return inf
    standard_error = float(differences.std(ddof=1)) / sqrt(len(differences))
    return (compute_z_score(0.95) + float(ndtri(POWER))) * standard_error if standard_error > 0 else nan


def compute_smallest_difference_from_interval(half_width: float, n: int) -> float:
    """Compute the mean difference that n episodes show, from half the width of a 95 % interval."""
    return (1 + float(ndtri(POWER)) / compute_z_score(0.95)) * half_width if n >= MIN_EPISODES else inf


def compute_z_score(confidence: float) -> float:
    """Compute half the width of a two-sided normal interval in standard errors."""
    return float(ndtri((1 + confidence) / 2))
