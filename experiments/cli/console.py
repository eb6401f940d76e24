"""What all commands share."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

CONSOLE = Console(width=None if sys.stdout.isatty() else 150)
File = Annotated[Path, tyro.conf.Positional]
Pose2 = tuple[float, float, float]
Place2 = tuple[float, float]
SCENE = "logistics/tote-push"
