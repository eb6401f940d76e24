"""One measure of the report: its plots, its numbers, the file they can be kept as, and the section that shows them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from html import escape
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go

from experiments.report.pairs import rank_methods
from experiments.report.pieces import render_legend, render_section, render_table
from experiments.report.plots import get_method_colours, render_plot
from experiments.report.summary import EpisodeResult, Rate, format_csv, make_interval_record

RATES_NOTE = " Solid: solved without violation, with 95 % intervals; dotted: solved."


@dataclass(frozen=True)
class ReportSection:
    """One measure, ready to be shown."""

    name: str  # of its figure and its file
    heading: str
    caption: str  # what the plot shows, in a line
    figures: Sequence[go.Figure]
    columns: Sequence[str]
    cells: Sequence[Sequence[str]]
    records: Sequence[Mapping[str, Any]]  # the numbers, for a file
    definitions: str = ""  # definitions
    legend_methods: Sequence[str] = ()  # of a legend


def render_report_section(section: ReportSection, command: str) -> str:
    """A section whose numbers open below its plot, and can be kept as a file."""
    plots_html = "".join(render_plot(figure, f"plot-{section.name}-{i}") for i, figure in enumerate(section.figures))
    legend_html = render_legend(list(section.legend_methods)) if section.legend_methods else ""
    definitions_html = f'<p class="note">{escape(section.definitions)}</p>' if section.definitions else ""
    return render_section(
        section.heading, section.caption, legend_html + plots_html + _render_numbers(section, definitions_html, command)
    )


def _render_numbers(section: ReportSection, definitions_html: str, command: str) -> str:
    numbers_html = render_table(section.columns, section.cells) + render_download_link(section.name, section.records, command)
    return f"<details><summary>Numbers, and how they are defined</summary>{definitions_html}{numbers_html}</details>"


def render_download_link(name: str, records: Sequence[Mapping[str, Any]], command: str) -> str:
    """A line that leads to a section's numbers as a file, and names the command that they come from."""
    link = f'<a download="{name}.csv" href="data:text/csv;charset=utf-8,{quote(format_csv(records))}">CSV</a>'
    return f'<p class="note">As a file: {link}. Made with <code class="command">{escape(command)}</code></p>'


def flatten_record(instance: Any) -> dict[str, Any]:
    """A dataclass of numbers as one level of names: intervals and rates as name, name_low and name_high."""
    record: dict[str, Any] = {}
    for field in fields(instance):
        value = getattr(instance, field.name)
        if isinstance(value, Rate):
            record |= value.make_record(field.name)
        elif isinstance(value, tuple):
            record |= make_interval_record(field.name, value)
        elif isinstance(value, dict):
            parts = ((f"{key} {name}", number) for key, part in value.items() for name, number in asdict(part).items())
            record |= {name.replace(" ", "_"): number for name, number in parts}
        elif is_dataclass(value):
            record |= {f"{field.name}_{name}": number for name, number in flatten_record(value).items()}
        else:
            record[field.name] = value
    return record


def flatten_records(instances: Sequence[Any]) -> list[dict[str, Any]]:
    return [flatten_record(instance) for instance in instances]


def assign_method_colours(results: Sequence[EpisodeResult]) -> dict[str, str]:
    methods = rank_methods(results)
    return dict(zip(methods, get_method_colours(methods), strict=True))


def format_percent_interval(interval: Sequence[float]) -> str:
    value, low, high = (100 * end for end in interval)
    return "–" if math.isnan(value) else f"{value:.0f} % [{low:.0f}–{high:.0f}]"
