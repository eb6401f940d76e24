"""The skill of palletise: what an action means, and where it leaves the cartons if nothing slips."""

from dataclasses import dataclass

import numpy as np

from sim.actions import ActionSpec
from sim.bodies import Bodies, Kind
from sim.geometry.arrays import Array, get_namespace
from sim.geometry.rotations import compute_yaw, rotate, yaw_to_quaternion
from sim.scenes.palletise import geometry
from sim.scenes.palletise.geometry import PalletField

SPEED_RANGE_M_S = (0.2, 1.1)  # of the swing
MAX_RELEASE_HEIGHT_M = 0.03
SLOT_TOLERANCE_M = 0.1  # of a carton's middle from that of its infeed place
TABLE_TOLERANCE_M = 0.03  # of a carton's bottom from the infeed table
TINY_M = 1e-4
HALF_TURN = np.pi / 2
ACTION_SPEC = ActionSpec(
    ("carton", "x", "y", "quarter_turn", "speed", "release"),
    (1.0, 0.3, 0.2, HALF_TURN, SPEED_RANGE_M_S[1], MAX_RELEASE_HEIGHT_M),
    ("share of the infeed places", "m", "m", "rad, 0 or a quarter turn", "m/s", "m"),
)  # fmt: skip
NUM_FEATURES = 3


@dataclass(frozen=True)
class Placement:
    """The physical values of an action."""

    row: int  # of the chosen carton among all bodies; 0: there is none to place
    x: float  # of its middle in the pallet's frame [m]
    y: float
    yaw: float  # of its length in the pallet's frame [rad]
    speed_m_s: float
    release_m: float  # height above the support at which it is let go


def find_waiting(bodies: Bodies) -> tuple[Array, Array]:
    """Find the cartons at the infeed places.

    Args:
        bodies: (..., N) as in an observation.

    Returns:
        is_waiting: (..., N) bool.
        choice: (..., N) action in [-1, 1] that chooses the place of each body.
    """
    xp = get_namespace(bodies.pose)
    kind = np.asarray(bodies.kind).reshape(-1, bodies.kind.shape[-1])
    tables = np.flatnonzero((kind == Kind.STATION).any(0)).tolist()  # scenes of a batch may have fewer, in the same rows
    has_table = (bodies.kind[..., tables] == Kind.STATION) & (bodies.present[..., tables] > 0)
    tops = bodies.pose[..., tables, 2] + bodies.half_extents[..., tables, 2]
    bottom = bodies.pose[..., 2] - bodies.half_extents[..., 2]
    offset = bodies.pose[..., :, None, :2] - bodies.pose[..., None, tables, :2]
    near = (offset[..., 0] ** 2 + offset[..., 1] ** 2 < SLOT_TOLERANCE_M**2) & has_table[..., None, :]
    near = near & (abs(bottom[..., :, None] - tops[..., None, :]) < TABLE_TOLERANCE_M)
    near = near & ((bodies.present > 0) & (bodies.kind == Kind.LOAD))[..., None]
    num_tables = has_table.sum(-1)[..., None, None]
    number = xp.arange(len(tables)) + 0 * near  # (..., N, S)
    values = (number + 0.5) / num_tables * 2 - 1
    choice = xp.where(near, values, 0 * values).sum(-1)
    return near.any(-1), choice


def choose_carton(bodies: Bodies, choice: Array) -> tuple[Array, Array]:
    """Choose the waiting carton whose infeed place is nearest to an action's first number.

    Args:
        bodies: (..., N) as in an observation.
        choice: (...) in [-1, 1].

    Returns:
        is_chosen: (..., N) bool, True for at most one body.
        has_carton: (...) bool, some carton waits.
    """
    xp = get_namespace(bodies.pose)
    is_waiting, values = find_waiting(bodies)
    distance = abs(values - choice[..., None])
    row = xp.where(is_waiting, distance, 0 * distance + 10.0).argmin(-1)
    has_carton = is_waiting.any(-1)
    return (xp.arange(bodies.pose.shape[-2]) == row[..., None]) & has_carton[..., None], has_carton


