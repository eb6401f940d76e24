"""Aggregation of episode results by method and split."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, TypeVar

import numpy as np
import rich.box
from rich.table import Table
from rich.text import Text

from experiments.evaluation.results import EpisodeResult, is_custom_split
from experiments.report.measures import formats
from experiments.report.measures.formats import format_number
from experiments.statistics import compute_effective_trials, compute_wilson_interval
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError

OUTCOMES = ("safe_success", "success")
SUMMARY_COLUMNS = ("method", "episodes", "safe success", "success", "steps", "ms per decision", "env steps", "CPU-seconds")
OPTIONAL_ATTRIBUTES = ("collect_cpu_s", "data_bytes", "search_samples", "search_iterations", "search_horizon")
Results = Sequence[EpisodeResult]
EpisodeKey = tuple[str, int]  # layout id and seed: the same for every method
Quartiles = tuple[float, float, float]  # median, lower and upper quartile
Item = TypeVar("Item")


def get_episode_key(result: EpisodeResult) -> EpisodeKey:
    """Get the key that an episode has in the results of every method."""
    return result.layout_id, result.seed


def get_training_key(result: EpisodeResult) -> tuple[str, int]:
    """Get the run and seed of the training; an untrained method has one key for all runs."""
    return ("", 0) if result.train_seed is None else (result.run, result.train_seed)


def group_results(results: Iterable[Item], *names: str) -> dict[Any, list[Item]]:
    """Group results, or numbers computed from them, by attributes.

    Args:
        names: one attribute gives its values as keys; several give tuples of values.

    Returns:
        Groups by key, in order of appearance.
    """
    groups: dict[Any, list[Item]] = {}
    for result in results:
        groups.setdefault(attrgetter(*names)(result), []).append(result)
    return groups


def select_benchmark_results(results: Results) -> list[EpisodeResult]:
    """Select the results without custom layouts; all results if all layouts are custom."""
    return [result for result in results if not is_custom_split(result.split)] or list(results)


def get_episode_label(result: EpisodeResult) -> str:
    """Name an episode by its split and index."""
    return f"{result.split_label}/{result.index}"


@dataclass(frozen=True)
class Rate:
    """A share of episodes and its 95 % Wilson interval.

    A method with several trainings runs each of them in every episode. All trainings together count
    as one trial per episode, and as fewer trials if the trainings differ.
    """

    count: int
    total: int
    num_distinct_episodes: int  # different pairs of layout and seed
    effective_trials: float  # effective sample size: number of independent trials

    @property
    def value(self) -> float:
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return compute_wilson_interval(self.effective_trials * self.value if self.total else 0, self.effective_trials)

    @property
    def value_and_interval(self) -> tuple[float, float, float]:
        return self.value, *self.interval

    @classmethod
    def compute(cls, results: Results, outcome: str) -> "Rate":
        """Compute the share of results in which an attribute is true, such as "success"."""
        is_true = [bool(getattr(result, outcome)) for result in results]
        trainings = {key: index for index, key in enumerate(dict.fromkeys(map(get_training_key, results)))}
        episodes = {key: index for index, key in enumerate(dict.fromkeys(map(get_episode_key, results)))}
        trials: float = len(episodes)
        if len(trainings) > 1:
            outcomes = np.full((len(trainings), len(episodes)), np.nan)
            for result, value in zip(results, is_true, strict=True):
                outcomes[trainings[get_training_key(result)], episodes[get_episode_key(result)]] = value
            trials = compute_effective_trials(outcomes)
        return cls(sum(is_true), len(results), len(episodes), trials)

    def make_record(self, name: str) -> dict[str, float]:
        """Make plain values: NAME, NAME_low and NAME_high."""
        return formats.make_interval_record(name, self.value_and_interval)

    def __str__(self) -> str:
        low, high = self.interval
        is_exact = self.count in (0, self.total) or 0.005 <= self.value < 0.995  # 299 of 300 are not 100 %
        return f"{format_number(100 * self.value, 0 if is_exact else 1)} % [{100 * low:.0f}–{100 * high:.0f}]"


@dataclass(frozen=True)
class Summary:
    """One method on one split."""

    split: str
    method: str
    episodes: int
    success: Rate
    safe_success: Rate
    steps: float  # mean of the successes, nan without any
    decision_ms_p50: float  # median over episodes
    decision_ms_p95: float  # median over episodes
    env_steps: int
    train_cpu_s: float
    trainings: int = 1  # number of trainings; `episodes` counts the episodes of all of them
    collect_cpu_s: float = math.nan
    data_bytes: float = math.nan
    search_samples: float = math.nan
    search_iterations: float = math.nan
    search_horizon: float = math.nan
    indicators: Mapping[str, Quartiles] = field(default_factory=dict)  # indicators of the scene
    violations: Mapping[str, int] = field(default_factory=dict)  # episodes with a violation, by kind
    split_label: str = ""  # name of the split; name and hash of a custom layout

    @property
    def cells(self) -> tuple[str, ...]:
        """Text for SUMMARY_COLUMNS."""
        num_distinct = self.safe_success.num_distinct_episodes
        is_grid = self.trainings > 1 and self.trainings * num_distinct == self.episodes
        return (
            self.method,
            f"{self.trainings} × {num_distinct}" if is_grid else str(self.episodes),
            str(self.safe_success),
            str(self.success),
            format_number(self.steps, 1),
            f"{format_number(self.decision_ms_p50, 1)} / {format_number(self.decision_ms_p95, 1)}",
            format_number(self.env_steps),
            format_number(self.train_cpu_s),
        )


def is_oracle(method: str) -> bool:
    """Return True for a method that plans on the true simulator: a reference that is not ranked."""
    return method.startswith("oracle")


def list_violation_kinds(results: Iterable[EpisodeResult]) -> list[str]:
    """List the kinds of violation that the results distinguish."""
    return list(dict.fromkeys(kind for result in results for kind in result.violations))


def count_violations(results: Results) -> dict[str, int]:
    """Count the episodes with a violation, by kind, the most frequent first.

    Kinds that never happened are left out.
    """
    counts = {kind: sum(result.violations.get(kind, False) for result in results) for kind in list_violation_kinds(results)}
    return {kind: count for kind, count in sorted(counts.items(), key=lambda item: -item[1]) if count}


def find_best_planner(results: Results) -> str:
    """Find the best planner on a learned model, or the best method where there is none.

    Raises:
        GroundError: there are no results.
    """
    if not results:
        raise GroundError("there are no episodes yet: evaluate first")
    planning_methods = {result.method for result in results if result.model and not is_oracle(result.method)}
    methods = rank_methods(results)
    return next((method for method in methods if method in planning_methods), methods[0])


def summarise(results: Iterable[EpisodeResult]) -> list[Summary]:
    """Summarise every method on every split.

    Returns:
        Sorted by split: "test", then distribution shifts, then other splits. In each split, methods
        are in the order of their rank on the first split, and oracles are last.
    """
    summaries = [_summarise_group(group) for group in group_results(results, "split", "method").values()]
    splits = sorted({summary.split for summary in summaries}, key=lambda split: (split != "test", "shift" not in split, split))
    ranked = sorted(summaries, key=lambda summary: (splits.index(summary.split), *_make_rank_key(summary)))
    methods = sorted(dict.fromkeys(summary.method for summary in ranked), key=is_oracle)
    return sorted(summaries, key=lambda summary: (splits.index(summary.split), methods.index(summary.method)))


def rank_methods(results: Iterable[EpisodeResult]) -> list[str]:
    """List the methods in the order of `summarise`."""
    return list(dict.fromkeys(summary.method for summary in summarise(results)))


def list_splits(results: Iterable[EpisodeResult]) -> list[str]:
    """List the splits in the order of `summarise`."""
    return list(dict.fromkeys(summary.split for summary in summarise(results)))


def select_first_split(results: Results) -> list[EpisodeResult]:
    """Select the results of the first split in the order of `list_splits`."""
    split = list_splits(results)[0]
    return [result for result in results if result.split == split]


def _summarise_group(results: Results) -> Summary:
    decision_ms = {name: float(np.median(list_known(results, name))) for name in ("decision_ms_p50", "decision_ms_p95")}
    costs = {name: max(list_known(results, name), default=math.nan) for name in OPTIONAL_ATTRIBUTES}
    return Summary(
        split=results[0].split,
        split_label=results[0].split_label,
        method=results[0].method,
        episodes=len(results),
        success=Rate.compute(results, "success"),
        safe_success=Rate.compute(results, "safe_success"),
        steps=compute_mean([result for result in results if result.success], "steps"),
        env_steps=max(result.env_steps for result in results),
        train_cpu_s=max(result.train_cpu_s for result in results),
        trainings=len(select_trainings(results)),
        indicators=compute_indicators(results),
        violations=count_violations(results),
        **decision_ms,
        **costs,
    )


def compute_indicators(results: Results) -> dict[str, Quartiles]:
    """Compute the quartiles of each indicator of the scene."""
    indicator_set = scenes[results[0].scene].indicators
    quartiles: dict[str, Quartiles] = {}
    for name in indicator_set.descriptions if indicator_set else ():
        values = [result.indicators[name] for result in results if name in result.indicators]
        if values:
            quartiles[name] = tuple(np.quantile(values, (0.5, 0.25, 0.75)).tolist())
    return quartiles


def list_known(results: Iterable[EpisodeResult], name: str) -> list[float]:
    """List the values of an attribute in the results that have it."""
    return [float(value) for result in results if (value := getattr(result, name)) is not None]


def compute_mean(results: Iterable[EpisodeResult], name: str) -> float:
    """Compute the mean of the known values of an attribute, nan without any."""
    values = list_known(results, name)
    return float(np.mean(values)) if values else math.nan


def get_base_method(result: EpisodeResult) -> str:
    """Get the name of the method without the amount of data.

    Results of an old version lack the family; there it is the method's name.
    """
    return result.family or result.method


def select_full_data_results(results: Results) -> list[EpisodeResult]:
    """Select the methods that learned from all data of their family."""
    full_steps = {result.family: result.env_steps for result in results if result.family == result.method}
    return [
        result for result in results if result.method == result.family or result.env_steps >= full_steps.get(result.family, 0)
    ]


def select_trainings(results: Iterable[EpisodeResult]) -> list[EpisodeResult]:
    """Select one result of each training."""
    return list({get_training_key(result): result for result in results}.values())


def _make_rank_key(summary: Summary) -> tuple[float, float, float, str]:
    """Make a key that ranks by the lower ends of the intervals, then by steps.

    By the lower ends, 95 successes of 100 rank above 3 of 3.
    """
    steps = math.inf if math.isnan(summary.steps) else summary.steps
    return -summary.safe_success.interval[0], -summary.success.interval[0], steps, summary.method


def make_summary_table(results: Iterable[EpisodeResult]) -> Table:
    """Make the table for a terminal, with the violations where there are any."""
    summaries = summarise(results)
    has_violations = any(summary.violations for summary in summaries)
    table = Table("split", "method", box=rich.box.SIMPLE)
    for column in (*SUMMARY_COLUMNS[1:], *(["violations (episodes)"] if has_violations else [])):
        table.add_column(column, justify="right")
    for group in group_results(summaries, "split").values():
        for summary in group:
            cells = [summary.split_label if summary is group[0] else "", *summary.cells]
            cells += [format_violations(summary.violations) or "none"] if has_violations else []
            table.add_row(*map(Text, cells))
        table.add_section()
    return table


def format_violations(counts: Mapping[str, int]) -> str:
    """Format the number of episodes with each kind of violation."""
    return ", ".join(f"{formats.format_kind(kind)} {count}" for kind, count in counts.items())


def format_summary_markdown(results: Iterable[EpisodeResult]) -> str:
    """Format the summary as a Markdown table."""
    rows = [(summary.split_label, *summary.cells) for summary in summarise(results)]
    return formats.format_markdown_table(("split", *SUMMARY_COLUMNS), rows)


def format_summary_csv(results: Iterable[EpisodeResult]) -> str:
    """Format the summary as comma-separated values."""
    return formats.format_csv(make_summary_records(results))


def make_summary_records(results: Iterable[EpisodeResult]) -> list[dict[str, Any]]:
    """Make plain values of every method on every split, None where a value is unknown."""
    return [make_summary_record(summary) for summary in summarise(results)]


def make_summary_record(summary: Summary) -> dict[str, Any]:
    """Make plain values, None where a value is unknown."""
    record = {name: value for name, value in vars(summary).items() if not isinstance(value, Rate | Mapping)}
    del record["split_label"]
    for outcome in OUTCOMES:
        record |= getattr(summary, outcome).make_record(outcome)
    for name, (median, low, high) in summary.indicators.items():
        record |= {name: median, f"{name}_q25": low, f"{name}_q75": high}
    return formats.replace_nan(record)
