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

from experiments.statistics import effective_trials, wilson
from sim.scenes.scene import DEFAULT_PROTOCOL, scenes
from sim.utils.errors import GroundError

Row = Mapping[str, Any]  # one evaluated episode

OUTCOMES = ("clean", "success")  # clean: success without violation
COLUMNS = ("arm", "episodes", "without violation", "success", "steps", "ms per decision", "env steps", "CPU-seconds")
MORE = ("collect_cpu_s", "data_bytes", "search_samples", "search_iterations", "search_horizon")  # where rows tell
COLUMNS_SAY = (
    "Success without violation, and success, with 95 % Wilson intervals; steps: mean of the successes; ms per decision: "
    "p50 / p95, medians over episodes; env steps and CPU-seconds: spent on training before acting, without the held-out episodes "
    "that choose among a model's checkpoints. Where an arm was trained several times, episodes are trainings × spaces, and "
    "intervals are as for the spaces alone, since all its trainings met the same ones, and wider where trainings differ."
)
Episode = tuple[str, int]  # layout id and seed


def protocol_of(row: Row) -> str:
    """By which an episode was played."""
    return str(row.get("protocol", DEFAULT_PROTOCOL))


def key_of(row: Row) -> Episode:
    """What was played, whoever did."""
    return str(row["layout_id"]), int(row["seed"])


def training_of(row: Row) -> tuple[str, int]:
    """Which training of its arm a row is of, by run and seed; what was not trained is the same in every run."""
    seed = row.get("train_seed")
    return ("", 0) if seed is None else (str(row["run"]), int(seed))


@dataclass(frozen=True)
class Rate:
    """A share of episodes and its 95 % interval (Wilson): of several trainings in one space as if it were one episode, and of
    fewer where trainings differ."""

    count: int
    of: int
    spaces: int  # that the episodes are in
    trials: float  # that they are worth

    @property
    def value(self) -> float:
        return self.count / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.trials * (self.count / self.of) if self.of else 0, self.trials)

    @classmethod
    def of_rows(cls, rows: Sequence[Row], outcome: str | Callable[[Row], bool]) -> "Rate":
        """Of the rows in which it came true."""
        true = [outcome(row) if callable(outcome) else bool(row[outcome]) for row in rows]
        trainings, spaces = (
            {key: number for number, key in enumerate(dict.fromkeys(map(of, rows)))} for of in (training_of, key_of)
        )
        if len(trainings) < 2:
            return cls(sum(true), len(rows), len(spaces), len(spaces))
        outcomes = np.full((len(trainings), len(spaces)), np.nan)
        for row, value in zip(rows, true, strict=True):
            outcomes[trainings[training_of(row)], spaces[key_of(row)]] = value
        return cls(sum(true), len(rows), len(spaces), effective_trials(outcomes))

    def record(self, name: str) -> dict[str, float]:
        """As plain values: name, name_low and name_high."""
        return ends_of(name, (self.value, *self.interval))

    def __str__(self) -> str:
        low, high = self.interval
        exact = self.count in (0, self.of) or 0.005 <= self.value < 0.995  # 299 of 300 are not 100 %
        return f"{number(100 * self.value, 0 if exact else 1)} % [{100 * low:.0f}–{100 * high:.0f}]"


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
    agent: str
    episodes: int
    success: Rate
    clean: Rate  # success without violation
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
        spaces, trainings = self.clean.spaces, self.trainings
        episodes = f"{trainings} × {spaces}" if trainings > 1 and trainings * spaces == self.episodes else str(self.episodes)
        decision = f"{number(self.decision_ms_p50, 1)} / {number(self.decision_ms_p95, 1)}"
        spent = (number(self.env_steps), number(self.train_cpu_s))
        return (self.agent, episodes, str(self.clean), str(self.success), number(self.steps, 1), decision, *spent)


def is_oracle(agent: str) -> bool:
    """The oracle plans on the true simulator: a mark to measure by, not a competitor."""
    return agent.startswith("oracle")


def violations_of(rows: Sequence[Row]) -> list[str]:
    """Kinds of violations that a scene's rows tell of: what else than the outcome is true or false."""
    kinds = dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, bool))
    return [name for name in kinds if name not in OUTCOMES]


