"""PyBullet, imported without the line about its build that it writes to stderr, in every process and through progress bars."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """The file descriptor itself: what C writes does not pass through sys.stderr."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


with _silent_stderr():
    import pybullet
    import pybullet_data

DATA = Path(pybullet_data.getDataPath())  # robots' URDF files and meshes
__all__ = ["DATA", "pybullet"]
