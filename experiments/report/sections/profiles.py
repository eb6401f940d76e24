"""Performance profiles: how many episodes cost at most so much."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from experiments.report.measured import Measured, colours_of
from experiments.report.pairs import paired, ranked
from experiments.report.plots import label
from experiments.report.summary import Row, summarise
from experiments.statistics import profile_interval

THRESHOLDS = 120
QUARTERS = (0.25, 0.5, 0.75)
COLUMNS = ("agent", "cost_m", "share", "share_low", "share_high")  # of its file


def measured(rows: Sequence[Row]) -> Measured:
    """Of every arm on the first split."""
    split, colours = summarise(rows)[0].split, colours_of(rows)
    here = [row for row in rows if row["split"] == split]
    costs = {agent: paired(here, [agent]).scores[0] for agent in ranked(here)}
    thresholds = np.linspace(0, max(float(np.nanmax(values)) for values in costs.values()), THRESHOLDS)
    figure, cells, records = go.Figure(), list[Sequence[str]](), list[dict[str, Any]]()
    for agent, values in costs.items():
        share, low, high = profile_interval(values, thresholds)
        colour, name = colours[agent], label(agent)
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=thresholds, y=100 * low, **edge)
        figure.add_scatter(x=thresholds, y=100 * high, fill="tonexty", fillcolor=f"{colour}1f", **edge)
        figure.add_scatter(
            x=thresholds, y=100 * share, mode="lines", name=name, line={"color": colour, "width": 2},
            hovertemplate=f"{name}: %{{y:.0f}} % cost at most %{{x:.2f}} m<extra></extra>",
        )  # fmt: skip
        cells.append((agent, str(np.count_nonzero(~np.isnan(values))), *(f"{np.nanquantile(values, q):.2f}" for q in QUARTERS)))
        records += [dict(zip(COLUMNS, (agent, *at), strict=True)) for at in zip(thresholds, share, low, high, strict=True)]
    figure.update_layout(height=340, showlegend=False)
    figure.update_xaxes(title="cost of an episode [m]")
    figure.update_yaxes(title=f"episodes of {split} [%]", range=[-3, 103])
    says = "Performance profiles: the share of episodes that cost at most so much. The higher line is the better arm."
    how = (
        "Shaded: 95 % of a bootstrap over trainings and episodes, at each cost for itself (Agarwal et al. 2021). The table has "
        "the costs that a quarter, half and three quarters of the episodes do not exceed, the file the curves."
    )
    heads = ("arm", "episodes", "a quarter [m]", "half [m]", "three quarters [m]")
    return Measured("profiles", "Costs of episodes", says, [figure], heads, cells, records, how, list(costs))
