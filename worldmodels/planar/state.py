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
from sim.bodies import TRAFFIC, Bodies, Kind, Shape
from sim.geometry.arrays import Array, clamp, coordinates, namespace
from sim.geometry.rotations import quaternion_of

KINDS = (Kind.ROBOT, Kind.LOAD, *TRAFFIC)  # of movers, by column of Surroundings.kind
MOTION = ("position", "heading", "velocity", "spin")  # of a PlanarState
NEAREST = 5  # others that a robot without a load minds: traffic may be any number
SOON_S = 1.5  # nearest within so long: who comes fast from afar matters more than who stands nearby


@dataclass(frozen=True)
class Surroundings:
    """What does not change while time goes on. Leading size E is the batch, or 1 for one scene imagined many times."""

    core: Tensor  # (E, M, P, 2) half extents of each mover's boxes; zero for a cylinder, and for boxes that are not there [m]
    place: Tensor  # (E, M, P) complex centres of those boxes in the mover's frame [m]
    rounding: Tensor  # (E, M) radius around the boxes; zero for boxes [m]
    kind: Tensor  # (E, M, len(KINDS)) one-hot
    present: Tensor  # (E, M) 1 or 0
    height: Tensor  # (E, M) of the centre [m]
    half_extents: Tensor  # (E, M, 3) [m]
    static_centre: Tensor  # (E, S) complex [m]
    static_heading: Tensor  # (E, S) complex
    static_half: Tensor  # (E, S, 2) [m]
    static_present: Tensor  # (E, S)
    limits: Tensor  # (E, 3, A) speeds forward, to the left and turning that each number of an action asks for [m/s, rad/s]
    unit: Tensor  # (E,) typical length of the scene [m]
    kinds: frozenset[Kind] | None = None  # of movers, that a data set has; None: whoever asks has to look

    def arrays(self) -> dict[str, Any]:
        """All but `kinds`, each of leading size E."""
        return {name: values for name, values in vars(self).items() if isinstance(values, Tensor)}

    def has(self, *kinds: Kind) -> bool:
        """Whether a mover of one of these kinds may be there. To look makes a GPU wait."""
        if self.kinds is not None:
            return not self.kinds.isdisjoint(kinds)
        columns = [KINDS.index(kind) for kind in kinds]
        return bool((self.kind[..., columns].sum(-1) * self.present).any())

    @property
    def traffic(self) -> Tensor:
        """(E, M) which movers have a will of their own."""
        return self.kind[..., -len(TRAFFIC) :].sum(-1) * self.present

    def of_movers(self, pick: Callable[[Tensor], Tensor]) -> "Surroundings":
        """The same with `pick` applied to everything that is said of movers."""
        names = ("core", "place", "rounding", "kind", "present", "height", "half_extents")
        return replace(self, **{name: pick(getattr(self, name)) for name in names}, kinds=None)


@dataclass(frozen=True)
class PlanarState:
    """B scenes of M movers, the robot first."""

    position: Tensor  # (B, M) complex [m]
    heading: Tensor  # (B, M) complex, unit
    velocity: Tensor  # (B, M) complex, world frame [m/s]
    spin: Tensor  # (B, M) [rad/s]
    around: Surroundings
    whim: Tensor | None = None  # (B, M, D) random numbers that say what traffic is up to; None: nobody asks
    sees: Tensor | None = None  # (B, M, 2) how likely each mover is believed to see the robot now, and usually; None: as it looks

    def expand(self, batch: int) -> "PlanarState":
        """One scene, `batch` times; the surroundings are shared."""
        sees = None if self.sees is None else self.sees.expand(batch, -1, -1)
        return replace(self, sees=sees, **{name: getattr(self, name).expand(batch, -1) for name in MOTION})


def still(movers: int, boxes: int, pieces: int = 1, others: Kind = Kind.LOAD, actions: int = 2) -> PlanarState:
    """Some state of a robot and others of one kind, where only sizes matter."""
    zero, one = torch.zeros(1, movers), torch.ones(1, movers, dtype=torch.complex64)
    columns = torch.tensor([KINDS.index(kind) for kind in [Kind.ROBOT, *[others] * (movers - 1)]])
    around = Surroundings(
        core=torch.zeros(1, movers, pieces, 2),
        place=torch.zeros(1, movers, pieces, dtype=torch.complex64),
        rounding=zero,
        kind=one_hot(columns, len(KINDS))[None].float(),
        present=torch.ones(1, movers),
        height=zero,
        half_extents=torch.zeros(1, movers, 3),
        static_centre=torch.zeros(1, boxes, dtype=torch.complex64),
        static_heading=torch.ones(1, boxes, dtype=torch.complex64),
        static_half=torch.zeros(1, boxes, 2),
        static_present=torch.ones(1, boxes),
        limits=torch.ones(1, 3, actions),
        unit=torch.ones(1),
    )
    return PlanarState(0 * one, one, 0 * one, zero, around)


