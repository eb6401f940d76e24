"""A small part of each soak test of `tests/soak/`, and the parts that judge."""

import os
import random
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.data.store import Dataset

sys.path.insert(0, str(Path(__file__).parent / "soak"))
import fuzz
import kill
import leaks
from common import Summary

SEEDS = st.integers(0, 2**32)
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="soak tests read /proc of Linux")


@pytest.fixture(scope="module")
def examples(dataset: Dataset, validation: Dataset, tmp_path_factory: pytest.TempPathFactory) -> fuzz.Examples:
    return fuzz.make_examples(tmp_path_factory.mktemp("examples"), dataset.path, validation.path)


@pytest.mark.parametrize("kind", list(fuzz.CASES))
@settings(max_examples=12)
@given(SEEDS)
def test_a_changed_input_is_accepted_or_refused_in_one_line(
    kind: str, examples: fuzz.Examples, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    words, _, fault = fuzz.run_case(kind, str(seed), examples, tmp_path_factory.getbasetemp() / "fuzz")
    assert not fault, words


@settings(max_examples=200)
@given(SEEDS)
def test_changes_can_be_written(seed: int) -> None:
    rng = random.Random(seed)
    value = fuzz.change_values(rng, {"a": [1, 2.5, {"b": "x"}], "c": {"d": None}})
    assert isinstance(fuzz.format_json(value), bytes)
    assert isinstance(fuzz.format_toml(value), str)
    assert isinstance(fuzz.change_bytes(rng, b"text"), bytes)


@pytest.mark.parametrize(
    ("changes", "after", "fault"),
    [
        ({}, {}, ""),
        ({"code": 0, "err": ""}, {"x": (1, 1)}, ""),
        ({"err": "error: a\nerror: b\n"}, {}, "not one line"),
        ({"err": "error: <class 'int'>\n"}, {}, "unclear"),
        ({"code": 1}, {}, "exit code 1"),
        ({"error": "Traceback\nKeyError: 'x'"}, {}, "traceback KeyError"),
        ({}, {"x": (1, 1)}, "refused, and left x"),
        ({"code": 0}, {".x.1.tmp": (1, 1)}, "a temporary file"),
    ],
)
def test_faults_of_an_outcome_are_found(changes: dict, after: dict, fault: str) -> None:
    outcome = replace(fuzz.Outcome(2, "", "error: a\n", 0.1), **changes)
    assert fuzz.find_fault(["collect"], outcome, {}, after).startswith(fault)
    assert bool(fuzz.find_fault(["collect"], outcome, {}, after)) == bool(fault)


@pytest.fixture
def collect_step(tmp_path: Path) -> kill.Step:
    (tmp_path / "work").mkdir()
    words = ("collect", "data", "--steps", "4000", "--behaviours", "smooth-random=1", "--workers", "1")
    return kill.Step("collect", words, "data", kill.find_shards)


def test_a_killed_command_keeps_what_was_finished(collect_step: kill.Step, tmp_path: Path) -> None:
    work = tmp_path / "work"
    first = kill.Command(collect_step.words, work)
    while not kill.find_shards(work / "data") and not first.wait(0.02):
        pass
    os.kill(first.pid, signal.SIGKILL)
    assert first.finish()[0] == -signal.SIGKILL
    units = kill.mark_units(collect_step, work)
    assert len(units) == 1
    code, output = kill.Command(collect_step.words, work).finish()
    assert code == 0, output
    assert kill.compare_units(units, collect_step, work) == []
    state = kill.hash_state(work / "data")
    assert kill.compare_states(kill.Reference(state, 0, 1), state) == []
    file, *_ = kill.find_shards(work / "data")
    file.write_bytes(b"other")
    assert kill.compare_units(units, collect_step, work) == [f"{file} was finished and has changed"]
    assert kill.compare_states(kill.Reference(state, 0, 1), kill.hash_state(work / "data")) == [f"{file.name} differs"]


def test_compute_times_are_left_out_of_a_comparison() -> None:
    record = {"cpu_s": 1, "train_cpu_s": 2, "decision_ms_p50": 3, "seconds": 4, "steps": 5, "nested": [{"decision_time_s": 6}]}
    assert kill.remove_times(record) == {"steps": 5, "nested": [{}]}


def test_resets_leak_neither_files_nor_threads() -> None:
    figures = leaks.reset_scene("factory/push-fixture", 30, 0, 10)
    assert (figures["more_files"], figures["more_threads"]) == (0, 0)
    assert figures["last_mb"] - figures["first_mb"] < 40


def test_growth_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"mb_per_1000_resets": 1.0, "more_files": 0, "more_threads": 0}
    assert leaks.find_reset_faults(figures) == []
    assert leaks.fit_slope([0, 1, 2, 3], [5, 7, 9, 11]) == pytest.approx(2)
    assert len(leaks.find_reset_faults({"mb_per_1000_resets": 9.0, "more_files": 1, "more_threads": 0})) == 2
    usages = [(60.0 * i, leaks.Usage(400 + 2.0 * i, 7, 7)) for i in range(30)]
    summary = Summary("leaks viewer", 0)
    leaks.describe_viewer_growth(usages, summary)
    assert summary.figures["mb_per_hour"] == pytest.approx(120)
    assert summary.failures == ["the viewer's memory grows by 120 MB an hour"]
    assert "FAILURE" in capsys.readouterr().out
