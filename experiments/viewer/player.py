"""Time: which frame of some takes is shown, who moves it on, and what is worth a mark. Knows nothing of the page."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from experiments.viewer.take import Replay
from sim.policy import Policy
from sim.scenes.scene import scenes

PLAYBACK_SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
MIN_MARKED_ERROR_M = 0.02  # what ends a step this far from where the plan had it, in a scene of lengths as tote-push has them


class Player:
    """Takes shown in step with each other. `changed` is called, from its own thread too, when something new is to be shown;
    `failed` with what went wrong while it played."""

    def __init__(
        self, on_change: Callable[[], None] = lambda: None, on_error: Callable[[Exception], None] = lambda error: None
    ) -> None:
        self.on_change, self._on_error = on_change, on_error
        self.replays: list[Replay] = []
        self.frame_index, self.speed, self.is_playing = 0, 1.0, False
        self.num_ready_frames: int | None = (
            None  # what was thought is known of so many frames, and playing waits for more; None: of all
        )
        self.is_waiting_for_client = False  # playing waits: nobody looks yet
        self._lock = threading.RLock()
        self._stop_event = threading.Event()
        self._thread = threading.Thread(target=self._run_playback, daemon=True)
        self._thread.start()

    def show(self, replays: list[Replay], play: bool = False) -> None:
        """Other takes, from the start."""
        with self._lock:
            for replay in self.replays:
                if replay not in replays:
                    replay.close()
            self.replays, self.frame_index, self.is_playing, self.num_ready_frames = replays, 0, play, None
        self.on_change()

    @property
    def num_frames(self) -> int:
        """Frames there are so far, of the longest take."""
        return max((len(replay.frames) for replay in self.replays), default=1)

    def set_num_ready_frames(self, replays: list[Replay], num_ready_frames: int | None) -> None:
        """Playing waits for what is thought of these takes, known of so many frames; not where others are shown by now, as where
        somebody goes on beside them: their time would stand still."""
        with self._lock:
            if self.replays is replays:
                self.num_ready_frames = num_ready_frames

    def seek(self, frame_index: int) -> None:
        with self._lock:
            self.frame_index = min(max(0, frame_index), self.num_frames - 1)
        self.on_change()

    def step(self) -> bool:
        """One frame on: shown where it is there already, else made; who is behind the others catches up first. False at the
        end of all takes."""
        with self._lock:
            last_frame_replays = [
                replay for replay in self.replays if len(replay.frames) - 1 <= self.frame_index and not replay.is_over
            ]
            lagging_replays = [replay for replay in last_frame_replays if len(replay.frames) - 1 < self.frame_index]
            for replay in lagging_replays or last_frame_replays:
                replay.advance()
            has_advanced = not lagging_replays and self.frame_index < self.num_frames - 1
            self.frame_index += has_advanced
        self.on_change()
        return has_advanced or bool(lagging_replays)

    def toggle_playing(self) -> None:
        """Play or pause; at the end, from the start."""
        if not self.is_playing and self.frame_index >= self.num_frames - 1 and all(replay.is_over for replay in self.replays):
            self.seek(0)
        self.is_playing = not self.is_playing
        self.on_change()

    def reset(self) -> None:
        """Live takes begin anew; recorded ones are shown from the start."""
        with self._lock:
            self.frame_index, self.is_playing = 0, False
            for replay in self.replays:
                if not len(replay.recorded_actions):
                    replay.restart()
        self.on_change()

    def close(self) -> None:
        self._stop_event.set()
        self._thread.join()
        with self._lock:
            for replay in self.replays:
                replay.close()

    def _run_playback(self) -> None:
        next_frame_time = time.monotonic()
        while not self._stop_event.is_set():
            num_ready_frames = self.num_ready_frames
            if (
                self.is_waiting_for_client
                or not self.is_playing
                or not self.replays
                or (num_ready_frames is not None and self.frame_index + 1 >= num_ready_frames)
            ):
                self._stop_event.wait(0.05)
                next_frame_time = time.monotonic()
                continue
            try:
                if not self.step():
                    self.is_playing = False  # who pauses during a long step is not overruled
                    self.on_change()
            except Exception as error:  # the thread has to outlive it
                self.is_playing = False
                self._on_error(error)
            next_frame_time = max(
                next_frame_time + scenes[self.replays[0].setup.scene].control_dt_s / self.speed, time.monotonic()
            )
            self._stop_event.wait(max(0.0, next_frame_time - time.monotonic()))


def recompute_plans(
    replay: Replay,
    policy: Policy,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """Let a policy think again along a take, frame by frame, and keep its thoughts there. Gives the largest difference between
    the actions taken and those that it would take now."""
    new_replay = Replay(replay.name, replay.setup, policy, replay.actions)
    try:
        for index in range(len(new_replay.recorded_actions)):
            if should_stop():
                break
            new_replay.advance()
            trace, error_m = new_replay.frames[index].planner_trace, new_replay.frames[index + 1].prediction_error_m
            replay.frames[index] = replace(replay.frames[index], thought=trace)
            replay.frames[index + 1] = replace(replay.frames[index + 1], error_m=error_m)
            on_progress(index + 1, len(new_replay.recorded_actions))
    finally:
        new_replay.close()
    return new_replay.max_action_difference


def find_marks(replay: Replay) -> list[tuple[int, str]]:
    """Frames worth finding: where contact began, where a prediction was wrong, where something was hit, how it ended."""
    frames, marks = replay.frames, list[tuple[int, str]]()
    contact_index = next((index for index, frame in enumerate(frames) if frame.touching), None)
    if contact_index is not None:
        marks.append((contact_index, "contact"))
    threshold_m = MIN_MARKED_ERROR_M * scenes[replay.setup.scene].unit_m
    error_index = next((index for index, frame in enumerate(frames) if frame.prediction_error_m > threshold_m), None)
    if error_index is not None:
        marks.append((error_index, "wrong"))
    violation_index = next((index for index, frame in enumerate(frames) if frame.violations), None)
    if violation_index is not None:
        marks.append((violation_index, frames[violation_index].violations[0].replace("_", " ")))
    if replay.is_over:
        marks.append((len(frames) - 1, "solved" if frames[-1].success else "out of time"))
    return marks
