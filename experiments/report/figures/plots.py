"""Colours, markers with intervals, and plots as parts of a page."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import plotly.graph_objects as go

from experiments.colours import get_method_colours
from experiments.report.measures.summary import Results, get_base_method, rank_methods

FONT_FAMILY = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
SUCCESS_COLOUR = "#16a34a"
FAILURE_COLOUR = "#dc2626"
GRID_COLOUR = "#e5e7eb"
MARKER_SYMBOLS = (
    "circle", "diamond", "square", "triangle-up", "cross", "star", "x", "triangle-down", "pentagon", "hourglass", "bowtie",
)  # fmt: skip
PLOTLY_CONFIG = {"displayModeBar": False, "responsive": True}


def render_plot(figure: go.Figure, name: str) -> str:
    """Render a figure as a <div> that expects plotly.js in the page."""
    title = figure.layout.xaxis.title.text or ""
    figure.update_layout(
        template="none",
        font={"family": FONT_FAMILY, "size": 13, "color": "#1c2530"},
        margin={"l": 10, "r": 10, "t": 10, "b": 50 + 18 * title.count("<br>")},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "xanchor": "left"},
        paper_bgcolor="rgba(0,0,0,0)",
        dragmode=False,
    )
    figure.add_annotation(  # an axis title would be cut on a phone, where names take half of the width
        text=title, showarrow=False, yshift=-26,
        x=1, xref="paper", xanchor="right", y=0, yref="paper", yanchor="top",
    )  # fmt: skip
    figure.update_xaxes(automargin=True, gridcolor=GRID_COLOUR, zeroline=False, fixedrange=True, title=None, tickangle=0)
    figure.update_yaxes(automargin=True, gridcolor=GRID_COLOUR, zeroline=False, fixedrange=True, title_font_size=13)
    height = f"{figure.layout.height}px"
    return str(figure.to_html(full_html=False, include_plotlyjs=False, config=PLOTLY_CONFIG, div_id=name, default_height=height))


def assign_colours(results: Results, models: Iterable[str] = ()) -> dict[str, str]:
    """Assign the colours for all charts of a page.

    Args:
        results: results of all methods on the page.
        models: names of models that may have no method.

    Returns:
        Colours by the name of a method, family or model. A family and a model have the colour of
        their best method.
    """
    families = {result.method: get_base_method(result) for result in results}
    colours = get_method_colours(rank_methods(results))
    for method, colour in list(colours.items()):
        colours.setdefault(families[method], colour)
        colours.setdefault(method.partition("+")[0], colour)
    return get_method_colours(models) | colours


def escape_label(text: str) -> str:
    """Escape text for a plot, because plotly interprets markup."""
    return escape(text, quote=False)


def make_interval_trace(
    intervals: Sequence[Sequence[float]], y: Sequence[str], name: str, colour: str, symbol: str = "circle"
) -> dict[str, Any]:
    """Make a trace of markers with horizontal error bars.

    Args:
        intervals: (value, low, high) of each point.
        y: category of each point.
        name: name of the trace in the legend.
    """
    values, lows, highs = (list(ends) for ends in zip(*intervals, strict=True))
    return {
        "x": values, "y": list(y), "name": name, "mode": "markers", "orientation": "h",
        "marker": {"color": colour, "size": 9, "symbol": symbol},
        "error_x": _make_error_bars(values, lows, highs),
        "hovertemplate": f"{name}: %{{x:.2f}}<extra></extra>",
    }  # fmt: skip


def make_rate_trace(x: Sequence[float], rates: Sequence[Sequence[float]], name: str, colour: str) -> dict[str, Any]:
    """Make a line of rates with vertical error bars, in percent.

    Args:
        x: position of each point.
        rates: (value, low, high) of each point, between 0 and 1.
        name: name of the trace in the legend.
    """
    values, lows, highs = ([100 * end for end in ends] for ends in zip(*rates, strict=True))
    return {
        "x": list(x), "y": values, "name": escape_label(name), "mode": "lines+markers", "line": {"color": colour, "width": 2},
        "marker": {"size": 8}, "error_y": _make_error_bars(values, lows, highs),
        "hovertemplate": f"{escape_label(name)}: %{{customdata}}<extra></extra>",
    }  # fmt: skip


def _make_error_bars(values: Sequence[float], lows: Sequence[float], highs: Sequence[float]) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 3,
        "array": [max(0.0, high - value) for value, high in zip(values, highs, strict=True)],
        "arrayminus": [max(0.0, value - low) for value, low in zip(values, lows, strict=True)],
    }  # fmt: skip
