"""Recordings of replays: one HTML file with a time bar that opens from disk, or a video (mp4)."""

import re
import tempfile
import time
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np
import viser
from imageio_ffmpeg import write_frames

from experiments.viewer.drawing import browser
from experiments.viewer.drawing.overlays import DEFAULT_OVERLAYS
from experiments.viewer.drawing.replay_view import ReplayView
from experiments.viewer.drawing.server import run_server
from experiments.viewer.replay.player import ProgressCallback
from experiments.viewer.replay.replay import Replay
from sim.utils.errors import GroundError
from sim.utils.files import write_atomic, write_text

END_PAUSE_S = 1.0  # duration of the last frame
VIDEO_SIZE = (1280, 720)
BROWSER_WINDOW_SIZE = (320, 180)  # small: a headless browser draws its window in addition to the video
CONNECT_TIMEOUT_S = 60.0
RENDER_TIMEOUT_S = 60.0
MAX_WARM_UP_IMAGES = 20
MAX_WARM_UP_DIFFERENCE = 0.1  # mean over pixels, of 255
CAPTION_STYLE = (
    "position:fixed;left:12px;bottom:52px;z-index:5;max-width:60vw;padding:4px 10px;border-radius:6px;"
    "background:#ffffffd0;color:#1c2530;font:14px system-ui,sans-serif;pointer-events:none"
)


def save_recording(
    replays: Sequence[Replay], path: Path, title: str = "", on_progress: ProgressCallback = lambda done, total: None
) -> None:
    """Write replays side by side as an .html or an .mp4 file.

    Raises:
        GroundError: the file cannot be written, or Chromium does not draw it.
    """
    check_recording_path(path)
    if path.suffix == ".html":
        write_text(path, render_html(replays, title, on_progress=on_progress))
    else:
        video = _render_video(replays, on_progress)
        write_atomic(path, lambda target: target.write_bytes(video))


def check_recording_path(path: Path) -> None:
    """Check that a recording can be written to a path.

    Raises:
        GroundError: the suffix is unknown, or Chromium is not installed and a video needs it.
    """
    if path.suffix not in (".html", ".mp4"):
        raise GroundError(f"{path}: a recording is an .html or an .mp4 file")
    if path.suffix == ".mp4" and not browser.find_chromium():
        raise GroundError(f"{path}: a video needs Chromium, which is not installed: save as .html instead")


def render_html(
    replays: Sequence[Replay],
    title: str = "",
    shown_overlays: set[str] | frozenset[str] = DEFAULT_OVERLAYS,
    on_progress: ProgressCallback = lambda done, total: None,
) -> str:
    """Render one self-contained page that plays replays side by side."""
    num_frames = _count_frames(replays)
    with run_server() as server:
        view = ReplayView(server, replays, set(shown_overlays))
        view.draw_frame(0)
        serializer = server.get_scene_serializer()
        for index in range(1, num_frames):
            serializer.insert_sleep(replays[0].scene.control_dt_s)
            view.draw_frame(index)
            on_progress(index + 1, num_frames)
        serializer.insert_sleep(END_PAUSE_S)
        return _add_caption(serializer.as_html(), title)


def render_mp4(
    client: viser.ClientHandle,
    num_frames: int,
    seek: Callable[[int], None],
    frame_s: float,
    is_undisturbed: Callable[[int], bool] = lambda index: True,
) -> bytes:
    """Render a video from images that a client's browser draws; the last frame is held.

    Args:
        client: gives the camera.
        num_frames: number of frames of the video.
        seek: draws a frame.
        frame_s: time between two frames in the video.
        is_undisturbed: returns True if the page still shows the frame.

    Returns:
        Content of an mp4 file.

    Raises:
        GroundError: the browser draws nothing, or the page was used meanwhile.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "video.mp4"
        writer = write_frames(path, VIDEO_SIZE, fps=round(1 / frame_s), quality=8, macro_block_size=8, ffmpeg_log_level="quiet")
        writer.send(None)
        seek(0)
        _wait_until_rendered(client)
        for index in range(num_frames):
            seek(index)
            image = _render_image(client)
            if not is_undisturbed(index):
                raise GroundError("the page was used while its video was made: no video was saved")
            writer.send(image)
        last_image = _render_image(client)  # the browser draws the text of labels last
        for _ in range(round(END_PAUSE_S / frame_s)):
            writer.send(last_image)
        writer.close()
        return path.read_bytes()


def _wait_until_rendered(client: viser.ClientHandle) -> None:
    """Wait until two images are equal, because meshes and floors appear after the page."""
    previous_image = _render_image(client)
    for _ in range(MAX_WARM_UP_IMAGES):
        image = _render_image(client)
        if np.abs(image.astype(float) - previous_image).mean() < MAX_WARM_UP_DIFFERENCE:
            return
        previous_image = image


def _render_image(client: viser.ClientHandle) -> np.ndarray:
    width, height = VIDEO_SIZE
    try:
        return np.ascontiguousarray(client.get_render(height, width, timeout=RENDER_TIMEOUT_S)[..., :3])
    except (TimeoutError, RuntimeError) as error:
        raise GroundError(f"the browser draws no images ({error}): keep its tab in front, or save as .html") from error


def _render_video(replays: Sequence[Replay], on_progress: ProgressCallback) -> bytes:
    """Render a video in a headless browser."""
    num_frames = _count_frames(replays)
    with run_server() as server:
        view = ReplayView(server, replays, set(DEFAULT_OVERLAYS), VIDEO_SIZE)
        with browser.run_headless(f"http://127.0.0.1:{server.get_port()}", BROWSER_WINDOW_SIZE) as process:
            start_time = time.monotonic()
            while not server.get_clients():
                if time.monotonic() - start_time > CONNECT_TIMEOUT_S or process.poll() is not None:
                    raise GroundError("the headless browser did not open the page: save it as .html instead")
                time.sleep(0.2)

            def seek(index: int) -> None:
                view.draw_frame(index)
                on_progress(index + 1, num_frames)

            client = next(iter(server.get_clients().values()))
            return render_mp4(client, num_frames, seek, replays[0].scene.control_dt_s)


def _count_frames(replays: Sequence[Replay]) -> int:
    return max(len(replay.frames) for replay in replays)


def _add_caption(html: str, title: str) -> str:
    head = f"<title>{escape(title or 'recording')}</title>"
    html = re.sub(r"<title>.*?</title>", lambda _: head, html, count=1)
    if not title:
        return html
    start, end, rest = html.rpartition("</body>")
    return f'{start}<div style="{CAPTION_STYLE}">{escape(title)}</div>{end}{rest}'
