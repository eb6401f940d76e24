"""Intervals for what evaluation counts: rates of success, differences between arms that met the same episodes, and the
aggregates of Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice".

Scores of one arm are arrays (S, E): a row for each training of it, a column for each episode, nan where it was not played.
"""

from collections.abc import Callable
from functools import lru_cache
from math import inf, nan, sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri
from scipy.stats import binom, binomtest, wilcoxon

NUM_RESAMPLES = 1000
MIN_EPISODES = 6  # five of five are chance more often than one time in twenty: fewer show nothing


def compute_wilson_interval(successes: float, num_trials: float, confidence: float = 0.95) -> tuple[float, float]:
    """Interval of a rate after `successes` of `n` trials (Wilson 1927); (0, 1) where nothing was tried. Neither has to be whole:
    trials that hang together count as fewer."""
    if not 0 <= successes <= num_trials:
        raise ValueError(f"{successes} successes of {num_trials}: between 0 and {num_trials} are possible")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence}: a number between 0 and 1 is needed")
    if num_trials == 0:
        return 0.0, 1.0
    z = _compute_z_score(confidence)
    rate, shrink = successes / num_trials, 1 + z**2 / num_trials
    centre = (rate + z**2 / (2 * num_trials)) / shrink
    half_width = z * sqrt(rate * (1 - rate) / num_trials + z**2 / (4 * num_trials**2)) / shrink
    low = 0.0 if successes == 0 else centre - half_width
    high = 1.0 if successes == num_trials else centre + half_width
    return low, high


def compute_effective_trials(outcomes: np.ndarray) -> float:
    """How many independent trials a rate of outcomes (S, E), nan where one was not played, is worth: at most E, as trainings meet
    the same episodes, and fewer where trainings differ (p (1 - p) over the rate's variance, both levels: Korn and Graubard 1998).
    """
    num_trainings, num_episodes = outcomes.shape
    rate = float(np.nanmean(outcomes))
    episode_rates, training_rates = np.nanmean(outcomes, 0), np.nanmean(outcomes, 1)
    variance = episode_rates.var() / num_episodes + (training_rates.var(ddof=1) / num_trainings if num_trainings > 1 else 0.0)
    return min(float(num_episodes), rate * (1 - rate) / variance) if variance > 0 else float(num_episodes)


