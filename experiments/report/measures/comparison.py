"""Paired comparison of methods over their shared episodes, and the headline of a report."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import rich.box
from rich.table import Table
from rich.text import Text

from experiments import statistics
from experiments.evaluation.results import is_custom_split
from experiments.evaluation.verdict import make_verdict
from experiments.report.measures import summary as measures
from experiments.report.measures.formats import format_no_difference, format_number, join_names
from experiments.report.measures.paired_scores import Difference, PairedScores, compute_difference, pair_scores
from experiments.report.measures.summary import Results, Summary, select_benchmark_results

ALL_SPLITS = "all splits"
COMPARISON_COLUMNS = ("split", "methods", "episodes", "safe success", "verdict", "success", "verdict on success")


class RateDifference(Difference):
    """Difference of two methods' rates in percentage points, with p of the exact sign test."""

    def format_comparison(self, method_a: str, method_b: str, claim: str) -> str:
        """Format as "METHOD CLAIM", or that no difference is shown."""
        if not self.is_significant:
            return format_no_difference(self.min_detectable, " points")
        return f"{method_a if self.value > 0 else method_b} {claim}"

    def __str__(self) -> str:
        mean, low, high = (f"{round(value):+d}".replace("-", "−").replace("+0", "0") for value in self.interval)
        return f"{mean} [{low}, {high}]"


@dataclass(frozen=True)
class Comparison:
    """Comparison of two methods over their shared episodes: the same layouts and seeds."""

    split: str  # or ALL_SPLITS
    split_label: str
    method_a: str
    method_b: str
    episodes: int
    success: RateDifference
    safe_success: RateDifference

    @property
    def verdict(self) -> str:
        """Verdict on safe success."""
        return self.safe_success.format_comparison(self.method_a, self.method_b, "is better")

    @property
    def cells(self) -> tuple[str, ...]:
        """Text for COMPARISON_COLUMNS."""
        success = self.success.format_comparison(self.method_a, self.method_b, "solves more")
        methods = f"{self.method_a} − {self.method_b}"
        return self.split_label, methods, str(self.episodes), str(self.safe_success), self.verdict, str(self.success), success


def compare_methods(results: Results) -> list[Comparison]:
    """Compare the best method with every other method, on all splits together and on each split.

    The best method is that of the first split. Custom layouts are left out if there are splits.
    """
    results = select_benchmark_results(results)
    best, *others = measures.rank_methods(results) or [""]
    pairs = [(split, method) for split in (ALL_SPLITS, *measures.list_splits(results)) for method in others]
    return [comparison for split, method in pairs if (comparison := compare_pair(results, split, best, method))]


def compare_pair(results: Results, split: str, method_a: str, method_b: str) -> Comparison | None:
    """Compare two methods on a split or ALL_SPLITS; None where they share no episode."""
    results = [result for result in results if split in (ALL_SPLITS, result.split) and result.method in (method_a, method_b)]
    success = pair_scores(results, [method_a, method_b], lambda result: float(result.success))
    safe_success = pair_scores(results, [method_a, method_b], lambda result: float(result.safe_success))
    if not success.episodes:
        return None
    label = split if split == ALL_SPLITS else results[0].split_label
    differences = map(_compute_rate_difference, (success, safe_success))
    return Comparison(split, label, method_a, method_b, len(success.episodes), *differences)


