"""The tables of results, their plot and paired differences, indicators, and open-loop errors."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from experiments.report.figures.plots import GRID_COLOUR, escape_label, make_interval_trace, render_plot
from experiments.report.measures import summary as measures
from experiments.report.measures.comparison import ALL_SPLITS, COMPARISON_COLUMNS, Comparison, compare_methods
from experiments.report.measures.formats import format_interval, format_number, make_interval_record
from experiments.report.sections import section
from sim.scenes.scene import scenes

INTERVAL_HEIGHT_PX = 17
OpenLoopRecord = Mapping[str, Any]  # fields of an OpenLoopError
ERROR_COLUMNS = (  # heading, field, digits
    ("horizon [s]", "horizon_s", 1),
    ("n", "n", 0),
    ("{noun}, median [mm]", "body_mm_median", 1),
    ("{noun}, p90 [mm]", "body_mm_p90", 1),
    ("{noun} yaw, median [°]", "body_deg_median", 1),
    ("robot, median [mm]", "robot_mm_median", 1),
    ("robot yaw, median [°]", "robot_deg_median", 1),
    ("{noun} moved, median [m]", "moved_m_median", 2),
    ("disagreement [mm]", "disagreement_mm", 1),
)


def render_results_section(results: measures.Results, command: str) -> str:
    """Render a table of every method for every split."""
    tables = []
    for split, summaries in measures.group_results(measures.summarise(results), "split_label").items():
        table = section.render_table(measures.SUMMARY_COLUMNS, [summary.cells for summary in summaries])
        tables.append(f'<h3>{escape(split)}</h3><div class="even">{table}</div>')
    has_oracle = any(measures.is_oracle(result.method) for result in results)
    oracle_note = " The oracle plans on the true simulator; it is a reference." if has_oracle else ""
    link = section.render_download_link("results", measures.make_summary_records(results), command)
    return section.render_section("results", "".join(tables) + link, oracle=oracle_note)


def build_success_section(results: measures.Results, colours: Mapping[str, str]) -> section.ReportSection:
    """Plot the rates of every method on every split."""
    summaries = measures.summarise(results)
    columns: section.Columns = {"split": "split_label", **section.RATE_COLUMNS}
    records = []
    for summary in summaries:
        record: dict[str, Any] = {name: getattr(summary, name) for name in ("split", "method", "episodes")}
        for outcome in measures.OUTCOMES:
            record |= getattr(summary, outcome).make_record(outcome)
        records.append(record)
    figures = [_make_success_figure(summaries, colours)]
    legend = section.select_legend(results, colours)
    return section.ReportSection("success", columns, summaries, figures, legend, records)


def _make_success_figure(summaries: Sequence[measures.Summary], colours: Mapping[str, str]) -> go.Figure:
    """Make a figure with splits down the side, and one interval per method and split."""
    groups = measures.group_results(summaries, "method")
    ticks = list(dict.fromkeys(map(_format_tick, summaries)))
    figure = go.Figure()
    for method, group in groups.items():
        y = list(map(_format_tick, group))
        name = escape_label(method)
        rates = [f"{summary.safe_success} safe success, {summary.success} success" for summary in group]
        hover_texts = [f"{name}: {text}, of {summary.episodes}" for text, summary in zip(rates, group, strict=True)]
        shared = {"customdata": hover_texts, "hovertemplate": "%{customdata}<extra></extra>", "offsetgroup": name}
        ring = {"color": colours[method], "size": 9, "symbol": "circle-open", "opacity": 0.45}
        success = [100 * summary.success.value for summary in group]
        figure.add_scatter(x=success, y=y, mode="markers", orientation="h", name=name, marker=ring, **shared)
        intervals = [[100 * end for end in summary.safe_success.value_and_interval] for summary in group]
        figure.add_scatter(**{**make_interval_trace(intervals, y, name, colours[method]), **shared})
    height = 70 + len(ticks) * (len(groups) * INTERVAL_HEIGHT_PX + 14)
    figure.update_layout(scattermode="group", scattergap=0.25, showlegend=False, height=height)
    figure.update_xaxes(title="episodes [%]", range=[-2, 102])
    figure.update_yaxes(categoryorder="array", categoryarray=ticks, range=[len(ticks) - 0.5, -0.5], showgrid=False)
    for border in range(1, len(ticks)):
        figure.add_hline(y=border - 0.5, line_color=GRID_COLOUR, line_width=1)
    return figure


def _format_tick(summary: measures.Summary) -> str:
    """Format a split's name in two short lines."""
    return escape_label(summary.split_label).replace("shift-", "shift-<br>", 1)


