"""Arms against each other over the episodes that both met, and the sentence that says who wins."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rich.box
from rich.table import Table
from rich.text import Text

from experiments.report.summary import Row, Summary, is_oracle, summarise
from experiments.statistics import paired_rates, sign_test, smallest_difference

ALL = "all splits"
COMPARED = ("split", "arms", "episodes", "success", "without violation", "verdict on success")
COMPARED_SAY = (
    "Paired: the same spaces and seeds. Differences in points with 95 % intervals (Newcombe). Where the exact sign test leaves "
    "more than 5 % to chance no difference is shown, and the smallest one is named that so many episodes would have shown in "
    "four of five such samples."
)
Interval = tuple[float, float, float]  # mean, low, high


@dataclass(frozen=True)
class Comparison:
    """Two arms over the episodes that both met: the same space and seed."""

    split: str  # or ALL
    arm: str
    other: str
    episodes: int
    success: Interval  # difference of the rates in points, and its 95 % interval
    clean: Interval  # of success without violation
    chance: float  # of such a difference of success, or more, if neither arm were better
    smallest: float  # difference of success that so many episodes would have shown in four of five samples [points]

    @property
    def verdict(self) -> str:
        if self.chance > 0.05:
            return f"no difference shown (smallest: {self.smallest:.0f} points)"
        return f"{self.arm if self.success[0] > 0 else self.other} solves more"

    @property
    def cells(self) -> tuple[str, ...]:
        """What COMPARED name, as text."""
        arms = f"{self.arm} − {self.other}"
        return self.split, arms, str(self.episodes), _points(self.success), _points(self.clean), self.verdict


def _points(interval: Interval) -> str:
    mean, low, high = (f"{round(value):+d}".replace("-", "−").replace("+0", "0") for value in interval)
    return f"{mean} [{low}, {high}]"


def comparisons(rows: Sequence[Row]) -> list[Comparison]:
    """The arm that is best on the first split against every other: on all splits together, then on each."""
    summaries = summarise(rows)
    splits = dict.fromkeys(summary.split for summary in summaries)
    arms = list(dict.fromkeys(summary.agent for summary in summaries))
    found = [compared(rows, split, arms[0], other) for split in (ALL, *splits) for other in arms[1:]]
    return [comparison for comparison in found if comparison is not None]


def compared(rows: Sequence[Row], split: str, arm: str, other: str) -> Comparison | None:
    """None where the arms share no episode."""
    one, two = (_outcomes(rows, split, name) for name in (arm, other))
    shared = sorted(one.keys() & two.keys())
    if not shared:
        return None
    first, second = (np.array([found[key] for key in shared]) for found in (one, two))  # (n, 2) success and clean success
    success, clean = (_interval(first[:, i], second[:, i]) for i in (0, 1))
    chance, smallest = sign_test(first[:, 0], second[:, 0]), 100 * smallest_difference(first[:, 0], second[:, 0])
    return Comparison(split, arm, other, len(shared), success, clean, chance, smallest)


def _interval(a: np.ndarray, b: np.ndarray) -> Interval:
    mean, low, high = paired_rates(a, b)
    return 100 * mean, 100 * low, 100 * high


def _outcomes(rows: Sequence[Row], split: str, agent: str) -> dict[tuple[str, int, int], tuple[bool, bool]]:
    """Success and clean success per layout id, seed, and number of the time that the arm met them, as in several runs."""
    times: Counter[tuple[str, int]] = Counter()
    found = dict[tuple[str, int, int], tuple[bool, bool]]()
    for row in rows:
        if row["agent"] == agent and split in (ALL, row["split"]):
            episode = str(row["layout_id"]), int(row["seed"])
            found[(*episode, times[episode])] = bool(row["success"]), bool(row["clean"])
            times[episode] += 1
    return found


def headline(rows: Sequence[Row]) -> str:
    """One sentence: the best arm on the first split, its success, the next best and the paired difference between them."""
    summaries = summarise(rows)
    arms = [summary for summary in summaries if summary.split == summaries[0].split and not is_oracle(summary.agent)]
    if not arms:
        return "No arm besides the oracle was evaluated." if summaries else "No episode was evaluated."
    best = arms[0]
    text = f"On split {best.split}, {best.agent} does best: {_in_words(best)}"
    if len(arms) == 1:
        return text + "; there is no other arm to compare it with."
    text += f"; next is {arms[1].agent} with {_in_words(arms[1])}"
    difference = compared(rows, best.split, best.agent, arms[1].agent)
    if difference is None:
        return text + "."
    mean, low, high = (str(round(value)).replace("-", "−") for value in difference.success)
    interval = f"95 % interval {low} to {high}, {difference.episodes} shared episodes"
    return f"{text}, a paired difference of {mean} points ({interval}): {difference.verdict}."


def _in_words(summary: Summary) -> str:
    low, high = (round(100 * end) for end in summary.success.interval)
    rate = summary.success
    return f"{rate.count} of {rate.of} episodes solved ({100 * rate.value:.0f} %, 95 % interval {low}–{high} %)"


def comparison_table(rows: Sequence[Row]) -> Table:
    """The best arm against the others over all splits, for a terminal."""
    table = Table(*COMPARED[1:], box=rich.box.SIMPLE, title="Paired differences over all splits, in points")
    for comparison in comparisons(rows):
        if comparison.split == ALL:
            table.add_row(*map(Text, comparison.cells[1:]))
    return table
