"""Contacts of oriented boxes: signed distance, normal and contact points, batched.

Boxes are separated, or penetrate, along one of 15 axes: the normals of their faces, and the cross
products of their edges. Source: Gottschalk et al. 1996, "OBBTree" (separating axis theorem).
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

NUM_POINTS = 4  # contact points of each pair
EDGE_BIAS_M = 1e-4  # by which edges must separate more than faces to be chosen
MIN_SINE = 1e-2  # of the angle between edges that are not parallel
SQUARE = torch.tensor([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
# (3, NUM_POINTS, 3) by the axis of a face: signs of its corners, 0 along the axis
FACE_CORNERS = torch.stack([F.pad(SQUARE, (1, 0)).roll(axis, -1) for axis in range(3)])


class BoxContacts(NamedTuple):
    """Contacts of pairs of boxes a and b, in the frame of a."""

    distance: Tensor  # (...) along the normal [m]; negative: depth of penetration
    normal: Tensor  # (..., 3) unit vector from a to b
    points: Tensor  # (..., NUM_POINTS, 3) on the face of a, where the boxes touch or would touch
    gaps: Tensor  # (..., NUM_POINTS) from the points to b along the normal [m]


def compute_box_contacts(offset: Tensor, turn: Tensor, half_a: Tensor, half_b: Tensor) -> BoxContacts:
    """Compute the contacts of pairs of boxes.

    The distance is exact for boxes that touch or penetrate, and where a face or two crossing edges
    are closest. Where a corner is closest to an edge or a corner, it is at most the distance.

    Args:
        offset: (..., 3) centre of b in the frame of a [m].
        turn: (..., 3, 3) rotation from the frame of b to that of a.
        half_a: (..., 3) half extents of a [m].
        half_b: (..., 3) half extents of b [m].

    Returns:
        Contacts (...).
    """
    distance, normal = _find_separating_axis(offset, turn, half_a, half_b)
    face_a, corners = _find_face(normal)
    face_b, _ = _find_face(-rotate_back(turn, normal))
    # Corners of a's face, moved into b, then into a: the corners of the area where both overlap.
    points = half_a[..., None, :] * (corners + face_a[..., None, :])
    inside_b = _clamp(rotate_back(turn[..., None, :, :], points - offset[..., None, :]), half_b)
    points = _clamp(rotate(turn[..., None, :, :], inside_b) + offset[..., None, :], half_a)
    # From there along the normal, to the planes of both faces.
    outward_b = rotate(turn, face_b)
    level_b = ((offset + rotate(turn, half_b * face_b)) * outward_b).sum(-1, keepdim=True)
    to_a = (half_a * face_a.abs()).sum(-1, keepdim=True) - (points * face_a[..., None, :]).sum(-1)
    to_b = level_b - (points * outward_b[..., None, :]).sum(-1)
    to_a = to_a / (normal * face_a).sum(-1, keepdim=True)
    gaps = torch.maximum(to_b / (normal * outward_b).sum(-1, keepdim=True) - to_a, distance[..., None])
    return BoxContacts(distance, normal, points + to_a[..., None] * normal[..., None, :], gaps)


def rotate(matrix: Tensor, vector: Tensor) -> Tensor:
    """Rotate vectors (..., 3) by matrices (..., 3, 3); the shapes broadcast."""
    return (matrix * vector[..., None, :]).sum(-1)


def rotate_back(matrix: Tensor, vector: Tensor) -> Tensor:
    """Rotate vectors (..., 3) by the inverses of matrices (..., 3, 3); the shapes broadcast."""
    return (matrix * vector[..., None]).sum(-2)


def _clamp(points: Tensor, half: Tensor) -> Tensor:
    """Move points (..., K, 3) into a box."""
    return torch.clamp(points, -half[..., None, :], half[..., None, :])


def _find_face(direction: Tensor) -> tuple[Tensor, Tensor]:
    """Find the face of a box in a direction: its normal (..., 3), and the signs of its corners."""
    axis = direction.abs().argmax(-1)
    one_hot = F.one_hot(axis, 3).to(direction.dtype)
    return one_hot * torch.where(direction < 0, -1.0, 1.0), FACE_CORNERS.to(direction)[axis]


def _find_separating_axis(offset: Tensor, turn: Tensor, half_a: Tensor, half_b: Tensor) -> tuple[Tensor, Tensor]:
    """Find the axis of largest separation: the separation (...), and the direction (..., 3)."""
    size = turn.abs()
    offset_b = rotate_back(turn, offset)
    face_a = offset.abs() - half_a - rotate(size, half_b)
    face_b = offset_b.abs() - half_b - rotate_back(size, half_a)
    # Edge i of a and edge j of b: the cross product has the entries -turn[k, j] and turn[l, j] in
    # the rows l and k that follow i.
    following_a, following_b = ([values.roll(-k, -1) for k in (1, 2)] for values in (half_a, half_b))
    rows = [turn.roll(-k, -2) for k in (1, 2)]
    columns = [size.roll(-k, -1) for k in (1, 2)]
    along = offset.roll(-2, -1)[..., None] * rows[0] - offset.roll(-1, -1)[..., None] * rows[1]
    radius = following_a[0][..., None] * rows[1].abs() + following_a[1][..., None] * rows[0].abs()
    radius = radius + following_b[0][..., None, :] * columns[1] + following_b[1][..., None, :] * columns[0]
    sine = (1 - turn.square()).clamp(min=MIN_SINE**2).sqrt()
    edges = torch.where(size.square() < 1 - MIN_SINE**2, (along.abs() - radius) / sine - EDGE_BIAS_M, -torch.inf)
    separation, axis = torch.cat([face_a, face_b, edges.flatten(-2)], -1).max(-1)
    is_edge = axis >= 6
    # Directions by kind of axis; the index of an edge pair is 3 i + j.
    pair = (axis - 6).clamp(min=0)
    edge_a = torch.eye(3).to(turn)[pair // 3]
    axis_b = torch.where(is_edge, pair % 3, (axis - 3).clamp(0, 2))
    column = turn.gather(-1, axis_b[..., None, None].expand(*axis.shape, 3, 1))[..., 0]
    crossed = F.normalize(torch.linalg.cross(edge_a, column), dim=-1)
    face = torch.where((axis < 3)[..., None], torch.eye(3).to(turn)[axis.clamp(max=2)], column)
    normal = torch.where(is_edge[..., None], crossed, face)
    normal = normal * torch.where((normal * offset).sum(-1, keepdim=True) < 0, -1.0, 1.0)
    return separation + EDGE_BIAS_M * is_edge, normal
