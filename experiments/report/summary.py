"""One aggregation of result rows, and its plain forms: for the terminal, Markdown, CSV and JSON."""

import csv
import io
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import rich.box
from rich.table import Table
from rich.text import Text

from experiments.statistics import compute_effective_trials, compute_wilson_interval
from sim.scenes.scene import DEFAULT_PROTOCOL, scenes
from sim.utils.errors import GroundError

EpisodeResult = Mapping[str, Any]  # one evaluated episode

OUTCOMES = ("clean", "success")  # clean: success without violation
SUMMARY_COLUMNS = ("arm", "episodes", "without violation", "success", "steps", "ms per decision", "env steps", "CPU-seconds")
OPTIONAL_COLUMNS = ("collect_cpu_s", "data_bytes", "search_samples", "search_iterations", "search_horizon")  # where rows tell
SUMMARY_NOTE = (
    "Success without violation, and success, with 95 % Wilson intervals; steps: mean of the successes; ms per decision: "
    "p50 / p95, medians over episodes; env steps and CPU-seconds: spent on training before acting, without the held-out episodes "
    "that choose among a model's checkpoints. Where an arm was trained several times, episodes are trainings × spaces, and "
    "intervals are as for the spaces alone, since all its trainings met the same ones, and wider where trainings differ."
)
EpisodeKey = tuple[str, int]  # layout id and seed


def get_protocol(result: EpisodeResult) -> str:
    """By which an episode was played."""
    return str(result.get("protocol", DEFAULT_PROTOCOL))


def get_episode_key(result: EpisodeResult) -> EpisodeKey:
    """What was played, whoever did."""
    return str(result["layout_id"]), int(result["seed"])


def get_training_key(result: EpisodeResult) -> tuple[str, int]:
    """Which training of its arm a row is of, by run and seed; what was not trained is the same in every run."""
    seed = result.get("train_seed")
    return ("", 0) if seed is None else (str(result["run"]), int(seed))


@dataclass(frozen=True)
class Rate:
    """A share of episodes and its 95 % interval (Wilson): of several trainings in one space as if it were one episode, and of
    fewer where trainings differ."""

    count: int
    total: int
    layouts: int  # that the episodes are in
    trials: float  # that they are worth

    @property
    def value(self) -> float:
        return self.count / self.total if self.total else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return compute_wilson_interval(self.trials * (self.count / self.total) if self.total else 0, self.trials)

    @classmethod
    def compute(cls, results: Sequence[EpisodeResult], outcome: str | Callable[[EpisodeResult], bool]) -> "Rate":
        """Of the rows in which it came true."""
        is_true = [outcome(result) if callable(outcome) else bool(result[outcome]) for result in results]
        training_indices, episode_indices = (
            {key: index for index, key in enumerate(dict.fromkeys(map(get_key, results)))}
            for get_key in (get_training_key, get_episode_key)
        )
        if len(training_indices) < 2:
            return cls(sum(is_true), len(results), len(episode_indices), len(episode_indices))
        outcomes = np.full((len(training_indices), len(episode_indices)), np.nan)
        for result, value in zip(results, is_true, strict=True):
            outcomes[training_indices[get_training_key(result)], episode_indices[get_episode_key(result)]] = value
        return cls(sum(is_true), len(results), len(episode_indices), compute_effective_trials(outcomes))

    def make_record(self, name: str) -> dict[str, float]:
        """As plain values: name, name_low and name_high."""
        return make_interval_record(name, (self.value, *self.interval))

    def __str__(self) -> str:
        low, high = self.interval
        is_exact = self.count in (0, self.total) or 0.005 <= self.value < 0.995  # 299 of 300 are not 100 %
        return f"{format_number(100 * self.value, 0 if is_exact else 1)} % [{100 * low:.0f}–{100 * high:.0f}]"


@dataclass(frozen=True)
class Quartiles:
    """Of the episodes whose rows tell it."""

    low: float
    median: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]".replace("-", "−")


