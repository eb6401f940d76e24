"""Performance profiles: how many episodes cost at most so much."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from experiments.report.measured import ReportSection, assign_method_colours
from experiments.report.pairs import pair_scores, rank_methods
from experiments.report.plots import escape_label
from experiments.report.summary import EpisodeResult, summarise
from experiments.statistics import compute_profile_interval

NUM_THRESHOLDS = 120
QUANTILES = (0.25, 0.5, 0.75)
PROFILE_KEYS = ("agent", "cost_m", "share", "share_low", "share_high")  # of its file


def build_cost_profile_section(results: Sequence[EpisodeResult]) -> ReportSection:
    """Of every arm on the first split."""
    split, colours = summarise(results)[0].split, assign_method_colours(results)
    split_results = [result for result in results if result["split"] == split]
    costs = {method: pair_scores(split_results, [method]).scores[0] for method in rank_methods(split_results)}
    thresholds = np.linspace(0, max(float(np.nanmax(values)) for values in costs.values()), NUM_THRESHOLDS)
    figure, cells, records = go.Figure(), list[Sequence[str]](), list[dict[str, Any]]()
    for method, values in costs.items():
        share, low, high = compute_profile_interval(values, thresholds)
        colour, name = colours[method], escape_label(method)
        edge_style = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
        figure.add_scatter(x=thresholds, y=100 * low, **edge_style)
        figure.add_scatter(x=thresholds, y=100 * high, fill="tonexty", fillcolor=f"{colour}1f", **edge_style)
        figure.add_scatter(
            x=thresholds, y=100 * share, mode="lines", name=name, line={"color": colour, "width": 2},
            hovertemplate=f"{name}: %{{y:.0f}} % cost at most %{{x:.2f}} m<extra></extra>",
        )  # fmt: skip
        cells.append(
            (
                method,
                str(np.count_nonzero(~np.isnan(values))),
                *(f"{np.nanquantile(values, quantile):.2f}" for quantile in QUANTILES),
            )
        )
        records += [
            dict(zip(PROFILE_KEYS, (method, *point), strict=True)) for point in zip(thresholds, share, low, high, strict=True)
        ]
    figure.update_layout(height=340, showlegend=False)
    figure.update_xaxes(title="cost of an episode [m]")
    figure.update_yaxes(title=f"episodes of {split} [%]", range=[-3, 103])
    caption = "Performance profiles: the share of episodes that cost at most so much. The higher line is the better arm."
    definitions = (
        "Shaded: 95 % of a bootstrap over trainings and episodes, at each cost for itself (Agarwal et al. 2021). The table has "
        "the costs that a quarter, half and three quarters of the episodes do not exceed, the file the curves."
    )
    columns = ("arm", "episodes", "a quarter [m]", "half [m]", "three quarters [m]")
    return ReportSection("profiles", "Costs of episodes", caption, [figure], columns, cells, records, definitions, list(costs))
