"""Panels: buttons, lists and plots beside the scene. They know a session, and no page."""

from collections.abc import Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import viser
from viser._messages import GuiSliderMark

from experiments.colours import get_method_colours
from experiments.viewer.drawing import overlays
from experiments.viewer.drawing.recording import render_html, render_mp4
from experiments.viewer.page.plots import add_plots, compute_series
from experiments.viewer.replay.human_policy import DRIVE_KEYS, list_drive_keys
from experiments.viewer.replay.player import PLAYBACK_SPEEDS, find_marks
from experiments.viewer.replay.replay import Replay
from experiments.viewer.replay.session import HUMAN_METHOD, ViewerSession, make_setup
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.utils.errors import BadLayout, GroundError
from sim.visuals import format_hex

PLAY_LABEL, STEP_LABEL, START_LABEL, RESET_LABEL = "play / pause", "step", "to the start", "reset"
NO_MARK_LABEL = "…"
OVERLAY_COLOURS = {
    "low cost": "#1a9850",
    "high cost": "#d73027",
    "contact force": format_hex(overlays.FORCE_COLOUR),
    "disagreement": format_hex(overlays.DISAGREEMENT_COLOUR),
}
MARK_LABEL_SHARE = 0.2  # of the timeline that a mark's label takes
DRIVE_HELP = (
    f"Choose the method **{HUMAN_METHOD}** under *Live*, or continue with it from a frame; time starts with the first key. "
    "Each key changes a speed by half of its limit, and the speed stays. A mobile robot drives and turns; the tool of an arm "
    "moves away from you, back, left and right, and where it can, up and down. Keys: "
)


