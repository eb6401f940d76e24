"""Progress bars for everything that takes long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from worldmodels.training import Check

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

            def report(done: int, total: int, check: Check | None = None) -> None:
                progress.update(task, completed=done, total=total)
                if check is not None:
                    progress.update(task, note=f"loss {check.loss:.3f}, load error after 2 s {check.validation_mm:.0f} mm")

            return report

        yield add


@contextmanager
def bar(console: Console, title: str) -> Iterator[Report]:
    """One progress bar."""
    with bars(console) as add:
        yield add(title)
