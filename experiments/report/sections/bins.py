"""Rates of arms over a quantity that episodes differ in."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from experiments.report.measured import flat
from experiments.report.pairs import ranked
from experiments.report.plots import dotted, line
from experiments.report.summary import OUTCOMES, Rate, Row, is_oracle

BINS, LEAST = 5, 5  # at most, in a rate's plot; episodes in one


@dataclass(frozen=True)
class Bin:
    """An arm's rates in some range of a quantity."""

    what: str
    agent: str
    low: float
    high: float
    middle: float
    clean: Rate
    success: Rate


def binned(rows: Sequence[Row], value: Callable[[Row], float], what: str) -> list[Bin]:
    """Every arm but oracles, in ranges that hold equally many episodes, or of each value where there are few; those with fewer
    episodes than LEAST are left out."""
    agents = [agent for agent in ranked(rows) if not is_oracle(agent)]
    values = np.array([value(row) for row in rows])
    most = max(sum(row["agent"] == agent for row in rows) for agent in agents) if agents else 0
    edges, count = np.unique(values), min(BINS, max(1, most // LEAST))
    edges = np.append(edges, np.inf) if len(edges) <= count else np.unique(np.quantile(values, np.linspace(0, 1, count + 1)))
    number_of = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(0, len(edges) - 2))
    found = []
    for agent in agents:
        for i in range(max(1, len(edges) - 1)):
            own = [row for row, n in zip(rows, number_of, strict=True) if n == i and row["agent"] == agent]
            if len(own) >= LEAST:
                inside = [value(row) for row in own]
                rates = (Rate.of_rows(own, outcome) for outcome in OUTCOMES)
                found.append(Bin(what, agent, min(inside), max(inside), float(np.median(inside)), *rates))
    return found


def rates_figure(bins: Sequence[Bin], colours: Mapping[str, str], title: str) -> go.Figure:
    figure = go.Figure()
    for agent in dict.fromkeys(one.agent for one in bins):
        own = [one for one in bins if one.agent == agent]
        x = [one.middle for one in own]
        clean = [(one.clean.value, *one.clean.interval) for one in own]
        figure.add_scatter(**line(x, clean, agent, colours[agent]), customdata=[f"{one.clean} of {one.clean.of}" for one in own])
        figure.add_scatter(**dotted(x, [one.success.value for one in own], colours[agent]))
    figure.update_layout(height=340, showlegend=False)
    figure.update_xaxes(title=title)
    figure.update_yaxes(title="episodes [%]", range=[-3, 103])
    return figure


def rate_cells(bins: Sequence[Bin], what: str) -> tuple[Sequence[str], list[Sequence[str]]]:
    cells: list[Sequence[str]] = []
    for one in bins:
        cells.append((one.agent, f"{one.low:.3g} to {one.high:.3g}", str(one.clean.of), str(one.clean), str(one.success)))
    return ("arm", what, "episodes", "without violation", "success"), cells


def flat_bin(one: Bin) -> dict[str, Any]:
    return {**flat(one), "episodes": one.clean.of}
