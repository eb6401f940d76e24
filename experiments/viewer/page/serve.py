"""`ground view`: a server on this machine and its page, until the page is closed.

The page shows a session's replays in the server's scene, beside the panels that control it.
"""

import errno
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import viser
from rich.console import Console
from rich.markup import escape

from experiments.viewer.drawing.overlays import DEFAULT_OVERLAYS
from experiments.viewer.drawing.replay_view import ReplayView
from experiments.viewer.drawing.server import release_free_memory, run_server
from experiments.viewer.page.episode_tab import EpisodeTab
from experiments.viewer.page.panels import Panels
from experiments.viewer.replay.episode_index import EpisodeIndex
from experiments.viewer.replay.methods import RunMethods, SceneMethods, load_model_methods, load_run_methods
from experiments.viewer.replay.session import HUMAN_METHOD, ViewerSession, make_setup
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName

NUM_PORTS_TRIED = 50
CLOSE_DELAY_S = 20.0  # without a client, after there was one; reloading a page takes less


@dataclass(frozen=True)
class ViewRequest:
    """Initial content of a page."""

    scene: str
    layout: Layout
    split: str  # split of the layout; for a custom layout, the split whose physics are varied
    index: int  # number of the layout in its split, and seed of a live episode
    # Method of a live episode. None: recorded episodes of the run, or the expert without a run.
    method: str | None = None
    run: Path | None = None
    recorded_split: str = "test"  # split of the first recorded episode
    models: Sequence[Path] = ()  # models that belong to no run
    is_custom_layout: bool = False


class Page:
    """Page of a session; every change of the session redraws it."""

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


def serve(request: ViewRequest, host: str, port: int, keep_serving: bool, console: Console) -> None:
    """Show a page until it is closed, or Ctrl-C.

    Args:
        request: initial content of the page.
        host: address to listen on.
        port: first port to try; the page uses the first free one.
        keep_serving: continue after the page is closed.
        console: prints the address, and the missing methods of the run.

    Raises:
        GroundError: the method, a model or a port is missing; nothing is served then.
    """
    scene, run = request.scene, request.run
    model_methods = load_model_methods(request.models, scene)
    method = request.method or next(iter(model_methods), None)
    is_from_run = method is not None and method not in (HUMAN_METHOD, *scenes[scene].behaviours, *model_methods)
    run_methods = load_run_methods(run) if run and is_from_run else None  # seconds, where no other method needs them
    if is_from_run:
        _check_method(method or "", scene, run_methods or ({}, {}))
    with run_server(host, find_free_port(host, port)) as server:
        served_port = server.get_port()  # another program may have taken the one that was free
        page = Page(server, {name: dict(scenes[name].behaviours) for name in scenes.list_with_protocols()}, scene)
        session = page.session
        for name, path in product(scenes, request.models):
            with suppress(GroundError):  # it was not trained on that scene
                session.add_methods(name, load_model_methods([path], name))
        session.add_methods(scene, run_methods[0] if run_methods else {})
        session.player.is_waiting_for_client = True  # else the first seconds are missed
        server.on_client_connect(lambda _: setattr(session.player, "is_waiting_for_client", False))
        try:
            setup = make_setup(scene, request.layout, request.split, request.index, is_custom_layout=request.is_custom_layout)
            session.start_live(setup, method or "scripted", play=run is None or method is not None)
            page.panels.set_live_options(scene, request.split, request.index, method or "scripted")
            port_note = f" (port {port} is taken)" if served_port != port else ""
            stop_hint = "Ctrl-C ends it" if keep_serving else "closing the page ends it, and Ctrl-C"
            console.print(f"open http://{host}:{served_port}{port_note}; {stop_hint}", soft_wrap=True)
            if run is not None:  # takes seconds, while the page is open already
                _add_run(page, request, run, run_methods, console)
            _wait_until_closed(server, keep_serving)
        finally:
            page.close()


def _check_method(method: str, scene: str, run_methods: RunMethods) -> None:
    factories, missing = run_methods
    if method in missing:
        raise GroundError(f"{method} cannot run: {missing[method]}")
    if method not in factories:
        raise UnknownName("method", method, {*scenes[scene].behaviours, HUMAN_METHOD, *factories})
    factories[method]()  # a model that cannot be loaded is reported before anything is served


def _add_run(page: Page, request: ViewRequest, run: Path, run_methods: RunMethods | None, console: Console) -> None:
    """Add the methods and episodes of a run; without a requested method, show its best planner."""
    page.session.show_message(f"reading {run} …")
    methods, missing = run_methods or load_run_methods(run)
    for name, reason in missing.items():
        console.print(f"[yellow]{name} cannot run live: {escape(reason)}[/]", soft_wrap=True)
    page.session.add_methods(request.scene, methods)
    episode_tab = page.add_episode_tab(EpisodeIndex(run))
    page.session.show_message("")
    if request.method is None:
        show_best = partial(episode_tab.show_best_planner, request.recorded_split, request.index)
        page.session.run_action(show_best)  # a damaged episode is reported on the page


def _wait_until_closed(server: viser.ViserServer, keep_serving: bool) -> None:
    """Wait until no client was connected for a while, after the first one."""
    last_client_time: float | None = None
    num_clients = 0
    while keep_serving or last_client_time is None or time.monotonic() - last_client_time < CLOSE_DELAY_S:
        time.sleep(0.5)
        last_num_clients, num_clients = num_clients, len(server.get_clients())
        if num_clients:
            last_client_time = time.monotonic()
        if num_clients < last_num_clients:
            release_free_memory()


def find_free_port(host: str, first_port: int) -> int:
    """Find the first free port from a number on.

    Raises:
        GroundError: there is none, or the host is no address of this machine.
    """
    if not 0 < first_port < 65536:
        raise GroundError(f"port {first_port}: 1 to 65535 are possible")
    for port in range(first_port, min(first_port + NUM_PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except (OSError, TypeError, UnicodeError, OverflowError) as error:
                if not isinstance(error, OSError) or isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    reason = getattr(error, "strerror", "not a name")
                    raise GroundError(f"host {host} is no address of this machine ({reason})") from error
                continue
            return port
    raise GroundError(f"no free port on {host} from {first_port} to {first_port + NUM_PORTS_TRIED - 1}")
