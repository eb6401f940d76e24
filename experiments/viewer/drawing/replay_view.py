"""ReplayView: replays side by side in a server's scene, each with its overlays and a label."""

from collections.abc import Sequence

import viser

from experiments.viewer.drawing.layout_view import DEFAULT_WINDOW_SIZE, LayoutView, configure_lights_and_camera
from experiments.viewer.drawing.overlays import Overlays
from experiments.viewer.replay.describe import describe_state
from experiments.viewer.replay.replay import Replay


class ReplayView:
    """Built once for some replays; then `draw_frame` shows one frame of each."""

    def __init__(
        self,
        server: viser.ViserServer,
        replays: Sequence[Replay],
        shown_overlays: set[str],
        window_size: tuple[int, int] = DEFAULT_WINDOW_SIZE,
    ) -> None:
        self.replays = list(replays)
        self._views: list[tuple[LayoutView, Overlays, viser.LabelHandle]] = []
        settings, first_layout = self.replays[0].scene.visuals.view, self.replays[0].setup.layout
        x = 0.0
        for number, replay in enumerate(self.replays):
            layout = replay.setup.layout
            spacing_m = layout.hall.width + settings.gap_m
            view = LayoutView(server.scene, replay.scene.visuals, layout, f"/replay{number}", (x, 0.0))
            view.add_bodies(replay.half_extents, replay.frames[0].pose, replay.link_visuals)
            overlays = Overlays(server.scene, view.root, replay, shown_overlays)
            self._views.append((view, overlays, view.add_label(replay.name, spacing_m)))
            x += spacing_m
        configure_lights_and_camera(server, settings, first_layout, x - settings.gap_m, window_size)

    def draw_frame(self, frame_index: int) -> None:
        """Draw a frame of each replay, or the last one where it has fewer."""
        for replay, (view, overlays, label) in zip(self.replays, self._views, strict=True):
            index = min(frame_index, len(replay.frames) - 1)
            frame = replay.frames[index]
            view.set_poses(frame.pose, frame.link_poses, frame.present)
            view.move_belts(frame.time_s)
            overlays.update(index)
            label.text = "\n".join([replay.name, *describe_state(replay, index)])

    def remove(self) -> None:
        """Remove all replays from the scene."""
        for view, _, _ in self._views:
            view.remove()
