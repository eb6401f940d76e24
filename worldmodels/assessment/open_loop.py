"""Open-loop errors: distances of predicted from recorded bodies after a time horizon."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from sim.bodies import CONTROL_DT_S, Bodies, Kind
from sim.data.store import Dataset
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from worldmodels.model import LearnedModel
from worldmodels.planar.windows import PlanarWindows
from worldmodels.poses import average_poses, compute_angle
from worldmodels.spatial.state import SpatialWindows
from worldmodels.training.windows import EpisodeWindows

HORIZONS_S = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 2.5)
CHUNK_WINDOWS = 512  # windows that are predicted at once
MIN_MOVED_DISTANCE = 0.1  # [units] of bodies that count as moved


@runtime_checkable
class BodyPredictor(Protocol):
    """A model that predicts bodies from its own states, which decode to bodies."""

    name: str

    def predict_bodies(self, state: Any, actions: Tensor) -> Bodies:
        """Predict the dynamic bodies (P, W, H, M, ...) of W scenes after actions (W, H, A)."""


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
    model: BodyPredictor, windows: EpisodeWindows, count: int = 2000, seed: int = 0
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
        before = batch.state.decode_dynamic()
        particles = model.predict_bodies(batch.state, batch.actions)
        is_other = (before.present > 0) & (before.kind != Kind.ROBOT)
        if len(particles.pose) > 1:
            spreads.append(_compute_spread(particles.pose, is_other))
        predicted = average_poses(particles.pose)
        path = batch.targets[-1].decode_dynamic().pose[..., :3] - before.pose[..., :3]
        moved = is_other & (path.norm(dim=-1) > MIN_MOVED_DISTANCE * batch.state.unit_m[:, None])
        for horizon in HORIZONS_S:
            step = round(horizon / CONTROL_DT_S) - 1
            true = batch.targets[step].decode_dynamic().pose
            errors[horizon].append(_compute_errors(before, predicted[:, step], true, moved))
    results = [_summarise(model.name, horizon, parts) for horizon, parts in errors.items()]
    if not spreads:
        return results
    spread = torch.cat(spreads, 1).nanmean(1)
    steps = [round(result.horizon_s / CONTROL_DT_S) for result in results]
    return [replace(r, disagreement_mm=1e3 * float(spread[:n].mean())) for r, n in zip(results, steps, strict=True)]


def make_test_windows(model: Any, dataset: Dataset) -> EpisodeWindows:
    """Make the windows of a model, or of a baseline: those of the scene's usual models."""
    if isinstance(model, LearnedModel):
        windows = model.make_windows(dataset.episodes(), dataset.scene)
        assert isinstance(windows, EpisodeWindows)
        return windows
    if scenes[dataset.scene].make_world:
        return SpatialWindows(dataset.episodes(), dataset.scene)
    return PlanarWindows(dataset.episodes())


def _compute_spread(poses: Tensor, is_other: Tensor) -> Tensor:
    """Compute the standard deviation (L, W) of the particles after each of L steps [m].

    It is the mean over present bodies other than the robot, as planners compute it; NaN without
    any.
    """
    positions = poses[..., :3]  # (P, W, L, M, 3)
    spread = (positions - positions.mean(0)).square().sum(-1).mean(0).sqrt()
    return spread.masked_fill(~is_other[:, None], torch.nan).nanmean(-1).T


def _compute_errors(before: Bodies, predicted: Tensor, true: Tensor, moved: Tensor) -> dict[str, Tensor]:
    error = (predicted - true)[..., :3].norm(dim=-1)
    turn = compute_angle(predicted[..., 3:], true[..., 3:]).rad2deg()
    path = (true - before.pose)[..., :3].norm(dim=-1)
    robot = (before.present > 0) & (before.kind == Kind.ROBOT)
    errors = {"body": error[moved], "body_deg": turn[moved], "moved": path[moved]}
    return {**errors, "robot": error[robot], "robot_deg": turn[robot]}


def _summarise(name: str, horizon: float, parts: list[dict[str, Tensor]]) -> OpenLoopError:
    errors = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    if not len(errors["body"]):
        raise GroundError("nothing but the robot moved in these episodes: the error of other bodies is undefined")
    errors["ratio"] = errors["body"] / errors["moved"].clamp(min=1e-3)
    median = {key: float(values.quantile(0.5)) if len(values) else math.nan for key, values in errors.items()}
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
