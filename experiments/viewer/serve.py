"""`ground view`: a server on this machine, a page, and nothing left behind."""

import socket
import time
from pathlib import Path

from rich.console import Console

from experiments.config import ExperimentConfig
from experiments.pipeline import Steps
from experiments.viewer.library import Library
from experiments.viewer.page import Page
from experiments.viewer.stage import serving
from sim.errors import GroundError, UnknownName
from sim.layout import Layout
from sim.policy import BEHAVIOURS, PolicyFactory

TRIED_PORTS = 50


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
    console: Console,
) -> None:
    """Show a page until Ctrl-C: `arm` live in `layout`, and the episodes of a run."""
    arms = arms_of(config, run, console)
    if arm not in arms:
        raise UnknownName("arm", arm, arms)
    free = free_port(host, port)
    with serving(host, free) as server:
        page = Page(server, scene, arms)
        try:
            library = Library(run, page) if run else None
            if library is not None:
                library.add_controls(server.gui)
            page.live(layout, split, seed, arm, play=library is None)
            busy = f" (port {port} is taken)" if free != port else ""
            console.print(f"open http://{host}:{free}{busy}; Ctrl-C ends it", soft_wrap=True)
            while True:
                time.sleep(3600)
        finally:
            page.close()


def arms_of(config: ExperimentConfig | None, run: Path | None, console: Console) -> dict[str, PolicyFactory]:
    """Scripted behaviour, and whatever of a run is there already."""
    arms: dict[str, PolicyFactory] = dict(BEHAVIOURS)
    if config is not None and run is not None:
        steps = Steps(config, run, 1, console)
        try:
            arms |= {arm.name: arm.factory for arm in [*steps.arms(), steps.oracle()]}
        except (GroundError, OSError) as error:
            console.print(f"[yellow]only scripted arms can be played live: {error}[/]", soft_wrap=True)
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