class Panels:
    """The controls of a session in tabs; `update` makes them show what the session shows."""

    def __init__(self, gui: viser.GuiApi, session: ViewerSession, scene: str) -> None:
        """Add all controls.

        Args:
            gui: of the page.
            session: to control.
            scene: chosen first.
        """
        self._gui, self._session, self._player = gui, session, session.player
        self._scene_name = scene  # whose plots and keys are shown
        self._replay_labels: tuple[str, ...] = ()
        self._legend_replays: list[Replay] = []
        self._plots: dict[str, viser.GuiUplotHandle] = {}
        self._status = gui.add_markdown("", order=0)
        self.tabs = gui.add_tab_group(order=2)
        with gui.add_folder("Time", order=1):
            self._add_playback_controls()
        tabs = {
            "Watch": self._add_watch_tab, "Live": self._add_live_tab, "Drive": self._add_drive_tab, "Save": self._add_save_tab
        }  # fmt: skip
        for name, add_controls in tabs.items():
            with self.tabs.add_tab(name):
                add_controls()

    def set_live_options(self, scene: str, split: str, index: int, method: str) -> None:
        """Choose in the tab Live."""
        _set(self._scene_dropdown, value=scene)
        for handle, value in ((self._split_dropdown, split), (self._method_dropdown, method)):
            if value in handle.options:
                _set(handle, value=value)
        _set(self._index_field, value=index)
        _set(self._seed_field, value=index)

    def update(self) -> None:
        """Show the state of the session; what is equal is not sent again."""
        session = self._session
        replays = self._player.replays
        _set(self._status, content=session.format_status())
        _set(self._method_dropdown, options=tuple(session.methods[self._scene_dropdown.value]))
        if not replays:
            return
        replay = session.selected_replay
        if replay.setup.scene != self._scene_name:
            self._set_scene(replay.setup.scene)
        self._replay_labels = tuple(f"{number} {shown.name}" for number, shown in enumerate(replays, 1))
        _set(self._replay_dropdown, options=self._replay_labels, visible=len(replays) > 1)
        _set(self._branch_dropdown, options=tuple(session.methods[replay.setup.scene]))
        if self._legend_replays != replays:
            self._legend_replays = list(replays)
            self._legend.content = render_legend(replays)
        self._update_timeline()
        frame_index = min(self._player.frame_index, len(replay.frames) - 1)
        data = {name: compute_series(name, replay, frame_index) for name in self._plots}
        for name, plot in self._plots.items():
            is_replaced = name == "cost" and len(data["prediction"][0]) > 0  # that plot shows the cost too
            is_visible = len(data[name][0]) > 0 and not is_replaced
            _set(plot, visible=is_visible)
            if is_visible:
                plot.data = data[name]

    def _update_timeline(self) -> None:
        num_frames, marks = self._player.num_frames, find_marks(self._session.selected_replay)
        _set(self._timeline, max=max(1, num_frames - 1), value=self._player.frame_index)
        labels = select_mark_labels(marks, num_frames)
        self._timeline._marks = tuple(GuiSliderMark(float(index), label) for index, label in labels)  # no public setter
        _set(self._mark_dropdown, options=(NO_MARK_LABEL, *(f"{label} ({index})" for index, label in marks)))

    def _set_scene(self, scene: str) -> None:
        """Make the plots and keys those of a scene: its actions may have other components."""
        self._scene_name = scene
        for plot in self._plots.values():
            plot.remove()
        with self._plot_folder:
            self._plots = add_plots(self._gui, scenes[scene])
        _set(self._drive_buttons, options=tuple(list_drive_keys(scenes[scene])))

    def _add_playback_controls(self) -> None:
        gui, session, player = self._gui, self._session, self._player
        hint = "the replay that plots, marks and buttons are about"
        self._replay_dropdown = gui.add_dropdown("replay", ("1",), visible=False, hint=hint)
        self._timeline = gui.add_slider("frame", 0, 1, 1, 0, hint="control steps since the start")
        buttons = (PLAY_LABEL, STEP_LABEL, START_LABEL, RESET_LABEL)
        hint = "keys: P plays or pauses, N makes a step; reset simulates a live episode anew"
        playback_buttons = gui.add_button_group("", buttons, hint=hint)
        speeds = tuple(f"{speed:g} ×" for speed in PLAYBACK_SPEEDS)
        speed_dropdown = gui.add_dropdown("speed", speeds, initial_value="1 ×", hint="of playing, against real time")
        hint = "first contact, first large prediction error, first violation, or the end"
        self._mark_dropdown = gui.add_dropdown("go to", (NO_MARK_LABEL,), hint=hint)
        follow_checkbox = gui.add_checkbox("follow the robot", False, hint="move the camera with the robot")
        self._replay_dropdown.on_update(lambda _: self._select_replay())
        self._timeline.on_update(self._handle_timeline)
        self._mark_dropdown.on_update(self._go_to_mark)
        playback_buttons.on_click(lambda _: self._handle_playback_button(str(playback_buttons.value)))
        speed_dropdown.on_update(lambda _: setattr(player, "speed", float(str(speed_dropdown.value).split()[0])))
        follow_checkbox.on_update(lambda _: setattr(session, "follows_robot", follow_checkbox.value))
        gui.add_command("Play or pause", hotkey="P").on_trigger(lambda _: self._handle_playback_button(PLAY_LABEL))
        gui.add_command("One step", hotkey="N").on_trigger(lambda _: self._handle_playback_button(STEP_LABEL))

    def _add_watch_tab(self) -> None:
        gui, session = self._gui, self._session
        self._legend = gui.add_html("")
        for name, description in overlays.OVERLAY_DESCRIPTIONS.items():
            checkbox = gui.add_checkbox(name, name in session.shown_overlays, hint=description)
            checkbox.on_update(partial(self._toggle_overlay, name))
        hint = f"the method that continues; {HUMAN_METHOD}: drive"
        self._branch_dropdown = gui.add_dropdown("continue with", tuple(session.methods[self._scene_name]), hint=hint)
        hint = "another replay, beside this one, is equal until this frame; then that method acts"
        branch_button = gui.add_button("Continue from this frame", hint=hint)
        session.connect_button(branch_button, lambda: session.branch(self._branch_dropdown.value))
        self._plot_folder = gui.add_folder("Plots")  # last: everything below would be out of sight
        with self._plot_folder:
            self._plots = add_plots(gui, scenes[self._scene_name])

    def _add_live_tab(self) -> None:
        gui, session, scene = self._gui, self._session, self._scene_name
        self._scene_dropdown = gui.add_dropdown("scene", tuple(session.methods), initial_value=scene, hint="robot and task")
        self._split_dropdown = gui.add_dropdown("split", scenes[scene].splits, hint="split of the layout and physics")
        self._index_field = gui.add_number("layout number", 0, min=0, step=1, hint="of the layout in its split")
        self._seed_field = gui.add_number("seed", 0, min=0, step=1, hint="of the episode: noise, and physics that vary")
        self._method_dropdown = gui.add_dropdown("method", tuple(session.methods[scene]), hint="acts in the episode")
        hint = "values or ranges that differ, as load_mass_kg=9 load_friction=0.3:0.7 traffic_speed=1.5"
        self._physics_field = gui.add_text("physics", "", hint=hint)
        hint = "keep what is shown, and show the new replay beside"
        self._keep_checkbox = gui.add_checkbox("add to the view", False, hint=hint)
        start_button = gui.add_button("Start", color="blue", hint="run the method live from the start of an episode")
        run_field = gui.add_text("run", "", hint="a run directory, whose methods are added to the list above")
        run_button = gui.add_button("Add the methods of this run")
        label = "Start in a custom layout (JSON)"
        hint = "a file as `ground layout` writes and checks it"
        layout_button = gui.add_upload_button(label, mime_type="application/json", hint=hint)
        self._scene_dropdown.on_update(lambda _: self._update_live_options())
        session.connect_button(start_button, self._start_live)
        session.connect_button(run_button, lambda: session.add_run_methods(_parse_directory(run_field.value)))
        layout_button.on_upload(lambda event: session.run_action(partial(self._start_live, layout_button), event.client))
        self._update_live_options()

    def _update_live_options(self) -> None:
        scene = self._scene_dropdown.value
        splits, methods = scenes[scene].splits, self._session.methods[scene]
        for handle, names, default in ((self._split_dropdown, splits, "test"), (self._method_dropdown, methods, "scripted")):
            value = handle.value if handle.value in names else default
            _set(handle, options=tuple(names))
            if value in names:
                _set(handle, value=value)

    def _start_live(self, layout_button: viser.GuiUploadButtonHandle | None = None) -> None:
        """Start in the layout that was uploaded, or in the chosen one."""
        scene, seed, physics = self._scene_dropdown.value, int(self._seed_field.value), self._physics_field.value
        if layout_button:
            layout = _parse_layout(layout_button.value, scene)
            setup = make_setup(scene, layout, "test", seed, physics, is_custom_layout=True)
        else:
            split = self._split_dropdown.value
            layout = scenes[scene].sample_layout(split, int(self._index_field.value))
            setup = make_setup(scene, layout, split, seed, physics)
        self._session.start_live(setup, self._method_dropdown.value, keep_shown=self._keep_checkbox.value)

    def _add_drive_tab(self) -> None:
        gui, session = self._gui, self._session
        gui.add_markdown(DRIVE_HELP + ", ".join(f"{key} {name}" for name, key in DRIVE_KEYS.items()) + ".")
        keys = tuple(list_drive_keys(scenes[self._scene_name]))
        self._drive_buttons = gui.add_button_group("", keys, hint="each changes a speed by half of its limit")
        self._drive_buttons.on_click(lambda _: session.drive(str(self._drive_buttons.value)))
        for name, key in DRIVE_KEYS.items():
            command = gui.add_command(f"Drive: {name}", hotkey=key)  # type: ignore[arg-type]
            command.on_trigger(partial(lambda name, _: session.drive(name), name))

    def _add_save_tab(self) -> None:
        gui, session = self._gui, self._session
        dataset_field = gui.add_text("dataset", "episodes", hint="a directory; it holds one dataset for each split")
        save_button = gui.add_button("Save as an episode", hint="add the selected replay to the dataset, to train on")
        html_button = gui.add_button("Save as HTML", hint="one file with a time bar that opens in any browser")
        mp4_button = gui.add_button("Save as mp4", hint="a video from the camera's position; it takes a second for each frame")
        session.connect_button(save_button, lambda: session.save_episode(_parse_directory(dataset_field.value)))
        html_button.on_click(lambda event: session.run_action(partial(self._save_html, event), event.client))
        mp4_button.on_click(lambda event: session.run_action(partial(self._save_mp4, event), event.client))

    def _save_html(self, event: Any) -> None:
        self._session.show_message("writing, once all plans are recomputed …")
        self._session.plan_recomputer.wait()  # a recording with half of the plans would mislead
        replays = self._player.replays
        title = ", ".join(replay.name for replay in replays)
        content = render_html(replays, title, self._session.shown_overlays).encode()
        event.client.send_file_download("training-ground.html", content, save_immediately=True)
        self._session.show_message("")

    def _save_mp4(self, event: Any) -> None:
        session, player = self._session, self._player
        session.plan_recomputer.wait()
        replays = player.replays
        player.is_playing = False

        def seek(frame_index: int) -> None:
            player.seek(frame_index)
            session.show_message(f"video: frame {frame_index + 1} of {player.num_frames}")

        def is_undisturbed(frame_index: int) -> bool:
            return player.replays is replays and player.frame_index == frame_index

        frame_s = session.selected_replay.scene.control_dt_s
        content = render_mp4(event.client, player.num_frames, seek, frame_s, is_undisturbed)
        event.client.send_file_download("training-ground.mp4", content, save_immediately=True)
        session.show_message("")

    def _select_replay(self) -> None:
        if self._replay_dropdown.value in self._replay_labels:
            self._session.selected_index = self._replay_labels.index(self._replay_dropdown.value)
            self._session.on_change()

    def _handle_playback_button(self, button: str) -> None:
        player = self._player
        try:
            if button == PLAY_LABEL:
                player.toggle_playing()
                return
            player.is_playing = False
            {STEP_LABEL: player.step, START_LABEL: lambda: player.seek(0), RESET_LABEL: player.reset}[button]()
        except Exception as error:
            self._session.report_error(error)

    def _toggle_overlay(self, name: str, event: Any) -> None:
        shown_overlays = self._session.shown_overlays
        (shown_overlays.add if event.target.value else shown_overlays.discard)(name)
        self._session.on_change()

    def _go_to_mark(self, event: Any) -> None:
        if event.client is not None and "(" in event.target.value:
            frame_index = int(event.target.value.rpartition("(")[2].rstrip(")"))
            event.target.value = NO_MARK_LABEL  # the same mark can be chosen again
            self._player.is_playing = False
            self._player.seek(frame_index)

    def _handle_timeline(self, event: Any) -> None:
        if event.client is not None and int(event.target.value) != self._player.frame_index:  # moved by a user
            self._player.is_playing = False
            self._player.seek(int(event.target.value))