@dataclass(frozen=True)
class Summary:
    """One arm on one split."""

    split: str
    method: str
    episodes: int
    success: Rate
    safe_success: Rate  # success without violation
    steps: float  # mean of the successes, nan without any
    decision_ms_p50: float  # median over episodes
    decision_ms_p95: float  # median over episodes
    env_steps: int
    train_cpu_s: float
    trainings: int = 1  # of the arm; its episodes are of all of them
    collect_cpu_s: float = math.nan
    data_bytes: float = math.nan
    search_samples: float = math.nan
    search_iterations: float = math.nan
    search_horizon: float = math.nan
    indicators: Mapping[str, Quartiles] = field(default_factory=dict)  # what else the scene tells, by its name in the rows

    @property
    def cells(self) -> tuple[str, ...]:
        """What COLUMNS name, as text."""
        num_layouts, trainings = self.safe_success.layouts, self.trainings
        episodes = (
            f"{trainings} × {num_layouts}" if trainings > 1 and trainings * num_layouts == self.episodes else str(self.episodes)
        )
        decision_ms = f"{format_number(self.decision_ms_p50, 1)} / {format_number(self.decision_ms_p95, 1)}"
        costs = (format_number(self.env_steps), format_number(self.train_cpu_s))
        return (
            self.method,
            episodes,
            str(self.safe_success),
            str(self.success),
            format_number(self.steps, 1),
            decision_ms,
            *costs,
        )


def is_oracle(method: str) -> bool:
    """The oracle plans on the true simulator: a mark to measure by, not a competitor."""
    return method.startswith("oracle")


def list_violation_kinds(results: Sequence[EpisodeResult]) -> list[str]:
    """Kinds of violations that a scene's rows tell of: what else than the outcome is true or false."""
    kinds = dict.fromkeys(name for result in results for name, value in result.items() if isinstance(value, bool))
    return [name for name in kinds if name not in OUTCOMES]


def find_best_planner(results: Sequence[EpisodeResult]) -> str:
    """The arm whose episodes are shown: the best planner on a learned model, or the best arm."""
    if not results:
        raise GroundError("there are no episodes yet: evaluate first")
    planning_methods = {result["agent"] for result in results if result["model"] and not is_oracle(result["agent"])}
    methods = [summary.method for summary in summarise(results)]
    return next((method for method in methods if method in planning_methods), methods[0])


def summarise(results: Iterable[EpisodeResult]) -> list[Summary]:
    """Every arm on every split: split "test" first, then the shift tiers; the arm best on the first split first, oracles last."""
    groups: dict[tuple[str, str], list[EpisodeResult]] = defaultdict(list)
    for result in results:
        groups[str(result["split"]), str(result["agent"])].append(result)
    summaries = [_summarise_group(split, method, group) for (split, method), group in groups.items()]
    splits = sorted({summary.split for summary in summaries}, key=lambda split: (split != "test", "shift" not in split, split))
    methods: list[str] = []
    for split in splits:
        split_summaries = [summary for summary in summaries if summary.split == split]
        methods += [summary.method for summary in sorted(split_summaries, key=_make_rank_key) if summary.method not in methods]
    methods.sort(key=is_oracle)
    return sorted(summaries, key=lambda summary: (splits.index(summary.split), methods.index(summary.method)))


def _summarise_group(split: str, method: str, results: Sequence[EpisodeResult]) -> Summary:
    successes = [result for result in results if result["success"]]
    return Summary(
        split=split,
        method=method,
        episodes=len(results),
        success=Rate.compute(results, "success"),
        safe_success=Rate.compute(results, "clean"),
        steps=float(np.mean([result["steps"] for result in successes])) if successes else math.nan,
        decision_ms_p50=float(np.median([result["decision_ms_p50"] for result in results])),
        decision_ms_p95=float(np.median([result["decision_ms_p95"] for result in results])),
        env_steps=max(int(result["env_steps"]) for result in results),
        train_cpu_s=max(float(result["train_cpu_s"]) for result in results),
        trainings=len(select_trainings(results)),
        indicators=compute_indicators(results),
        **{
            name: max((float(result[name]) for result in results if is_known(result, name)), default=math.nan)
            for name in OPTIONAL_COLUMNS
        },
    )


