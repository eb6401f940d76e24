"""Planners: their regret, exploitation of the model, and predicted violations and costs of plans."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import plotly.graph_objects as go

from experiments.evaluation.results import CONTACT_VIOLATION, EpisodeResult
from experiments.report.figures.plots import FAILURE_COLOUR, MARKER_SYMBOLS, SUCCESS_COLOUR, escape_label, make_interval_trace
from experiments.report.measures import planners
from experiments.report.measures.formats import format_kind, format_percent_interval, scale_to_percent
from experiments.report.measures.paired_scores import get_cost_m
from experiments.report.measures.summary import Results, group_results
from experiments.report.sections.section import Columns, ReportSection

PART_COLOURS = {
    planners.MODEL_ERROR: "#dc2626", planners.SEARCH_ERROR: "#d97706",
    planners.MODEL_AND_SEARCH_ERROR: "#be5a3c", planners.REMAINDER: "#9ca3af",
}  # fmt: skip
PLAN_COST_NAMES = ("method", "train_seed", "split", "index", "seed", "safe_success", "success")  # columns of the file


def build_regret_section(results: Results) -> ReportSection | None:
    """Plot the regret of every planner on a learned model; None where no oracle ran."""
    regrets = planners.compute_regrets(results)
    if not regrets:
        return None
    figure = go.Figure()
    labels = [escape_label(f"{item.method} ({item.episodes})") for item in regrets]
    part_names = [name for name in PART_COLOURS if any(name in item.parts for item in regrets)]
    for name in part_names:
        parts = [item.parts.get(name) for item in regrets]
        figure.add_bar(
            x=[part.value if part else None for part in parts], y=labels, orientation="h", name=name,
            marker_color=PART_COLOURS[name], hovertemplate=f"{name}: %{{x:.2f}} m",
        )  # fmt: skip
    figure.add_scatter(**make_interval_trace([item.total for item in regrets], labels, "sum", "#1c2530"))
    figure.update_layout(barmode="relative", height=110 + 46 * len(labels), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="regret [m]")
    columns: Columns = {
        "method": "method", "episodes": "episodes", "trainings": "trainings", "regret [m]": "total",
        **{f"{name} [m]": partial(_format_part, name) for name in part_names},
        "oracle, same budget": lambda item: item.matched_oracle or "none", "oracle, largest search": "largest_oracle",
    }  # fmt: skip
    return ReportSection("regret", columns, regrets, [figure])


def _format_part(name: str, item: planners.Regret) -> str:
    part = item.parts.get(name)
    if part is None:
        return "–"
    return f"{part}" if name == planners.REMAINDER else f"{part}, {part.format_verdict()}"


def build_exploitation_section(results: Results) -> ReportSection | None:
    """Plot realised minus predicted costs of chosen and random plans.

    None where no plan was audited.
    """
    exploitations = planners.compute_exploitation(results)
    if not exploitations:
        return None
    labels = [f"{item.method} ({item.episodes})" for item in exploitations]
    intervals = {
        "chosen plans": [item.chosen_gap.interval for item in exploitations],
        "random plans": [item.random_gap.interval for item in exploitations],
    }
    figure = _make_pairs_figure(labels, intervals, "realised − predicted cost [m]")
    figure.add_vline(x=0, line_color="#9ca3af", line_dash="dot")
    columns: Columns = {
        "method": "method", "episodes": "episodes", "chosen [m]": "chosen_gap", "random [m]": "random_gap",
        "chosen − random [m]": "excess_gap", "verdict": lambda item: item.excess_gap.format_verdict(),
        "disagreement [mm]": "disagreement_mm", "disagreement, random [mm]": "random_disagreement_mm",
    }  # fmt: skip
    facts = {"answer": _format_exploitation_answer(exploitations)}
    return ReportSection("exploitation", columns, exploitations, [figure], facts=facts)


def _format_exploitation_answer(exploitations: Sequence[planners.Exploitation]) -> str:
    exploited = [item for item in exploitations if item.excess_gap.is_significant and item.excess_gap.value > 0]
    if not exploited:
        return "Not shown: no method's chosen plans exceed their predicted cost by significantly more than random plans."
    texts = [f"{item.method} by {item.excess_gap.value:.2f} m" for item in exploited]
    return f"Yes: chosen plans exceed their predicted cost by more than random plans, with {', '.join(texts)}."


def build_predicted_violations_section(results: Results) -> ReportSection | None:
    """Plot predicted and realised violations of audited plans by kind.

    None where no plan was audited.
    """
    violations = planners.compute_predicted_violations(results)
    if not violations:
        return None
    figures = []
    for kind, items in group_results(violations, "kind").items():
        labels = [f"{item.method} ({item.num_plans})" for item in items]
        shares = {
            "realised": [scale_to_percent(item.realised_share) for item in items],
            "predicted": [scale_to_percent(item.predicted_share) for item in items],
        }
        figures.append(_make_pairs_figure(labels, shares, f"plans that lead to: {format_kind(kind)} [%]"))
        figures[-1].update_xaxes(rangemode="tozero")
    columns: Columns = {
        "plans that lead to": lambda item: format_kind(item.kind), "method": "method", "plans": "num_plans",
        "predicted": lambda item: format_percent_interval(item.predicted_share),
        "realised": lambda item: format_percent_interval(item.realised_share),
        "missed": lambda item: format_percent_interval(item.missed_share),
        "false alarms": lambda item: format_percent_interval(item.false_alarm_share),
    }  # fmt: skip
    facts = {"answer": _format_violations_answer(violations), "contact": format_kind(CONTACT_VIOLATION)}
    return ReportSection("predicted-violations", columns, violations, figures, facts=facts)


def _format_violations_answer(violations: Sequence[planners.PredictedViolations]) -> str:
    missed = [100 * item.missed_share[0] for item in violations if not math.isnan(item.missed_share[0])]
    if not missed:
        return "Unknown: no audited plan led to a violation."
    if max(missed) == 0:
        return "Yes: every violation of an audited plan was predicted."
    low, high = (f"{end:.0f}" for end in (min(missed), max(missed)))
    shares = low if low == high else f"{low} to {high}"
    return f"Not all: of the plans that lead to a violation, {shares} % are missed, by method and kind."


def _make_pairs_figure(labels: Sequence[str], intervals: Mapping[str, Sequence[Sequence[float]]], title: str) -> go.Figure:
    """Plot two intervals for each label."""
    figure = go.Figure()
    y = list(map(escape_label, labels))
    for name, colour, symbol in zip(intervals, (FAILURE_COLOUR, "#2563eb"), ("diamond", "circle"), strict=True):
        figure.add_scatter(**make_interval_trace(intervals[name], y, name, colour, symbol), offsetgroup=name)
    figure.update_layout(scattermode="group", height=130 + 50 * len(labels), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title=title)
    return figure


def build_plan_costs_section(results: Results) -> ReportSection | None:
    """Plot predicted against realised costs by episode; None where no plan was audited."""
    results = [result for result in results if None not in (result.predicted_cost, result.realised_cost)]
    if not results:
        return None
    groups = group_results(results, "method")
    medians = {}
    for method, group in groups.items():
        costs = np.array([_get_plan_costs(result) for result in group])
        medians[method] = np.median(np.column_stack([costs, costs[:, 1] - costs[:, 0]]), 0)
    columns: Columns = {
        "method": str, "episodes": lambda method: str(len(groups[method])),
        "predicted [m]": lambda method: f"{medians[method][0]:.2f}", "realised [m]": lambda method: f"{medians[method][1]:.2f}",
        "realised − predicted [m]": lambda method: f"{medians[method][2]:.2f}".replace("-", "−"),
    }  # fmt: skip
    records = []
    for result in results:
        predicted_m, realised_m = _get_plan_costs(result)
        identity = {name: getattr(result, name) for name in PLAN_COST_NAMES}
        records.append({**identity, "predicted_m": predicted_m, "realised_m": realised_m})
    return ReportSection("plan-costs", columns, list(groups), [_make_plan_costs_figure(groups)], records=records)


def _get_plan_costs(result: EpisodeResult) -> tuple[float, float]:
    return get_cost_m(result, "predicted_cost"), get_cost_m(result, "realised_cost")


def _make_plan_costs_figure(groups: dict[str, list[EpisodeResult]]) -> go.Figure:
    figure = go.Figure()
    costs = [cost for group in groups.values() for result in group for cost in _get_plan_costs(result)]
    axis_range = [min(0.0, *costs), max(costs)]
    line_style = {"color": "#9ca3af", "dash": "dot", "width": 1}
    figure.add_scatter(x=axis_range, y=axis_range, mode="lines", line=line_style, hoverinfo="skip", showlegend=False)
    for position, (method, group) in enumerate(groups.items()):
        symbol = MARKER_SYMBOLS[position % len(MARKER_SYMBOLS)]
        for success, colour, outcome in ((True, SUCCESS_COLOUR, "solved"), (False, FAILURE_COLOUR, "unsolved")):
            shown = [result for result in group if result.success == success]
            if not shown:
                continue
            predicted, realised = zip(*map(_get_plan_costs, shown), strict=True)
            figure.add_scatter(
                x=predicted, y=realised, name=f"{escape_label(method)}, {outcome}", mode="markers",
                marker={"color": colour, "size": 8, "opacity": 0.7, "symbol": symbol},
                customdata=[f"{escape_label(item.split_label)} {item.index}, seed {item.seed}" for item in shown],
                hovertemplate="%{customdata}: predicted %{x:.2f} m, realised %{y:.2f} m",
            )  # fmt: skip
    figure.update_layout(height=460, xaxis_title="predicted cost [m]", yaxis_title="realised cost [m]")
    return figure
