"""Console, argument types and messages of all commands."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape

CONSOLE = Console(width=None if sys.stdout.isatty() else 150)
PathArgument = Annotated[Path, tyro.conf.Positional]
PlanarPose = tuple[float, float, float]
PlanarPosition = tuple[float, float]
DEFAULT_SCENE = "logistics/tote-push"


def print_message(text: str) -> None:
    """Print a line to stderr, so that stdout has the results only."""
    Console(stderr=True).print(escape(text), soft_wrap=True, highlight=False)


def print_warnings(*messages: str) -> None:
    """Print a line for each message that is not empty."""
    for message in filter(None, messages):
        CONSOLE.print(f"[yellow]{escape(message)}[/]", soft_wrap=True)
