"""Plots beside the scene: what each shows of a take, up to a frame."""

import numpy as np
import viser
from viser import uplot

from experiments.viewer.take import Frame, PlannerTrace, Replay
from sim.scenes.scene import scenes

MAX_STEPS_SHOWN = 120  # frames that a plot shows at once
PREDICTION_STEPS = 10  # steps that a prediction of the cost looks ahead
COST_TITLE, PREDICTED_COST_TITLE = "cost [m]", f"cost against its prediction {PREDICTION_STEPS} steps before [m]"
ERROR_TITLE, DECISION_TIME_TITLE = "one-step error of the {other} [mm]", "decision, on this machine now [ms]"
PLOT_SERIES = {
    COST_TITLE: ("now",),
    PREDICTED_COST_TITLE: ("came", "predicted"),
    ERROR_TITLE: ("error",),
    DECISION_TIME_TITLE: ("taken", "there is"),
}
SERIES_COLOURS = ("#2563eb", "#d97706")


def add_plots(gui: viser.GuiApi) -> dict[str, viser.GuiUplotHandle]:
    """An empty plot per title of PLOTS."""
    handles = {}
    for title, names in PLOT_SERIES.items():
        series = [uplot.Series(label=name, stroke=colour, width=2) for name, colour in zip(names, SERIES_COLOURS, strict=False)]
        empty = tuple(np.zeros(1) for _ in range(1 + len(names)))
        scales = {"x": uplot.Scale(time=False)}
        handles[title] = gui.add_uplot(empty, (uplot.Series(label="step"), *series), title=title, aspect=2.2, scales=scales)
    return handles


def compute_series(title: str, replay: Replay, frame_index: int) -> tuple[np.ndarray, ...]:
    """Steps up to frame `index` at which everything that the plot shows is known, and the values there; a row per series."""
    steps = range(max(0, frame_index + 1 - MAX_STEPS_SHOWN), frame_index + 1)
    points = [(step, *values) for step in steps if (values := _get_values(title, replay, step)) is not None]
    return tuple(np.array(points, float).reshape(-1, 1 + len(PLOT_SERIES[title])).T)


def _get_values(title: str, replay: Replay, step: int) -> tuple[float, ...] | None:
    frame: Frame = replay.frames[step]
    trace: PlannerTrace | None = frame.planner_trace
    unit_m = scenes[replay.setup.scene].task.cost_unit_m
    if title == COST_TITLE:
        return (frame.cost * unit_m,)
    if title == PREDICTED_COST_TITLE:
        earlier_trace = replay.frames[step - PREDICTION_STEPS].planner_trace if step >= PREDICTION_STEPS else None
        if earlier_trace is None or len(earlier_trace.step_costs) < PREDICTION_STEPS:
            return None
        return frame.cost * unit_m, float(earlier_trace.step_costs[PREDICTION_STEPS - 1]) * unit_m
    if title == ERROR_TITLE:
        return (1e3 * frame.prediction_error_m,) if np.isfinite(frame.prediction_error_m) else None
    if trace is None:
        return None
    return 1e3 * trace.decision_s, 1e3 * (trace.budget_s or scenes[replay.setup.scene].control_dt_s)
