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

from experiments.viewer import browser
from experiments.viewer.overlays import USUAL
from experiments.viewer.scenery import Scenery
from experiments.viewer.stage import serving
from experiments.viewer.take import Take
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from sim.utils.files import write_atomic, write_text

HOLD_S = 1.0  # the last state stays this long before a recording starts over
FILM_SIZE = (1280, 720)
WINDOW = (320, 180)  # of a browser that nobody sees: it draws its own window beside each picture of the film
CONNECT_S, PICTURE_S = 60.0, 60.0
SETTLE = 20  # pictures at most, before the first of a film
CAPTION_STYLE = (
    "position:fixed;left:12px;bottom:52px;z-index:5;max-width:60vw;padding:4px 10px;border-radius:6px;"
    "background:#ffffffd0;color:#1c2530;font:14px system-ui,sans-serif;pointer-events:none"
)
Told = Callable[[int, int], None]


def save(takes: Sequence[Take], path: Path, title: str = "", told: Told = lambda done, total: None) -> None:
    """Write takes side by side to `path`, an .html or an .mp4 file."""
    check(path)
    if path.suffix == ".html":
        write_text(path, as_html(takes, title, told=told))
    else:
        film = _filmed(takes, told)
        write_atomic(path, lambda to: _write(to, film))


def check(path: Path) -> None:
    """Whether a recording can be written there, before it is made."""
    if path.suffix not in (".html", ".mp4"):
        raise GroundError(f"{path}: a recording is an .html or an .mp4 file")
    if path.suffix == ".mp4" and not browser.found():
        raise GroundError(f"{path}: a film is drawn by Chromium, and there is none on this machine: save as .html instead")


def as_html(
    takes: Sequence[Take],
    title: str = "",
    shown: set[str] | frozenset[str] = USUAL,
    told: Told = lambda done, total: None,
) -> str:
    """One self-contained page that plays the takes side by side."""
    pause, length = scenes[takes[0].setting.scene].control_dt_s, _length(takes)
    with serving() as server:
        scenery = Scenery(server, takes, set(shown))
        scenery.draw(0)
        serializer = server.get_scene_serializer()
        for index in range(1, length):
            serializer.insert_sleep(pause)
            scenery.draw(index)
            told(index + 1, length)
        serializer.insert_sleep(HOLD_S)
        return _captioned(serializer.as_html(), title)


def as_mp4(
    client: viser.ClientHandle,
    length: int,
    seek: Callable[[int], None],
    scene: str,
    undisturbed: Callable[[int], bool] = lambda index: True,
) -> bytes:
    """Frames 0 to `length` - 1, each after `seek`, as a client's browser draws them, in real time."""
    rate = round(1 / scenes[scene].control_dt_s)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "film.mp4"
        film = write_frames(path, FILM_SIZE, fps=rate, quality=8, macro_block_size=8, ffmpeg_log_level="quiet")
        film.send(None)
        seek(0)
        _settled(client)
        for index in range(length):
            seek(index)
            picture = _picture(client)
            if not undisturbed(index):
                raise GroundError("the page was used while its film was made: there is no film")
            film.send(picture)
        film.close()
        return path.read_bytes()


def _settled(client: viser.ClientHandle) -> None:
    """Until two pictures agree: meshes and floors come after the page."""
    before = _picture(client)
    for _ in range(SETTLE):
        now = _picture(client)
        if np.abs(now.astype(float) - before).mean() < 0.1:
            return
        before = now


def _picture(client: viser.ClientHandle) -> np.ndarray:
    width, height = FILM_SIZE
    try:
        return np.ascontiguousarray(client.get_render(height, width, timeout=PICTURE_S)[..., :3])
    except (TimeoutError, RuntimeError) as error:
        raise GroundError(f"the browser draws no pictures ({error}): keep its tab in front, or save as .html") from error


def _filmed(takes: Sequence[Take], told: Told) -> bytes:
    """Without a person's browser, a headless one draws."""
    with serving() as server:
        scenery = Scenery(server, takes, set(USUAL), FILM_SIZE)
        with browser.headless(f"http://127.0.0.1:{server.get_port()}", WINDOW) as process:
            begun = time.monotonic()
            while not server.get_clients():
                if time.monotonic() - begun > CONNECT_S or process.poll() is not None:
                    raise GroundError("the headless browser did not open the page: save it as .html instead")
                time.sleep(0.2)
            client = next(iter(server.get_clients().values()))
            length = _length(takes)

            def seek(index: int) -> None:
                scenery.draw(index)
                told(index + 1, length)

            return as_mp4(client, length, seek, takes[0].setting.scene)


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
