"""Success by arm and split as a plot: without violation first, success in all fainter behind it."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from experiments.report.measured import ReportSection
from experiments.report.plots import GRID_COLOUR, escape_label, get_method_colours, make_interval_trace
from experiments.report.summary import EpisodeResult, Summary, summarise

INTERVAL_HEIGHT_PX = 17  # height of one interval


def build_success_section(results: Sequence[EpisodeResult]) -> ReportSection:
    summaries = summarise(results)
    columns = ("split", "arm", "episodes", "without violation", "success")
    cells = [
        (summary.split, summary.method, str(summary.episodes), str(summary.safe_success), str(summary.success))
        for summary in summaries
    ]
    records = [_make_success_record(summary) for summary in summaries]
    caption = "Solid: episodes solved without violation, with 95 % intervals of each arm's own episodes; faint ring: solved."
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    return ReportSection(
        "success", "Success by arm", caption, [_make_success_figure(summaries)], columns, cells, records, legend_methods=methods
    )


def _make_success_record(summary: Summary) -> dict[str, Any]:
    rates = {**summary.safe_success.make_record("clean"), **summary.success.make_record("success")}
    return {"split": summary.split, "agent": summary.method, "episodes": summary.episodes, **rates}


def _make_success_figure(summaries: Sequence[Summary]) -> go.Figure:
    """Splits down the side, one interval per arm and split."""
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    splits = list(dict.fromkeys(summary.split for summary in summaries))
    figure = go.Figure()
    for method, colour in zip(methods, get_method_colours(methods), strict=True):
        method_summaries = [summary for summary in summaries if summary.method == method]
        tick_positions = [_format_tick(summary.split) for summary in method_summaries]
        hover = {
            "customdata": [
                f"{escape_label(method)}: {summary.safe_success} without violation, {summary.success} solved, of {summary.episodes}"
                for summary in method_summaries
            ],
            "hovertemplate": "%{customdata}<extra></extra>",
            "offsetgroup": escape_label(method),
        }
        safe_success_intervals = [
            [100 * end for end in (summary.safe_success.value, *summary.safe_success.interval)] for summary in method_summaries
        ]
        ring_marker = {"color": colour, "size": 9, "symbol": "circle-open", "opacity": 0.45}
        success_rates = [100 * summary.success.value for summary in method_summaries]
        figure.add_scatter(
            x=success_rates,
            y=tick_positions,
            mode="markers",
            orientation="h",
            name=escape_label(method),
            marker=ring_marker,
            **hover,
        )
        figure.add_scatter(
            **{**make_interval_trace(safe_success_intervals, tick_positions, escape_label(method), colour), **hover}
        )
    figure.update_layout(
        scattermode="group", scattergap=0.25, showlegend=False, height=70 + len(splits) * (len(methods) * INTERVAL_HEIGHT_PX + 14)
    )
    figure.update_xaxes(title="episodes [%]", range=[-2, 102])
    ticks = [_format_tick(split) for split in splits]
    figure.update_yaxes(categoryorder="array", categoryarray=ticks, range=[len(splits) - 0.5, -0.5], showgrid=False)
    for border in range(1, len(splits)):
        figure.add_hline(y=border - 0.5, line_color=GRID_COLOUR, line_width=1)
    return figure


def _format_tick(split: str) -> str:
    """A split's name in two short lines."""
    return escape_label(split).replace("shift-", "shift-<br>", 1)
