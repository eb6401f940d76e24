"""An episode as a 3-D recording: one HTML file with a time bar that opens from disk, made with viser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

import numpy as np
import rich
import viser

from experiments.report import topdown
from sim.bodies import Kind, quaternion_of
from sim.dataset import Episode
from sim.files import write_text
from sim.layout import Layout
from sim.task import LOAD, PushTask

HOLD_S = 1.0  # the last state stays this long before the recording starts over
RACK_OPACITY = 0.6  # a load behind a rack stays visible
CAPTION_STYLE = (
    "position:fixed;left:12px;bottom:52px;z-index:5;max-width:60vw;padding:4px 10px;border-radius:6px;"
    "background:#ffffffd0;color:#1c2530;font:14px system-ui,sans-serif;pointer-events:none"
)


def record(episode: Episode, path: Path, dt_s: float = 0.1, title: str = "") -> None:
    """Write what happened, one frame per `dt_s` seconds, as one self-contained HTML file."""
    write_text(path, _captioned(_recorded(episode, dt_s), title))


def _recorded(episode: Episode, dt_s: float) -> str:
    with _server() as server:
        _light_and_camera(server, episode.layout)
        _space(server.scene, episode.layout)
        movers = _movers(server.scene, episode)
        serializer = server.get_scene_serializer()
        for poses in np.asarray(episode.pose[1:], np.float64):
            serializer.insert_sleep(dt_s)
            _move(movers, poses)
        serializer.insert_sleep(HOLD_S)
        return serializer.as_html()


@contextmanager
def _server() -> Iterator[viser.ViserServer]:
    """A server on a free port of this machine only; its banner goes to rich's console whatever `verbose` says."""
    console = rich.get_console()
    quiet, console.quiet = console.quiet, True
    try:
        server = viser.ViserServer(host="127.0.0.1", port=0, verbose=False)
        try:
            yield server
        finally:
            server.stop()
    finally:
        console.quiet = quiet


def _light_and_camera(server: viser.ViserServer, layout: Layout) -> None:
    hall = layout.hall
    size = max(hall.width, hall.depth)
    centre = np.array([hall.x + hall.width / 2, hall.y + hall.depth / 2, 0.0])
    server.scene.set_up_direction("+z")
    server.scene.configure_default_lights(cast_shadow=False)
    server.initial_camera.look_at = centre
    server.initial_camera.position = centre + size * np.array([0.0, -0.75, 1.05])
    server.initial_camera.fov = np.deg2rad(50)


def _space(scene: viser.SceneApi, layout: Layout) -> None:
    hall = layout.hall
    centre = (hall.x + hall.width / 2, hall.y + hall.depth / 2)
    scene.add_box("/floor", color=_rgb(topdown.FLOOR), dimensions=(hall.width, hall.depth, 0.02), position=(*centre, -0.01))
    for number, (x, y, yaw, *half, kind) in enumerate(layout.static_boxes):
        name, colour = ("wall", topdown.WALL) if kind == Kind.WALL else ("rack", topdown.RACK)
        scene.add_box(
            f"/{name}s/{number}",
            color=_rgb(colour),
            opacity=None if kind == Kind.WALL else RACK_OPACITY,
            dimensions=2 * np.array(half),
            wxyz=_wxyz(quaternion_of(np.array(yaw))),
            position=(x, y, half[2]),
        )
    scene.add_cylinder(
        "/goal",
        radius=PushTask.goal_radius_m,
        height=0.01,
        color=_rgb(topdown.GOAL),
        position=(layout.goal.x, layout.goal.y, 0.006),
    )


def _movers(scene: viser.SceneApi, episode: Episode) -> list[viser.SceneNodeHandle]:
    """Robot and loads at their first pose, in the order of the episode's bodies."""
    half = np.asarray(episode.half_extents, np.float64)
    radius, top = half[0, 0], half[0, 2]
    robot = scene.add_frame("/robot", show_axes=False)
    scene.add_cylinder("/robot/body", radius=radius, height=2 * top, color=_rgb(topdown.ROBOT))
    nose, at = (radius, 0.25 * radius, 0.02), (radius / 2, 0.0, top + 0.01)
    scene.add_box("/robot/heading", color=(255, 255, 255), dimensions=nose, position=at)
    movers: list[viser.SceneNodeHandle] = [robot]
    for body in range(LOAD, len(half)):
        colour = topdown.LOAD if body == LOAD else topdown.OTHER_LOAD
        movers.append(scene.add_box(f"/totes/{body}", color=_rgb(colour), dimensions=2 * half[body]))
    _move(movers, np.asarray(episode.pose[0], np.float64))
    return movers


def _move(movers: list[viser.SceneNodeHandle], poses: np.ndarray) -> None:
    """Bodies to poses (M, 7); viser keeps only what changed."""
    for handle, pose in zip(movers, poses, strict=True):
        handle.position = pose[:3]
        handle.wxyz = _wxyz(pose[3:])


def _captioned(html: str, title: str) -> str:
    head = f"<title>{escape(title or 'recording')}</title>"
    html = re.sub(r"<title>.*?</title>", lambda _: head, html, count=1)
    if not title:
        return html
    start, end, rest = html.rpartition("</body>")
    return f'{start}<div style="{CAPTION_STYLE}">{escape(title)}</div>{end}{rest}'


def _wxyz(quaternion: np.ndarray) -> np.ndarray:
    return np.roll(quaternion, 1)


def _rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue
