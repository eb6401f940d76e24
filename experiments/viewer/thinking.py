"""What planners thought along recorded takes, found out in the background while the page goes on."""

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from experiments.viewer.player import Player, think
from experiments.viewer.take import SAME_ACTION, Take
from sim.policy import PolicyFactory


class Thinker:
    """Lets arms, by scene and name, think again along takes that a player shows, until it shows others. `say` is told how far
    that is, and `failed` what went wrong."""

    def __init__(
        self,
        player: Player,
        arms: Mapping[str, Mapping[str, PolicyFactory]],
        say: Callable[[str], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._player, self._arms, self._say, self._failed = player, arms, say, failed
        self._threads: list[threading.Thread] = []
        self._closed = threading.Event()

    def begin(self, takes: Sequence[Take]) -> None:
        """Along these takes, one after the other; playing waits for the first one's thoughts."""
        first = next((take for take in takes if take.name in self._arms[take.setting.scene]), None)
        shown = self._player.takes
        if first is not None:
            self._player.wait_for(shown, 0)
        thread = threading.Thread(target=self._work, args=(takes, first, shown), daemon=True)
        self._threads = [*(one for one in self._threads if one.is_alive()), thread]
        thread.start()

    def wait(self) -> None:
        """Until all is known; playing stops."""
        for thread in self._threads:
            if thread.is_alive():
                self._player.playing = False
                thread.join()

    def close(self) -> None:
        """Stop within a decision: torch does not survive that the interpreter ends meanwhile."""
        self._closed.set()
        for thread in self._threads:
            thread.join()

    def _gone(self, take: Take) -> bool:
        return self._closed.is_set() or take not in self._player.takes

    def _work(self, takes: Sequence[Take], first: Take | None, shown: list[Take]) -> None:
        try:
            for take in takes:
                self._along(take, first, shown)
        except Exception as error:  # the page has to outlive it
            self._failed(error)
        finally:
            if first is not None:
                self._player.wait_for(shown, None)

    def _along(self, take: Take, first: Take | None, shown: list[Take]) -> None:
        arms = self._arms[take.setting.scene]
        if self._gone(take):
            return
        if take.name not in arms:
            self._say(f"what {take.name} thought is not known: its model is not here")
            return

        def told(done: int, total: int) -> None:
            if self._gone(take):
                return
            if take is first:
                self._player.wait_for(shown, done if done < total else None)
            self._say(f"{take.name} thinks again: {done} of {total}")

        differs = think(take, arms[take.name](), partial(self._gone, take), told)
        if not self._gone(take):
            same = "takes the same actions" if differs < SAME_ACTION else f"would act differently now, by at most {differs:.2g}"
            self._say(f"{take.name} thought again: it {same}")
