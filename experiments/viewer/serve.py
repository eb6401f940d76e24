"""`ground view`: a server on this machine, a page, and nothing left behind."""

import socket
import time
from pathlib import Path

import viser
from rich.console import Console
from rich.markup import escape

from experiments.config import ExperimentConfig
from experiments.pipeline import Steps
from experiments.viewer.library import Library, Shelf
from experiments.viewer.page import Page
from experiments.viewer.stage import serving
from sim.errors import GroundError, UnknownName
from sim.layout import Layout
from sim.policy import BEHAVIOURS, PolicyFactory
from sim.scenes import scenes

TRIED_PORTS = 50
CLOSED_S = 20.0  # without anyone who looks, after someone did; reloading a page takes less


def serve(
    scene: str,
    config: ExperimentConfig | None,
    run: Path | None,
    layout: Layout,
    split: str,
    seed: int,
    arm: str,
    host: str,
    port: int,
    stay: bool,
    console: Console,
) -> None:
    """Show a page until it is closed (unless `stay`), or Ctrl-C: `arm` live in `layout`, and the episodes of a run."""
    arms = {name: dict(BEHAVIOURS) for name in scenes} | {scene: arms_of(config, run, console)}
    if arm not in arms[scene]:
        raise UnknownName("arm", arm, arms[scene])
    free = free_port(host, port)
    with serving(host, free) as server:
        free = server.get_port()  # another program may have taken the one that was free
        page = Page(server, arms, scene)
        try:
            if run is not None:
                Shelf(Library(run), page)
            page.panels.set_live(scene, split, seed, arm)
            page.live(scene, layout, split, seed, arm, play=run is None)
            busy = f" (port {port} is taken)" if free != port else ""
            ends = "Ctrl-C ends it" if stay else "closing the page ends it, and Ctrl-C"
            console.print(f"open http://{host}:{free}{busy}; {ends}", soft_wrap=True)
            _wait(server, stay)
        finally:
            page.close()


def _wait(server: viser.ViserServer, stay: bool) -> None:
    """Until nobody has looked for CLOSED_S, after somebody did."""
    looked: float | None = None
    while stay or looked is None or time.monotonic() - looked < CLOSED_S:
        time.sleep(0.5)
        if server.get_clients():
            looked = time.monotonic()


def arms_of(config: ExperimentConfig | None, run: Path | None, console: Console) -> dict[str, PolicyFactory]:
    """Scripted behaviour, and whatever of a run is there already; what is not is told."""
    arms: dict[str, PolicyFactory] = dict(BEHAVIOURS)
    if config is not None and run is not None:
        found, missing = Steps(config, run, 1, console).arms_there()
        arms |= {arm.name: arm.factory for arm in found}
        for name, why in missing.items():
            console.print(f"[yellow]{name} cannot be played live: {escape(why)}[/]", soft_wrap=True)
    return arms


def free_port(host: str, first: int) -> int:
    """The first port from `first` on that nobody listens on."""
    for port in range(first, min(first + TRIED_PORTS, 65536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise GroundError(f"no free port on {host} from {first} to {first + TRIED_PORTS - 1}")
