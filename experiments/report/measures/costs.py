"""Compute costs of methods, and their success by the amount of experience."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.evaluation.results import EpisodeResult
from experiments.report.measures.summary import (
    Rate,
    get_base_method,
    group_results,
    is_oracle,
    list_known,
    rank_methods,
    select_trainings,
)


@dataclass(frozen=True)
class MethodCosts:
    """Costs of a method over all its episodes; nan where they are unknown."""

    method: str
    episodes: int
    safe_success: Rate
    success: Rate
    env_steps: float  # this and the next three: mean over trainings
    data_bytes: float
    collect_cpu_s: float
    train_cpu_s: float
    decision_s: float  # of an episode, wall time
    decision_ms: float  # median over episodes of their medians
    decision_s_per_success: float
    total_s_per_success: float  # training and decisions for these episodes


def compute_costs(results: Sequence[EpisodeResult]) -> list[MethodCosts]:
    """Compute the costs of every method."""
    groups = group_results(results, "method")
    return [_compute_method_costs(method, groups[method]) for method in rank_methods(results)]


def _compute_method_costs(method: str, results: Sequence[EpisodeResult]) -> MethodCosts:
    success = Rate.compute(results, "success")
    trainings = select_trainings(results)
    costs = {name: _compute_mean(trainings, name) for name in ("env_steps", "data_bytes", "collect_cpu_s", "train_cpu_s")}
    if costs["env_steps"]:  # agents that collect while they train, and external models, record zero
        costs |= {name: costs[name] or math.nan for name in ("data_bytes", "collect_cpu_s")}
    training_s = len(trainings) * costs["train_cpu_s"]  # includes collecting
    if not math.isnan(costs["collect_cpu_s"]):
        costs["train_cpu_s"] -= costs["collect_cpu_s"]
    decision_s = sum(result.decision_time_s for result in results)
    return MethodCosts(
        method,
        len(results),
        Rate.compute(results, "safe_success"),
        success,
        **costs,
        decision_s=decision_s / len(results),
        decision_ms=float(np.median([result.decision_ms_p50 for result in results])),
        decision_s_per_success=decision_s / success.count if success.count else math.inf,
        total_s_per_success=(training_s + decision_s) / success.count if success.count else math.inf,
    )


def _compute_mean(results: Sequence[EpisodeResult], name: str) -> float:
    values = list_known(results, name)
    return float(np.mean(values)) if values else math.nan


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
    safe_success: Rate
    success: Rate


def compute_efficiency(results: Sequence[EpisodeResult]) -> list[EfficiencyPoint]:
    """Compute the rates of every method that learned from data.

    Args:
        results: of one split.
    """
    learned = [result for result in results if result.env_steps > 0 and not is_oracle(result.method)]
    points = []
    for method, group in group_results(learned, "method").items():
        rates = (Rate.compute(group, "safe_success"), Rate.compute(group, "success"))
        counts = (_compute_mean(group, "env_steps"), len(select_trainings(group)), len(group))
        points.append(EfficiencyPoint(get_base_method(group[0]), method, *counts, *rates))
    return sorted(points, key=lambda point: (point.method_family, point.env_steps))
