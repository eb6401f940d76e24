"""A section of the report: plots, numbers in a table that opens, and the same numbers as a file.

Headings and captions are those of `sections.toml`; every text is escaped.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go

from experiments.report.figures.plots import make_rate_trace, render_plot
from experiments.report.measures import formats
from experiments.report.measures.paired_scores import Difference
from experiments.report.measures.summary import Rate, Results, group_results, rank_methods

TEXTS = tomllib.loads((Path(__file__).parents[1] / "sections.toml").read_text("utf-8"))
Columns = Mapping[str, str | Callable[[Any], str]]  # heading: attribute of an item, or text from it
RATE_COLUMNS: Columns = {
    "method": "method", "episodes": "episodes", "safe success": "safe_success", "success": "success"
}  # fmt: skip


@dataclass(frozen=True)
class ReportSection:
    """A section, ready to be rendered."""

    name: str  # of its texts, its figures and its file
    columns: Columns
    items: Sequence[Any]  # rows of the table
    figures: Sequence[go.Figure] = ()
    legend: Mapping[str, str] = field(default_factory=dict)  # colours by method
    records: Sequence[Mapping[str, Any]] | None = None  # of the file; None: the items
    facts: Mapping[str, str] = field(default_factory=dict)  # for the placeholders of its texts


def render_report_section(section: ReportSection | None, command: str) -> str:
    """Render a section; nothing where there is none."""
    if section is None:
        return ""
    plots = "".join(render_plot(figure, f"plot-{section.name}-{i}") for i, figure in enumerate(section.figures))
    legend = render_legend(section.legend) if section.legend else ""
    definitions = _render_note(section.name, "definitions", section.facts)
    cells = [[format_cell(value, item) for value in section.columns.values()] for item in section.items]
    records = [flatten_record(item) for item in section.items] if section.records is None else section.records
    table = render_table(section.columns, cells) + render_download_link(section.name, records, command)
    details = f"<details><summary>Numbers and their definitions</summary>{definitions}{table}</details>"
    return render_section(section.name, legend + plots + details, **section.facts)


def render_section(name: str, content: str, **facts: object) -> str:
    """Render a card of the page, with facts in the placeholders of its caption."""
    heading = escape(TEXTS[name]["heading"])
    return f"<section><h2>{heading}</h2>{_render_note(name, 'caption', facts)}{content}</section>"


def _render_note(name: str, part: str, facts: Mapping[str, object]) -> str:
    text = TEXTS[name].get(part, "").format(**facts)
    return f'<p class="note">{escape(text)}</p>' if text else ""


def render_table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Render a table that scrolls sideways."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def render_legend(colours: Mapping[str, str]) -> str:
    """Render a legend of methods; plotly's own would be cut off on a phone."""
    items = (f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in colours.items())
    return f'<div class="legend">{"".join(items)}</div>'


def render_download_link(name: str, records: Sequence[Mapping[str, Any]], command: str) -> str:
    """Render a link to a section's numbers as a file, and the command that makes them."""
    content = quote(formats.format_csv(records))
    link = f'<a download="{name}.csv" href="data:text/csv;charset=utf-8,{content}">CSV</a>'
    return f'<p class="note">As a file: {link}. Made with <code class="command">{escape(command)}</code></p>'


def format_cell(column: str | Callable[[Any], str], item: Any) -> str:
    """Format a cell: the result of a function, or an attribute by its type."""
    value = column(item) if callable(column) else getattr(item, column)
    if isinstance(value, tuple):
        return formats.format_interval(*value)
    if isinstance(value, int | float):
        return formats.format_number(value, 2 * isinstance(value, float))
    return str(value)


def select_legend(results: Results, colours: Mapping[str, str]) -> dict[str, str]:
    """Select the colours of the methods of some results, in their order."""
    return {method: colours[method] for method in rank_methods(results)}


def make_rates_figure(
    items: Sequence[Any], line_name: str, x_name: str, colours: Mapping[str, str], title: str, y_title: str = "episodes [%]"
) -> go.Figure:
    """Make a figure of rates over a quantity.

    Args:
        items: with the rates `safe_success` and `success`.
        line_name: attribute that is equal along a line, and its name.
        x_name: attribute of the quantity.
    """
    figure = go.Figure()
    for name, points in group_results(items, line_name).items():
        x = [getattr(point, x_name) for point in points]
        hover_texts = [f"{point.method}: {point.safe_success} of {point.safe_success.total}" for point in points]
        rates = [point.safe_success.value_and_interval for point in points]
        figure.add_scatter(**make_rate_trace(x, rates, name, colours[name]), customdata=hover_texts)
        success = [100 * point.success.value for point in points]
        dots = {"color": colours[name], "width": 1.5, "dash": "dot"}
        figure.add_scatter(x=x, y=success, mode="lines", line=dots, hoverinfo="skip", showlegend=False)
    figure.update_layout(height=340, showlegend=False, xaxis_title=title)
    figure.update_yaxes(title=y_title, range=[-3, 103])
    return figure


def flatten_record(instance: Any) -> dict[str, Any]:
    """Flatten a dataclass of numbers; an interval or rate becomes NAME, NAME_low and NAME_high."""
    record: dict[str, Any] = {}
    for name, value in vars(instance).items():
        if isinstance(value, Rate):
            record |= value.make_record(name)
        elif isinstance(value, tuple):
            record |= formats.make_interval_record(name, value)
        elif isinstance(value, dict | Difference):
            for key, part in (value if isinstance(value, dict) else {name: value}).items():
                prefix = key.replace(" ", "_")
                record |= {f"{prefix}_{part_name}": number for part_name, number in vars(part).items()}
        else:
            record[name] = value
    return record
