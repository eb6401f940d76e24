"""Arms against each other over the episodes that both met, and the sentence that says who wins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rich.box
from rich.table import Table
from rich.text import Text

from experiments.report.pairs import difference, not_shown, paired
from experiments.report.summary import Row, Summary, is_oracle, number, summarise, violations_of
from experiments.statistics import paired_rates, sign_test, smallest_beyond, smallest_difference

ALL = "all splits"
COMPARED = ("split", "arms", "episodes", "without violation", "verdict", "success", "verdict on success")
COMPARED_SAY = (
    "Paired: the same spaces and seeds. Differences in points with 95 % intervals: Newcombe's, or a bootstrap's over trainings "
    "and episodes where an arm was trained several times and that is wider. Where the exact sign test leaves more than 5 % to "
    "chance, or the interval holds zero, no difference is shown, and the smallest one is named that so many episodes would have "
    "shown in four of five such samples."
)
Interval = tuple[float, float, float]  # mean, low, high


@dataclass(frozen=True)
class RateDifference:
    """Of two arms' rates over the episodes that both met, in points."""

    interval: Interval
    chance: float  # of such a difference, or more, if neither arm were better
    smallest: float  # that so many episodes would have shown in four of five samples

    @property
    def shown(self) -> bool:
        _, low, high = self.interval
        return self.chance <= 0.05 and not low <= 0 <= high

    def verdict(self, arm: str, other: str, does: str) -> str:
        if not self.shown:
            return not_shown(self.smallest, " points")
        return f"{arm if self.interval[0] > 0 else other} {does}"

    def __str__(self) -> str:
        mean, low, high = (f"{round(value):+d}".replace("-", "−").replace("+0", "0") for value in self.interval)
        return f"{mean} [{low}, {high}]"


@dataclass(frozen=True)
class Comparison:
    """Two arms over the episodes that both met: the same space and seed."""

    split: str  # or ALL
    arm: str
    other: str
    episodes: int
    success: RateDifference
    clean: RateDifference  # of success without violation

    @property
    def verdict(self) -> str:
        """On success without violation."""
        return self.clean.verdict(self.arm, self.other, "is better")

    @property
    def cells(self) -> tuple[str, ...]:
        """What COMPARED name, as text."""
        success = self.success.verdict(self.arm, self.other, "solves more")
        arms = f"{self.arm} − {self.other}"
        return self.split, arms, str(self.episodes), str(self.clean), self.verdict, str(self.success), success


def comparisons(rows: Sequence[Row]) -> list[Comparison]:
    """The arm that is best on the first split against every other: on all splits together, then on each."""
    summaries = summarise(rows)
    splits = dict.fromkeys(summary.split for summary in summaries)
    arms = list(dict.fromkeys(summary.agent for summary in summaries))
    found = [compared(rows, split, arms[0], other) for split in (ALL, *splits) for other in arms[1:]]
    return [comparison for comparison in found if comparison is not None]


def compared(rows: Sequence[Row], split: str, arm: str, other: str) -> Comparison | None:
    """None where the arms share no episode."""
    here = [row for row in rows if split in (ALL, row["split"]) and row["agent"] in (arm, other)]
    differences = [_difference(here, arm, other, outcome) for outcome in ("success", "clean")]
    (episodes, success), (_, clean) = differences
    if success is None or clean is None:
        return None
    return Comparison(split, arm, other, episodes, success, clean)


def _difference(rows: Sequence[Row], arm: str, other: str, outcome: str) -> tuple[int, RateDifference | None]:
    """Over how many episodes, and the difference; of an arm with several trainings, their mean in each episode."""
    pairs = paired(rows, [arm, other], lambda row: float(row[outcome]))
    if not pairs.episodes:
        return 0, None
    a, b = pairs.scores
    one, two = np.nanmean(a, 0), np.nanmean(b, 0)
    mean, low, high = paired_rates(one > 0.5, two > 0.5)
    smallest = smallest_difference(one, two)
    if max(len(a), len(b)) > 1:
        found = difference(a, b, pairs.splits, pairs.joint)
        # where most trainings did the same a bootstrap sees too little spread: never narrower than as if each arm had one
        low, high = max(-1.0, min(found.low, found.value + low - mean)), min(1.0, max(found.high, found.value + high - mean))
        mean = found.value
        if not np.isin([one, two], (0, 1)).all():  # else all trainings did the same, as one would
            smallest = smallest_beyond(max(high - mean, mean - low), len(one))
    chance = sign_test(one, two)
    return len(one), RateDifference((100 * mean, 100 * low, 100 * high), chance, 100 * smallest)


