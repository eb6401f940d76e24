"""Small functions of several test files, without imports of the project."""

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def interrupt_at(step: int) -> Callable[..., None]:
    """Make a progress callback that raises InterruptedError from a step on."""

    def progress(done: int, *_: object) -> None:
        if done >= step:
            raise InterruptedError

    return progress
