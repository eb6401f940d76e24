"""Regret: cost of a method's episodes above the best known solution, in parts that add up."""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from experiments.report.measures import paired_scores
from experiments.report.measures.paired_scores import Difference, Interval, compute_episode_cost, pair_scores
from experiments.report.measures.summary import EpisodeKey, Results, get_episode_key, is_oracle, rank_methods
from experiments.statistics import MIN_EPISODES, compute_bootstrap_interval

SearchBudget = tuple[str, int, int, int]  # search, samples, iterations, horizon
MODEL_ERROR = "model error"
SEARCH_ERROR = "search error"
MODEL_AND_SEARCH_ERROR = "model and search"
REMAINDER = "rest"


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
    methods = [method for method in rank_methods(results) if method in planners]
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
        name: paired_scores.compute_difference(a, b, pairs.splits)
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
        best_costs[episode] = min(best_costs[episode], compute_episode_cost(result))
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