def decode_action(bodies: Bodies, action: np.ndarray, field: PalletField) -> Placement:
    """Decode an action in one observation.

    Args:
        bodies: (N,) as in an observation.
        action: (6,) in [-1, 1].
        field: the pallet.
    """
    is_chosen, has_carton = choose_carton(bodies, np.asarray(action[0]))
    half = field.half
    low, high = SPEED_RANGE_M_S
    return Placement(
        row=int(is_chosen.argmax()) if has_carton else 0,
        x=float(action[1] * half[0]),
        y=float(action[2] * half[1]),
        yaw=HALF_TURN * float(action[3] > 0),
        speed_m_s=float(low + (high - low) * (action[4] + 1) / 2),
        release_m=float(MAX_RELEASE_HEIGHT_M * (action[5] + 1) / 2),
    )


def encode_action(
    choice: Array, x: Array, y: Array, is_turned: Array, speed_m_s: Array, release_m: Array, half: Array
) -> np.ndarray:
    """Encode physical values as actions.

    Args:
        choice: (K,) of `find_waiting`.
        x: (K,) in the pallet's frame [m]; so is y.
        is_turned: (K,) a quarter turn.
        half: (2,) half length and width of the pallet [m].

    Returns:
        (K, 6) in [-1, 1].
    """
    low, high = SPEED_RANGE_M_S
    turn = np.where(is_turned, 0.5, -0.5)
    speed = 2 * (np.asarray(speed_m_s) - low) / (high - low) - 1
    release = 2 * np.asarray(release_m) / MAX_RELEASE_HEIGHT_M - 1
    columns = np.broadcast_arrays(choice, x / half[0], y / half[1], turn, speed, release)
    return np.clip(np.stack(columns, -1), -1, 1).astype(np.float32)


class PlaceCarton:
    """The intended effect of an action, for models: the carton at rest at its place."""

    num_features = NUM_FEATURES
    test_features: tuple[float, ...] | None = (0.0, 0.0, 1.0)

    def compute_nominal(self, bodies: Bodies, action: Array) -> tuple[Array, Array]:
        """Compute where an action leaves all bodies if nothing slips or falls.

        Args:
            bodies: (..., N) as in an observation; all scenes have the same pallet.
            action: (..., 6) in [-1, 1].

        Returns:
            poses: (..., N, 7) [m, quaternion xyzw].
            features: (..., 3) speed and release height in [-1, 1], and 1 for the shake test.
        """
        if action.ndim == 1:
            poses, features = self.compute_nominal(bodies.map(lambda values: values[None]), action[None])
            return poses[0], features[0]
        xp = get_namespace(bodies.pose)
        kind = np.asarray(bodies.kind).reshape(-1, bodies.kind.shape[-1])[0]
        row = int(np.flatnonzero(kind == Kind.PALLET)[0])
        pose, half = bodies.pose[..., row, :], bodies.half_extents[..., row, :]
        yaw = compute_yaw(pose[..., 3:])
        is_chosen, has_carton = choose_carton(bodies, action[..., 0])
        one = is_chosen[..., None] * xp.ones_like(bodies.pose[..., :1])
        size = (bodies.half_extents * one).sum(-2)
        is_turned = action[..., 3] > 0
        half_x = xp.where(is_turned, size[..., 1], size[..., 0])
        half_y = xp.where(is_turned, size[..., 0], size[..., 1])
        x, y = action[..., 1] * half[..., 0], action[..., 2] * half[..., 1]
        field = PalletField(
            xp.stack([pose[..., 0], pose[..., 1], yaw], axis=-1)[..., None, :],
            half[..., None, :2],
            xp.stack([pose[..., 2] + half[..., 2]] * 2, axis=-1)[..., None, :],
        )
        rectangle = x[..., None], y[..., None], half_x[..., None], half_y[..., None]
        stack = geometry.measure_stack(bodies, field)
        height = geometry.find_support_heights(stack, field, *rectangle, is_chosen[..., None, :])[..., 0]
        offset = rotate(xp.stack([x, y], axis=-1), yaw)
        turn = yaw + HALF_TURN * xp.where(is_turned, xp.ones_like(x), xp.zeros_like(x))
        position = xp.stack([pose[..., 0] + offset[..., 0], pose[..., 1] + offset[..., 1], height + size[..., 2]], axis=-1)
        target = xp.concat([position, yaw_to_quaternion(turn)], axis=-1)
        poses = bodies.pose * (1 - one) + target[..., None, :] * one
        shake = xp.where(has_carton, xp.zeros_like(x), xp.ones_like(x))
        features = xp.stack([action[..., 4] * (1 - shake), action[..., 5] * (1 - shake), shake], axis=-1)
        return poses, features
