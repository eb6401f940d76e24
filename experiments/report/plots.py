"""What the report's plots share: colours, marks with intervals, and the figure as a part of a page."""

from collections.abc import Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from experiments.report.summary import is_oracle

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
COLOURS = (
    "#2563eb", "#d97706", "#7c3aed", "#0d9488", "#db2777", "#65a30d", "#0891b2", "#b45309",
    "#1e3a8a", "#facc15", "#c084fc", "#134e4a", "#fda4af", "#3f6212", "#67e8f9", "#451a03",
)  # fmt: skip
ORACLE_COLOUR, GOOD, BAD, FAINT = "#6b7280", "#16a34a", "#dc2626", "#e5e7eb"
SYMBOLS = (
    "circle", "diamond", "square", "triangle-up", "cross", "star", "x", "triangle-down", "pentagon", "hourglass", "bowtie",
)  # fmt: skip
CONFIG = {"displayModeBar": False, "responsive": True}


def plot(figure: go.Figure, name: str) -> str:
    """The figure as a <div> that expects plotly.js in the page."""
    title = figure.layout.xaxis.title.text or ""
    figure.update_layout(
        template="none",
        font={"family": FONT, "size": 13, "color": "#1c2530"},
        margin={"l": 10, "r": 10, "t": 10, "b": 50 + 18 * title.count("<br>")},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"},
        paper_bgcolor="rgba(0,0,0,0)",
        dragmode=False,
    )
    figure.add_annotation(  # an axis title would stand below the middle, and be cut where names take up half of a phone
        text=title, showarrow=False, yshift=-26,
        x=1, xref="paper", xanchor="right", y=0, yref="paper", yanchor="top",
    )  # fmt: skip
    figure.update_xaxes(automargin=True, gridcolor=FAINT, zeroline=False, fixedrange=True, title=None, tickangle=0)
    figure.update_yaxes(automargin=True, gridcolor=FAINT, zeroline=False, fixedrange=True, title_font_size=13)
    height = f"{figure.layout.height}px"
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=CONFIG, div_id=name, default_height=height))


def arm_colours(arms: list[str]) -> list[str]:
    """A colour each, grey for oracles."""
    return [ORACLE_COLOUR if is_oracle(arm) else COLOURS[position % len(COLOURS)] for position, arm in enumerate(arms)]


def label(text: str) -> str:
    """Text for a plot, where plotly would read markup."""
    return escape(text, quote=False)


def dots(
    intervals: Sequence[Sequence[float]], y: Sequence[str], name: str, colour: str, symbol: str = "circle"
) -> dict[str, Any]:
    """Values with intervals along x."""
    value, low, high = (list(ends) for ends in zip(*intervals, strict=True))
    return {
        "x": value, "y": list(y), "name": name, "mode": "markers", "orientation": "h",
        "marker": {"color": colour, "size": 9, "symbol": symbol},
        "error_x": _errors(value, low, high),
        "hovertemplate": f"{name}: %{{x:.2f}}<extra></extra>",
    }  # fmt: skip


def line(x: Sequence[float], rates: Sequence[Sequence[float]], name: str, colour: str) -> dict[str, Any]:
    """Rates with intervals along y, in percent."""
    value, low, high = ([100 * end for end in ends] for ends in zip(*rates, strict=True))
    return {
        "x": list(x), "y": value, "name": label(name), "mode": "lines+markers", "line": {"color": colour, "width": 2},
        "marker": {"size": 8}, "error_y": _errors(value, low, high),
        "hovertemplate": f"{label(name)}: %{{customdata}}<extra></extra>",
    }  # fmt: skip


def dotted(x: Sequence[float], shares: Sequence[float], colour: str) -> dict[str, Any]:
    return {
        "x": list(x), "y": [100 * share for share in shares], "mode": "lines", "hoverinfo": "skip",
        "line": {"color": colour, "width": 1.5, "dash": "dot"}, "showlegend": False,
    }  # fmt: skip


def _errors(value: Sequence[float], low: Sequence[float], high: Sequence[float]) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 3,
        "array": [max(0.0, b - v) for v, b in zip(value, high, strict=True)],
        "arrayminus": [max(0.0, v - a) for v, a in zip(value, low, strict=True)],
    }  # fmt: skip
