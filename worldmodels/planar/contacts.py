"""Where bodies meet, as features of a message and as pushes that it makes there: contacts, and detours that avoid them."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sim.bodies import CONTROL_DT_S
from worldmodels.planar.vectors import cross_product, rotate_quarter

PROJECTION_ROUNDS = 3
SPEED_SCALE, GAP_SCALE, LEVER_SCALE = 0.5, 0.1, 0.2  # typical speed [m/s], gap and lever [m] where contact matters


class ContactGeometry(NamedTuple):
    """Where bodies would touch, in the frame of the one that hears of it."""

    point: Tensor  # (..., 2) from the body's centre
    normal: Tensor  # (..., 2) unit, out of it
    gap: Tensor  # (...) between the two

    def compute_features(self, speed: Tensor) -> Tensor:
        """(..., 7) from the speed (..., 2) of the other's point against its own, and how far apart they will be."""
        closing = -(speed * self.normal).sum(-1)
        sliding, lever = cross_product(speed, self.normal), cross_product(self.point, self.normal)
        lengths = torch.stack([self.gap, self.gap - CONTROL_DT_S * closing], -1)
        rest = torch.stack([closing / SPEED_SCALE, sliding / SPEED_SCALE, lever / LEVER_SCALE], -1)
        return torch.cat([self.normal, _scale_gap(lengths), rest], -1)

    def apply_pushes(self, along: Tensor) -> Tensor:
        """(B, K, 6): displacement and change of velocity, and the turn and change of spin that come with them, of pushes
        (B, K, N, 4) at the points, along the normal and to its left."""
        tangent = rotate_quarter(self.normal)
        shift, kick = (along[..., i : i + 1] * self.normal + along[..., i + 1 : i + 2] * tangent for i in (0, 2))
        torque = torch.stack([cross_product(self.point, shift), cross_product(self.point, kick)], -1)
        return torch.cat([shift, kick, torque], -1).sum(2)


class AvoidanceConstraint(NamedTuple):
    """The least change of a body's velocity that keeps another away, in the frame of the one who would make it."""

    normal: Tensor  # (..., 2) its direction
    length: Tensor  # (...) negative where there is no need, by how much there is not
    is_yielding: Tensor  # (...) whether it makes it, 0 to 1


def compute_avoidance(offset: Tensor, speed: Tensor, clearance: Tensor, horizon_s: Tensor) -> AvoidanceConstraint:
    """The least change of a body's velocity that keeps another at `offset` (..., 2), of `speed` (..., 2) against its own, `room`
    (...) away for `soon_s`, if that one keeps its velocity: its direction, and its length, negative where there is no need (the
    velocity obstacle of van den Berg et al. 2011, "Reciprocal n-body collision avoidance"). Who gives way ends up at the rim of
    that, centimetres from too near, and what is made of messages alone would not hit it."""
    square = offset.square().sum(-1).clamp(min=1e-6)
    close = square < clearance.square()  # who is too near already gets out of there in one step
    within_s = torch.where(close, CONTROL_DT_S, horizon_s)
    out = -speed - offset / within_s[..., None]  # from the middle of the disc of velocities that end too near
    far, along = (out.square().sum(-1) + 1e-8).sqrt(), (out * offset).sum(-1)
    rim = close | ((along < 0) & (along.square() > clearance.square() * far.square()))  # else one of the two legs is nearer
    side = torch.where(cross_product(offset, out) > 0, 1.0, -1.0)
    leg = (side * _safe_sqrt(square - clearance.square(), 0.1 * square))[..., None] * offset + clearance[
        ..., None
    ] * rotate_quarter(offset)
    flank = rotate_quarter(leg / square[..., None])
    way = torch.where(rim[..., None], out / far[..., None], flank)
    there = torch.where(close, far.detach(), far)  # through many steps of one each, its slope would be endless
    length = torch.where(rim, clearance / within_s - there, (speed * flank).sum(-1))
    return AvoidanceConstraint(
        way.detach(), length, torch.ones_like(length)
    )  # where the ways round part, the direction's gradient is endless


def _safe_sqrt(square: Tensor, least: Tensor) -> Tensor:
    """Its root, with the slope of that of `least` where it is less: at zero it has none."""
    smooth = torch.maximum(square, least).sqrt()
    return smooth + (square.clamp(min=0).sqrt() - smooth).detach()


def project_velocity_change(kick: Tensor, constraint: AvoidanceConstraint) -> Tensor:
    """The change of velocity (B, M, 2) nearest to the one wished for, `kick`, that makes all detours (B, M, N): each allows a
    half-plane of velocities. A round goes a mean way to those that are not met, further to those that lack more."""
    for _ in range(PROJECTION_ROUNDS):
        lacks = F.relu(constraint.length - (constraint.normal * kick[:, :, None]).sum(-1)) * constraint.is_yielding
        weight = lacks / (lacks.sum(-1, keepdim=True) + 1e-6)
        kick = kick + ((weight * lacks)[..., None] * constraint.normal).sum(2)
    return kick


def limit_length(vector: Tensor, most: Tensor) -> Tensor:
    """Vectors (..., 2) no longer than `most` (...)."""
    return vector * (most / (vector.square().sum(-1) + 1e-8).sqrt()).clamp(max=1)[..., None]


def _scale_gap(gap: Tensor) -> Tensor:
    return (gap / GAP_SCALE).clamp(-3, 5)