def _compute_rate_difference(pairs: PairedScores) -> RateDifference:
    """Compute the difference; several trainings count by their mean in each episode."""
    a, b = pairs.scores
    rates_a, rates_b = np.nanmean(a, 0), np.nanmean(b, 0)
    mean, low, high = statistics.compute_paired_rate_difference(rates_a > 0.5, rates_b > 0.5)
    min_detectable = statistics.compute_smallest_rate_difference(rates_a, rates_b)
    if max(len(a), len(b)) > 1:
        difference = compute_difference(a, b, pairs.splits, pairs.is_joint)
        # If trainings are alike, the bootstrap interval is too narrow: use the wider interval.
        low = max(-1.0, min(difference.low, difference.value + low - mean))
        high = min(1.0, max(difference.high, difference.value + high - mean))
        mean = difference.value
        if not np.isin([rates_a, rates_b], (0, 1)).all():  # else all trainings had equal outcomes
            min_detectable = statistics.compute_smallest_difference_from_interval(max(high - mean, mean - low), len(rates_a))
    p_value = statistics.compute_sign_test_p_value(rates_a, rates_b)
    return RateDifference(100 * mean, 100 * low, 100 * high, p_value, 100 * min_detectable)


def format_headline(results: Results) -> str:
    """Format the best methods on the first split, the next best, and the paired difference.

    If all results belong to one custom layout, the verdict on the best planner is first.
    """
    results = select_benchmark_results(results)
    best_methods, other_methods = _split_best_methods(results)
    if not best_methods:
        return "No method besides the oracle was evaluated." if results else "No episode was evaluated."
    best = best_methods[0]
    place = f"In {best.split_label}" if is_custom_split(best.split) else f"On split {best.split}"
    if len(best_methods) == 1:
        text = f"{place}, {best.method} is best: {_format_rates(best)}"
    else:
        names = join_names([summary.method for summary in best_methods])
        rates = f"each {best.safe_success} safe success, {best.success} success"
        text = f"{place}, {names} are best and level, in order of speed: {rates}"
    if is_custom_split(best.split) and len(measures.list_splits(results)) == 1:
        planner = measures.find_best_planner(results)
        verdict = make_verdict([result for result in results if result.method == planner])
        text = f"{planner} in {best.split_label}: {verdict}. {text}"
    if not other_methods:
        return text + "; there is no other method to compare with."
    other = other_methods[0]
    text += f"; next is {other.method} with {_format_rates(other)}"
    comparison = compare_pair(results, best.split, best.method, other.method)
    if comparison is None:
        return f"{text}; {best.method} and {other.method} share no episode: they cannot be compared."
    mean, low, high = (str(round(value)).replace("-", "−") for value in comparison.safe_success.interval)
    target = "" if len(best_methods) == 1 else f" to {best.method}"
    text += f", a paired difference{target} of {mean} percentage points (95 % interval {low} to {high}, "
    text += f"{comparison.episodes} shared episodes): {comparison.verdict}."
    return text + _format_pooled_verdict(results, comparison)


def _format_pooled_verdict(results: Results, comparison: Comparison) -> str:
    """Explain the verdict over all splits if it differs from that on the first split."""
    pooled = compare_pair(results, ALL_SPLITS, comparison.method_a, comparison.method_b)
    if pooled is None or pooled.verdict == comparison.verdict:
        return ""
    reason = "on other splits, the methods differ less or in the other direction"
    if not comparison.safe_success.is_significant:
        if not pooled.safe_success.is_significant:
            return ""
        reason = f"{pooled.episodes} episodes show smaller differences than {comparison.episodes}"
    return f" Over all splits together ({pooled.episodes} shared episodes) the verdict is: {pooled.verdict}; {reason}."


def _split_best_methods(results: Results) -> tuple[list[Summary], list[Summary]]:
    """Split the methods on the first split into the best ones with equal rates, and the others.

    Oracles are left out.
    """
    ranked = measures.summarise(results)
    methods = [summary for summary in ranked if summary.split == ranked[0].split and not measures.is_oracle(summary.method)]
    best_methods = [summary for summary in methods if _get_rates(summary) == _get_rates(methods[0])]
    return best_methods, [summary for summary in methods if summary not in best_methods]


def _get_rates(summary: Summary) -> tuple[float, ...]:
    return *summary.safe_success.value_and_interval, *summary.success.value_and_interval


