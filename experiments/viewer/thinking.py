"""What planners thought along recorded takes, found out in the background while the page goes on."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from experiments.viewer.player import Player, recompute_plans
from experiments.viewer.take import ACTION_TOLERANCE, Replay
from sim.policy import PolicyFactory


class PlanRecomputer:
    """Lets arms, by scene and name, think again along takes that a player shows, until it shows others. `say` is told how far
    that is, and `failed` what went wrong."""

    def __init__(
        self,
        player: Player,
        methods: Mapping[str, Mapping[str, PolicyFactory]],
        on_status: Callable[[str], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._player, self._methods, self._on_status, self._on_error = player, methods, on_status, on_error
        self._threads: list[threading.Thread] = []
        self._stop_event = threading.Event()

    def start(self, replays: Sequence[Replay]) -> None:
        """Along these takes, one after the other; playing waits for the first one's thoughts."""
        first_replay = next((replay for replay in replays if replay.name in self._methods[replay.setup.scene]), None)
        shown_replays = self._player.replays
        if first_replay is not None:
            self._player.set_num_ready_frames(shown_replays, 0)
        thread = threading.Thread(target=self._run, args=(replays, first_replay, shown_replays), daemon=True)
        self._threads = [*(old_thread for old_thread in self._threads if old_thread.is_alive()), thread]
        thread.start()

    def wait(self) -> None:
        """Until all is known; playing stops."""
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
                self._recompute(replay, first_replay, shown_replays)
        except Exception as error:  # the page has to outlive it
            self._on_error(error)
        finally:
            if first_replay is not None:
                self._player.set_num_ready_frames(shown_replays, None)

    def _recompute(self, replay: Replay, first_replay: Replay | None, shown_replays: list[Replay]) -> None:
        methods = self._methods[replay.setup.scene]
        if self._is_cancelled(replay):
            return
        if replay.name not in methods:
            self._on_status(f"what {replay.name} thought is not known: its model is not here")
            return

        def report_progress(done: int, total: int) -> None:
            if self._is_cancelled(replay):
                return
            if replay is first_replay:
                self._player.set_num_ready_frames(shown_replays, done if done < total else None)
            self._on_status(f"{replay.name} thinks again: {done} of {total}")

        action_difference = recompute_plans(replay, methods[replay.name](), partial(self._is_cancelled, replay), report_progress)
        if not self._is_cancelled(replay):
            outcome = (
                "takes the same actions"
                if action_difference < ACTION_TOLERANCE
                else f"would act differently now, by at most {action_difference:.2g}"
            )
            self._on_status(f"{replay.name} thought again: it {outcome}")
