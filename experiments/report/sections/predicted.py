"""What plans were foreseen to cost beside what they cost, by episode."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from experiments.report.measured import ReportSection
from experiments.report.pairs import get_cost_m
from experiments.report.plots import FAILURE_COLOUR, MARKER_SYMBOLS, SUCCESS_COLOUR, escape_label
from experiments.report.summary import EpisodeResult, format_number, is_known

PLAN_COST_KEYS = ("predicted_m", "realised_m")
PLAN_COST_RECORD_KEYS = ("agent", "train_seed", "split", "index", "seed", "clean", "success")


def build_plan_costs_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    plan_results = [result for result in results if is_known(result, "predicted_cost") and is_known(result, "realised_cost")]
    if not plan_results:
        return None
    columns = ("arm", "episodes", "predicted [m]", "realised [m]", "realised − predicted [m]")
    cells = [
        _make_plan_costs_cells(method, [result for result in plan_results if result["agent"] == method])
        for method in _list_methods(plan_results)
    ]
    records = [
        {name: result.get(name) for name in PLAN_COST_RECORD_KEYS}
        | dict(zip(PLAN_COST_KEYS, _get_plan_costs(result), strict=True))
        for result in plan_results
    ]
    caption = "One dot per episode of an arm that plans: the cost it foresaw, and the cost that came. On the line both agree."
    definitions = (
        "Of every tenth chosen plan, carried out to its end in the true simulator; means over an episode, and here medians over "
        "episodes. The file holds the episodes."
    )
    return ReportSection(
        "predicted",
        "Predicted and realised cost",
        caption,
        [_make_plan_costs_figure(plan_results)],
        columns,
        cells,
        records,
        definitions,
    )


def _get_plan_costs(result: EpisodeResult) -> tuple[float, float]:
    return get_cost_m(result, "predicted_cost"), get_cost_m(result, "realised_cost")


def _list_methods(results: Sequence[EpisodeResult]) -> list[str]:
    return list(dict.fromkeys(str(result["agent"]) for result in results))


def _make_plan_costs_cells(method: str, results: Sequence[EpisodeResult]) -> tuple[str, ...]:
    costs = np.array([_get_plan_costs(result) for result in results])
    medians = np.median(np.column_stack([costs, costs[:, 1] - costs[:, 0]]), 0)
    return (method, str(len(results)), *(format_number(value, 2).replace("-", "−") for value in medians))


def _make_plan_costs_figure(results: Sequence[EpisodeResult]) -> go.Figure:
    figure = go.Figure()
    costs = [cost for result in results for cost in _get_plan_costs(result)]
    axis_range = [min(0.0, *costs), max(costs)]
    line_style = {"color": "#9ca3af", "dash": "dot", "width": 1}
    figure.add_scatter(x=axis_range, y=axis_range, mode="lines", line=line_style, hoverinfo="skip", showlegend=False)
    methods = _list_methods(results)
    for position, method in enumerate(methods):
        for success, colour, outcome in ((True, SUCCESS_COLOUR, "solved"), (False, FAILURE_COLOUR, "not solved")):
            outcome_results = [result for result in results if result["agent"] == method and bool(result["success"]) == success]
            figure.add_scatter(
                x=[get_cost_m(result, "predicted_cost") for result in outcome_results],
                y=[get_cost_m(result, "realised_cost") for result in outcome_results],
                name=f"{escape_label(method)}, {outcome}",
                mode="markers",
                marker={"color": colour, "size": 8, "opacity": 0.7, "symbol": MARKER_SYMBOLS[position % len(MARKER_SYMBOLS)]},
                customdata=[
                    f"{escape_label(str(result['split']))} {result['index']}, seed {result['seed']}" for result in outcome_results
                ],
                hovertemplate="%{customdata}: predicted %{x:.2f} m, realised %{y:.2f} m",
            )
    figure.update_layout(height=460)
    figure.update_xaxes(title="predicted cost [m]")
    figure.update_yaxes(title="realised cost [m]")
    return figure
