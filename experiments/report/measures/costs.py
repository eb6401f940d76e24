"""Compute costs of methods, their success by experience, and typical costs of their episodes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments import statistics
from experiments.report.measures import summary
from experiments.report.measures.formats import format_no_difference
from experiments.report.measures.paired_scores import Interval, pair_scores


@dataclass(frozen=True)
class MethodCosts:
    """Costs of a method over all its episodes; nan where they are unknown."""

    method: str
    episodes: int
    safe_success: summary.Rate
    success: summary.Rate
    env_steps: float  # this and the next three: mean over trainings
    data_bytes: float
    collect_cpu_s: float
    train_cpu_s: float
    decision_s: float  # of an episode, wall time
    decision_ms: float  # median over episodes of their medians
    decision_s_per_success: float
    total_s_per_success: float  # training and decisions for these episodes


def compute_costs(results: summary.Results) -> list[MethodCosts]:
    """Compute the costs of every method."""
    groups = summary.group_results(results, "method")
    return [_compute_method_costs(method, groups[method]) for method in summary.rank_methods(results)]


def _compute_method_costs(method: str, results: summary.Results) -> MethodCosts:
    safe_success, success = (summary.Rate.compute(results, outcome) for outcome in summary.OUTCOMES)
    trainings = summary.select_trainings(results)
    costs = {name: summary.compute_mean(trainings, name) for name in ("env_steps", "data_bytes", "collect_cpu_s", "train_cpu_s")}
    if costs["env_steps"]:  # agents that collect while they train, and external models, record zero
        costs |= {name: costs[name] or math.nan for name in ("data_bytes", "collect_cpu_s")}
    training_s = len(trainings) * costs["train_cpu_s"]  # includes collecting
    if not math.isnan(costs["collect_cpu_s"]):
        costs["train_cpu_s"] -= costs["collect_cpu_s"]
    decision_s = sum(result.decision_time_s for result in results)
    costs |= {
        "decision_s": decision_s / len(results),
        "decision_ms": float(np.median([result.decision_ms_p50 for result in results])),
        "decision_s_per_success": decision_s / success.count if success.count else math.inf,
        "total_s_per_success": (training_s + decision_s) / success.count if success.count else math.inf,
    }
    return MethodCosts(method, len(results), safe_success, success, **costs)


def find_pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Find the points (cost, value) that are not dominated by another.

    Returns:
        Their indices, by rising cost.
    """
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


@dataclass(frozen=True)
class EfficiencyPoint:
    """A method's rates after an amount of experience."""

    method_family: str  # methods that differ in their data alone
    method: str
    env_steps: float
    trainings: int
    episodes: int
    safe_success: summary.Rate
    success: summary.Rate


def compute_efficiency(results: summary.Results) -> list[EfficiencyPoint]:
    """Compute the rates of every method that learned from data.

    Args:
        results: of one split.
    """
    learned = [result for result in results if result.env_steps > 0 and not summary.is_oracle(result.method)]
    points = []
    for method, group in summary.group_results(learned, "method").items():
        rates = (summary.Rate.compute(group, outcome) for outcome in summary.OUTCOMES)
        counts = (summary.compute_mean(group, "env_steps"), len(summary.select_trainings(group)), len(group))
        points.append(EfficiencyPoint(summary.get_base_method(group[0]), method, *counts, *rates))
    return sorted(points, key=lambda point: (point.method_family, point.env_steps))


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
        if low <= 0.5 <= high or self.shared_episodes < statistics.MIN_EPISODES:
            return format_no_difference(100 * self.min_detectable, " points")
        return "lower cost" if low > 0.5 else "higher cost"


def compute_aggregates(results: summary.Results) -> list[Aggregate]:
    """Compare every method on every split with the method that is best on the first split."""
    methods = summary.rank_methods(results)
    aggregates = []
    for split in summary.list_splits(results):
        split_results = [result for result in results if result.split == split]
        present = {result.method for result in split_results}
        aggregates += [_compute_aggregate(split_results, split, method, methods[0]) for method in methods if method in present]
    return aggregates


def _compute_aggregate(results: summary.Results, split: str, method: str, best_method: str) -> Aggregate:
    (costs,) = pair_scores(results, [method]).scores
    cost = statistics.compute_bootstrap_interval(statistics.compute_iqm, costs)
    episodes = int((~np.isnan(costs)).sum())
    pairs = pair_scores(results, [best_method, method])
    improvement = None
    min_detectable = math.nan
    if method != best_method and pairs.episodes:
        a, b = (-scores for scores in pairs.scores)  # less is better
        improvement = statistics.compute_bootstrap_interval(statistics.compute_probability_of_improvement, a, b)
        improvements = np.array([statistics.compute_probability_of_improvement(a[:, [i]], b[:, [i]]) for i in range(a.shape[1])])
        min_detectable = statistics.compute_smallest_mean_difference(improvements - 0.5)
    return Aggregate(split, method, episodes, len(costs), cost, len(pairs.episodes), improvement, min_detectable)
