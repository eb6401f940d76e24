"""Contacts and avoidance of bodies: features of messages, pushes, and changes of velocity."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sim.bodies import CONTROL_DT_S
from worldmodels.planar.vectors import compute_cross_product, rotate_quarter

NUM_PROJECTION_ROUNDS = 3
SPEED_SCALE = 0.5  # [units/s] typical speed where contact matters
GAP_SCALE = 0.1  # [units] typical gap
LEVER_SCALE = 0.2  # [units] typical lever


class ContactGeometry(NamedTuple):
    """Points where pairs of bodies would touch, in the frame of the receiver of the message."""

    point: Tensor  # (..., 2) from the body's centre
    normal: Tensor  # (..., 2) unit vector that points out of the body
    gap: Tensor  # (...) between the two bodies

    def compute_features(self, speed: Tensor) -> Tensor:
        """Compute the features of contacts.

        Args:
            speed: (..., 2) velocity of the sender's point against the receiver's [units/s].

        Returns:
            (..., 7) normal, gap now and one step later, closing speed, sliding speed, lever.
        """
        closing = -(speed * self.normal).sum(-1)
        sliding = compute_cross_product(speed, self.normal)
        lever = compute_cross_product(self.point, self.normal)
        lengths = torch.stack([self.gap, self.gap - CONTROL_DT_S * closing], -1)
        rest = torch.stack([closing / SPEED_SCALE, sliding / SPEED_SCALE, lever / LEVER_SCALE], -1)
        return torch.cat([self.normal, (lengths / GAP_SCALE).clamp(-3, 5), rest], -1)

    def apply_pushes(self, pushes: Tensor) -> Tensor:
        """Apply pushes at the points, and sum them over the senders.

        Args:
            pushes: (B, K, N, 4) displacement (2) and change of velocity (2), along the normal and
                to its left.

        Returns:
            (B, K, 6) displacement (2), change of velocity (2), and the moments of both.
        """
        tangent = rotate_quarter(self.normal)
        shift, kick = (pushes[..., i : i + 1] * self.normal + pushes[..., i + 1 : i + 2] * tangent for i in (0, 2))
        moments = torch.stack([compute_cross_product(self.point, shift), compute_cross_product(self.point, kick)], -1)
        return torch.cat([shift, kick, moments], -1).sum(2)


class AvoidanceConstraint(NamedTuple):
    """The least change of a body's velocity that avoids another body, in the first body's frame."""

    normal: Tensor  # (..., 2) direction of the change
    length: Tensor  # (...) of the change; negative: the margin where none is needed
    is_yielding: Tensor  # (...) degree to which the body makes the change, 0 to 1


def compute_avoidance(offset: Tensor, speed: Tensor, clearance: Tensor, horizon_s: Tensor) -> AvoidanceConstraint:
    """Compute the least change of velocity that keeps a clearance within a time horizon.

    The other body is assumed to keep its velocity. Both gradients that grow without bound are
    detached: that of the direction, and that of the length where the bodies are already too near.

    Source: van den Berg et al. 2011, "Reciprocal n-body collision avoidance" (velocity obstacles).

    Args:
        offset: (..., 2) of the other body.
        speed: (..., 2) of the other body, relative to this body.
        clearance: (...) distance of centres to keep.
        horizon_s: () time [s].

    Returns:
        Constraint (...) that is fully obeyed: `is_yielding` is 1.
    """
    square = offset.square().sum(-1).clamp(min=1e-6)
    close = square < clearance.square()  # already too near: leave within one step
    within_s = torch.where(close, CONTROL_DT_S, horizon_s)
    out = -speed - offset / within_s[..., None]  # from the disc of forbidden velocities
    distance = (out.square().sum(-1) + 1e-8).sqrt()
    along = (out * offset).sum(-1)
    # The nearest allowed velocity is at the rim of the disc, or at a leg of the cone.
    at_rim = close | ((along < 0) & (along.square() > clearance.square() * distance.square()))
    side = torch.where(compute_cross_product(offset, out) > 0, 1.0, -1.0)
    tangent_length = (side * _compute_safe_sqrt(square - clearance.square(), 0.1 * square))[..., None]
    leg = tangent_length * offset + clearance[..., None] * rotate_quarter(offset)
    flank = rotate_quarter(leg / square[..., None])
    direction = torch.where(at_rim[..., None], out / distance[..., None], flank)
    distance = torch.where(close, distance.detach(), distance)
    length = torch.where(at_rim, clearance / within_s - distance, (speed * flank).sum(-1))
    return AvoidanceConstraint(direction.detach(), length, torch.ones_like(length))


def _compute_safe_sqrt(square: Tensor, least: Tensor) -> Tensor:
    """Compute a square root, with the gradient of the root of `least` where the square is less."""
    smooth = torch.maximum(square, least).sqrt()
    return smooth + (square.clamp(min=0).sqrt() - smooth).detach()


def project_velocity_change(kick: Tensor, constraint: AvoidanceConstraint) -> Tensor:
    """Project changes of velocity onto the half-planes that avoidance constraints allow.

    Each round moves along the mean direction of the violated constraints, weighted by what they
    lack.

    Args:
        kick: (B, M, 2) preferred change of velocity.
        constraint: (B, M, N) constraints of M bodies by N others.

    Returns:
        (B, M, 2) change of velocity.
    """
    for _ in range(NUM_PROJECTION_ROUNDS):
        lacks = F.relu(constraint.length - (constraint.normal * kick[:, :, None]).sum(-1)) * constraint.is_yielding
        weight = lacks / (lacks.sum(-1, keepdim=True) + 1e-6)
        kick = kick + ((weight * lacks)[..., None] * constraint.normal).sum(2)
    return kick


def limit_length(vector: Tensor, max_length: Tensor) -> Tensor:
    """Limit the length of vectors.

    Args:
        vector: (..., 2).
        max_length: (...), in the unit of `vector`.

    Returns:
        (..., 2) vectors no longer than `max_length`.
    """
    return vector * (max_length / (vector.square().sum(-1) + 1e-8).sqrt()).clamp(max=1)[..., None]