def surroundings_of(parts: Mapping[str, np.ndarray], movers: np.ndarray, statics: np.ndarray) -> Surroundings:
    """From batched observation arrays (E, N, ...) and index arrays into N."""

    def tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, np.float32))

    half, pieces = parts["half_extents"], parts["pieces"][:, movers]
    round_ = parts["shape"][:, movers] == Shape.CYLINDER
    pose = parts["pose"][:, statics]
    return Surroundings(
        core=tensor(pieces[..., 2:]),
        place=_complex(pieces[..., :2]),
        rounding=tensor(np.where(round_, half[:, movers, 0], 0)),
        kind=tensor(np.stack([parts["kind"][:, movers] == kind for kind in KINDS], -1)),
        present=tensor(parts["present"][:, movers]),
        height=tensor(parts["pose"][:, movers, 2]),
        half_extents=tensor(half[:, movers]),
        static_centre=_complex(pose[..., :2]),
        static_heading=heading_of(pose[..., 3:]),
        static_half=tensor(half[:, statics, :2]),
        static_present=tensor(parts["present"][:, statics]),
        limits=tensor(parts["action_twist"][:, PLANAR_TWIST]),
        unit=tensor(parts["unit_m"][:, 0]),
    )


def minded(bodies: Bodies) -> np.ndarray:
    """Rows of an observation that a model imagines: all that can move. Where there is no load, the robot and NEAREST others,
    those who will soon be nearest first, made up with rows of what is not there."""
    movers = np.flatnonzero(bodies.dynamic)
    if (bodies.kind[movers] == Kind.LOAD).any():
        return movers
    robot, others = movers[0], movers[1:]
    apart = soon_apart(bodies.pose[others, :2] - bodies.pose[robot, :2], bodies.twist[others, :2])
    return np.concatenate([[robot], others[np.argsort(apart)], np.flatnonzero(bodies.present == 0)])[: 1 + NEAREST]


def soon_apart(offset: Array, velocity: Array, within_s: float = SOON_S) -> Array:
    """The least distance (...) [m], within some time, of what is at an offset (..., 2) and keeps its velocity (..., 2)."""
    (x, y), (vx, vy) = coordinates(offset), coordinates(velocity)
    ahead_s = clamp(-(x * vx + y * vy) / clamp(vx * vx + vy * vy, 1e-9), 0, within_s)
    return namespace(x).hypot(x + ahead_s * vx, y + ahead_s * vy)


def state_of(observation: Mapping[str, np.ndarray], reach: float = np.inf) -> PlanarState:
    """What is `minded` of one observation, batch 1; static boxes farther than `reach`, in the scene's unit, from everything that
    moves are left out."""
    bodies = Bodies.of(observation)
    movers, statics = minded(bodies), np.flatnonzero(bodies.static)
    if np.isfinite(reach):
        there = movers[bodies.present[movers] > 0]
        apart = np.linalg.norm(bodies.pose[statics, None, :2] - bodies.pose[None, there, :2], axis=-1).min(-1)
        radius = np.linalg.norm(bodies.half_extents[statics, :2], axis=-1)
        statics = statics[apart - radius < reach * observation["unit_m"][0]]
    parts = {name: np.asarray(values)[None] for name, values in observation.items()}
    return PlanarState(**motion_of(parts["pose"][:, movers], parts["twist"][:, movers]),
                       around=surroundings_of(parts, movers, statics))  # fmt: skip


def commanded(state: PlanarState, actions: Tensor) -> Tensor:
    """The speeds (B, H, 3) that actions (B, H, A) ask for, in the robot's frame: forward, to the left [m/s], turning [rad/s]."""
    return (state.around.limits[:, None] * actions[:, :, None]).sum(-1)


def motion_of(pose: np.ndarray, twist: np.ndarray) -> dict[str, Tensor]:
    return {
        "position": _complex(pose[..., :2]),
        "heading": heading_of(pose[..., 3:]),
        "velocity": _complex(twist[..., :2]),
        "spin": torch.as_tensor(np.ascontiguousarray(twist[..., 5], np.float32)),
    }


def _complex(xy: np.ndarray) -> Tensor:
    x, y = torch.as_tensor(np.ascontiguousarray(xy, np.float32)).unbind(-1)
    return torch.complex(x, y)


