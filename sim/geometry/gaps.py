"""Gaps between dynamic and static bodies, seen from above.

The gaps of cylinders and boxes that do not overlap are exact.
"""

import numpy as np

from sim.bodies import Observation, Shape, is_static_kind
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.rotations import compute_yaw, rotate

CORNERS = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)])
# Bodies with a smaller gap touch: so do 97 % of states with hard contact, and 0.6 % of the others.
TOUCH_M = 0.005


def compute_static_gaps(observation: Observation, pose: np.ndarray) -> np.ndarray:
    """Compute the distance of each dynamic body to the nearest static body.

    The distance of two convex shapes is that of a corner of either shape to the other shape.
    Corners of both shapes are therefore checked.

    Args:
        observation: gives sizes, shapes and the static bodies.
        pose: (..., M, 7) poses of the M dynamic bodies [m, quaternion xyzw].

    Returns:
        (..., M) distances [m], negative where bodies overlap.
    """
    static = (observation["present"] > 0) & is_static_kind(observation["kind"])
    half = observation["half_extents"][static, :2].astype(float)
    static_pose = observation["pose"][static].astype(float)
    boxes = np.column_stack([static_pose[:, :2], compute_yaw(static_pose[:, 3:]), half])
    corners = (boxes[:, None, :2] + rotate(CORNERS * half[:, None], np.repeat(boxes[:, 2:3], 4, 1))).reshape(-1, 2)
    gaps = [_compute_body_gap(observation, body, pose[..., body, :].astype(float), boxes, corners)
            for body in range(pose.shape[-2])]  # fmt: skip
    return np.stack(gaps, -1)


def _compute_body_gap(
    observation: Observation, body: int, pose: np.ndarray, boxes: np.ndarray, corners: np.ndarray
) -> np.ndarray:
    """Compute the gap (...) of a body at poses (..., 7) to boxes (S, 5) with corners (4 S, 2)."""
    if not len(boxes):
        return np.full(pose.shape[:-1], np.inf)
    position = pose[..., :2]
    half = observation["half_extents"][body, :2].astype(float)
    if observation["shape"][body] == Shape.CYLINDER:
        return compute_signed_distance(position, boxes) - half[0]
    footprint = [box for box in observation["footprints"][body].astype(float) if box[2] > 0] or [np.array([0, 0, *half])]
    yaw = compute_yaw(pose[..., 3:])[..., None]
    # The static corners in the body's frame.
    local_corners = rotate(corners - position[..., None, :], np.broadcast_to(-yaw, (*yaw.shape[:-1], len(corners))))
    gaps = []
    for x, y, half_x, half_y in footprint:
        box_corners = np.broadcast_to((x, y) + CORNERS * (half_x, half_y), (*pose.shape[:-1], 4, 2))
        offsets = rotate(box_corners, np.repeat(yaw, 4, -1))
        gaps += [compute_signed_distance(position[..., None, :] + offsets, boxes).min(-1)]
        gaps += [compute_signed_distance(local_corners, np.array([(x, y, 0.0, half_x, half_y)])).min(-1)]
    return np.min(gaps, axis=0)
