"""Errors that a user can cause. Each message is a single line."""

import copyreg
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class GroundError(Exception):
    """A mistake in the input (a name, a file, a value).

    The command line prints the message and exits with code 2.
    """

    def __reduce__(self) -> tuple[Any, ...]:  # pickled by worker processes, without __init__
        return copyreg.__newobj__, (type(self), *self.args), vars(self)  # type: ignore


class UnknownName(GroundError):  # noqa: N818, its base says that it is an error
    """A name that is not registered.

    The message suggests the nearest known name and lists all known names.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = get_close_matches(name, names, n=1, cutoff=0.4)
        hint = f"did you mean '{close[0]}'? " if close else ""
        super().__init__(f"unknown {what} '{name}': {hint}known: {', '.join(names)}")


class BadLayout(GroundError):  # noqa: N818
    """A layout that cannot be simulated; `faults` has one line for each fault."""

    def __init__(self, source: str, faults: list[str]) -> None:
        self.source = source
        self.faults = faults
        super().__init__(f"{source}: " + "; ".join(faults))


class BadFile(GroundError):  # noqa: N818
    """A file that is damaged, of another version or of another format."""