def select_mark_labels(marks: list[tuple[int, str]], num_frames: int) -> list[tuple[int, str | None]]:
    """Drop the labels of marks that are so near to the label before that they would overlap."""
    labels, last_label_index = list[tuple[int, str | None]](), -MARK_LABEL_SHARE * num_frames
    for frame_index, name in sorted(marks):
        has_space = frame_index - last_label_index >= MARK_LABEL_SHARE * num_frames
        labels.append((frame_index, name if has_space else None))
        last_label_index = frame_index if has_space else last_label_index
    return labels


def render_legend(replays: Sequence[Replay]) -> str:
    """Render the colours of bodies, overlays and, side by side, of methods."""
    layouts = [replay.setup.layout for replay in replays]
    bodies = {name: format_hex(colour) for name, colour in replays[0].scene.visuals.make_legend(layouts).items()}
    methods = get_method_colours(replay.name for replay in replays) if len(replays) > 1 else {}
    lines = filter(None, (bodies, OVERLAY_COLOURS, methods))
    return f'<div style="font-size:0.8em;margin:0 1em">{"".join(map(_render_colours, lines))}</div>'


def _render_colours(colours: dict[str, str]) -> str:
    chips = (
        f'<span style="white-space:nowrap;margin-right:0.8em"><span style="color:{colour}">■</span> {escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f"<div>{''.join(chips)}</div>"


def _set(handle: Any, **values: Any) -> None:
    """Set the attributes of a handle that differ: each assignment is sent to the browser."""
    for name, value in values.items():
        if getattr(handle, name) != value:
            setattr(handle, name, value)


def _parse_directory(name: str) -> Path:
    if not name.strip():
        raise GroundError("name a directory first")
    return Path(name.strip())


def _parse_layout(file: viser.UploadedFile, scene: str) -> Layout:
    layout = Layout.parse(file.content, file.name)
    if faults := scenes[scene].find_faults(layout):
        raise BadLayout(file.name, faults)
    return layout
