"""Progress bars for everything that takes long."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worldmodels.training.loop import ValidationResult

CACHED_STEP_S = 2.0  # what is over sooner was there already, and says nothing of how long others take
PRIOR_WEIGHT_S = 600.0  # of measured time that what cells are expected to take is worth: first ones say little of the others
ProgressCallback = Callable[..., None]  # done, total, and maybe a Check


@contextmanager
def show_progress_bars(console: Console) -> Iterator[Callable[[str], ProgressCallback]]:
    """Progress bars, added by title; where there is no terminal, lines at the end."""
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

            def update_bar(done: int, total: int, validation: ValidationResult | None = None) -> None:
                progress.update(task, completed=done, total=total)
                if validation is not None:
                    errors_mm = validation.scenes_mm.values() or (validation.validation_mm,)
                    error_text = f"{validation.metric} after 2 s {', '.join(f'{error_mm:.0f}' for error_mm in errors_mm)} mm"
                    progress.update(task, note=f"loss {validation.loss:.3f}, {error_text}")

            return update_bar

        yield add_bar
        for task in progress.tasks:
            if task.total is None:  # nothing was left to do, and nobody reported
                progress.update(task.id, completed=1, total=1)


@contextmanager
def show_progress_bar(console: Console, title: str) -> Iterator[ProgressCallback]:
    """One progress bar."""
    with show_progress_bars(console) as add_bar:
        yield add_bar(title)


class RunProgress:
    """Progress over all cells of an experiment. Cells weigh the core-seconds that they are expected to take."""

    def __init__(self, console: Console, expected_s: Mapping[str, float], workers: int) -> None:
        self._console, self._expected_s, self._num_steps, self._workers = console, dict(expected_s), len(expected_s), workers
        self._last_end_s, self._done_expected_s, self._done_elapsed_s = (
            time.monotonic(),
            0.0,
            0.0,
        )  # of cells that were made, not found

    def mark_done(self, name: str, duration_s: float | None = None) -> None:
        """A cell is over. It took the time since the last one was, or where others were made beside it, `took_s`."""
        now_s, expected_s = time.monotonic(), self._expected_s.pop(name, 0.0)
        if (now_s - self._last_end_s if duration_s is None else duration_s) > CACHED_STEP_S:
            self._done_expected_s, self._done_elapsed_s = (
                self._done_expected_s + expected_s,
                self._done_elapsed_s + now_s - self._last_end_s,
            )
        self._last_end_s, expected_left_s = now_s, sum(self._expected_s.values())
        text = f"{self._num_steps - len(self._expected_s)} of {self._num_steps} cells"
        if self._done_expected_s > 0 and expected_left_s > 0:
            elapsed_per_expected = (self._done_elapsed_s + PRIOR_WEIGHT_S) / (
                self._done_expected_s + self._workers * PRIOR_WEIGHT_S
            )
            text += f", about {max(1, round(elapsed_per_expected * expected_left_s / 60))} min left"
        self._console.print(f"[dim]{text}[/]", highlight=False)
