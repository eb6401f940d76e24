"""Plane vectors and headings as real pairs (..., 2), multiplied as complex numbers.

PyTorch multiplies complex tensors in one operation, and real pairs in seven. Its compiler does not
support complex tensors. Eager code therefore multiplies complex tensors, and compiled code
multiplies real pairs.
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
    """Compute the vectors to points from the closest points of a box centred at the origin.

    Args:
        point: (..., 2) in the box's frame.
        half: (..., 2) half extents of the box.

    Returns:
        (..., 2) vectors; zero for points inside.
    """
    return point - torch.clamp(point, -half, half)


def compute_gap(offset: Tensor, core: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gaps between points and a rounded box along the lines from its centre.

    The box is taken up to its support line, which is perpendicular to the line from the centre. The
    gap is therefore at most the distance between point and box.

    Args:
        offset: (..., 2) vectors from the centre of the box to the points, in the box's frame.
        core: (..., 2) half extents of the box without rounding.
        rounding: (...) radius by which the box is grown.

    Returns:
        gap: (...) gaps, negative within the support line, in the unit of `offset`.
        normal: (..., 2) unit vectors along `offset`.
    """
    distance = offset.square().sum(-1).clamp(min=1e-12).sqrt()
    normal = offset / distance.clamp(min=1e-4)[..., None]
    return distance - (normal.abs() * core).sum(-1) - rounding, normal


def rotate_quarter(vector: Tensor) -> Tensor:
    """Rotate vectors by 90° to the left: velocities of lever ends at unit yaw rate.

    Args:
        vector: (..., 2).

    Returns:
        (..., 2) rotated vectors.
    """
    x, y = vector.unbind(-1)
    return torch.stack([-y, x], -1)


def compute_cross_product(a: Tensor, b: Tensor) -> Tensor:
    """Compute the vertical component of cross products: torques of forces at lever ends.

    Args:
        a: (..., 2).
        b: (..., 2).

    Returns:
        (...) products.
    """
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
