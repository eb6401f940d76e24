"""How far imagined states are from true ones: a robust error, and the energy score of what is uncertain."""

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.planar.state import MOTION_FIELDS, PlanarState

ERROR_SCALES = (0.01, 0.025, 0.05, 0.15)  # position [m], heading [rad], velocity [m/s], spin [rad/s] that count alike
SCORE_SCALES = (0.1, 2.5, 0.2, 15.0)  # of traffic: people turn at 5 rad/s, and where they will be matters, not how they face; ten
# times as coarse as the others, or what cannot be foreseen would leave no weight to how the robot moves beside a rack


def compute_step_errors(predicted: PlanarState, true: PlanarState) -> Tensor:
    """(B, M) robust error of each mover after one step: contact makes tails that squares would follow."""
    position, heading, velocity, spin = ERROR_SCALES
    zero, unit = torch.zeros_like(true.yaw_rate), true.context.unit[:, None]

    def huber(error: Tensor, scale: float) -> Tensor:
        return F.smooth_l1_loss(error / scale, zero, reduction="none")

    return (
        huber((predicted.position - true.position).abs() / unit, position)
        + huber((predicted.heading * true.heading.conj()).imag, heading)
        + 0.5 * huber((predicted.velocity - true.velocity).abs() / unit, velocity)
        + 0.5 * huber(predicted.yaw_rate - true.yaw_rate, spin)
    )


def compute_mixture_scores(futures: PlanarState, true: PlanarState, probability: Tensor) -> Tensor:
    """(W, M) after one step: the error of what is sure, and of traffic the energy score of a mixture: two futures each of two
    kinds (4 * W, M), the first of which is `likely` (W, M). Both kinds have the same two whims: only futures of different
    whims are set against each other."""
    size, around = len(true.yaw_rate), true.context
    parts = (getattr(futures, name).split(size) for name in MOTION_FIELDS)
    a, b, c, d = (PlanarState(at, heading, velocity, spin, around) for at, heading, velocity, spin in zip(*parts, strict=True))
    other = 1 - probability
    off = probability * (_compute_distance(a, true) + _compute_distance(b, true)) + other * (
        _compute_distance(c, true) + _compute_distance(d, true)
    )
    spread = (
        probability.square() * _compute_distance(a, b)
        + probability * other * (_compute_distance(a, d) + _compute_distance(b, c))
        + other.square() * _compute_distance(c, d)
    )
    sure = sum(compute_step_errors(one, true) for one in (a, b, c, d)) / 4
    return torch.where(around.is_agent > 0, (off - spread) / 2, sure)


def _compute_distance(one: PlanarState, two: PlanarState) -> Tensor:
    """(W, M) distance of movers in two states, in SCORE_SCALES."""
    position, heading, velocity, spin = SCORE_SCALES
    place, pace = (one.position - two.position).abs() / position, (one.velocity - two.velocity).abs() / velocity
    turn, turning = (one.heading - two.heading).abs() / heading, (one.yaw_rate - two.yaw_rate).abs() / spin
    return (place + 0.5 * pace) / one.context.unit[:, None] + turn + 0.5 * turning
