"""Success by arm and split as a plot: without violation first, success in all fainter behind it."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from experiments.report.measured import Measured
from experiments.report.plots import FAINT, arm_colours, dots, label
from experiments.report.summary import Row, Summary, summarise

ROW_PX = 17  # height of one interval


def measured(rows: Sequence[Row]) -> Measured:
    summaries = summarise(rows)
    columns = ("split", "arm", "episodes", "without violation", "success")
    cells = [(one.split, one.agent, str(one.episodes), str(one.clean), str(one.success)) for one in summaries]
    records = [_record(one) for one in summaries]
    says = "Solid: episodes solved without violation, with 95 % intervals of each arm's own episodes; faint ring: solved."
    arms = list(dict.fromkeys(one.agent for one in summaries))
    return Measured("success", "Success by arm", says, [_figure(summaries)], columns, cells, records, arms=arms)


def _record(one: Summary) -> dict[str, Any]:
    rates = {**one.clean.record("clean"), **one.success.record("success")}
    return {"split": one.split, "agent": one.agent, "episodes": one.episodes, **rates}


def _figure(summaries: Sequence[Summary]) -> go.Figure:
    """Splits down the side, one interval per arm and split."""
    arms = list(dict.fromkeys(summary.agent for summary in summaries))
    splits = list(dict.fromkeys(summary.split for summary in summaries))
    figure = go.Figure()
    for arm, colour in zip(arms, arm_colours(arms), strict=True):
        own = [summary for summary in summaries if summary.agent == arm]
        at = [_tick(summary.split) for summary in own]
        told = {
            "customdata": [
                f"{label(arm)}: {one.clean} without violation, {one.success} solved, of {one.episodes}" for one in own
            ],
            "hovertemplate": "%{customdata}<extra></extra>",
            "offsetgroup": label(arm),
        }
        clean = [[100 * end for end in (one.clean.value, *one.clean.interval)] for one in own]
        ring = {"color": colour, "size": 9, "symbol": "circle-open", "opacity": 0.45}
        solved = [100 * one.success.value for one in own]
        figure.add_scatter(x=solved, y=at, mode="markers", orientation="h", name=label(arm), marker=ring, **told)
        figure.add_scatter(**{**dots(clean, at, label(arm), colour), **told})
    figure.update_layout(
        scattermode="group", scattergap=0.25, showlegend=False, height=70 + len(splits) * (len(arms) * ROW_PX + 14)
    )
    figure.update_xaxes(title="episodes [%]", range=[-2, 102])
    ticks = [_tick(split) for split in splits]
    figure.update_yaxes(categoryorder="array", categoryarray=ticks, range=[len(splits) - 0.5, -0.5], showgrid=False)
    for border in range(1, len(splits)):
        figure.add_hline(y=border - 0.5, line_color=FAINT, line_width=1)
    return figure


def _tick(split: str) -> str:
    """A split's name in two short lines."""
    return label(split).replace("shift-", "shift-<br>", 1)
