"""Success by the amount of experience."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from experiments.report.costs import efficiency
from experiments.report.measured import RATES_SAY, Measured, flats
from experiments.report.plots import arm_colours, dotted, line
from experiments.report.summary import Row, number, summarise


def measured(rows: Sequence[Row]) -> Measured | None:
    split = summarise(rows)[0].split
    found = efficiency(rows, split)
    if not found:
        return None
    figure, families = go.Figure(), list(dict.fromkeys(one.family for one in found))
    for name, colour in zip(families, arm_colours(families), strict=True):
        own = [one for one in found if one.family == name]
        x = [one.env_steps for one in own]
        told = [f"{one.agent}: {one.clean}, {one.trainings} trainings" for one in own]
        clean = [(one.clean.value, *one.clean.interval) for one in own]
        figure.add_scatter(**line(x, clean, name, colour), customdata=told)
        figure.add_scatter(**dotted(x, [one.success.value for one in own], colour))
    figure.update_layout(height=340, showlegend=False)
    ticks = [factor * 10**power for power in range(1, 9) for factor in (1, 2, 5)]
    low, high = (math.log10(end([one.env_steps for one in found])) for end in (min, max))
    figure.update_xaxes(title="env steps of experience", type="log", range=[low - 0.2, high + 0.2])
    figure.update_xaxes(tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks], tickangle=0)
    figure.update_yaxes(title=f"episodes of {split} [%]", range=[-3, 103])
    columns = ("arm", "kind", "env steps", "trainings", "episodes", "without violation", "success")
    cells = [
        (
            one.agent,
            one.family,
            number(one.env_steps),
            str(one.trainings),
            str(one.episodes),
            str(one.clean),
            str(one.success),
        )
        for one in found
    ]
    says = f"How much experience each kind of learner needs, on split {split}."
    how = (
        "95 % intervals are Wilson's over spaces, wider where several trainings differ; with one they do not tell what another "
        "training would have given. A model's env steps are those that it trains on; the held-out episodes that choose among its "
        "checkpoints come on top."
    )
    return Measured("efficiency", "Sample efficiency", says + RATES_SAY, [figure], columns, cells, flats(found), how, families)
