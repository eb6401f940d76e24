"""Takes side by side on a server's scene, each on a stage of its own with its overlays."""

from collections.abc import Sequence

import viser

from experiments.viewer.overlays import Overlays
from experiments.viewer.stage import DEFAULT_WINDOW_SIZE, LayoutView, configure_lights_and_camera
from experiments.viewer.take import Replay

HALL_GAP_M, TABLE_GAP_M = 1.5, 0.7  # between two stages
LETTER_HEIGHT_SHARE = 1 / 25  # of a stage's room, so that names of 40 letters do not overlap


class ReplayView:
    """Drawn once, to be looked at in a window of a shape; then `draw` shows one frame of every take."""

    def __init__(
        self,
        server: viser.ViserServer,
        replays: Sequence[Replay],
        shown_overlays: set[str],
        window_size: tuple[int, int] = DEFAULT_WINDOW_SIZE,
    ) -> None:
        self.replays = list(replays)
        self._layout_views: list[LayoutView] = []
        self._overlays: list[Overlays] = []
        x, gap_m = 0.0, HALL_GAP_M if replays[0].setup.layout.table_top is None else TABLE_GAP_M
        for number, replay in enumerate(self.replays):
            layout = replay.setup.layout
            spacing_m = layout.hall.width + gap_m
            view = LayoutView(server.scene, f"/take{number}", (x, 0.0))
            view.build(layout, replay.half_extents, replay.frames[0].pose, replay.visuals)
            if len(self.replays) > 1:
                view.add_label(replay.name, layout, LETTER_HEIGHT_SHARE * spacing_m)
            self._layout_views.append(view)
            self._overlays.append(Overlays(server.scene, view, replay, shown_overlays))
            x += spacing_m
        configure_lights_and_camera(server, self.replays[0].setup.layout, width=x - gap_m, window_size=window_size)

    def draw_frame(self, frame_index: int) -> None:
        """Frame `index`, or a take's last one where it is shorter."""
        for replay, view, overlays in zip(self.replays, self._layout_views, self._overlays, strict=True):
            last_index = min(frame_index, len(replay.frames) - 1)
            view.set_poses(replay.frames[last_index].pose, replay.frames[last_index].link_poses)
            overlays.update(last_index)

    def remove(self) -> None:
        for view in self._layout_views:
            view.remove()
