"""Bodies that stay on the floor, as complex numbers: position and velocity x + iy, heading e^(i yaw).

Turning a frame is then one multiplication, which keeps models short, exactly equivariant, and cheap: on the small batches of a
planner the number of tensor operations is the cost. Height, roll and pitch are held.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.nn.utils.rnn import pad_sequence

from sim.actions import PLANAR_TWIST
from sim.bodies import TRAFFIC_KINDS, Bodies, Kind, Shape
from sim.geometry.arrays import Array, clamp, get_namespace, split_coordinates
from sim.geometry.boxes import find_closest_points
from sim.geometry.rotations import compute_yaw, yaw_to_quaternion

DYNAMIC_KINDS = (Kind.ROBOT, Kind.LOAD, *TRAFFIC_KINDS)  # of movers, by column of Surroundings.kind
MOTION_FIELDS = ("position", "heading", "velocity", "yaw_rate")  # of a PlanarState
NUM_NEAREST_AGENTS = 5  # others that a robot without a load minds: traffic may be any number
MOVED_DISTANCE = 0.1  # [units]
MAX_STATIC_BOXES = 16  # static boxes that a model of limited range has: the nearest in halls with more than usual
NEAREST_WITHIN_S = 1.5  # nearest within so long: who comes fast from afar matters more than who stands nearby


@dataclass(frozen=True)
class SceneContext:
    """What does not change while time goes on. Leading size E is the batch, or 1 for one scene imagined many times."""

    core_half: (
        Tensor  # (E, M, P, 2) half extents of each mover's boxes; zero for a cylinder, and for boxes that are not there [m]
    )
    core_centre: Tensor  # (E, M, P) complex centres of those boxes in the mover's frame [m]
    rounding: Tensor  # (E, M) radius around the boxes; zero for boxes [m]
    kind: Tensor  # (E, M, len(KINDS)) one-hot
    present: Tensor  # (E, M) 1 or 0
    height: Tensor  # (E, M) of the centre [m]
    half_extents: Tensor  # (E, M, 3) [m]
    static_centre: Tensor  # (E, S) complex [m]
    static_heading: Tensor  # (E, S) complex
    static_half: Tensor  # (E, S, 2) [m]
    static_present: Tensor  # (E, S)
    command_matrix: (
        Tensor  # (E, 3, A) speeds forward, to the left and turning that each number of an action asks for [m/s, rad/s]
    )
    unit: Tensor  # (E,) typical length of the scene [m]
    kinds: frozenset[Kind] | None = None  # of movers, that a data set has; None: whoever asks has to look

    def list_tensors(self) -> dict[str, Any]:
        """All but `kinds`, each of leading size E."""
        return {name: values for name, values in vars(self).items() if isinstance(values, Tensor)}

    def has_kind(self, *kinds: Kind) -> bool:
        """Whether a mover of one of these kinds may be there. To look makes a GPU wait."""
        if self.kinds is not None:
            return not self.kinds.isdisjoint(kinds)
        columns = [DYNAMIC_KINDS.index(kind) for kind in kinds]
        return bool((self.kind[..., columns].sum(-1) * self.present).any())

    @property
    def is_agent(self) -> Tensor:
        """(E, M) which movers have a will of their own."""
        return self.kind[..., -len(TRAFFIC_KINDS) :].sum(-1) * self.present

    def map_dynamic(self, pick: Callable[[Tensor], Tensor]) -> "SceneContext":
        """The same with `pick` applied to everything that is said of movers."""
        names = ("core_half", "core_centre", "rounding", "kind", "present", "height", "half_extents")
        return replace(self, **{name: pick(getattr(self, name)) for name in names}, kinds=None)


@dataclass(frozen=True)
class PlanarState:
    """B scenes of M movers, the robot first."""

    position: Tensor  # (B, M) complex [m]
    heading: Tensor  # (B, M) complex, unit
    velocity: Tensor  # (B, M) complex, world frame [m/s]
    yaw_rate: Tensor  # (B, M) [rad/s]
    context: SceneContext
    latent_noise: Tensor | None = None  # (B, M, D) random numbers that say what traffic is up to; None: nobody asks
    attention: Tensor | None = (
        None  # (B, M, 2) how likely each mover is believed to see the robot now, and usually; None: as it looks
    )

    def expand(self, batch: int) -> "PlanarState":
        """One scene, `batch` times; the surroundings are shared."""
        sees = None if self.attention is None else self.attention.expand(batch, -1, -1)
        return replace(self, attention=sees, **{name: getattr(self, name).expand(batch, -1) for name in MOTION_FIELDS})


def make_example_state(
    num_dynamic: int, num_static: int, footprint_size: int = 1, other_kind: Kind = Kind.LOAD, action_size: int = 2
) -> PlanarState:
    """Some state of a robot and others of one kind, where only sizes matter."""
    zero, one = torch.zeros(1, num_dynamic), torch.ones(1, num_dynamic, dtype=torch.complex64)
    columns = torch.tensor([DYNAMIC_KINDS.index(kind) for kind in [Kind.ROBOT, *[other_kind] * (num_dynamic - 1)]])
    around = SceneContext(
        core_half=torch.zeros(1, num_dynamic, footprint_size, 2),
        core_centre=torch.zeros(1, num_dynamic, footprint_size, dtype=torch.complex64),
        rounding=zero,
        kind=one_hot(columns, len(DYNAMIC_KINDS))[None].float(),
        present=torch.ones(1, num_dynamic),
        height=zero,
        half_extents=torch.zeros(1, num_dynamic, 3),
        static_centre=torch.zeros(1, num_static, dtype=torch.complex64),
        static_heading=torch.ones(1, num_static, dtype=torch.complex64),
        static_half=torch.zeros(1, num_static, 2),
        static_present=torch.ones(1, num_static),
        command_matrix=torch.ones(1, 3, action_size),
        unit=torch.ones(1),
    )
    return PlanarState(0 * one, one, 0 * one, zero, around)


def build_scene_context(parts: Mapping[str, np.ndarray], dynamic: np.ndarray, statics: np.ndarray) -> SceneContext:
    """From batched observation arrays (E, N, ...) and index arrays into N."""

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, np.float32))

    half, pieces = parts["half_extents"], parts["footprints"][:, dynamic]
    round_ = parts["shape"][:, dynamic] == Shape.CYLINDER
    pose = parts["pose"][:, statics]
    return SceneContext(
        core_half=tensor(pieces[..., 2:]),
        core_centre=_to_complex(pieces[..., :2]),
        rounding=tensor(np.where(round_, half[:, dynamic, 0], 0)),
        kind=tensor(np.stack([parts["kind"][:, dynamic] == kind for kind in DYNAMIC_KINDS], -1)),
        present=tensor(parts["present"][:, dynamic]),
        height=tensor(parts["pose"][:, dynamic, 2]),
        half_extents=tensor(half[:, dynamic]),
        static_centre=_to_complex(pose[..., :2]),
        static_heading=quaternion_to_heading(pose[..., 3:]),
        static_half=tensor(half[:, statics, :2]),
        static_present=tensor(parts["present"][:, statics]),
        command_matrix=tensor(parts["action_twist"][:, PLANAR_TWIST]),
        unit=tensor(parts["unit_m"][:, 0]),
    )


def select_nearest_agents(bodies: Bodies) -> np.ndarray:
    """Rows of an observation that a model imagines: all that can move. Where there is no load, the robot and NEAREST others,
    those who will soon be nearest first, made up with rows of what is not there."""
    movers = np.flatnonzero(bodies.is_dynamic)
    if (bodies.kind[movers] == Kind.LOAD).any():
        return movers
    robot, others = movers[0], movers[1:]
    apart = compute_closest_approach(bodies.pose[others, :2] - bodies.pose[robot, :2], bodies.twist[others, :2])
    return np.concatenate([[robot], others[np.argsort(apart)], np.flatnonzero(bodies.present == 0)])[: 1 + NUM_NEAREST_AGENTS]


def compute_closest_approach(offset: Array, velocity: Array, within_s: float = NEAREST_WITHIN_S) -> Array:
    """The least distance (...) [m], within some time, of what is at an offset (..., 2) and keeps its velocity (..., 2)."""
    (x, y), (vx, vy) = split_coordinates(offset), split_coordinates(velocity)
    ahead_s = clamp(-(x * vx + y * vy) / clamp(vx * vx + vy * vy, 1e-9), 0, within_s)
    return get_namespace(x).hypot(x + ahead_s * vx, y + ahead_s * vy)


def encode_observation(observation: Mapping[str, np.ndarray], static_range: float = np.inf) -> PlanarState:
    """What is `minded` of one observation, batch 1; static boxes farther than `reach`, in the scene's unit, from everything that
    moves are left out."""
    bodies = Bodies.from_observation(observation)
    movers, statics = select_nearest_agents(bodies), np.flatnonzero(bodies.is_static)
    if np.isfinite(static_range):
        there = movers[bodies.present[movers] > 0]
        apart = np.linalg.norm(bodies.pose[statics, None, :2] - bodies.pose[None, there, :2], axis=-1).min(-1)
        radius = np.linalg.norm(bodies.half_extents[statics, :2], axis=-1)
        statics = statics[apart - radius < static_range * observation["unit_m"][0]]
        if len(statics) > MAX_STATIC_BOXES:
            xy, pose = bodies.pose[there, :2], bodies.pose[statics, None]
            closest = find_closest_points(xy, pose[..., :2], compute_yaw(pose[..., 3:]), bodies.half_extents[statics, None, :2])
            distance = np.linalg.norm(closest - xy, axis=-1).min(-1)
            statics = np.sort(statics[np.argsort(distance, kind="stable")[:MAX_STATIC_BOXES]])
    parts = {name: np.asarray(values)[None] for name, values in observation.items()}
    return PlanarState(**make_motion(parts["pose"][:, movers], parts["twist"][:, movers]),
                       context=build_scene_context(parts, movers, statics))  # fmt: skip


def compute_command(state: PlanarState, actions: Tensor) -> Tensor:
    """The speeds (B, H, 3) that actions (B, H, A) ask for, in the robot's frame: forward, to the left [m/s], turning [rad/s]."""
    return (state.context.command_matrix[:, None] * actions[:, :, None]).sum(-1)


