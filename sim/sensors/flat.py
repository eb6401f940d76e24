"""The flat egocentric vector: what is near the robot and the load, in the robot's frame, padded to a fixed size.

`egocentric` serves flat world models (it knows bodies alone); `FlatObservation` adds the task's hint about the goal, so that an
SB3 policy sees what a planner knows. Works on numpy and torch, for any batch shape.
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

NUM_LOADS, NUM_BOXES = 2, 6  # nearest ones that fit into the vector
FLAT_VERSION = 2  # of what the vector tells: before, not what parts are made of, nor who of traffic is nearest
MAX_DISTANCE_M, ABSENT_DISTANCE_M = 3.0, 100.0  # distances are clipped at the first; what is not there lies at the second


@dataclass(frozen=True)
class VectorSlices:
    """Named slices of the egocentric vector."""

    robot: slice  # forward, sideways, turning speed
    loads: slice  # LOADS × (offset, heading, velocity, spin, half width and depth, present, its pieces if they may be several)
    boxes_of_robot: slice  # BOXES × (vector to the closest point, its length)
    boxes_of_load: slice
    size: int


@lru_cache
def get_vector_slices(footprint_size: int = 1) -> VectorSlices:
    """Of bodies that are made of up to so many boxes."""
    load = 10 + (4 * footprint_size if footprint_size > 1 else 0)
    ends = np.cumsum([0, 3, NUM_LOADS * load, NUM_BOXES * 3, NUM_BOXES * 3]).tolist()
    robot, loads, of_robot, of_load = (slice(low, high) for low, high in pairwise(ends))
    return VectorSlices(robot, loads, of_robot, of_load, size=ends[-1])


def compute_egocentric_vector(bodies: Bodies, num_dynamic: int, footprints: Array | None = None) -> Array:
    """(..., flat_layout(P).size) from Bodies (..., N) whose first `movers` rows are the robot and loads, the rest static boxes;
    pieces (..., N or `movers`, P, 4) are the boxes that each is made of, as in an observation; None where each is one."""
    xp = get_namespace(bodies.pose)
    yaw = compute_yaw(bodies.pose[..., 3:])
    twist = bodies.twist[..., ROBOT, :]
    own = xp.concat([rotate(twist[..., :2], -yaw[..., ROBOT]), twist[..., 5:6]], axis=-1)
    near = [_compute_box_features(bodies, yaw, body, num_dynamic) for body in (ROBOT, LOAD)]
    return xp.concat([own, _compute_load_features(bodies, yaw, num_dynamic, footprints), *near], axis=-1)


def _compute_load_features(bodies: Bodies, yaw: Array, num_dynamic: int, footprints: Array | None) -> Array:
    """The task's load, then the others as they stand."""
    xp = get_namespace(bodies.pose)
    loads = slice(LOAD, min(num_dynamic, LOAD + NUM_LOADS))
    heading = yaw[..., ROBOT, None]
    present = xp.astype(bodies.present[..., loads] > 0, yaw.dtype)[..., None]
    turn = yaw[..., loads] - heading
    rows = [
        rotate(bodies.pose[..., loads, :2] - bodies.pose[..., ROBOT : ROBOT + 1, :2], -heading),
        xp.stack([xp.cos(turn), xp.sin(turn)], axis=-1),
        rotate(bodies.twist[..., loads, :2], -heading),
        bodies.twist[..., loads, 5:6],
        bodies.half_extents[..., loads, :2] + 0 * present,
        present,
    ]
    if footprints is not None and footprints.shape[-2] > 1:
        made_of = footprints[..., loads, :, :]
        rows.append(xp.reshape(made_of, (*made_of.shape[:-2], -1)) + 0 * present)
    return _pad_rows(xp.concat(rows, axis=-1) * present, NUM_LOADS)


def _compute_box_features(bodies: Bodies, yaw: Array, body: int, num_dynamic: int) -> Array:
    """(..., BOXES * 3): vectors from a body to the closest points of the nearest boxes in the robot's frame, and their lengths;
    as if there were none where the body is not there."""
    point = bodies.pose[..., body, :2]
    xp = get_namespace(point)
    static = slice(num_dynamic, None)
    reach = find_closest_points(
        point[..., None, :], bodies.pose[..., static, :2], yaw[..., static], bodies.half_extents[..., static, :2]
    )
    reach = rotate(reach - point[..., None, :], -yaw[..., ROBOT, None])
    length = xp.linalg.vector_norm(reach, axis=-1)
    there = (bodies.present[..., static] > 0) & (bodies.present[..., body, None] > 0)
    length = xp.where(there, length, xp.full_like(length, ABSENT_DISTANCE_M))
    kept = clamp(length, 1e-6, MAX_DISTANCE_M)
    vectors = reach * xp.where(there, kept / clamp(length, 1e-6), xp.zeros_like(length))[..., None]
    rows = xp.concat([vectors, kept[..., None]], axis=-1)
    order = xp.argsort(length, axis=-1)[..., :NUM_BOXES, None]
    nearest = xp.take_along_axis(rows, xp.broadcast_to(order, (*order.shape[:-1], 3)), axis=-2)
    return _pad_rows(nearest, NUM_BOXES, last=MAX_DISTANCE_M)


def _pad_rows(rows: Array, count: int, last: float = 0.0) -> Array:
    """(..., n, D) -> (..., count * D), with rows of zeros that end in `last` where there are fewer."""
    xp = get_namespace(rows)
    missing = count - rows.shape[-2]
    if missing > 0:
        shape, width = (*rows.shape[:-2], missing), rows.shape[-1]
        blank = [xp.full((*shape, size), value, dtype=rows.dtype) for size, value in ((width - 1, 0.0), (1, last))]
        rows = xp.concat([rows, xp.concat(blank, axis=-1)], axis=-2)
    return xp.reshape(rows, (*rows.shape[:-2], count * rows.shape[-1]))


def is_version_independent(scene: Scene) -> bool:
    """Whether a scene's vector is the same in every version."""
    return scene.footprint_size == 1 and not scene.max_traffic


def compute_flat_vector(observation: Observation, task: Task, num_dynamic: int) -> np.ndarray:
    """(F,) float32 from one observation, whose first rows are of so many movers: the egocentric vector, which traffic enters by
    how near it is, and the task's hint."""
    bodies, pieces = Bodies.from_observation(observation), observation["footprints"]
    others = slice(LOAD, num_dynamic)
    traffic = np.isin(bodies.kind[others], TRAFFIC_KINDS) & (bodies.present[others] > 0)
    if traffic.any():  # behind loads, before who is not there
        apart = np.linalg.norm(bodies.pose[others, :2] - bodies.pose[ROBOT, :2], axis=-1)
        place = np.where(traffic, apart, np.where(bodies.present[others] > 0, -1, np.inf))
        rows = np.concatenate([[ROBOT], LOAD + np.argsort(place, kind="stable"), np.arange(num_dynamic, len(bodies.kind))])
        near, pieces = bodies.map(lambda values: values[rows]), pieces[rows]
    else:
        near = bodies
    vector = np.concatenate(
        [compute_egocentric_vector(near, num_dynamic, pieces), task.compute_goal_features(bodies, observation["goal"])]
    )
    return np.clip(vector, -20, 20).astype(np.float32)
