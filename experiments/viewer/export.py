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
from experiments.viewer.overlays import DEFAULT_OVERLAYS
from experiments.viewer.scenery import ReplayView
from experiments.viewer.stage import run_server
from experiments.viewer.take import Replay
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from sim.utils.files import write_atomic, write_text

END_PAUSE_S = 1.0  # the last state stays this long before a recording starts over
VIDEO_SIZE = (1280, 720)
BROWSER_WINDOW_SIZE = (320, 180)  # of a browser that nobody sees: it draws its own window beside each picture of the film
CONNECT_TIMEOUT_S, RENDER_TIMEOUT_S = 60.0, 60.0
MAX_WARM_UP_IMAGES = 20  # pictures at most, before the first of a film
CAPTION_STYLE = (
    "position:fixed;left:12px;bottom:52px;z-index:5;max-width:60vw;padding:4px 10px;border-radius:6px;"
    "background:#ffffffd0;color:#1c2530;font:14px system-ui,sans-serif;pointer-events:none"
)
ProgressCallback = Callable[[int, int], None]


def save_recording(
    replays: Sequence[Replay], path: Path, title: str = "", on_progress: ProgressCallback = lambda done, total: None
) -> None:
    """Write takes side by side to `path`, an .html or an .mp4 file."""
    check_recording_path(path)
    if path.suffix == ".html":
        write_text(path, render_html(replays, title, on_progress=on_progress))
    else:
        video = _render_video(replays, on_progress)
        write_atomic(path, lambda to: _write_bytes(to, video))


def check_recording_path(path: Path) -> None:
    """Whether a recording can be written there, before it is made."""
    if path.suffix not in (".html", ".mp4"):
        raise GroundError(f"{path}: a recording is an .html or an .mp4 file")
    if path.suffix == ".mp4" and not browser.find_chromium():
        raise GroundError(f"{path}: a film is drawn by Chromium, and there is none on this machine: save as .html instead")


def render_html(
    replays: Sequence[Replay],
    title: str = "",
    shown_overlays: set[str] | frozenset[str] = DEFAULT_OVERLAYS,
    on_progress: ProgressCallback = lambda done, total: None,
) -> str:
    """One self-contained page that plays the takes side by side."""
    pause_s, num_frames = scenes[replays[0].setup.scene].control_dt_s, _count_frames(replays)
    with run_server() as server:
        view = ReplayView(server, replays, set(shown_overlays))
        view.draw_frame(0)
        serializer = server.get_scene_serializer()
        for index in range(1, num_frames):
            serializer.insert_sleep(pause_s)
            view.draw_frame(index)
            on_progress(index + 1, num_frames)
        serializer.insert_sleep(END_PAUSE_S)
        return _add_caption(serializer.as_html(), title)


def render_mp4(
    client: viser.ClientHandle,
    num_frames: int,
    seek: Callable[[int], None],
    scene: str,
    is_undisturbed: Callable[[int], bool] = lambda index: True,
) -> bytes:
    """Frames 0 to `length` - 1, each after `seek`, as a client's browser draws them, in real time."""
    frames_per_s = round(1 / scenes[scene].control_dt_s)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "film.mp4"
        video_writer = write_frames(path, VIDEO_SIZE, fps=frames_per_s, quality=8, macro_block_size=8, ffmpeg_log_level="quiet")
        video_writer.send(None)
        seek(0)
        _wait_until_rendered(client)
        for index in range(num_frames):
            seek(index)
            image = _render_image(client)
            if not is_undisturbed(index):
                raise GroundError("the page was used while its film was made: there is no film")
            video_writer.send(image)
        video_writer.close()
        return path.read_bytes()


def _wait_until_rendered(client: viser.ClientHandle) -> None:
    """Until two pictures agree: meshes and floors come after the page."""
    previous_image = _render_image(client)
    for _ in range(MAX_WARM_UP_IMAGES):
        image = _render_image(client)
        if np.abs(image.astype(float) - previous_image).mean() < 0.1:
            return
        previous_image = image


def _render_image(client: viser.ClientHandle) -> np.ndarray:
    width, height = VIDEO_SIZE
    try:
        return np.ascontiguousarray(client.get_render(height, width, timeout=RENDER_TIMEOUT_S)[..., :3])
    except (TimeoutError, RuntimeError) as error:
        raise GroundError(f"the browser draws no pictures ({error}): keep its tab in front, or save as .html") from error


def _render_video(replays: Sequence[Replay], on_progress: ProgressCallback) -> bytes:
    """Without a person's browser, a headless one draws."""
    with run_server() as server:
        view = ReplayView(server, replays, set(DEFAULT_OVERLAYS), VIDEO_SIZE)
        with browser.run_headless(f"http://127.0.0.1:{server.get_port()}", BROWSER_WINDOW_SIZE) as process:
            start_time = time.monotonic()
            while not server.get_clients():
                if time.monotonic() - start_time > CONNECT_TIMEOUT_S or process.poll() is not None:
                    raise GroundError("the headless browser did not open the page: save it as .html instead")
                time.sleep(0.2)
            client = next(iter(server.get_clients().values()))
            num_frames = _count_frames(replays)

            def seek(index: int) -> None:
                view.draw_frame(index)
                on_progress(index + 1, num_frames)

            return render_mp4(client, num_frames, seek, replays[0].setup.scene)


def _count_frames(replays: Sequence[Replay]) -> int:
    return max(len(replay.frames) for replay in replays)


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _add_caption(html: str, title: str) -> str:
    head = f"<title>{escape(title or 'recording')}</title>"
    html = re.sub(r"<title>.*?</title>", lambda _: head, html, count=1)
    if not title:
        return html
    start, end, rest = html.rpartition("</body>")
    return f'{start}<div style="{CAPTION_STYLE}">{escape(title)}</div>{end}{rest}'