def compute_paired_rate_difference(a: np.ndarray, b: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Difference of two rates over the same n episodes, outcomes (n,) bool each, and its interval: (difference, low, high).

    From the Wilson intervals of both rates and their correlation (Newcombe 1998, "Improved confidence intervals for the
    difference between binomial proportions based on paired data", method 10). Holds where a bootstrap sees no spread at all.
    """
    a, b = np.asarray(a, bool), np.asarray(b, bool)
    if a.ndim != 1 or a.shape != b.shape or len(a) == 0:
        raise ValueError(f"shapes {a.shape} and {b.shape}: two rows of equal length, at least 1, are needed")
    n = len(a)
    both, only_a, only_b, neither = (int(x.sum()) for x in (a & b, a & ~b, ~a & b, ~a & ~b))
    p, q = (both + only_a) / n, (both + only_b) / n
    (p_low, p_high), (q_low, q_high) = (
        compute_wilson_interval(both + only_a, n, confidence),
        compute_wilson_interval(both + only_b, n, confidence),
    )
    product = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    cross = float(both * neither - only_a * only_b)
    cross = max(cross - n / 2, 0.0) if cross > 0 else cross
    phi = cross / sqrt(product) if product else 0.0

    def compute_half_width(up: float, down: float) -> float:
        return sqrt(max(0.0, up**2 - 2 * phi * up * down + down**2))

    return p - q, p - q - compute_half_width(p - p_low, q_high - q), p - q + compute_half_width(p_high - p, q - q_low)


def compute_sign_test_p_value(a: np.ndarray, b: np.ndarray) -> float:
    """Probability of differences as one-sided as these, or more, if neither were better: two-sided and exact; for outcomes that
    are true or false it is McNemar's test."""
    num_above, num_below = int((np.asarray(a) > np.asarray(b)).sum()), int((np.asarray(a) < np.asarray(b)).sum())
    return float(binomtest(num_above, num_above + num_below).pvalue) if num_above + num_below else 1.0


def compute_smallest_rate_difference(a: np.ndarray, b: np.ndarray, confidence: float = 0.95, power: float = 0.8) -> float:
    """The difference of two rates that a paired sample of this size would have shown, by the sign test, with probability `power`;
    inf where it could have shown none.

    a and b, both (n,), are outcomes of the same n episodes, 0 to 1 each. Of the share of episodes in which they differ the upper
    end of its Wilson interval is taken: where none differ, some may yet; or the difference itself, which needs as many.
    """
    n = len(a)
    max_share_different = compute_wilson_interval(int(np.count_nonzero(np.asarray(a) != np.asarray(b))), n, confidence)[1]
    min_wins, counts = _compute_min_wins(n, confidence), np.arange(n + 1)

    def compute_power(difference: float) -> float:
        share_different = max(max_share_different, difference)
        win_share = (1 + difference / share_different) / 2  # of those that differ
        return float(binom.pmf(counts, n, share_different) @ binom.sf(min_wins - 1, counts, win_share))

    if compute_power(1.0) < power:
        return inf
    return float(brentq(lambda difference: compute_power(difference) - power, 0.0, 1.0, xtol=1e-4))


@lru_cache(maxsize=256)
def _compute_min_wins(n: int, confidence: float) -> np.ndarray:
    """(n + 1,) of 0 to n episodes that differ, in how many one has to be better for a two-sided sign test to show it."""
    return np.asarray(binom.isf((1 - confidence) / 2, np.arange(n + 1), 0.5)) + 1


def compute_iqm(scores: np.ndarray) -> float:
    """Interquartile mean: of the middle half of all known scores; nan where none is known."""
    known = np.sort(scores[~np.isnan(scores)])
    cut = len(known) // 4
    return float(known[cut : len(known) - cut].mean()) if len(known) else float("nan")


def compute_performance_profile(costs: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """(T,) share of the known costs (...) that are at most each threshold (Agarwal et al. 2021, there of scores above it)."""
    known = costs[~np.isnan(costs)]
    return (known[:, None] <= thresholds).mean(0)


def compute_profile_interval(
    costs: np.ndarray, thresholds: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The profile of costs (S, E) and its percentile interval at each threshold, (T,) each: from a bootstrap over trainings and
    episodes, as `bootstrap` draws them, all resamples at once."""
    rng, is_known = np.random.default_rng(0), ~np.isnan(costs)
    training_counts, episode_counts = (
        rng.multinomial(n, np.full(n, 1 / n), NUM_RESAMPLES).astype(np.float32) for n in costs.shape
    )
    weights = np.einsum("rs,re->rse", training_counts, episode_counts)[:, is_known]  # (R, known)
    weights = weights[weights.sum(1) > 0]
    is_below = (costs[is_known][:, None] <= thresholds).astype(np.float32)
    resampled_profiles = weights @ is_below / weights.sum(1, keepdims=True)
    low, high = np.quantile(resampled_profiles, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return compute_performance_profile(costs, thresholds), low, high


def compute_probability_of_improvement(a: np.ndarray, b: np.ndarray) -> float:
    """That a's score in an episode is above b's, mean over the episodes: in each, over all pairs of a training of a and one of b
    (the Mann-Whitney statistic); equal scores count half. a (S, E), b (R, E)."""
    scores_a, scores_b = a[:, None], b[None]
    wins = ((scores_a > scores_b) + 0.5 * (scores_a == scores_b)).sum((0, 1))  # nan is neither above nor equal
    num_pairs = (~np.isnan(a)).sum(0) * (~np.isnan(b)).sum(0)
    has_pairs = num_pairs > 0
    return float((wins[has_pairs] / num_pairs[has_pairs]).mean()) if has_pairs.any() else float("nan")


def compute_bootstrap_interval(
    statistic: Callable[..., float],
    *scores: np.ndarray,
    strata: np.ndarray | None = None,
    confidence: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
    has_shared_trainings: bool = False,
) -> tuple[float, float, float]:
    """`statistic(*scores)` and its percentile interval: (value, low, high), for scores (S, E) of arms on the same E episodes.

    Two levels: each resample draws every arm's trainings, and then the episodes, the same ones for all trainings and arms, within
    each of the strata (E,), such as splits (crossed levels: Owen 2007, "The pigeonhole bootstrap"). With one training the
    interval tells of the choice of episodes alone. `joint`: the arms share their trainings, row by row.
    """
    rng, num_episodes = np.random.default_rng(seed), scores[0].shape[1]
    labels = np.zeros(num_episodes) if strata is None else np.asarray(strata)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    values = []
    for _ in range(num_resamples):
        episode_indices = np.concatenate([group[rng.integers(len(group), size=len(group))] for group in groups])
        sampled_trainings = [
            rng.integers(len(method_scores), size=len(method_scores))
            for method_scores in scores[: 1 if has_shared_trainings else None]
        ]
        training_indices = sampled_trainings * len(scores) if has_shared_trainings else sampled_trainings
        values.append(
            statistic(
                *(
                    method_scores[indices][:, episode_indices]
                    for method_scores, indices in zip(scores, training_indices, strict=True)
                )
            )
        )
    low, high = np.nanquantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return statistic(*scores), float(low), float(high)


def compute_signed_rank_p_value(differences: np.ndarray) -> float:
    """Probability of paired differences (n,) as one-sided as these, or more, if they were symmetric around zero (Wilcoxon)."""
    nonzero = differences[differences != 0]
    return float(wilcoxon(nonzero).pvalue) if len(nonzero) else 1.0


def compute_smallest_mean_difference(differences: np.ndarray, confidence: float = 0.95, power: float = 0.8) -> float:
    """The mean of paired differences that as many episodes, spread like these (n,), would have shown with probability `power`;
    inf where it could have shown none, nan where none differ, which tells nothing of their spread."""
    n = len(differences)
    if n < MIN_EPISODES:
        return inf
    standard_error = float(differences.std(ddof=1)) / sqrt(n)
    return (_compute_z_score(confidence) + float(ndtri(power))) * standard_error if standard_error > 0 else nan


def compute_smallest_difference_from_interval(half_width: float, n: int, confidence: float = 0.95, power: float = 0.8) -> float:
    """The same of n episodes from half the width of an interval, which several levels may have made."""
    return (1 + float(ndtri(power)) / _compute_z_score(confidence)) * half_width if n >= MIN_EPISODES else inf


def _compute_z_score(confidence: float) -> float:
    """Of an interval, in standard errors."""
    return float(ndtri((1 + confidence) / 2))