def headline(rows: Sequence[Row]) -> str:
    """One sentence: the best arm on the first split, or those level with it, the next best, and the paired difference to it."""
    level, rest = _standing(rows)
    if not level:
        return "No arm besides the oracle was evaluated." if rows else "No episode was evaluated."
    best = level[0]
    text = f"On split {best.split}, {best.agent} does best: {_in_words(best)}"
    if len(level) > 1:
        names = _listed([summary.agent for summary in level])
        each = f"each {best.clean} without violation, {best.success} solved"
        text = f"On split {best.split}, {names} do best, level with each other, the quickest first: {each}"
    if not rest:
        return text + "; there is no other arm to compare with."
    text += f"; next is {rest[0].agent} with {_in_words(rest[0])}"
    lead = compared(rows, best.split, best.agent, rest[0].agent)
    if lead is None:
        return f"{text}; {best.agent} and {rest[0].agent} share no episode: which is better cannot be told."
    mean, low, high = (str(round(value)).replace("-", "−") for value in lead.clean.interval)
    interval = f"95 % interval {low} to {high}, {lead.episodes} shared episodes"
    to = "" if len(level) == 1 else f" to {best.agent}"
    return f"{text}, a paired difference{to} of {mean} points ({interval}): {lead.verdict}."


def _standing(rows: Sequence[Row]) -> tuple[list[Summary], list[Summary]]:
    """The arms on the first split but oracles: the best one with those whose rates are the same, and all others."""
    summaries = summarise(rows)
    arms = [summary for summary in summaries if summary.split == summaries[0].split and not is_oracle(summary.agent)]
    level = [summary for summary in arms if _rates(summary) == _rates(arms[0])]
    return level, [summary for summary in arms if summary not in level]


def _rates(summary: Summary) -> tuple[float | tuple[float, float], ...]:
    clean, success = summary.clean, summary.success
    return clean.value, clean.interval, success.value, success.interval


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _in_words(summary: Summary) -> str:
    rate = summary.clean
    low, high = (round(100 * end) for end in rate.interval)
    solved = f"{rate.count} of {rate.of} episodes solved without violation"
    return f"{solved} ({100 * rate.value:.0f} %, 95 % interval {low}–{high} %; {summary.success.count} solved in all)"


def answers(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """What a reader who has to decide asks next of the best arm: how sure it is, what it costs, where it is weakest."""
    level, rest = _standing(rows)
    if not level:
        return []
    own = [summary for summary in summarise(rows) if summary.agent == level[0].agent]
    found = [("How sure", _how_sure(rows, level, rest))] if level[1:] or rest else []
    costs = [_cost_in_words(summary) for summary in (*level[:1], *rest[:1])]
    if level[1:]:
        costs.insert(1, f"those level with it: {_span([summary.decision_ms_p50 for summary in level[1:]])} ms")
    found.append(("At what cost", "; ".join(costs)))
    found.append(("Where it is weakest", _weakest(rows, own)))
    return found


def _how_sure(rows: Sequence[Row], level: Sequence[Summary], rest: Sequence[Summary]) -> str:
    best, parts = level[0].agent, []
    if level[1:]:
        pair = compared(rows, level[0].split, best, level[1].agent)
        parts.append(f"{len(level)} arms are level: {pair.verdict if pair else 'they share no episode'}")
    if rest:
        found = [line for line in comparisons(rows) if line.other == rest[0].agent and line.split != ALL]
        shown = [line.split for line in found if line.clean.shown and line.clean.interval[0] > 0]
        parts.append(f"ahead of {rest[0].agent} beyond chance on {len(shown)} of {len(found)} splits")
    if level[0].env_steps:
        one = f"one training of {best}: another one may do better or worse"
        parts.append(f"{level[0].trainings} trainings of {best}" if level[0].trainings > 1 else one)
    return "; ".join(parts)


def _span(values: Sequence[float]) -> str:
    low, high = (number(end, 0 if end >= 10 else 2) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _cost_in_words(summary: Summary) -> str:
    steps = (
        f"{number(summary.env_steps)} env steps, {number(summary.train_cpu_s / 60)} CPU-minutes"
        if summary.env_steps
        else "no data"
    )
    digits = 0 if summary.decision_ms_p50 >= 10 else 2
    return f"{summary.agent}: {steps}, {number(summary.decision_ms_p50, digits)} ms per decision"


def _weakest(rows: Sequence[Row], own: Sequence[Summary]) -> str:
    worst = min(own, key=lambda summary: summary.clean.interval[0])
    mine = [row for row in rows if row["agent"] == worst.agent]
    counts = {kind.replace("_", " "): sum(bool(row[kind]) for row in mine) for kind in violations_of(rows)}
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]) if count)
    unsolved = sum(not row["success"] for row in mine)
    faults = f"of its {len(mine)} episodes {unsolved} not solved" + (f"; violations: {kinds}" if kinds else ", no violation")
    return f"{worst.split}: {worst.clean} without violation, {worst.success} solved; {faults}"


def comparison_table(rows: Sequence[Row]) -> Table:
    """The best arm against the others over all splits, for a terminal."""
    table = Table(*COMPARED[1:], box=rich.box.SIMPLE, title="Paired differences over all splits, in points")
    for comparison in comparisons(rows):
        if comparison.split == ALL:
            table.add_row(*map(Text, comparison.cells[1:]))
    return table
