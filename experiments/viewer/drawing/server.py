"""viser's server, without its output on the console."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import rich
import viser


@contextmanager
def run_server(host: str = "127.0.0.1", port: int = 0) -> Iterator[viser.ViserServer]:
    """Run a server until the end of the block, by default on a free port of this machine only."""
    logging.getLogger("websockets.server").addFilter(_is_worth_logging)
    with _silence_console():
        server = viser.ViserServer(host=host, port=port, verbose=False)
    try:
        yield server
    finally:
        with _silence_console():
            server.stop()


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """Browsers open connections ahead of need and close some unused, which is no failure."""
    return record.msg != "opening handshake failed"


@contextmanager
def _silence_console() -> Iterator[None]:
    """Silence viser, which prints to rich's console for any value of `verbose`."""
    console = rich.get_console()
    was_quiet, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = was_quiet
