"""Descriptions of replays in a line, for the page and for recordings."""

from experiments.evaluation.results import format_layout, is_custom_split
from experiments.viewer.replay.replay import Replay
from sim.variation import describe_differences

POSITION_TOLERANCE_M = 1e-5  # recordings are in single precision: a smaller deviation is not worth a word


def describe_state(replay: Replay, frame_index: int) -> list[str]:
    """Describe a frame: step, time and outcome or cost, and on a second line the violations so far."""
    frame, scene = replay.frames[frame_index], replay.scene
    if frame.success:
        outcome = "solved"
    elif frame_index == len(replay.frames) - 1 and replay.is_over:
        outcome = "out of time" if frame.step >= scene.episode_steps else "end of the episode"
    else:
        outcome = f"cost {frame.cost * scene.task.cost_unit_m:.2f} m"
    violations = dict.fromkeys(kind for frame in replay.frames[: frame_index + 1] for kind in frame.violations)
    state = " · ".join(filter(None, [f"step {frame.step}, {frame.time_s:.1f} s", frame.note, outcome]))
    return [state, ", ".join(violations).replace("_", " ")] if violations else [state]


def describe_replay(replay: Replay, frame_index: int) -> str:
    """Describe a replay at a frame, or at its last one, in Markdown."""
    setup, layout = replay.setup, replay.setup.layout
    layout_text = format_layout(layout.name, layout.id) if is_custom_split(setup.split) or not layout.name else layout.name
    state = " · ".join(describe_state(replay, min(frame_index, len(replay.frames) - 1)))
    notes = describe_differences(setup.variation, replay.scene.make_variations("test", ()).base)
    if (replay.deviation_m or 0.0) > POSITION_TOLERANCE_M:
        notes.append(f"replayed to within {1e3 * (replay.deviation_m or 0.0):.3g} mm of the recording")
    notes_text = f" ({', '.join(notes)})" if notes else ""
    return f"**{replay.name}** in {layout_text}{notes_text}: {state}"
