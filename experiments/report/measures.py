"""What rows tell beside rates: regret and its parts, exploitation, costs, Pareto fronts, sample efficiency, plans that touch.

The cost of an episode is fair to who does not solve it: metres to go, mean over all the steps that an episode may have. From its
success on an arm owes nothing; who does not solve it owes to the end.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.summary import Rate, Row, is_oracle, known, summarise, trainings_of
from experiments.statistics import (
    bootstrap,
    iqm,
    probability_of_improvement,
    signed_rank_test,
    smallest_mean_difference,
)
from sim.scenes import scenes

Episode = tuple[str, int]  # layout id and seed
Interval = tuple[float, float, float]  # value, low, high
Budget = tuple[str, int, int, int]  # search, samples, iterations, horizon
BUDGET = ("search_samples", "search_iterations", "search_horizon")
MODEL, SEARCH, BOTH, REST = "model error", "search error", "model and search", "rest"


def episode_cost(row: Row) -> float:
    """Metres to go, mean over all the steps that an episode may have; zero once it is solved."""
    return float(row["total_cost"]) / scenes[row["scene"]].episode_steps


@dataclass(frozen=True)
class Paired:
    """Scores (S, E) of arms on the episodes that all of them met: a row for each training, nan where that one did not play."""

    episodes: list[Episode]
    splits: np.ndarray  # (E,) their strata
    scores: list[np.ndarray]  # of each arm


def paired(rows: Sequence[Row], arms: Sequence[str], value: Callable[[Row], float] = episode_cost) -> Paired:
    """Two rows of one arm in one episode are of different trainings, or runs."""
    found = [_scores(rows, arm, value) for arm in arms]
    shared = sorted(set[Episode].intersection(*(set(one) for one in found))) if found else []
    split_of = {_episode(row): str(row["split"]) for row in rows}
    scores = []
    for one in found:
        trainings = list(dict.fromkeys(training for episode in shared for training in one[episode]))
        scores.append(np.array([[one[episode].get(training, np.nan) for episode in shared] for training in trainings]))
    return Paired(shared, np.array([split_of[episode] for episode in shared]), scores)


def _episode(row: Row) -> Episode:
    return str(row["layout_id"]), int(row["seed"])


def _scores(rows: Sequence[Row], arm: str, value: Callable[[Row], float]) -> dict[Episode, dict[tuple[str, int, int], float]]:
    """Of each episode the score of each training: by run, its seed, and number of the time that it was met."""
    times: Counter[tuple[Episode, str, int]] = Counter()
    found: dict[Episode, dict[tuple[str, int, int], float]] = defaultdict(dict)
    for row in rows:
        if row["agent"] == arm:
            training = _episode(row), str(row["run"]), int(row.get("train_seed") or 0)
            found[training[0]][(*training[1:], times[training])] = value(row)
            times[training] += 1
    return found


@dataclass(frozen=True)
class Difference:
    """A mean difference between two arms on the same episodes."""

    value: float
    low: float
    high: float
    chance: float  # of differences as one-sided as these, or more, if neither arm were better
    smallest: float  # mean difference that so many episodes would have shown in four of five samples

    @property
    def shown(self) -> bool:
        return self.chance <= 0.05 and not self.low <= 0 <= self.high

    def __str__(self) -> str:
        return between(self.value, self.low, self.high)

    def verdict(self, unit: str = " m") -> str:
        """ "shown", or that it is not and which would have been."""
        smallest = f"{self.smallest:.2f}{unit}" if math.isfinite(self.smallest) else "any"
        return "shown" if self.shown else f"no difference shown (smallest: {smallest})"


def between(value: float, low: float, high: float, digits: int = 2) -> str:
    """ "1.20 [0.90, 1.50]", with true minus signs."""
    one, two, three = (f"{number:.{digits}f}".replace("-", "−") for number in (value, low, high))
    return f"{one} [{two}, {three}]"


def difference(a: np.ndarray, b: np.ndarray, strata: np.ndarray) -> Difference:
    """Of the means of scores a (S, E) and b (R, E): interval over trainings and episodes, test over the episodes' means."""
    value, low, high = bootstrap(_apart, a, b, strata=strata)
    per_episode = _per_episode(a) - _per_episode(b)
    return Difference(value, low, high, signed_rank_test(per_episode), smallest_mean_difference(per_episode))


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float((_per_episode(a) - _per_episode(b)).mean())