def heading_of(quaternion: np.ndarray) -> Tensor:
    """(..., 4) xyzw -> (...) complex e^(i yaw)."""
    x, y, z, w = np.moveaxis(np.asarray(quaternion, np.float64), -1, 0)
    angle = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return _complex(np.stack([np.cos(angle), np.sin(angle)], -1))


def bodies_of(states: list[PlanarState]) -> Bodies:
    """H states of B scenes as Bodies (B, H, M, ...)."""
    position, heading, velocity = (
        torch.stack([getattr(state, name) for state in states], 1) for name in ("position", "heading", "velocity")
    )
    spin = torch.stack([state.spin for state in states], 1)
    around = states[0].around
    shape = position.shape
    zero = torch.zeros((*shape, 3))
    return Bodies(
        pose=torch.cat(
            [torch.view_as_real(position), around.height[:, None, :, None].expand(*shape, 1), quaternion_of(heading.angle())], -1
        ),
        twist=torch.cat([torch.view_as_real(velocity), zero, spin[..., None]], -1),
        half_extents=around.half_extents[:, None].expand(*shape, 3),
        kind=_kinds_on(around.kind.device)[around.kind.argmax(-1)][:, None].expand(shape),
        shape=(around.rounding > 0).long()[:, None].expand(shape),
        present=around.present[:, None].expand(shape),
    )


@lru_cache
def _kinds_on(device: torch.device) -> Tensor:
    """Copied to a GPU once: no recording of what runs there may hold a copy."""
    return torch.tensor(KINDS, device=device)


def with_static(state: PlanarState) -> Bodies:
    """Movers and static boxes of B scenes as Bodies (B, M + S, ...)."""
    movers, around, batch = bodies_of([state]), state.around, len(state.spin)
    count = around.static_half.shape[1]
    zero = torch.zeros(batch, count, 6)
    centre, heading = (
        torch.view_as_real(values).expand(batch, -1, -1) for values in (around.static_centre, around.static_heading)
    )
    pose = torch.cat([centre, zero[..., :1], quaternion_of(torch.atan2(heading[..., 1], heading[..., 0]))], -1)
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


def pieces_of(state: PlanarState) -> Tensor:
    """(B, M, P, 4) x, y and half extents of the boxes that each mover is made of, as in an observation."""
    around = state.around
    pieces = torch.cat([torch.view_as_real(around.place), around.core], -1)
    return pieces.expand(len(state.spin), *pieces.shape[1:])


def repeated(state: PlanarState, times: int) -> PlanarState:
    """The whole batch `times` over, block after block, with its surroundings."""
    return _joined([state] * times, torch.cat)


def each(state: PlanarState, times: int) -> PlanarState:
    """Every scene of a batch `times` in a row, with its surroundings."""
    return _joined([state], lambda values: values[0].repeat_interleave(times, 0))


def stacked(scenes: Sequence[PlanarState]) -> PlanarState:
    """Single scenes as one batch, with as many bodies as the fullest of them; what others lack is not present."""

    def padded(values: list[Tensor]) -> Tensor:
        return pad_sequence([one[0] for one in values], batch_first=True) if values[0].ndim > 1 else torch.cat(values)

    return _joined(scenes, padded) if len(scenes) > 1 else scenes[0]


def _joined(states: Sequence[PlanarState], join: Callable[[list[Tensor]], Tensor]) -> PlanarState:
    """One state of several, array by array."""

    def arrays(parts: Sequence[Any], names: Iterable[str]) -> dict[str, Tensor]:
        return {name: join([getattr(part, name) for part in parts]) for name in names}

    around = [state.around for state in states]
    kinds = around[0].kinds if all(one.kinds == around[0].kinds for one in around) else None
    joined = Surroundings(**arrays(around, around[0].arrays()), kinds=kinds)
    believed = [state.sees for state in states if state.sees is not None]
    sees = join(believed) if len(believed) == len(states) else None
    return PlanarState(**arrays(states, MOTION), around=joined, sees=sees)


def mean_of(state: PlanarState, particles: int) -> PlanarState:
    """The average over `particles` blocks of a batch; positions and headings as complex means."""
    if particles == 1:
        return state
    motion = {name: getattr(state, name).unflatten(0, (particles, -1)).mean(0) for name in MOTION}
    motion["heading"] = motion["heading"] / motion["heading"].abs().clamp(min=1e-6)
    batch = len(motion["spin"])
    around = replace(state.around, **{name: values[:batch] for name, values in state.around.arrays().items()})
    return PlanarState(**motion, around=around)
