"""Interquartile mean costs, and the probability of improvement (Agarwal et al. 2021)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.results import EpisodeResult
from experiments.report.measures.formats import format_no_difference
from experiments.report.measures.paired_scores import Interval, pair_scores
from experiments.report.measures.summary import group_results, list_splits, rank_methods
from experiments.statistics import (
    MIN_EPISODES,
    compute_bootstrap_interval,
    compute_iqm,
    compute_probability_of_improvement,
    compute_smallest_mean_difference,
)


@dataclass(frozen=True)
class Aggregate:
    """A method on one split, and its comparison with the method that is best on the first split."""

    split: str
    method: str
    episodes: int
    trainings: int
    cost: Interval  # interquartile mean [m]
    shared_episodes: int  # episodes that the best method met too
    improvement_probability: Interval | None  # that the best method's cost is lower; None: itself
    min_detectable: float  # distance from one half, in four of five samples

    @property
    def verdict(self) -> str:
        if self.improvement_probability is None:
            return "–"
        _, low, high = self.improvement_probability
        if low <= 0.5 <= high or self.shared_episodes < MIN_EPISODES:
            return format_no_difference(100 * self.min_detectable, " points")
        return "lower cost" if low > 0.5 else "higher cost"


def compute_aggregates(results: Sequence[EpisodeResult]) -> list[Aggregate]:
    """Compare every method on every split with the method that is best on the first split."""
    methods = rank_methods(results)
    groups = group_results(results, "split")
    return [
        _compute_aggregate(groups[split], split, method, methods[0])
        for split in list_splits(results)
        for method in methods
        if any(result.method == method for result in groups[split])
    ]


def _compute_aggregate(results: Sequence[EpisodeResult], split: str, method: str, best_method: str) -> Aggregate:
    (costs,) = pair_scores(results, [method]).scores
    cost = compute_bootstrap_interval(compute_iqm, costs)
    episodes = int((~np.isnan(costs)).sum())
    pairs = pair_scores(results, [best_method, method])
    improvement = None
    min_detectable = math.nan
    if method != best_method and pairs.episodes:
        a, b = (-scores for scores in pairs.scores)  # less is better
        improvement = compute_bootstrap_interval(compute_probability_of_improvement, a, b)
        improvements = np.array([compute_probability_of_improvement(a[:, [i]], b[:, [i]]) for i in range(a.shape[1])])
        min_detectable = compute_smallest_mean_difference(improvements - 0.5)
    return Aggregate(split, method, episodes, len(costs), cost, len(pairs.episodes), improvement, min_detectable)
