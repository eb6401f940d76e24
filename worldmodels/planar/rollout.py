"""Tensors of a rollout of planar bodies as real pairs: constants, motion, and collision boxes.

Lengths are in the scene's unit. The tuples of tensors are of a fixed size, as the compiler needs.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from worldmodels.planar.state import PlanarState, SceneContext
from worldmodels.planar.vectors import rotate_vectors

CONTIGUOUS = torch.contiguous_format


class RolloutContext(NamedTuple):
    """Constants of a rollout, lengths in the scene's unit.

    E is the batch, or 1 for one scene with many candidates. K = M * P counts the collision boxes of
    all dynamic bodies, body after body. S counts static boxes.
    """

    core_half: Tensor  # (E, K, 2) half extents of each box
    rounding: Tensor  # (E, K) radius around the box
    core_centre: Tensor | None  # (E, K, 2) in the body's frame; None: each body is one box
    gyration: Tensor  # (E, M) squared radius of gyration
    kind: Tensor  # (E, M, len(DYNAMIC_KINDS)) one-hot
    max_velocity_change: Tensor  # (E, M) of agents within one step [units/s]; 0 for other bodies
    max_speed: Tensor  # (E, M, 2) limits of speed [units/s] and yaw rate [rad/s] in predictions
    pair_shape: Tensor | None  # (E, K, K, 2 * edge) encoded shapes; None for a single body
    pair_present: Tensor  # (E, K, K) 1 or 0; 0 within a body
    pair_has_agent: Tensor  # (E, K, K) 1 if one is an agent, which reacts from afar
    pair_clearance: Tensor | None  # (E, K, K) distance that agents keep; None for loads
    static_centre: Tensor  # (E, S, 2)
    static_heading: Tensor  # (E, S, 2)
    static_half: Tensor  # (E, S, 2)
    static_present: Tensor  # (E, S)


class Motion(NamedTuple):
    """Motion of M bodies, or of their K boxes, in the world frame, lengths in the scene's unit."""

    position: Tensor  # (B, M, 2)
    heading: Tensor  # (B, M, 2)
    velocity: Tensor  # (B, M, 2) of the body's centre
    yaw_rate: Tensor  # (B, M) [rad/s]


def extract_motion(state: PlanarState) -> Motion:
    """Extract the motion of a state, in the scene's unit."""
    unit = state.context.unit[:, None]
    position, heading, velocity = map(torch.view_as_real, (state.position / unit, state.heading, state.velocity / unit))
    return Motion(position, heading, velocity, state.yaw_rate)


def compute_gyration(context: SceneContext) -> Tensor:
    """Compute the squared radius of gyration of dynamic bodies of uniform density.

    Returns:
        (E, M) in the square of the scene's unit.
    """
    core = context.core_half
    centre = context.core_centre
    area = core[..., 0] * core[..., 1]
    share = area / area.sum(-1, keepdim=True).clamp(min=1e-12)
    boxes = (share * (centre.real.square() + centre.imag.square() + core.square().sum(-1) / 3)).sum(-1)
    return ((boxes + context.rounding.square() / 2) / context.unit[:, None].square()).clamp(min=1e-4)


def split_into_boxes(state: Motion, context: RolloutContext) -> tuple[Motion, int]:
    """Split bodies into their collision boxes, which move with the body's velocity and yaw rate.

    Returns:
        The motion of K boxes, and the number of boxes of each body.
    """
    if context.core_centre is None:
        return state, 1
    count = context.core_centre.shape[1] // state.yaw_rate.shape[1]
    position, heading, velocity, yaw_rate = (repeat_per_box(values, count) for values in state)
    return Motion(position + rotate_vectors(context.core_centre, heading), heading, velocity, yaw_rate), count


def repeat_per_box(values: Tensor, count: int) -> Tensor:
    """Repeat values of bodies for each of their collision boxes.

    Args:
        values: (B, M, ...).
        count: number of boxes of each body.

    Returns:
        (B, M * count, ...).
    """
    return values if count == 1 else values.repeat_interleave(count, 1)


def sum_per_body(values: Tensor, count: int) -> Tensor:
    """Sum values of collision boxes for each body.

    Args:
        values: (B, M * count, D).
        count: number of boxes of each body.

    Returns:
        (B, M, D).
    """
    return values if count == 1 else values.unflatten(1, (-1, count)).sum(2)


def mark_dynamic_sizes(
    motion: Motion, context: RolloutContext, node: Tensor, attention: Tensor | None
) -> tuple[Motion, RolloutContext]:
    """Mark the numbers of candidates, scenes and static boxes as dynamic for the compiler.

    Two cases would be compiled again and are avoided: fewer than two static boxes, and a first
    state whose memory layout differs from that of later states.

    Args:
        motion: B scenes of M bodies.
        context: constants of the rollout.
        node: (B, M, hidden) encoded bodies and actions.
        attention: (B, M), or None.

    Returns:
        Copies of `motion` and `context`.
    """
    missing = max(0, 2 - context.static_present.shape[1])
    boxes = [F.pad(values, (0,) * (2 * values.ndim - 3) + (missing,)).clone(memory_format=CONTIGUOUS) for values in context[-4:]]
    motion = Motion(*(values.clone() for values in motion))
    context = RolloutContext(*context[:-4], *boxes)
    for values in (*motion, node, attention, *(context if len(context.core_half) > 1 else ())):
        if values is not None:
            torch._dynamo.maybe_mark_dynamic(values, 0)
    for values in boxes:
        torch._dynamo.maybe_mark_dynamic(values, 1)
    return motion, context