def _per_episode(scores: np.ndarray) -> np.ndarray:
    """(E,) means over the trainings that played; where a resample holds none of an episode, the mean of all."""
    there = ~np.isnan(scores)
    counts = there.sum(0)
    sums = np.where(there, scores, 0).sum(0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), sums.sum() / max(1, counts.sum()))


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
    """Of every arm that plans on a learned model, on the episodes that its oracles met too; on all splits together.

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
    met = [oracle for oracle in oracles if paired(rows, [arm, oracle]).episodes]
    if not met:
        return None
    reference = max(met, key=lambda oracle: (_size(budgets[oracle]), oracle))
    twin = next((oracle for oracle in met if budgets[arm] is not None and budgets[oracle] == budgets[arm]), "")
    chain = list(dict.fromkeys([arm, *([twin] if twin else []), reference]))
    pairs = paired(rows, chain)
    if not pairs.episodes:
        return None
    best = _best_known(rows, pairs.episodes)
    steps = [*pairs.scores, best]
    names = {1: [REST], 2: [MODEL if twin else BOTH, REST], 3: [MODEL, SEARCH, REST]}[len(chain)]
    parts = {name: difference(a, b, pairs.splits) for name, a, b in zip(names, steps[:-1], steps[1:], strict=True)}
    total = bootstrap(_apart, pairs.scores[0], best, strata=pairs.splits)
    return Regret(arm, len(pairs.episodes), len(pairs.scores[0]), total, parts, twin, reference)


def _best_known(rows: Sequence[Row], episodes: list[Episode]) -> np.ndarray:
    """(1, E) the least cost of any arm."""
    least: dict[Episode, float] = defaultdict(lambda: math.inf)
    for row in rows:
        least[_episode(row)] = min(least[_episode(row)], episode_cost(row))
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


def ranked(rows: Sequence[Row]) -> list[str]:
    """Every arm, as in the tables."""
    return list(dict.fromkeys(summary.agent for summary in summarise(rows)))


@dataclass(frozen=True)
class Exploitation:
    """What plans cost more than was foreseen, of the chosen ones and of random ones from the same states [m]."""

    agent: str
    episodes: int
    chosen: Difference  # realised minus predicted
    random: Difference
    excess: Difference  # chosen minus random
    disagreement_mm: float  # of the model's particles along the chosen plans; nan for a single one
    random_disagreement_mm: float


def exploitation(rows: Sequence[Row]) -> list[Exploitation]:
    """Of every arm on a learned model whose rows tell of random plans; where the chosen exceed them, the model is exploited."""
    wanted = ("predicted_cost", "realised_cost", "random_predicted_cost", "random_realised_cost")
    told = [row for row in rows if all(known(row, name) for name in wanted) and not is_oracle(str(row["agent"]))]
    found = []
    for agent in dict.fromkeys(str(row["agent"]) for row in told):
        own = [row for row in told if row["agent"] == agent]
        chosen = paired(own, [agent], lambda row: float(row["realised_cost"] - row["predicted_cost"]))
        random = paired(own, [agent], lambda row: float(row["random_realised_cost"] - row["random_predicted_cost"]))
        (a,), (b,), strata = chosen.scores, random.scores, chosen.splits
        zero = np.zeros((1, a.shape[1]))
        differences = (difference(a, zero, strata), difference(b, zero, strata), difference(a, b, strata))
        spread = [_mean_mm(own, name) for name in ("disagreement", "random_disagreement")]
        found.append(Exploitation(agent, len(own), *differences, *spread))
    return found


def _mean_mm(rows: Sequence[Row], name: str) -> float:
    values = [1e3 * float(row[name]) for row in rows if known(row, name)]
    return float(np.mean(values)) if values else math.nan


@dataclass(frozen=True)
class Touching:
    """Of plans that were carried out to their end in the true simulator: how many touch what stands still, and who knew."""

    agent: str
    plans: int
    predicted: Interval  # share of the plans
    realised: Interval
    missed: Interval  # share of the touching plans that were not foreseen
    needless: Interval  # share of the foreseen ones that did not touch


def touching(rows: Sequence[Row]) -> list[Touching]:
    """Of every arm on a learned model; intervals by a bootstrap over trainings and episodes, as an episode's plans are alike."""
    told = [row for row in rows if known(row, "plans_checked") and row["plans_checked"] and not is_oracle(str(row["agent"]))]
    found = []
    for agent in dict.fromkeys(str(row["agent"]) for row in told):
        names = ("plans_checked", "plans_touching_predicted", "plans_touching_realised", "plans_touching_both")
        counts = [paired(told, [agent], lambda row, name=name: float(row[name])).scores[0] for name in names]  # type: ignore[misc]
        checked, predicted, realised, both = counts
        shares = ((predicted, checked), (realised, checked), (realised - both, realised), (predicted - both, predicted))
        intervals = [_share(part, whole) for part, whole in shares]
        found.append(Touching(agent, int(np.nansum(checked)), *intervals))
    return found


def _share(part: np.ndarray, whole: np.ndarray) -> Interval:
    if not np.nansum(whole):
        return math.nan, math.nan, math.nan
    both = part + 1j * whole  # drawn together
    return bootstrap(lambda drawn: float(np.nansum(drawn.real) / max(1.0, np.nansum(drawn.imag))), both)


@dataclass(frozen=True)
class Spent:
    """What an arm has cost, over all its episodes."""

    agent: str
    episodes: int
    clean: Rate
    success: Rate
    env_steps: float  # mean over trainings, and so on
    data_bytes: float
    collect_cpu_s: float
    train_cpu_s: float
    decide_s: float  # for an episode
    decision_ms: float  # median over episodes of their medians
    decide_s_per_success: float
    cpu_s_per_success: float  # all of it, made once for these episodes


