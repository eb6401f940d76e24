"""Player: which frame of replays is shown and when the next one follows; marks on the timeline."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from experiments.viewer.replay.replay import Frame, Replay
from sim.policy import Policy

PLAYBACK_SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
MIN_MARKED_ERROR_M = 0.02  # of a prediction, in a scene whose unit_m is 1
ProgressCallback = Callable[[int, int], None]  # done, total
ErrorCallback = Callable[[Exception], object]


class Player:
    """Shows replays in step with each other."""

    def __init__(self, on_change: Callable[[], None] = lambda: None, on_error: ErrorCallback = lambda error: None) -> None:
        """Start the thread that plays.

        Args:
            on_change: called, also from the player's thread, when something new is to be shown.
            on_error: called with an exception that was raised while playing.
        """
        self.on_change, self._on_error = on_change, on_error
        self.replays: list[Replay] = []
        self.frame_index = 0
        self.speed = 1.0
        self.is_playing = False
        self.num_ready_frames: int | None = None  # frames whose plans are recomputed: playing waits there; None: all
        self.is_waiting_for_client = False  # no browser has the page open yet
        self.lock = threading.RLock()
        self._stop_event = threading.Event()
        self._thread = threading.Thread(target=self._run_playback, daemon=True)
        self._thread.start()

    def show(self, replays: list[Replay], play: bool = False) -> None:
        """Replace the replays, and go to the start."""
        with self.lock:
            for replay in self.replays:
                if replay not in replays:
                    replay.close()
            self.replays, self.frame_index, self.is_playing, self.num_ready_frames = replays, 0, play, None
        self.on_change()

    @property
    def num_frames(self) -> int:
        """Frames of the longest replay so far."""
        return max((len(replay.frames) for replay in self.replays), default=1)

    def set_num_ready_frames(self, replays: list[Replay], num_ready_frames: int | None) -> None:
        """Let playing wait at a frame, unless other replays are shown by now."""
        with self.lock:
            if self.replays is replays:
                self.num_ready_frames = num_ready_frames

    def seek(self, frame_index: int) -> None:
        """Show a frame, or the nearest one."""
        with self.lock:
            self.frame_index = min(max(0, frame_index), self.num_frames - 1)
        self.on_change()

    def step(self) -> bool:
        """Show the next frame; simulate it where it does not exist.

        Replays with fewer frames catch up first.

        Returns:
            False at the end of all replays.
        """
        with self.lock:
            unfinished = [replay for replay in self.replays if len(replay.frames) - 1 <= self.frame_index and not replay.is_over]
            lagging = [replay for replay in unfinished if len(replay.frames) - 1 < self.frame_index]
            for replay in lagging or unfinished:
                replay.advance()
            has_advanced = not lagging and self.frame_index < self.num_frames - 1
            self.frame_index += has_advanced
        self.on_change()
        return has_advanced or bool(lagging)

    def toggle_playing(self) -> None:
        """Play or pause; at the end, play from the start."""
        if not self.is_playing and self.frame_index >= self.num_frames - 1 and all(replay.is_over for replay in self.replays):
            self.seek(0)
        self.is_playing = not self.is_playing
        self.on_change()

    def reset(self) -> None:
        """Go to the start; live replays are simulated anew."""
        with self.lock:
            self.frame_index = 0
            self.is_playing = False
            for replay in self.replays:
                if not len(replay.recorded_actions):
                    replay.restart()
        self.on_change()

    def close(self) -> None:
        """Stop the thread and free the simulators."""
        self._stop_event.set()
        self._thread.join()
        with self.lock:
            for replay in self.replays:
                replay.close()

    @property
    def _must_wait(self) -> bool:
        is_at_unready_frame = self.num_ready_frames is not None and self.frame_index + 1 >= self.num_ready_frames
        return self.is_waiting_for_client or not self.is_playing or not self.replays or is_at_unready_frame

    def _run_playback(self) -> None:
        next_frame_time = time.monotonic()
        while not self._stop_event.is_set():
            if self._must_wait:
                self._stop_event.wait(0.05)
                next_frame_time = time.monotonic()
                continue
            try:
                if not self.step():
                    self.is_playing = False
                    self.on_change()
            except Exception as error:  # the thread has to outlive it
                self.is_playing = False
                self._on_error(error)
            frame_s = self.replays[0].scene.control_dt_s / self.speed
            next_frame_time = max(next_frame_time + frame_s, time.monotonic())
            self._stop_event.wait(max(0.0, next_frame_time - time.monotonic()))


def recompute_plans(
    replay: Replay,
    policy: Policy,
    should_stop: Callable[[], bool] = lambda: False,
    on_progress: ProgressCallback = lambda done, total: None,
) -> float:
    """Run a policy along a replay, frame by frame, and keep its plans there.

    Returns:
        The largest difference between the actions taken and those that the policy takes now.
    """
    new_replay = Replay(replay.name, replay.setup, policy, replay.actions)
    try:
        for step in range(len(new_replay.recorded_actions)):
            if should_stop():
                break
            new_replay.advance()
            index, next_index = (new_replay.find_state(number) for number in (step, step + 1))
            trace, error_m = new_replay.frames[index].planner_trace, new_replay.frames[next_index].prediction_error_m
            replay.frames[index] = replace(replay.frames[index], planner_trace=trace)
            replay.frames[next_index] = replace(replay.frames[next_index], prediction_error_m=error_m)
            on_progress(next_index, len(replay.frames) - 1)
    finally:
        new_replay.close()
    return new_replay.max_action_difference


def find_marks(replay: Replay) -> list[tuple[int, str]]:
    """Find the frames worth a mark: the first contact, wrong prediction and violation, and the end.

    Returns:
        Frame indices and labels.
    """
    frames = replay.frames
    max_error_m = MIN_MARKED_ERROR_M * replay.scene.unit_m
    predicates: dict[str, Callable[[Frame], bool]] = {
        "contact": lambda frame: frame.touching,
        "prediction error": lambda frame: frame.prediction_error_m > max_error_m,
        "violation": lambda frame: bool(frame.violations),
    }
    marks = []
    for label, is_marked in predicates.items():
        index = next((index for index, frame in enumerate(frames) if is_marked(frame)), None)
        if index is not None:
            marks.append((index, frames[index].violations[0].replace("_", " ") if label == "violation" else label))
    if replay.is_over:
        is_late = frames[-1].step >= replay.scene.episode_steps
        marks.append((len(frames) - 1, "solved" if frames[-1].success else "out of time" if is_late else "failed"))
    return marks
