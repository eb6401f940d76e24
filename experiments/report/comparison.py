"""Arms against each other over the episodes that both met, and the sentence that says who wins."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rich.box
from rich.table import Table
from rich.text import Text

from experiments.report.pairs import compute_difference, format_no_difference, pair_scores
from experiments.report.summary import EpisodeResult, Summary, format_number, is_oracle, list_violation_kinds, summarise
from experiments.statistics import (
    compute_paired_rate_difference,
    compute_sign_test_p_value,
    compute_smallest_difference_from_interval,
    compute_smallest_rate_difference,
)

ALL_SPLITS = "all splits"
COMPARISON_COLUMNS = ("split", "arms", "episodes", "without violation", "verdict", "success", "verdict on success")
COMPARISON_NOTE = (
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
    p_value: float  # of such a difference, or more, if neither arm were better
    min_detectable: float  # that so many episodes would have shown in four of five samples

    @property
    def is_significant(self) -> bool:
        _, low, high = self.interval
        return self.p_value <= 0.05 and not low <= 0 <= high

    def format_verdict(self, method_a: str, method_b: str, claim: str) -> str:
        if not self.is_significant:
            return format_no_difference(self.min_detectable, " points")
        return f"{method_a if self.interval[0] > 0 else method_b} {claim}"

    def __str__(self) -> str:
        mean, low, high = (f"{round(value):+d}".replace("-", "−").replace("+0", "0") for value in self.interval)
        return f"{mean} [{low}, {high}]"


@dataclass(frozen=True)
class Comparison:
    """Two arms over the episodes that both met: the same space and seed."""

    split: str  # or ALL
    method_a: str
    method_b: str
    episodes: int
    success: RateDifference
    safe_success: RateDifference  # of success without violation

    @property
    def verdict(self) -> str:
        """On success without violation."""
        return self.safe_success.format_verdict(self.method_a, self.method_b, "is better")

    @property
    def cells(self) -> tuple[str, ...]:
        """What COMPARED name, as text."""
        success = self.success.format_verdict(self.method_a, self.method_b, "solves more")
        methods = f"{self.method_a} − {self.method_b}"
        return self.split, methods, str(self.episodes), str(self.safe_success), self.verdict, str(self.success), success


def compare_methods(results: Sequence[EpisodeResult]) -> list[Comparison]:
    """The arm that is best on the first split against every other: on all splits together, then on each."""
    summaries = summarise(results)
    splits = dict.fromkeys(summary.split for summary in summaries)
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    comparisons = [
        compare_pair(results, split, methods[0], reference) for split in (ALL_SPLITS, *splits) for reference in methods[1:]
    ]
    return [comparison for comparison in comparisons if comparison is not None]


def compare_pair(results: Sequence[EpisodeResult], split: str, method_a: str, method_b: str) -> Comparison | None:
    """None where the arms share no episode."""
    pair_results = [
        result for result in results if split in (ALL_SPLITS, result["split"]) and result["agent"] in (method_a, method_b)
    ]
    differences = [_compute_rate_difference(pair_results, method_a, method_b, outcome) for outcome in ("success", "clean")]
    (episodes, success), (_, safe_success) = differences
    if success is None or safe_success is None:
        return None
    return Comparison(split, method_a, method_b, episodes, success, safe_success)


def _compute_rate_difference(
    results: Sequence[EpisodeResult], method_a: str, method_b: str, outcome: str
) -> tuple[int, RateDifference | None]:
    """Over how many episodes, and the difference; of an arm with several trainings, their mean in each episode."""
    pairs = pair_scores(results, [method_a, method_b], lambda result: float(result[outcome]))
    if not pairs.episodes:
        return 0, None
    a, b = pairs.scores
    rates_a, rates_b = np.nanmean(a, 0), np.nanmean(b, 0)
    mean, low, high = compute_paired_rate_difference(rates_a > 0.5, rates_b > 0.5)
    min_detectable = compute_smallest_rate_difference(rates_a, rates_b)
    if max(len(a), len(b)) > 1:
        score_difference = compute_difference(a, b, pairs.splits, pairs.is_joint)
        # where most trainings did the same a bootstrap sees too little spread: never narrower than as if each arm had one
        low, high = (
            max(-1.0, min(score_difference.low, score_difference.value + low - mean)),
            min(1.0, max(score_difference.high, score_difference.value + high - mean)),
        )
        mean = score_difference.value
        if not np.isin([rates_a, rates_b], (0, 1)).all():  # else all trainings did the same, as one would
            min_detectable = compute_smallest_difference_from_interval(max(high - mean, mean - low), len(rates_a))
    p_value = compute_sign_test_p_value(rates_a, rates_b)
    return len(rates_a), RateDifference((100 * mean, 100 * low, 100 * high), p_value, 100 * min_detectable)


def format_headline(results: Sequence[EpisodeResult]) -> str:
    """One sentence: the best arm on the first split, or those level with it, the next best, and the paired difference to it."""
    top_methods, other_methods = _split_top_methods(results)
    if not top_methods:
        return "No arm besides the oracle was evaluated." if results else "No episode was evaluated."
    best = top_methods[0]
    text = f"On split {best.split}, {best.method} does best: {_format_rates(best)}"
    if len(top_methods) > 1:
        names = _join_names([summary.method for summary in top_methods])
        rates_text = f"each {best.safe_success} without violation, {best.success} solved"
        text = f"On split {best.split}, {names} do best, level with each other, the quickest first: {rates_text}"
    if not other_methods:
        return text + "; there is no other arm to compare with."
    text += f"; next is {other_methods[0].method} with {_format_rates(other_methods[0])}"
    comparison = compare_pair(results, best.split, best.method, other_methods[0].method)
    if comparison is None:
        return f"{text}; {best.method} and {other_methods[0].method} share no episode: which is better cannot be told."
    mean, low, high = (str(round(value)).replace("-", "−") for value in comparison.safe_success.interval)
    interval = f"95 % interval {low} to {high}, {comparison.episodes} shared episodes"
    target = "" if len(top_methods) == 1 else f" to {best.method}"
    return f"{text}, a paired difference{target} of {mean} points ({interval}): {comparison.verdict}."


def _split_top_methods(results: Sequence[EpisodeResult]) -> tuple[list[Summary], list[Summary]]:
    """The arms on the first split but oracles: the best one with those whose rates are the same, and all others."""
    summaries = summarise(results)
    methods = [summary for summary in summaries if summary.split == summaries[0].split and not is_oracle(summary.method)]
    top_methods = [summary for summary in methods if _get_rates(summary) == _get_rates(methods[0])]
    return top_methods, [summary for summary in methods if summary not in top_methods]


def _get_rates(summary: Summary) -> tuple[float | tuple[float, float], ...]:
    safe_success, success = summary.safe_success, summary.success
    return safe_success.value, safe_success.interval, success.value, success.interval


def _join_names(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _format_rates(summary: Summary) -> str:
    rate = summary.safe_success
    low, high = (round(100 * end) for end in rate.interval)
    safe_text = f"{rate.count} of {rate.total} episodes solved without violation"
    return f"{safe_text} ({100 * rate.value:.0f} %, 95 % interval {low}–{high} %; {summary.success.count} solved in all)"


def build_answers(results: Sequence[EpisodeResult]) -> list[tuple[str, str]]:
    """What a reader who has to decide asks next of the best arm: how sure it is, what it costs, where it is weakest."""
    top_methods, other_methods = _split_top_methods(results)
    if not top_methods:
        return []
    best_summaries = [summary for summary in summarise(results) if summary.method == top_methods[0].method]
    answers = [("How sure", _format_certainty(results, top_methods, other_methods))] if top_methods[1:] or other_methods else []
    costs = [_format_costs(summary) for summary in (*top_methods[:1], *other_methods[:1])]
    if top_methods[1:]:
        costs.insert(1, f"those level with it: {_format_range([summary.decision_ms_p50 for summary in top_methods[1:]])} ms")
    answers.append(("At what cost", "; ".join(costs)))
    answers.append(("Where it is weakest", _format_weakest_split(results, best_summaries)))
    return answers


def _format_certainty(results: Sequence[EpisodeResult], top_methods: Sequence[Summary], other_methods: Sequence[Summary]) -> str:
    best, parts = top_methods[0].method, []
    if top_methods[1:]:
        comparison = compare_pair(results, top_methods[0].split, best, top_methods[1].method)
        parts.append(f"{len(top_methods)} arms are level: {comparison.verdict if comparison else 'they share no episode'}")
    if other_methods:
        comparisons = [
            comparison
            for comparison in compare_methods(results)
            if comparison.method_b == other_methods[0].method and comparison.split != ALL_SPLITS
        ]
        better_splits = [
            comparison.split
            for comparison in comparisons
            if comparison.safe_success.is_significant and comparison.safe_success.interval[0] > 0
        ]
        parts.append(f"ahead of {other_methods[0].method} beyond chance on {len(better_splits)} of {len(comparisons)} splits")
    if top_methods[0].env_steps:
        caveat = f"one training of {best}: another one may do better or worse"
        parts.append(f"{top_methods[0].trainings} trainings of {best}" if top_methods[0].trainings > 1 else caveat)
    return "; ".join(parts)


def _format_range(values: Sequence[float]) -> str:
    low, high = (format_number(end, 0 if end >= 10 else 2) for end in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _format_costs(summary: Summary) -> str:
    experience_text = (
        f"{format_number(summary.env_steps)} env steps, {format_number(summary.train_cpu_s / 60)} CPU-minutes"
        if summary.env_steps
        else "no data"
    )
    digits = 0 if summary.decision_ms_p50 >= 10 else 2
    return f"{summary.method}: {experience_text}, {format_number(summary.decision_ms_p50, digits)} ms per decision"


def _format_weakest_split(results: Sequence[EpisodeResult], summaries: Sequence[Summary]) -> str:
    worst_summary = min(summaries, key=lambda summary: summary.safe_success.interval[0])
    method_results = [result for result in results if result["agent"] == worst_summary.method]
    counts = {
        kind.replace("_", " "): sum(bool(result[kind]) for result in method_results) for kind in list_violation_kinds(results)
    }
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items(), key=lambda item: -item[1]) if count)
    num_unsolved = sum(not result["success"] for result in method_results)
    failure_text = f"of its {len(method_results)} episodes {num_unsolved} not solved" + (
        f"; violations: {kinds}" if kinds else ", no violation"
    )
    return (
        f"{worst_summary.split}: {worst_summary.safe_success} without violation, {worst_summary.success} solved; {failure_text}"
    )


def make_comparison_table(results: Sequence[EpisodeResult]) -> Table:
    """The best arm against the others over all splits, for a terminal."""
    table = Table(*COMPARISON_COLUMNS[1:], box=rich.box.SIMPLE, title="Paired differences over all splits, in points")
    for comparison in compare_methods(results):
        if comparison.split == ALL_SPLITS:
            table.add_row(*map(Text, comparison.cells[1:]))
    return table
