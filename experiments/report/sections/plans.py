"""Audited plans: exploitation of the model, predicted violations, predicted and realised costs."""

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from experiments.evaluation.results import CONTACT_VIOLATION, EpisodeResult
from experiments.report.figures.plots import FAILURE_COLOUR, MARKER_SYMBOLS, SUCCESS_COLOUR, escape_label, make_interval_trace
from experiments.report.measures.formats import format_kind, format_number, format_percent_interval
from experiments.report.measures.paired_scores import get_cost_m
from experiments.report.measures.plan_audit import (
    Exploitation,
    PredictedViolations,
    compute_exploitation,
    compute_predicted_violations,
)
from experiments.report.measures.summary import group_results
from experiments.report.sections.section import ReportSection, flatten_records

PLAN_COST_NAMES = ("method", "train_seed", "split", "index", "seed", "safe_success", "success")  # columns of the file


def build_exploitation_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    """Plot realised minus predicted costs of chosen and random plans; None where no plan was audited."""
    exploitations = compute_exploitation(results)
    if not exploitations:
        return None
    figure = go.Figure()
    labels = [escape_label(f"{item.method} ({item.episodes})") for item in exploitations]
    for name, colour, symbol in (("chosen", FAILURE_COLOUR, "diamond"), ("random", "#6b7280", "circle")):
        intervals = [getattr(item, f"{name}_gap").interval for item in exploitations]
        figure.add_scatter(**make_interval_trace(intervals, labels, f"{name} plans", colour, symbol), offsetgroup=name)
    figure.add_vline(x=0, line_color="#9ca3af", line_dash="dot")
    figure.update_layout(scattermode="group", height=130 + 50 * len(labels), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="realised − predicted cost [m]")
    columns = (
        "method", "episodes", "chosen [m]", "random [m]", "chosen − random [m]", "verdict", "disagreement [mm]",
        "disagreement, random [mm]",
    )  # fmt: skip
    cells = [
        (
            item.method,
            str(item.episodes),
            str(item.chosen_gap),
            str(item.random_gap),
            str(item.excess_gap),
            item.excess_gap.format_verdict(),
            format_number(item.disagreement_mm, 1),
            format_number(item.random_disagreement_mm, 1),
        )
        for item in exploitations
    ]
    definitions = (
        "Plan audit: every tenth chosen plan and two random smooth plans from the same state are run to their ends in the true "
        "simulator, beside the episode. Disagreement: spread of the model's particles for the bodies that the robot does not "
        "steer, mean over a plan; a model with one particle has none. Intervals and verdicts as for the regret."
    )
    return ReportSection(
        "exploitation",
        "Is the model exploited?",
        f"{_answer_exploitation(exploitations)} Right of zero, plans cost more than predicted; the model is exploited where chosen "
        "plans exceed random ones.",
        columns,
        cells,
        flatten_records(exploitations),
        [figure],
        definitions,
    )


def _answer_exploitation(exploitations: Sequence[Exploitation]) -> str:
    exploited = [item for item in exploitations if item.excess_gap.is_significant and item.excess_gap.value > 0]
    if not exploited:
        return "Not shown: no method's chosen plans exceed their predicted cost by significantly more than random plans."
    texts = [f"{item.method} by {item.excess_gap.value:.2f} m" for item in exploited]
    return f"Yes: chosen plans exceed their predicted cost by more than random plans, with {', '.join(texts)}."


