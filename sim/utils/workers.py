"""Jobs in worker processes.

Ctrl-C reaches only the main process, which stops its workers at once.
"""

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
    """Send a message from a job to the `on_message` handler of `run_jobs`."""
    _handle_message(message)


def run_jobs(
    function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, on_message: MessageHandler = lambda message: None
) -> Iterator[T]:
    """Run `function(*job)` for each job. A single job, or a single worker, runs in this process.

    Args:
        workers: number of processes at most.
        on_message: handles the messages that jobs send. With several workers it runs in a thread.

    Returns:
        Results in the order in which jobs finish.

    Raises:
        GroundError: a worker process was killed.
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
        listener.join(timeout=5)  # a stopped worker may still hold the queue
        queue.cancel_join_thread()


def _run_in_pool(function: Callable[..., T], jobs: Sequence[tuple[Any, ...]], workers: int, queue: Any) -> Iterator[T]:
    with make_worker_pool(workers, queue) as pool:
        futures: list[Future[T]] = []
        try:
            with _defer_interrupts():  # workers that are still starting cannot be stopped
                futures += [pool.submit(function, *job) for job in jobs]
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool as error:
            raise GroundError("a worker process was killed, as when memory runs out: fewer --workers need less") from error
        except BaseException:  # cancelling the futures would raise errors in the pool's own thread
            for process in pool._processes.values():
                process.terminate()
            raise


def make_worker_pool(workers: int, queue: Any = None) -> ProcessPoolExecutor:
    """Make a pool of fresh processes, which inherit no state and end with this process.

    Args:
        queue: receives the messages that jobs send; None: messages are dropped.
    """
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, spawn, _init_worker, (queue,))


def _init_worker(queue: Any) -> None:
    global _handle_message
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # jobs can still record their costs
    if queue is not None:
        _handle_message = queue.put
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """End this process when its parent ends.

    A killed parent cannot stop its workers, and they would keep directories locked.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _forward_messages(queue: Any, on_message: MessageHandler) -> None:
    while (message := queue.get()) is not None:
        on_message(message)


@contextlib.contextmanager
def _set_handler(on_message: MessageHandler) -> Iterator[None]:
    global _handle_message
    previous = _handle_message
    _handle_message = on_message
    try:
        yield
    finally:
        _handle_message = previous


@contextlib.contextmanager
def _defer_interrupts() -> Iterator[None]:
    """Defer Ctrl-C until the end.

    Processes that start inside inherit the signal mask, so their imports are not interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler)
        if interrupts:
            signal.raise_signal(signal.SIGINT)
