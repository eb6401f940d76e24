"""Regret: what an arm's episodes cost more than the best known way, split into parts that add up."""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.pairs import Difference, Interval, apart, difference, episode_cost, paired, ranked
from experiments.report.summary import Episode, Row, is_oracle, key_of, known
from experiments.statistics import LEAST_EPISODES, bootstrap

Budget = tuple[str, int, int, int]  # search, samples, iterations, horizon
BUDGET = ("search_samples", "search_iterations", "search_horizon")
MODEL, SEARCH, BOTH, REST = "model error", "search error", "model and search", "rest"


@dataclass(frozen=True)
class Regret:
    """What an arm's episodes cost more than the best known way, and where that comes from; `parts` add up to `total`."""

    agent: str
    episodes: int
    trainings: int
    total: Interval
    parts: dict[str, Difference]
    twin: str  # the oracle with the same search and budget; none: ""
    reference: str  # the oracle with the largest budget


def regrets(rows: Sequence[Row]) -> list[Regret]:
    """Of every arm that plans on a learned model, on the episodes that its oracles met too, the largest one that met enough of
    them; on all splits together.

    The best known way through an episode is the cheapest of all arms. Model error: the arm against the true dynamics under the
    same search and budget. Search error: that against the largest search on the true dynamics. The rest: that against the best
    known way. Where no oracle has the arm's budget, model and search cannot be told apart; where none has a larger one, the
    search error is part of the rest.
    """
    oracles = list(dict.fromkeys(str(row["agent"]) for row in rows if is_oracle(str(row["agent"]))))
    planners = {str(row["agent"]) for row in rows if row["model"] and not is_oracle(str(row["agent"]))}
    arms = [agent for agent in ranked(rows) if agent in planners]
    budgets = {agent: budget_of(rows, agent) for agent in (*arms, *oracles)}
    found = [_regret(rows, arm, oracles, budgets) for arm in arms]
    return [regret for regret in found if regret is not None]


def _regret(rows: Sequence[Row], arm: str, oracles: list[str], budgets: dict[str, Budget | None]) -> Regret | None:
    met = {oracle: number for oracle in oracles if (number := len(paired(rows, [arm, oracle]).episodes))}
    if not met:
        return None
    enough = [oracle for oracle, number in met.items() if number >= min(LEAST_EPISODES, max(met.values()))]
    reference = max(enough, key=lambda oracle: (_size(budgets[oracle]), oracle))
    twin = next((oracle for oracle in met if budgets[arm] is not None and budgets[oracle] == budgets[arm]), "")
    chain = list(dict.fromkeys([arm, *([twin] if twin else []), reference]))
    pairs = paired(rows, chain)
    if not pairs.episodes:
        return None
    best = _best_known(rows, pairs.episodes)
    steps = [*pairs.scores, best]
    names = {1: [REST], 2: [MODEL if twin else BOTH, REST], 3: [MODEL, SEARCH, REST]}[len(chain)]
    parts = {name: difference(a, b, pairs.splits) for name, a, b in zip(names, steps[:-1], steps[1:], strict=True)}
    total = bootstrap(apart, pairs.scores[0], best, strata=pairs.splits)
    return Regret(arm, len(pairs.episodes), len(pairs.scores[0]), total, parts, twin, reference)


def _best_known(rows: Sequence[Row], episodes: list[Episode]) -> np.ndarray:
    """(1, E) the least cost of any arm."""
    least: dict[Episode, float] = defaultdict(lambda: math.inf)
    for row in rows:
        least[key_of(row)] = min(least[key_of(row)], episode_cost(row))
    return np.array([[least[episode] for episode in episodes]])


def budget_of(rows: Sequence[Row], agent: str) -> Budget | None:
    """What an arm's search may spend on a decision; None where rows do not tell, or it does not search."""
    row = next((row for row in rows if row["agent"] == agent and all(known(row, name) for name in BUDGET)), None)
    if row is None or not row["search"]:
        return None
    samples, iterations, horizon = (int(row[name]) for name in BUDGET)
    return str(row["search"]), samples, iterations, horizon


def _size(budget: Budget | None) -> int:
    return math.prod(budget[1:]) if budget else 0
