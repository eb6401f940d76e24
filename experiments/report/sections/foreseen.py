"""Whether planners know when their plans lead to a violation."""

from collections.abc import Sequence

import plotly.graph_objects as go

from experiments.evaluation.plan_audit import TOUCHING
from experiments.report.measured import Measured, flats, percents
from experiments.report.measures import Foreseen, foreseen
from experiments.report.plots import dots, label
from experiments.report.summary import Row

WORDS = {TOUCHING: "touching racks or walls"}


def measured(rows: Sequence[Row]) -> Measured | None:
    found = foreseen(rows)
    if not found:
        return None
    plots = [_figure([one for one in found if one.kind == kind]) for kind in dict.fromkeys(one.kind for one in found)]
    columns = ("plans that lead to", "arm", "plans", "foreseen", "happened", "of these not foreseen", "foreseen in vain")
    cells = [
        (
            _words(one.kind),
            one.agent,
            str(one.plans),
            *map(percents, (one.expected, one.realised, one.missed, one.needless)),
        )
        for one in found
    ]
    says = "Whether planners know when their plans lead to a violation: foreseen beside what happened to the same plans."
    how = (
        "Of every tenth chosen plan, carried out to its end in the true simulator: whether it leads to a violation before it "
        "reaches the goal, and whether the model's imagination does; of several futures, in which share of them, and what most "
        "of them foresee counts as foreseen in the last two columns. Told for what poses alone tell. "
        "Forces are not imagined, so instead of hard contacts with what stands still those plans are counted in which the "
        "outline of a mover comes within 5 mm of it: of states with hard contact 97 % lie within that distance, of those without "
        "contact 0.6 %. Violations as they happened in episodes, in which plans are made anew in each step, are below. "
        "Intervals: bootstrap over trainings and episodes."
    )
    return Measured("foreseen", "Are violations foreseen?", says, plots, columns, cells, flats(found), how)


def _figure(found: Sequence[Foreseen]) -> go.Figure:
    """Of one kind."""
    figure, arms = go.Figure(), [label(f"{one.agent} ({one.plans})") for one in found]
    for name, word, colour, symbol in (
        ("expected", "foreseen", "#2563eb", "circle"),
        ("realised", "happened", "#dc2626", "diamond"),
    ):
        intervals = [tuple(100 * end for end in getattr(one, name)) for one in found]
        figure.add_scatter(**dots(intervals, arms, word, colour, symbol), offsetgroup=name)
    figure.update_layout(scattermode="group", height=130 + 50 * len(arms), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title=f"plans that lead to: {_words(found[0].kind)} [%]", rangemode="tozero")
    return figure


def _words(kind: str) -> str:
    return WORDS.get(kind, kind.replace("_", " "))
