"""What success costs: data, training, deciding; and the arms that none beats at their cost."""

import math
from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from experiments.report.costs import MethodCosts, compute_costs, find_pareto_front
from experiments.report.measured import ReportSection, assign_method_colours, flatten_records
from experiments.report.plots import MARKER_SYMBOLS, make_rate_trace
from experiments.report.summary import EpisodeResult, format_number, is_oracle, summarise


def build_compute_costs_section(results: Sequence[EpisodeResult]) -> ReportSection:
    """On the first split: what arms cost elsewhere would not be on a par where not all of them played."""
    split = summarise(results)[0].split
    method_costs, colours = (
        compute_costs([result for result in results if result["split"] == split]),
        assign_method_colours(results),
    )
    figures = [
        _make_pareto_figure(method_costs, colours, "decision_ms", "ms per decision"),
        _make_pareto_figure(method_costs, colours, "env_steps", "env steps of experience"),
    ]
    columns = (
        "arm", "episodes", "without violation", "success", "env steps", "data [MB]", "CPU-s collecting", "CPU-s training",
        "ms per decision", "s deciding, an episode", "s deciding, a success", "s of everything, a success",
    )  # fmt: skip
    cells = [
        (
            costs.method,
            str(costs.episodes),
            str(costs.safe_success),
            str(costs.success),
            format_number(costs.env_steps),
            format_number(costs.data_bytes / 1e6, 1),
            format_number(costs.collect_cpu_s),
            format_number(costs.train_cpu_s),
            format_number(costs.decision_ms, 2),
            format_number(costs.decision_s, 2),
            *(
                format_number(value, 2) if math.isfinite(value) else "–"
                for value in (costs.decision_s_per_success, costs.total_s_per_success)
            ),
        )
        for costs in method_costs
    ]
    caption = (
        f"What success costs, on split {split}: up is better, left is cheaper; no arm is surely as good and cheaper than those "
        "on the line."
    )
    definitions = (
        "The line is the Pareto front of the lower ends of the intervals of success without violation, so that few episodes "
        "weigh less; oracles are left out. Collecting and training are CPU-seconds, of a model from elsewhere the seconds of its "
        "training alone; deciding is timed by the clock, on one thread: beside other work it takes longer. The last column adds "
        "them, spread over the successes here: it falls with every further episode. Where collecting is not told apart, training "
        "holds it."
    )
    return ReportSection(
        "ledger", "What it costs", caption, figures, columns, cells, flatten_records(method_costs), definitions, list(colours)
    )


def _make_pareto_figure(method_costs: Sequence[MethodCosts], colours: Mapping[str, str], field: str, title: str) -> go.Figure:
    """Success without violation against a cost on a logarithmic axis; what is free stands at its left end."""
    positive_values = [getattr(costs, field) for costs in method_costs if getattr(costs, field) > 0]
    zero_x = min(positive_values, default=1.0) / 10
    x_by_method = {costs.method: max(getattr(costs, field), zero_x) for costs in method_costs}
    figure = go.Figure()
    candidates = [costs for costs in method_costs if not is_oracle(costs.method)]
    front = [
        candidates[i]
        for i in find_pareto_front([(x_by_method[costs.method], costs.safe_success.interval[0]) for costs in candidates])
    ]
    front_points = [(x_by_method[costs.method], 100 * costs.safe_success.value) for costs in front]
    figure.add_scatter(
        x=[x for x, _ in front_points], y=[y for _, y in front_points], mode="lines", line={"color": "#1c2530", "width": 1},
        hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    for position, costs in enumerate(method_costs):
        rate = (costs.safe_success.value, *costs.safe_success.interval)
        trace = make_rate_trace([x_by_method[costs.method]], [rate], costs.method, colours[costs.method])
        symbol = MARKER_SYMBOLS[position % len(MARKER_SYMBOLS)]
        trace |= {"mode": "markers", "marker": {"size": 10, "symbol": symbol, "color": colours[costs.method]}}
        hover_text = f"{costs.safe_success} of {costs.episodes}, {format_number(getattr(costs, field), 2)}"
        figure.add_scatter(**trace, customdata=[hover_text])
    figure.update_layout(height=320, showlegend=False)
    figure.update_xaxes(title=title, type="log", dtick=1)
    if any(getattr(costs, field) <= 0 for costs in method_costs):
        powers = [math.log10(value) for value in positive_values]
        ticks = [10.0**power for power in range(math.floor(min(powers)), math.ceil(max(powers)) + 1)] if powers else []
        figure.update_xaxes(tickvals=[zero_x, *ticks], ticktext=["none", *(f"{tick:,.0f}" for tick in ticks)])
    figure.update_yaxes(title="without violation [%]", range=[-3, 103])
    return figure
