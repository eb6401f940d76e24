"""Whether planners know when their plans lead to a violation."""

from collections.abc import Sequence

import plotly.graph_objects as go

from experiments.evaluation.plan_audit import CONTACT_VIOLATION
from experiments.report.measured import ReportSection, flatten_records, format_percent_interval
from experiments.report.measures import PredictedViolations, compute_predicted_violations
from experiments.report.plots import escape_label, make_interval_trace
from experiments.report.summary import EpisodeResult

KIND_NAMES = {CONTACT_VIOLATION: "touching racks or walls"}


def build_predicted_violations_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    violations = compute_predicted_violations(results)
    if not violations:
        return None
    figures = [
        _make_predicted_violations_figure([violation for violation in violations if violation.kind == kind])
        for kind in dict.fromkeys(violation.kind for violation in violations)
    ]
    columns = ("plans that lead to", "arm", "plans", "foreseen", "happened", "of these not foreseen", "foreseen in vain")
    cells = [
        (
            _format_kind(violation.kind),
            violation.method,
            str(violation.num_plans),
            *map(
                format_percent_interval,
                (violation.predicted_share, violation.realised_share, violation.missed_share, violation.false_alarm_share),
            ),
        )
        for violation in violations
    ]
    caption = "Whether planners know when their plans lead to a violation: foreseen beside what happened to the same plans."
    definitions = (
        "Of every tenth chosen plan, carried out to its end in the true simulator: whether it leads to a violation before it "
        "reaches the goal, and whether the model's imagination does; of several futures, in which share of them, and what most "
        "of them foresee counts as foreseen in the last two columns. Told for what poses alone tell. "
        "Forces are not imagined, so instead of hard contacts with what stands still those plans are counted in which the "
        "outline of a mover comes within 5 mm of it: of states with hard contact 97 % lie within that distance, of those without "
        "contact 0.6 %. Violations as they happened in episodes, in which plans are made anew in each step, are below. "
        "Intervals: bootstrap over trainings and episodes."
    )
    return ReportSection(
        "foreseen", "Are violations foreseen?", caption, figures, columns, cells, flatten_records(violations), definitions
    )


def _make_predicted_violations_figure(violations: Sequence[PredictedViolations]) -> go.Figure:
    """Of one kind."""
    figure, labels = go.Figure(), [escape_label(f"{violation.method} ({violation.num_plans})") for violation in violations]
    for name, legend_name, colour, symbol in (
        ("expected", "foreseen", "#2563eb", "circle"),
        ("realised", "happened", "#dc2626", "diamond"),
    ):
        intervals = [tuple(100 * end for end in getattr(violation, name)) for violation in violations]
        figure.add_scatter(**make_interval_trace(intervals, labels, legend_name, colour, symbol), offsetgroup=name)
    figure.update_layout(scattermode="group", height=130 + 50 * len(labels), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title=f"plans that lead to: {_format_kind(violations[0].kind)} [%]", rangemode="tozero")
    return figure


def _format_kind(kind: str) -> str:
    return KIND_NAMES.get(kind, kind.replace("_", " "))
