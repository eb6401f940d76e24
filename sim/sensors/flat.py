"""Vector observation of fixed size: robot, loads, agents and near boxes in the robot's frame.

`compute_egocentric_vector` serves world models that predict bodies from a vector.
`compute_flat_vector` adds the task's goal features, so that an SB3 policy knows as much as a
planner.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from sim.bodies import LOAD, ROBOT, TRAFFIC_KINDS, Bodies, Observation
from sim.geometry.arrays import Array, clamp, get_namespace
from sim.geometry.boxes import find_closest_points
from sim.geometry.rotations import compute_yaw, rotate
from sim.scenes.scene import Scene
from sim.task import Task

NUM_TRACKED_BODIES = 2  # dynamic bodies after the robot, in observation order: loads, then agents
NUM_BOXES = 6  # boxes nearest to the robot, and nearest to the load
FLAT_VERSION = 2  # version 1 has no footprints and does not sort agents by distance
MAX_DISTANCE_M = 3.0  # distances are clipped to it
ABSENT_DISTANCE_M = 100.0  # distance of absent boxes before clipping, so that they sort last


@dataclass(frozen=True)
class VectorSlices:
    """Slices of the egocentric vector by name."""

    robot: slice  # forward and lateral velocity, yaw rate
    # NUM_TRACKED_BODIES × (offset, heading, velocity, yaw rate, half size, present, footprint)
    bodies: slice
    boxes_of_robot: slice  # NUM_BOXES × (vector to the closest point, its length)
    boxes_of_load: slice
    size: int


@lru_cache
def get_vector_slices(footprint_size: int = 1) -> VectorSlices:
    """Get the slices for bodies of at most `footprint_size` boxes."""
    body_size = 10 + (4 * footprint_size if footprint_size > 1 else 0)
    ends = np.cumsum([0, 3, NUM_TRACKED_BODIES * body_size, NUM_BOXES * 3, NUM_BOXES * 3]).tolist()
    robot, tracked, boxes_of_robot, boxes_of_load = (slice(low, high) for low, high in pairwise(ends))
    return VectorSlices(robot, tracked, boxes_of_robot, boxes_of_load, size=ends[-1])


def compute_egocentric_vector(bodies: Bodies, num_dynamic: int, footprints: Array | None = None) -> Array:
    """Compute the egocentric vector of a state.

    Args:
        bodies: N bodies: the robot, loads and agents first, then the static boxes.
        num_dynamic: number of rows before the static boxes.
        footprints: (..., N or num_dynamic, P, 4) boxes of each body, as in an observation;
            None: each body is a single box.

    Returns:
        (..., get_vector_slices(P).size) vector.
    """
    xp = get_namespace(bodies.pose)
    yaw = compute_yaw(bodies.pose[..., 3:])
    twist = bodies.twist[..., ROBOT, :]
    robot = xp.concat([rotate(twist[..., :2], -yaw[..., ROBOT]), twist[..., 5:6]], axis=-1)
    boxes = [_compute_box_features(bodies, yaw, body, num_dynamic) for body in (ROBOT, LOAD)]
    return xp.concat([robot, _compute_body_features(bodies, yaw, num_dynamic, footprints), *boxes], axis=-1)


def _compute_body_features(bodies: Bodies, yaw: Array, num_dynamic: int, footprints: Array | None) -> Array:
    """Compute the features of the NUM_TRACKED_BODIES bodies after the robot."""
    xp = get_namespace(bodies.pose)
    tracked = slice(LOAD, min(num_dynamic, LOAD + NUM_TRACKED_BODIES))
    heading = yaw[..., ROBOT, None]
    present = xp.astype(bodies.present[..., tracked] > 0, yaw.dtype)[..., None]
    relative_yaw = yaw[..., tracked] - heading
    features = [
        rotate(bodies.pose[..., tracked, :2] - bodies.pose[..., ROBOT : ROBOT + 1, :2], -heading),
        xp.stack([xp.cos(relative_yaw), xp.sin(relative_yaw)], axis=-1),
        rotate(bodies.twist[..., tracked, :2], -heading),
        bodies.twist[..., tracked, 5:6],
        bodies.half_extents[..., tracked, :2] + 0 * present,  # the sum has the dtype and shape of `present`
        present,
    ]
    if footprints is not None and footprints.shape[-2] > 1:
        boxes = footprints[..., tracked, :, :]
        features.append(xp.reshape(boxes, (*boxes.shape[:-2], -1)) + 0 * present)
    return _pad_rows(xp.concat(features, axis=-1) * present, NUM_TRACKED_BODIES)


def _compute_box_features(bodies: Bodies, yaw: Array, body: int, num_dynamic: int) -> Array:
    """Compute vectors from a body to the closest points of the nearest boxes, and their lengths.

    The result (..., NUM_BOXES * 3) is in the robot's frame. For an absent body it says that no box
    is near.
    """
    point = bodies.pose[..., body, :2]
    xp = get_namespace(point)
    static = slice(num_dynamic, None)
    boxes = bodies.pose[..., static, :2], yaw[..., static], bodies.half_extents[..., static, :2]
    closest = find_closest_points(point[..., None, :], *boxes)
    offset = rotate(closest - point[..., None, :], -yaw[..., ROBOT, None])
    length = xp.linalg.vector_norm(offset, axis=-1)
    present = (bodies.present[..., static] > 0) & (bodies.present[..., body, None] > 0)
    length = xp.where(present, length, xp.full_like(length, ABSENT_DISTANCE_M))
    clipped = clamp(length, 1e-6, MAX_DISTANCE_M)
    vectors = offset * xp.where(present, clipped / clamp(length, 1e-6), xp.zeros_like(length))[..., None]
    rows = xp.concat([vectors, clipped[..., None]], axis=-1)
    order = xp.argsort(length, axis=-1)[..., :NUM_BOXES, None]
    nearest = xp.take_along_axis(rows, xp.broadcast_to(order, (*order.shape[:-1], 3)), axis=-2)
    return _pad_rows(nearest, NUM_BOXES, last=MAX_DISTANCE_M)


def _pad_rows(rows: Array, count: int, last: float = 0.0) -> Array:
    """Flatten rows (..., n, D) to (..., count * D). Missing rows are zeros that end in `last`."""
    xp = get_namespace(rows)
    missing = count - rows.shape[-2]
    if missing > 0:
        shape = (*rows.shape[:-2], missing)
        parts = [xp.full((*shape, size), value, dtype=rows.dtype) for size, value in ((rows.shape[-1] - 1, 0.0), (1, last))]
        rows = xp.concat([rows, xp.concat(parts, axis=-1)], axis=-2)
    return xp.reshape(rows, (*rows.shape[:-2], count * rows.shape[-1]))


def is_version_independent(scene: Scene) -> bool:
    """Return True where a scene's vector is the same in every FLAT_VERSION."""
    return scene.footprint_size == 1 and not scene.max_traffic


