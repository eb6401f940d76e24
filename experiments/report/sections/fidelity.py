"""How far models drift from what happened, by horizon."""

from collections.abc import Sequence

import plotly.graph_objects as go

from experiments.report.measured import file_of
from experiments.report.pieces import section, table
from experiments.report.plots import arm_colours, label, plot
from experiments.report.summary import Row, number
from sim.scenes.scene import scenes

COLUMNS = (
    ("horizon [s]", "horizon_s", 1),
    ("n", "n", 0),
    ("{other}, median [mm]", "load_mm_median", 1),
    ("{other}, p90 [mm]", "load_mm_p90", 1),
    ("{other} turn, median [°]", "load_deg_median", 1),
    ("robot, median [mm]", "robot_mm_median", 1),
    ("robot turn, median [°]", "robot_deg_median", 1),
    ("{other} moved, median [m]", "moved_m_median", 2),
    ("particles apart [mm]", "disagreement_mm", 1),
)


def fidelity(found: Sequence[Row], scene: str, command: str) -> str:
    """`found` has a row per model and horizon."""
    if not found:
        return ""
    other = scenes[scene].dynamic_noun
    columns = ("model", *(name.format(other=other) for name, _, _ in COLUMNS), f"{other} error / moved")
    says = f"Error of the imagined {other} and robot against what happened; the model only sees the first state and the actions."
    drawn = plot(_figure(found, other), "plot-fidelity") + table(columns, [_cells(one) for one in found])
    return section("Error of the world model by horizon", says, drawn + file_of("fidelity", found, command))


def _cells(one: Row) -> tuple[str, ...]:
    numbers = [number(one.get(key), digits) for _, key, digits in COLUMNS]
    moved = one["load_relative_median"]
    return (str(one["model"]), *numbers, number(None if moved is None else 100 * moved) + " %")


def _figure(fidelity: Sequence[Row], other: str) -> go.Figure:
    figure = go.Figure()
    models = list(dict.fromkeys(str(line["model"]) for line in fidelity))
    for model, colour in zip(models, arm_colours(models), strict=True):
        lines = sorted((line for line in fidelity if line["model"] == model), key=lambda line: float(line["horizon_s"]))
        for key, what, dash in (("load_mm_median", "median", "solid"), ("load_mm_p90", "p90", "dot")):
            figure.add_scatter(
                x=[line["horizon_s"] for line in lines],
                y=[line[key] for line in lines],
                name=f"{label(model)}, {what}",
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate="%{y:.0f} mm after %{x:.1f} s",
            )
    figure.update_layout(height=340)
    figure.update_xaxes(title="horizon [s]", rangemode="tozero")
    figure.update_yaxes(title=f"position error of the {other} [mm]", rangemode="tozero")
    return figure