def best_planner(rows: Sequence[Row]) -> str:
    """The arm whose episodes are shown: the best planner on a learned model, or the best arm."""
    if not rows:
        raise GroundError("there are no episodes yet: evaluate first")
    planning = {row["agent"] for row in rows if row["model"] and not is_oracle(row["agent"])}
    arms = [summary.agent for summary in summarise(rows)]
    return next((arm for arm in arms if arm in planning), arms[0])


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """Every arm on every split: split "test" first, then the shift tiers; the arm best on the first split first, oracles last."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[str(row["split"]), str(row["agent"])].append(row)
    summaries = [_summary(split, agent, group) for (split, agent), group in groups.items()]
    splits = sorted({summary.split for summary in summaries}, key=lambda split: (split != "test", "shift" not in split, split))
    agents: list[str] = []
    for split in splits:
        here = [summary for summary in summaries if summary.split == split]
        agents += [summary.agent for summary in sorted(here, key=_rank) if summary.agent not in agents]
    agents.sort(key=is_oracle)
    return sorted(summaries, key=lambda summary: (splits.index(summary.split), agents.index(summary.agent)))


def _summary(split: str, agent: str, rows: Sequence[Row]) -> Summary:
    successes = [row for row in rows if row["success"]]
    return Summary(
        split=split,
        agent=agent,
        episodes=len(rows),
        success=Rate.of_rows(rows, "success"),
        clean=Rate.of_rows(rows, "clean"),
        steps=float(np.mean([row["steps"] for row in successes])) if successes else math.nan,
        decision_ms_p50=float(np.median([row["decision_ms_p50"] for row in rows])),
        decision_ms_p95=float(np.median([row["decision_ms_p95"] for row in rows])),
        env_steps=max(int(row["env_steps"]) for row in rows),
        train_cpu_s=max(float(row["train_cpu_s"]) for row in rows),
        trainings=len(trainings_of(rows)),
        indicators=indicators_of(rows),
        **{name: max((float(row[name]) for row in rows if known(row, name)), default=math.nan) for name in MORE},
    )


def indicators_of(rows: Sequence[Row]) -> dict[str, Quartiles]:
    """Medians over episodes, and what the middle half lies between, of what the scene says of its episodes."""
    told = scenes[rows[0]["scene"]].indicators
    values = {name: [float(row[name]) for row in rows if known(row, name)] for name in (told.descriptions if told else ())}
    return {name: Quartiles(*map(float, np.quantile(own, (0.25, 0.5, 0.75)))) for name, own in values.items() if own}


def known(row: Row, name: str) -> bool:
    """Whether a row tells it: older rows lack columns, and not every arm has all."""
    value = row.get(name)
    return value is not None and value == value


def method_of(row: Row) -> str:
    """The name of a row's arm whatever the amount of its data; of older rows, the name."""
    return str(row.get("method") or row["agent"])


def on_all_data(rows: Sequence[Row]) -> list[Row]:
    """Without the arms that learned from a part of what another arm of their method did."""
    most = {row["method"]: float(row["env_steps"]) for row in rows if row.get("method") == row["agent"]}
    return [row for row in rows if row["agent"] == row.get("method") or row["env_steps"] >= most.get(row.get("method"), 0.0)]


def trainings_of(rows: Iterable[Row]) -> list[Row]:
    """A row of each training of an arm."""
    return list({training_of(row): row for row in rows}.values())


def _rank(summary: Summary) -> tuple[float, float, float, str]:
    """By success without violation, as far as it can be relied on: three of three are less than 95 of 100. Among equals the
    quicker one comes first."""
    steps = math.inf if math.isnan(summary.steps) else summary.steps
    return -summary.clean.interval[0], -summary.success.interval[0], steps, summary.agent


def summary_table(rows: Iterable[Row]) -> Table:
    """The summary for a terminal, a rule between splits."""
    table = Table("split", box=rich.box.SIMPLE)
    for position, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if position == 0 else "right")
    last = None
    for summary in summarise(rows):
        if last not in (None, summary.split):
            table.add_section()
        table.add_row("" if summary.split == last else Text(summary.split), *map(Text, summary.cells))
        last = summary.split
    return table


def summary_markdown(rows: Iterable[Row]) -> str:
    """The summary as a Markdown table."""
    return markdown(("split", *COLUMNS), [(summary.split, *summary.cells) for summary in summarise(rows)])


def markdown(heading: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table, text to the left and numbers to the right."""
    sides = ["---" if column in ("scene", "split", "arm") else "---:" for column in heading]
    return "".join(f"| {' | '.join(map(_plain, line))} |\n" for line in (heading, sides, *lines))


def summary_records(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """Every arm on every split as plain values, None where there is none."""
    return [record_of(summary) for summary in summarise(rows)]


def record_of(summary: Summary) -> dict[str, Any]:
    """As plain values, None where there is none."""
    record = {name: value for name, value in vars(summary).items() if not isinstance(value, Rate | Mapping)}
    for outcome in OUTCOMES:
        record |= getattr(summary, outcome).record(outcome)
    for name, own in summary.indicators.items():
        record |= {name: own.median, f"{name}_q25": own.low, f"{name}_q75": own.high}
    return {name: None if value != value else value for name, value in record.items()}  # JSON has no nan


def summary_csv(rows: Iterable[Row]) -> str:
    """The records as comma-separated values with a heading."""
    return csv_of(summary_records(rows))


def csv_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Records as comma-separated values with a heading; unknown ones are empty."""
    text, names = io.StringIO(), list(dict.fromkeys(name for record in records for name in record))
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: None if value != value else value for name, value in record.items()} for record in records])
    return text.getvalue()


def ends_of(name: str, interval: Sequence[float]) -> dict[str, float]:
    """A value and its interval by name, name_low and name_high."""
    return dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))


def _plain(text: str) -> str:
    """Text that cannot end a Markdown cell or start HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands marked, or a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"
