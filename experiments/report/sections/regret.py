"""What planners' episodes cost more than the best known way, and where that comes from."""

from collections.abc import Sequence

import plotly.graph_objects as go

from experiments.report.measured import ReportSection, flatten_records
from experiments.report.pairs import Difference, format_interval
from experiments.report.plots import escape_label, make_interval_trace
from experiments.report.regret import MODEL_AND_SEARCH_ERROR, MODEL_ERROR, REMAINDER, SEARCH_ERROR, compute_regrets
from experiments.report.summary import EpisodeResult

REGRET_PART_COLOURS = {MODEL_ERROR: "#dc2626", SEARCH_ERROR: "#d97706", MODEL_AND_SEARCH_ERROR: "#be5a3c", REMAINDER: "#9ca3af"}


def build_regret_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    regrets = compute_regrets(results)
    if not regrets:
        return None
    figure, labels = go.Figure(), [escape_label(f"{regret.method} ({regret.episodes})") for regret in regrets]
    part_names = [name for name in REGRET_PART_COLOURS if any(name in regret.parts for regret in regrets)]
    for name in part_names:
        parts = [regret.parts.get(name) for regret in regrets]
        figure.add_bar(
            x=[part.value if part else None for part in parts],
            y=labels,
            orientation="h",
            name=name,
            marker_color=REGRET_PART_COLOURS[name],
            hovertemplate=f"{name}: %{{x:.2f}} m",
        )
    figure.add_scatter(**make_interval_trace([regret.total for regret in regrets], labels, "sum", "#1c2530"))
    figure.update_layout(barmode="relative", height=110 + 46 * len(labels), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="above the best known way [m]")
    columns = (
        "arm",
        "episodes",
        "trainings",
        "regret [m]",
        *(f"{name} [m]" for name in part_names),
        "same budget",
        "largest search",
    )
    cells = [
        (
            regret.method,
            str(regret.episodes),
            str(regret.trainings),
            format_interval(*regret.total),
            *(_format_part(regret.parts.get(name), name) for name in part_names),
            regret.matched_oracle or "none",
            regret.largest_oracle,
        )
        for regret in regrets
    ]
    caption = (
        "What each planner's episodes cost more than the best known way, and how much of that its model and its search explain."
    )
    definitions = (
        "An episode costs the metres to go, mean over all the steps that it may have; nothing from its success on. The best "
        "known way is the cheapest of all arms in that episode. Model error: the arm against the true dynamics with the same "
        "search and budget; search error: that against the largest search on the true dynamics; the rest: that against the "
        "best known way. The parts add up. Without an oracle of the same budget, model and search cannot be told apart; "
        "without one of a larger budget that met as many episodes, the search error is in the rest. Episodes that all of them "
        "played; 95 % intervals from a paired bootstrap over trainings and episodes; no difference shown where the signed-rank "
        "test leaves more than 5 % to chance or the interval holds zero, with the smallest mean difference that so many episodes "
        "would have shown in four of five samples."
    )
    return ReportSection(
        "regret", "Regret, and where it comes from", caption, [figure], columns, cells, flatten_records(regrets), definitions
    )


def _format_part(part: Difference | None, name: str) -> str:
    return "–" if part is None else f"{part}" if name == REMAINDER else f"{part}, {part.format_verdict()}"
