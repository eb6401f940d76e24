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


class RecordingWindows(PlanarWindows):
    """Windows that store the last batch."""

    def take(self, rows: np.ndarray, length: int) -> Batch:
        self.last = super().take(rows, length)
        return self.last


@pytest.fixture(scope="module")
def recording_windows(validation: Dataset) -> RecordingWindows:
    return RecordingWindows(validation.episodes())


def measure(
    recording_windows: RecordingWindows, predict: Callable[[PlanarState, Tensor], list[PlanarState]]
) -> list[OpenLoopError]:
    """Measure the open-loop error of a prediction function."""
    model = models["graph"]()
    model.predict_particles = predict  # type: ignore[method-assign]
    return measure_open_loop_error(model, recording_windows)


def test_a_perfect_model_has_no_error(recording_windows: RecordingWindows) -> None:
    errors = measure(recording_windows, lambda state, actions: recording_windows.last.targets)
    assert [error.horizon_s for error in errors] == list(HORIZONS_S)
    for error in errors:
        assert error.n > 20
        assert [getattr(error, name) for name in ERRORS] == pytest.approx([0] * len(ERRORS), abs=1e-3)
    displacements = [error.moved_m_median for error in errors]
    assert displacements == sorted(displacements)
    assert displacements[-1] > 0.1


def test_the_error_of_a_static_prediction_is_the_displacement(recording_windows: RecordingWindows) -> None:
    for error in measure(recording_windows, lambda state, actions: [state] * actions.shape[1]):
        assert error.body_mm_median == pytest.approx(1e3 * error.moved_m_median, rel=1e-5)
        assert error.body_mm_p90 >= error.body_mm_median
        assert error.body_relative_median <= 1 + 1e-6
    assert error.body_relative_median == pytest.approx(1)


def test_an_error_in_one_step_appears_only_at_its_horizon(recording_windows: RecordingWindows) -> None:
    def predict_with_offset(state: PlanarState, actions: Tensor) -> list[PlanarState]:
        states = list(recording_windows.last.targets)
        states[4] = replace(states[4], position=states[4].position + 0.03j, heading=states[4].heading * 1j)
        return states

    by_horizon = {error.horizon_s: error for error in measure(recording_windows, predict_with_offset)}
    assert by_horizon[0.5].body_mm_median == pytest.approx(30, rel=1e-3)
    assert by_horizon[0.5].robot_mm_median == pytest.approx(30, rel=1e-3)
    assert by_horizon[0.5].body_deg_median == pytest.approx(90, rel=1e-3)
    assert by_horizon[0.2].body_mm_median == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_open_loop_errors_are_reproducible(name: str, recording_windows: RecordingWindows) -> None:
    model = models[name]()
    first, second = (measure_open_loop_error(model, recording_windows, count=100) for _ in range(2))
    assert first == second
    assert make_records(first) == [asdict(error) for error in first]
    assert all(error.model == name for error in first)
    assert all(np.isfinite([value for value in asdict(error).values() if isinstance(value, float)]).all() for error in first)


def test_open_loop_errors_need_a_moved_load(dataset: Dataset) -> None:
    static_episodes = [
        episode for episode in dataset.episodes() if np.ptp(episode.pose[:, 1, :2], axis=0).max() < 0.05 and len(episode) > 25
    ]
    assert static_episodes
    with pytest.raises(GroundError, match="nothing but the robot moved"):
        measure_open_loop_error(models["graph"](), PlanarWindows(static_episodes))


def test_disagreement_is_measured_only_between_particles(recording_windows: RecordingWindows) -> None:
    errors = measure_open_loop_error(models["mlp"](), recording_windows, count=50)
    disagreements = [error.disagreement_mm for error in errors]
    assert all(value is not None and value > 0 for value in disagreements)
    assert disagreements == sorted(disagreements, key=lambda value: value or 0)
    assert {error.disagreement_mm for error in measure_open_loop_error(models["graph"](), recording_windows, count=50)} == {None}
