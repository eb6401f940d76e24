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

from experiments.viewer.page import YOU, Page
from experiments.viewer.runs import ArmsThere, arms_of
from experiments.viewer.stage import serving
from sim.layout import Layout
from sim.policy import PolicyFactory
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName

if TYPE_CHECKING:
    from experiments.viewer.library import Shelf

TRIED_PORTS = 50
CLOSED_S = 20.0  # without anyone who looks, after someone did; reloading a page takes less


def serve(
    scene: str,
    run: Path | None,
    layout: Layout,
    split: str,
    seed: int,
    arm: str | None,
    host: str,
    port: int,
    stay: bool,
    console: Console,
    own: bool = False,
    recorded: str | None = None,
) -> None:
    """Show a page until it is closed (unless `stay`), or Ctrl-C: `arm` live in `layout`, a split's or one's `own`, or the
    recorded episodes of a run (in the split `recorded`, if that is another), its best planner's first. GroundError before
    anything is shown where that arm is not there."""
    there = None  # of the run: whoever does not ask for one of its arms need not wait for them
    if arm is not None and arm not in (YOU, *scenes[scene].behaviours):
        there = arms_of(run) if run else ({}, {})
        _check(arm, scene, *there)
    free = free_port(host, port)
    with serving(host, free) as server:
        free = server.get_port()  # another program may have taken the one that was free
        page = Page(server, {name: dict(scenes[name].behaviours) for name in scenes.list_with_protocols()}, scene)
        page.player.held = True  # who drives would find half of the time gone
        server.on_client_connect(lambda _: setattr(page.player, "held", False))
        try:
            busy = f" (port {port} is taken)" if free != port else ""
            ends = "Ctrl-C ends it" if stay else "closing the page ends it, and Ctrl-C"
            first = arm or "scripted"
            if there is None:
                page.live(scene, layout, split, seed, first, play=run is None or arm is not None, own=own)
            console.print(f"open http://{host}:{free}{busy}; {ends}", soft_wrap=True)
            shelf = None if run is None else _add_run(page, scene, run, there, console)  # takes seconds; the page is there
            page.panels.set_live(scene, split, seed, first)
            if there is not None:
                page.live(scene, layout, split, seed, first, own=own)
            if shelf is not None and arm is None:
                page.panels.tried(None, partial(shelf.begin, recorded or split, seed))  # the page tells of a damaged one
            _wait(server, stay)
        finally:
            page.close()


def _check(arm: str, scene: str, found: dict[str, PolicyFactory], missing: dict[str, str]) -> None:
    if arm in missing:
        raise GroundError(f"{arm} cannot be played live: {missing[arm]}")
    if arm not in found:
        raise UnknownName("arm", arm, {*scenes[scene].behaviours, YOU, *found})
    found[arm]()  # a model that cannot be loaded is told before anything is served


def _add_run(page: Page, scene: str, run: Path, there: ArmsThere | None, console: Console) -> "Shelf":
    from experiments.viewer.library import Library, Shelf

    page.say(f"reading {run} …")
    arms, missing = there or arms_of(run)
    for name, why in missing.items():
        console.print(f"[yellow]{name} cannot be played live: {escape(why)}[/]", soft_wrap=True)
    page.offer(scene, arms)
    shelf = Shelf(Library(run), page)
    page.say("")
    return shelf


def _wait(server: viser.ViserServer, stay: bool) -> None:
    """Until nobody has looked for CLOSED_S, after somebody did."""
    looked: float | None = None
    while stay or looked is None or time.monotonic() - looked < CLOSED_S:
        time.sleep(0.5)
        if server.get_clients():
            looked = time.monotonic()


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that nobody listens on."""
    if not 0 < first < 65536:
        raise GroundError(f"port {first}: 1 to 65535 are possible")
    for port in range(first, min(first + TRIED_PORTS, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    raise GroundError(f"host {host} is no address of this machine ({error.strerror})") from error
                continue
            return port
    raise GroundError(f"no free port on {host} from {first} to {first + TRIED_PORTS - 1}")
