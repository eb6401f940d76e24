"""What a rollout of moving bodies works on, as plain pairs of numbers: what stays, what moves, and the boxes of each body.

Lengths are in the scene's unit; shapes are fixed tuples of tensors, which a compiler can take apart.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.planar.state import PlanarState, SceneContext
from worldmodels.planar.vectors import rotate_vectors

CONTIGUOUS = torch.contiguous_format


class RolloutContext(NamedTuple):
    """What stays as it is through all steps of a rollout, lengths in the scene's unit.

    E is the batch, or 1 for one fixed imagined many times; K = M * P counts the pieces of all movers, body after body.
    """

    core_half: Tensor  # (E, K, 2) half extents of each piece's box
    rounding: Tensor  # (E, K) radius around the box
    core_centre: Tensor | None  # (E, K, 2) its centre in the body's frame; None where each body is one piece
    gyration: Tensor  # (E, M) squared radius of gyration
    kind: Tensor  # (E, M, len(KINDS)) one-hot
    max_velocity_change: (
        Tensor  # (E, M) change of velocity in a step that those who give way are capable of [units/s]; 0 for all others
    )
    max_speed: Tensor  # (E, M, 2) speed [units/s] and spin [rad/s] that nothing imagined exceeds
    pair_shape: Tensor | None  # (E, K, K, 2 * edge) what each piece's shape means to each other; None where one body is alone
    pair_present: Tensor  # (E, K, K), zero within a body
    pair_has_agent: Tensor  # (E, K, K) 1 where one of them is of traffic, that sees others from afar and may give way
    pair_clearance: Tensor | None  # (E, K, K) distance of centres that those who give way keep; None where there are loads alone
    static_centre: Tensor  # (E, S, 2)
    static_heading: Tensor  # (E, S, 2)
    static_half: Tensor  # (E, S, 2)
    static_present: Tensor  # (E, S)


class Motion(NamedTuple):
    """B scenes of M movers, or of their K pieces, as real pairs in the world frame, lengths in the scene's unit."""

    position: Tensor  # (B, M, 2)
    heading: Tensor  # (B, M, 2)
    velocity: Tensor  # (B, M, 2) of the body's centre
    yaw_rate: Tensor  # (B, M) [rad/s]


def to_motion(state: PlanarState) -> Motion:
    """A state's motion in the scene's unit."""
    unit = state.context.unit[:, None]
    position, heading, velocity = map(torch.view_as_real, (state.position / unit, state.heading, state.velocity / unit))
    return Motion(position, heading, velocity, state.yaw_rate)


def compute_gyration(around: SceneContext) -> Tensor:
    """(E, M) squared radius of gyration of each mover, as of equal density, in the scene's unit."""
    core, place = around.core_half, around.core_centre
    area = core[..., 0] * core[..., 1]
    share = area / area.sum(-1, keepdim=True).clamp(min=1e-12)
    boxes = (share * (place.real.square() + place.imag.square() + core.square().sum(-1) / 3)).sum(-1)
    return ((boxes + around.rounding.square() / 2) / around.unit[:, None].square()).clamp(min=1e-4)


def split_into_boxes(state: Motion, context: RolloutContext) -> tuple[Motion, int]:
    """The motion of each piece, with its body's heading, velocity and spin, and how many pieces a body has."""
    if context.core_centre is None:
        return state, 1
    count = context.core_centre.shape[1] // state.yaw_rate.shape[1]
    position, heading, velocity, spin = (repeat_per_box(values, count) for values in state)
    return Motion(position + rotate_vectors(context.core_centre, heading), heading, velocity, spin), count


def repeat_per_box(values: Tensor, count: int) -> Tensor:
    """(B, M, ...) -> (B, M * count, ...): for each piece what its body has."""
    return values if count == 1 else values.repeat_interleave(count, 1)


def sum_per_body(values: Tensor, count: int) -> Tensor:
    """(B, M * count, D) -> (B, M, D): for each body the sum over its pieces."""
    return values if count == 1 else values.unflatten(1, (-1, count)).sum(2)


def mark_dynamic_sizes(
    motion: Motion, context: RolloutContext, node: Tensor, attention: Tensor | None
) -> tuple[Motion, RolloutContext]:
    """Tell the compiler that the numbers of candidates, scenes and boxes change. What would be compiled anew is avoided: fewer
    than two boxes, and a first state whose memory differs from that of later ones."""
    missing = max(0, 2 - context.static_present.shape[1])
    boxes = [F.pad(values, (0,) * (2 * values.ndim - 3) + (missing,)).clone(memory_format=CONTIGUOUS) for values in context[-4:]]
    motion, context = Motion(*(values.clone() for values in motion)), RolloutContext(*context[:-4], *boxes)
    for values in (*motion, node, attention, *(context if len(context.core_half) > 1 else ())):
        if values is not None:
            torch._dynamo.maybe_mark_dynamic(values, 0)
    for values in boxes:
        torch._dynamo.maybe_mark_dynamic(values, 1)
    return motion, context
