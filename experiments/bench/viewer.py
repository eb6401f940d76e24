"""Costs of the viewer: of its server, with a client that reads everything, and of its start."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import viser

from experiments.bench.measurement import Measurement, make_random_model
from experiments.bench.planning import make_planner
from experiments.viewer.drawing.layout_view import LayoutView
from experiments.viewer.drawing.overlays import OVERLAY_DESCRIPTIONS
from experiments.viewer.drawing.server import run_server
from experiments.viewer.page.serve import Page
from experiments.viewer.replay.replay import EpisodeSetup, Replay
from sim.geometry.rotations import make_upright_poses
from sim.policy import Policy
from sim.scenes.scene import Scene, scenes
from sim.utils.errors import GroundError

NUM_BODIES, NUM_SIZES, NUM_FRAMES = 60, 6, 60
READER_SCRIPT = """
import sys
from websockets.sync.client import connect
for number, message in enumerate(connect(sys.argv[1], subprotocols=[f"viser-v{sys.argv[2]}"], max_size=None)):
    if number == 0:
        print("reading", flush=True)
"""


def measure_viewer(scene: Scene) -> list[Measurement]:
    """Measure the share of a control period that a page costs its server."""
    bodies_s, page_s = _measure_update_cost(scene, make_planner(scene, make_random_model("graph")))
    conditions = "CPU time of a frame, server's thread included, of a control period; a client reads everything"
    first_frame = "ground view, until a client draws"
    bodies = f"update of {NUM_BODIES} moving bodies of {NUM_SIZES} sizes"
    return [
        Measurement(bodies, bodies_s / scene.control_dt_s, "%", conditions),
        Measurement("update of a page with all overlays and plots", page_s / scene.control_dt_s, "%", conditions),
        *(Measurement(f"start until the first frame, {name}", _measure_start_s(name), "s", first_frame) for name in scenes),
    ]


def _measure_update_cost(scene: Scene, policy: Policy) -> tuple[float, float]:
    """Measure the CPU time of this process per frame, its server's thread included [s].

    Args:
        scene: with loads.
        policy: of the episode on the page.

    Returns:
        The time for NUM_BODIES moving bodies, and for a page with all overlays and plots, late in
        an episode.
    """
    layout = scene.sample_layout("test", 0)
    replay = Replay("planner", EpisodeSetup(scene.name, layout), policy)
    for _ in range(12):
        replay.advance()
    num_repeats = scene.episode_steps // len(replay.frames)
    replay.frames = replay.frames[:-1] * num_repeats  # trails and marks are as long as at an episode's end
    rng = np.random.default_rng(0)
    with run_server() as server, _run_reader(f"127.0.0.1:{server.get_port()}"):
        crowd = replace(layout, loads=layout.loads[:1] * (NUM_BODIES - 1))
        view = LayoutView(server.scene, scene.visuals, crowd)
        half_extents = np.repeat(np.linspace(0.1, 0.3, NUM_SIZES), NUM_BODIES // NUM_SIZES)[:, None].repeat(3, 1)
        positions = rng.uniform(0, 6, (NUM_FRAMES, NUM_BODIES, 3))
        poses = np.stack([make_upright_poses(xyz, half_extents[:, 2]) for xyz in positions])
        view.add_bodies(half_extents, poses[0])

        def draw_poses(frame: int) -> None:
            with server.atomic():
                view.set_poses(poses[frame])

        bodies_cpu_s = _measure_frame_cpu_s(draw_poses, scene.control_dt_s)
    with run_server() as server, _run_reader(f"127.0.0.1:{server.get_port()}"):
        page = Page(server, {scene.name: {}}, scene.name)
        session = page.session
        session.shown_overlays |= set(OVERLAY_DESCRIPTIONS)
        session.show([replay])
        page_cpu_s = _measure_frame_cpu_s(lambda frame: session.player.seek(len(replay.frames) - 1 - frame), scene.control_dt_s)
        page.close()
    return bodies_cpu_s, page_cpu_s


def _measure_frame_cpu_s(draw: Callable[[int], None], pause_s: float) -> float:
    """Measure the CPU time of a frame, drawn at the pace of a live scene [s]."""
    time.sleep(1.0)  # the layout is sent first
    start_cpu_s = time.process_time()
    for frame in range(NUM_FRAMES):
        start_time = time.perf_counter()
        draw(frame)
        time.sleep(max(0.0, pause_s - (time.perf_counter() - start_time)))
    return (time.process_time() - start_cpu_s) / NUM_FRAMES


def _measure_start_s(scene: str) -> float:
    """Measure the time from the command `ground view` until a waiting client has a scene [s]."""
    start_time = time.monotonic()
    command = [sys.executable, "-m", "experiments.cli", "view", "--scene", scene, "--port", "8400", "--keep-serving"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as viewer:
        try:
            assert viewer.stdout is not None
            match = re.search(r"http://(\S+:\d+)", viewer.stdout.readline())
            if match is None:
                raise GroundError("ground view printed no address")
            with _run_reader(match[1]):
                return time.monotonic() - start_time
        finally:
            viewer.kill()


@contextmanager
def _run_reader(address: str) -> Iterator[None]:
    """Run a client in another process, from its first message on."""
    command = [sys.executable, "-c", READER_SCRIPT, f"ws://{address}", viser.__version__]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        if reader.stdout is None or not reader.stdout.readline():
            raise GroundError("the page's server sends nothing to a client")
        yield
    finally:
        reader.kill()
        reader.wait()
