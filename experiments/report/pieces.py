"""Pieces of HTML that every section is made of; every text is escaped."""

from collections.abc import Iterable
from html import escape

from experiments.report.plots import arm_colours


def section(heading: str, says: str, content: str) -> str:
    note = f'<p class="note">{escape(says)}</p>' if says else ""
    return f"<section><h2>{escape(heading)}</h2>{note}{content}</section>"


def table(columns: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def legend(arms: list[str]) -> str:
    """Plotly's own legend would be cut off on a phone."""
    dots = [
        f'<span><i style="background:{colour}"></i>{escape(arm)}</span>'
        for arm, colour in zip(arms, arm_colours(arms), strict=True)
    ]
    return f'<div class="legend">{"".join(dots)}</div>'