def compute_indicators(results: Sequence[EpisodeResult]) -> dict[str, Quartiles]:
    """Medians over episodes, and what the middle half lies between, of what the scene says of its episodes."""
    indicator_set = scenes[results[0]["scene"]].indicators
    values = {
        name: [float(result[name]) for result in results if is_known(result, name)]
        for name in (indicator_set.descriptions if indicator_set else ())
    }
    return {name: Quartiles(*map(float, np.quantile(numbers, (0.25, 0.5, 0.75)))) for name, numbers in values.items() if numbers}


def is_known(result: EpisodeResult, key: str) -> bool:
    """Whether a row tells it: older rows lack columns, and not every arm has all."""
    value = result.get(key)
    return value is not None and value == value


def get_base_method(result: EpisodeResult) -> str:
    """The name of a row's arm whatever the amount of its data; of older rows, the name."""
    return str(result.get("method") or result["agent"])


def select_full_data_results(results: Sequence[EpisodeResult]) -> list[EpisodeResult]:
    """Without the arms that learned from a part of what another arm of their method did."""
    max_env_steps = {
        result["method"]: float(result["env_steps"]) for result in results if result.get("method") == result["agent"]
    }
    return [
        result
        for result in results
        if result["agent"] == result.get("method") or result["env_steps"] >= max_env_steps.get(result.get("method"), 0.0)
    ]


def select_trainings(results: Iterable[EpisodeResult]) -> list[EpisodeResult]:
    """A row of each training of an arm."""
    return list({get_training_key(result): result for result in results}.values())


def _make_rank_key(summary: Summary) -> tuple[float, float, float, str]:
    """By success without violation, as far as it can be relied on: three of three are less than 95 of 100. Among equals the
    quicker one comes first."""
    steps = math.inf if math.isnan(summary.steps) else summary.steps
    return -summary.safe_success.interval[0], -summary.success.interval[0], steps, summary.method


def make_summary_table(results: Iterable[EpisodeResult]) -> Table:
    """The summary for a terminal, a rule between splits."""
    table = Table("split", box=rich.box.SIMPLE)
    for position, column in enumerate(SUMMARY_COLUMNS):
        table.add_column(column, justify="left" if position == 0 else "right")
    last_split = None
    for summary in summarise(results):
        if last_split not in (None, summary.split):
            table.add_section()
        table.add_row("" if summary.split == last_split else Text(summary.split), *map(Text, summary.cells))
        last_split = summary.split
    return table


def format_summary_markdown(results: Iterable[EpisodeResult]) -> str:
    """The summary as a Markdown table."""
    return format_markdown_table(("split", *SUMMARY_COLUMNS), [(summary.split, *summary.cells) for summary in summarise(results)])


def format_markdown_table(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, text to the left and numbers to the right."""
    alignments = ["---" if column in ("scene", "split", "arm") else "---:" for column in columns]
    return "".join(f"| {' | '.join(map(_escape_markdown, line))} |\n" for line in (columns, alignments, *lines))


def make_summary_records(results: Iterable[EpisodeResult]) -> list[dict[str, Any]]:
    """Every arm on every split as plain values, None where there is none."""
    return [make_summary_record(summary) for summary in summarise(results)]


def make_summary_record(summary: Summary) -> dict[str, Any]:
    """As plain values, None where there is none."""
    record = {name: value for name, value in vars(summary).items() if not isinstance(value, Rate | Mapping)}
    for outcome in OUTCOMES:
        record |= getattr(summary, outcome).record(outcome)
    for name, quartiles in summary.indicators.items():
        record |= {name: quartiles.median, f"{name}_q25": quartiles.low, f"{name}_q75": quartiles.high}
    return {name: None if value != value else value for name, value in record.items()}  # JSON has no nan


def format_summary_csv(results: Iterable[EpisodeResult]) -> str:
    """The records as comma-separated values with a heading."""
    return format_csv(make_summary_records(results))


def format_csv(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as comma-separated values with a heading; unknown ones are empty."""
    text, names = io.StringIO(), list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: None if value != value else value for name, value in record.items()} for record in records])
    return text.getvalue()


def make_interval_record(name: str, interval: Sequence[float]) -> dict[str, float]:
    """A value and its interval by name, name_low and name_high."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))


def _escape_markdown(text: str) -> str:
    """Text that cannot end a Markdown cell or start HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def format_number(value: float | None, digits: int = 0) -> str:
    """A number with thousands marked, or a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"
