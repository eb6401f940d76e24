"""What rows tell beside rates and costs: exploitation, plans that touch, and episodes' costs against those of the best arm."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.pairs import Difference, Interval, difference, metres, not_shown, paired, ranked
from experiments.report.summary import Row, is_oracle, known, summarise
from experiments.statistics import LEAST_EPISODES, bootstrap, iqm, probability_of_improvement, smallest_mean_difference


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
        chosen = paired(own, [agent], lambda row: metres(row, "realised_cost") - metres(row, "predicted_cost"))
        random = paired(own, [agent], _random_excess)
        (a,), (b,), strata = chosen.scores, random.scores, chosen.splits
        zero = np.zeros((1, a.shape[1]))
        differences = (difference(a, zero, strata), difference(b, zero, strata), difference(a, b, strata, joint=True))
        spread = [_mean_mm(own, name) for name in ("disagreement", "random_disagreement")]
        found.append(Exploitation(agent, len(own), *differences, *spread))
    return found


def _random_excess(row: Row) -> float:
    return metres(row, "random_realised_cost") - metres(row, "random_predicted_cost")


def _mean_mm(rows: Sequence[Row], name: str) -> float:
    values = [1e3 * float(row[name]) for row in rows if known(row, name)]
    return float(np.mean(values)) if values else math.nan


PARTS = ("predicted", "realised", "both")  # of the counts of plans in rows


@dataclass(frozen=True)
class Foreseen:
    """Of plans that were carried out to their end in the true simulator: how many lead to a kind of violation, and who knew."""

    agent: str
    kind: str
    plans: int
    expected: Interval  # share of the plans: of several particles the mean share of them
    realised: Interval
    missed: Interval  # share of those that were not foreseen by most particles
    needless: Interval  # share of those foreseen by most that did not come


def foreseen(rows: Sequence[Row]) -> list[Foreseen]:
    """Of every arm on a learned model, by kind; intervals by a bootstrap over trainings and episodes, as an episode's plans are
    alike."""
    told = [row for row in rows if known(row, "plans_checked") and row["plans_checked"] and not is_oracle(str(row["agent"]))]
    columns = dict.fromkeys(name for row in told for name in row)
    kinds = [found[1] for name in columns if (found := re.fullmatch("plans_(.+)_predicted", name))]
    both = [(kind, agent) for kind in kinds for agent in dict.fromkeys(str(row["agent"]) for row in told)]
    return [one for kind, agent in both if (one := _foreseen(told, kind, agent)) is not None]


def _foreseen(rows: Sequence[Row], kind: str, agent: str) -> Foreseen | None:
    own = [row for row in rows if row["agent"] == agent and known(row, f"plans_{kind}_predicted")]
    if not own:
        return None

    def count(name: str, older: str = "") -> np.ndarray:
        return paired(own, [agent], lambda row: float(row[name if known(row, name) else older])).scores[0]

    checked, (predicted, realised, both) = count("plans_checked"), (count(f"plans_{kind}_{part}") for part in PARTS)
    expected = count(f"plans_{kind}_expected", f"plans_{kind}_predicted")
    shares = ((expected, checked), (realised, checked), (realised - both, realised), (predicted - both, predicted))
    return Foreseen(agent, kind, int(np.nansum(checked)), *(_share(part, whole) for part, whole in shares))


def _share(part: np.ndarray, whole: np.ndarray) -> Interval:
    if not np.nansum(whole):
        return math.nan, math.nan, math.nan
    both = part + 1j * whole  # drawn together

    def share(drawn: np.ndarray) -> float:
        of = np.nansum(drawn.imag)
        return float(np.nansum(drawn.real) / of) if of else math.nan  # of none

    return bootstrap(share, both)


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
        if low <= 0.5 <= high or self.shared < LEAST_EPISODES:
            return not_shown(100 * self.smallest, " points")
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
