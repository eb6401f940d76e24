"""Means and angles of poses as torch tensors."""

import torch
from torch import Tensor
from torch.nn import functional as F

from sim.geometry.rotations import multiply_quaternions


def compute_rotation_vector(a: Tensor, b: Tensor) -> Tensor:
    """Compute the rotations from `b` to `a`, whose gradient is finite at zero.

    Args:
        a: (..., 4) quaternions xyzw.
        b: (..., 4) quaternions xyzw.

    Returns:
        (..., 3) axis, of length 2 sin(angle / 2).
    """
    difference = multiply_quaternions(a, b * torch.tensor([-1.0, -1.0, -1.0, 1.0], device=b.device))
    return 2 * difference[..., :3]


def compute_angle(a: Tensor, b: Tensor) -> Tensor:
    """Compute the angles (...) [rad] between rotations (..., 4), which are quaternions xyzw."""
    return 2 * torch.asin((compute_rotation_vector(a, b).norm(dim=-1) / 2).clamp(max=1))


def average_poses(poses: Tensor) -> Tensor:
    """Average poses over particles, quaternions by their sum.

    Args:
        poses: (P, ..., 7) position [m] and quaternion xyzw.

    Returns:
        (..., 7) mean poses.
    """
    quaternions = poses[..., 3:]
    sign = torch.where((quaternions * quaternions[0]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return torch.cat([poses[..., :3].mean(0), F.normalize((sign * quaternions).sum(0), dim=-1)], -1)
