"""Scores of arms on the episodes that all of them met, and differences between two arms.

The cost of an episode is fair to who does not solve it: metres to go, mean over all the steps that an episode may have. From its
success on an arm owes nothing; who does not solve it owes to the end.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.summary import Episode, Row, key_of, summarise, training_of
from experiments.statistics import bootstrap, signed_rank_test, smallest_mean_difference
from sim.scenes.scene import scenes

Interval = tuple[float, float, float]  # value, low, high
Training = tuple[str, int, int]  # run, seed, and number of the time that an episode was met


def episode_cost(row: Row) -> float:
    """Metres to go, mean over all the steps that an episode may have; zero once it is solved."""
    return metres(row, "total_cost") / scenes[row["scene"]].episode_steps


def metres(row: Row, name: str) -> float:
    """A cost of a row, which has it in the task's unit."""
    return float(row[name]) * scenes[row["scene"]].task.cost_unit_m


@dataclass(frozen=True)
class Paired:
    """Scores (S, E) of arms on the episodes that all of them met: a row for each training, nan where that one did not play."""

    episodes: list[Episode]
    splits: np.ndarray  # (E,) their strata
    scores: list[np.ndarray]  # of each arm
    joint: bool  # the arms act by the same trained models, row by row


def paired(rows: Sequence[Row], arms: Sequence[str], value: Callable[[Row], float] = episode_cost) -> Paired:
    """Two rows of one arm in one episode are of different trainings, or runs."""
    found = [_scores(rows, arm, value) for arm in arms]
    shared = sorted(set[Episode].intersection(*(set(one) for one in found))) if found else []
    split_of = {key_of(row): str(row["split"]) for row in rows}
    scores, orders = [], list[list[Training]]()
    for one in found:
        orders.append(sorted({training for episode in shared for training in one[episode]}))
        scores.append(np.array([[one[episode].get(training, np.nan) for episode in shared] for training in orders[-1]]))
    models = {(row["model"], row["env_steps"]) for row in rows if row["agent"] in arms}
    joint = len(models) == 1 and all(model for model, _ in models) and all(order == orders[0] for order in orders)
    return Paired(shared, np.array([split_of[episode] for episode in shared]), scores, joint)


def _scores(rows: Sequence[Row], arm: str, value: Callable[[Row], float]) -> dict[Episode, dict[Training, float]]:
    """Of each episode the score of each training: by run, its seed, and number of the time that it was met."""
    times: Counter[tuple[Episode, str, int]] = Counter()
    found: dict[Episode, dict[Training, float]] = defaultdict(dict)
    for row in rows:
        if row["agent"] == arm:
            training = key_of(row), *training_of(row)
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
        return "shown" if self.shown else not_shown(self.smallest, unit, 2)


def not_shown(smallest: float, unit: str, digits: int = 0) -> str:
    """That no difference is shown, and the smallest one that would have been: inf none, nan unknown."""
    told = f"{smallest:.{digits}f}{unit}" if math.isfinite(smallest) else "unknown" if math.isnan(smallest) else "any"
    return f"no difference shown (smallest: {told})"


def between(value: float, low: float, high: float, digits: int = 2) -> str:
    """ "1.20 [0.90, 1.50]", with true minus signs."""
    one, two, three = (f"{number:.{digits}f}".replace("-", "−") for number in (value, low, high))
    return f"{one} [{two}, {three}]"


def difference(a: np.ndarray, b: np.ndarray, strata: np.ndarray, joint: bool = False) -> Difference:
    """Of the means of scores a (S, E) and b (R, E): interval over trainings and episodes, test over the episodes' means.
    `joint`: they are of the same trainings, row by row."""
    value, low, high = bootstrap(apart, a, b, strata=strata, joint=joint)
    each = per_episode(a) - per_episode(b)
    return Difference(value, low, high, signed_rank_test(each), smallest_mean_difference(each))


def apart(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference of scores (S, E) and (R, E)."""
    return float((per_episode(a) - per_episode(b)).mean())


def per_episode(scores: np.ndarray) -> np.ndarray:
    """(E,) means over the trainings that played; where a resample holds none of an episode, the mean of all."""
    there = ~np.isnan(scores)
    counts = there.sum(0)
    sums = np.where(there, scores, 0).sum(0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), sums.sum() / max(1, counts.sum()))


def ranked(rows: Sequence[Row]) -> list[str]:
    """Every arm, as in the tables."""
    return list(dict.fromkeys(summary.agent for summary in summarise(rows)))
