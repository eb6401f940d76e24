"""3-D recordings of episodes for a report."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from agents.planning.spec import PlannerSpec
from experiments.report.build import ProgressCallback, RecordingRequest, RecordingWriter
from experiments.viewer.drawing.recording import save_recording
from experiments.viewer.replay.player import recompute_plans
from experiments.viewer.replay.replay import Replay
from sim.policy import Policy, PolicyFactory
from sim.utils.errors import GroundError

MAX_PLANNING_S = 15.0  # of a recording: its plans are shown until then
PROGRESS_PARTS = 100  # of a recording


def make_recording_writer(methods: Mapping[str, PolicyFactory] | None = None) -> RecordingWriter:
    """Make the writer that a report calls.

    Args:
        methods: by label; their plans are computed again and shown.
    """
    return partial(write_recordings, methods or {})


def write_recordings(
    methods: Mapping[str, PolicyFactory], requests: Sequence[RecordingRequest], out: Path, on_progress: ProgressCallback
) -> list[str]:
    """Write episodes as 3-D pages.

    Args:
        methods: by label; their plans are computed again where that is requested.
        out: directory.

    Returns:
        Notes on the methods whose plans are missing.
    """
    labels = dict.fromkeys(request.stored.result.method_label for request in requests if request.has_plans)
    policies, notes = make_policies({label: methods[label] for label in labels if label in methods})
    for index, request in enumerate(requests):
        result = request.stored.result

        def report_part(done: int, total: int, index: int = index) -> None:
            on_progress(index * PROGRESS_PARTS + PROGRESS_PARTS * done // total, len(requests) * PROGRESS_PARTS)

        replay = Replay.from_episode(result.scene, request.stored.read_episode(), result.split)
        if request.has_plans and result.method_label in policies:
            deadline_s = time.monotonic() + MAX_PLANNING_S

            def is_time_over(deadline_s: float = deadline_s) -> bool:
                return time.monotonic() > deadline_s

            recompute_plans(replay, policies[result.method_label], is_time_over, report_part)
        save_recording([replay], out / request.file_name, request.title)
        report_part(1, 1)
    return notes


def make_policies(methods: Mapping[str, PolicyFactory]) -> tuple[dict[str, Policy], list[str]]:
    """Make policies, without compilation, which takes longer than it saves here.

    Returns:
        The policies by label, and a note on each that cannot be made.
    """
    policies = dict[str, Policy]()
    notes = list[str]()
    for label, factory in methods.items():
        try:
            policies[label] = (replace(factory, is_compiled=False) if isinstance(factory, PlannerSpec) else factory)()
        except GroundError as error:
            notes.append(f"Recordings of {label} show the episode without plans: {error}.")
    return policies, notes
