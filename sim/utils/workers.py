"""Jobs in worker processes. Ctrl-C reaches this process alone, which stops its workers at once."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Any, TypeVar

from sim.utils.errors import GroundError

T = TypeVar("T")


MessageHandler = Callable[[Any], None]
_handle_message: MessageHandler = lambda message: None  # noqa: E731


def send_message(message: Any) -> None:
    """Said by a job to the `hear` of whoever runs it."""
    _handle_message(message)


def run_jobs(
    function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, on_message: MessageHandler = lambda message: None
) -> Iterator[T]:
    """What `function(*job)` gives, as the jobs finish; a single job, or a single worker, runs in this process.

    hear: called with what jobs `tell`, in another thread where there are workers.
    """
    workers = min(workers, len(jobs))
    if workers <= 1:
        with _set_handler(on_message):
            for job in jobs:
                yield function(*job)
        return
    queue = multiprocessing.get_context("spawn").Queue()
    listener = threading.Thread(target=_forward_messages, args=(queue, on_message), daemon=True)
    listener.start()
    try:
        yield from _run_in_pool(function, jobs, workers, queue)
    finally:
        queue.put(None)
        listener.join(timeout=5)  # a worker that was stopped while it told something may hold the queue
        queue.cancel_join_thread()


def _run_in_pool(function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, queue: Any) -> Iterator[T]:
    with make_worker_pool(workers, queue) as pool:
        futures: list[Future[T]] = []
        try:
            with _defer_interrupts():  # half-started workers could not be stopped
                futures += [pool.submit(function, *job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise GroundError("a worker process was killed, as when memory runs out: fewer --workers need less") from error
        except BaseException:  # futures are not cancelled: the pool's own thread would stumble over them
            for process in pool._processes.values():  # a job half done is not worth waiting for
                process.terminate()
            raise


def make_worker_pool(workers: int, queue: Any = None) -> ProcessPoolExecutor:
    """Fresh processes: nothing of this one's state is in them, and they end when it does."""
    return ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_init_worker, initargs=(queue,)
    )


def _init_worker(queue: Any) -> None:
    global _handle_message
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what a job has cost so far is written down
    if queue is not None:
        _handle_message = queue.put
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A killed parent cannot stop its workers; one that trains on alone would hold its directory for long."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _forward_messages(queue: Any, hear: MessageHandler) -> None:
    while (message := queue.get()) is not None:
        hear(message)


@contextlib.contextmanager
def _set_handler(hear: MessageHandler) -> Iterator[None]:
    global _handle_message
    before, _handle_message = _handle_message, hear
    try:
        yield
    finally:
        _handle_message = before


@contextlib.contextmanager
def _defer_interrupts() -> Iterator[None]:
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
