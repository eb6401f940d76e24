"""PlanRecomputer: plans of planners along recorded episodes, computed again in the background."""

import threading
from collections.abc import Callable, Sequence
from functools import partial

from experiments.viewer.replay.methods import SceneMethods
from experiments.viewer.replay.player import ErrorCallback, Player, recompute_plans
from experiments.viewer.replay.replay import ACTION_TOLERANCE, Replay


class PlanRecomputer:
    """Recomputes the plans of the replays that a player shows, until it shows others."""

    def __init__(self, player: Player, methods: SceneMethods, on_status: Callable[[str], None], on_error: ErrorCallback) -> None:
        """Start nothing yet.

        Args:
            player: shows the replays.
            methods: by scene and name.
            on_status: called with a line about the progress.
            on_error: called with an exception that ended a recomputation.
        """
        self._player, self._methods, self._on_status, self._on_error = player, methods, on_status, on_error
        self._threads: list[threading.Thread] = []
        self._stop_event = threading.Event()

    def start(self, replays: Sequence[Replay]) -> None:
        """Recompute the plans of replays one after the other; playing waits for the first one's."""
        first_replay = next((replay for replay in replays if replay.name in self._methods[replay.setup.scene]), None)
        shown_replays = self._player.replays
        if first_replay is not None:
            self._player.set_num_ready_frames(shown_replays, 0)
        thread = threading.Thread(target=self._run, args=(replays, first_replay, shown_replays), daemon=True)
        self._threads = [*(old_thread for old_thread in self._threads if old_thread.is_alive()), thread]
        thread.start()

    def wait(self) -> None:
        """Wait until all plans are there; playing stops."""
        for thread in self._threads:
            if thread.is_alive():
                self._player.is_playing = False
                thread.join()

    def close(self) -> None:
        """Stop within a decision: torch does not survive that the interpreter ends meanwhile."""
        self._stop_event.set()
        for thread in self._threads:
            thread.join()

    def _is_cancelled(self, replay: Replay) -> bool:
        return self._stop_event.is_set() or replay not in self._player.replays

    def _run(self, replays: Sequence[Replay], first_replay: Replay | None, shown_replays: list[Replay]) -> None:
        try:
            for replay in replays:
                if not self._is_cancelled(replay):
                    self._recompute(replay, shown_replays if replay is first_replay else None)
        except Exception as error:  # the page has to outlive it
            self._on_error(error)
        finally:
            if first_replay is not None:
                self._player.set_num_ready_frames(shown_replays, None)

    def _recompute(self, replay: Replay, waiting_replays: list[Replay] | None) -> None:
        methods = self._methods[replay.setup.scene]
        if replay.name not in methods:
            self._on_status(f"the plans of {replay.name} are not known: its model is missing")
            return

        def report_progress(done: int, total: int) -> None:
            if self._is_cancelled(replay):
                return
            if waiting_replays is not None:
                self._player.set_num_ready_frames(waiting_replays, done if done < total else None)
            self._on_status(f"recomputing the plans of {replay.name}: {done} of {total}")

        difference = recompute_plans(replay, methods[replay.name](), partial(self._is_cancelled, replay), report_progress)
        if not self._is_cancelled(replay):
            change = f"actions differ now, by at most {difference:.2g}"
            outcome = "same actions" if difference < ACTION_TOLERANCE else change
            self._on_status(f"plans of {replay.name} recomputed: {outcome}")
