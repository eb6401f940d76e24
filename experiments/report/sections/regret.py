"""What planners' episodes cost more than the best known way, and where that comes from."""

from collections.abc import Sequence

import plotly.graph_objects as go

from experiments.report.measured import Measured, flats
from experiments.report.pairs import Difference, between
from experiments.report.plots import dots, label
from experiments.report.regret import BOTH, MODEL, REST, SEARCH, regrets
from experiments.report.summary import Row

PART_COLOURS = {MODEL: "#dc2626", SEARCH: "#d97706", BOTH: "#be5a3c", REST: "#9ca3af"}


def measured(rows: Sequence[Row]) -> Measured | None:
    found = regrets(rows)
    if not found:
        return None
    figure, arms = go.Figure(), [label(f"{regret.agent} ({regret.episodes})") for regret in found]
    names = [name for name in PART_COLOURS if any(name in regret.parts for regret in found)]
    for name in names:
        own = [regret.parts.get(name) for regret in found]
        figure.add_bar(
            x=[part.value if part else None for part in own],
            y=arms,
            orientation="h",
            name=name,
            marker_color=PART_COLOURS[name],
            hovertemplate=f"{name}: %{{x:.2f}} m",
        )
    figure.add_scatter(**dots([regret.total for regret in found], arms, "sum", "#1c2530"))
    figure.update_layout(barmode="relative", height=110 + 46 * len(arms), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="above the best known way [m]")
    columns = ("arm", "episodes", "trainings", "regret [m]", *(f"{name} [m]" for name in names), "same budget", "largest search")
    cells = [
        (
            regret.agent,
            str(regret.episodes),
            str(regret.trainings),
            between(*regret.total),
            *(_part(regret.parts.get(name), name) for name in names),
            regret.twin or "none",
            regret.reference,
        )
        for regret in found
    ]
    says = (
        "What each planner's episodes cost more than the best known way, and how much of that its model and its search explain."
    )
    how = (
        "An episode costs the metres to go, mean over all the steps that it may have; nothing from its success on. The best "
        "known way is the cheapest of all arms in that episode. Model error: the arm against the true dynamics with the same "
        "search and budget; search error: that against the largest search on the true dynamics; the rest: that against the "
        "best known way. The parts add up. Without an oracle of the same budget, model and search cannot be told apart; "
        "without one of a larger budget that met as many episodes, the search error is in the rest. Episodes that all of them "
        "played; 95 % intervals from a paired bootstrap over trainings and episodes; no difference shown where the signed-rank "
        "test leaves more than 5 % to chance or the interval holds zero, with the smallest mean difference that so many episodes "
        "would have shown in four of five samples."
    )
    return Measured("regret", "Regret, and where it comes from", says, [figure], columns, cells, flats(found), how)


def _part(part: Difference | None, name: str) -> str:
    return "–" if part is None else f"{part}" if name == REST else f"{part}, {part.verdict()}"
