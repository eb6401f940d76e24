"""The page: what is shown beside the scene, and what its buttons do."""

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import viser
from viser import uplot

from experiments.viewer.overlays import NAMES, Overlays
from experiments.viewer.player import SPEEDS, Player, marks, one_step_errors, think
from experiments.viewer.stage import Stage, light_and_camera
from experiments.viewer.take import Setting, Take
from sim.layout import Layout
from sim.policy import PolicyFactory
from sim.scenes import scenes

APART_M = 1.5  # between stages that stand side by side
PLOTTED = 120  # frames that a plot shows at once


class Page:
    """Stages, overlays and controls of one player on one server."""

    def __init__(self, server: viser.ViserServer, scene: str, arms: Mapping[str, PolicyFactory]) -> None:
        self.server, self.scene, self.arms = server, scene, dict(arms)
        self.player = Player(self._changed)
        self._stages: list[tuple[Stage, Overlays]] = []
        self._shown = {"plan", "candidates", "forces", "way"}
        self._drawing = threading.RLock()
        self._thinking = 0  # a newer number stops the older thinker
        self._note = ""
        server.gui.configure_theme(control_layout="collapsible", control_width="medium", show_logo=False, dark_mode=False)
        self._build_controls()

    def live(self, layout: Layout, split: str, seed: int, arm: str, play: bool = True) -> None:
        """An arm in a space, from the start, under physics that the split may have."""
        variation = scenes[self.scene].variations_of(split).sample(np.random.default_rng(seed))
        self.show([Take(arm, Setting(self.scene, layout, seed, variation), self.arms[arm]())], play)

    def show(self, takes: list[Take], play: bool = False) -> None:
        """Takes side by side, from the start."""
        with self._drawing:
            self._thinking += 1
            self._note = ""
            for stage, _ in self._stages:
                stage.remove()
            self._stages = []
            x = 0.0
            for number, take in enumerate(takes):
                stage = Stage(self.server.scene, f"/take{number}", (x, 0.0))
                stage.build(take.setting.layout, take.half_extents, take.frames[0].pose)
                self._stages.append((stage, Overlays(self.server.scene, stage, take, self._shown)))
                x += take.setting.layout.hall.width + APART_M
            light_and_camera(self.server, takes[0].setting.layout)
        self.player.show(takes, play)

    def think(self, take: Take, arm: str) -> None:
        """Find out in the background what an arm thought along a recorded take."""
        self._thinking += 1
        mine = self._thinking

        def work() -> None:
            policy = self.arms[arm]()
            differs = think(take, policy, lambda: self._thinking != mine)
            if self._thinking == mine:
                self._note = f"thought again: actions differ by at most {differs:.2g}"
                self._changed()

        threading.Thread(target=work, daemon=True).start()

    def close(self) -> None:
        self._thinking += 1
        self.player.close()

    def _build_controls(self) -> None:
        gui = self.server.gui
        self._status = gui.add_markdown("")
        with gui.add_folder("Time"):
            self._timeline = gui.add_slider("frame", 0, 1, 1, 0)
            self._buttons = gui.add_button_group("play", ("play / pause", "step", "restart"))
            self._speed = gui.add_dropdown("speed", tuple(f"{speed:g} ×" for speed in SPEEDS), initial_value="1 ×")
            self._marks = gui.add_dropdown("jump to", ("start",))
            self._follow = gui.add_checkbox("follow the robot", False)
        with gui.add_folder("What it thinks"):
            boxes = {name: gui.add_checkbox(name, name in self._shown) for name in NAMES}
        with gui.add_folder("Plots"):
            self._plots = {title: self._plot(title, names) for title, names in PLOTS.items()}
        with gui.add_folder("Another space"):
            split = gui.add_dropdown("split", scenes[self.scene].splits, initial_value="test")
            number = gui.add_number("number", 0, min=0, step=1)
            arm = gui.add_dropdown("arm", tuple(self.arms))
            start = gui.add_button("Start")
        with gui.add_folder("From here on"):
            other = gui.add_dropdown("let", tuple(self.arms))
            branch = gui.add_button("go on from this frame, beside it")
        for name, box in boxes.items():
            box.on_update(self._switch(name))
        self._timeline.on_update(self._scrubbed)
        self._marks.on_update(self._jumped)
        self._buttons.on_click(lambda _: self._pressed(str(self._buttons.value)))
        self._speed.on_update(lambda _: setattr(self.player, "speed", float(str(self._speed.value).split()[0])))
        start.on_click(
            lambda _: self.live(
                scenes[self.scene].draw(split.value, int(number.value)), split.value, int(number.value), arm.value
            )
        )
        branch.on_click(lambda _: self.branch(other.value))
        gui.add_command("Play or pause", hotkey="P").on_trigger(lambda _: self._pressed("play / pause"))
        gui.add_command("One step", hotkey="S").on_trigger(lambda _: self._pressed("step"))

    def branch(self, arm: str) -> None:
        """Show what another arm does from the frame that is shown, beside what happened."""
        take, at = self.player.takes[0], self.player.index
        other = take.branch(min(at, len(take.frames) - 1), f"{arm} from step {at}", self.arms[arm]())
        apart = max(
            float(np.abs(a.pose[:, :3] - b.pose[:, :3]).max())
            for a, b in zip(take.frames[: at + 1], other.frames[: at + 1], strict=False)
        )
        same = Take(
            take.name, take.setting, None, np.array([frame.action for frame in take.frames[:-1]], np.float32).reshape(-1, 2)
        )
        same.frames = list(take.frames)
        self.show([same, other])
        self._note = f"the state was rebuilt to within {1e3 * apart:.3g} mm"
        self.player.seek(at)

    def _pressed(self, button: str) -> None:
        if button == "play / pause":
            self.player.playing = not self.player.playing
        elif button == "step":
            self.player.playing = False
            self.player.step()
        else:
            self.player.seek(0)

    def _switch(self, name: str) -> Callable[[Any], None]:
        def switched(event: Any) -> None:
            (self._shown.add if event.target.value else self._shown.discard)(name)
            self._changed()

        return switched

    def _jumped(self, event: Any) -> None:
        if event.client is not None:
            self.player.playing = False
            self.player.seek(int(event.target.value.rpartition("(")[2].rstrip(")") or 0) if "(" in event.target.value else 0)

    def _scrubbed(self, event: Any) -> None:
        if event.client is not None and int(event.target.value) != self.player.index:  # by a person
            self.player.playing = False
            self.player.seek(int(event.target.value))

    def _changed(self) -> None:
        """Draw the frame that the player is at."""
        with self._drawing, self.server.atomic():
            takes, index = self.player.takes, self.player.index
            if not takes or len(self._stages) != len(takes):
                return
            for (stage, overlays), take in zip(self._stages, takes, strict=True):
                at = min(index, len(take.frames) - 1)
                stage.move(take.frames[at].pose)
                overlays.update(at)
            self._timeline.max = max(1, self.player.length - 1)
            self._timeline.value = index  # type: ignore[misc]  # viser types it as read-only
            places = ("start", *(f"{name} ({number})" for number, name in marks(takes[0])))
            if self._marks.options != places:
                self._marks.options = places
            self._status.content = self._describe(takes, index)
            for title, plot in self._plots.items():
                plot.data, plot.visible = series(title, takes[0], index)
            if self._follow.value:
                self._look_at(takes[0].frames[min(index, len(takes[0].frames) - 1)].pose[0, :3])

    def _look_at(self, target: np.ndarray) -> None:
        for client in self.server.get_clients().values():
            offset = client.camera.position - client.camera.look_at
            client.camera.look_at = target.astype(float)
            client.camera.position = target.astype(float) + offset

    def _describe(self, takes: list[Take], index: int) -> str:
        lines = []
        for take in takes:
            frame = take.frames[min(index, len(take.frames) - 1)]
            wrong = ", ".join(kind.replace("_", " ") for kind in frame.violations)
            end = " · **solved**" if frame.success else ""
            lines.append(f"**{take.name}** · step {min(index, len(take.frames) - 1)} · cost {frame.cost:.2f} m{end}")
            if wrong:
                lines.append(f"violation: {wrong} ({frame.static_force_n:.0f} N)")
        return "  \n".join([*lines, self._note])

    def _plot(self, title: str, names: tuple[str, ...]) -> viser.GuiUplotHandle:
        colours = ("#2563eb", "#d97706")
        series = [uplot.Series(label=name, stroke=colour, width=2) for name, colour in zip(names, colours, strict=False)]
        empty = tuple(np.zeros(1) for _ in range(1 + len(names)))
        return self.server.gui.add_uplot(
            empty, (uplot.Series(label="step"), *series), title=title, aspect=2.2, scales={"x": uplot.Scale(time=False)}
        )


