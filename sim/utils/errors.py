"""The errors a user can cause, each told in one line."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class GroundError(Exception):
    """A mistake in what came in (a name, a file, a value); the command line prints it and exits with 2."""


class UnknownName(GroundError):  # noqa: N818, its base says that it is an error
    """A name that no registry knows."""

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        self._given = what, name, names
        close = get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean '{close[0]}'? " if close else ""
        super().__init__(f"unknown {what} '{name}': {hint}known: {', '.join(names)}")

    def __reduce__(self) -> tuple[Any, ...]:  # it has to come out of worker processes
        return type(self), self._given


class BadLayout(GroundError):  # noqa: N818
    """A layout that cannot be simulated; `faults` has one line for each thing that is wrong."""

    def __init__(self, source: str, faults: list[str]) -> None:
        self.source, self.faults = source, faults
        super().__init__(f"{source}: " + "; ".join(faults))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.source, self.faults)


class BadFile(GroundError):  # noqa: N818
    """A file that is damaged, of another version, or not what it should be."""
