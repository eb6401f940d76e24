"""Progress bars for everything that takes long."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worldmodels.training.loop import ValidationResult

FOUND_S = 2.0  # what is over sooner was there already, and says nothing of how long others take
BELIEVED_S = 600.0  # of measured time that what cells are expected to take is worth: first ones say little of the others
Report = Callable[..., None]  # done, total, and maybe a Check


@contextmanager
def bars(console: Console) -> Iterator[Callable[[str], Report]]:
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

        def add(title: str) -> Report:
            task = progress.add_task(title, total=None, note="")

            def report(done: int, total: int, check: ValidationResult | None = None) -> None:
                progress.update(task, completed=done, total=total)
                if check is not None:
                    found = check.scenes_mm.values() or (check.validation_mm,)
                    error = f"{check.metric} after 2 s {', '.join(f'{value:.0f}' for value in found)} mm"
                    progress.update(task, note=f"loss {check.loss:.3f}, {error}")

            return report

        yield add
        for task in progress.tasks:
            if task.total is None:  # nothing was left to do, and nobody reported
                progress.update(task.id, completed=1, total=1)


@contextmanager
def bar(console: Console, title: str) -> Iterator[Report]:
    """One progress bar."""
    with bars(console) as add:
        yield add(title)


class Whole:
    """Progress over all cells of an experiment. Cells weigh the core-seconds that they are expected to take."""

    def __init__(self, console: Console, cells: Mapping[str, float], workers: int) -> None:
        self._console, self._cells, self._count, self._workers = console, dict(cells), len(cells), workers
        self._last, self._weight, self._spent_s = time.monotonic(), 0.0, 0.0  # of cells that were made, not found

    def done(self, name: str, took_s: float | None = None) -> None:
        """A cell is over. It took the time since the last one was, or where others were made beside it, `took_s`."""
        now, weight = time.monotonic(), self._cells.pop(name, 0.0)
        if (now - self._last if took_s is None else took_s) > FOUND_S:
            self._weight, self._spent_s = self._weight + weight, self._spent_s + now - self._last
        self._last, left = now, sum(self._cells.values())
        text = f"{self._count - len(self._cells)} of {self._count} cells"
        if self._weight > 0 and left > 0:
            pace = (self._spent_s + BELIEVED_S) / (self._weight + self._workers * BELIEVED_S)
            text += f", about {max(1, round(pace * left / 60))} min left"
        self._console.print(f"[dim]{text}[/]", highlight=False)
