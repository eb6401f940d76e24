"""The flat egocentric vector: what is near the robot and the load, in the robot's frame, padded to a fixed size.

`egocentric` serves flat world models (it knows bodies alone); `FlatObservation` adds the task's hint about the goal, so that an
SB3 policy sees what a planner knows. Works on numpy and torch, for any batch shape.
"""

from dataclasses import dataclass
from itertools import pairwise

import gymnasium
import numpy as np

from sim.bodies import Array, Bodies, Observation, clamp, closest_on_box, namespace, rotate, yaw_of
from sim.env import GroundEnv
from sim.task import LOAD, ROBOT, Task

LOADS, BOXES = 2, 6  # nearest ones that fit into the vector
FAR_M, ABSENT_M = 3.0, 100.0  # distances are clipped at the first; what is not there lies at the second


@dataclass(frozen=True)
class FlatLayout:
    """Named slices of the egocentric vector."""

    robot: slice  # forward, sideways, turning speed
    loads: slice  # LOADS × (offset, heading, velocity, spin, half width and depth, present)
    boxes_of_robot: slice  # BOXES × (vector to the closest point, its length)
    boxes_of_load: slice
    size: int


def _layout() -> FlatLayout:
    ends = np.cumsum([0, 3, LOADS * 10, BOXES * 3, BOXES * 3]).tolist()
    robot, loads, of_robot, of_load = (slice(low, high) for low, high in pairwise(ends))
    return FlatLayout(robot, loads, of_robot, of_load, size=ends[-1])


FLAT = _layout()


def egocentric(bodies: Bodies, movers: int) -> Array:
    """(..., FLAT.size) from Bodies (..., N) whose first `movers` rows are the robot and loads, the rest static boxes."""
    xp = namespace(bodies.pose)
    yaw = yaw_of(bodies.pose[..., 3:])
    twist = bodies.twist[..., ROBOT, :]
    own = xp.concat([rotate(twist[..., :2], -yaw[..., ROBOT]), twist[..., 5:6]], axis=-1)
    near = [_boxes(bodies, yaw, bodies.pose[..., body, :2], movers) for body in (ROBOT, LOAD)]
    return xp.concat([own, _loads(bodies, yaw, movers), *near], axis=-1)


def _loads(bodies: Bodies, yaw: Array, movers: int) -> Array:
    """(..., LOADS * 10): the task's load, then the others as they stand."""
    xp = namespace(bodies.pose)
    loads = slice(LOAD, min(movers, LOAD + LOADS))
    heading = yaw[..., ROBOT, None]
    present = xp.astype(bodies.present[..., loads] > 0, yaw.dtype)[..., None]
    turn = yaw[..., loads] - heading
    rows = xp.concat(
        [
            rotate(bodies.pose[..., loads, :2] - bodies.pose[..., ROBOT : ROBOT + 1, :2], -heading),
            xp.stack([xp.cos(turn), xp.sin(turn)], axis=-1),
            rotate(bodies.twist[..., loads, :2], -heading),
            bodies.twist[..., loads, 5:6],
            bodies.half_extents[..., loads, :2] + 0 * present,
            present,
        ],
        axis=-1,
    )
    return _padded(rows * present, LOADS)


def _boxes(bodies: Bodies, yaw: Array, point: Array, movers: int) -> Array:
    """(..., BOXES * 3): vectors to the closest points of the nearest boxes in the robot's frame, and their lengths."""
    xp = namespace(point)
    static = slice(movers, None)
    reach = closest_on_box(
        point[..., None, :], bodies.pose[..., static, :2], yaw[..., static], bodies.half_extents[..., static, :2]
    )
    reach = rotate(reach - point[..., None, :], -yaw[..., ROBOT, None])
    length = xp.linalg.vector_norm(reach, axis=-1)
    there = bodies.present[..., static] > 0
    length = xp.where(there, length, xp.full_like(length, ABSENT_M))
    kept = clamp(length, 1e-6, FAR_M)
    vectors = reach * xp.where(there, kept / clamp(length, 1e-6), xp.zeros_like(length))[..., None]
    rows = xp.concat([vectors, kept[..., None]], axis=-1)
    order = xp.argsort(length, axis=-1)[..., :BOXES, None]
    nearest = xp.take_along_axis(rows, xp.broadcast_to(order, (*order.shape[:-1], 3)), axis=-2)
    return _padded(nearest, BOXES, last=FAR_M)


def _padded(rows: Array, count: int, last: float = 0.0) -> Array:
    """(..., n, D) -> (..., count * D), with rows of zeros that end in `last` where there are fewer."""
    xp = namespace(rows)
    missing = count - rows.shape[-2]
    if missing > 0:
        shape, width = (*rows.shape[:-2], missing), rows.shape[-1]
        blank = [xp.full((*shape, size), value, dtype=rows.dtype) for size, value in ((width - 1, 0.0), (1, last))]
        rows = xp.concat([rows, xp.concat(blank, axis=-1)], axis=-2)
    return xp.reshape(rows, (*rows.shape[:-2], count * rows.shape[-1]))


class FlatObservation(gymnasium.ObservationWrapper[np.ndarray, np.ndarray, Observation]):
    """The environment for SB3: the egocentric vector and the task's hint."""

    def __init__(self, env: GroundEnv) -> None:
        super().__init__(env)
        self._task, self._movers = env.scene.task, env.scene.movers
        self.observation_space = gymnasium.spaces.Box(-20, 20, (FLAT.size + self._task.hints,), np.float32)

    def observation(self, observation: Observation) -> np.ndarray:
        return flat_vector(observation, self._task, self._movers)


def flat_vector(observation: Observation, task: Task, movers: int) -> np.ndarray:
    """(FLAT.size + task.hints,) float32 from one observation, whose first rows are of so many movers."""
    bodies = Bodies.of(observation)
    vector = np.concatenate([egocentric(bodies, movers), task.hint(bodies, observation["goal"])])
    return np.clip(vector, -20, 20).astype(np.float32)
