"""Colour legends of the page as HTML."""

from collections.abc import Sequence
from html import escape

from experiments.colours import get_method_colours
from experiments.viewer.drawing.overlays import DISAGREEMENT_COLOUR, FORCE_COLOUR
from experiments.viewer.replay.replay import Replay
from sim.visuals import format_hex

OVERLAY_COLOURS = {
    "low cost": "#1a9850",
    "high cost": "#d73027",
    "contact force": format_hex(FORCE_COLOUR),
    "disagreement": format_hex(DISAGREEMENT_COLOUR),
}


def render_legend(replays: Sequence[Replay]) -> str:
    """Render the colours of bodies, overlays and, side by side, of methods."""
    layouts = [replay.setup.layout for replay in replays]
    bodies = {name: format_hex(colour) for name, colour in replays[0].scene.visuals.make_legend(layouts).items()}
    names = [replay.name for replay in replays]
    methods = get_method_colours(names)
    lines = [bodies, OVERLAY_COLOURS, *([methods] if len(names) > 1 else [])]
    return f'<div style="font-size:0.8em;margin:0 1em">{"".join(map(_render_line, lines))}</div>'


def _render_line(colours: dict[str, str]) -> str:
    chips = (
        f'<span style="white-space:nowrap;margin-right:0.8em"><span style="color:{colour}">■</span> {escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f"<div>{''.join(chips)}</div>"
