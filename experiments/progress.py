"""Progress bars of one step, and the progress of a whole run."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worldmodels.training.loop import ValidationResult

CACHED_STEP_S = 2.0  # a shorter step was finished before, and is no evidence of the pace
LOG_INTERVAL_S = 60.0  # between lines without a terminal
PRIOR_WEIGHT_S = 600.0  # of the expected pace: the first steps are weak evidence
ProgressCallback = Callable[..., None]  # done, total, and a ValidationResult or nothing


@contextmanager
def show_progress_bars(console: Console) -> Iterator[Callable[[str], ProgressCallback]]:
    """Show progress bars that are added by title; without a terminal, a line each minute, and one at the end."""
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as progress:

        def add_bar(title: str) -> ProgressCallback:
            task = progress.add_task(title, total=None, note="")
            last_line_s = time.monotonic()

            def update_bar(done: int, total: int, validation: ValidationResult | None = None) -> None:
                nonlocal last_line_s
                progress.update(task, completed=done, total=total)
                if not console.is_terminal and time.monotonic() - last_line_s > LOG_INTERVAL_S:
                    last_line_s = time.monotonic()
                    console.print(f"{title}: {done:,} of {total:,}")
                if validation is not None:
                    errors_mm = validation.scenes_mm.values() or (validation.validation_mm,)
                    error_text = f"{validation.metric} after 2 s {', '.join(f'{error_mm:.0f}' for error_mm in errors_mm)} mm"
                    progress.update(task, note=f"loss {validation.loss:.3f}, {error_text}")

            return update_bar

        yield add_bar
        for task in progress.tasks:
            if task.total is None:  # it reported nothing: it was finished before
                progress.update(task.id, completed=1, total=1)


@contextmanager
def show_progress_bar(console: Console, title: str) -> Iterator[ProgressCallback]:
    """Show one progress bar."""
    with show_progress_bars(console) as add_bar:
        yield add_bar(title)


class RunProgress:
    """Progress over all steps of a run.

    The time left is the expected time of the remaining steps, times the pace so far: (elapsed + p)
        / (expected + workers p)
    over the finished steps, with p = PRIOR_WEIGHT_S.
    """

    def __init__(self, console: Console, expected_s: Mapping[str, float], workers: int) -> None:
        """Begin to measure time.

        Args:
            expected_s: core-seconds of each step, by name.
        """
        self._console = console
        self._expected_s = dict(expected_s)
        self._num_steps = len(expected_s)
        self._workers = workers
        self._last_end_s = time.monotonic()
        self._finished_expected_s = 0.0
        self._finished_elapsed_s = 0.0

    def mark_done(self, name: str, duration_s: float | None = None) -> None:
        """Print the progress after a step.

        Args:
            duration_s: of the step, where others ran at the same time; None: the time since the last step
                ended.
        """
        now_s = time.monotonic()
        elapsed_s = now_s - self._last_end_s
        expected_s = self._expected_s.pop(name, 0.0)
        if (elapsed_s if duration_s is None else duration_s) > CACHED_STEP_S:
            self._finished_expected_s += expected_s
            self._finished_elapsed_s += elapsed_s
        self._last_end_s = now_s
        left_s = sum(self._expected_s.values())
        text = f"{self._num_steps - len(self._expected_s)} of {self._num_steps} steps"
        if self._finished_expected_s > 0 and left_s > 0:
            prior_s = self._workers * PRIOR_WEIGHT_S
            pace = (self._finished_elapsed_s + PRIOR_WEIGHT_S) / (self._finished_expected_s + prior_s)
            text += f", about {max(1, round(pace * left_s / 60))} min left"
        self._console.print(f"[dim]{text}[/]", highlight=False)
