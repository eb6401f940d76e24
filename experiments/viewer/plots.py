"""Plots beside the scene: what each shows of a take, up to a frame."""

import numpy as np
import viser
from viser import uplot

from experiments.viewer.take import Frame, Take, Thought
from sim.scenes.scene import scenes

SHOWN = 120  # frames that a plot shows at once
AHEAD = 10  # steps that a prediction of the cost looks ahead
COST, FORESEEN = "cost [m]", f"cost against its prediction {AHEAD} steps before [m]"
ERROR, DECISION = "one-step error of the {other} [mm]", "decision, on this machine now [ms]"
PLOTS = {
    COST: ("now",),
    FORESEEN: ("came", "predicted"),
    ERROR: ("error",),
    DECISION: ("taken", "there is"),
}
COLOURS = ("#2563eb", "#d97706")


def add_plots(gui: viser.GuiApi) -> dict[str, viser.GuiUplotHandle]:
    """An empty plot per title of PLOTS."""
    handles = {}
    for title, names in PLOTS.items():
        series = [uplot.Series(label=name, stroke=colour, width=2) for name, colour in zip(names, COLOURS, strict=False)]
        empty = tuple(np.zeros(1) for _ in range(1 + len(names)))
        scales = {"x": uplot.Scale(time=False)}
        handles[title] = gui.add_uplot(empty, (uplot.Series(label="step"), *series), title=title, aspect=2.2, scales=scales)
    return handles


def series(title: str, take: Take, index: int) -> tuple[np.ndarray, ...]:
    """Steps up to frame `index` at which everything that the plot shows is known, and the values there; a row per series."""
    steps = range(max(0, index + 1 - SHOWN), index + 1)
    known = [(step, *values) for step in steps if (values := _values(title, take, step)) is not None]
    return tuple(np.array(known, float).reshape(-1, 1 + len(PLOTS[title])).T)


def _values(title: str, take: Take, step: int) -> tuple[float, ...] | None:
    frame: Frame = take.frames[step]
    thought: Thought | None = frame.thought
    unit_m = scenes[take.setting.scene].task.cost_unit_m
    if title == COST:
        return (frame.cost * unit_m,)
    if title == FORESEEN:
        before = take.frames[step - AHEAD].thought if step >= AHEAD else None
        if before is None or len(before.running) < AHEAD:
            return None
        return frame.cost * unit_m, float(before.running[AHEAD - 1]) * unit_m
    if title == ERROR:
        return (1e3 * frame.error_m,) if np.isfinite(frame.error_m) else None
    if thought is None:
        return None
    return 1e3 * thought.seconds, 1e3 * (thought.budget_s or scenes[take.setting.scene].control_dt_s)