def _format_rates(summary: Summary) -> str:
    rate = summary.safe_success
    low, high = (round(100 * end) for end in rate.interval)
    interval = f"{100 * rate.value:.0f} %, 95 % interval {low}–{high} %"
    return f"{rate.count} of {rate.total} safe successes ({interval}; {summary.success.count} successes in all)"


def build_answers(results: Results) -> list[tuple[str, str]]:
    """Make answers on the best method: certainty, costs, weakest split.

    Returns:
        Pairs of a title and a text.
    """
    results = select_benchmark_results(results)
    best_methods, other_methods = _split_best_methods(results)
    if not best_methods:
        return []
    best, *level_methods = best_methods
    answers = [("Certainty", certainty)] if (certainty := _format_certainty(results, best_methods, other_methods)) else []
    costs = [_format_costs(summary) for summary in (best, *other_methods[:1])]
    if level_methods:
        costs.insert(1, f"methods with equal rates: {_format_ms(level_methods)} ms")
    best_summaries = [summary for summary in measures.summarise(results) if summary.method == best.method]
    failures_name = "Weakest split" if len(best_summaries) > 1 else "Failures"
    return [*answers, ("Cost", "; ".join(costs)), (failures_name, _format_weakest_split(results, best_summaries))]


def _format_certainty(results: Results, best_methods: Sequence[Summary], other_methods: Sequence[Summary]) -> str:
    best, *level_methods = best_methods
    if not (level_methods or other_methods):
        return ""
    parts = []
    if level_methods:
        comparison = compare_pair(results, best.split, best.method, level_methods[0].method)
        parts.append(f"{len(best_methods)} methods are level: {comparison.verdict if comparison else 'they share no episode'}")
    if other_methods:
        other = other_methods[0].method
        comparisons = [compare_pair(results, split, best.method, other) for split in measures.list_splits(results)]
        differences = [comparison.safe_success for comparison in comparisons if comparison]
        num_better = sum(difference.is_significant and difference.value > 0 for difference in differences)
        parts.append(f"significantly better than {other} on {num_better} of {len(differences)} splits")
    if best.env_steps:
        caveat = f"one training of {best.method}: another training may do better or worse"
        parts.append(f"{best.trainings} trainings of {best.method}" if best.trainings > 1 else caveat)
    return "; ".join(parts)


def _format_ms(summaries: Sequence[Summary]) -> str:
    """Format the time of a decision, from the shortest to the longest."""
    values = sorted(summary.decision_ms_p50 for summary in summaries)
    low, high = (format_number(value, 0 if value >= 10 else 2) for value in (values[0], values[-1]))
    return low if low == high else f"{low} to {high}"


def _format_costs(summary: Summary) -> str:
    training = f"{format_number(summary.env_steps)} env steps, {format_number(summary.train_cpu_s / 60)} CPU-minutes"
    return f"{summary.method}: {training if summary.env_steps else 'no data'}, {_format_ms([summary])} ms per decision"


def _format_weakest_split(results: Results, summaries: Sequence[Summary]) -> str:
    worst = min(summaries, key=lambda summary: summary.safe_success.interval[0])
    method_results = [result for result in results if result.method == worst.method]
    violations = measures.format_violations(measures.count_violations(method_results))
    num_unsolved = sum(not result.success for result in method_results)
    rates = f"{worst.safe_success} safe success, {worst.success} success"
    counts = f"of its {len(method_results)} episodes on all splits {num_unsolved} unsolved"
    return f"{worst.split_label}: {rates}; {counts}; {f'violations: {violations}' if violations else 'no violation'}"


def make_comparison_table(results: Results) -> Table:
    """Make the table for a terminal: the best method against the others over all splits."""
    table = Table(*COMPARISON_COLUMNS[1:], box=rich.box.SIMPLE, title="Paired differences over all splits, in percentage points")
    for comparison in compare_methods(results):
        if comparison.split == ALL_SPLITS:
            table.add_row(*map(Text, comparison.cells[1:]))
    return table
