from pathlib import Path

import pytest

from experiments import compute_costs
from experiments.compute_costs import add_cost, read_cost, record_cost


def use_cpu() -> None:
    sum(number * number for number in range(300_000))


def interrupt(file: Path) -> None:
    with record_cost(file) as progress:
        use_cpu()
        progress()
        raise InterruptedError


def test_costs_of_a_step_accumulate_only_with_progress(tmp_path: Path) -> None:
    file = tmp_path / "train graph.json"
    with record_cost(file):
        pass
    assert read_cost(file) == 0.0, "a finished step must have a file"
    with record_cost(file) as progress:
        use_cpu()
        progress()
    first = read_cost(file)
    assert first > 0
    with record_cost(file):
        use_cpu()
    assert read_cost(file) == first
    with pytest.raises(InterruptedError):
        interrupt(file)
    assert read_cost(file) > first
    before = read_cost(file)
    add_cost(file, 2.5)
    assert read_cost(file) == pytest.approx(before + 2.5)


def test_costs_are_saved_during_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "train sac.json"
    monkeypatch.setattr(compute_costs, "SAVE_INTERVAL_S", 0.0)
    with record_cost(file) as progress:
        use_cpu()
        progress()
        assert read_cost(file) > 0, "the cost is not written during the step"
