"""What rows tell beside rates and costs: exploitation, plans that touch, and episodes' costs against those of the best arm."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.pairs import (
    Difference,
    Interval,
    compute_difference,
    format_no_difference,
    get_cost_m,
    pair_scores,
    rank_methods,
)
from experiments.report.summary import EpisodeResult, is_known, is_oracle, summarise
from experiments.statistics import (
    MIN_EPISODES,
    compute_bootstrap_interval,
    compute_iqm,
    compute_probability_of_improvement,
    compute_smallest_mean_difference,
)


@dataclass(frozen=True)
class Exploitation:
    """What plans cost more than was foreseen, of the chosen ones and of random ones from the same states [m]."""

    method: str
    episodes: int
    chosen_gap: Difference  # realised minus predicted
    random_gap: Difference
    excess_gap: Difference  # chosen minus random
    disagreement_mm: float  # of the model's particles along the chosen plans; nan for a single one
    random_disagreement_mm: float


def compute_exploitation(results: Sequence[EpisodeResult]) -> list[Exploitation]:
    """Of every arm on a learned model whose rows tell of random plans; where the chosen exceed them, the model is exploited."""
    required_keys = ("predicted_cost", "realised_cost", "random_predicted_cost", "random_realised_cost")
    plan_results = [
        result
        for result in results
        if all(is_known(result, name) for name in required_keys) and not is_oracle(str(result["agent"]))
    ]
    exploitations = []
    for method in dict.fromkeys(str(result["agent"]) for result in plan_results):
        method_results = [result for result in plan_results if result["agent"] == method]
        chosen_pairs = pair_scores(
            method_results, [method], lambda result: get_cost_m(result, "realised_cost") - get_cost_m(result, "predicted_cost")
        )
        random_pairs = pair_scores(method_results, [method], _compute_random_gap)
        (chosen_gaps,), (random_gaps,), strata = chosen_pairs.scores, random_pairs.scores, chosen_pairs.splits
        zero_costs = np.zeros((1, chosen_gaps.shape[1]))
        differences = (
            compute_difference(chosen_gaps, zero_costs, strata),
            compute_difference(random_gaps, zero_costs, strata),
            compute_difference(chosen_gaps, random_gaps, strata, is_joint=True),
        )
        disagreements = [_compute_mean_mm(method_results, name) for name in ("disagreement", "random_disagreement")]
        exploitations.append(Exploitation(method, len(method_results), *differences, *disagreements))
    return exploitations


def _compute_random_gap(result: EpisodeResult) -> float:
    return get_cost_m(result, "random_realised_cost") - get_cost_m(result, "random_predicted_cost")


def _compute_mean_mm(results: Sequence[EpisodeResult], name: str) -> float:
    values = [1e3 * float(result[name]) for result in results if is_known(result, name)]
    return float(np.mean(values)) if values else math.nan


PLAN_OUTCOMES = ("predicted", "realised", "both")  # of the counts of plans in rows


@dataclass(frozen=True)
class PredictedViolations:
    """Of plans that were carried out to their end in the true simulator: how many lead to a kind of violation, and who knew."""

    method: str
    kind: str
    num_plans: int
    predicted_share: Interval  # share of the plans: of several particles the mean share of them
    realised_share: Interval
    missed_share: Interval  # share of those that were not foreseen by most particles
    false_alarm_share: Interval  # share of those foreseen by most that did not come


def compute_predicted_violations(results: Sequence[EpisodeResult]) -> list[PredictedViolations]:
    """Of every arm on a learned model, by kind; intervals by a bootstrap over trainings and episodes, as an episode's plans are
    alike."""
    audited_results = [
        result
        for result in results
        if is_known(result, "plans_checked") and result["plans_checked"] and not is_oracle(str(result["agent"]))
    ]
    keys = dict.fromkeys(name for result in audited_results for name in result)
    kinds = [match[1] for name in keys if (match := re.fullmatch("plans_(.+)_predicted", name))]
    groups = [(kind, method) for kind in kinds for method in dict.fromkeys(str(result["agent"]) for result in audited_results)]
    return [
        violations
        for kind, method in groups
        if (violations := _compute_kind_violations(audited_results, kind, method)) is not None
    ]


def _compute_kind_violations(results: Sequence[EpisodeResult], kind: str, method: str) -> PredictedViolations | None:
    method_results = [result for result in results if result["agent"] == method and is_known(result, f"plans_{kind}_predicted")]
    if not method_results:
        return None

    def count_plans(key: str, fallback_key: str = "") -> np.ndarray:
        return pair_scores(
            method_results, [method], lambda result: float(result[key if is_known(result, key) else fallback_key])
        ).scores[0]

    num_checked, (num_predicted, num_realised, num_predicted_and_realised) = (
        count_plans("plans_checked"),
        (count_plans(f"plans_{kind}_{outcome}") for outcome in PLAN_OUTCOMES),
    )
    num_expected = count_plans(f"plans_{kind}_expected", f"plans_{kind}_predicted")
    shares = (
        (num_expected, num_checked),
        (num_realised, num_checked),
        (num_realised - num_predicted_and_realised, num_realised),
        (num_predicted - num_predicted_and_realised, num_predicted),
    )
    return PredictedViolations(
        method, kind, int(np.nansum(num_checked)), *(_compute_share(part, whole) for part, whole in shares)
    )


def _compute_share(counts: np.ndarray, totals: np.ndarray) -> Interval:
    if not np.nansum(totals):
        return math.nan, math.nan, math.nan
    complex_counts = counts + 1j * totals  # drawn together

    def compute_ratio(sample: np.ndarray) -> float:
        sample_total = np.nansum(sample.imag)
        return float(np.nansum(sample.real) / sample_total) if sample_total else math.nan  # of none

    return compute_bootstrap_interval(compute_ratio, complex_counts)


@dataclass(frozen=True)
class Aggregate:
    """An arm on one split: interquartile mean of its episodes' costs, and how probably the best arm's are lower."""

    split: str
    method: str
    episodes: int
    trainings: int
    cost: Interval  # interquartile mean [m]
    shared_episodes: int  # episodes that the best arm met too
    improvement_probability: (
        Interval | None
    )  # probability that the best arm's cost is lower; None for itself and without shared episodes
    min_detectable: float  # distance from one half that so many episodes would have shown in four of five samples

    @property
    def verdict(self) -> str:
        if self.improvement_probability is None:
            return "–"
        _, low, high = self.improvement_probability
        if low <= 0.5 <= high or self.shared_episodes < MIN_EPISODES:
            return format_no_difference(100 * self.min_detectable, " points")
        return "lower cost" if low > 0.5 else "higher cost"


def compute_aggregates(results: Sequence[EpisodeResult]) -> list[Aggregate]:
    """Every arm on every split; against the arm that is best on the first split."""
    methods = rank_methods(results)
    return [
        _compute_aggregate([result for result in results if result["split"] == split], str(split), method, methods[0])
        for split in dict.fromkeys(summary.split for summary in summarise(results))
        for method in methods
        if any(result["agent"] == method and result["split"] == split for result in results)
    ]


def _compute_aggregate(results: Sequence[EpisodeResult], split: str, method: str, best_method: str) -> Aggregate:
    (method_costs,) = pair_scores(results, [method]).scores
    cost = compute_bootstrap_interval(compute_iqm, method_costs)
    pairs = pair_scores(results, [best_method, method])
    improvement, min_detectable = None, math.nan
    if method != best_method and pairs.episodes:
        a, b = (-scores for scores in pairs.scores)  # less is better
        improvement = compute_bootstrap_interval(compute_probability_of_improvement, a, b)
        improvements = np.array([compute_probability_of_improvement(a[:, [i]], b[:, [i]]) for i in range(a.shape[1])])
        min_detectable = compute_smallest_mean_difference(improvements - 0.5)
    return Aggregate(
        split,
        method,
        int((~np.isnan(method_costs)).sum()),
        len(method_costs),
        cost,
        len(pairs.episodes),
        improvement,
        min_detectable,
    )
