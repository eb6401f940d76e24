"""Regret: what an arm's episodes cost more than the best known way, split into parts that add up."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.pairs import (
    Difference,
    Interval,
    compute_difference,
    compute_episode_cost,
    compute_mean_difference,
    pair_scores,
    rank_methods,
)
from experiments.report.summary import EpisodeKey, EpisodeResult, get_episode_key, is_known, is_oracle
from experiments.statistics import MIN_EPISODES, compute_bootstrap_interval

SearchBudget = tuple[str, int, int, int]  # search, samples, iterations, horizon
BUDGET_KEYS = ("search_samples", "search_iterations", "search_horizon")
MODEL_ERROR, SEARCH_ERROR, MODEL_AND_SEARCH_ERROR, REMAINDER = "model error", "search error", "model and search", "rest"


@dataclass(frozen=True)
class Regret:
    """What an arm's episodes cost more than the best known way, and where that comes from; `parts` add up to `total`."""

    method: str
    episodes: int
    trainings: int
    total: Interval
    parts: dict[str, Difference]
    matched_oracle: str  # the oracle with the same search and budget; none: ""
    largest_oracle: str  # the oracle with the largest budget


def compute_regrets(results: Sequence[EpisodeResult]) -> list[Regret]:
    """Of every arm that plans on a learned model, on the episodes that its oracles met too, the largest one that met enough of
    them; on all splits together.

    The best known way through an episode is the cheapest of all arms. Model error: the arm against the true dynamics under the
    same search and budget. Search error: that against the largest search on the true dynamics. The rest: that against the best
    known way. Where no oracle has the arm's budget, model and search cannot be told apart; where none has a larger one, the
    search error is part of the rest.
    """
    oracles = list(dict.fromkeys(str(result["agent"]) for result in results if is_oracle(str(result["agent"]))))
    planners = {str(result["agent"]) for result in results if result["model"] and not is_oracle(str(result["agent"]))}
    methods = [method for method in rank_methods(results) if method in planners]
    budgets = {method: get_search_budget(results, method) for method in (*methods, *oracles)}
    regrets = [_compute_regret(results, method, oracles, budgets) for method in methods]
    return [regret for regret in regrets if regret is not None]


def _compute_regret(
    results: Sequence[EpisodeResult], method: str, oracles: list[str], budgets: dict[str, SearchBudget | None]
) -> Regret | None:
    shared_counts = {oracle: count for oracle in oracles if (count := len(pair_scores(results, [method, oracle]).episodes))}
    if not shared_counts:
        return None
    eligible_oracles = [
        oracle for oracle, count in shared_counts.items() if count >= min(MIN_EPISODES, max(shared_counts.values()))
    ]
    largest_oracle = max(eligible_oracles, key=lambda oracle: (_compute_budget_size(budgets[oracle]), oracle))
    matched_oracle = next(
        (oracle for oracle in shared_counts if budgets[method] is not None and budgets[oracle] == budgets[method]), ""
    )
    method_chain = list(dict.fromkeys([method, *([matched_oracle] if matched_oracle else []), largest_oracle]))
    pairs = pair_scores(results, method_chain)
    if not pairs.episodes:
        return None
    best_costs = _find_best_costs(results, pairs.episodes)
    cost_chain = [*pairs.scores, best_costs]
    part_names = {
        1: [REMAINDER],
        2: [MODEL_ERROR if matched_oracle else MODEL_AND_SEARCH_ERROR, REMAINDER],
        3: [MODEL_ERROR, SEARCH_ERROR, REMAINDER],
    }[len(method_chain)]
    parts = {
        name: compute_difference(a, b, pairs.splits)
        for name, a, b in zip(part_names, cost_chain[:-1], cost_chain[1:], strict=True)
    }
    total = compute_bootstrap_interval(compute_mean_difference, pairs.scores[0], best_costs, strata=pairs.splits)
    return Regret(method, len(pairs.episodes), len(pairs.scores[0]), total, parts, matched_oracle, largest_oracle)


def _find_best_costs(results: Sequence[EpisodeResult], episodes: list[EpisodeKey]) -> np.ndarray:
    """(1, E) the least cost of any arm."""
    best_costs: dict[EpisodeKey, float] = defaultdict(lambda: math.inf)
    for result in results:
        best_costs[get_episode_key(result)] = min(best_costs[get_episode_key(result)], compute_episode_cost(result))
    return np.array([[best_costs[episode] for episode in episodes]])


def get_search_budget(results: Sequence[EpisodeResult], method: str) -> SearchBudget | None:
    """What an arm's search may spend on a decision; None where rows do not tell, or it does not search."""
    result = next(
        (result for result in results if result["agent"] == method and all(is_known(result, name) for name in BUDGET_KEYS)), None
    )
    if result is None or not result["search"]:
        return None
    samples, iterations, horizon = (int(result[name]) for name in BUDGET_KEYS)
    return str(result["search"]), samples, iterations, horizon


def _compute_budget_size(budget: SearchBudget | None) -> int:
    return math.prod(budget[1:]) if budget else 0