def make_motion(pose: np.ndarray, twist: np.ndarray) -> dict[str, Tensor]:
    return {
        "position": _to_complex(pose[..., :2]),
        "heading": quaternion_to_heading(pose[..., 3:]),
        "velocity": _to_complex(twist[..., :2]),
        "yaw_rate": torch.as_tensor(np.ascontiguousarray(twist[..., 5], np.float32)),
    }


def _to_complex(xy: np.ndarray) -> Tensor:
    x, y = torch.as_tensor(np.ascontiguousarray(xy, np.float32)).unbind(-1)
    return torch.complex(x, y)


def quaternion_to_heading(quaternion: np.ndarray) -> Tensor:
    """(..., 4) xyzw -> (...) complex e^(i yaw)."""
    x, y, z, w = np.moveaxis(np.asarray(quaternion, np.float64), -1, 0)
    angle = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return _to_complex(np.stack([np.cos(angle), np.sin(angle)], -1))


def decode_bodies(states: list[PlanarState]) -> Bodies:
    """H states of B scenes as Bodies (B, H, M, ...)."""
    position, heading, velocity = (
        torch.stack([getattr(state, name) for state in states], 1) for name in ("position", "heading", "velocity")
    )
    spin = torch.stack([state.yaw_rate for state in states], 1)
    around = states[0].context
    shape = position.shape
    zero = torch.zeros((*shape, 3))
    return Bodies(
        pose=torch.cat(
            [torch.view_as_real(position), around.height[:, None, :, None].expand(*shape, 1), yaw_to_quaternion(heading.angle())],
            -1,
        ),
        twist=torch.cat([torch.view_as_real(velocity), zero, spin[..., None]], -1),
        half_extents=around.half_extents[:, None].expand(*shape, 3),
        kind=_get_kinds(around.kind.device)[around.kind.argmax(-1)][:, None].expand(shape),
        shape=(around.rounding > 0).long()[:, None].expand(shape),
        present=around.present[:, None].expand(shape),
    )


