import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


def half(number: int) -> int:
    send_message(("halving", number))
    return number // 2


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_back_and_what_jobs_tell_is_heard(workers: int) -> None:
    heard: list[tuple[str, int]] = []
    assert sorted(run_jobs(half, [(number,) for number in range(6)], workers, heard.append)) == [0, 0, 1, 1, 2, 2]
    assert sorted(heard) == [("halving", number) for number in range(6)]


def slow(file: Path, first: Path) -> None:
    try:
        file.touch()
        if file == first:
            until(lambda: len(list(file.parent.iterdir())) == 2)
            raise InterruptedError
        time.sleep(60)
    finally:
        file.with_suffix(".ended").touch()


def test_a_job_that_is_stopped_ends_what_it_has_begun(tmp_path: Path) -> None:
    """As when somebody presses Ctrl-C: what it has cost has to be written down."""
    first, second = tmp_path / "first", tmp_path / "second"
    with pytest.raises(InterruptedError):
        list(run_jobs(slow, [(first, first), (second, first)], 2))
    until(second.with_suffix(".ended").exists)


def test_workers_end_with_a_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(ORPHANS)
    parent = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.getcwd()})
    files = [tmp_path / "0", tmp_path / "1"]
    until(lambda: all(file.exists() and file.read_text() for file in files))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    until(lambda: not any(alive(int(file.read_text())) for file in files))


def until(happened: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(pid: int) -> bool:
    """A zombie that nobody has waited for is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def refuse(number: int) -> None:
    raise UnknownName("arm", "x", ("y", "z")) if number else BadLayout("plan", ["no room"])


@pytest.mark.parametrize(("number", "says"), [(0, "plan: no room"), (1, "unknown arm 'x': known: y, z")])
def test_mistakes_come_out_of_workers_as_they_are(number: int, says: str) -> None:
    with pytest.raises(GroundError, match=says):
        list(run_jobs(refuse, [(number,), (number,)], 2))


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_is_killed_is_told_in_one_line() -> None:
    with pytest.raises(GroundError, match="a worker process was killed"):
        list(run_jobs(die, [(0,), (1,)], 2))
