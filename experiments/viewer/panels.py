"""What is beside the scene: buttons, lists and plots, each of which does one thing with the page."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import viser
from viser._messages import GuiSliderMark

from experiments.viewer.driving import KEYS
from experiments.viewer.overlays import MEANINGS
from experiments.viewer.player import SPEEDS
from experiments.viewer.plots import COST, ERROR, FORESEEN, add_plots
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.utils.errors import BadLayout, GroundError

if TYPE_CHECKING:
    from experiments.viewer.page import Page

PLAY, STEP, START, RESET = "play / pause", "step", "to the start", "reset"
NOWHERE = "…"
LABEL = 0.2  # of the timeline that a mark's name takes


class Panels:
    """The page's controls in tabs; `update` and `plot` keep them at the frame that is shown."""

    def __init__(self, page: "Page", scene: str) -> None:
        self._page, self._gui = page, page.server.gui
        self._status = self._gui.add_markdown("", order=0)
        self.tabs = self._gui.add_tab_group(order=2)
        with self._gui.add_folder("Time", order=1):
            self._add_time()
        with self.tabs.add_tab("Watch"):
            self._add_watch(scene)
        with self.tabs.add_tab("Live"):
            self._add_live(scene)
        with self.tabs.add_tab("Drive"):
            self._add_drive()
        with self.tabs.add_tab("Save"):
            self._add_save()

    def describe(self, text: str) -> None:
        if self._status.content != text:
            self._status.content = text

    def name(self, takes: list[str], arms: tuple[str, ...], scene: str) -> None:
        """What can be chosen of the takes that are shown now, and what their scene calls things."""
        self._takes = tuple(f"{number} {name}" for number, name in enumerate(takes, 1))
        self._chosen.options, self._chosen.visible = self._takes, len(takes) > 1
        if self._other.options != arms:
            self._other.options = arms
        self._plots[ERROR].title = ERROR.format(other=scenes[scene].dynamic_noun)

    def offer(self, scene: str, arms: tuple[str, ...], shown: bool) -> None:
        """What can be chosen in a scene, which may be the one that is shown."""
        if self._scene.value == scene:
            self._arm.options = arms
        if shown:
            self._other.options = arms

    def set_live(self, scene: str, split: str, number: int, arm: str) -> None:
        """What the Live tab begins with."""
        handles: tuple[Any, ...] = (self._scene, self._split, self._index, self._seed, self._arm)
        for handle, value in zip(handles, (scene, split, number, number, arm), strict=True):
            handle.value = value

    def update(self, index: int, length: int, marks: list[tuple[int, str]], text: str) -> None:
        """A frame of `length`, frames worth finding, and the title."""
        if self._timeline.max != max(1, length - 1):
            self._timeline.max = max(1, length - 1)
        if self._timeline.value != index:
            self._timeline.value = index  # type: ignore[misc]  # viser types it as read-only
        self._timeline._marks = tuple(
            GuiSliderMark(float(at), label) for at, label in labelled(marks, length)
        )  # no public setter
        places = (NOWHERE, *(f"{name} ({number})" for number, name in marks))
        if self._marks.options != places:
            self._marks.options = places
        self.describe(text)

    def plot(self, values: Callable[[str], tuple[np.ndarray, ...]]) -> None:
        """`values` of each plot's title; what nothing is known of is hidden, the bare cost where there is a prediction."""
        data = {title: values(title) for title in self._plots}
        for title, plot in self._plots.items():
            visible = len(data[title][0]) > 0 and not (title == COST and len(data[FORESEEN][0]))
            if plot.visible != visible:
                plot.visible = visible
            if visible:
                plot.data = data[title]

    def tried(self, client: viser.ClientHandle | None, act: Callable[[], Any]) -> None:
        """Do it, one thing at a time, and tell what goes wrong on the page instead of nowhere."""
        try:
            with self._page.acting():
                act()
        except Exception as error:
            self._page.tell(client, error)

    def _on(self, handle: Any, act: Callable[[], Any]) -> None:
        """Do it when a button is pressed."""
        handle.on_click(lambda event: self.tried(event.client, act))

    def _add_time(self) -> None:
        gui, page, player = self._gui, self._page, self._page.player
        self._chosen = gui.add_dropdown("take", ("1",), visible=False, hint="that plots, marks and buttons are about")
        self._timeline = gui.add_slider("frame", 0, 1, 1, 0)
        buttons = gui.add_button_group("", (PLAY, STEP, START, RESET))
        speed = gui.add_dropdown("speed", tuple(f"{speed:g} ×" for speed in SPEEDS), initial_value="1 ×")
        self._marks = gui.add_dropdown("jump to", (NOWHERE,))
        follow = gui.add_checkbox("follow the robot", False)
        self._chosen.on_update(lambda _: self._choose())
        self._timeline.on_update(self._scrubbed)
        self._marks.on_update(self._jumped)
        buttons.on_click(lambda _: self._pressed(str(buttons.value)))
        speed.on_update(lambda _: setattr(player, "speed", float(str(speed.value).split()[0])))
        follow.on_update(lambda _: setattr(page, "follow", follow.value))
        gui.add_command("Play or pause", hotkey="P").on_trigger(lambda _: self._pressed(PLAY))
        gui.add_command("One step", hotkey="N").on_trigger(lambda _: self._pressed(STEP))

    def _add_watch(self, scene: str) -> None:
        page = self._page
        for name, meaning in MEANINGS.items():
            box = self._gui.add_checkbox(name, name in page.shown, hint=meaning)
            box.on_update(partial(self._switched, name))
        self._other = self._gui.add_dropdown("hand over to", tuple(page.arms[scene]), hint="another arm, or yourself")
        self._on(self._gui.add_button("go on from this frame, beside it"), lambda: page.branch(self._other.value))
        self._plots = add_plots(self._gui)  # last: with a planner's three, what follows would be out of sight

    def _add_live(self, scene: str) -> None:
        gui, page = self._gui, self._page
        self._scene = gui.add_dropdown("scene", tuple(page.arms), initial_value=scene)
        self._split = gui.add_dropdown("split", scenes[scene].splits, initial_value="test")
        self._index = gui.add_number("index", 0, min=0, step=1, hint="of the space in its split")
        self._seed = gui.add_number("seed", 0, min=0, step=1, hint="of the episode: noise, and physics that vary")
        self._arm = gui.add_dropdown("arm", tuple(page.arms[scene]))
        physics = gui.add_text("physics", "", hint="what differs, as load_mass_kg=9 load_friction=0.3:0.7 traffic_speed=1.5")
        beside = gui.add_checkbox("beside what is shown", False)
        start = gui.add_button("Start", color="blue")
        run = gui.add_text("run", "", hint="a directory whose arms are to be chosen from, too")
        self._on(gui.add_button("Take the arms of that run"), lambda: page.offer_run(_directory(run.value)))
        own = gui.add_upload_button("Start in a layout of your own (JSON)", mime_type="application/json")

        def begin(layout: Layout | None) -> None:
            scene, seed = self._scene.value, int(self._seed.value)
            space = layout or scenes[scene].sample_layout(self._split.value, int(self._index.value))
            split, own = ("test", True) if layout else (self._split.value, False)
            page.live(scene, space, split, seed, self._arm.value, physics.value, beside=beside.value, own=own)

        def other_scene(_: Any) -> None:
            splits, arms = scenes[self._scene.value].splits, tuple(page.arms[self._scene.value])
            for handle, options, usual in ((self._split, splits, "test"), (self._arm, arms, "scripted")):
                value = handle.value if handle.value in options else usual
                handle.options = options
                handle.value = value  # type: ignore[misc]  # viser types it as read-only

        self._scene.on_update(other_scene)
        self._on(start, lambda: begin(None))
        own.on_upload(lambda event: self.tried(event.client, lambda: begin(_layout_of(own.value, self._scene.value))))

    def _add_drive(self) -> None:
        page = self._page
        self._gui.add_markdown(
            "Choose the arm **you** under *Live*, or let **you** go on from a frame; time starts with the first press. "
            "Each press changes a speed by half of its "
            "limit, and the speed stays: an AMR drives forward or back and turns left or right; an arm's tool moves away from "
            f"you, back, left or right. Keys: {', '.join(f'{key} {name}' for name, (key, _) in KEYS.items())}."
        )
        pad = self._gui.add_button_group("", tuple(KEYS))
        pad.on_click(lambda _: page.drive(str(pad.value)))
        for name, (key, _) in KEYS.items():
            self._gui.add_command(f"Drive: {name}", hotkey=key).on_trigger(  # type: ignore[arg-type]
                partial(lambda name, _: page.drive(name), name)
            )

    def _add_save(self) -> None:
        gui, page = self._gui, self._page
        where = gui.add_text("dataset", "kept", hint="a directory; episodes are kept by split below it")
        self._on(gui.add_button("Keep as an episode"), lambda: page.keep(_directory(where.value)))
        html, mp4 = gui.add_button("Save as one HTML file"), gui.add_button("Save as mp4")
        html.on_click(lambda event: self.tried(event.client, lambda: self._save_html(event.client)))
        mp4.on_click(lambda event: self.tried(event.client, lambda: self._save_mp4(event.client)))

    def _save_html(self, client: viser.ClientHandle | None) -> None:
        self._page.say("writing, once all thoughts are known …")
        content = self._page.export_html().encode()
        if client is not None:
            client.send_file_download("training-ground.html", content, save_immediately=True)
        self._page.say("")

    def _save_mp4(self, client: viser.ClientHandle | None) -> None:
        if client is not None:
            client.send_file_download("training-ground.mp4", self._page.export_mp4(client), save_immediately=True)
            self._page.say("")

    def _choose(self) -> None:
        if self._chosen.value in self._takes:
            self._page.chosen = self._takes.index(self._chosen.value)
            self._page.redraw()

    def _pressed(self, button: str) -> None:
        player = self._page.player
        try:
            if button == PLAY:
                player.toggle()
                return
            player.playing = False
            {STEP: player.step, START: lambda: player.seek(0), RESET: player.reset}[button]()
        except Exception as error:
            self._page.tell(None, error)

    def _switched(self, name: str, event: Any) -> None:
        (self._page.shown.add if event.target.value else self._page.shown.discard)(name)
        self._page.redraw()

    def _jumped(self, event: Any) -> None:
        if event.client is not None and "(" in event.target.value:
            number = int(event.target.value.rpartition("(")[2].rstrip(")"))
            event.target.value = NOWHERE  # the same mark can be chosen again
            self._page.player.playing = False
            self._page.player.seek(number)

    def _scrubbed(self, event: Any) -> None:
        if event.client is not None and int(event.target.value) != self._page.player.index:  # by a person
            self._page.player.playing = False
            self._page.player.seek(int(event.target.value))


def labelled(marks: list[tuple[int, str]], length: int) -> list[tuple[int, str | None]]:
    """Marks with their names, without that of one so near to the one named before that they would overlap."""
    named, last = list[tuple[int, str | None]](), -LABEL * length
    for at, name in sorted(marks):
        free = at - last >= LABEL * length
        named.append((at, name if free else None))
        last = at if free else last
    return named


def _directory(name: str) -> Path:
    if not name.strip():
        raise GroundError("name a directory first")
    return Path(name.strip())


def _layout_of(file: viser.UploadedFile, scene: str) -> Layout:
    layout = Layout.parse(file.content, file.name)
    if faults := scenes[scene].find_faults(layout):
        raise BadLayout(file.name, faults)
    return layout
