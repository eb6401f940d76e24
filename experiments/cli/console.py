"""What all commands share."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

CONSOLE = Console(width=None if sys.stdout.isatty() else 150)
PathArgument = Annotated[Path, tyro.conf.Positional]
PlanarPose = tuple[float, float, float]
PlanarPosition = tuple[float, float]
DEFAULT_SCENE = "logistics/tote-push"
