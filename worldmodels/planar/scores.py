"""How far imagined states are from true ones: a robust error, and the energy score of what is uncertain."""

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.planar.state import MOTION, PlanarState

ERROR_SCALES = (0.01, 0.025, 0.05, 0.15)  # position [m], heading [rad], velocity [m/s], spin [rad/s] that count alike
SCORE_SCALES = (0.1, 2.5, 0.2, 15.0)  # of traffic: people turn at 5 rad/s, and where they will be matters, not how they face; ten
# times as coarse as the others, or what cannot be foreseen would leave no weight to how the robot moves beside a rack


def step_errors(predicted: PlanarState, true: PlanarState) -> Tensor:
    """(B, M) robust error of each mover after one step: contact makes tails that squares would follow."""
    position, heading, velocity, spin = ERROR_SCALES
    zero, unit = torch.zeros_like(true.spin), true.around.unit[:, None]

    def huber(error: Tensor, scale: float) -> Tensor:
        return F.smooth_l1_loss(error / scale, zero, reduction="none")

    return (
        huber((predicted.position - true.position).abs() / unit, position)
        + huber((predicted.heading * true.heading.conj()).imag, heading)
        + 0.5 * huber((predicted.velocity - true.velocity).abs() / unit, velocity)
        + 0.5 * huber(predicted.spin - true.spin, spin)
    )


def mixed_scores(four: PlanarState, true: PlanarState, likely: Tensor) -> Tensor:
    """(W, M) after one step: the error of what is sure, and of traffic the energy score of a mixture: two futures each of two
    kinds (4 * W, M), the first of which is `likely` (W, M). Both kinds have the same two whims: only futures of different
    whims are set against each other."""
    size, around = len(true.spin), true.around
    parts = (getattr(four, name).split(size) for name in MOTION)
    a, b, c, d = (PlanarState(at, heading, velocity, spin, around) for at, heading, velocity, spin in zip(*parts, strict=True))
    other = 1 - likely
    off = likely * (_apart(a, true) + _apart(b, true)) + other * (_apart(c, true) + _apart(d, true))
    spread = likely.square() * _apart(a, b) + likely * other * (_apart(a, d) + _apart(b, c)) + other.square() * _apart(c, d)
    sure = sum(step_errors(one, true) for one in (a, b, c, d)) / 4
    return torch.where(around.traffic > 0, (off - spread) / 2, sure)


def _apart(one: PlanarState, two: PlanarState) -> Tensor:
    """(W, M) distance of movers in two states, in SCORE_SCALES."""
    position, heading, velocity, spin = SCORE_SCALES
    place, pace = (one.position - two.position).abs() / position, (one.velocity - two.velocity).abs() / velocity
    turn, turning = (one.heading - two.heading).abs() / heading, (one.spin - two.spin).abs() / spin
    return (place + 0.5 * pace) / one.around.unit[:, None] + turn + 0.5 * turning
