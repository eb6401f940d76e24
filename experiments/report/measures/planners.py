"""Measures of planners: regret, exploitation of the model, and predicted violations.

Regret is the cost of a method's episodes above the best known solution, in parts that add up. The
others are measured on audited plans.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from experiments.evaluation.results import EpisodeResult
from experiments.report.measures import paired_scores, summary
from experiments.report.measures.paired_scores import Difference, Interval, compute_difference, get_cost_m, pair_scores
from experiments.report.measures.summary import EpisodeKey, Results, get_episode_key, is_oracle
from experiments.statistics import MIN_EPISODES, compute_bootstrap_interval

SearchBudget = tuple[str, int, int, int]  # search, samples, iterations, horizon
MODEL_ERROR = "model error"
SEARCH_ERROR = "search error"
MODEL_AND_SEARCH_ERROR = "model and search"
REMAINDER = "rest"
get_costs = attrgetter("predicted_cost", "realised_cost", "random_predicted_cost", "random_realised_cost")


@dataclass(frozen=True)
class Regret:
    """A method's regret [m]; `parts` add up to `total`."""

    method: str
    episodes: int
    trainings: int
    total: Interval
    parts: dict[str, Difference]
    matched_oracle: str  # the oracle with the same search and budget, or ""
    largest_oracle: str  # the oracle with the largest budget


def compute_regrets(results: Results) -> list[Regret]:
    """Compute the regret of every planner on a learned model over the episodes of its oracles.

    The best known solution of an episode is the cheapest of all methods. Model error: the method
    against the true dynamics under the same search and budget. Search error: that against the
    largest search on the true dynamics. The rest: that against the best known solution. Without an
    oracle of the method's budget, model and search error are one part; without a larger oracle, the
    search error is part of the rest. The largest oracle must have met enough episodes.
    """
    oracles = list(dict.fromkeys(result.method for result in results if is_oracle(result.method)))
    planners = {result.method for result in results if result.model and not is_oracle(result.method)}
    methods = [method for method in summary.rank_methods(results) if method in planners]
    budgets = {method: get_search_budget(results, method) for method in (*methods, *oracles)}
    regrets = [_compute_regret(results, method, oracles, budgets) for method in methods]
    return [regret for regret in regrets if regret is not None]


def _compute_regret(results: Results, method: str, oracles: list[str], budgets: dict[str, SearchBudget | None]) -> Regret | None:
    counts = {oracle: len(pair_scores(results, [method, oracle]).episodes) for oracle in oracles}
    most = max(counts.values(), default=0)
    if not most:
        return None
    eligible = [oracle for oracle, count in counts.items() if count >= min(MIN_EPISODES, most)]
    largest = max(eligible, key=lambda oracle: (math.prod((budgets[oracle] or (0, 0))[1:]), oracle))
    matched = next((name for name in oracles if counts[name] and budgets[name] == budgets[method] is not None), "")
    chain = list(dict.fromkeys(filter(None, (method, matched, largest))))
    pairs = pair_scores(results, chain)
    if not pairs.episodes:
        return None
    best_costs = _find_best_costs(results, pairs.episodes)
    names = [MODEL_ERROR if matched else MODEL_AND_SEARCH_ERROR, *([SEARCH_ERROR] if len(chain) == 3 else []), REMAINDER]
    parts = {
        name: compute_difference(a, b, pairs.splits)
        for name, a, b in zip(names, pairs.scores, [*pairs.scores[1:], best_costs], strict=True)
    }
    mean_difference = paired_scores.compute_mean_difference
    total = compute_bootstrap_interval(mean_difference, pairs.scores[0], best_costs, strata=pairs.splits)
    return Regret(method, len(pairs.episodes), len(pairs.scores[0]), total, parts, matched, largest)


def _find_best_costs(results: Results, episodes: list[EpisodeKey]) -> np.ndarray:
    """Find the least cost (1, E) of any method."""
    best_costs: dict[EpisodeKey, float] = defaultdict(lambda: math.inf)
    for result in results:
        episode = get_episode_key(result)
        best_costs[episode] = min(best_costs[episode], paired_scores.compute_episode_cost(result))
    return np.array([[best_costs[episode] for episode in episodes]])


def get_search_budget(results: Results, method: str) -> SearchBudget | None:
    """Get the search and its budget for a decision.

    None where it is unknown, or the method does not search.
    """
    for result in results:
        samples, iterations, horizon = result.search_samples, result.search_iterations, result.search_horizon
        if result.method == method and samples is not None and iterations is not None and horizon is not None:
            return (result.search, samples, iterations, horizon) if result.search else None
    return None


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
    for method, group in summary.group_results(audited, "method").items():
        pairs = pair_scores(group, [method], lambda result: _compute_gap(result, ""))
        (chosen,) = pairs.scores
        (random,) = pair_scores(group, [method], lambda result: _compute_gap(result, "random_")).scores
        zeros = np.zeros((1, chosen.shape[1]))
        chosen_gap, random_gap = (compute_difference(scores, zeros, pairs.splits) for scores in (chosen, random))
        excess = compute_difference(chosen, random, pairs.splits, is_joint=True)
        disagreements = [1e3 * summary.compute_mean(group, name) for name in ("disagreement", "random_disagreement")]
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
    """Compare predicted and realised violations by method and kind; oracles are left out.

    Intervals are bootstrapped over trainings and episodes, because plans of one episode are similar.
    """
    audited = [result for result in results if result.plans_checked and not is_oracle(result.method)]
    groups = summary.group_results(audited, "method")
    return [
        _compute_kind_violations(kind_results, kind, method)
        for kind in dict.fromkeys(kind for result in audited for kind in result.plans)
        for method, group in groups.items()
        if (kind_results := [result for result in group if kind in result.plans])
    ]


def _compute_kind_violations(results: Results, kind: str, method: str) -> PredictedViolations:
    def count_plans(name: str) -> np.ndarray:
        return pair_scores(results, [method], lambda result: getattr(result.plans[kind], name)).scores[0]

    (num_audited,) = pair_scores(results, [method], lambda result: result.plans_checked or 0).scores
    expected, predicted, realised, both = map(count_plans, ("expected", "predicted", "realised", "both"))
    predicted_share = _compute_share(expected, num_audited)
    realised_share = _compute_share(realised, num_audited)
    missed_share = _compute_share(realised - both, realised)
    false_alarm_share = _compute_share(predicted - both, predicted)
    num_plans = int(np.nansum(num_audited))
    return PredictedViolations(method, kind, num_plans, predicted_share, realised_share, missed_share, false_alarm_share)


def _compute_share(counts: np.ndarray, totals: np.ndarray) -> Interval:
    if not np.nansum(totals):
        return math.nan, math.nan, math.nan

    def compute_ratio(sample: np.ndarray) -> float:
        total = np.nansum(sample.imag)
        return float(np.nansum(sample.real) / total) if total else math.nan

    return compute_bootstrap_interval(compute_ratio, counts + 1j * totals)  # complex: both are resampled together
