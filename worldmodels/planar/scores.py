"""Distances of predicted states from true states: a robust error, and an energy score."""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.planar.state import MOTION_FIELDS, PlanarState

# Errors that count alike: position [units], heading [rad], velocity [units/s], yaw rate [rad/s].
ERROR_SCALES = (0.01, 0.025, 0.05, 0.15)
# The same for agents. People turn at 5 rad/s, and their position matters, not their heading. The
# scales are ten times as coarse: errors that cannot be predicted would outweigh the robot's.
SCORE_SCALES = (0.1, 2.5, 0.2, 15.0)


def compute_step_errors(predicted: PlanarState, true: PlanarState) -> Tensor:
    """Compute the robust error of each body: contact causes outliers that squares would follow.

    Args:
        predicted: B scenes of M bodies.
        true: the same scenes.

    Returns:
        (B, M) sum of Huber losses, in ERROR_SCALES.
    """
    position, heading, velocity, yaw_rate = ERROR_SCALES
    zero = torch.zeros_like(true.yaw_rate)
    unit = true.context.unit[:, None]

    def compute_huber(error: Tensor, scale: float) -> Tensor:
        return F.smooth_l1_loss(error / scale, zero, reduction="none")

    return (
        compute_huber((predicted.position - true.position).abs() / unit, position)
        + compute_huber((predicted.heading * true.heading.conj()).imag, heading)
        + 0.5 * compute_huber((predicted.velocity - true.velocity).abs() / unit, velocity)
        + 0.5 * compute_huber(predicted.yaw_rate - true.yaw_rate, yaw_rate)
    )


def compute_mixture_scores(particles: PlanarState, true: PlanarState, probability: Tensor) -> Tensor:
    """Compute the energy score of agents in a mixture of two modes, and the error of other bodies.

    Each mode has two particles. Both modes use the same two samples of latent noise. Only particles
    of different samples are compared.

    Source: Gneiting and Raftery 2007, "Strictly proper scoring rules".

    Args:
        particles: 4 * W scenes of M bodies: two particles of the first mode, then two of the second.
        true: W scenes.
        probability: (W, M) of the first mode.

    Returns:
        (W, M) scores, in SCORE_SCALES for agents and in ERROR_SCALES for other bodies.
    """
    size = len(true.yaw_rate)
    parts = (getattr(particles, name).split(size) for name in MOTION_FIELDS)
    a, b, c, d = (replace(true, **dict(zip(MOTION_FIELDS, motion, strict=True))) for motion in zip(*parts, strict=True))
    rest = 1 - probability
    error = probability * (_compute_distance(a, true) + _compute_distance(b, true)) + rest * (
        _compute_distance(c, true) + _compute_distance(d, true)
    )
    spread = (
        probability.square() * _compute_distance(a, b)
        + probability * rest * (_compute_distance(a, d) + _compute_distance(b, c))
        + rest.square() * _compute_distance(c, d)
    )
    step_error = sum(compute_step_errors(particle, true) for particle in (a, b, c, d)) / 4
    return torch.where(true.context.is_agent > 0, (error - spread) / 2, step_error)


def _compute_distance(a: PlanarState, b: PlanarState) -> Tensor:
    """Compute the distance (W, M) of bodies in two states, in SCORE_SCALES."""
    position, heading, velocity, yaw_rate = SCORE_SCALES
    linear = (a.position - b.position).abs() / position + 0.5 * ((a.velocity - b.velocity).abs() / velocity)
    turn = (a.heading - b.heading).abs() / heading
    return linear / a.context.unit[:, None] + turn + 0.5 * ((a.yaw_rate - b.yaw_rate).abs() / yaw_rate)
