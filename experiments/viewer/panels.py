"""What is beside the scene: buttons, lists and plots, each of which does one thing with the page."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import viser
from viser._messages import GuiSliderMark

from experiments.viewer.driving import DRIVE_KEYS
from experiments.viewer.overlays import OVERLAY_DESCRIPTIONS
from experiments.viewer.player import PLAYBACK_SPEEDS
from experiments.viewer.plots import COST_TITLE, ERROR_TITLE, PREDICTED_COST_TITLE, add_plots
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.utils.errors import BadLayout, GroundError

if TYPE_CHECKING:
    from experiments.viewer.page import Page

PLAY_LABEL, STEP_LABEL, START_LABEL, RESET_LABEL = "play / pause", "step", "to the start", "reset"
NO_MARK_LABEL = "…"
MARK_LABEL_SHARE = 0.2  # of the timeline that a mark's name takes


class Panels:
    """The page's controls in tabs; `update` and `plot` keep them at the frame that is shown."""

    def __init__(self, page: "Page", scene: str) -> None:
        self._page, self._gui = page, page.server.gui
        self._status = self._gui.add_markdown("", order=0)
        self.tabs = self._gui.add_tab_group(order=2)
        with self._gui.add_folder("Time", order=1):
            self._add_playback_controls()
        with self.tabs.add_tab("Watch"):
            self._add_watch_tab(scene)
        with self.tabs.add_tab("Live"):
            self._add_live_tab(scene)
        with self.tabs.add_tab("Drive"):
            self._add_drive_tab()
        with self.tabs.add_tab("Save"):
            self._add_save_tab()

    def set_status(self, text: str) -> None:
        if self._status.content != text:
            self._status.content = text

    def set_replays(self, replay_names: list[str], methods: tuple[str, ...], scene: str) -> None:
        """What can be chosen of the takes that are shown now, and what their scene calls things."""
        self._replay_labels = tuple(f"{number} {name}" for number, name in enumerate(replay_names, 1))
        self._replay_dropdown.options, self._replay_dropdown.visible = self._replay_labels, len(replay_names) > 1
        if self._branch_dropdown.options != methods:
            self._branch_dropdown.options = methods
        self._plots[ERROR_TITLE].title = ERROR_TITLE.format(other=scenes[scene].dynamic_noun)

    def set_methods(self, scene: str, methods: tuple[str, ...], is_shown: bool) -> None:
        """What can be chosen in a scene, which may be the one that is shown."""
        if self._scene_dropdown.value == scene:
            self._method_dropdown.options = methods
        if is_shown:
            self._branch_dropdown.options = methods

    def set_live_options(self, scene: str, split: str, index: int, method: str) -> None:
        """What the Live tab begins with."""
        handles: tuple[Any, ...] = (
            self._scene_dropdown,
            self._split_dropdown,
            self._index_field,
            self._seed_field,
            self._method_dropdown,
        )
        for handle, value in zip(handles, (scene, split, index, index, method), strict=True):
            handle.value = value

    def update_frame(self, frame_index: int, num_frames: int, marks: list[tuple[int, str]], status: str) -> None:
        """A frame of `length`, frames worth finding, and the title."""
        if self._timeline.max != max(1, num_frames - 1):
            self._timeline.max = max(1, num_frames - 1)
        if self._timeline.value != frame_index:
            self._timeline.value = frame_index  # type: ignore[misc]  # viser types it as read-only
        self._timeline._marks = tuple(
            GuiSliderMark(float(frame_index), label) for frame_index, label in select_mark_labels(marks, num_frames)
        )  # no public setter
        options = (NO_MARK_LABEL, *(f"{name} ({mark_index})" for mark_index, name in marks))
        if self._mark_dropdown.options != options:
            self._mark_dropdown.options = options
        self.set_status(status)

    def update_plots(self, get_values: Callable[[str], tuple[np.ndarray, ...]]) -> None:
        """`values` of each plot's title; what nothing is known of is hidden, the bare cost where there is a prediction."""
        data = {title: get_values(title) for title in self._plots}
        for title, plot in self._plots.items():
            is_visible = len(data[title][0]) > 0 and not (title == COST_TITLE and len(data[PREDICTED_COST_TITLE][0]))
            if plot.visible != is_visible:
                plot.visible = is_visible
            if is_visible:
                plot.data = data[title]

    def run_action(self, client: viser.ClientHandle | None, action: Callable[[], Any]) -> None:
        """Do it, one thing at a time, and tell what goes wrong on the page instead of nowhere."""
        try:
            with self._page.acquire_action_lock():
                action()
        except Exception as error:
            self._page.report_error(client, error)

    def _connect_button(self, handle: Any, action: Callable[[], Any]) -> None:
        """Do it when a button is pressed."""
        handle.on_click(lambda event: self.run_action(event.client, action))

    def _add_playback_controls(self) -> None:
        gui, page, player = self._gui, self._page, self._page.player
        self._replay_dropdown = gui.add_dropdown("take", ("1",), visible=False, hint="that plots, marks and buttons are about")
        self._timeline = gui.add_slider("frame", 0, 1, 1, 0)
        playback_buttons = gui.add_button_group("", (PLAY_LABEL, STEP_LABEL, START_LABEL, RESET_LABEL))
        speed_dropdown = gui.add_dropdown("speed", tuple(f"{speed:g} ×" for speed in PLAYBACK_SPEEDS), initial_value="1 ×")
        self._mark_dropdown = gui.add_dropdown("jump to", (NO_MARK_LABEL,))
        follow_checkbox = gui.add_checkbox("follow the robot", False)
        self._replay_dropdown.on_update(lambda _: self._select_replay())
        self._timeline.on_update(self._handle_timeline)
        self._mark_dropdown.on_update(self._jump_to_mark)
        playback_buttons.on_click(lambda _: self._handle_playback_button(str(playback_buttons.value)))
        speed_dropdown.on_update(lambda _: setattr(player, "speed", float(str(speed_dropdown.value).split()[0])))
        follow_checkbox.on_update(lambda _: setattr(page, "follow", follow_checkbox.value))
        gui.add_command("Play or pause", hotkey="P").on_trigger(lambda _: self._handle_playback_button(PLAY_LABEL))
        gui.add_command("One step", hotkey="N").on_trigger(lambda _: self._handle_playback_button(STEP_LABEL))

    def _add_watch_tab(self, scene: str) -> None:
        page = self._page
        for name, description in OVERLAY_DESCRIPTIONS.items():
            checkbox = self._gui.add_checkbox(name, name in page.shown_overlays, hint=description)
            checkbox.on_update(partial(self._toggle_overlay, name))
        self._branch_dropdown = self._gui.add_dropdown(
            "hand over to", tuple(page.methods[scene]), hint="another arm, or yourself"
        )
        self._connect_button(
            self._gui.add_button("go on from this frame, beside it"), lambda: page.branch(self._branch_dropdown.value)
        )
        self._plots = add_plots(self._gui)  # last: with a planner's three, what follows would be out of sight

    def _add_live_tab(self, scene: str) -> None:
        gui, page = self._gui, self._page
        self._scene_dropdown = gui.add_dropdown("scene", tuple(page.methods), initial_value=scene)
        self._split_dropdown = gui.add_dropdown("split", scenes[scene].splits, initial_value="test")
        self._index_field = gui.add_number("index", 0, min=0, step=1, hint="of the space in its split")
        self._seed_field = gui.add_number("seed", 0, min=0, step=1, hint="of the episode: noise, and physics that vary")
        self._method_dropdown = gui.add_dropdown("arm", tuple(page.methods[scene]))
        physics_field = gui.add_text(
            "physics", "", hint="what differs, as load_mass_kg=9 load_friction=0.3:0.7 traffic_speed=1.5"
        )
        keep_checkbox = gui.add_checkbox("beside what is shown", False)
        start_button = gui.add_button("Start", color="blue")
        run_field = gui.add_text("run", "", hint="a directory whose arms are to be chosen from, too")
        self._connect_button(
            gui.add_button("Take the arms of that run"), lambda: page.add_run_methods(_parse_directory(run_field.value))
        )
        layout_upload = gui.add_upload_button("Start in a layout of your own (JSON)", mime_type="application/json")

        def start_live(layout: Layout | None) -> None:
            scene, seed = self._scene_dropdown.value, int(self._seed_field.value)
            start_layout = layout or scenes[scene].sample_layout(self._split_dropdown.value, int(self._index_field.value))
            split, is_custom_layout = ("test", True) if layout else (self._split_dropdown.value, False)
            page.start_live(
                scene,
                start_layout,
                split,
                seed,
                self._method_dropdown.value,
                physics_field.value,
                keep_shown=keep_checkbox.value,
                is_custom_layout=is_custom_layout,
            )

        def update_options(_: Any) -> None:
            splits, methods = scenes[self._scene_dropdown.value].splits, tuple(page.methods[self._scene_dropdown.value])
            for handle, options, default in (
                (self._split_dropdown, splits, "test"),
                (self._method_dropdown, methods, "scripted"),
            ):
                value = handle.value if handle.value in options else default
                handle.options = options
                handle.value = value  # type: ignore[misc]  # viser types it as read-only

        self._scene_dropdown.on_update(update_options)
        self._connect_button(start_button, lambda: start_live(None))
        layout_upload.on_upload(
            lambda event: self.run_action(
                event.client, lambda: start_live(_parse_layout(layout_upload.value, self._scene_dropdown.value))
            )
        )

    def _add_drive_tab(self) -> None:
        page = self._page
        self._gui.add_markdown(
            "Choose the arm **you** under *Live*, or let **you** go on from a frame; time starts with the first press. "
            "Each press changes a speed by half of its "
            "limit, and the speed stays: an AMR drives forward or back and turns left or right; an arm's tool moves away from "
            f"you, back, left or right. Keys: {', '.join(f'{key} {name}' for name, (key, _) in DRIVE_KEYS.items())}."
        )
        drive_buttons = self._gui.add_button_group("", tuple(DRIVE_KEYS))
        drive_buttons.on_click(lambda _: page.drive(str(drive_buttons.value)))
        for name, (key, _) in DRIVE_KEYS.items():
            self._gui.add_command(f"Drive: {name}", hotkey=key).on_trigger(  # type: ignore[arg-type]
                partial(lambda name, _: page.drive(name), name)
            )

    def _add_save_tab(self) -> None:
        gui, page = self._gui, self._page
        dataset_field = gui.add_text("dataset", "kept", hint="a directory; episodes are kept by split below it")
        self._connect_button(
            gui.add_button("Keep as an episode"), lambda: page.save_episode(_parse_directory(dataset_field.value))
        )
        html_button, mp4_button = gui.add_button("Save as one HTML file"), gui.add_button("Save as mp4")
        html_button.on_click(lambda event: self.run_action(event.client, lambda: self._save_html(event.client)))
        mp4_button.on_click(lambda event: self.run_action(event.client, lambda: self._save_mp4(event.client)))

    def _save_html(self, client: viser.ClientHandle | None) -> None:
        self._page.show_message("writing, once all thoughts are known …")
        content = self._page.export_html().encode()
        if client is not None:
            client.send_file_download("training-ground.html", content, save_immediately=True)
        self._page.show_message("")

    def _save_mp4(self, client: viser.ClientHandle | None) -> None:
        if client is not None:
            client.send_file_download("training-ground.mp4", self._page.export_mp4(client), save_immediately=True)
            self._page.show_message("")

    def _select_replay(self) -> None:
        if self._replay_dropdown.value in self._replay_labels:
            self._page.selected_index = self._replay_labels.index(self._replay_dropdown.value)
            self._page.redraw()

    def _handle_playback_button(self, button: str) -> None:
        player = self._page.player
        try:
            if button == PLAY_LABEL:
                player.toggle_playing()
                return
            player.is_playing = False
            {STEP_LABEL: player.step, START_LABEL: lambda: player.seek(0), RESET_LABEL: player.reset}[button]()
        except Exception as error:
            self._page.report_error(None, error)

    def _toggle_overlay(self, name: str, event: Any) -> None:
        (self._page.shown_overlays.add if event.target.value else self._page.shown_overlays.discard)(name)
        self._page.redraw()

    def _jump_to_mark(self, event: Any) -> None:
        if event.client is not None and "(" in event.target.value:
            frame_index = int(event.target.value.rpartition("(")[2].rstrip(")"))
            event.target.value = NO_MARK_LABEL  # the same mark can be chosen again
            self._page.player.is_playing = False
            self._page.player.seek(frame_index)

    def _handle_timeline(self, event: Any) -> None:
        if event.client is not None and int(event.target.value) != self._page.player.frame_index:  # by a person
            self._page.player.is_playing = False
            self._page.player.seek(int(event.target.value))


def select_mark_labels(marks: list[tuple[int, str]], num_frames: int) -> list[tuple[int, str | None]]:
    """Marks with their names, without that of one so near to the one named before that they would overlap."""
    labels, last_label_index = list[tuple[int, str | None]](), -MARK_LABEL_SHARE * num_frames
    for frame_index, name in sorted(marks):
        has_space = frame_index - last_label_index >= MARK_LABEL_SHARE * num_frames
        labels.append((frame_index, name if has_space else None))
        last_label_index = frame_index if has_space else last_label_index
    return labels


def _parse_directory(name: str) -> Path:
    if not name.strip():
        raise GroundError("name a directory first")
    return Path(name.strip())


def _parse_layout(file: viser.UploadedFile, scene: str) -> Layout:
    layout = Layout.parse(file.content, file.name)
    if faults := scenes[scene].find_faults(layout):
        raise BadLayout(file.name, faults)
    return layout