def render_differences_section(results: measures.Results, command: str) -> str:
    """Render the differences over all splits, and those of each split in a table that opens."""
    comparisons = compare_methods(results)
    if not comparisons:
        return ""
    pooled = _render_comparisons([item for item in comparisons if item.split == ALL_SPLITS])
    by_split = _render_comparisons([item for item in comparisons if item.split != ALL_SPLITS])
    details = f"<details><summary>By split</summary>{by_split}</details>"
    link = section.render_download_link("differences", list(map(_make_comparison_record, comparisons)), command)
    return section.render_section("differences", pooled + details + link)


def _render_comparisons(comparisons: Sequence[Comparison]) -> str:
    table = section.render_table(COMPARISON_COLUMNS, [comparison.cells for comparison in comparisons])
    return f'<div class="compared">{table}</div>'


def _make_comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Make plain values, in percentage points."""
    methods = {"method": comparison.method_a, "other": comparison.method_b}
    record: dict[str, Any] = {"split": comparison.split, **methods, "episodes": comparison.episodes}
    for name, difference in (("safe_success", comparison.safe_success), ("success", comparison.success)):
        record |= make_interval_record(name, difference.interval)
        record |= {f"{name}_{part}": getattr(difference, part) for part in ("min_detectable", "p_value", "is_significant")}
    return record


def render_indicators_section(results: measures.Results, command: str) -> str:
    """Render the scene's own indicators over all splits; nothing where there are none."""
    indicator_set = scenes[results[0].scene].indicators
    groups = measures.group_results(results, "method")
    indicators = {method: measures.compute_indicators(groups[method]) for method in measures.rank_methods(results)}
    if indicator_set is None or not any(indicators.values()):
        return ""
    names = indicator_set.descriptions
    cells = []
    records = []
    for method, values in indicators.items():
        texts = {name: format_interval(*quartiles) for name, quartiles in values.items()}
        cells.append((method, str(len(groups[method])), *(texts.get(name, "–") for name in names)))
        for name, (median, low, high) in values.items():
            records.append({"method": method, "indicator": name, "median": median, "q25": low, "q75": high})
    table = section.render_table(("method", "episodes", *names.values()), cells)
    return section.render_section("indicators", table + section.render_download_link("indicators", records, command))


def render_open_loop_section(errors: Sequence[OpenLoopRecord], scene: str, command: str, colours: Mapping[str, str]) -> str:
    """Render the errors by model and horizon; nothing where none were measured."""
    if not errors:
        return ""
    noun = scenes[scene].dynamic_noun
    columns = ("model", *(heading.format(noun=noun) for heading, _, _ in ERROR_COLUMNS), f"{noun} error / moved")
    plot = render_plot(_make_open_loop_figure(errors, noun, colours), "plot-open-loop-error")
    table = section.render_table(columns, map(_make_cells, errors))
    link = section.render_download_link("open-loop-error", errors, command)
    return section.render_section("open-loop-error", plot + table + link, noun=noun)


def _make_cells(error: OpenLoopRecord) -> tuple[str, ...]:
    numbers = [format_number(error.get(name), digits) for _, name, digits in ERROR_COLUMNS]
    relative = error["body_relative_median"]
    return (error["model"], *numbers, "–" if relative is None else f"{format_number(100 * relative)} %")


def _make_open_loop_figure(errors: Sequence[OpenLoopRecord], noun: str, colours: Mapping[str, str]) -> go.Figure:
    figure = go.Figure()
    for model in dict.fromkeys(error["model"] for error in errors):
        shown = sorted((error for error in errors if error["model"] == model), key=lambda error: error["horizon_s"])
        horizons_s = [error["horizon_s"] for error in shown]
        for name, statistic, dash in (("body_mm_median", "median", "solid"), ("body_mm_p90", "p90", "dot")):
            figure.add_scatter(
                x=horizons_s, y=[error[name] for error in shown], name=f"{escape_label(model)}, {statistic}",
                mode="lines+markers", line={"color": colours[model], "dash": dash, "width": 2},
                hovertemplate="%{y:.0f} mm after %{x:.1f} s",
            )  # fmt: skip
    figure.update_layout(height=340)
    figure.update_xaxes(title="horizon [s]", rangemode="tozero")
    figure.update_yaxes(title=f"position error of the {noun} [mm]", rangemode="tozero")
    return figure
