"""What arms have cost, and what they can do after how much data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.pairs import rank_methods
from experiments.report.summary import EpisodeResult, Rate, is_known, is_oracle, select_trainings


@dataclass(frozen=True)
class MethodCosts:
    """What an arm has cost, over all its episodes; nan where that is not known."""

    method: str
    episodes: int
    safe_success: Rate
    success: Rate
    env_steps: float  # mean over trainings, and so on
    data_bytes: float
    collect_cpu_s: float
    train_cpu_s: float
    decision_s: float  # for an episode, by the clock
    decision_ms: float  # median over episodes of their medians
    decision_s_per_success: float
    total_s_per_success: float  # all of it, made once for these episodes


def compute_costs(results: Sequence[EpisodeResult]) -> list[MethodCosts]:
    return [
        _compute_method_costs(method, [result for result in results if result["agent"] == method])
        for method in rank_methods(results)
    ]


def _compute_method_costs(method: str, results: Sequence[EpisodeResult]) -> MethodCosts:
    success = Rate.compute(results, "success")
    trainings = select_trainings(results)
    costs = {name: _compute_mean(trainings, name) for name in ("env_steps", "data_bytes", "collect_cpu_s", "train_cpu_s")}
    if costs["env_steps"]:  # agents that collect while they train, and models from elsewhere, do not tell these apart
        costs |= {name: costs[name] or math.nan for name in ("data_bytes", "collect_cpu_s")}
    training_s = len(trainings) * costs["train_cpu_s"]  # collecting is in it
    if costs["collect_cpu_s"] == costs["collect_cpu_s"]:
        costs["train_cpu_s"] -= costs["collect_cpu_s"]
    decision_s = sum(float(result["decide_s"]) for result in results if is_known(result, "decide_s"))
    return MethodCosts(
        method,
        len(results),
        Rate.compute(results, "clean"),
        success,
        **costs,
        decision_s=decision_s / len(results),
        decision_ms=float(np.median([result["decision_ms_p50"] for result in results])),
        decision_s_per_success=decision_s / success.count if success.count else math.inf,
        total_s_per_success=(training_s + decision_s) / success.count if success.count else math.inf,
    )


def _compute_mean(results: Sequence[EpisodeResult], name: str) -> float:
    values = [float(result[name]) for result in results if is_known(result, name)]
    return float(np.mean(values)) if values else math.nan


def find_pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points (cost, worth) that no other is as cheap and as good as, and better in one; by rising cost."""
    point_order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front_indices: list[int] = []
    for i in point_order:
        if not front_indices or points[i][1] > points[front_indices[-1]][1]:
            front_indices.append(i)
    return front_indices


@dataclass(frozen=True)
class EfficiencyPoint:
    """An arm's rate after some data."""

    method_family: str  # arms that differ in their data alone
    method: str
    env_steps: float
    trainings: int
    episodes: int
    safe_success: Rate
    success: Rate


def compute_efficiency(results: Sequence[EpisodeResult], split: str) -> list[EfficiencyPoint]:
    """Of every arm that learned from data, on one split."""
    split_results = [
        result
        for result in results
        if result["split"] == split and result["env_steps"] > 0 and not is_oracle(str(result["agent"]))
    ]
    points = []
    for method in dict.fromkeys(str(result["agent"]) for result in split_results):
        method_results = [result for result in split_results if result["agent"] == method]
        rates = [Rate.compute(method_results, outcome) for outcome in ("clean", "success")]
        points.append(
            EfficiencyPoint(
                get_method_family(method_results[0]),
                method,
                _compute_mean(method_results, "env_steps"),
                len(select_trainings(method_results)),
                len(method_results),
                *rates,
            )
        )
    return sorted(points, key=lambda point: (point.method_family, point.env_steps))


def get_method_family(result: EpisodeResult) -> str:
    """The arm without what its name says of its data."""
    return str(result.get("method") or (f"{result['model']}+{result['search']}" if result["model"] else result["agent"]))
