"""Plots beside the scene: values of a replay up to a frame."""

from collections.abc import Mapping
from itertools import cycle

import numpy as np
import viser
from viser import uplot

from experiments.viewer.replay.replay import Replay
from sim.scenes.scene import Scene

MAX_STEPS_SHOWN = 120
PREDICTION_STEPS = 10  # that a prediction of the cost looks ahead
PLOT_TITLES = {  # {noun}: loads or agents, as the scene calls them
    "cost": "cost [m]",
    "prediction": f"cost, and its prediction {PREDICTION_STEPS} steps before [m]",
    "error": "one-step prediction error of the {noun} [mm]",
    "decision": "decision time on this machine [ms]",
    "action": "action [share of the limit]",
}
SERIES_NAMES = {
    "cost": ("cost",), "prediction": ("realised", "predicted"), "error": ("error",), "decision": ("decision", "available")
}  # fmt: skip
SERIES_COLOURS = ("#2563eb", "#d97706", "#7c3aed", "#0d9488", "#db2777", "#65a30d")


def list_series(scene: Scene) -> Mapping[str, tuple[str, ...]]:
    """List the series names of each plot; an action has one for each of its components."""
    return {**SERIES_NAMES, "action": scene.action_spec.components}


def add_plots(gui: viser.GuiApi, scene: Scene) -> dict[str, viser.GuiUplotHandle]:
    """Add an empty plot for each of PLOT_TITLES."""
    handles = {}
    scales = {"x": uplot.Scale(time=False)}
    for name, labels in list_series(scene).items():
        pairs = zip(labels, cycle(SERIES_COLOURS), strict=False)
        lines = [uplot.Series(label=label, stroke=colour, width=2) for label, colour in pairs]
        series = (uplot.Series(label="step"), *lines)
        title = PLOT_TITLES[name].format(noun=scene.dynamic_noun)
        data = tuple(np.zeros(1) for _ in series)
        handles[name] = gui.add_uplot(data, series, title=title, aspect=2.2, scales=scales)
    return handles


def compute_series(name: str, replay: Replay, frame_index: int) -> tuple[np.ndarray, ...]:
    """Compute the data of a plot up to a frame.

    Returns:
        Steps at which all series are known, and the values of each series there.
    """
    steps = range(max(0, frame_index + 1 - MAX_STEPS_SHOWN), frame_index + 1)
    points = [(step, *values) for step in steps if (values := _get_values(name, replay, step)) is not None]
    return tuple(np.array(points, float).reshape(-1, 1 + len(list_series(replay.scene)[name])).T)


def _get_values(name: str, replay: Replay, step: int) -> tuple[float, ...] | None:
    frame, scene = replay.frames[step], replay.scene
    cost_m = frame.cost * scene.task.cost_unit_m
    if name == "cost":
        return (cost_m,)
    if name == "action":
        return None if frame.action is None else tuple(frame.action.tolist())
    if name == "error":
        return (1e3 * frame.prediction_error_m,) if np.isfinite(frame.prediction_error_m) else None
    if name == "decision":
        trace = frame.planner_trace
        return None if trace is None else (1e3 * trace.decision_s, 1e3 * (trace.budget_s or scene.control_dt_s))
    trace = replay.frames[step - PREDICTION_STEPS].planner_trace if step >= PREDICTION_STEPS else None
    if trace is None or len(trace.step_costs) < PREDICTION_STEPS:
        return None
    return cost_m, float(trace.step_costs[PREDICTION_STEPS - 1]) * scene.task.cost_unit_m
