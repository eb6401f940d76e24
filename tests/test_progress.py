"""Progress bars say how things stand, also where there was nothing to do."""

import io

import pytest
from rich.console import Console

from experiments.progress import bar


def test_a_bar_that_nobody_reports_to_ends_whole() -> None:
    text = io.StringIO()
    with bar(Console(file=text, width=120), "train"):
        pass
    assert "1/1" in text.getvalue()


def test_a_bar_that_breaks_off_does_not_say_that_it_is_done() -> None:
    text = io.StringIO()
    with pytest.raises(KeyError), bar(Console(file=text, width=120), "train"):
        raise KeyError
    assert "0/?" in text.getvalue()


def test_a_bar_shows_what_it_was_told() -> None:
    text = io.StringIO()
    with bar(Console(file=text, width=120), "train") as report:
        report(3, 7)
    assert "3/7" in text.getvalue()
