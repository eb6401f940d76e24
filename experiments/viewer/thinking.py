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
        self._shown: list[Take] = []  # with which playing waits
        self._closed = threading.Event()

    def begin(self, takes: Sequence[Take]) -> None:
        """Along these takes, one after the other; playing waits for the first one's thoughts."""
        first = next((take for take in takes if take.name in self._arms[take.setting.scene]), None)
        if first is not None:
            self._player.ready = 0
        self._shown = self._player.takes
        thread = threading.Thread(target=self._work, args=(takes, first), daemon=True)
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

    def _waited_for(self, take: Take) -> bool:
        """Not where somebody goes on beside it: their time would stand still."""
        return self._player.takes is self._shown and take in self._shown

    def _gone(self, take: Take) -> bool:
        return self._closed.is_set() or take not in self._player.takes

    def _work(self, takes: Sequence[Take], first: Take | None) -> None:
        try:
            for take in takes:
                self._along(take, first)
        except Exception as error:  # the page has to outlive it
            self._failed(error)
        finally:
            if first is not None and self._waited_for(first):
                self._player.ready = None

    def _along(self, take: Take, first: Take | None) -> None:
        arms = self._arms[take.setting.scene]
        if self._gone(take):
            return
        if take.name not in arms:
            self._say(f"what {take.name} thought is not known: its model is not here")
            return

        def told(done: int, total: int) -> None:
            if self._gone(take):
                return
            if take is first and self._waited_for(take):
                self._player.ready = done if done < total else None
            self._say(f"{take.name} thinks again: {done} of {total}")

        differs = think(take, arms[take.name](), partial(self._gone, take), told)
        if not self._gone(take):
            same = "takes the same actions" if differs < SAME_ACTION else f"would act differently now, by at most {differs:.2g}"
            self._say(f"{take.name} thought again: it {same}")
