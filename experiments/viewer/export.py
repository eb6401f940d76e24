"""Takes to give away: one HTML file with a time bar that opens from disk, or a film."""

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
import viser
from imageio_ffmpeg import write_frames

from experiments.viewer.browser import headless
from experiments.viewer.overlays import USUAL
from experiments.viewer.scenery import Scenery
from experiments.viewer.stage import serving
from experiments.viewer.take import Take
from sim.errors import GroundError
from sim.files import write_atomic, write_text
from sim.scenes import scenes

HOLD_S = 1.0  # the last state stays this long before a recording starts over
FILM_SIZE = (1280, 720)
CONNECT_S = 60.0
CAPTION_STYLE = (
    "position:fixed;left:12px;bottom:52px;z-index:5;max-width:60vw;padding:4px 10px;border-radius:6px;"
    "background:#ffffffd0;color:#1c2530;font:14px system-ui,sans-serif;pointer-events:none"
)
Told = Callable[[int, int], None]


def save(takes: Sequence[Take], path: Path, title: str = "", told: Told = lambda done, total: None) -> None:
    """Write takes side by side to `path`, an .html or an .mp4 file."""
    if path.suffix == ".html":
        write_text(path, as_html(takes, title))
    elif path.suffix == ".mp4":
        film = _filmed(takes, told)
        write_atomic(path, lambda to: _write(to, film))
    else:
        raise GroundError(f"{path}: a recording is an .html or an .mp4 file")


def as_html(takes: Sequence[Take], title: str = "", shown: set[str] | frozenset[str] = USUAL) -> str:
    """One self-contained page that plays the takes side by side."""
    pause = scenes[takes[0].setting.scene].control_dt_s
    with serving() as server:
        scenery = Scenery(server, takes, set(shown))
        scenery.draw(0)
        serializer = server.get_scene_serializer()
        for index in range(1, _length(takes)):
            serializer.insert_sleep(pause)
            scenery.draw(index)
        serializer.insert_sleep(HOLD_S)
        return _captioned(serializer.as_html(), title)


def as_mp4(client: viser.ClientHandle, length: int, seek: Callable[[int], None], scene: str, told: Told) -> bytes:
    """Frames 0 to `length` - 1, each after `seek`, as a client's browser draws them, in real time."""
    width, height = FILM_SIZE
    rate = round(1 / scenes[scene].control_dt_s)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "film.mp4"
        film = write_frames(path, FILM_SIZE, fps=rate, quality=8, macro_block_size=8)
        film.send(None)
        for index in range(length):
            seek(index)
            film.send(np.ascontiguousarray(client.get_render(height, width)[..., :3]))
            told(index + 1, length)
        film.close()
        return path.read_bytes()


def _filmed(takes: Sequence[Take], told: Told) -> bytes:
    """Without a person's browser, a headless one draws."""
    with serving() as server:
        scenery = Scenery(server, takes, set(USUAL))
        with headless(f"http://127.0.0.1:{server.get_port()}", FILM_SIZE):
            begun = time.monotonic()
            while not server.get_clients():
                if time.monotonic() - begun > CONNECT_S:
                    raise GroundError("the headless browser did not open the page: save it as .html instead")
                time.sleep(0.2)
            client = next(iter(server.get_clients().values()))
            return as_mp4(client, _length(takes), scenery.draw, takes[0].setting.scene, told)


def _length(takes: Sequence[Take]) -> int:
    return max(len(take.frames) for take in takes)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _captioned(html: str, title: str) -> str:
    head = f"<title>{escape(title or 'recording')}</title>"
    html = re.sub(r"<title>.*?</title>", lambda _: head, html, count=1)
    if not title:
        return html
    start, end, rest = html.rpartition("</body>")
    return f'{start}<div style="{CAPTION_STYLE}">{escape(title)}</div>{end}{rest}'