def compute_flat_vector(observation: Observation, task: Task, num_dynamic: int) -> np.ndarray:
    """Compute the egocentric vector and the task's goal features of one observation.

    Agents are sorted by their distance to the robot and follow the loads.

    Args:
        observation: dictionary observation of GroundEnv.
        task: gives the goal features.
        num_dynamic: number of rows before the static boxes.

    Returns:
        (F,) float32 in [-20, 20].
    """
    bodies = Bodies.from_observation(observation)
    footprints = observation["footprints"]
    candidates = slice(LOAD, num_dynamic)
    present = bodies.present[candidates] > 0
    is_agent = np.isin(bodies.kind[candidates], TRAFFIC_KINDS) & present
    nearest_first = bodies
    if is_agent.any():
        # Loads keep their order, agents follow by distance, absent bodies are last.
        distance = np.linalg.norm(bodies.pose[candidates, :2] - bodies.pose[ROBOT, :2], axis=-1)
        key = np.where(is_agent, distance, np.where(present, -1, np.inf))
        rows = np.concatenate([[ROBOT], LOAD + np.argsort(key, kind="stable"), np.arange(num_dynamic, len(bodies.kind))])

        nearest_first = bodies.map(lambda values: values[rows])
        footprints = footprints[rows]
    egocentric = compute_egocentric_vector(nearest_first, num_dynamic, footprints)
    vector = np.concatenate([egocentric, task.compute_goal_features(bodies, observation["goal"])])
    return np.clip(vector, -20, 20).astype(np.float32)
