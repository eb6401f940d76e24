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
from experiments.viewer.driving import Driver
from experiments.viewer.overlays import USUAL
from experiments.viewer.panels import Panels
from experiments.viewer.player import Player, marks
from experiments.viewer.plots import series
from experiments.viewer.runs import arms_of, in_scene, scene_of
from experiments.viewer.scenery import Scenery
from experiments.viewer.take import Setting, Take
from experiments.viewer.thinking import Thinker
from sim.data.store import append_episode
from sim.layout import Layout
from sim.policy import PolicyFactory
from sim.scenes.scene import scenes, split_scene_id
from sim.utils.errors import GroundError, UnknownName
from sim.variation import describe_differences

YOU = "you"  # the arm that a person drives
WRONG = "**"  # how notes of what went wrong begin
SAME_M = 1e-5  # a replay this close to its recording is not worth a word: recordings are in single precision


class Page:
    """arms: of each scene, what can be chosen live."""

    def __init__(self, server: viser.ViserServer, arms: Mapping[str, Mapping[str, PolicyFactory]], scene: str) -> None:
        self.server = server
        self.driver = Driver()
        self.arms = {name: {**of, YOU: lambda: self.driver} for name, of in arms.items()}
        self.player = Player(self.redraw, partial(self.tell, None))
        self.thinker = Thinker(self.player, self.arms, self._say_thinking, partial(self.tell, None))
        self.shown = set(USUAL)
        self.follow = False
        self.chosen = 0  # of the takes side by side, the one that plots, marks and buttons are about
        self._note = ""
        self._thinking = ""  # how far the thinker is; a line of its own, for it would overwrite what else there is to say
        self._kept: tuple[Take, int, Path] | None = None  # the take that was kept last, how many frames of it, and where
        self._offered: dict[Path, str] = {}  # runs whose arms can be chosen, and how they are called
        self._scenery: Scenery | None = None
        self._drawing = threading.RLock()
        self._acting = threading.Lock()
        server.gui.configure_theme(
            control_layout="collapsible", control_width="large", show_logo=False, show_share_button=False, dark_mode=False
        )
        self.panels = Panels(self, scene)

    @property
    def take(self) -> Take:
        """The chosen one."""
        takes = self.player.takes
        return takes[min(self.chosen, len(takes) - 1)]

    def live(
        self,
        scene: str,
        layout: Layout,
        split: str,
        seed: int,
        arm: str,
        physics: str = "",
        play: bool = True,
        beside: bool = False,
        own: bool = False,
    ) -> None:
        """An arm in a space, from the start; beside what is shown, or instead. physics: as `ground collect --vary` takes it, over
        what the split varies. own: the space is of no split; `split` then says only how
        physics vary."""
        if beside and self.player.takes and self.take.setting.scene != scene:
            raise GroundError(
                f"beside {self.take.setting.scene} the same scene alone can be shown: untick 'beside what is shown'"
            )
        varied = scenes[scene].make_variations(split, tuple(physics.split()))
        place = f"own-{layout.id}" if own else split
        setting = Setting(scene, layout, seed, varied.sample(np.random.default_rng(seed)), place)
        take = Take(arm, setting, self._policy(scene, arm))
        self.show([*(self.player.takes if beside else ()), take], play and arm != YOU)

    def offer(self, scene: str, arms: Mapping[str, PolicyFactory]) -> None:
        """More arms that can be chosen in a scene, and in its protocols."""
        for name in self.arms:
            if split_scene_id(name)[0] == scene:
                self.arms[name] = {**{arm: in_scene(of, name) for arm, of in arms.items()}, **self.arms[name]}
                shown = bool(self.player.takes) and self.take.setting.scene == name
                self.panels.offer(name, tuple(self.arms[name]), shown)

    def offer_run(self, run: Path) -> None:
        """What a run, of whatever scene, has trained can be chosen too, by the run's name and its own."""
        scene = scene_of(run)
        if scene is None:
            raise GroundError(f"{run} does not tell which scene it is of")
        found, missing = arms_of(run)
        called = self._offered.setdefault(run.resolve(), run.resolve().name)
        if [*self._offered.values()].count(called) > 1:  # another of this name is there already
            called = self._offered[run.resolve()] = str(run)
        trained = {f"{called}: {name}": arm for name, arm in found.items() if name not in scenes[scene].behaviours}
        self.offer(scene, trained)
        lost = "".join(f"; {name} cannot be played: {why}" for name, why in missing.items())
        self.say(f"{run}: {', '.join(trained) or 'nothing'} can be chosen in {scene} now{lost}")

    def show(self, takes: Sequence[Take], play: bool = False, note: str = "") -> None:
        """Takes side by side, from the start."""
        with self._drawing:
            self._note, self._thinking = note, ""
            if self._scenery is not None:
                self._scenery.remove()
            self._scenery = Scenery(self.server, takes, self.shown)
            self.chosen = 0
            scene = takes[0].setting.scene
            self.panels.name([take.name for take in takes], tuple(self.arms[scene]), scene)
            self.player.show(list(takes), play)

    def branch(self, arm: str) -> None:
        """Show what another arm does from the frame that is shown, beside what happened."""
        take, at = self.take, min(self.player.index, len(self.take.frames) - 1)
        if take.over and at == len(take.frames) - 1:
            raise GroundError("the episode is over here: go back to an earlier frame first")
        other = take.branch(at, f"{arm} from step {at}", self._policy(take.setting.scene, arm))
        apart = max(
            float(np.abs(a.pose[:, :3] - b.pose[:, :3]).max())
            for a, b in zip(take.frames[: at + 1], other.frames[: at + 1], strict=False)
        )
        self.show([take, other], note=f"the state at step {at} was rebuilt to within {1e3 * apart:.3g} mm")
        self.player.seek(at)
        self.player.playing = arm != YOU
        self.redraw()

    def drive(self, key: str) -> None:
        """One of the driver's keys; the first one starts the time of a take that waits for it."""
        self.driver.press(key)
        if any(take.policy is self.driver and len(take.frames) == self.player.index + 1 for take in self.player.takes):
            self.player.playing = True

    def keep(self, directory: Path) -> Path:
        """Add the chosen take to a dataset in `directory`; one directory per split."""
        take = self.take
        if len(take.frames) < 2:
            raise GroundError("nothing has happened yet: there is no episode to keep")
        this = take, len(take.frames), directory
        if self._kept == this:
            raise GroundError("this episode is kept already")
        split = take.setting.split
        dataset = append_episode(directory / split, take.setting.scene, split, take.episode())
        self._kept = this
        self.say(f"kept: {dataset.path} now holds {dataset.steps} steps")
        return dataset.path

    def export_html(self) -> str:
        """What is shown, as one page that opens from disk."""
        self.thinker.wait()  # half of what was thought would look like a planner that stopped
        return export.as_html(self.player.takes, " beside ".join(take.name for take in self.player.takes), self.shown)

    def export_mp4(self, client: viser.ClientHandle) -> bytes:
        """What is shown, as a film from where the client's camera stands."""
        self.thinker.wait()
        takes, player = self.player.takes, self.player
        player.playing = False

        def seek(index: int) -> None:
            player.seek(index)
            self.say(f"frame {index + 1} of {player.length}")

        def undisturbed(index: int) -> bool:
            return player.takes is takes and player.index == index

        return export.as_mp4(client, player.length, seek, self.take.setting.scene, undisturbed)

    def say(self, note: str) -> None:
        """A line under the title."""
        self._note = note
        self.redraw()

    def tell(self, client: viser.ClientHandle | None, error: Exception) -> None:
        """A mistake or a bug, where a person sees it."""
        expected = isinstance(error, GroundError | OSError)
        if not expected:
            logging.getLogger(__name__).error("the viewer met a bug", exc_info=error)
        text = str(error) if expected else f"{type(error).__name__}: {error} (a bug; the terminal shows where)"
        self._note = f"{WRONG}{text}**"
        self.panels.describe(self._said())
        if client is not None:
            client.add_notification("That did not work", text, color="red", auto_close_seconds=10)

    @contextmanager
    def acting(self) -> Iterator[None]:
        """For what takes long and changes what is shown: one at a time. What went wrong before is forgotten."""
        if not self._acting.acquire(blocking=False):
            raise GroundError("the page is still busy with what was asked before")
        if self._note.startswith(WRONG):
            self.say("")
        try:
            yield
        finally:
            self._acting.release()

    def redraw(self) -> None:
        """Draw the frame that the player is at."""
        with self._drawing, self.server.atomic():
            takes, index = self.player.takes, self.player.index
            if self._scenery is None or self._scenery.takes != takes:
                self.panels.describe(self._note)
                return
            self._scenery.draw(index)
            at = min(index, len(self.take.frames) - 1)
            self.panels.update(index, self.player.length, marks(self.take), self._said())
            self.panels.plot(lambda title: series(title, self.take, at))
            if self.follow:
                self._look_at(self.take.frames[at].pose[0, :3])

    def close(self) -> None:
        self.thinker.close()
        self.player.close()

    def _said(self) -> str:
        """How the takes stand, whether time goes on, and what else there is to say."""
        stand = [describe(take, self.player.index) for take in self.player.takes]
        time_ = "*playing*" if self.player.playing else "*paused*"
        if self.player.takes and self.take.policy is self.driver and not self.take.over:
            time_ += f" · you drive: {self.driver}"
        return "\n\n".join([*stand, time_, *filter(None, [self._thinking, self._note])])

    def _say_thinking(self, note: str) -> None:
        self._thinking = note
        self.redraw()

    def _policy(self, scene: str, arm: str) -> Any:
        if arm not in self.arms[scene]:
            raise UnknownName("arm", arm, self.arms[scene])
        self.say(f"getting {arm} ready …")
        return self.arms[scene][arm]()

    def _look_at(self, target: np.ndarray) -> None:
        for client in self.server.get_clients().values():
            offset = np.asarray(client.camera.position) - client.camera.look_at
            client.camera.position = target.astype(float) + offset  # viser moves look_at with it
            client.camera.look_at = target.astype(float)


def describe(take: Take, index: int) -> str:
    """A line: who, where, and how it stands."""
    at = min(index, len(take.frames) - 1)
    frame, layout = take.frames[at], take.setting.layout
    if frame.success:
        state = "solved"
    elif at == len(take.frames) - 1 and take.over:
        state = "out of time" if at >= scenes[take.setting.scene].episode_steps else "the recording ends"
    else:
        state = f"cost {frame.cost * scenes[take.setting.scene].task.cost_unit_m:.2f} m"
    hit = f", {', '.join(kind.replace('_', ' ') for kind in frame.violations)}" if frame.violations else ""
    apart = take.deviation_m or 0.0
    replay = f" (replayed to within {1e3 * apart:.3g} mm of the recording)" if apart > SAME_M else ""
    physics = ", ".join(describe_differences(take.setting.variation, scenes[take.setting.scene].make_variations("test", ()).base))
    given = f" ({physics})" if physics else ""
    return f"**{take.name}** in {layout.name or layout.id}{given}, step {at}: {state}{hit}{replay}"
