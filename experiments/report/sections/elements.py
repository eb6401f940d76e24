"""HTML elements of the sections; every text is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any
from urllib.parse import quote

from experiments.report.measures.formats import format_csv


def render_section(heading: str, caption: str, content: str) -> str:
    """Render a card of the page."""
    caption_html = f'<p class="note">{escape(caption)}</p>' if caption else ""
    return f"<section><h2>{escape(heading)}</h2>{caption_html}{content}</section>"


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
    link = f'<a download="{name}.csv" href="data:text/csv;charset=utf-8,{quote(format_csv(records))}">CSV</a>'
    return f'<p class="note">As a file: {link}. Made with <code class="command">{escape(command)}</code></p>'
