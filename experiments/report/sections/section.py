"""A section of the report: plots, numbers in a table that opens, and the same numbers as a file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from html import escape
from typing import Any

import plotly.graph_objects as go

from experiments.evaluation.results import EpisodeResult
from experiments.report.figures.plots import render_plot
from experiments.report.measures.formats import make_interval_record
from experiments.report.measures.summary import Rate, rank_methods
from experiments.report.sections.elements import render_download_link, render_legend, render_section, render_table

RATES_NOTE = " Solid: safe success, with 95 % intervals; dotted: success."


@dataclass(frozen=True)
class ReportSection:
    """A section, ready to be rendered."""

    name: str  # of its figures and its file
    heading: str
    caption: str  # what the plot shows; where the heading is a question, the answer comes first
    columns: Sequence[str]
    cells: Sequence[Sequence[str]]
    records: Sequence[Mapping[str, Any]]  # the numbers, for the file
    figures: Sequence[go.Figure] = ()
    definitions: str = ""
    legend: Mapping[str, str] = field(default_factory=dict)  # colours by method


def render_report_section(section: ReportSection | None, command: str) -> str:
    """Render a section; nothing where there is none."""
    if section is None:
        return ""
    plots = "".join(render_plot(figure, f"plot-{section.name}-{i}") for i, figure in enumerate(section.figures))
    legend = render_legend(section.legend) if section.legend else ""
    definitions = f'<p class="note">{escape(section.definitions)}</p>' if section.definitions else ""
    table = render_table(section.columns, section.cells) + render_download_link(section.name, section.records, command)
    details = f"<details><summary>Numbers and their definitions</summary>{definitions}{table}</details>"
    return render_section(section.heading, section.caption, legend + plots + details)


def select_legend(results: Sequence[EpisodeResult], colours: Mapping[str, str]) -> dict[str, str]:
    """Select the colours of the methods of some results, in their order."""
    return {method: colours[method] for method in rank_methods(results)}


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
            numbers = (
                (f"{key} {field_name}", number) for key, part in value.items() for field_name, number in asdict(part).items()
            )
            record |= {key.replace(" ", "_"): number for key, number in numbers}
        elif is_dataclass(value):
            record |= {f"{name}_{key}": number for key, number in flatten_record(value).items()}
        else:
            record[name] = value
    return record


def flatten_records(instances: Sequence[Any]) -> list[dict[str, Any]]:
    """Flatten several dataclasses."""
    return [flatten_record(instance) for instance in instances]
