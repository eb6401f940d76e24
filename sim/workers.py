"""Jobs in worker processes. Ctrl-C reaches this process alone, which stops its workers at once."""

import contextlib
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

T = TypeVar("T")


def finished(function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int) -> Iterator[T]:
    """What `function(*job)` gives, as the jobs finish; a single job, or a single worker, runs in this process."""
    workers = min(workers, len(jobs))
    if workers <= 1:
        for job in jobs:
            yield function(*job)
        return
    with worker_pool(workers) as pool:
        futures: list[Future[T]] = []
        try:
            with _uninterrupted():  # half-started workers could not be stopped
                futures += [pool.submit(function, *job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for future in futures:
                future.cancel()
            for process in pool._processes.values():  # a job half done is not worth waiting for
                process.terminate()
            raise


def worker_pool(workers: int) -> ProcessPoolExecutor:
    """Fresh processes: nothing of this one's state is in them."""
    return ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet)


def _quiet() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end. Processes started within inherit that, so that none is hit while it imports."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if caught:
            signal.raise_signal(signal.SIGINT)
