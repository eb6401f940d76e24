"""Regret of planners, and its parts."""

from collections.abc import Sequence
from functools import partial

import plotly.graph_objects as go

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import escape_label, make_interval_trace
from experiments.report.measures import regret as measures
from experiments.report.sections.section import Columns, ReportSection

PART_COLOURS = {
    measures.MODEL_ERROR: "#dc2626",
    measures.SEARCH_ERROR: "#d97706",
    measures.MODEL_AND_SEARCH_ERROR: "#be5a3c",
    measures.REMAINDER: "#9ca3af",
}


def build_regret_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    """Plot the regret of every planner on a learned model; None where no oracle ran."""
    regrets = measures.compute_regrets(results)
    if not regrets:
        return None
    figure = go.Figure()
    labels = [escape_label(f"{regret.method} ({regret.episodes})") for regret in regrets]
    part_names = [name for name in PART_COLOURS if any(name in regret.parts for regret in regrets)]
    for name in part_names:
        parts = [regret.parts.get(name) for regret in regrets]
        figure.add_bar(
            x=[part.value if part else None for part in parts], y=labels, orientation="h", name=name,
            marker_color=PART_COLOURS[name], hovertemplate=f"{name}: %{{x:.2f}} m",
        )  # fmt: skip
    figure.add_scatter(**make_interval_trace([regret.total for regret in regrets], labels, "sum", "#1c2530"))
    figure.update_layout(barmode="relative", height=110 + 46 * len(labels), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="regret [m]")
    columns: Columns = {
        "method": "method", "episodes": "episodes", "trainings": "trainings", "regret [m]": "total",
        **{f"{name} [m]": partial(_format_part, name) for name in part_names},
        "oracle, same budget": lambda regret: regret.matched_oracle or "none", "oracle, largest search": "largest_oracle",
    }  # fmt: skip
    return ReportSection("regret", columns, regrets, [figure])


def _format_part(name: str, regret: measures.Regret) -> str:
    part = regret.parts.get(name)
    if part is None:
        return "–"
    return f"{part}" if name == measures.REMAINDER else f"{part}, {part.format_verdict()}"
