"""The tables of results, their plot, and the scene's own indicators."""

from collections.abc import Mapping, Sequence
from html import escape

import plotly.graph_objects as go

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import GRID_COLOUR, escape_label, make_interval_trace
from experiments.report.measures.formats import format_interval
from experiments.report.measures.summary import (
    SUMMARY_COLUMNS,
    SUMMARY_NOTE,
    Summary,
    compute_indicators,
    group_results,
    is_oracle,
    make_summary_records,
    rank_methods,
    summarise,
)
from experiments.report.sections.elements import render_download_link, render_section, render_table
from experiments.report.sections.section import Columns, ReportSection, select_legend
from sim.scenes.scene import scenes

INTERVAL_HEIGHT_PX = 17


def render_results_section(results: Sequence[EpisodeResult], command: str) -> str:
    """Render a table of every method for every split."""
    cells_by_split: dict[str, list[Sequence[str]]] = {}
    for summary in summarise(results):
        cells_by_split.setdefault(summary.split_label, []).append(summary.cells)
    tables = "".join(
        f'<h3>{escape(split)}</h3><div class="even">{render_table(SUMMARY_COLUMNS, cells)}</div>'
        for split, cells in cells_by_split.items()
    )
    has_oracle = any(is_oracle(result.method) for result in results)
    caption = SUMMARY_NOTE + (" The oracle plans on the true simulator; it is a reference." if has_oracle else "")
    return render_section("Results", caption, tables + render_download_link("results", make_summary_records(results), command))


def build_success_section(results: Sequence[EpisodeResult], colours: Mapping[str, str]) -> ReportSection:
    """Plot the rates of every method on every split."""
    summaries = summarise(results)
    columns: Columns = {
        "split": "split_label", "method": "method", "episodes": "episodes", "safe success": "safe_success", "success": "success"
    }  # fmt: skip
    records = [
        {
            **{name: getattr(summary, name) for name in ("split", "method", "episodes")},
            **summary.safe_success.make_record("safe_success"),
            **summary.success.make_record("success"),
        }
        for summary in summaries
    ]
    caption = "Solid: safe success, with 95 % intervals of each method's own episodes; faint ring: success."
    figures = [_make_success_figure(summaries, colours)]
    legend = select_legend(results, colours)
    return ReportSection("success", "Success by method", caption, columns, summaries, figures, "", legend, records)


def _make_success_figure(summaries: Sequence[Summary], colours: Mapping[str, str]) -> go.Figure:
    """Make a figure with splits down the side, and one interval per method and split."""
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    ticks = list(dict.fromkeys(_format_tick(summary) for summary in summaries))
    figure = go.Figure()
    for method in methods:
        method_summaries = [summary for summary in summaries if summary.method == method]
        y = [_format_tick(summary) for summary in method_summaries]
        name = escape_label(method)
        hover_texts = [
            f"{name}: {summary.safe_success} safe success, {summary.success} success, of {summary.episodes}"
            for summary in method_summaries
        ]
        shared = {"customdata": hover_texts, "hovertemplate": "%{customdata}<extra></extra>", "offsetgroup": name}
        ring = {"color": colours[method], "size": 9, "symbol": "circle-open", "opacity": 0.45}
        success = [100 * summary.success.value for summary in method_summaries]
        figure.add_scatter(x=success, y=y, mode="markers", orientation="h", name=name, marker=ring, **shared)
        intervals = [[100 * end for end in summary.safe_success.value_and_interval] for summary in method_summaries]
        figure.add_scatter(**{**make_interval_trace(intervals, y, name, colours[method]), **shared})
    height = 70 + len(ticks) * (len(methods) * INTERVAL_HEIGHT_PX + 14)
    figure.update_layout(scattermode="group", scattergap=0.25, showlegend=False, height=height)
    figure.update_xaxes(title="episodes [%]", range=[-2, 102])
    figure.update_yaxes(categoryorder="array", categoryarray=ticks, range=[len(ticks) - 0.5, -0.5], showgrid=False)
    for border in range(1, len(ticks)):
        figure.add_hline(y=border - 0.5, line_color=GRID_COLOUR, line_width=1)
    return figure


def _format_tick(summary: Summary) -> str:
    """Format a split's name in two short lines."""
    return escape_label(summary.split_label).replace("shift-", "shift-<br>", 1)


def render_indicators_section(results: Sequence[EpisodeResult], command: str) -> str:
    """Render the scene's own indicators over all splits; nothing where there are none."""
    indicator_set = scenes[results[0].scene].indicators
    groups = group_results(results, "method")
    indicators = {method: compute_indicators(groups[method]) for method in rank_methods(results)}
    if indicator_set is None or not any(indicators.values()):
        return ""
    names = indicator_set.descriptions
    cells = [
        (method, str(len(groups[method])), *(format_interval(*values[name]) if name in values else "–" for name in names))
        for method, values in indicators.items()
    ]
    records = [
        {"method": method, "indicator": name, "median": median, "q25": low, "q75": high}
        for method, values in indicators.items()
        for name, (median, low, high) in values.items()
    ]
    table = render_table(("method", "episodes", *names.values()), cells)
    caption = "Medians over all episodes, solved or not, and the quartiles."
    return render_section("Indicators of the scene", caption, table + render_download_link("indicators", records, command))
