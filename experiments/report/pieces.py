"""Pieces of HTML that every section is made of; every text is escaped."""

from collections.abc import Iterable
from html import escape

from experiments.report.plots import get_method_colours


def render_section(heading: str, caption: str, content: str) -> str:
    caption_html = f'<p class="note">{escape(caption)}</p>' if caption else ""
    return f"<section><h2>{escape(heading)}</h2>{caption_html}{content}</section>"


def render_table(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head_html = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body_html = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head_html}</tr></thead><tbody>{body_html}</tbody></table></div>'


def render_legend(methods: list[str]) -> str:
    """Plotly's own legend would be cut off on a phone."""
    items = [
        f'<span><i style="background:{colour}"></i>{escape(method)}</span>'
        for method, colour in zip(methods, get_method_colours(methods), strict=True)
    ]
    return f'<div class="legend">{"".join(items)}</div>'