@lru_cache
def _get_kinds(device: torch.device) -> Tensor:
    """Copied to a GPU once: no recording of what runs there may hold a copy."""
    return torch.tensor(DYNAMIC_KINDS, device=device)


def decode_all_bodies(state: PlanarState) -> Bodies:
    """Movers and static boxes of B scenes as Bodies (B, M + S, ...)."""
    movers, around, batch = decode_bodies([state]), state.context, len(state.yaw_rate)
    count = around.static_half.shape[1]
    zero = torch.zeros(batch, count, 6)
    centre, heading = (
        torch.view_as_real(values).expand(batch, -1, -1) for values in (around.static_centre, around.static_heading)
    )
    pose = torch.cat([centre, zero[..., :1], yaw_to_quaternion(torch.atan2(heading[..., 1], heading[..., 0]))], -1)
    half = torch.cat([around.static_half, torch.zeros_like(around.static_half[..., :1])], -1).expand(batch, -1, -1)
    static = Bodies(
        pose=pose,
        twist=zero,
        half_extents=half,
        kind=torch.full((batch, count), int(Kind.RACK)),
        shape=torch.zeros(batch, count, dtype=torch.long),
        present=around.static_present.expand(batch, -1),
    )
    return Bodies(
        **{field.name: torch.cat([getattr(movers, field.name)[:, 0], getattr(static, field.name)], 1) for field in fields(Bodies)}
    )


