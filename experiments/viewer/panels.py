"""What is beside the scene: buttons, lists and plots, each of which does one thing with the page."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import viser

from experiments.viewer.driving import KEYS
from experiments.viewer.overlays import MEANINGS
from experiments.viewer.player import SPEEDS
from experiments.viewer.plots import add_plots
from sim.errors import BadLayout, GroundError
from sim.layout import Layout
from sim.scenes import scenes

if TYPE_CHECKING:
    from experiments.viewer.page import Page

PLAY, STEP, RESTART = "play / pause", "step", "restart"


class Panels:
    """The page's controls in tabs; `update` and `plot` keep them at the frame that is shown."""

    def __init__(self, page: "Page") -> None:
        self._page, self._gui = page, page.server.gui
        self._status = self._gui.add_markdown("", order=0)
        self._marked: tuple[str, ...] = ()
        self.tabs = self._gui.add_tab_group(order=2)
        with self._gui.add_folder("Time", order=1):
            self._add_time()
        with self.tabs.add_tab("Watch"):
            self._add_watch()
        with self.tabs.add_tab("Live"):
            self._add_live()
        with self.tabs.add_tab("Drive"):
            self._add_drive()
        with self.tabs.add_tab("Save"):
            self._add_save()

    def describe(self, text: str) -> None:
        self._status.content = text

    def update(self, index: int, length: int, marks: list[tuple[int, str]], text: str) -> None:
        """A frame of `length`, frames worth finding, and the title."""
        if self._timeline.max != max(1, length - 1):
            self._timeline.max = max(1, length - 1)
        if self._timeline.value != index:
            self._timeline.value = index  # type: ignore[misc]  # viser types it as read-only
        places = ("start", *(f"{name} ({number})" for number, name in marks))
        if self._marked != places:
            self._marked = self._marks.options = places
        if self._status.content != text:
            self._status.content = text

    def plot(self, values: Callable[[str], Any]) -> None:
        """`values` of each plot's title: data, and whether there is any."""
        for title, plot in self._plots.items():
            data, visible = values(title)
            if plot.visible != visible:
                plot.visible = visible
            if visible:
                plot.data = data

    def _add_time(self) -> None:
        gui, page, player = self._gui, self._page, self._page.player
        self._timeline = gui.add_slider("frame", 0, 1, 1, 0)
        buttons = gui.add_button_group("", (PLAY, STEP, RESTART))
        speed = gui.add_dropdown("speed", tuple(f"{speed:g} ×" for speed in SPEEDS), initial_value="1 ×")
        self._marks = gui.add_dropdown("jump to", ("start",))
        follow = gui.add_checkbox("follow the robot", False)
        self._timeline.on_update(self._scrubbed)
        self._marks.on_update(self._jumped)
        buttons.on_click(lambda _: self._pressed(str(buttons.value)))
        speed.on_update(lambda _: setattr(player, "speed", float(str(speed.value).split()[0])))
        follow.on_update(lambda _: setattr(page, "follow", follow.value))
        gui.add_command("Play or pause", hotkey="P").on_trigger(lambda _: self._pressed(PLAY))
        gui.add_command("One step", hotkey="N").on_trigger(lambda _: self._pressed(STEP))

    def _add_watch(self) -> None:
        page = self._page
        for name, meaning in MEANINGS.items():
            box = self._gui.add_checkbox(name, name in page.shown, hint=meaning)
            box.on_update(partial(self._switched, name))
        self._plots = add_plots(self._gui)
        arms = tuple(page.arms[page.scene])
        other = self._gui.add_dropdown("let", arms, hint="another arm, or yourself")
        button = self._gui.add_button("go on from this frame, beside it")
        button.on_click(lambda event: self.tried(event.client, lambda: page.branch(other.value)))

    def _add_live(self) -> None:
        gui, page = self._gui, self._page
        scene = gui.add_dropdown("scene", tuple(page.arms), initial_value=page.scene)
        split = gui.add_dropdown("split", scenes[page.scene].splits, initial_value="test")
        number = gui.add_number("number", 0, min=0, step=1, hint="of the space in its split, and seed of the episode")
        arm = gui.add_dropdown("arm", tuple(page.arms[page.scene]))
        physics = gui.add_text("physics", "", hint="what differs, as load_mass_kg=9 load_friction=0.3:0.7")
        start = gui.add_button("Start", color="blue")
        own = gui.add_upload_button("Start in a layout of your own (JSON)", mime_type="application/json")

        def begin(layout: Layout | None) -> None:
            space = layout or scenes[scene.value].draw(split.value, int(number.value))
            name = f"own-{space.id}" if layout else split.value
            page.live(scene.value, space, name, int(number.value), arm.value, physics.value)

        def chosen(_: Any) -> None:
            split.options, arm.options = scenes[scene.value].splits, tuple(page.arms[scene.value])

        scene.on_update(chosen)
        start.on_click(lambda event: self.tried(event.client, lambda: begin(None)))
        own.on_upload(lambda event: self.tried(event.client, lambda: begin(_layout_of(own.value, scene.value))))

    def _add_drive(self) -> None:
        page = self._page
        self._gui.add_markdown(
            "Choose the arm **you** under *Live*, or let **you** go on from a frame. "
            "Keys: I faster, K slower, J left, L right, space stops."
        )
        pad = self._gui.add_button_group("", tuple(KEYS))
        pad.on_click(lambda _: page.driver.press(str(pad.value)))
        for name, (key, _) in KEYS.items():
            self._gui.add_command(f"Drive: {name}", hotkey=key).on_trigger(  # type: ignore[arg-type]
                partial(lambda name, _: page.driver.press(name), name)
            )

    def _add_save(self) -> None:
        gui, page = self._gui, self._page
        where = gui.add_text("dataset", "kept", hint="a directory; episodes are kept by split below it")
        keep = gui.add_button("Keep as an episode", hint="of two takes the second")
        html, mp4 = gui.add_button("Save as one HTML file"), gui.add_button("Save as mp4")
        keep.on_click(lambda event: self.tried(event.client, lambda: page.keep(Path(where.value))))
        html.on_click(lambda event: self.tried(event.client, lambda: self._save_html(event.client)))
        mp4.on_click(lambda event: self.tried(event.client, lambda: self._save_mp4(event.client)))

    def _save_html(self, client: viser.ClientHandle | None) -> None:
        self._page.say("writing …")
        _send(client, "training-ground.html", self._page.export_html().encode())
        self._page.say("")

    def _save_mp4(self, client: viser.ClientHandle | None) -> None:
        if client is not None:
            film = self._page.export_mp4(client, lambda done, total: self._page.say(f"frame {done} of {total}"))
            _send(client, "training-ground.mp4", film)
            self._page.say("")

    def tried(self, client: viser.ClientHandle | None, act: Callable[[], Any]) -> None:
        """Do it, and tell a mistake on the page instead of nowhere."""
        try:
            act()
        except (GroundError, OSError) as error:
            self._page.say(f"**{error}**")
            if client is not None:
                client.add_notification("That did not work", str(error), color="red", auto_close_seconds=10)

    def _pressed(self, button: str) -> None:
        player = self._page.player
        if button == PLAY:
            player.playing = not player.playing
        elif button == STEP:
            player.playing = False
            player.step()
        else:
            player.seek(0)

    def _switched(self, name: str, event: Any) -> None:
        (self._page.shown.add if event.target.value else self._page.shown.discard)(name)
        self._page.redraw()

    def _jumped(self, event: Any) -> None:
        if event.client is not None:
            self._page.player.playing = False
            number = event.target.value.rpartition("(")[2].rstrip(")") if "(" in event.target.value else "0"
            self._page.player.seek(int(number))

    def _scrubbed(self, event: Any) -> None:
        if event.client is not None and int(event.target.value) != self._page.player.index:  # by a person
            self._page.player.playing = False
            self._page.player.seek(int(event.target.value))


def _send(client: viser.ClientHandle | None, name: str, content: bytes) -> None:
    if client is not None:
        client.send_file_download(name, content, save_immediately=True)


def _layout_of(file: viser.UploadedFile, scene: str) -> Layout:
    layout = Layout.parse(file.content, file.name)
    if faults := scenes[scene].faults(layout):
        raise BadLayout(file.name, faults)
    return layout
