"""Whether planners know when their plans touch something."""

from collections.abc import Sequence

import plotly.graph_objects as go

from experiments.report.measured import Measured, flats, percents
from experiments.report.measures import touching
from experiments.report.plots import dots, label
from experiments.report.summary import Row


def measured(rows: Sequence[Row]) -> Measured | None:
    found = touching(rows)
    if not found:
        return None
    figure, arms = go.Figure(), [label(f"{one.agent} ({one.plans})") for one in found]
    for name, colour, symbol in (("predicted", "#2563eb", "circle"), ("realised", "#dc2626", "diamond")):
        word = {"predicted": "foreseen", "realised": "happened"}[name]
        intervals = [tuple(100 * end for end in getattr(one, name)) for one in found]
        figure.add_scatter(**dots(intervals, arms, word, colour, symbol), offsetgroup=name)
    figure.update_layout(scattermode="group", height=130 + 50 * len(arms), yaxis={"autorange": "reversed"})
    figure.update_xaxes(title="plans that touch racks or walls [%]", rangemode="tozero")
    columns = ("arm", "plans", "foreseen", "happened", "of these not foreseen", "foreseen in vain")
    cells = [
        (one.agent, str(one.plans), *map(percents, (one.predicted, one.realised, one.missed, one.needless))) for one in found
    ]
    says = "Whether planners know when their plans touch racks or walls: foreseen beside what happened to the same plans."
    how = (
        "Of every tenth chosen plan: whether, before it reaches the goal, the outline of a mover comes within 5 mm of "
        "what stands still: in the model's imagination, and in the true simulator that carries the plan out. Of states with "
        "hard contact 97 % lie within that distance, of those without contact 0.6 %. Forces are not imagined, so whether a "
        "touch would be a violation cannot be foreseen: those are counted as they happened, below. Intervals: bootstrap over "
        "trainings and episodes."
    )
    return Measured("touching", "Are collisions foreseen?", says, [figure], columns, cells, flats(found), how)
