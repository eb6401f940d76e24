"""The page: a player's takes on a server's scene, and everything that can be done with them. Its buttons are in panels.py."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import viser

from experiments.viewer import export
from experiments.viewer.driving import Driver
from experiments.viewer.overlays import USUAL
from experiments.viewer.panels import Panels
from experiments.viewer.player import Player, marks, think
from experiments.viewer.plots import series
from experiments.viewer.scenery import Scenery
from experiments.viewer.take import Setting, Take
from sim.dataset import keep
from sim.errors import GroundError
from sim.layout import Layout
from sim.policy import PolicyFactory
from sim.scenes import scenes
from sim.variation import Variations

YOU = "you"  # the arm that a person drives


class Page:
    """arms: of each scene, what can be chosen live."""

    def __init__(self, server: viser.ViserServer, arms: Mapping[str, Mapping[str, PolicyFactory]], scene: str) -> None:
        self.server, self.scene = server, scene
        self.driver = Driver()
        self.arms = {name: {**of, YOU: lambda: self.driver} for name, of in arms.items()}
        self.player = Player(self.redraw)
        self.shown = set(USUAL)
        self.note = ""
        self.split = "test"  # of the space that is shown
        self.follow = False
        self._scenery: Scenery | None = None
        self._drawing = threading.RLock()
        self._thinking = 0  # a newer number stops the older thinker
        server.gui.configure_theme(
            control_layout="collapsible", control_width="large", show_logo=False, show_share_button=False, dark_mode=False
        )
        self.panels = Panels(self)

    @property
    def take(self) -> Take:
        """The one that plots and marks are of."""
        return self.player.takes[0]

    def live(self, scene: str, layout: Layout, split: str, seed: int, arm: str, physics: str = "", play: bool = True) -> None:
        """An arm in a space, from the start. physics: as `ground collect --vary` takes it, over what the split varies."""
        usual = scenes[scene].variations_of(split if split in scenes[scene].splits else "test")
        varied = Variations.parse(tuple(physics.split()), usual.base) if physics.strip() else usual
        setting = Setting(scene, layout, seed, varied.sample(np.random.default_rng(seed)))
        if arm not in self.arms[scene]:
            raise GroundError(f"arm {arm} is not there for {scene}: {', '.join(self.arms[scene])} are")
        self.say(f"getting {arm} ready …")
        take = Take(arm, setting, self.arms[scene][arm]())
        self.scene, self.split = scene, split
        self.show([take], play)

    def show(self, takes: list[Take], play: bool = False, note: str = "") -> None:
        """Takes side by side, from the start."""
        with self._drawing:
            self._thinking += 1
            self.note = note
            if self._scenery is not None:
                self._scenery.remove()
            self._scenery = Scenery(self.server, takes, self.shown)
            self.player.show(takes, play)

    def think(self, take: Take, arm: str) -> None:
        """Find out in the background what an arm thought along a recorded take."""
        self._thinking += 1
        mine = self._thinking

        def work() -> None:
            differs = think(take, self.arms[take.setting.scene][arm](), lambda: self._thinking != mine, self.redraw)
            if self._thinking == mine:
                self.say(f"{arm}'s thoughts are its own again: actions differ by at most {differs:.2g}")

        threading.Thread(target=work, daemon=True).start()

    def branch(self, arm: str) -> None:
        """Show what another arm does from the frame that is shown, beside what happened."""
        take, at = self.take, min(self.player.index, len(self.take.frames) - 1)
        self.say(f"getting {arm} ready …")
        other = take.branch(at, f"{arm} from step {at}", self.arms[take.setting.scene][arm]())
        apart = max(
            float(np.abs(a.pose[:, :3] - b.pose[:, :3]).max())
            for a, b in zip(take.frames[: at + 1], other.frames[: at + 1], strict=False)
        )
        self.show([take, other], note=f"the state at step {at} was rebuilt to within {1e3 * apart:.3g} mm")
        self.player.seek(at)
        self.player.playing = True

    def keep(self, directory: Path) -> Path:
        """Add the last take shown to a dataset in `directory`; one directory per split."""
        take = self.player.takes[-1]
        if len(take.frames) < 2:
            raise GroundError("nothing has happened yet: there is no episode to keep")
        dataset = keep(directory / self.split, take.setting.scene, self.split, take.episode())
        self.say(f"kept: {dataset.path} now holds {dataset.steps} steps")
        return dataset.path

    def export_html(self) -> str:
        """What is shown, as one page that opens from disk."""
        return export.as_html(self.player.takes, " beside ".join(take.name for take in self.player.takes), set(self.shown))

    def export_mp4(self, client: viser.ClientHandle, told: Callable[[int, int], None] = lambda done, total: None) -> bytes:
        """What is shown, as a film from where the client's camera stands."""
        self.player.playing = False
        return export.as_mp4(client, self.player.length, self.player.seek, self.take.setting.scene, told)

    def say(self, note: str) -> None:
        """A line under the title."""
        self.note = note
        self.redraw()

    def redraw(self) -> None:
        """Draw the frame that the player is at."""
        with self._drawing, self.server.atomic():
            takes, index = self.player.takes, self.player.index
            if self._scenery is None or self._scenery.takes != takes:
                self.panels.describe(self.note)
                return
            self._scenery.draw(index)
            self.panels.update(index, self.player.length, marks(takes[0]), f"{describe(takes, index)}{self._noted()}")
            self.panels.plot(lambda title: series(title, takes[0], min(index, len(takes[0].frames) - 1)))
            if self.follow:
                self._look_at(takes[0].frames[min(index, len(takes[0].frames) - 1)].pose[0, :3])

    def close(self) -> None:
        self._thinking += 1
        self.player.close()

    def _noted(self) -> str:
        return f"\n\n{self.note}" if self.note else ""

    def _look_at(self, target: np.ndarray) -> None:
        for client in self.server.get_clients().values():
            offset = client.camera.position - client.camera.look_at
            client.camera.look_at = target.astype(float)
            client.camera.position = target.astype(float) + offset


def describe(takes: list[Take], index: int) -> str:
    """A line per take: who, where, and how it stands."""
    lines = []
    for take in takes:
        at = min(index, len(take.frames) - 1)
        frame = take.frames[at]
        layout = take.setting.layout
        state = (
            "solved"
            if frame.success
            else "out of time"
            if at == len(take.frames) - 1 and take.over
            else f"cost {frame.cost:.2f} m"
        )
        hit = f", {', '.join(kind.replace('_', ' ') for kind in frame.violations)}" if frame.violations else ""
        lines.append(f"**{take.name}** in {layout.name or layout.id}, step {at}: {state}{hit}")
    return "\n\n".join(lines)
