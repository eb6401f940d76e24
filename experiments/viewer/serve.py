"""`ground view`: a server on this machine, a page, and nothing left behind."""

import errno
import socket
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import viser
from rich.console import Console
from rich.markup import escape

from experiments.viewer.page import HUMAN_METHOD, Page
from experiments.viewer.runs import RunMethods, load_run_methods
from experiments.viewer.stage import run_server
from sim.layout import Layout
from sim.policy import PolicyFactory
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName

if TYPE_CHECKING:
    from experiments.viewer.library import EpisodeTab

NUM_PORTS_TRIED = 50
CLOSE_DELAY_S = 20.0  # without anyone who looks, after someone did; reloading a page takes less


def serve(
    scene: str,
    run: Path | None,
    layout: Layout,
    split: str,
    seed: int,
    method: str | None,
    host: str,
    port: int,
    keep_serving: bool,
    console: Console,
    is_custom_layout: bool = False,
    recorded_split: str | None = None,
) -> None:
    """Show a page until it is closed (unless `stay`), or Ctrl-C: `arm` live in `layout`, a split's or one's `own`, or the
    recorded episodes of a run (in the split `recorded`, if that is another), its best planner's first. GroundError before
    anything is shown where that arm is not there."""
    run_methods = None  # of the run: whoever does not ask for one of its arms need not wait for them
    if method is not None and method not in (HUMAN_METHOD, *scenes[scene].behaviours):
        run_methods = load_run_methods(run) if run else ({}, {})
        _check_method(method, scene, *run_methods)
    served_port = find_free_port(host, port)
    with run_server(host, served_port) as server:
        served_port = server.get_port()  # another program may have taken the one that was free
        page = Page(server, {name: dict(scenes[name].behaviours) for name in scenes.list_with_protocols()}, scene)
        page.player.is_waiting_for_client = True  # who drives would find half of the time gone
        server.on_client_connect(lambda _: setattr(page.player, "held", False))
        try:
            port_note = f" (port {port} is taken)" if served_port != port else ""
            stop_hint = "Ctrl-C ends it" if keep_serving else "closing the page ends it, and Ctrl-C"
            first_method = method or "scripted"
            if run_methods is None:
                page.start_live(
                    scene,
                    layout,
                    split,
                    seed,
                    first_method,
                    play=run is None or method is not None,
                    is_custom_layout=is_custom_layout,
                )
            console.print(f"open http://{host}:{served_port}{port_note}; {stop_hint}", soft_wrap=True)
            episode_tab = (
                None if run is None else _add_episode_tab(page, scene, run, run_methods, console)
            )  # takes seconds; the page is there
            page.panels.set_live_options(scene, split, seed, first_method)
            if run_methods is not None:
                page.start_live(scene, layout, split, seed, first_method, is_custom_layout=is_custom_layout)
            if episode_tab is not None and method is None:
                page.panels.run_action(
                    None, partial(episode_tab.show_best_planner, recorded_split or split, seed)
                )  # the page tells of a damaged one
            _wait_until_closed(server, keep_serving)
        finally:
            page.close()


def _check_method(method: str, scene: str, factories: dict[str, PolicyFactory], missing: dict[str, str]) -> None:
    if method in missing:
        raise GroundError(f"{method} cannot be played live: {missing[method]}")
    if method not in factories:
        raise UnknownName("arm", method, {*scenes[scene].behaviours, HUMAN_METHOD, *factories})
    factories[method]()  # a model that cannot be loaded is told before anything is served


def _add_episode_tab(page: Page, scene: str, run: Path, run_methods: RunMethods | None, console: Console) -> "EpisodeTab":
    from experiments.viewer.library import EpisodeIndex, EpisodeTab

    page.show_message(f"reading {run} …")
    methods, missing = run_methods or load_run_methods(run)
    for name, reason in missing.items():
        console.print(f"[yellow]{name} cannot be played live: {escape(reason)}[/]", soft_wrap=True)
    page.add_methods(scene, methods)
    episode_tab = EpisodeTab(EpisodeIndex(run), page)
    page.show_message("")
    return episode_tab


def _wait_until_closed(server: viser.ViserServer, keep_serving: bool) -> None:
    """Until nobody has looked for CLOSED_S, after somebody did."""
    last_client_time: float | None = None
    while keep_serving or last_client_time is None or time.monotonic() - last_client_time < CLOSE_DELAY_S:
        time.sleep(0.5)
        if server.get_clients():
            last_client_time = time.monotonic()


def find_free_port(host: str, first_port: int) -> int:
    """The first port from `first` on that nobody listens on."""
    if not 0 < first_port < 65536:
        raise GroundError(f"port {first_port}: 1 to 65535 are possible")
    for port in range(first_port, min(first_port + NUM_PORTS_TRIED, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    raise GroundError(f"host {host} is no address of this machine ({error.strerror})") from error
                continue
            return port
    raise GroundError(f"no free port on {host} from {first_port} to {first_port + NUM_PORTS_TRIED - 1}")
