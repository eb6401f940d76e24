"""The page: a player's takes on a server's scene, and everything that can be done with them. Its buttons are in panels.py."""

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import viser

from experiments.viewer import export
from experiments.viewer.driving import HumanPolicy
from experiments.viewer.overlays import DEFAULT_OVERLAYS
from experiments.viewer.panels import Panels
from experiments.viewer.player import Player, find_marks
from experiments.viewer.plots import compute_series
from experiments.viewer.runs import load_run_methods, read_run_scene, set_scene
from experiments.viewer.scenery import ReplayView
from experiments.viewer.take import EpisodeSetup, Replay
from experiments.viewer.thinking import PlanRecomputer
from sim.data.store import append_episode
from sim.layout import Layout
from sim.policy import PolicyFactory
from sim.scenes.scene import scenes, split_scene_id
from sim.utils.errors import GroundError, UnknownName
from sim.variation import describe_differences

HUMAN_METHOD = "you"  # the arm that a person drives
ERROR_PREFIX = "**"  # how notes of what went wrong begin
POSITION_TOLERANCE_M = 1e-5  # a replay this close to its recording is not worth a word: recordings are in single precision


class Page:
    """arms: of each scene, what can be chosen live."""

    def __init__(self, server: viser.ViserServer, methods: Mapping[str, Mapping[str, PolicyFactory]], scene: str) -> None:
        self.server = server
        self.human_policy = HumanPolicy()
        self.methods = {name: {**factories, HUMAN_METHOD: lambda: self.human_policy} for name, factories in methods.items()}
        self.player = Player(self.redraw, partial(self.report_error, None))
        self.plan_recomputer = PlanRecomputer(self.player, self.methods, self._show_plan_status, partial(self.report_error, None))
        self.shown_overlays = set(DEFAULT_OVERLAYS)
        self.follows_robot = False
        self.selected_index = 0  # of the takes side by side, the one that plots, marks and buttons are about
        self._message = ""
        self._plan_status = ""  # how far the thinker is; a line of its own, for it would overwrite what else there is to say
        self._last_saved: tuple[Replay, int, Path] | None = None  # the take that was kept last, how many frames of it, and where
        self._run_labels: dict[Path, str] = {}  # runs whose arms can be chosen, and how they are called
        self._view: ReplayView | None = None
        self._draw_lock = threading.RLock()
        self._action_lock = threading.Lock()
        server.gui.configure_theme(
            control_layout="collapsible", control_width="large", show_logo=False, show_share_button=False, dark_mode=False
        )
        self.panels = Panels(self, scene)

    @property
    def selected_replay(self) -> Replay:
        """The chosen one."""
        replays = self.player.replays
        return replays[min(self.selected_index, len(replays) - 1)]

    def start_live(
        self,
        scene: str,
        layout: Layout,
        split: str,
        seed: int,
        method: str,
        physics: str = "",
        play: bool = True,
        keep_shown: bool = False,
        is_custom_layout: bool = False,
    ) -> None:
        """An arm in a space, from the start; beside what is shown, or instead. physics: as `ground collect --vary` takes it, over
        what the split varies. own: the space is of no split; `split` then says only how
        physics vary."""
        if keep_shown and self.player.replays and self.selected_replay.setup.scene != scene:
            raise GroundError(
                f"beside {self.selected_replay.setup.scene} the same scene alone can be shown: untick 'beside what is shown'"
            )
        variations = scenes[scene].make_variations(split, tuple(physics.split()))
        split_name = f"own-{layout.id}" if is_custom_layout else split
        setup = EpisodeSetup(scene, layout, seed, variations.sample(np.random.default_rng(seed)), split_name)
        replay = Replay(method, setup, self._make_policy(scene, method))
        self.show([*(self.player.replays if keep_shown else ()), replay], play and method != HUMAN_METHOD)

    def add_methods(self, scene: str, methods: Mapping[str, PolicyFactory]) -> None:
        """More arms that can be chosen in a scene, and in its protocols."""
        for name in self.methods:
            if split_scene_id(name)[0] == scene:
                self.methods[name] = {
                    **{method: set_scene(factory, name) for method, factory in methods.items()},
                    **self.methods[name],
                }
                is_shown = bool(self.player.replays) and self.selected_replay.setup.scene == name
                self.panels.set_methods(name, tuple(self.methods[name]), is_shown)

    def add_run_methods(self, run: Path) -> None:
        """What a run, of whatever scene, has trained can be chosen too, by the run's name and its own."""
        scene = read_run_scene(run)
        if scene is None:
            raise GroundError(f"{run} does not tell which scene it is of")
        factories, missing = load_run_methods(run)
        label = self._run_labels.setdefault(run.resolve(), run.resolve().name)
        if [*self._run_labels.values()].count(label) > 1:  # another of this name is there already
            label = self._run_labels[run.resolve()] = str(run)
        run_methods = {f"{label}: {name}": factory for name, factory in factories.items() if name not in scenes[scene].behaviours}
        self.add_methods(scene, run_methods)
        missing_text = "".join(f"; {name} cannot be played: {reason}" for name, reason in missing.items())
        self.show_message(f"{run}: {', '.join(run_methods) or 'nothing'} can be chosen in {scene} now{missing_text}")

    def show(self, replays: Sequence[Replay], play: bool = False, message: str = "") -> None:
        """Takes side by side, from the start."""
        with self._draw_lock:
            self._message, self._plan_status = message, ""
            if self._view is not None:
                self._view.remove()
            self._view = ReplayView(self.server, replays, self.shown_overlays)
            self.selected_index = 0
            scene = replays[0].setup.scene
            self.panels.set_replays([replay.name for replay in replays], tuple(self.methods[scene]), scene)
            self.player.show(list(replays), play)

    def branch(self, method: str) -> None:
        """Show what another arm does from the frame that is shown, beside what happened."""
        replay, frame_index = self.selected_replay, min(self.player.frame_index, len(self.selected_replay.frames) - 1)
        if replay.is_over and frame_index == len(replay.frames) - 1:
            raise GroundError("the episode is over here: go back to an earlier frame first")
        new_replay = replay.branch(
            frame_index, f"{method} from step {frame_index}", self._make_policy(replay.setup.scene, method)
        )
        max_deviation_m = max(
            float(np.abs(a.pose[:, :3] - b.pose[:, :3]).max())
            for a, b in zip(replay.frames[: frame_index + 1], new_replay.frames[: frame_index + 1], strict=False)
        )
        self.show(
            [replay, new_replay], message=f"the state at step {frame_index} was rebuilt to within {1e3 * max_deviation_m:.3g} mm"
        )
        self.player.seek(frame_index)
        self.player.is_playing = method != HUMAN_METHOD
        self.redraw()

    def drive(self, key: str) -> None:
        """One of the driver's keys; the first one starts the time of a take that waits for it."""
        self.human_policy.apply_key(key)
        if any(
            replay.policy is self.human_policy and len(replay.frames) == self.player.frame_index + 1
            for replay in self.player.replays
        ):
            self.player.is_playing = True

    def save_episode(self, directory: Path) -> Path:
        """Add the chosen take to a dataset in `directory`; one directory per split."""
        replay = self.selected_replay
        if len(replay.frames) < 2:
            raise GroundError("nothing has happened yet: there is no episode to keep")
        save_key = replay, len(replay.frames), directory
        if self._last_saved == save_key:
            raise GroundError("this episode is kept already")
        split = replay.setup.split
        dataset = append_episode(directory / split, replay.setup.scene, split, replay.to_episode())
        self._last_saved = save_key
        self.show_message(f"kept: {dataset.path} now holds {dataset.steps} steps")
        return dataset.path

    def export_html(self) -> str:
        """What is shown, as one page that opens from disk."""
        self.plan_recomputer.wait()  # half of what was thought would look like a planner that stopped
        return export.render_html(
            self.player.replays, " beside ".join(replay.name for replay in self.player.replays), self.shown_overlays
        )

    def export_mp4(self, client: viser.ClientHandle) -> bytes:
        """What is shown, as a film from where the client's camera stands."""
        self.plan_recomputer.wait()
        replays, player = self.player.replays, self.player
        player.is_playing = False

        def seek(frame_index: int) -> None:
            player.seek(frame_index)
            self.show_message(f"frame {frame_index + 1} of {player.num_frames}")

        def is_undisturbed(frame_index: int) -> bool:
            return player.replays is replays and player.frame_index == frame_index

        return export.render_mp4(client, player.num_frames, seek, self.selected_replay.setup.scene, is_undisturbed)

    def show_message(self, message: str) -> None:
        """A line under the title."""
        self._message = message
        self.redraw()

    def report_error(self, client: viser.ClientHandle | None, error: Exception) -> None:
        """A mistake or a bug, where a person sees it."""
        is_expected = isinstance(error, GroundError | OSError)
        if not is_expected:
            logging.getLogger(__name__).error("the viewer met a bug", exc_info=error)
        text = str(error) if is_expected else f"{type(error).__name__}: {error} (a bug; the terminal shows where)"
        self._message = f"{ERROR_PREFIX}{text}**"
        self.panels.set_status(self._format_status())
        if client is not None:
            client.add_notification("That did not work", text, color="red", auto_close_seconds=10)

    @contextmanager
    def acquire_action_lock(self) -> Iterator[None]:
        """For what takes long and changes what is shown: one at a time. What went wrong before is forgotten."""
        if not self._action_lock.acquire(blocking=False):
            raise GroundError("the page is still busy with what was asked before")
        if self._message.startswith(ERROR_PREFIX):
            self.show_message("")
        try:
            yield
        finally:
            self._action_lock.release()

    def redraw(self) -> None:
        """Draw the frame that the player is at."""
        with self._draw_lock, self.server.atomic():
            replays, frame_index = self.player.replays, self.player.frame_index
            if self._view is None or self._view.replays != replays:
                self.panels.set_status(self._message)
                return
            self._view.draw_frame(frame_index)
            selected_frame = min(frame_index, len(self.selected_replay.frames) - 1)
            self.panels.update_frame(frame_index, self.player.num_frames, find_marks(self.selected_replay), self._format_status())
            self.panels.update_plots(lambda title: compute_series(title, self.selected_replay, selected_frame))
            if self.follows_robot:
                self._move_cameras(self.selected_replay.frames[selected_frame].pose[0, :3])

    def close(self) -> None:
        self.plan_recomputer.close()
        self.player.close()

    def _format_status(self) -> str:
        """How the takes stand, whether time goes on, and what else there is to say."""
        lines = [describe_replay(replay, self.player.frame_index) for replay in self.player.replays]
        playback_state = "*playing*" if self.player.is_playing else "*paused*"
        if self.player.replays and self.selected_replay.policy is self.human_policy and not self.selected_replay.is_over:
            playback_state += f" · you drive: {self.human_policy}"
        return "\n\n".join([*lines, playback_state, *filter(None, [self._plan_status, self._message])])

    def _show_plan_status(self, status: str) -> None:
        self._plan_status = status
        self.redraw()

    def _make_policy(self, scene: str, method: str) -> Any:
        if method not in self.methods[scene]:
            raise UnknownName("arm", method, self.methods[scene])
        self.show_message(f"getting {method} ready …")
        return self.methods[scene][method]()

    def _move_cameras(self, target: np.ndarray) -> None:
        for client in self.server.get_clients().values():
            offset = np.asarray(client.camera.position) - client.camera.look_at
            client.camera.position = target.astype(float) + offset  # viser moves look_at with it
            client.camera.look_at = target.astype(float)


def describe_replay(replay: Replay, frame_index: int) -> str:
    """A line: who, where, and how it stands."""
    last_index = min(frame_index, len(replay.frames) - 1)
    frame, layout = replay.frames[last_index], replay.setup.layout
    if frame.success:
        state = "solved"
    elif last_index == len(replay.frames) - 1 and replay.is_over:
        state = "out of time" if last_index >= scenes[replay.setup.scene].episode_steps else "the recording ends"
    else:
        state = f"cost {frame.cost * scenes[replay.setup.scene].task.cost_unit_m:.2f} m"
    violation_text = f", {', '.join(kind.replace('_', ' ') for kind in frame.violations)}" if frame.violations else ""
    deviation_m = replay.deviation_m or 0.0
    deviation_text = (
        f" (replayed to within {1e3 * deviation_m:.3g} mm of the recording)" if deviation_m > POSITION_TOLERANCE_M else ""
    )
    physics = ", ".join(describe_differences(replay.setup.variation, scenes[replay.setup.scene].make_variations("test", ()).base))
    physics_text = f" ({physics})" if physics else ""
    return f"**{replay.name}** in {layout.name or layout.id}{physics_text}, step {last_index}: {state}{violation_text}{deviation_text}"
