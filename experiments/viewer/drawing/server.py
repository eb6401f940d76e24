"""viser's server, without its output on the console."""

import ctypes
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import rich
import viser


@contextmanager
def run_server(host: str = "127.0.0.1", port: int = 0) -> Iterator[viser.ViserServer]:
    """Run a server until the end of the block, by default on a free port of this machine only."""
    # Browsers open some connections in advance and close them unused. This is no failure.
    logging.getLogger("websockets.server").addFilter(lambda record: record.msg != "opening handshake failed")
    with _silence_console():
        server = viser.ViserServer(host=host, port=port, verbose=False)
    try:
        yield server
    finally:
        with _silence_console():
            server.stop()


def release_free_memory() -> None:
    """Return freed memory to the system. glibc keeps the memory of threads that have ended."""
    with suppress(AttributeError, OSError, TypeError):  # other C libraries
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def _silence_console() -> Iterator[None]:
    """Silence viser, which prints to rich's console for any value of `verbose`."""
    console = rich.get_console()
    was_quiet, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = was_quiet
