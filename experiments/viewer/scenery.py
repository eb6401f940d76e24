"""Takes side by side on a server's scene, each on a stage of its own with its overlays."""

from collections.abc import Sequence

import viser

from experiments.viewer.overlays import Overlays
from experiments.viewer.stage import PAGE, Stage, light_and_camera
from experiments.viewer.take import Take

APART_M, TABLES_APART_M = 1.5, 0.7  # between two stages
LETTER = 1 / 25  # of a stage's room, so that names of 40 letters do not overlap


class Scenery:
    """Drawn once, to be looked at in a window of a shape; then `draw` shows one frame of every take."""

    def __init__(self, server: viser.ViserServer, takes: Sequence[Take], shown: set[str], window: tuple[int, int] = PAGE) -> None:
        self.takes = list(takes)
        self._stages: list[Stage] = []
        self._overlays: list[Overlays] = []
        x, apart = 0.0, APART_M if takes[0].setting.layout.table_top is None else TABLES_APART_M
        for number, take in enumerate(self.takes):
            layout = take.setting.layout
            room = layout.hall.width + apart
            stage = Stage(server.scene, f"/take{number}", (x, 0.0))
            stage.build(layout, take.half_extents, take.frames[0].pose, take.visuals)
            if len(self.takes) > 1:
                stage.name(take.name, layout, LETTER * room)
            self._stages.append(stage)
            self._overlays.append(Overlays(server.scene, stage, take, shown))
            x += room
        light_and_camera(server, self.takes[0].setting.layout, width=x - apart, window=window)

    def draw(self, index: int) -> None:
        """Frame `index`, or a take's last one where it is shorter."""
        for take, stage, overlays in zip(self.takes, self._stages, self._overlays, strict=True):
            at = min(index, len(take.frames) - 1)
            stage.move(take.frames[at].pose, take.frames[at].links)
            overlays.update(at)

    def remove(self) -> None:
        for stage in self._stages:
            stage.remove()
