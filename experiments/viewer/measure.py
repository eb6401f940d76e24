"""What pushing a scene to the page costs the server, with a client connected that reads everything."""

import re
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
from sim.geometry.rotations import make_upright_poses
from sim.policy import Policy
from sim.scenes.scene import Scene
from sim.utils.errors import GroundError

BODIES, SIZES, FRAMES = 60, 6, 60
READER = """
import sys
from websockets.sync.client import connect
for number, message in enumerate(connect(sys.argv[1], subprotocols=[f"viser-v{sys.argv[2]}"], max_size=None)):
    if number == 0:
        print("reading", flush=True)
"""


def cost_of_pushing(scene: Scene, policy: Policy) -> tuple[float, float]:
    """CPU-seconds of this process per frame, its server's thread included: of BODIES bodies of SIZES sizes that all move, and of
    a page with every overlay and plot, late in an episode."""
    layout = scene.sample_layout("test", 0)
    take = Take("planner", Setting(scene.name, layout), policy)
    for _ in range(12):
        take.advance()
    late = scene.episode_steps // len(take.frames)
    take.frames = take.frames[:-1] * late  # where it has been, and marks, are as long as at an episode's end
    rng = np.random.default_rng(0)
    with serving() as server, _read(_url(server)):
        stage = Stage(server.scene)
        half = np.repeat(np.linspace(0.1, 0.3, SIZES), BODIES // SIZES)[:, None].repeat(3, 1)
        places = rng.uniform(0, 6, (FRAMES, BODIES, 3))
        poses = np.stack([make_upright_poses(place, half[:, 2]) for place in places])
        stage.build(layout, half, poses[0])

        def move(frame: int) -> None:
            with server.atomic():
                stage.move(poses[frame])

        bodies = _cpu_s(move, scene.control_dt_s)
    with serving() as server, _read(_url(server)):
        page = Page(server, {scene.name: {}}, scene.name)
        page.shown |= set(MEANINGS)
        page.show([take])
        whole = _cpu_s(lambda frame: page.player.seek(len(take.frames) - 1 - frame), scene.control_dt_s)
        page.close()
    return bodies, whole


def _url(server: viser.ViserServer) -> str:
    return f"ws://127.0.0.1:{server.get_port()}"


def _cpu_s(draw: Callable[[int], None], pause_s: float) -> float:
    """Of a frame, drawn in the pace of a live scene."""
    time.sleep(1.0)  # what was built is sent first
    before = time.process_time()
    for frame in range(FRAMES):
        begun = time.perf_counter()
        draw(frame)
        time.sleep(max(0.0, pause_s - (time.perf_counter() - begun)))
    return (time.process_time() - before) / FRAMES


def first_frame_s(scene: str) -> float:
    """Wall-clock seconds from the command `ground view` until a client that was waiting has a scene."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "experiments.cli", "view", "--scene", scene, "--port", "8400", "--stay"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as viewer:
        try:
            assert viewer.stdout is not None
            found = re.search(r"http://(\S+:\d+)", viewer.stdout.readline())
            if found is None:
                raise GroundError("ground view did not say where it listens")
            with _read(f"ws://{found[1]}"):
                return time.monotonic() - begun
        finally:
            viewer.kill()


@contextmanager
def _read(url: str) -> Iterator[None]:
    """A client in a process of its own, from its first message on."""
    command = [sys.executable, "-c", READER, url, viser.__version__]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        if reader.stdout is None or not reader.stdout.readline():
            raise GroundError("the page's server sends nothing to a client")
        yield
    finally:
        reader.kill()
        reader.wait()
