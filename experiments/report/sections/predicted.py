"""What plans were foreseen to cost beside what they cost, by episode."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from experiments.report.measured import Measured
from experiments.report.pairs import metres
from experiments.report.plots import BAD, GOOD, SYMBOLS, label
from experiments.report.summary import Row, known, number

COSTS = ("predicted_m", "realised_m")
KEPT = ("agent", "train_seed", "split", "index", "seed", "clean", "success")


def measured(rows: Sequence[Row]) -> Measured | None:
    planned = [row for row in rows if known(row, "predicted_cost") and known(row, "realised_cost")]
    if not planned:
        return None
    columns = ("arm", "episodes", "predicted [m]", "realised [m]", "realised − predicted [m]")
    cells = [_cells(agent, [row for row in planned if row["agent"] == agent]) for agent in _arms(planned)]
    records = [{name: row.get(name) for name in KEPT} | dict(zip(COSTS, _costs(row), strict=True)) for row in planned]
    says = "One dot per episode of an arm that plans: the cost it foresaw, and the cost that came. On the line both agree."
    how = (
        "Of every tenth chosen plan, carried out to its end in the true simulator; means over an episode, and here medians over "
        "episodes. The file holds the episodes."
    )
    return Measured("predicted", "Predicted and realised cost", says, [_figure(planned)], columns, cells, records, how)


def _costs(row: Row) -> tuple[float, float]:
    return metres(row, "predicted_cost"), metres(row, "realised_cost")


def _arms(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row["agent"]) for row in rows))


def _cells(agent: str, rows: Sequence[Row]) -> tuple[str, ...]:
    costs = np.array([_costs(row) for row in rows])
    medians = np.median(np.column_stack([costs, costs[:, 1] - costs[:, 0]]), 0)
    return (agent, str(len(rows)), *(number(value, 2).replace("-", "−") for value in medians))


def _figure(rows: Sequence[Row]) -> go.Figure:
    figure = go.Figure()
    costs = [cost for row in rows for cost in _costs(row)]
    ends = [min(0.0, *costs), max(costs)]
    line = {"color": "#9ca3af", "dash": "dot", "width": 1}
    figure.add_scatter(x=ends, y=ends, mode="lines", line=line, hoverinfo="skip", showlegend=False)
    arms = _arms(rows)
    for position, arm in enumerate(arms):
        for success, colour, word in ((True, GOOD, "solved"), (False, BAD, "not solved")):
            own = [row for row in rows if row["agent"] == arm and bool(row["success"]) == success]
            figure.add_scatter(
                x=[metres(row, "predicted_cost") for row in own],
                y=[metres(row, "realised_cost") for row in own],
                name=f"{label(arm)}, {word}",
                mode="markers",
                marker={"color": colour, "size": 8, "opacity": 0.7, "symbol": SYMBOLS[position % len(SYMBOLS)]},
                customdata=[f"{label(str(row['split']))} {row['index']}, seed {row['seed']}" for row in own],
                hovertemplate="%{customdata}: predicted %{x:.2f} m, realised %{y:.2f} m",
            )
    figure.update_layout(height=460)
    figure.update_xaxes(title="predicted cost [m]")
    figure.update_yaxes(title="realised cost [m]")
    return figure
