from collections.abc import Callable
from dataclasses import asdict, replace

import numpy as np
import pytest
from conftest import PLANAR_MODELS
from torch import Tensor

from sim.data.store import Dataset
from sim.utils.errors import GroundError
from worldmodels.assessment.open_loop import HORIZONS_S, OpenLoopError, make_records, measure_open_loop_error
from worldmodels.model import models
from worldmodels.planar.state import PlanarState
from worldmodels.planar.windows import PlanarWindows
from worldmodels.training.windows import Batch

ERRORS = ("body_mm_median", "body_mm_p90", "body_deg_median", "robot_mm_median", "robot_deg_median", "body_relative_median")


class Watched(PlanarWindows):
    """Remembers the windows taken last."""

    def take(self, rows: np.ndarray, length: int) -> Batch:
        self.last = super().take(rows, length)
        return self.last


@pytest.fixture(scope="module")
def watched(validation: Dataset) -> Watched:
    return Watched(validation.episodes())


def measured(watched: Watched, futures: Callable[[PlanarState, Tensor], list[PlanarState]]) -> list[OpenLoopError]:
    """The fidelity of whatever `futures` says."""
    model = models["graph"]()
    model.predict_particles = futures  # type: ignore[method-assign]
    return measure_open_loop_error(model, watched)


def test_a_perfect_model_has_no_error(watched: Watched) -> None:
    found = measured(watched, lambda state, actions: watched.last.targets)
    assert [line.horizon_s for line in found] == list(HORIZONS_S)
    for line in found:
        assert line.n > 20
        assert [getattr(line, name) for name in ERRORS] == pytest.approx([0] * len(ERRORS), abs=1e-3)
    ways = [line.moved_m_median for line in found]
    assert ways == sorted(ways)
    assert ways[-1] > 0.1


def test_a_model_that_stands_still_is_wrong_by_the_way_moved(watched: Watched) -> None:
    for line in measured(watched, lambda state, actions: [state] * actions.shape[1]):
        assert line.body_mm_median == pytest.approx(1e3 * line.moved_m_median, rel=1e-5)
        assert line.body_mm_p90 >= line.body_mm_median
        assert line.body_relative_median <= 1 + 1e-6
    assert line.body_relative_median == pytest.approx(1)


def test_an_error_of_one_step_shows_at_the_horizon_where_it_is(watched: Watched) -> None:
    def off(state: PlanarState, actions: Tensor) -> list[PlanarState]:
        states = list(watched.last.targets)
        states[4] = replace(states[4], position=states[4].position + 0.03j, heading=states[4].heading * 1j)
        return states

    by_horizon = {line.horizon_s: line for line in measured(watched, off)}
    assert by_horizon[0.5].body_mm_median == pytest.approx(30, rel=1e-3)
    assert by_horizon[0.5].robot_mm_median == pytest.approx(30, rel=1e-3)
    assert by_horizon[0.5].body_deg_median == pytest.approx(90, rel=1e-3)
    assert by_horizon[0.2].body_mm_median == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_every_model_is_measured_the_same_way_twice(name: str, watched: Watched) -> None:
    model = models[name]()
    first, second = (measure_open_loop_error(model, watched, count=100) for _ in range(2))
    assert first == second
    assert make_records(first) == [asdict(line) for line in first]
    assert all(line.model == name for line in first)
    assert all(np.isfinite([value for value in asdict(line).values() if isinstance(value, float)]).all() for line in first)


def test_without_a_moved_load_there_is_nothing_to_say(dataset: Dataset) -> None:
    still = [
        episode for episode in dataset.episodes() if np.ptp(episode.pose[:, 1, :2], axis=0).max() < 0.05 and len(episode) > 25
    ]
    assert still
    with pytest.raises(GroundError, match="nothing but the robot moved"):
        measure_open_loop_error(models["graph"](), PlanarWindows(still))


def test_particles_tell_how_far_apart_they_are_and_a_single_model_does_not(watched: Watched) -> None:
    lines = measure_open_loop_error(models["mlp"](), watched, count=50)
    apart = [line.disagreement_mm for line in lines]
    assert all(value is not None and value > 0 for value in apart)
    assert apart == sorted(apart, key=lambda value: value or 0)
    assert {line.disagreement_mm for line in measure_open_loop_error(models["graph"](), watched, count=50)} == {None}
