"""Page: a session's replays in a server's scene, beside the panels that control it."""

import threading

import numpy as np
import viser

from experiments.viewer.drawing.overlays import DEFAULT_OVERLAYS
from experiments.viewer.drawing.replay_view import ReplayView
from experiments.viewer.page.episode_tab import EpisodeTab
from experiments.viewer.page.panels import Panels
from experiments.viewer.replay.episode_index import EpisodeIndex
from experiments.viewer.replay.methods import SceneMethods
from experiments.viewer.replay.session import ViewerSession


class Page:
    """Draws a session; every change of the session redraws it."""

    def __init__(self, server: viser.ViserServer, methods: SceneMethods, scene: str) -> None:
        """Show the panels and an empty scene.

        Args:
            server: of the page.
            methods: to choose from, by scene and name.
            scene: chosen first.
        """
        self.server = server
        self.session = ViewerSession(methods, DEFAULT_OVERLAYS)
        self._draw_lock = threading.RLock()
        self._view: ReplayView | None = None
        self._shown_replays = self.session.player.replays
        server.gui.configure_theme(
            control_layout="collapsible", control_width="large", show_logo=False, show_share_button=False, dark_mode=False
        )
        self.panels = Panels(server.gui, self.session, scene)
        self.session.on_change = self.redraw

    def add_episode_tab(self, episode_index: EpisodeIndex) -> EpisodeTab:
        """Add a tab with the recorded episodes of a run."""
        return EpisodeTab(self.server.gui, self.panels.tabs, episode_index, self.session)

    def redraw(self) -> None:
        """Draw the frame that the player is at, and all that the panels say about it."""
        with self._draw_lock, self.server.atomic():
            player = self.session.player
            replays = player.replays
            if self._shown_replays is not replays:
                self._shown_replays = replays  # first: what cannot be drawn is tried once
                if self._view is not None:
                    self._view.remove()
                    self._view = None
                self._view = ReplayView(self.server, replays, self.session.shown_overlays)
            if self._view is not None:
                self._view.draw_frame(player.frame_index)
            self.panels.update()
            if replays and self.session.follows_robot:
                frames = self.session.selected_replay.frames
                self._move_cameras(frames[min(player.frame_index, len(frames) - 1)].pose[0, :3])

    def close(self) -> None:
        """Stop all threads."""
        self.session.close()

    def _move_cameras(self, target: np.ndarray) -> None:
        for client in self.server.get_clients().values():
            offset = np.asarray(client.camera.position) - client.camera.look_at
            client.camera.position = target.astype(float) + offset  # viser moves look_at with it
            client.camera.look_at = target.astype(float)
