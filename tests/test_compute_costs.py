from pathlib import Path

import pytest

from experiments import compute_costs
from experiments.compute_costs import add_cost, read_cost, record_cost


def burn() -> None:
    sum(number * number for number in range(300_000))


def broken_off(file: Path) -> None:
    with record_cost(file) as progress:
        burn()
        progress()
        raise InterruptedError


def test_what_a_step_costs_adds_up_and_looking_costs_nothing(tmp_path: Path) -> None:
    file = tmp_path / "train graph.json"
    with record_cost(file):
        pass
    assert read_cost(file) == 0.0, "a step that was done already has a file all the same"
    with record_cost(file) as progress:
        burn()
        progress()
    first = read_cost(file)
    assert first > 0
    with record_cost(file):
        burn()
    assert read_cost(file) == first
    with pytest.raises(InterruptedError):
        broken_off(file)
    assert read_cost(file) > first
    before = read_cost(file)
    add_cost(file, 2.5)
    assert read_cost(file) == pytest.approx(before + 2.5)


def test_a_kill_loses_a_few_seconds_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train sac.json"
    monkeypatch.setattr(compute_costs, "SAVE_INTERVAL_S", 0.0)
    with record_cost(file) as progress:
        burn()
        progress()
        assert read_cost(file) > 0, "it is written while the step goes on"
