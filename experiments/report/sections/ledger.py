"""What success costs: data, training, deciding; and the arms that none beats at their cost."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from experiments.report.costs import Spent, pareto, spendings
from experiments.report.measured import Measured, colours_of, flats
from experiments.report.plots import SYMBOLS, line
from experiments.report.summary import Row, is_oracle, number, summarise


def measured(rows: Sequence[Row]) -> Measured:
    """On the first split: what arms cost elsewhere would not be on a par where not all of them played."""
    split = summarise(rows)[0].split
    spent, colours = spendings([row for row in rows if row["split"] == split]), colours_of(rows)
    plots = [
        _pareto_figure(spent, colours, "decision_ms", "ms per decision"),
        _pareto_figure(spent, colours, "env_steps", "env steps of experience"),
    ]
    columns = (
        "arm", "episodes", "without violation", "success", "env steps", "data [MB]", "CPU-s collecting", "CPU-s training",
        "ms per decision", "s deciding, an episode", "s deciding, a success", "s of everything, a success",
    )  # fmt: skip
    cells = [
        (
            one.agent,
            str(one.episodes),
            str(one.clean),
            str(one.success),
            number(one.env_steps),
            number(one.data_bytes / 1e6, 1),
            number(one.collect_cpu_s),
            number(one.train_cpu_s),
            number(one.decision_ms, 2),
            number(one.decide_s, 2),
            *(number(value, 2) if math.isfinite(value) else "–" for value in (one.decide_s_per_success, one.s_per_success)),
        )
        for one in spent
    ]
    says = (
        f"What success costs, on split {split}: up is better, left is cheaper; no arm is surely as good and cheaper than those "
        "on the line."
    )
    how = (
        "The line is the Pareto front of the lower ends of the intervals of success without violation, so that few episodes "
        "weigh less; oracles are left out. Collecting and training are CPU-seconds, of a model from elsewhere the seconds of its "
        "training alone; deciding is timed by the clock, on one thread: beside other work it takes longer. The last column adds "
        "them, spread over the successes here: it falls with every further episode. Where collecting is not told apart, training "
        "holds it."
    )
    return Measured("ledger", "What it costs", says, plots, columns, cells, flats(spent), how, list(colours))


def _pareto_figure(spent: Sequence[Spent], colours: Mapping[str, str], name: str, title: str) -> go.Figure:
    """Success without violation against a cost on a logarithmic axis; what is free stands at its left end."""
    positive = [getattr(one, name) for one in spent if getattr(one, name) > 0]
    free = min(positive, default=1.0) / 10
    at = {one.agent: max(getattr(one, name), free) for one in spent}
    figure = go.Figure()
    rivals = [one for one in spent if not is_oracle(one.agent)]
    front = [rivals[i] for i in pareto([(at[one.agent], one.clean.interval[0]) for one in rivals])]
    steps = [(at[one.agent], 100 * one.clean.value) for one in front]
    figure.add_scatter(
        x=[x for x, _ in steps], y=[y for _, y in steps], mode="lines", line={"color": "#1c2530", "width": 1},
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    for position, one in enumerate(spent):
        rate = (one.clean.value, *one.clean.interval)
        dots = line([at[one.agent]], [rate], one.agent, colours[one.agent])
        symbol = SYMBOLS[position % len(SYMBOLS)]
        dots |= {"mode": "markers", "marker": {"size": 10, "symbol": symbol, "color": colours[one.agent]}}
        told = f"{one.clean} of {one.episodes}, {number(getattr(one, name), 2)}"
        figure.add_scatter(**dots, customdata=[told])
    figure.update_layout(height=320, showlegend=False)
    figure.update_xaxes(title=title, type="log", dtick=1)
    if any(getattr(one, name) <= 0 for one in spent):
        powers = [math.log10(value) for value in positive]
        ends = [10.0**power for power in range(math.floor(min(powers)), math.ceil(max(powers)) + 1)] if powers else []
        figure.update_xaxes(tickvals=[free, *ends], ticktext=["none", *(f"{end:,.0f}" for end in ends)])
    figure.update_yaxes(title="without violation [%]", range=[-3, 103])
    return figure
