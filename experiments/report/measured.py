"""One measure of the report: its plots, its numbers, the file they can be kept as, and the section that shows them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from html import escape
from typing import Any
from urllib.parse import quote

import plotly.graph_objects as go

from experiments.report.pairs import ranked
from experiments.report.pieces import legend, section, table
from experiments.report.plots import arm_colours, plot
from experiments.report.summary import Rate, Row, csv_of, ends_of

RATES_SAY = " Solid: solved without violation, with 95 % intervals; dotted: solved."


@dataclass(frozen=True)
class Measured:
    """One measure, ready to be shown."""

    name: str  # of its figure and its file
    heading: str
    says: str  # what the plot shows, in a line
    plots: Sequence[go.Figure]
    columns: Sequence[str]
    cells: Sequence[Sequence[str]]
    records: Sequence[Mapping[str, Any]]  # the numbers, for a file
    how: str = ""  # definitions
    arms: Sequence[str] = ()  # of a legend


def html_of(measured: Measured, command: str) -> str:
    """A section whose numbers open below its plot, and can be kept as a file."""
    plots = "".join(plot(figure, f"plot-{measured.name}-{i}") for i, figure in enumerate(measured.plots))
    names = legend(list(measured.arms)) if measured.arms else ""
    how = f'<p class="note">{escape(measured.how)}</p>' if measured.how else ""
    return section(measured.heading, measured.says, names + plots + _numbers(measured, how, command))


def _numbers(measured: Measured, how: str, command: str) -> str:
    shown = table(measured.columns, measured.cells) + file_of(measured.name, measured.records, command)
    return f"<details><summary>Numbers, and how they are defined</summary>{how}{shown}</details>"


def file_of(name: str, records: Sequence[Mapping[str, Any]], command: str) -> str:
    """A line that leads to a section's numbers as a file, and names the command that they come from."""
    link = f'<a download="{name}.csv" href="data:text/csv;charset=utf-8,{quote(csv_of(records))}">CSV</a>'
    return f'<p class="note">As a file: {link}. Made with <code class="command">{escape(command)}</code></p>'


def flat(thing: Any) -> dict[str, Any]:
    """A dataclass of numbers as one level of names: intervals and rates as name, name_low and name_high."""
    record: dict[str, Any] = {}
    for field in fields(thing):
        value = getattr(thing, field.name)
        if isinstance(value, Rate):
            record |= value.record(field.name)
        elif isinstance(value, tuple):
            record |= ends_of(field.name, value)
        elif isinstance(value, dict):
            parts = ((f"{key} {name}", number) for key, part in value.items() for name, number in asdict(part).items())
            record |= {name.replace(" ", "_"): number for name, number in parts}
        elif is_dataclass(value):
            record |= {f"{field.name}_{name}": number for name, number in flat(value).items()}
        else:
            record[field.name] = value
    return record


def flats(found: Sequence[Any]) -> list[dict[str, Any]]:
    return [flat(one) for one in found]


def colours_of(rows: Sequence[Row]) -> dict[str, str]:
    arms = ranked(rows)
    return dict(zip(arms, arm_colours(arms), strict=True))


def percents(interval: Sequence[float]) -> str:
    value, low, high = (100 * end for end in interval)
    return "–" if math.isnan(value) else f"{value:.0f} % [{low:.0f}–{high:.0f}]"
