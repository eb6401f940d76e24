"""A section of the report: plots, numbers in a table that opens, and the same numbers as a file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import make_rate_trace, render_plot
from experiments.report.measures.formats import format_interval, format_number, make_interval_record
from experiments.report.measures.summary import Rate, rank_methods
from experiments.report.sections.elements import render_download_link, render_legend, render_section, render_table

RATES_NOTE = " Solid: safe success, with 95 % intervals; dotted: success."
Columns = Mapping[str, str | Callable[[Any], str]]  # heading: attribute of an item, or text from it


@dataclass(frozen=True)
class ReportSection:
    """A section, ready to be rendered."""

    name: str  # of its figures and its file
    heading: str
    caption: str  # what the plot shows; where the heading is a question, the answer comes first
    columns: Columns
    items: Sequence[Any]  # rows of the table
    figures: Sequence[go.Figure] = ()
    definitions: str = ""
    legend: Mapping[str, str] = field(default_factory=dict)  # colours by method
    records: Sequence[Mapping[str, Any]] | None = None  # of the file; None: the items


def render_report_section(section: ReportSection | None, command: str) -> str:
    """Render a section; nothing where there is none."""
    if section is None:
        return ""
    plots = "".join(render_plot(figure, f"plot-{section.name}-{i}") for i, figure in enumerate(section.figures))
    legend = render_legend(section.legend) if section.legend else ""
    definitions = f'<p class="note">{escape(section.definitions)}</p>' if section.definitions else ""
    cells = [[format_cell(value, item) for value in section.columns.values()] for item in section.items]
    records = [flatten_record(item) for item in section.items] if section.records is None else section.records
    table = render_table(section.columns, cells) + render_download_link(section.name, records, command)
    details = f"<details><summary>Numbers and their definitions</summary>{definitions}{table}</details>"
    return render_section(section.heading, section.caption, legend + plots + details)


def format_cell(column: str | Callable[[Any], str], item: Any) -> str:
    """Format a cell: the result of a function, or an attribute by its type."""
    if callable(column):
        return column(item)
    value = getattr(item, column)
    if isinstance(value, tuple):
        return format_interval(*value)
    return format_number(value, 2 * isinstance(value, float)) if isinstance(value, int | float) else str(value)


def select_legend(results: Sequence[EpisodeResult], colours: Mapping[str, str]) -> dict[str, str]:
    """Select the colours of the methods of some results, in their order."""
    return {method: colours[method] for method in rank_methods(results)}


def make_rates_figure(
    groups: Mapping[str, Sequence[Any]], x_name: str, colours: Mapping[str, str], title: str, y_title: str = "episodes [%]"
) -> go.Figure:
    """Make a figure of rates over a quantity.

    Args:
        groups: items with the rates `safe_success` and `success`, by name of their line.
        x_name: attribute of the quantity.
    """
    figure = go.Figure()
    for name, items in groups.items():
        x = [getattr(item, x_name) for item in items]
        hover_texts = [f"{item.method}: {item.safe_success} of {item.safe_success.total}" for item in items]
        rates = [item.safe_success.value_and_interval for item in items]
        figure.add_scatter(**make_rate_trace(x, rates, name, colours[name]), customdata=hover_texts)
        success = [100 * item.success.value for item in items]
        dots = {"color": colours[name], "width": 1.5, "dash": "dot"}
        figure.add_scatter(x=x, y=success, mode="lines", line=dots, hoverinfo="skip", showlegend=False)
    figure.update_layout(height=340, showlegend=False)
    figure.update_xaxes(title=title)
    figure.update_yaxes(title=y_title, range=[-3, 103])
    return figure


def flatten_record(instance: Any) -> dict[str, Any]:
    """Flatten a dataclass of numbers; an interval or rate becomes NAME, NAME_low and NAME_high."""
    record: dict[str, Any] = {}
    for name in (item.name for item in fields(instance)):
        value = getattr(instance, name)
        if isinstance(value, Rate):
            record |= value.make_record(name)
        elif isinstance(value, tuple):
            record |= make_interval_record(name, value)
        elif isinstance(value, dict):
            for key, part in value.items():
                record |= {f"{key}_{part_name}".replace(" ", "_"): number for part_name, number in asdict(part).items()}
        elif is_dataclass(value):
            record |= {f"{name}_{key}": number for key, number in flatten_record(value).items()}
        else:
            record[name] = value
    return record
