"""Plane vectors and headings as real pairs (..., 2), multiplied as complex numbers.

PyTorch multiplies complex tensors in one operation where pairs take seven, but its compiler does
not support complex tensors. So products are complex in eager code, and spelled out in compiled
code.
"""

import torch
from torch import Tensor


def rotate_vectors(vector: Tensor, heading: Tensor) -> Tensor:
    """Rotate vectors by headings: the product of complex numbers.

    Args:
        vector: (..., 2).
        heading: (..., 2) cosine and sine; the shapes broadcast.

    Returns:
        (..., 2) rotated vectors.
    """
    if not torch.compiler.is_compiling():
        return torch.view_as_real(torch.view_as_complex(vector) * torch.view_as_complex(heading))
    x, y = vector.unbind(-1)
    c, s = heading.unbind(-1)
    return torch.stack([x * c - y * s, x * s + y * c], -1)


def invert_heading(heading: Tensor) -> Tensor:
    """Invert headings.

    Args:
        heading: (..., 2) cosine and sine.

    Returns:
        (..., 2) heading of the inverse rotation.
    """
    if not torch.compiler.is_compiling():
        return torch.view_as_real(torch.view_as_complex(heading).conj().resolve_conj())
    c, s = heading.unbind(-1)
    return torch.stack([c, -s], -1)


def make_heading(angle: Tensor) -> Tensor:
    """Make headings from angles.

    Args:
        angle: (...) [rad].

    Returns:
        (..., 2) cosine and sine.
    """
    return torch.stack([angle.cos(), angle.sin()], -1)


def subtract_box(point: Tensor, half: Tensor) -> Tensor:
    """Compute the vectors from a box about the origin to points.

    Args:
        point: (..., 2) in the box's frame.
        half: (..., 2) half extents of the box.

    Returns:
        (..., 2) from the closest point of the box; zero for points inside.
    """
    return point - torch.clamp(point, -half, half)


def compute_gap(offset: Tensor, core: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the part of vectors beyond the extent of a rounded box along them.

    Args:
        offset: (..., 2) vectors from the centre of the box, in its frame.
        core: (..., 2) half extents of the box.
        rounding: (...) radius around the box.

    Returns:
        gap: (...) length beyond the extent, in the unit of `offset`.
        normal: (..., 2) unit vectors along `offset`.
    """
    distance = offset.square().sum(-1).clamp(min=1e-12).sqrt()
    normal = offset / distance.clamp(min=1e-4)[..., None]
    return distance - (normal.abs() * core).sum(-1) - rounding, normal


def rotate_quarter(vector: Tensor) -> Tensor:
    """Rotate vectors by a quarter turn to the left: the velocity of a lever at unit yaw rate.

    Args:
        vector: (..., 2).

    Returns:
        (..., 2) rotated vectors.
    """
    x, y = vector.unbind(-1)
    return torch.stack([-y, x], -1)


def compute_cross_product(a: Tensor, b: Tensor) -> Tensor:
    """Compute the vertical component of cross products: the torque of a force at a lever's end.

    Args:
        a: (..., 2).
        b: (..., 2).

    Returns:
        (...) products.
    """
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
