"""How far a model's open-loop imagination drifts from what happened, by horizon, in metres and degrees."""

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
CHUNK_WINDOWS = 512


@dataclass(frozen=True)
class OpenLoopError:
    """Errors at one horizon; `load` is whatever moved beside the robot, at least MOVED within it (or within the longest one)."""

    model: str
    horizon_s: float
    n: int
    body_mm_median: float
    body_mm_p90: float
    body_deg_median: float
    robot_mm_median: float
    robot_deg_median: float
    moved_m_median: float
    body_relative_median: float  # error over distance moved, median of the windows' ratios
    disagreement_mm: float | None = None  # how far apart the particles see the others, mean over them and the steps until here


def measure_open_loop_error(
    model: PlanarModel | ConstantVelocity, windows: PlanarWindows, count: int = 2000, seed: int = 0
) -> list[OpenLoopError]:
    """Open-loop errors over up to `count` windows of layouts the model has not seen (the caller's choice of `windows`)."""
    length = round(HORIZONS_S[-1] / CONTROL_DT_S)
    rows = windows.find_starts(length)[0]
    rows = np.sort(np.random.default_rng(seed).choice(rows, min(count, len(rows)), replace=False))
    errors: dict[float, list[dict[str, Tensor]]] = {horizon: [] for horizon in HORIZONS_S}
    spreads: list[Tensor] = []
    for start in range(0, len(rows), CHUNK_WINDOWS):
        batch = windows.take(rows[start : start + CHUNK_WINDOWS], length)
        particles, states = model.count_particles(batch.state), model.predict_particles(batch.state, batch.actions)
        predicted = [average_particles(state, particles) for state in states]
        if particles > 1:
            spreads.append(_compute_spread(states, particles))
        moved = find_moved_bodies(batch.state, batch.targets[-1])
        for horizon in HORIZONS_S:
            step = round(horizon / CONTROL_DT_S) - 1
            errors[horizon].append(_compute_errors(batch.state, predicted[step], batch.targets[step], moved))
    apart = torch.cat(spreads, 1).nanmean(1) if spreads else None
    found = [_summarise(model.name, horizon, parts) for horizon, parts in errors.items()]
    if apart is None:
        return found
    return [replace(part, disagreement_mm=1e3 * float(apart[: round(part.horizon_s / CONTROL_DT_S)].mean())) for part in found]


def _compute_spread(states: list[PlanarState], particles: int) -> Tensor:
    """(L, W) how far apart the particles see the others after each of L steps, mean over those that are there [m], as planners
    measure it along a plan; nan where there are none."""
    places = torch.stack([state.position[:, 1:] for state in states])
    places = places.unflatten(1, (particles, -1))  # (L, P, W, M - 1)
    spread = (places - places.mean(1, keepdim=True)).abs().square().mean(1).sqrt()
    there = states[0].context.present[: spread.shape[1], 1:]
    return spread.masked_fill(there == 0, torch.nan).nanmean(2)


def _compute_errors(before: PlanarState, predicted: PlanarState, true: PlanarState, moved: Tensor) -> dict[str, Tensor]:
    distance = (predicted.position - true.position).abs()
    turn = (predicted.heading * true.heading.conj()).angle().abs().rad2deg()
    way = (true.position - before.position).abs()
    return {"load": distance[moved], "load_deg": turn[moved], "way": way[moved], "robot": distance[:, 0], "robot_deg": turn[:, 0]}


def _summarise(name: str, horizon: float, parts: list[dict[str, Tensor]]) -> OpenLoopError:
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    if not len(joined["load"]):
        raise GroundError("nothing but the robot moved in these episodes: how far others are off is not defined")
    ratio = joined["load"] / joined["way"].clamp(min=1e-3)
    return OpenLoopError(
        model=name,
        horizon_s=horizon,
        n=len(joined["load"]),
        body_mm_median=_quantile(joined["load"], 0.5) * 1e3,
        body_mm_p90=_quantile(joined["load"], 0.9) * 1e3,
        body_deg_median=_quantile(joined["load_deg"], 0.5),
        robot_mm_median=_quantile(joined["robot"], 0.5) * 1e3,
        robot_deg_median=_quantile(joined["robot_deg"], 0.5),
        moved_m_median=_quantile(joined["way"], 0.5),
        body_relative_median=_quantile(ratio, 0.5),
    )


def _quantile(values: Tensor, share: float) -> float:
    return float(values.quantile(share))


def to_records(results: list[OpenLoopError]) -> list[dict[str, Any]]:
    return [asdict(result) for result in results]
