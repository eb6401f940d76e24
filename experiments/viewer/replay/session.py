"""ViewerSession: the state of the viewer and all actions of users. It draws nothing."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.evaluation.results import CUSTOM_SPLIT_PREFIX
from experiments.viewer.replay.describe import describe_replay
from experiments.viewer.replay.human_policy import DriveCommand, HumanPolicy, list_drive_keys
from experiments.viewer.replay.methods import SceneMethods, load_run_methods, read_run_scene, set_scene
from experiments.viewer.replay.plan_recomputer import PlanRecomputer
from experiments.viewer.replay.player import Player
from experiments.viewer.replay.replay import EpisodeSetup, Replay
from sim.data.store import append_episode
from sim.layout import Layout
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import scenes, split_scene_id
from sim.utils.errors import GroundError, UnknownName

HUMAN_METHOD = "you"  # driven by the user


class ViewerSession:
    """Replays, methods to choose from, and actions; `on_change` is called, from any thread, to redraw."""

    def __init__(self, methods: SceneMethods, shown_overlays: Iterable[str]) -> None:
        """Show nothing yet.

        Args:
            methods: by scene and name.
            shown_overlays: names of those that are switched on.
        """
        self.on_change: Callable[[], None] = lambda: None
        self.command = DriveCommand()
        self.methods: dict[str, dict[str, PolicyFactory]] = {
            name: {**factories, HUMAN_METHOD: partial(HumanPolicy, scenes[name], self.command)}
            for name, factories in methods.items()
        }
        self.player = Player(self._notify, self.report_error)
        self.plan_recomputer = PlanRecomputer(self.player, self.methods, self._set_plan_status, self.report_error)
        self.shown_overlays = set(shown_overlays)
        self.follows_robot = False
        self.selected_index = 0  # of the replay that plots, marks and buttons are about
        self.message = ""
        self.has_failed = False  # whether the message is an error
        self._plan_status = ""
        self._last_saved: tuple[Replay, int, Path] | None = None  # replay, its number of frames, directory
        self._run_labels: dict[Path, str] = {}  # names of runs whose methods can be chosen
        self._action_lock = threading.Lock()

    @property
    def selected_replay(self) -> Replay:
        """The replay that plots, marks and buttons are about."""
        replays = self.player.replays
        return replays[min(self.selected_index, len(replays) - 1)]

    @property
    def is_driven(self) -> bool:
        """Whether the user drives the selected replay."""
        replays = self.player.replays
        return bool(replays) and isinstance(self.selected_replay.policy, HumanPolicy) and not self.selected_replay.is_over

    def start_live(self, setup: EpisodeSetup, method: str, play: bool = True, keep_shown: bool = False) -> None:
        """Run a method live from the start of an episode.

        Args:
            setup: of the episode.
            method: one of the scene's.
            play: at once; the user's own driving waits for the first key.
            keep_shown: add the replay to those that are shown.

        Raises:
            GroundError: the method is unknown or cannot be made, or another scene is shown.
        """
        shown = self.player.replays if keep_shown else []
        if shown and shown[0].setup.scene != setup.scene:
            raise GroundError(f"only one scene is shown at a time, now {shown[0].setup.scene}: switch 'add to the view' off")
        replay = Replay(method, setup, self._make_policy(setup.scene, method))
        self.show([*shown, replay], play and method != HUMAN_METHOD)

    def add_methods(self, scene: str, methods: Mapping[str, PolicyFactory]) -> None:
        """Add methods to choose from in a scene and in its protocols."""
        for name, present_methods in self.methods.items():
            if split_scene_id(name)[0] == scene:
                new_methods = {method: set_scene(factory, name) for method, factory in methods.items()}
                self.methods[name] = {**new_methods, **present_methods}
        self._notify()

    def add_run_methods(self, run: Path) -> None:
        """Add all trained methods of a run, under the run's name.

        Raises:
            GroundError: the directory is no run of a known scene.
        """
        scene = read_run_scene(run)
        if scene is None:
            raise GroundError(f"{run} contains no name of a known scene")
        factories, missing = load_run_methods(run)
        label = self._run_labels.setdefault(run.resolve(), run.resolve().name)
        if [*self._run_labels.values()].count(label) > 1:  # of another run with this name
            label = self._run_labels[run.resolve()] = str(run)
        methods = {f"{label}: {name}": factory for name, factory in factories.items() if name not in scenes[scene].behaviours}
        self.add_methods(scene, methods)
        missing_text = "".join(f"; {name} is missing: {reason}" for name, reason in missing.items())
        self.show_message(f"{run}: added {', '.join(methods) or 'nothing'} to {scene}{missing_text}")

    def show(self, replays: Sequence[Replay], play: bool = False, message: str = "") -> None:
        """Show replays side by side, from the start."""
        self.message, self.has_failed, self._plan_status = message, False, ""
        self.selected_index = 0
        self.player.show(list(replays), play)

    def branch(self, method: str) -> None:
        """Let another method continue from the shown frame, beside the selected replay.

        Raises:
            GroundError: the episode is over at this frame, or the method cannot be made.
        """
        replay, frame_index = self.selected_replay, min(self.player.frame_index, len(self.selected_replay.frames) - 1)
        if replay.is_over and frame_index == len(replay.frames) - 1:
            raise GroundError("the episode is over at this frame: go back to an earlier one first")
        policy = self._make_policy(replay.setup.scene, method)
        step = replay.frames[frame_index].step
        frame_index = replay.find_state(step)
        new_replay = replay.branch(step, f"{method} from step {step}", policy)
        pairs = zip(replay.frames[: frame_index + 1], new_replay.frames[: frame_index + 1], strict=False)
        deviation_m = max(float(np.abs(a.pose[:, :3] - b.pose[:, :3]).max()) for a, b in pairs)
        self.show([replay, new_replay], message=f"step {step} rebuilt to within {1e3 * deviation_m:.3g} mm")
        self.player.seek(frame_index)
        self.player.is_playing = method != HUMAN_METHOD
        self._notify()

    def drive(self, key: str) -> None:
        """Apply a key of the user, if the scene has it; the first key starts the replay."""
        if not self.player.replays or key not in list_drive_keys(self.selected_replay.scene):
            return
        self.command.apply_key(key)
        driven = [replay for replay in self.player.replays if isinstance(replay.policy, HumanPolicy)]
        if any(len(replay.frames) == self.player.frame_index + 1 for replay in driven):
            self.player.is_playing = True

    def save_episode(self, directory: Path) -> Path:
        """Add the selected replay to a dataset, one for each split below a directory.

        Returns:
            The dataset's directory.

        Raises:
            GroundError: there is nothing to save, or it is saved already.
        """
        replay = self.selected_replay
        with self.player.lock:
            if len(replay.frames) < 2:
                raise GroundError("nothing has happened yet: there is no episode to save")
            save_key = replay, len(replay.frames), directory
            episode = replay.make_episode()
        if self._last_saved == save_key:
            raise GroundError("this episode is saved already")
        split = replay.setup.split
        dataset = append_episode(directory / split, replay.setup.scene, split, episode)
        self._last_saved = save_key
        self.show_message(f"saved: {dataset.path} now holds {dataset.steps} steps")
        return dataset.path

    def show_message(self, message: str) -> None:
        """Show a line below the status."""
        self.message, self.has_failed = message, False
        self._notify()

    def report_error(self, error: Exception) -> str:
        """Show an error, and log it if it is a bug.

        Returns:
            The text that is shown.
        """
        is_expected = isinstance(error, GroundError | OSError)
        if not is_expected:
            logging.getLogger(__name__).error("a bug in the viewer", exc_info=error)
        text = str(error) if is_expected else f"{type(error).__name__}: {error} (a bug; the terminal shows where)"
        self.message, self.has_failed = text, True
        self._notify()
        return text

    def run_action(self, action: Callable[[], Any], client: Any = None) -> None:
        """Run an action of a user; an error is shown on the page, and to its client of viser's."""
        try:
            with self.acquire_action_lock():
                action()
        except Exception as error:
            text = self.report_error(error)
            if client is not None:
                client.add_notification("That did not work", text, color="red", auto_close_seconds=10)

    def connect_button(self, handle: Any, action: Callable[[], Any]) -> None:
        """Run an action whenever a button is pressed."""
        handle.on_click(lambda event: self.run_action(action, event.client))

    @contextmanager
    def acquire_action_lock(self) -> Iterator[None]:
        """Allow one long action at a time; the last error is no longer shown.

        Raises:
            GroundError: another action is running.
        """
        if not self._action_lock.acquire(blocking=False):
            raise GroundError("the viewer is still busy with the last action")
        if self.has_failed:
            self.show_message("")
        try:
            yield
        finally:
            self._action_lock.release()

    def format_status(self) -> str:
        """Format the replays, the player's state and messages in Markdown."""
        lines = [describe_replay(replay, self.player.frame_index) for replay in self.player.replays]
        playback_state = "*playing*" if self.player.is_playing else "*paused*"
        if self.is_driven:
            playback_state += f" · you drive: {self.command}"
        message = f"**{self.message}**" if self.has_failed else self.message
        return "\n\n".join([*lines, playback_state, *filter(None, [self._plan_status, message])])

    def close(self) -> None:
        """Stop all threads."""
        self.plan_recomputer.close()
        self.player.close()

    def _notify(self) -> None:
        self.on_change()

    def _set_plan_status(self, status: str) -> None:
        self._plan_status = status
        self._notify()

    def _make_policy(self, scene: str, method: str) -> Policy:
        if method not in self.methods[scene]:
            raise UnknownName("method", method, self.methods[scene])
        self.show_message(f"loading {method} …")
        return self.methods[scene][method]()


def make_setup(
    scene: str, layout: Layout, split: str, seed: int, physics: str = "", is_custom_layout: bool = False
) -> EpisodeSetup:
    """Make the setup of a live episode.

    Args:
        scene: name.
        layout: where it takes place.
        split: of the layout; of a custom layout, the split whose physics are varied.
        seed: of the episode.
        physics: as of `ground collect --vary`, on top of the split's.
        is_custom_layout: the layout is of no split.
    """
    variation = scenes[scene].make_variations(split, tuple(physics.split())).sample(np.random.default_rng(seed))
    return EpisodeSetup(scene, layout, seed, variation, f"{CUSTOM_SPLIT_PREFIX}{layout.id}" if is_custom_layout else split)
