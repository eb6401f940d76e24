"""Upright bodies on a floor as complex numbers: position and velocity x + iy, heading e^(i yaw).

A rotation of a frame is one multiplication. Models become short, exactly equivariant, and fast: in
the small batches of a planner, the number of tensor operations determines the time. Height, roll
and pitch stay constant.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sim.actions import PLANAR_TWIST
from sim.bodies import TRAFFIC_KINDS, Bodies, Kind, Shape
from sim.geometry.arrays import Array, clamp, get_namespace, split_coordinates
from sim.geometry.boxes import find_closest_points
from sim.geometry.rotations import compute_yaw, yaw_to_quaternion

DYNAMIC_KINDS = (Kind.ROBOT, Kind.LOAD, *TRAFFIC_KINDS)  # by column of SceneContext.kind
MOTION_FIELDS = ("position", "heading", "velocity", "yaw_rate")  # of a PlanarState
NUM_NEAREST_AGENTS = 5  # agents in a state, of any number in the scene
MIN_MOVED_DISTANCE = 0.1  # [units] of bodies that count as moved
MAX_STATIC_BOXES = 16  # the nearest static boxes, for models of limited range
NEAREST_WITHIN_S = 1.5  # time horizon of the closest approach by which agents are ranked


@dataclass(frozen=True)
class SceneContext:
    """Constants of a scene. E is the batch, or 1 for one scene with many candidates.

    M counts dynamic bodies, P the collision boxes of each, S static boxes, A the numbers of an
    action.
    """

    core_half: Tensor  # (E, M, P, 2) half extents of boxes [m]; 0 for cylinders and absent boxes
    core_centre: Tensor  # (E, M, P) complex centres of those boxes in the body's frame [m]
    rounding: Tensor  # (E, M) radius around the boxes [m]; 0 unless the body is a cylinder
    kind: Tensor  # (E, M, len(DYNAMIC_KINDS)) one-hot
    present: Tensor  # (E, M) 1 or 0
    height: Tensor  # (E, M) of the centre [m]
    half_extents: Tensor  # (E, M, 3) [m]
    static_centre: Tensor  # (E, S) complex [m]
    static_heading: Tensor  # (E, S) complex
    static_half: Tensor  # (E, S, 2) [m]
    static_present: Tensor  # (E, S)
    command_matrix: Tensor  # (E, 3, A) forward, left [m/s] and yaw rate [rad/s] of each number at 1
    unit: Tensor  # (E,) typical length of the scene [m]
    kinds: frozenset[Kind] | None = None  # of present dynamic bodies; None: not known in advance

    def list_tensors(self) -> dict[str, Any]:
        """List all fields but `kinds`, each of leading size E."""
        return {name: values for name, values in vars(self).items() if isinstance(values, Tensor)}

    def has_kind(self, *kinds: Kind) -> bool:
        """Check if a body of these kinds may be present; waits for a GPU if `kinds` is unknown."""
        if self.kinds is not None:
            return not self.kinds.isdisjoint(kinds)
        columns = [DYNAMIC_KINDS.index(kind) for kind in kinds]
        return bool((self.kind[..., columns].sum(-1) * self.present).any())

    @property
    def is_agent(self) -> Tensor:
        """Agents (E, M): 1 for present people and vehicles, else 0."""
        return self.kind[..., -len(TRAFFIC_KINDS) :].sum(-1) * self.present

    def map_dynamic(self, change: Callable[[Tensor], Tensor]) -> "SceneContext":
        """Apply a function to all fields of dynamic bodies.

        Args:
            change: maps (E, M, ...) to (E, N, ...).

        Returns:
            Context of N dynamic bodies.
        """
        names = ("core_half", "core_centre", "rounding", "kind", "present", "height", "half_extents")
        return replace(self, **{name: change(getattr(self, name)) for name in names}, kinds=None)


@dataclass(frozen=True)
class PlanarState:
    """B scenes of M dynamic bodies, the robot first."""

    position: Tensor  # (B, M) complex [m]
    heading: Tensor  # (B, M) complex, unit length
    velocity: Tensor  # (B, M) complex, world frame [m/s]
    yaw_rate: Tensor  # (B, M) [rad/s]
    context: SceneContext
    latent_noise: Tensor | None = None  # (B, M, D) hidden state of agents; None: nothing is hidden
    attention: Tensor | None = None  # (B, M, 2) probability now, and prior; None: predicted

    @property
    def unit_m(self) -> Tensor:
        """(E,) typical length of the scene [m]."""
        return self.context.unit

    def decode_dynamic(self) -> Bodies:
        """Decode the dynamic bodies (B, M, ...)."""
        return decode_bodies([self]).map(lambda values: values[:, 0])

    def expand(self, batch: int) -> "PlanarState":
        """Expand one scene to a batch; the context is shared."""
        attention = None if self.attention is None else self.attention.expand(batch, -1, -1)
        return replace(self, attention=attention, **{name: getattr(self, name).expand(batch, -1) for name in MOTION_FIELDS})


def make_example_state(
    num_dynamic: int, num_static: int, footprint_size: int = 1, other_kind: Kind = Kind.LOAD, action_size: int = 2
) -> PlanarState:
    """Make a state of a robot and other bodies of one kind, for compilation: only sizes matter."""
    total = num_dynamic + num_static
    sizes = {"pose": (total, 7), "half_extents": (total, 3), "footprints": (total, footprint_size, 4), "shape": (total,)}
    parts = {name: np.zeros((1, *size)) for name, size in sizes.items()}
    parts |= {"present": np.ones((1, total)), "action_twist": np.ones((1, 6, action_size)), "unit_m": np.ones((1, 1))}
    parts["kind"] = np.array([[Kind.ROBOT, *[other_kind] * (total - 1)]])
    context = build_scene_context(parts, np.arange(num_dynamic), np.arange(num_dynamic, total))
    return PlanarState(**make_motion(parts["pose"][:, :num_dynamic], np.zeros((1, num_dynamic, 6))), context=context)


def build_scene_context(parts: Mapping[str, np.ndarray], dynamic: np.ndarray, statics: np.ndarray) -> SceneContext:
    """Build the context of scenes from batched observations.

    Args:
        parts: arrays (E, N, ...) of observations of N bodies.
        dynamic: (M,) rows of dynamic bodies.
        statics: (S,) rows of static boxes.

    Returns:
        Context of E scenes.
    """

    def make_tensor(values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.ascontiguousarray(values, np.float32))

    half = parts["half_extents"]
    footprints = parts["footprints"][:, dynamic]
    is_cylinder = parts["shape"][:, dynamic] == Shape.CYLINDER
    pose = parts["pose"][:, statics]
    return SceneContext(
        core_half=make_tensor(footprints[..., 2:]),
        core_centre=_make_complex(footprints[..., :2]),
        rounding=make_tensor(np.where(is_cylinder, half[:, dynamic, 0], 0)),
        kind=make_tensor(np.stack([parts["kind"][:, dynamic] == kind for kind in DYNAMIC_KINDS], -1)),
        present=make_tensor(parts["present"][:, dynamic]),
        height=make_tensor(parts["pose"][:, dynamic, 2]),
        half_extents=make_tensor(half[:, dynamic]),
        static_centre=_make_complex(pose[..., :2]),
        static_heading=_compute_heading(pose[..., 3:]),
        static_half=make_tensor(half[:, statics, :2]),
        static_present=make_tensor(parts["present"][:, statics]),
        command_matrix=make_tensor(parts["action_twist"][:, PLANAR_TWIST]),
        unit=make_tensor(parts["unit_m"][:, 0]),
    )


def select_nearest_agents(bodies: Bodies) -> np.ndarray:
    """Select the bodies of an observation that a model predicts.

    Returns:
        (M,) rows: all dynamic bodies where a load is among them. Otherwise the robot and the
        NUM_NEAREST_AGENTS agents of closest approach, filled up with rows of absent bodies.
    """
    dynamic = np.flatnonzero(bodies.is_dynamic)
    if (bodies.kind[dynamic] == Kind.LOAD).any():
        return dynamic
    robot, agents = np.split(dynamic, [1])
    distance = compute_closest_approach(bodies.pose[agents, :2] - bodies.pose[robot, :2], bodies.twist[agents, :2])
    return np.concatenate([robot, agents[np.argsort(distance)], np.flatnonzero(bodies.present == 0)])[: 1 + NUM_NEAREST_AGENTS]


def compute_closest_approach(offset: Array, velocity: Array, within_s: float = NEAREST_WITHIN_S) -> Array:
    """Compute the least distance within a time horizon, at constant velocity.

    Args:
        offset: (..., 2) [m].
        velocity: (..., 2) [m/s].
        within_s: time horizon [s].

    Returns:
        (...) distance [m].
    """
    x, y = split_coordinates(offset)
    vx, vy = split_coordinates(velocity)
    ahead_s = clamp(-(x * vx + y * vy) / clamp(vx * vx + vy * vy, 1e-9), 0, within_s)
    return get_namespace(x).hypot(x + ahead_s * vx, y + ahead_s * vy)


def encode_observation(observation: Mapping[str, np.ndarray], static_range: float = np.inf) -> PlanarState:
    """Encode the bodies of one observation that a model predicts, and the static boxes near them.

    Args:
        observation: observation of GroundEnv.
        static_range: [units] static boxes farther from all dynamic bodies are left out.

    Returns:
        State of one scene.
    """
    bodies = Bodies.from_observation(observation)
    dynamic = select_nearest_agents(bodies)
    statics = np.flatnonzero(bodies.is_static)
    if np.isfinite(static_range):
        xy = bodies.pose[dynamic[bodies.present[dynamic] > 0], :2]
        distance = np.linalg.norm(bodies.pose[statics, None, :2] - xy, axis=-1).min(-1)
        radius = np.linalg.norm(bodies.half_extents[statics, :2], axis=-1)
        statics = statics[distance - radius < static_range * observation["unit_m"][0]]
        if len(statics) > MAX_STATIC_BOXES:
            pose = bodies.pose[statics, None]
            closest = find_closest_points(xy, pose[..., :2], compute_yaw(pose[..., 3:]), bodies.half_extents[statics, None, :2])
            distance = np.linalg.norm(closest - xy, axis=-1).min(-1)
            statics = np.sort(statics[np.argsort(distance, kind="stable")[:MAX_STATIC_BOXES]])
    parts = {name: np.asarray(values)[None] for name, values in observation.items()}
    motion = make_motion(parts["pose"][:, dynamic], parts["twist"][:, dynamic])
    return PlanarState(**motion, context=build_scene_context(parts, dynamic, statics))


def compute_command(state: PlanarState, actions: Tensor) -> Tensor:
    """Compute the velocities that actions command.

    Args:
        state: B scenes, or 1.
        actions: (B, H, A) in [-1, 1].

    Returns:
        (B, H, 3) forward, to the left [m/s], yaw rate [rad/s], in the robot's frame.
    """
    return (state.context.command_matrix[:, None] * actions[:, :, None]).sum(-1)


def make_motion(pose: np.ndarray, twist: np.ndarray) -> dict[str, Tensor]:
    """Make the motion fields of a PlanarState.

    Args:
        pose: (..., 7) position [m] and quaternion xyzw.
        twist: (..., 6) [m/s, rad/s].

    Returns:
        MOTION_FIELDS, each (...).
    """
    return {
        "position": _make_complex(pose[..., :2]),
        "heading": _compute_heading(pose[..., 3:]),
        "velocity": _make_complex(twist[..., :2]),
        "yaw_rate": torch.as_tensor(np.ascontiguousarray(twist[..., 5], np.float32)),
    }


def _make_complex(xy: np.ndarray) -> Tensor:
    x, y = torch.as_tensor(np.ascontiguousarray(xy, np.float32)).unbind(-1)
    return torch.complex(x, y)


def _compute_heading(quaternion: np.ndarray) -> Tensor:
    """Compute complex headings (...) of quaternions xyzw (..., 4)."""
    x, y, z, w = np.moveaxis(np.asarray(quaternion, np.float64), -1, 0)
    angle = np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
    return _make_complex(np.stack([np.cos(angle), np.sin(angle)], -1))


def decode_bodies(states: list[PlanarState]) -> Bodies:
    """Decode the dynamic bodies of H states of B scenes as Bodies (B, H, M, ...)."""
    position, heading, velocity, yaw_rate = (torch.stack([getattr(state, name) for state in states], 1) for name in MOTION_FIELDS)
    context = states[0].context
    shape = position.shape
    zero = torch.zeros((*shape, 3))
    height = context.height[:, None, :, None].expand(*shape, 1)
    return Bodies(
        pose=torch.cat([torch.view_as_real(position), height, yaw_to_quaternion(heading.angle())], -1),
        twist=torch.cat([torch.view_as_real(velocity), zero, yaw_rate[..., None]], -1),
        half_extents=context.half_extents[:, None].expand(*shape, 3),
        kind=_get_kinds(context.kind.device)[context.kind.argmax(-1)][:, None].expand(shape),
        shape=(context.rounding > 0).long()[:, None].expand(shape),
        present=context.present[:, None].expand(shape),
    )


@lru_cache
def _get_kinds(device: torch.device) -> Tensor:
    """Return DYNAMIC_KINDS on a device. A CUDA graph must not record the copy to it."""
    return torch.tensor(DYNAMIC_KINDS, device=device)


def decode_all_bodies(state: PlanarState) -> Bodies:
    """Decode the dynamic bodies and static boxes of B scenes as Bodies (B, M + S, ...)."""
    dynamic = decode_bodies([state])
    context = state.context
    batch = len(state.yaw_rate)
    count = context.static_half.shape[1]
    zero = torch.zeros(batch, count, 6)
    columns = (context.static_centre, context.static_heading)
    centre, heading = (torch.view_as_real(values).expand(batch, -1, -1) for values in columns)
    static = Bodies(
        pose=torch.cat([centre, zero[..., :1], yaw_to_quaternion(torch.atan2(heading[..., 1], heading[..., 0]))], -1),
        twist=zero,
        half_extents=torch.cat([context.static_half, torch.zeros_like(context.static_half[..., :1])], -1).expand(batch, -1, -1),
        kind=torch.full((batch, count), int(Kind.RACK)),
        shape=torch.zeros(batch, count, dtype=torch.long),
        present=context.static_present.expand(batch, -1),
    )
    names = [field.name for field in fields(Bodies)]
    return Bodies(**{name: torch.cat([getattr(dynamic, name)[:, 0], getattr(static, name)], 1) for name in names})


def decode_footprints(state: PlanarState) -> Tensor:
    """Decode the collision boxes of dynamic bodies as in an observation.

    Returns:
        (B, M, P, 4) centre x, y and half extents in the body's frame [m].
    """
    context = state.context
    footprints = torch.cat([torch.view_as_real(context.core_centre), context.core_half], -1)
    return footprints.expand(len(state.yaw_rate), *footprints.shape[1:])


def repeat_batch(state: PlanarState, times: int) -> PlanarState:
    """Repeat the whole batch, block after block, with its context."""
    return _join_states([state] * times, torch.cat)


def repeat_scenes(state: PlanarState, times: int) -> PlanarState:
    """Repeat every scene of a batch in a row, with its context."""
    return _join_states([state], lambda values: values[0].repeat_interleave(times, 0))


def stack_scenes(scenes: Sequence[PlanarState]) -> PlanarState:
    """Stack single scenes to a batch, padded with absent bodies to the largest scene."""

    def pad(values: list[Tensor]) -> Tensor:
        return pad_sequence([scene[0] for scene in values], batch_first=True) if values[0].ndim > 1 else torch.cat(values)

    return _join_states(scenes, pad) if len(scenes) > 1 else scenes[0]


def _join_states(states: Sequence[PlanarState], join: Callable[[list[Tensor]], Tensor]) -> PlanarState:
    """Join states tensor by tensor."""

    def join_fields(parts: Sequence[Any], names: Iterable[str]) -> dict[str, Tensor]:
        return {name: join([getattr(part, name) for part in parts]) for name in names}

    contexts = [state.context for state in states]
    kinds = contexts[0].kinds if all(context.kinds == contexts[0].kinds for context in contexts) else None
    joined = SceneContext(**join_fields(contexts, contexts[0].list_tensors()), kinds=kinds)
    beliefs = [state.attention for state in states if state.attention is not None]
    attention = join(beliefs) if len(beliefs) == len(states) else None
    return PlanarState(**join_fields(states, MOTION_FIELDS), context=joined, attention=attention)


def average_particles(state: PlanarState, particles: int) -> PlanarState:
    """Average a batch of equal blocks over the particles; headings by their direction."""
    if particles == 1:
        return state
    motion = {name: getattr(state, name).unflatten(0, (particles, -1)).mean(0) for name in MOTION_FIELDS}
    motion["heading"] = motion["heading"] / motion["heading"].abs().clamp(min=1e-6)
    batch = len(motion["yaw_rate"])
    context = replace(state.context, **{name: values[:batch] for name, values in state.context.list_tensors().items()})
    return PlanarState(**motion, context=context)


def find_moved_bodies(before: PlanarState, after: PlanarState) -> Tensor:
    """Find the bodies, other than the robot, that moved by more than MIN_MOVED_DISTANCE.

    Returns:
        (B, M) bool.
    """
    context = after.context
    moved = ((after.position - before.position).abs() > MIN_MOVED_DISTANCE * context.unit[:, None]) & (context.present > 0)
    moved[:, 0] = False
    return moved
