"""Errors that a user can cause. Each message is a single line."""

import copyreg
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any


class GroundError(Exception):
    """A mistake in the input (a name, a file, a value).

    The command line prints the message and exits with code 2.
    """

    def __str__(self) -> str:
        return format_line(super().__str__())

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
        self.faults = [format_line(fault) for fault in faults]
        super().__init__(f"{source}: " + "; ".join(faults))


class BadFile(GroundError):  # noqa: N818
    """A file that is damaged, of another version or of another format."""


def format_line(text: str) -> str:
    """Format a text as one line that every terminal can print.

    Line breaks become spaces. Control characters, and bytes of a file name that are not UTF-8, are
    escaped.
    """
    line = re.sub(r"\s*[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029]\s*", " ", text)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
