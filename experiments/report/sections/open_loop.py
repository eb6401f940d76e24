"""Open-loop errors of world models by horizon."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from experiments.report.figures.plots import escape_label, render_plot
from experiments.report.measures.formats import format_number
from experiments.report.sections.section import render_download_link, render_section, render_table
from sim.scenes.scene import scenes

OpenLoopRecord = Mapping[str, Any]  # fields of an OpenLoopError
ERROR_COLUMNS = (  # heading, field, digits
    ("horizon [s]", "horizon_s", 1),
    ("n", "n", 0),
    ("{noun}, median [mm]", "body_mm_median", 1),
    ("{noun}, p90 [mm]", "body_mm_p90", 1),
    ("{noun} yaw, median [°]", "body_deg_median", 1),
    ("robot, median [mm]", "robot_mm_median", 1),
    ("robot yaw, median [°]", "robot_deg_median", 1),
    ("{noun} moved, median [m]", "moved_m_median", 2),
    ("disagreement [mm]", "disagreement_mm", 1),
)


def render_open_loop_section(errors: Sequence[OpenLoopRecord], scene: str, command: str, colours: Mapping[str, str]) -> str:
    """Render the errors by model and horizon; nothing where none were measured."""
    if not errors:
        return ""
    noun = scenes[scene].dynamic_noun
    columns = ("model", *(heading.format(noun=noun) for heading, _, _ in ERROR_COLUMNS), f"{noun} error / moved")
    plot = render_plot(_make_open_loop_figure(errors, noun, colours), "plot-open-loop-error")
    link = render_download_link("open-loop-error", errors, command)
    return render_section("open-loop-error", plot + render_table(columns, map(_make_cells, errors)) + link, noun=noun)


def _make_cells(error: OpenLoopRecord) -> tuple[str, ...]:
    numbers = [format_number(error.get(name), digits) for _, name, digits in ERROR_COLUMNS]
    relative = error["body_relative_median"]
    return (error["model"], *numbers, "–" if relative is None else f"{format_number(100 * relative)} %")


def _make_open_loop_figure(errors: Sequence[OpenLoopRecord], noun: str, colours: Mapping[str, str]) -> go.Figure:
    figure = go.Figure()
    for model in dict.fromkeys(error["model"] for error in errors):
        shown = sorted((error for error in errors if error["model"] == model), key=lambda error: error["horizon_s"])
        horizons_s = [error["horizon_s"] for error in shown]
        for name, statistic, dash in (("body_mm_median", "median", "solid"), ("body_mm_p90", "p90", "dot")):
            figure.add_scatter(
                x=horizons_s, y=[error[name] for error in shown], name=f"{escape_label(model)}, {statistic}",
                mode="lines+markers", line={"color": colours[model], "dash": dash, "width": 2},
                hovertemplate="%{y:.0f} mm after %{x:.1f} s",
            )  # fmt: skip
    figure.update_layout(height=340)
    figure.update_xaxes(title="horizon [s]", rangemode="tozero")
    figure.update_yaxes(title=f"position error of the {noun} [mm]", rangemode="tozero")
    return figure
