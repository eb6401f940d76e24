"""Plane vectors and headings as real pairs (..., 2), multiplied as complex numbers.

PyTorch multiplies complex tensors in one operation where pairs take seven, but its compiler makes no code for complex tensors. So
products are complex where each operation counts, and spelled out where they are compiled.
"""

import torch
from torch import Tensor


def rotate_vectors(vector: Tensor, heading: Tensor) -> Tensor:
    """A vector turned by a heading: their product as complex numbers. Shapes broadcast."""
    if not torch.compiler.is_compiling():
        return torch.view_as_real(torch.view_as_complex(vector) * torch.view_as_complex(heading))
    (x, y), (c, s) = vector.unbind(-1), heading.unbind(-1)
    return torch.stack([x * c - y * s, x * s + y * c], -1)


def invert_heading(heading: Tensor) -> Tensor:
    """The heading that turns back."""
    if not torch.compiler.is_compiling():
        return torch.view_as_real(torch.view_as_complex(heading).conj().resolve_conj())
    c, s = heading.unbind(-1)
    return torch.stack([c, -s], -1)


def angle_to_heading(angle: Tensor) -> Tensor:
    return torch.stack([angle.cos(), angle.sin()], -1)


def subtract_box(point: Tensor, half: Tensor) -> Tensor:
    """From a box about the origin to a point; zero inside."""
    return point - torch.clamp(point, -half, half)


def compute_gap(reach: Tensor, core: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Length of a vector (..., 2) beyond a rounded box's own extent along it [m], and its direction (..., 2)."""
    distance = reach.square().sum(-1).clamp(min=1e-12).sqrt()
    normal = reach / distance.clamp(min=1e-4)[..., None]
    return distance - (normal.abs() * core).sum(-1) - rounding, normal


def rotate_quarter(vector: Tensor) -> Tensor:
    """Turned by a quarter to the left: what a unit spin makes of a lever (..., 2)."""
    x, y = vector.unbind(-1)
    return torch.stack([-y, x], -1)


def cross_product(a: Tensor, b: Tensor) -> Tensor:
    """The upright component of the product of plane vectors (..., 2) -> (...): the torque of a force at a lever's end."""
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
