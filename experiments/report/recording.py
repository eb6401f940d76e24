"""An episode as a 3-D recording: one HTML file with a time bar that opens from disk, made with viser."""

import re
from html import escape
from pathlib import Path

from experiments.viewer.stage import Stage, light_and_camera, serving
from sim.dataset import Episode
from sim.files import write_text

HOLD_S = 1.0  # the last state stays this long before the recording starts over
CAPTION_STYLE = (
    "position:fixed;left:12px;bottom:52px;z-index:5;max-width:60vw;padding:4px 10px;border-radius:6px;"
    "background:#ffffffd0;color:#1c2530;font:14px system-ui,sans-serif;pointer-events:none"
)


def record(episode: Episode, path: Path, dt_s: float = 0.1, title: str = "") -> None:
    """Write what happened, one frame per `dt_s` seconds, as one self-contained HTML file."""
    write_text(path, _captioned(_recorded(episode, dt_s), title))


def _recorded(episode: Episode, dt_s: float) -> str:
    with serving() as server:
        light_and_camera(server, episode.layout)
        stage = Stage(server.scene)
        stage.build(episode.layout, episode.half_extents, episode.pose[0])
        serializer = server.get_scene_serializer()
        for poses in episode.pose[1:]:
            serializer.insert_sleep(dt_s)
            stage.move(poses)
        serializer.insert_sleep(HOLD_S)
        return serializer.as_html()


def _captioned(html: str, title: str) -> str:
    head = f"<title>{escape(title or 'recording')}</title>"
    html = re.sub(r"<title>.*?</title>", lambda _: head, html, count=1)
    if not title:
        return html
    start, end, rest = html.rpartition("</body>")
    return f'{start}<div style="{CAPTION_STYLE}">{escape(title)}</div>{end}{rest}'
