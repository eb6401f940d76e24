"""Compute costs, success by experience, performance profiles of episode costs, and typical costs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from experiments.report.figures.plots import MARKER_SYMBOLS, escape_label, make_rate_trace
from experiments.report.measures import costs as measures
from experiments.report.measures.formats import format_number, format_percent_interval
from experiments.report.measures.paired_scores import pair_scores
from experiments.report.measures.summary import Results, is_oracle, rank_methods, select_first_split
from experiments.report.sections import section
from experiments.report.sections.section import Columns, ReportSection
from experiments.statistics import compute_profile_interval

NUM_THRESHOLDS = 120
PROFILE_COLUMNS = ("method", "cost_m", "share", "share_low", "share_high")  # of the file


def build_compute_costs_section(results: Results, colours: Mapping[str, str]) -> ReportSection:
    """Plot success against compute costs on the first split: not every method ran the others."""
    results = select_first_split(results)
    costs = measures.compute_costs(results)
    axes = {"decision_ms": "ms per decision", "env_steps": "env steps of experience"}
    used = [name for name in axes if any(getattr(item, name) > 0 for item in costs)]
    figures = [_make_pareto_figure(costs, colours, name, axes[name]) for name in used]
    columns: Columns = {
        **section.RATE_COLUMNS,
        "env steps": lambda item: format_number(item.env_steps),
        "data [MB]": lambda item: format_number(item.data_bytes / 1e6, 1),
        "collecting [CPU-s]": lambda item: format_number(item.collect_cpu_s),
        "training [CPU-s]": lambda item: format_number(item.train_cpu_s),
        "ms per decision": "decision_ms", "decisions per episode [s]": "decision_s",
        "decisions per success [s]": "decision_s_per_success", "total per success [s]": "total_s_per_success",
    }  # fmt: skip
    legend = section.select_legend(results, colours)
    facts = {"split": results[0].split_label}
    return ReportSection("compute-costs", columns, costs, figures, legend, facts=facts)


def _make_pareto_figure(
    method_costs: Sequence[measures.MethodCosts], colours: Mapping[str, str], name: str, title: str
) -> go.Figure:
    """Plot safe success against a cost on a logarithmic axis, with zero at its left end."""
    values = [float(getattr(costs, name)) for costs in method_costs]
    positive = [value for value in values if value > 0]
    zero_x = min(positive) / 10
    xs = [max(value, zero_x) for value in values]
    competitors = [(x, costs.safe_success) for x, costs in zip(xs, method_costs, strict=True) if not is_oracle(costs.method)]
    front = measures.find_pareto_front([(x, rate.interval[0]) for x, rate in competitors])
    figure = go.Figure()
    figure.add_scatter(
        x=[competitors[i][0] for i in front], y=[100 * competitors[i][1].value for i in front], mode="lines",
        line={"color": "#1c2530", "width": 1}, hoverinfo="skip", showlegend=False,
    )  # fmt: skip
    for position, (x, value, costs) in enumerate(zip(xs, values, method_costs, strict=True)):
        colour = colours[costs.method]
        trace = make_rate_trace([x], [costs.safe_success.value_and_interval], costs.method, colour)
        symbol = MARKER_SYMBOLS[position % len(MARKER_SYMBOLS)]
        trace |= {"mode": "markers", "marker": {"size": 10, "symbol": symbol, "color": colour}}
        figure.add_scatter(**trace, customdata=[f"{costs.safe_success} of {costs.episodes}, {format_number(value, 2)}"])
    figure.update_layout(height=320, showlegend=False)
    figure.update_xaxes(title=title, type="log", dtick=1)
    if min(values) <= 0:
        powers = range(math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive))) + 1)
        ticks = [10.0**power for power in powers]
        figure.update_xaxes(tickvals=[zero_x, *ticks], ticktext=["none", *(f"{tick:,.0f}" for tick in ticks)])
    figure.update_yaxes(title="safe success [%]", range=[-3, 103])
    return figure


def build_efficiency_section(results: Results, colours: Mapping[str, str]) -> ReportSection | None:
    """Plot the rates of learners on the first split by env steps; None without two points."""
    results = select_first_split(results)
    points = measures.compute_efficiency(results)
    split = results[0].split_label
    if len(points) < 2:
        return None
    title = "env steps of experience"
    figure = section.make_rates_figure(points, "method_family", "env_steps", colours, title, f"episodes of {split} [%]")
    ticks = [factor * 10**power for power in range(1, 9) for factor in (1, 2, 5)]
    powers = [math.log10(point.env_steps) for point in points]
    axis_range = [min(powers) - 0.2, max(powers) + 0.2]
    figure.update_xaxes(type="log", range=axis_range, tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    columns: Columns = {
        "method": "method", "family": "method_family", "env steps": lambda point: format_number(point.env_steps),
        "trainings": "trainings", "episodes": "episodes", "safe success": "safe_success", "success": "success",
    }  # fmt: skip
    legend = {point.method_family: colours[point.method_family] for point in points}
    return ReportSection("efficiency", columns, points, [figure], legend, facts={"split": split})


def build_cost_profile_section(results: Results, colours: Mapping[str, str]) -> ReportSection:
    """Plot performance profiles of every method on the first split."""
    results = select_first_split(results)
    costs = {method: pair_scores(results, [method]).scores[0] for method in rank_methods(results)}
    thresholds = np.linspace(0, max(float(np.nanmax(values)) for values in costs.values()), NUM_THRESHOLDS)
    figure = go.Figure()
    records = list[dict[str, Any]]()
    edge_style: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    for method, values in costs.items():
        share, low, high = compute_profile_interval(values, thresholds)
        colour = colours[method]
        name = escape_label(method)
        figure.add_scatter(x=thresholds, y=100 * low, **edge_style)
        figure.add_scatter(x=thresholds, y=100 * high, fill="tonexty", fillcolor=f"{colour}1f", **edge_style)
        figure.add_scatter(
            x=thresholds, y=100 * share, mode="lines", name=name, line={"color": colour, "width": 2},
            hovertemplate=f"{name}: %{{y:.0f}} % cost at most %{{x:.2f}} m<extra></extra>",
        )  # fmt: skip
        points = zip(thresholds, share, low, high, strict=True)
        records += [dict(zip(PROFILE_COLUMNS, (method, *point), strict=True)) for point in points]
    figure.update_layout(height=340, showlegend=False, xaxis_title="cost of an episode [m]")
    figure.update_yaxes(title=f"episodes of {results[0].split_label} [%]", range=[-3, 103])
    columns: Columns = {
        "method": str, "episodes": lambda method: str(np.count_nonzero(~np.isnan(costs[method]))),
        "lower quartile [m]": lambda method: f"{np.nanquantile(costs[method], 0.25):.2f}",
        "median [m]": lambda method: f"{np.nanquantile(costs[method], 0.5):.2f}",
        "upper quartile [m]": lambda method: f"{np.nanquantile(costs[method], 0.75):.2f}",
    }  # fmt: skip
    return ReportSection("profiles", columns, list(costs), [figure], section.select_legend(results, colours), records)


def build_typical_cost_section(results: Results) -> ReportSection:
    """Tabulate interquartile mean costs of every method on every split."""
    aggregates = measures.compute_aggregates(results)
    best = aggregates[0].method
    labels = {result.split: result.split_label for result in results}
    columns: Columns = {
        "split": lambda item: labels[item.split], "method": "method", "episodes": "episodes", "trainings": "trainings",
        "cost, IQM [m]": "cost", "shared": "shared_episodes",
        f"{best} is better": lambda item: format_percent_interval(item.improvement_probability or [math.nan] * 3),
        "verdict": "verdict",
    }  # fmt: skip
    records = [{**section.flatten_record(item), "verdict": item.verdict} for item in aggregates]
    return ReportSection("aggregates", columns, aggregates, records=records, facts={"best": best})