def decode_footprints(state: PlanarState) -> Tensor:
    """(B, M, P, 4) x, y and half extents of the boxes that each mover is made of, as in an observation."""
    around = state.context
    pieces = torch.cat([torch.view_as_real(around.core_centre), around.core_half], -1)
    return pieces.expand(len(state.yaw_rate), *pieces.shape[1:])


def repeat_batch(state: PlanarState, times: int) -> PlanarState:
    """The whole batch `times` over, block after block, with its surroundings."""
    return _join_states([state] * times, torch.cat)


def repeat_scenes(state: PlanarState, times: int) -> PlanarState:
    """Every scene of a batch `times` in a row, with its surroundings."""
    return _join_states([state], lambda values: values[0].repeat_interleave(times, 0))


def stack_scenes(scenes: Sequence[PlanarState]) -> PlanarState:
    """Single scenes as one batch, with as many bodies as the fullest of them; what others lack is not present."""

    def padded(values: list[Tensor]) -> Tensor:
        return pad_sequence([one[0] for one in values], batch_first=True) if values[0].ndim > 1 else torch.cat(values)

    return _join_states(scenes, padded) if len(scenes) > 1 else scenes[0]


def _join_states(states: Sequence[PlanarState], join: Callable[[list[Tensor]], Tensor]) -> PlanarState:
    """One state of several, array by array."""

    def arrays(parts: Sequence[Any], names: Iterable[str]) -> dict[str, Tensor]:
        return {name: join([getattr(part, name) for part in parts]) for name in names}

    around = [state.context for state in states]
    kinds = around[0].kinds if all(one.kinds == around[0].kinds for one in around) else None
    joined = SceneContext(**arrays(around, around[0].list_tensors()), kinds=kinds)
    believed = [state.attention for state in states if state.attention is not None]
    sees = join(believed) if len(believed) == len(states) else None
    return PlanarState(**arrays(states, MOTION_FIELDS), context=joined, attention=sees)


def average_particles(state: PlanarState, particles: int) -> PlanarState:
    """The average over `particles` blocks of a batch; positions and headings as complex means."""
    if particles == 1:
        return state
    motion = {name: getattr(state, name).unflatten(0, (particles, -1)).mean(0) for name in MOTION_FIELDS}
    motion["heading"] = motion["heading"] / motion["heading"].abs().clamp(min=1e-6)
    batch = len(motion["yaw_rate"])
    around = replace(state.context, **{name: values[:batch] for name, values in state.context.list_tensors().items()})
    return PlanarState(**motion, context=around)


def find_moved_bodies(before: PlanarState, after: PlanarState) -> Tensor:
    """Find the bodies (W, M) bool, other than the robot, that moved by at least MOVED_DISTANCE."""
    moved = ((after.position - before.position).abs() > MOVED_DISTANCE * after.context.unit[:, None]) & (
        after.context.present > 0
    )
    moved[:, 0] = False
    return moved