def build_predicted_violations_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    """Plot predicted and realised violations of audited plans by kind; None where no plan was audited."""
    violations = compute_predicted_violations(results)
    if not violations:
        return None
    kinds = dict.fromkeys(item.kind for item in violations)
    columns = ("plans that lead to", "method", "plans", "predicted", "realised", "missed", "false alarms")
    cells = [
        (
            format_kind(item.kind),
            item.method,
            str(item.num_plans),
            *map(format_percent_interval, (item.predicted_share, item.realised_share, item.missed_share, item.false_alarm_share)),
        )
        for item in violations
    ]
    contact_note = (
        f"Models predict no forces: {format_kind(CONTACT_VIOLATION)} stands for hard contact with a static body and counts plans "
        "in which a robot or load comes within 5 mm of one. "
    )
    definitions = (
        "Of every tenth chosen plan, run to its end in the true simulator: whether it leads to a violation before it reaches the "
        "goal, and whether it does in the model. With several particles the predicted share is their mean; missed and false alarms "
        "count what most particles predict. "
        + (contact_note if CONTACT_VIOLATION in kinds else "")
        + "In episodes plans are made anew at every step; their violations are below. Intervals: bootstrap over trainings and "
        "episodes."
    )
    return ReportSection(
        "predicted-violations",
        "Are violations predicted?",
        f"{_answer_predicted_violations(violations)} Predicted beside realised violations of the same plans.",
        columns,
        cells,
        flatten_records(violations),
        [_make_predicted_violations_figure([item for item in violations if item.kind == kind]) for kind in kinds],
        definitions,
    )


def _answer_predicted_violations(violations: Sequence[PredictedViolations]) -> str:
    missed = [100 * item.missed_share[0] for item in violations if not math.isnan(item.missed_share[0])]
    if not missed:
        return "Unknown: no audited plan led to a violation."
    if max(missed) == 0:
        return "Yes: every violation of an audited plan was predicted."
    low, high = (f"{end:.0f}" for end in (min(missed), max(missed)))
    shares = low if low == high else f"{low} to {high}"
    return f"Not all: of the plans that lead to a violation, {shares} % are missed, by method and kind."


def _make_predicted_violations_figure(violations: Sequence[PredictedViolations]) -> go.Figure:
    """Make the figure of one kind."""
    figure = go.Figure()
    labels = [escape_label(f"{item.method} ({item.num_plans})") for item in violations]
    for name, colour, symbol in (("predicted", "#2563eb", "circle"), ("realised", FAILURE_COLOUR, "diamond")):
        intervals = [tuple(100 * end for end in getattr(item, f"{name}_share")) for item in violations]
        figure.add_scatter(**make_interval_trace(intervals, labels, name, colour, symbol), offsetgroup=name)
    figure.update_layout(scattermode="group", height=130 + 50 * len(labels), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title=f"plans that lead to: {format_kind(violations[0].kind)} [%]", rangemode="tozero")
    return figure


def build_plan_costs_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    """Plot predicted against realised costs by episode; None where no plan was audited."""
    results = [result for result in results if result.predicted_cost is not None and result.realised_cost is not None]
    if not results:
        return None
    groups = group_results(results, "method")
    cells = []
    for method, group in groups.items():
        costs = np.array([_get_plan_costs(result) for result in group])
        medians = np.median(np.column_stack([costs, costs[:, 1] - costs[:, 0]]), 0)
        cells.append((method, str(len(group)), *(format_number(value, 2).replace("-", "−") for value in medians)))
    records = [
        {name: getattr(result, name) for name in PLAN_COST_NAMES}
        | dict(zip(("predicted_m", "realised_m"), _get_plan_costs(result), strict=True))
        for result in results
    ]
    definitions = (
        "Of every tenth chosen plan, run to its end in the true simulator; means over an episode, and here medians over episodes. "
        "The file has one row per episode."
    )
    return ReportSection(
        "plan-costs",
        "Predicted and realised cost",
        "One dot per episode of a method that plans. On the line both costs agree.",
        ("method", "episodes", "predicted [m]", "realised [m]", "realised − predicted [m]"),
        cells,
        records,
        [_make_plan_costs_figure(groups)],
        definitions,
    )


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
                x=predicted,
                y=realised,
                name=f"{escape_label(method)}, {outcome}",
                mode="markers",
                marker={"color": colour, "size": 8, "opacity": 0.7, "symbol": symbol},
                customdata=[f"{escape_label(item.split_label)} {item.index}, seed {item.seed}" for item in shown],
                hovertemplate="%{customdata}: predicted %{x:.2f} m, realised %{y:.2f} m",
            )
    figure.update_layout(height=460)
    figure.update_xaxes(title="predicted cost [m]")
    figure.update_yaxes(title="realised cost [m]")
    return figure
