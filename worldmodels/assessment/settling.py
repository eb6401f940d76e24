"""Errors of models of skills: movement of bodies that settle, and whether they stand."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from sim.bodies import Kind
from worldmodels.assessment.open_loop import CHUNK_WINDOWS
from worldmodels.poses import average_poses
from worldmodels.spatial.graph import SpatialGraph, find_standing
from worldmodels.spatial.state import SpatialWindows

MIN_SETTLED_M = 0.002  # distance from the nominal pose of bodies that count as moved
MOVED_TOLERANCE = 0.1  # of that distance


@dataclass(frozen=True)
class SettlingError:
    """Errors after one skill; bodies are all but the robot. AUROC: NaN without both outcomes."""

    model: str
    n: int  # number of bodies that moved from their nominal poses
    settled_m_median: float  # by which they moved
    body_mm_median: float
    body_relative_median: float  # median ratio of error and distance moved
    within_tolerance: float  # share of all bodies; MOVED_TOLERANCE or MIN_SETTLED_M
    standing_auroc: float  # area under the ROC curve of P(body stands)
    violation_auroc: float


@torch.inference_mode()
def measure_settling_error(model: SpatialGraph, windows: SpatialWindows, count: int = 2000, seed: int = 0) -> SettlingError:
    """Measure the errors of a model of skills on single steps.

    Args:
        model: model under test.
        windows: windows of layouts that the model was not trained on.
        count: maximum number of windows.
        seed: seed of their choice.

    Returns:
        Errors of all bodies of all windows.
    """
    rows = windows.find_starts(1)[0]
    rows = np.sort(np.random.default_rng(seed).choice(rows, min(count, len(rows)), replace=False))
    parts: dict[str, list[Tensor]] = {name: [] for name in ("moved", "error", "stands", "standing", "violated", "violation")}
    for start in range(0, len(rows), CHUNK_WINDOWS):
        batch = windows.take(rows[start : start + CHUNK_WINDOWS], 1)
        nominal, _ = model.apply_skill(batch.state, batch.actions[:, 0])
        states, (changes,), _ = model.imagine(batch.state, batch.actions)
        blocks = model.particles, -1
        bodies = nominal.decode_dynamic()
        true = batch.targets[0].decode_dynamic().pose
        predicted = average_poses(states[0].decode_dynamic().pose.unflatten(0, blocks))
        counted = (bodies.present > 0) & (bodies.kind != Kind.ROBOT)
        parts["moved"].append((true - bodies.pose)[..., :3].norm(dim=-1)[counted])
        parts["error"].append((predicted - true)[..., :3].norm(dim=-1)[counted])
        parts["stands"].append(find_standing(nominal, batch.targets[0])[counted])
        parts["standing"].append(changes.standing.unflatten(0, blocks).sigmoid().mean(0)[counted])
        parts["violated"].append(batch.targets[0].violation > 0)
        parts["violation"].append(changes.violation.unflatten(0, blocks).sigmoid().mean(0))
    values = {name: torch.cat(tensors) for name, tensors in parts.items()}
    moved, error = values["moved"], values["error"]
    has_moved = moved > MIN_SETTLED_M
    return SettlingError(
        model=model.name,
        n=int(has_moved.sum()),
        settled_m_median=float(moved[has_moved].median()),
        body_mm_median=1e3 * float(error[has_moved].median()),
        body_relative_median=float((error / moved)[has_moved].median()),
        within_tolerance=float((error <= (MOVED_TOLERANCE * moved).clamp(min=MIN_SETTLED_M)).float().mean()),
        standing_auroc=compute_auroc(values["standing"].numpy(), values["stands"].numpy()),
        violation_auroc=compute_auroc(values["violation"].numpy(), values["violated"].numpy()),
    )


def compute_auroc(score: np.ndarray, label: np.ndarray) -> float:
    """Compute the area under the ROC curve, by ranks.

    Args:
        score: (N,) higher where the label is probably True.
        label: (N,) bool.

    Returns:
        Probability that a random True has a higher score than a random False; NaN without both.
    """
    positive = int(label.sum())
    pairs = positive * (len(label) - positive)
    return float((rankdata(score)[label].sum() - positive * (positive + 1) / 2) / pairs) if pairs else float("nan")
