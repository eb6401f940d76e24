"""Measures of audited plans: exploitation of the model, and predicted violations."""

import math
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from experiments.evaluation.results import EpisodeResult
from experiments.report.measures.paired_scores import Difference, Interval, compute_difference, get_cost_m, pair_scores
from experiments.report.measures.summary import Results, compute_mean, group_results, is_oracle
from experiments.statistics import compute_bootstrap_interval

get_costs = attrgetter("predicted_cost", "realised_cost", "random_predicted_cost", "random_realised_cost")


@dataclass(frozen=True)
class Exploitation:
    """Realised minus predicted cost [m] of chosen and of random plans from the same states."""

    method: str
    episodes: int
    chosen_gap: Difference
    random_gap: Difference
    excess_gap: Difference  # chosen minus random; above zero the model is exploited
    disagreement_mm: float  # of the particles along chosen plans; nan for one particle
    random_disagreement_mm: float


def compute_exploitation(results: Results) -> list[Exploitation]:
    """Compute the exploitation of every method on a learned model with audited random plans."""
    audited = [result for result in results if None not in get_costs(result) and not is_oracle(result.method)]
    exploitations = []
    for method, group in group_results(audited, "method").items():
        pairs = pair_scores(group, [method], lambda result: _compute_gap(result, ""))
        (chosen,) = pairs.scores
        (random,) = pair_scores(group, [method], lambda result: _compute_gap(result, "random_")).scores
        zeros = np.zeros((1, chosen.shape[1]))
        chosen_gap, random_gap = (compute_difference(scores, zeros, pairs.splits) for scores in (chosen, random))
        excess = compute_difference(chosen, random, pairs.splits, is_joint=True)
        disagreements = [1e3 * compute_mean(group, name) for name in ("disagreement", "random_disagreement")]
        exploitations.append(Exploitation(method, len(group), chosen_gap, random_gap, excess, *disagreements))
    return exploitations


def _compute_gap(result: EpisodeResult, prefix: str) -> float:
    return get_cost_m(result, f"{prefix}realised_cost") - get_cost_m(result, f"{prefix}predicted_cost")


@dataclass(frozen=True)
class PredictedViolations:
    """Shares of the audited plans that lead to one kind of violation, in model and simulator."""

    method: str
    kind: str
    num_plans: int
    predicted_share: Interval  # of the plans; mean over the particles
    realised_share: Interval  # of the plans
    missed_share: Interval  # of the realised violations: not predicted by most particles
    false_alarm_share: Interval  # of the violations predicted by most particles: not realised


def compute_predicted_violations(results: Results) -> list[PredictedViolations]:
    """Compare predicted and realised violations of every method on a learned model, by kind.

    Intervals are bootstrapped over trainings and episodes, as the plans of one episode are alike.
    """
    audited = [result for result in results if result.plans_checked and not is_oracle(result.method)]
    groups = group_results(audited, "method")
    return [
        _compute_kind_violations(kind_results, kind, method)
        for kind in dict.fromkeys(kind for result in audited for kind in result.plans)
        for method, group in groups.items()
        if (kind_results := [result for result in group if kind in result.plans])
    ]


def _compute_kind_violations(results: Results, kind: str, method: str) -> PredictedViolations:
    def count_plans(name: str) -> np.ndarray:
        return pair_scores(results, [method], lambda result: getattr(result.plans[kind], name)).scores[0]

    (num_checked,) = pair_scores(results, [method], lambda result: result.plans_checked or 0).scores
    expected, predicted, realised, both = map(count_plans, ("expected", "predicted", "realised", "both"))
    predicted_share = _compute_share(expected, num_checked)
    realised_share = _compute_share(realised, num_checked)
    missed_share = _compute_share(realised - both, realised)
    false_alarm_share = _compute_share(predicted - both, predicted)
    num_plans = int(np.nansum(num_checked))
    return PredictedViolations(method, kind, num_plans, predicted_share, realised_share, missed_share, false_alarm_share)


def _compute_share(counts: np.ndarray, totals: np.ndarray) -> Interval:
    if not np.nansum(totals):
        return math.nan, math.nan, math.nan

    def compute_ratio(sample: np.ndarray) -> float:
        total = np.nansum(sample.imag)
        return float(np.nansum(sample.real) / total) if total else math.nan

    return compute_bootstrap_interval(compute_ratio, counts + 1j * totals)  # complex: both are resampled together
