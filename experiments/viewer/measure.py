"""What pushing a scene to the page costs the server, with a client connected that reads everything."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import viser

from experiments.viewer.overlays import MEANINGS
from experiments.viewer.page import Page
from experiments.viewer.stage import Stage, serving
from experiments.viewer.take import Setting, Take
from sim.env import upright
from sim.policy import Policy
from sim.scenes import Scene

BODIES, FRAMES, CONNECT_S = 60, 60, 60.0
READER = """
import sys
from websockets.sync.client import connect
for message in connect(sys.argv[1], subprotocols=[f"viser-v{sys.argv[2]}"], max_size=None):
    pass
"""


def cost_of_pushing(scene: Scene, policy: Policy) -> tuple[float, float]:
    """CPU-seconds of this process per frame, its server's thread included: of BODIES bodies that all move, and of a page with
    every overlay and plot."""
    layout = scene.draw("test", 0)
    take = Take("planner", Setting(scene.name, layout), policy)
    for _ in range(12):
        take.advance()
    rng = np.random.default_rng(0)
    with serving() as server, _read(server):
        stage = Stage(server.scene)
        half = np.full((BODIES, 3), 0.15)
        places = rng.uniform(0, 6, (FRAMES, BODIES, 3))
        poses = np.stack([upright(place, half[:, 2]) for place in places])
        stage.build(layout, half, poses[0])

        def move(frame: int) -> None:
            with server.atomic():
                stage.move(poses[frame])

        bodies = _cpu_s(move, scene.control_dt_s)
    with serving() as server, _read(server):
        page = Page(server, {scene.name: {}}, scene.name)
        page.shown |= set(MEANINGS)
        page.show([take])
        whole = _cpu_s(lambda frame: page.player.seek(frame % len(take.frames)), scene.control_dt_s)
        page.close()
    return bodies, whole


def _cpu_s(draw: Callable[[int], None], pause_s: float) -> float:
    """Of a frame, drawn in the pace of a live scene."""
    time.sleep(1.0)  # what was built is sent first
    before = time.process_time()
    for frame in range(FRAMES):
        begun = time.perf_counter()
        draw(frame)
        time.sleep(max(0.0, pause_s - (time.perf_counter() - begun)))
    return (time.process_time() - before) / FRAMES


@contextmanager
def _read(server: viser.ViserServer) -> Iterator[None]:
    url = f"ws://127.0.0.1:{server.get_port()}"
    reader = subprocess.Popen([sys.executable, "-c", READER, url, viser.__version__], stderr=subprocess.DEVNULL)
    try:
        begun = time.monotonic()
        while not server.get_clients() and time.monotonic() - begun < CONNECT_S:
            time.sleep(0.05)
        yield
    finally:
        reader.kill()
        reader.wait()