def spendings(rows: Sequence[Row]) -> list[Spent]:
    return [_spent(agent, [row for row in rows if row["agent"] == agent]) for agent in ranked(rows)]


def _spent(agent: str, rows: Sequence[Row]) -> Spent:
    success = Rate.of_rows(rows, "success")
    trainings = trainings_of(rows)
    made = {name: _mean(trainings, name) for name in ("env_steps", "data_bytes", "collect_cpu_s", "train_cpu_s")}
    making = len(trainings) * made["train_cpu_s"]  # collecting is in it
    if made["collect_cpu_s"] == made["collect_cpu_s"]:
        made["train_cpu_s"] -= made["collect_cpu_s"]
    deciding = sum(float(row["decide_s"]) for row in rows if known(row, "decide_s"))
    return Spent(
        agent,
        len(rows),
        Rate.of_rows(rows, "clean"),
        success,
        **made,
        decide_s=deciding / len(rows),
        decision_ms=float(np.median([row["decision_ms_p50"] for row in rows])),
        decide_s_per_success=deciding / success.count if success.count else math.inf,
        cpu_s_per_success=(making + deciding) / success.count if success.count else math.inf,
    )


def _mean(rows: Sequence[Row], name: str) -> float:
    values = [float(row[name]) for row in rows if known(row, name)]
    return float(np.mean(values)) if values else math.nan


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points (cost, worth) that no other is as cheap and as good as, and better in one; by rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


@dataclass(frozen=True)
class Learned:
    """An arm's rate after some data."""

    family: str  # arms that differ in their data alone
    agent: str
    env_steps: float
    trainings: int
    episodes: int
    clean: Interval
    success: Interval


def efficiency(rows: Sequence[Row], split: str) -> list[Learned]:
    """Of every arm that learned from data, on one split; intervals over trainings and episodes where there are several trainings,
    else Wilson's over episodes."""
    here = [row for row in rows if row["split"] == split and row["env_steps"] > 0 and not is_oracle(str(row["agent"]))]
    found = []
    for agent in dict.fromkeys(str(row["agent"]) for row in here):
        own = [row for row in here if row["agent"] == agent]
        rates = [_rate(own, agent, outcome) for outcome in ("clean", "success")]
        found.append(Learned(family(own[0]), agent, _mean(own, "env_steps"), len(trainings_of(own)), len(own), *rates))
    return sorted(found, key=lambda learned: (learned.family, learned.env_steps))


def family(row: Row) -> str:
    """The arm without what its name says of its data."""
    return str(row.get("method") or (f"{row['model']}+{row['search']}" if row["model"] else row["agent"]))


def _rate(rows: Sequence[Row], agent: str, outcome: str) -> Interval:
    (scores,) = paired(rows, [agent], lambda row: float(row[outcome])).scores
    if len(scores) > 1:
        return bootstrap(lambda drawn: float(np.nanmean(drawn)), scores)
    rate = Rate(int(scores.sum()), scores.size)
    return (rate.value, *rate.interval)


@dataclass(frozen=True)
class Aggregate:
    """An arm on one split: interquartile mean of its episodes' costs, and how probably the best arm's are lower."""

    split: str
    agent: str
    episodes: int
    trainings: int
    cost: Interval  # interquartile mean [m]
    shared: int  # episodes that the best arm met too
    improvement: Interval | None  # probability that the best arm's cost is lower; None for itself and without shared episodes
    smallest: float  # distance from one half that so many episodes would have shown in four of five samples

    @property
    def verdict(self) -> str:
        if self.improvement is None:
            return "–"
        _, low, high = self.improvement
        if low <= 0.5 <= high or self.shared < 6:  # five of five are chance more often than one time in twenty
            smallest = f"{100 * self.smallest:.0f} points" if math.isfinite(self.smallest) else "any"
            return f"no difference shown (smallest: {smallest})"
        return "lower cost" if low > 0.5 else "higher cost"


def aggregates(rows: Sequence[Row]) -> list[Aggregate]:
    """Every arm on every split; against the arm that is best on the first split."""
    order = ranked(rows)
    return [
        _aggregate([row for row in rows if row["split"] == split], str(split), agent, order[0])
        for split in dict.fromkeys(summary.split for summary in summarise(rows))
        for agent in order
        if any(row["agent"] == agent and row["split"] == split for row in rows)
    ]


def _aggregate(rows: Sequence[Row], split: str, agent: str, best: str) -> Aggregate:
    (own,) = paired(rows, [agent]).scores
    cost = bootstrap(iqm, own)
    pairs = paired(rows, [best, agent])
    improvement, smallest = None, math.nan
    if agent != best and pairs.episodes:
        a, b = (-scores for scores in pairs.scores)  # less is better
        improvement = bootstrap(probability_of_improvement, a, b)
        each = np.array([probability_of_improvement(a[:, [i]], b[:, [i]]) for i in range(a.shape[1])])
        smallest = smallest_mean_difference(each - 0.5)
    return Aggregate(split, agent, int((~np.isnan(own)).sum()), len(own), cost, len(pairs.episodes), improvement, smallest)
