"""Open-loop errors: distances of predicted from recorded bodies after a time horizon."""

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.bodies import CONTROL_DT_S
from sim.utils.errors import GroundError
from worldmodels.baselines import ConstantVelocity
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.state import PlanarState, average_particles, find_moved_bodies
from worldmodels.planar.windows import PlanarWindows

HORIZONS_S = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 2.5)
CHUNK_WINDOWS = 512  # windows that are predicted at once


@dataclass(frozen=True)
class OpenLoopError:
    """Errors at one horizon; bodies are all but the robot that moved within the longest horizon."""

    model: str
    horizon_s: float
    n: int  # number of bodies in all windows
    body_mm_median: float
    body_mm_p90: float
    body_deg_median: float
    robot_mm_median: float
    robot_deg_median: float
    moved_m_median: float
    body_relative_median: float  # median ratio of error and distance moved
    disagreement_mm: float | None = None  # standard deviation of particles, mean until then


def measure_open_loop_error(
    model: PlanarModel | ConstantVelocity, windows: PlanarWindows, count: int = 2000, seed: int = 0
) -> list[OpenLoopError]:
    """Measure the open-loop errors of a model.

    Args:
        model: model under test.
        windows: windows of layouts that the model was not trained on.
        count: maximum number of windows.
        seed: seed of their choice.

    Returns:
        Errors for each of HORIZONS_S.
    """
    length = round(HORIZONS_S[-1] / CONTROL_DT_S)
    rows = windows.find_starts(length)[0]
    rows = np.sort(np.random.default_rng(seed).choice(rows, min(count, len(rows)), replace=False))
    errors: dict[float, list[dict[str, Tensor]]] = {horizon: [] for horizon in HORIZONS_S}
    spreads: list[Tensor] = []
    for start in range(0, len(rows), CHUNK_WINDOWS):
        batch = windows.take(rows[start : start + CHUNK_WINDOWS], length)
        particles = model.count_particles(batch.state)
        states = model.predict_particles(batch.state, batch.actions)
        predicted = [average_particles(state, particles) for state in states]
        if particles > 1:
            spreads.append(_compute_spread(states, particles))
        moved = find_moved_bodies(batch.state, batch.targets[-1])
        for horizon in HORIZONS_S:
            step = round(horizon / CONTROL_DT_S) - 1
            errors[horizon].append(_compute_errors(batch.state, predicted[step], batch.targets[step], moved))
    results = [_summarise(model.name, horizon, parts) for horizon, parts in errors.items()]
    if not spreads:
        return results
    spread = torch.cat(spreads, 1).nanmean(1)
    steps = [round(result.horizon_s / CONTROL_DT_S) for result in results]
    return [replace(r, disagreement_mm=1e3 * float(spread[:n].mean())) for r, n in zip(results, steps, strict=True)]


def _compute_spread(states: list[PlanarState], particles: int) -> Tensor:
    """Compute the standard deviation (L, W) of the particles after each of L steps [m].

    It is the mean over present bodies other than the robot, as planners compute it; NaN without
    any.
    """
    positions = torch.stack([state.position[:, 1:] for state in states])
    positions = positions.unflatten(1, (particles, -1))  # (L, P, W, M - 1)
    spread = (positions - positions.mean(1, keepdim=True)).abs().square().mean(1).sqrt()
    present = states[0].context.present[: spread.shape[1], 1:]
    return spread.masked_fill(present == 0, torch.nan).nanmean(2)


def _compute_errors(before: PlanarState, predicted: PlanarState, true: PlanarState, moved: Tensor) -> dict[str, Tensor]:
    error = (predicted.position - true.position).abs()
    turn = (predicted.heading * true.heading.conj()).angle().abs().rad2deg()
    path = (true.position - before.position).abs()
    return {"body": error[moved], "body_deg": turn[moved], "moved": path[moved], "robot": error[:, 0], "robot_deg": turn[:, 0]}


def _summarise(name: str, horizon: float, parts: list[dict[str, Tensor]]) -> OpenLoopError:
    errors = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    if not len(errors["body"]):
        raise GroundError("nothing but the robot moved in these episodes: the error of other bodies is undefined")
    errors["ratio"] = errors["body"] / errors["moved"].clamp(min=1e-3)
    median = {key: float(values.quantile(0.5)) for key, values in errors.items()}
    return OpenLoopError(
        model=name,
        horizon_s=horizon,
        n=len(errors["body"]),
        body_mm_median=median["body"] * 1e3,
        body_mm_p90=float(errors["body"].quantile(0.9)) * 1e3,
        body_deg_median=median["body_deg"],
        robot_mm_median=median["robot"] * 1e3,
        robot_deg_median=median["robot_deg"],
        moved_m_median=median["moved"],
        body_relative_median=median["ratio"],
    )


def make_records(results: list[OpenLoopError]) -> list[dict[str, Any]]:
    """Make a table of errors, one record for each."""
    return [asdict(result) for result in results]
