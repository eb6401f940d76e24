"""Time: which frame of some takes is shown, who moves it on, and what is worth a mark. Knows nothing of the page."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace

from experiments.viewer.take import Take
from sim.policy import Policy
from sim.scenes.scene import scenes

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
WRONG_M = 0.02  # what ends a step this far from where the plan had it, in a scene of lengths as tote-push has them


class Player:
    """Takes shown in step with each other. `changed` is called, from its own thread too, when something new is to be shown;
    `failed` with what went wrong while it played."""

    def __init__(
        self, changed: Callable[[], None] = lambda: None, failed: Callable[[Exception], None] = lambda error: None
    ) -> None:
        self.changed, self._failed = changed, failed
        self.takes: list[Take] = []
        self.index, self.speed, self.playing = 0, 1.0, False
        self.ready: int | None = None  # what was thought is known of so many frames, and playing waits for more; None: of all
        self.held = False  # playing waits: nobody looks yet
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def show(self, takes: list[Take], play: bool = False) -> None:
        """Other takes, from the start."""
        with self._lock:
            for take in self.takes:
                if take not in takes:
                    take.close()
            self.takes, self.index, self.playing, self.ready = takes, 0, play, None
        self.changed()

    @property
    def length(self) -> int:
        """Frames there are so far, of the longest take."""
        return max((len(take.frames) for take in self.takes), default=1)

    def wait_for(self, takes: list[Take], ready: int | None) -> None:
        """Playing waits for what is thought of these takes, known of so many frames; not where others are shown by now, as where
        somebody goes on beside them: their time would stand still."""
        with self._lock:
            if self.takes is takes:
                self.ready = ready

    def seek(self, index: int) -> None:
        with self._lock:
            self.index = min(max(0, index), self.length - 1)
        self.changed()

    def step(self) -> bool:
        """One frame on: shown where it is there already, else made; who is behind the others catches up first. False at the
        end of all takes."""
        with self._lock:
            at_end = [take for take in self.takes if len(take.frames) - 1 <= self.index and not take.over]
            behind = [take for take in at_end if len(take.frames) - 1 < self.index]
            for take in behind or at_end:
                take.advance()
            moved = not behind and self.index < self.length - 1
            self.index += moved
        self.changed()
        return moved or bool(behind)

    def toggle(self) -> None:
        """Play or pause; at the end, from the start."""
        if not self.playing and self.index >= self.length - 1 and all(take.over for take in self.takes):
            self.seek(0)
        self.playing = not self.playing
        self.changed()

    def reset(self) -> None:
        """Live takes begin anew; recorded ones are shown from the start."""
        with self._lock:
            self.index, self.playing = 0, False
            for take in self.takes:
                if not len(take.script):
                    take.restart()
        self.changed()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        with self._lock:
            for take in self.takes:
                take.close()

    def _play(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            ready = self.ready
            if self.held or not self.playing or not self.takes or (ready is not None and self.index + 1 >= ready):
                self._ended.wait(0.05)
                due = time.monotonic()
                continue
            try:
                if not self.step():
                    self.playing = False  # who pauses during a long step is not overruled
                    self.changed()
            except Exception as error:  # the thread has to outlive it
                self.playing = False
                self._failed(error)
            due = max(due + scenes[self.takes[0].setting.scene].control_dt_s / self.speed, time.monotonic())
            self._ended.wait(max(0.0, due - time.monotonic()))


def think(
    take: Take,
    policy: Policy,
    stopped: Callable[[], bool] = lambda: False,
    told: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """Let a policy think again along a take, frame by frame, and keep its thoughts there. Gives the largest difference between
    the actions taken and those that it would take now."""
    again = Take(take.name, take.setting, policy, take.actions)
    try:
        for index in range(len(again.script)):
            if stopped():
                break
            again.advance()
            thought, error_m = again.frames[index].thought, again.frames[index + 1].error_m
            take.frames[index] = replace(take.frames[index], thought=thought)
            take.frames[index + 1] = replace(take.frames[index + 1], error_m=error_m)
            told(index + 1, len(again.script))
    finally:
        again.close()
    return again.own_actions_differ_by


def marks(take: Take) -> list[tuple[int, str]]:
    """Frames worth finding: where contact began, where a prediction was wrong, where something was hit, how it ended."""
    frames, found = take.frames, list[tuple[int, str]]()
    contact = next((index for index, frame in enumerate(frames) if frame.touching), None)
    if contact is not None:
        found.append((contact, "contact"))
    far = WRONG_M * scenes[take.setting.scene].unit_m
    wrong = next((index for index, frame in enumerate(frames) if frame.error_m > far), None)
    if wrong is not None:
        found.append((wrong, "wrong"))
    hit = next((index for index, frame in enumerate(frames) if frame.violations), None)
    if hit is not None:
        found.append((hit, frames[hit].violations[0].replace("_", " ")))
    if take.over:
        found.append((len(frames) - 1, "solved" if frames[-1].success else "out of time"))
    return found
