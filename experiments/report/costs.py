"""What arms have cost, and what they can do after how much data."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from experiments.report.pairs import ranked
from experiments.report.summary import Rate, Row, is_oracle, known, trainings_of


@dataclass(frozen=True)
class Spent:
    """What an arm has cost, over all its episodes; nan where that is not known."""

    agent: str
    episodes: int
    clean: Rate
    success: Rate
    env_steps: float  # mean over trainings, and so on
    data_bytes: float
    collect_cpu_s: float
    train_cpu_s: float
    decide_s: float  # for an episode, by the clock
    decision_ms: float  # median over episodes of their medians
    decide_s_per_success: float
    s_per_success: float  # all of it, made once for these episodes


def spendings(rows: Sequence[Row]) -> list[Spent]:
    return [_spent(agent, [row for row in rows if row["agent"] == agent]) for agent in ranked(rows)]


def _spent(agent: str, rows: Sequence[Row]) -> Spent:
    success = Rate.of_rows(rows, "success")
    trainings = trainings_of(rows)
    made = {name: _mean(trainings, name) for name in ("env_steps", "data_bytes", "collect_cpu_s", "train_cpu_s")}
    if made["env_steps"]:  # agents that collect while they train, and models from elsewhere, do not tell these apart
        made |= {name: made[name] or math.nan for name in ("data_bytes", "collect_cpu_s")}
    making = len(trainings) * made["train_cpu_s"]  # collecting is in it
    if made["collect_cpu_s"] == made["collect_cpu_s"]:
        made["train_cpu_s"] -= made["collect_cpu_s"]
    deciding = sum(float(row["decide_s"]) for row in rows if known(row, "decide_s"))
    return Spent(
        agent,
        len(rows),
        Rate.of_rows(rows, "clean"),
        success,
        **made,
        decide_s=deciding / len(rows),
        decision_ms=float(np.median([row["decision_ms_p50"] for row in rows])),
        decide_s_per_success=deciding / success.count if success.count else math.inf,
        s_per_success=(making + deciding) / success.count if success.count else math.inf,
    )


def _mean(rows: Sequence[Row], name: str) -> float:
    values = [float(row[name]) for row in rows if known(row, name)]
    return float(np.mean(values)) if values else math.nan


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Numbers of the points (cost, worth) that no other is as cheap and as good as, and better in one; by rising cost."""
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1]:
            front.append(i)
    return front


@dataclass(frozen=True)
class Learned:
    """An arm's rate after some data."""

    family: str  # arms that differ in their data alone
    agent: str
    env_steps: float
    trainings: int
    episodes: int
    clean: Rate
    success: Rate


def efficiency(rows: Sequence[Row], split: str) -> list[Learned]:
    """Of every arm that learned from data, on one split."""
    here = [row for row in rows if row["split"] == split and row["env_steps"] > 0 and not is_oracle(str(row["agent"]))]
    found = []
    for agent in dict.fromkeys(str(row["agent"]) for row in here):
        own = [row for row in here if row["agent"] == agent]
        rates = [Rate.of_rows(own, outcome) for outcome in ("clean", "success")]
        found.append(Learned(family(own[0]), agent, _mean(own, "env_steps"), len(trainings_of(own)), len(own), *rates))
    return sorted(found, key=lambda learned: (learned.family, learned.env_steps))


def family(row: Row) -> str:
    """The arm without what its name says of its data."""
    return str(row.get("method") or (f"{row['model']}+{row['search']}" if row["model"] else row["agent"]))
