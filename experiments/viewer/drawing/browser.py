"""A headless Chromium, for videos and screenshots."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from sim.utils.errors import GroundError

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
RENDER_FLAGS = ("--headless=new", "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
UNUSED_FEATURES = ("background-networking", "component-update", "sync", "quic")
QUIET_FLAGS = ("--hide-scrollbars", "--no-first-run", *(f"--disable-{feature}" for feature in UNUSED_FEATURES))


def find_chromium() -> str | None:
    """Find the path of an installed Chromium."""
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


@contextmanager
def run_headless(url: str, window_size: tuple[int, int]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a Chromium without a window that has a page open, until the end of the block.

    Raises:
        GroundError: it is not installed.
    """
    program = find_chromium()
    if program is None:
        raise GroundError("Chromium is not installed")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = (*RENDER_FLAGS, *QUIET_FLAGS, f"--user-data-dir={profile}", "--window-size={},{}".format(*window_size))
        process = subprocess.Popen([program, *flags, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
