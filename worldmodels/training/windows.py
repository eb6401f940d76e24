"""Episodes → training windows: everything decoded once into memory, then random windows by indexing."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sim.bodies import Kind
from sim.data.episode import Episode
from sim.geometry.rotations import make_upright_poses
from sim.utils.errors import GroundError
from worldmodels.planar.state import (
    DYNAMIC_KINDS,
    NUM_NEAREST_AGENTS,
    PlanarState,
    SceneContext,
    build_scene_context,
    compute_closest_approach,
    make_motion,
)

ODD_TWIST = [1, 2]  # rows of a planar twist that change their sign in a mirror: left, turn
CYLINDER_KINDS = (Kind.ROBOT, Kind.PERSON)  # what is a cylinder
ENCOUNTER_DISTANCE, ENCOUNTER_S = (
    0.2,
    2.5,
)  # in the scene's units, within which the robot's and somebody's centres pass, unless one gives way
MIN_SPEED = 0.1  # units a second
CONTACT_SHARE = 0.75  # of windows contain the robot touching a load; in the data they are fewer, and they are what is hard


@dataclass(frozen=True)
class Batch:
    """W windows of L steps."""

    state: PlanarState  # before the first action
    actions: Tensor  # (W, L, A)
    targets: list[PlanarState]  # L states that followed


class Windows:
    """All steps of many episodes as a few arrays. `rows` index steps, `episode` maps a row to its surroundings."""

    def __init__(self, episodes: Iterable[Episode]) -> None:
        kept = [episode for episode in episodes if len(episode) > 1]
        if not kept:
            raise GroundError("no episodes to train on")
        self.layout_ids = frozenset(episode.layout.id for episode in kept)
        movers = max(episode.pose.shape[1] for episode in kept)
        pose, twist = (
            np.concatenate([_pad_bodies(getattr(episode, name), movers) for episode in kept]) for name in ("pose", "twist")
        )
        self._motion = make_motion(pose, twist)
        self._action = torch.as_tensor(np.concatenate([_compute_applied_actions(episode) for episode in kept]).astype(np.float32))
        self._context = _build_context(kept, movers)
        lengths = np.array([len(episode) for episode in kept])
        self._episode = torch.as_tensor(np.repeat(np.arange(len(kept)), lengths))
        self._steps_left = np.concatenate([np.arange(n)[::-1] for n in lengths])  # steps that follow in the same episode
        self._touching = np.concatenate([episode.touching & (episode.kind is None) for episode in kept])
        self._has_encounter = np.concatenate([_find_encounters(episode) for episode in kept])
        self.steps = int(lengths.sum())

    @property
    def parts(self) -> "dict[str, Windows]":
        """Windows by scene, as JointWindows has them."""
        return {"": self}

    def compute_max_speeds(self) -> Tensor:
        """(len(KINDS), 2) what 999 in 1,000 stay below of the speeds [units/s] and spins [rad/s] of each kind of mover; 0 where
        there is none. Once in a while physics throws a robot that is run over."""
        around, episode = self._context, self._episode
        speed = self._motion["velocity"].abs() / around.unit[episode, None]
        found = torch.stack([speed, self._motion["yaw_rate"].abs()], -1).cpu().numpy()
        kind = torch.where(around.present > 0, around.kind.argmax(-1), -1)[episode].cpu().numpy()
        rows = [found[kind == column] for column in range(len(DYNAMIC_KINDS))]
        return torch.as_tensor(np.array([np.quantile(row, 0.999, axis=0) if len(row) else (0, 0) for row in rows], np.float32))

    def find_starts(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Rows from which `length` steps follow: all of them, and those with contact within. Among traffic, those that begin with
        a meeting: who chose them by what came of it would make it look likelier than it is."""
        contact = np.concatenate([[0], np.cumsum(self._touching)])
        rows = np.flatnonzero(self._steps_left >= length)
        if not len(rows):
            raise GroundError(f"no episode has {length} steps in a row: collect longer ones or use shorter windows")
        touched = (contact[rows + length + 1] > contact[rows]) | self._has_encounter[rows]
        return rows, rows[touched]

    def sample(self, rng: np.random.Generator, size: int, length: int) -> Batch:
        """Random windows, CONTACT_SHARE of them with contact."""
        rows, touched = self._get_starts(length)
        with_contact = int(size * CONTACT_SHARE) if len(touched) else 0
        picked = [rng.choice(rows, size - with_contact)]
        if with_contact:
            picked.append(rng.choice(touched, with_contact))
        return augment(self.take(np.concatenate(picked), length), rng)

    def _get_starts(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        cached = getattr(self, "_cached_starts", None)
        if cached is None or cached[0] != length:
            cached = (length, self.find_starts(length))
            self._cached_starts = cached
        return cached[1]

    def take(self, rows: np.ndarray, length: int) -> Batch:
        """The windows that begin at given rows."""
        first = torch.as_tensor(rows)
        episode = self._episode[first]
        around = replace(self._context, **{name: values[episode] for name, values in self._context.list_tensors().items()})
        span = first[:, None] + torch.arange(length + 1)
        motion = {name: values[span] for name, values in self._motion.items()}
        states = [
            PlanarState(**{name: values[:, t] for name, values in motion.items()}, context=around) for t in range(length + 1)
        ]
        batch = Batch(states[0], self._action[span[:, :-1]], states[1:])
        return _select_nearest(batch) if states[0].yaw_rate.shape[1] > 1 + NUM_NEAREST_AGENTS else batch


def augment(batch: Batch, rng: np.random.Generator) -> Batch:
    """Physics knows no left and right, and a load's heading may as well be called its opposite: each window is mirrored, and each
    load turned about with its pieces turned back, by the toss of a coin. Four times the data for nothing."""
    size, movers = batch.state.yaw_rate.shape
    mirror = torch.as_tensor(rng.random(size) < 0.5)
    turned = torch.as_tensor(rng.random((size, movers)) < 0.5)
    turned &= batch.state.context.kind[..., DYNAMIC_KINDS.index(Kind.LOAD)] > 0
    facing = 1 - 2 * turned.to(batch.state.yaw_rate.dtype)
    side = 1 - 2 * mirror.to(batch.state.yaw_rate.dtype)

    def flip(values: Tensor) -> Tensor:
        return torch.where(mirror[:, None], values.conj(), values)

    around = batch.state.context
    around = replace(
        around,
        static_centre=flip(around.static_centre),
        static_heading=flip(around.static_heading),
        core_centre=torch.where(mirror[:, None, None], around.core_centre.conj(), around.core_centre) * facing[..., None],
    )

    def reflect(state: PlanarState) -> PlanarState:
        return PlanarState(
            flip(state.position), flip(state.heading) * facing, flip(state.velocity), state.yaw_rate * side[:, None], around
        )

    odd = around.command_matrix[:, ODD_TWIST].abs().sum(1) > 0  # (W, A) numbers of an action that change their sign in a mirror
    actions = batch.actions * torch.where(odd, side[:, None], torch.ones_like(side[:, None]))[:, None]
    return Batch(reflect(batch.state), actions, [reflect(state) for state in batch.targets])


def _find_encounters(episode: Episode) -> np.ndarray:
    """(T+1,) whether the robot and somebody on the move would pass closely soon if they kept their velocities: one has to give
    way."""
    if episode.kind is None:
        return np.zeros(len(episode), bool)
    away, pace = (values[:, 1:, :2] - values[:, :1, :2] for values in (episode.pose, episode.twist))
    passing, approach = compute_closest_approach(away, pace, ENCOUNTER_S), (away * pace).sum(-1) < 0
    moves = np.linalg.norm(episode.twist[:, 1:, :2], axis=-1) > MIN_SPEED * episode.unit_m
    return np.asarray(((passing < ENCOUNTER_DISTANCE * episode.unit_m) & approach & moves).any(1))


def _select_nearest(batch: Batch) -> Batch:
    """Windows with those alone whom the robot minds."""
    state = batch.state
    offset, velocity = map(torch.view_as_real, (state.position - state.position[:, :1], state.velocity))
    apart = compute_closest_approach(offset, velocity) + 1e6 * (1 - state.context.present)
    order = torch.cat([torch.zeros(len(apart), 1, dtype=torch.long), 1 + apart[:, 1:].argsort(1)[:, :NUM_NEAREST_AGENTS]], 1)

    def pick(values: Tensor) -> Tensor:
        index = order.reshape(*order.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
        return values.gather(1, index)

    around = replace(state.context.map_dynamic(pick), kinds=state.context.kinds)
    states = [
        PlanarState(pick(one.position), pick(one.heading), pick(one.velocity), pick(one.yaw_rate), around)
        for one in (state, *batch.targets)
    ]
    return Batch(states[0], batch.actions, states[1:])


def _compute_applied_actions(episode: Episode) -> np.ndarray:
    """(T+1, A) the actions that reached the robot: those decided `latency_steps` before, and none at first."""
    late = min(episode.variation.latency_steps, len(episode))
    return np.concatenate([np.zeros_like(episode.action[:late]), episode.action[: len(episode) - late]])


def _pad_bodies(values: np.ndarray, num_dynamic: int) -> np.ndarray:
    return np.pad(values, [(0, 0), (0, num_dynamic - values.shape[1]), (0, 0)])


def _build_context(episodes: list[Episode], num_dynamic: int) -> SceneContext:
    """(E, ...) surroundings of every episode, padded to the same numbers of movers and boxes."""
    statics = max(len(episode.layout.static_boxes) for episode in episodes)
    count, n = len(episodes), num_dynamic + statics
    pieces = max(1 if episode.footprints is None else episode.footprints.shape[1] for episode in episodes)
    parts = {
        "pose": np.tile(np.array([0, 0, 0, 0, 0, 0, 1.0]), (count, n, 1)),
        "half_extents": np.zeros((count, n, 3)),
        "kind": np.full((count, n), Kind.RACK),
        "shape": np.zeros((count, n)),
        "present": np.zeros((count, n)),
        "action_twist": np.zeros((count, 6, episodes[0].action.shape[1])),
        "footprints": np.zeros((count, n, pieces, 4)),
        "unit_m": np.array([[episode.unit_m] for episode in episodes]),
    }
    for i, episode in enumerate(episodes):
        boxes, here = episode.layout.static_boxes, episode.pose.shape[1]
        static = slice(num_dynamic, num_dynamic + len(boxes))
        parts["pose"][i, :here] = episode.pose[0]
        parts["half_extents"][i, :here] = episode.half_extents
        parts["kind"][i, :num_dynamic] = [Kind.ROBOT, *[Kind.LOAD] * (num_dynamic - 1)]
        if episode.kind is not None:
            parts["kind"][i, :here] = episode.kind
        parts["shape"][i, :num_dynamic] = np.isin(parts["kind"][i, :num_dynamic], CYLINDER_KINDS)
        parts["present"][i, :here] = 1
        parts["pose"][i, static] = make_upright_poses(boxes[:, :3], boxes[:, 5])
        parts["half_extents"][i, static] = boxes[:, 3:6]
        parts["present"][i, static] = 1
        if episode.action_twist is None:
            parts["action_twist"][i, [0, 5], [0, 1]] = episode.variation.speed_limit_m_s, 1.5
        else:
            parts["action_twist"][i] = episode.action_twist
        if episode.footprints is None:
            parts["footprints"][i, 1:here, 0, 2:] = episode.half_extents[1:, :2]
        else:
            parts["footprints"][i, :here, : episode.footprints.shape[1]] = episode.footprints
    kinds = frozenset(Kind(kind) for kind in np.unique(parts["kind"][:, :num_dynamic][parts["present"][:, :num_dynamic] > 0]))
    return replace(build_scene_context(parts, np.arange(num_dynamic), np.arange(num_dynamic, n)), kinds=kinds)
