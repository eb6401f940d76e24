"""Plots beside the scene: what each shows of a take, up to a frame."""

import numpy as np
import viser
from viser import uplot

from experiments.viewer.take import Take
from sim.scenes import scenes

SHOWN = 120  # frames that a plot shows at once
AHEAD = 10  # steps that a prediction of the cost looks ahead
COST, ERROR, DECISION = "cost [m]", "one-step error of the load [mm]", "decision [ms]"
PLOTS = {
    COST: ("now", "predicted 1 s before"),
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


def series(title: str, take: Take, index: int) -> tuple[tuple[np.ndarray, ...], bool]:
    """Steps and values that a plot shows up to frame `index`, and whether there is anything to show. The page's plots take no
    gaps: an unknown prediction of the cost is the cost itself, other unknown values repeat the last known one."""
    low = max(0, index + 1 - SHOWN)
    frames = take.frames[low : index + 1]
    steps = np.arange(low, low + len(frames), dtype=float)
    if title == COST:
        now = np.array([frame.cost for frame in frames])
        before = [take.frames[step - AHEAD].thought if step >= AHEAD else None for step in range(low, index + 1)]
        predicted = np.array([np.nan if thought is None else _at(thought.running, AHEAD - 1) for thought in before])
        return (steps, now, np.where(np.isnan(predicted), now, predicted)), True
    if title == ERROR:
        values = 1e3 * np.array([frame.error_m for frame in frames])
        return (steps, _filled(values)), bool(np.isfinite(values).any())
    values = np.array([np.nan if frame.thought is None else 1e3 * frame.thought.seconds for frame in frames])
    budget = np.full(len(frames), 1e3 * scenes[take.setting.scene].control_dt_s)
    return (steps, _filled(values), budget), bool(np.isfinite(values).any())


def _at(values: np.ndarray, index: int) -> float:
    return float(values[min(index, len(values) - 1)])


def _filled(values: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.zeros(len(values))
    at = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return np.asarray(values[known[np.maximum(at, 0)]])
