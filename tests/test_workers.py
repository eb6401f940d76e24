import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import wait_until

from sim.utils.errors import BadLayout, GroundError, UnknownName
from sim.utils.workers import run_jobs, send_message

ORPHANS = """
import os, time
from sim.utils.workers import run_jobs

def work(number):
    open(f"{number}", "w").write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    list(run_jobs(work, [(0,), (1,)], 2))
"""


def halve(number: int) -> int:
    send_message(("halving", number))
    return number // 2


@pytest.mark.parametrize("workers", [1, 2])
def test_results_and_messages_arrive(workers: int) -> None:
    messages: list[tuple[str, int]] = []
    assert sorted(run_jobs(halve, [(number,) for number in range(6)], workers, messages.append)) == [0, 0, 1, 1, 2, 2]
    assert sorted(messages) == [("halving", number) for number in range(6)]


def run_slow_job(file: Path, first: Path) -> None:
    try:
        file.touch()
        if file == first:
            wait_until(lambda: len(list(file.parent.iterdir())) == 2)
            raise InterruptedError
        time.sleep(60)
    finally:
        file.with_suffix(".ended").touch()


def test_stopped_jobs_clean_up(tmp_path: Path) -> None:
    """As with Ctrl-C: a job still records its costs."""
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(InterruptedError):
        list(run_jobs(run_slow_job, [(first, first), (second, first)], 2))
    wait_until(second.with_suffix(".ended").exists)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()})
    files = [tmp_path / "0", tmp_path / "1"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not any(is_alive(int(file.read_text())) for file in files))


def is_alive(pid: int) -> bool:
    """Check a process; a zombie is not alive."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def raise_error(number: int) -> None:
    raise UnknownName("method", "x", ("y", "z")) if number else BadLayout("plan", ["no free pose"])


@pytest.mark.parametrize(("number", "message"), [(0, "plan: no free pose"), (1, "unknown method 'x': known: y, z")])
def test_errors_of_workers_keep_their_type_and_message(number: int, message: str) -> None:
    with pytest.raises(GroundError, match=message):
        list(run_jobs(raise_error, [(number,), (number,)], 2))


def kill_worker(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_is_reported() -> None:
    with pytest.raises(GroundError, match="a worker process was killed"):
        list(run_jobs(kill_worker, [(0,), (1,)], 2))