PLOTS = {
    "cost [m]": ("now", "predicted for the plan's end"),
    "one-step error of the load [mm]": ("error",),
    "decision [ms]": ("taken",),
}


def series(title: str, take: Take, index: int) -> tuple[tuple[np.ndarray, ...], bool]:
    """What a plot shows up to a frame, and whether there is anything to show. Values that are not known yet repeat the last
    known one: the page's plots take no gaps."""
    low = max(0, index + 1 - PLOTTED)
    frames = take.frames[low : index + 1]
    thoughts = [frame.thought for frame in frames]
    steps = np.arange(low, low + len(frames), dtype=float)
    if title == "cost [m]":
        end = np.array([np.nan if thought is None else thought.running[-1] for thought in thoughts])
        now = np.array([frame.cost for frame in frames])
        return (steps, now, _filled(np.where(np.isnan(end).all(), now, end))), True
    values = 1e3 * one_step_errors(take)[low : index + 1]
    if title == "decision [ms]":
        values = np.array([np.nan if thought is None else 1e3 * thought.seconds for thought in thoughts])
    return (steps, _filled(values)), bool(np.isfinite(values).any())


def _filled(values: np.ndarray) -> np.ndarray:
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return np.zeros(len(values))
    at = np.searchsorted(known, np.arange(len(values)), side="right") - 1
    return np.asarray(values[known[np.maximum(at, 0)]])
