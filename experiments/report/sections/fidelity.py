"""How far models drift from what happened, by horizon."""

from collections.abc import Sequence

import plotly.graph_objects as go

from experiments.report.measured import render_download_link
from experiments.report.pieces import render_section, render_table
from experiments.report.plots import escape_label, get_method_colours, render_plot
from experiments.report.summary import EpisodeResult, format_number
from sim.scenes.scene import scenes

ERROR_COLUMNS = (
    ("horizon [s]", "horizon_s", 1),
    ("n", "n", 0),
    ("{other}, median [mm]", "body_mm_median", 1),
    ("{other}, p90 [mm]", "body_mm_p90", 1),
    ("{other} turn, median [°]", "body_deg_median", 1),
    ("robot, median [mm]", "robot_mm_median", 1),
    ("robot turn, median [°]", "robot_deg_median", 1),
    ("{other} moved, median [m]", "moved_m_median", 2),
    ("particles apart [mm]", "disagreement_mm", 1),
)


def render_open_loop_section(errors: Sequence[EpisodeResult], scene: str, command: str) -> str:
    """`found` has a row per model and horizon."""
    if not errors:
        return ""
    dynamic_noun = scenes[scene].dynamic_noun
    columns = ("model", *(name.format(other=dynamic_noun) for name, _, _ in ERROR_COLUMNS), f"{dynamic_noun} error / moved")
    caption = f"Error of the imagined {dynamic_noun} and robot against what happened; the model only sees the first state and the actions."
    content = render_plot(_make_open_loop_figure(errors, dynamic_noun), "plot-fidelity") + render_table(
        columns, [_make_open_loop_cells(record) for record in errors]
    )
    return render_section(
        "Error of the world model by horizon", caption, content + render_download_link("fidelity", errors, command)
    )


def _make_open_loop_cells(record: EpisodeResult) -> tuple[str, ...]:
    numbers = [format_number(record.get(key), digits) for _, key, digits in ERROR_COLUMNS]
    relative_error = record["body_relative_median"]
    return (str(record["model"]), *numbers, format_number(None if relative_error is None else 100 * relative_error) + " %")


def _make_open_loop_figure(errors: Sequence[EpisodeResult], dynamic_noun: str) -> go.Figure:
    figure = go.Figure()
    models = list(dict.fromkeys(str(record["model"]) for record in errors))
    for model, colour in zip(models, get_method_colours(models), strict=True):
        model_records = sorted(
            (record for record in errors if record["model"] == model), key=lambda record: float(record["horizon_s"])
        )
        for key, statistic, dash in (("body_mm_median", "median", "solid"), ("body_mm_p90", "p90", "dot")):
            figure.add_scatter(
                x=[record["horizon_s"] for record in model_records],
                y=[record[key] for record in model_records],
                name=f"{escape_label(model)}, {statistic}",
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate="%{y:.0f} mm after %{x:.1f} s",
            )
    figure.update_layout(height=340)
    figure.update_xaxes(title="horizon [s]", rangemode="tozero")
    figure.update_yaxes(title=f"position error of the {dynamic_noun} [mm]", rangemode="tozero")
    return figure
