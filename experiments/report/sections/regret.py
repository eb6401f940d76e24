"""Regret of planners, and its parts."""

from collections.abc import Sequence
from functools import partial

import plotly.graph_objects as go

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import escape_label, make_interval_trace
from experiments.report.measures.regret import (
    MODEL_AND_SEARCH_ERROR,
    MODEL_ERROR,
    REMAINDER,
    SEARCH_ERROR,
    Regret,
    compute_regrets,
)
from experiments.report.sections.section import Columns, ReportSection

PART_COLOURS = {MODEL_ERROR: "#dc2626", SEARCH_ERROR: "#d97706", MODEL_AND_SEARCH_ERROR: "#be5a3c", REMAINDER: "#9ca3af"}
DEFINITIONS = (
    "The best known solution is the cheapest of all methods in an episode. Model error: the method against the true dynamics "
    "with the same search and budget. Search error: that against the largest search on the true dynamics. The rest: that "
    "against the best known solution. Without an oracle of the same budget, model and search error are one part; without a "
    "larger oracle, the search error is in the rest. Over the episodes that all of them ran; 95 % intervals from a bootstrap. "
    "No difference is shown where the signed-rank test gives p > 0.05 or the interval holds zero."
)


def build_regret_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    """Plot the regret of every planner on a learned model; None where no oracle ran."""
    regrets = compute_regrets(results)
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
    caption = "Cost of each planner's episodes above the best known solution, and the parts that its model and search explain."
    return ReportSection("regret", "Regret and its parts", caption, columns, regrets, [figure], DEFINITIONS)


def _format_part(name: str, regret: Regret) -> str:
    part = regret.parts.get(name)
    return "–" if part is None else f"{part}" if name == REMAINDER else f"{part}, {part.format_verdict()}"
