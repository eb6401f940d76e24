"""Progress bars and the estimated time of a run."""

import io
import re

import pytest
from rich.console import Console

from experiments.progress import RunProgress, show_progress_bar


def test_a_bar_without_reports_ends_complete() -> None:
    text = io.StringIO()
    with show_progress_bar(Console(file=text, width=120), "train"):
        pass
    assert "1/1" in text.getvalue()


def test_an_interrupted_bar_does_not_end_complete() -> None:
    text = io.StringIO()
    with pytest.raises(KeyError), show_progress_bar(Console(file=text, width=120), "train"):
        raise KeyError
    assert "0/?" in text.getvalue()


def test_a_bar_shows_reported_progress() -> None:
    text = io.StringIO()
    with show_progress_bar(Console(file=text, width=120), "train") as report:
        report(3, 7)
    assert "3/7" in text.getvalue()


def test_the_first_step_changes_the_estimated_time_only_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    text, now = io.StringIO(), [0.0]
    monkeypatch.setattr("experiments.progress.time.monotonic", lambda: now[0])
    run_progress = RunProgress(Console(file=text, width=120), {str(number): 600.0 for number in range(20)}, workers=2)
    left = []
    for number in range(19):
        now[0] += 1200.0  # four times as slow as expected
        run_progress.mark_done(str(number))
        left.append(int(re.search(r"about (\d+) min left", text.getvalue().splitlines()[-1])[1]))  # type: ignore[index]
    assert left[0] < 0.6 * 19 * 20, "the estimate lies between the expected 95 minutes and the observed 380"
    assert left[0] > 95
    assert left[-1] == pytest.approx(20, rel=0.1)


def test_parallel_steps_count_in_the_estimate_and_cached_steps_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    text, now = io.StringIO(), [0.0]
    monkeypatch.setattr("experiments.progress.time.monotonic", lambda: now[0])
    run_progress = RunProgress(Console(file=text, width=120), {str(number): 600.0 for number in range(20)}, workers=2)
    for number in range(10):
        run_progress.mark_done(str(number), duration_s=0.1)  # cached
    for number in range(10, 16):
        now[0] += 600.0 * (number % 2 == 0)  # two at a time, as fast as expected
        run_progress.mark_done(str(number), duration_s=600.0)
    assert text.getvalue().splitlines()[-1] == "16 of 20 steps, about 20 min left"


def test_without_a_terminal_a_line_each_minute_shows_the_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    text, now_s = io.StringIO(), [0.0]
    monkeypatch.setattr("experiments.progress.time.monotonic", lambda: now_s[0])
    with show_progress_bar(Console(file=text, width=120), "collect") as update:
        for step in range(1, 13):
            now_s[0] += 10.0
            update(1000 * step, 12_000)
    lines = [line for line in text.getvalue().splitlines() if " of " in line]
    assert lines == ["collect: 7,000 of 12,000"]
