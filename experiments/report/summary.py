"""One aggregation of result rows, and its two plain forms: a table for the terminal and one for Markdown."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import rich.box
from rich.table import Table
from rich.text import Text

from experiments.statistics import paired_difference, wilson

Row = Mapping[str, Any]  # one evaluated episode

OUTCOMES = ("success", "clean")
COLUMNS = ("arm", "episodes", "success", "without violation", "steps", "ms per decision", "env steps", "CPU-seconds")
COLUMNS_SAY = (
    "Success and success without violation with 95 % Wilson intervals; steps: mean of the successes; ms per decision: p50 / p95, "
    "medians over episodes; env steps and CPU-seconds: spent on training before acting."
)


@dataclass(frozen=True)
class Rate:
    """A share of episodes and its 95 % interval (Wilson)."""

    count: int
    of: int

    @property
    def value(self) -> float:
        return self.count / self.of if self.of else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.count, self.of)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{number(100 * self.value)} % [{100 * low:.0f}–{100 * high:.0f}]"


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

    @property
    def cells(self) -> tuple[str, ...]:
        """What COLUMNS name, as text."""
        decision = f"{number(self.decision_ms_p50, 1)} / {number(self.decision_ms_p95, 1)}"
        spent = (number(self.env_steps), number(self.train_cpu_s))
        return (self.agent, str(self.episodes), str(self.success), str(self.clean), number(self.steps, 1), decision, *spent)


def is_oracle(agent: str) -> bool:
    """The oracle plans on the true simulator: a mark to measure by, not a competitor."""
    return agent.startswith("oracle")


def violations_of(rows: Sequence[Row]) -> list[str]:
    """Kinds of violations that a scene's rows tell of: what else than the outcome is true or false."""
    kinds = dict.fromkeys(name for row in rows for name, value in row.items() if isinstance(value, bool))
    return [name for name in kinds if name not in OUTCOMES]


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
        success=Rate(len(successes), len(rows)),
        clean=Rate(sum(bool(row["clean"]) for row in rows), len(rows)),
        steps=float(np.mean([row["steps"] for row in successes])) if successes else math.nan,
        decision_ms_p50=float(np.median([row["decision_ms_p50"] for row in rows])),
        decision_ms_p95=float(np.median([row["decision_ms_p95"] for row in rows])),
        env_steps=max(int(row["env_steps"]) for row in rows),
        train_cpu_s=max(float(row["train_cpu_s"]) for row in rows),
    )


def _rank(summary: Summary) -> tuple[float, float, str]:
    return -summary.success.value, -summary.clean.value, summary.agent


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
    difference = _lead(rows, best, arms[1])
    return text + (f", {difference}." if difference else ".")


def _in_words(summary: Summary) -> str:
    low, high = (round(100 * end) for end in summary.success.interval)
    rate = summary.success
    return f"{rate.count} of {rate.of} episodes solved ({100 * rate.value:.0f} %, 95 % interval {low}–{high} %)"


def _lead(rows: Sequence[Row], best: Summary, other: Summary) -> str:
    """The difference over the episodes that both arms met (same space, same seed), or nothing where they share none."""
    first, second = (_successes(rows, summary) for summary in (best, other))
    shared = sorted(first.keys() & second.keys())
    if not shared:
        return ""
    a, b = (np.array([successes[key] for key in shared]) for successes in (first, second))
    mean, low, high = (100 * value for value in paired_difference(a, b, np.random.default_rng(0)))
    interval = f"95 % interval {round(low)} to {round(high)}, {len(shared)} shared episodes"
    return f"a paired difference of {round(mean)} points ({interval})".replace("-", "−")


def _successes(rows: Sequence[Row], summary: Summary) -> dict[tuple[str, int], float]:
    """Mean success per (layout id, seed)."""
    found: dict[tuple[str, int], list[bool]] = defaultdict(list)
    for row in rows:
        if (row["split"], row["agent"]) == (summary.split, summary.agent):
            found[str(row["layout_id"]), int(row["seed"])].append(bool(row["success"]))
    return {key: float(np.mean(values)) for key, values in found.items()}


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
    lines = [("split", *COLUMNS), ("---", "---", *["---:"] * (len(COLUMNS) - 1))]
    lines += [(_plain(summary.split), *map(_plain, summary.cells)) for summary in summarise(rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plain(text: str) -> str:
    """Text that cannot end a Markdown cell or start HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands marked, or a dash where there is none."""
    return "–" if value is None or math.isnan(value) else f"{value:,.{digits}f}"
