"""Takes side by side on a server's scene, each on a stage of its own with its overlays."""

from collections.abc import Sequence

import viser

from experiments.viewer.overlays import Overlays
from experiments.viewer.stage import Stage, light_and_camera
from experiments.viewer.take import Take

APART_M = 1.5  # between two stages


class Scenery:
    """Drawn once; then `draw` shows one frame of every take."""

    def __init__(self, server: viser.ViserServer, takes: Sequence[Take], shown: set[str]) -> None:
        self.takes = list(takes)
        self._stages: list[Stage] = []
        self._overlays: list[Overlays] = []
        x = 0.0
        for number, take in enumerate(self.takes):
            layout = take.setting.layout
            stage = Stage(server.scene, f"/take{number}", (x, 0.0))
            stage.build(layout, take.half_extents, take.frames[0].pose, take.visuals)
            if len(self.takes) > 1:
                stage.name(take.name, layout)
            self._stages.append(stage)
            self._overlays.append(Overlays(server.scene, stage, take, shown))
            x += layout.hall.width + APART_M
        light_and_camera(server, self.takes[0].setting.layout, width=x - APART_M)

    def draw(self, index: int) -> None:
        """Frame `index`, or a take's last one where it is shorter."""
        for take, stage, overlays in zip(self.takes, self._stages, self._overlays, strict=True):
            at = min(index, len(take.frames) - 1)
            stage.move(take.frames[at].pose, take.frames[at].links)
            overlays.update(at)

    def remove(self) -> None:
        for stage in self._stages:
            stage.remove()
