"""Training windows of upright bodies on a floor."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sim.bodies import Kind
from sim.data.episode import Episode
from sim.geometry.rotations import make_upright_poses
from worldmodels.planar.state import (
    DYNAMIC_KINDS,
    NUM_NEAREST_AGENTS,
    PlanarState,
    SceneContext,
    build_scene_context,
    compute_closest_approach,
    make_motion,
)
from worldmodels.training.windows import Batch, EpisodeWindows

ODD_TWIST = [1, 2]  # rows of a planar twist that change their sign in a mirror: left, turn
CYLINDER_KINDS = (Kind.ROBOT, Kind.PERSON)  # what is a cylinder
ENCOUNTER_DISTANCE = 0.2  # of the centres of the robot and an agent as they pass [units]
ENCOUNTER_S = 2.5  # within which they pass
MIN_SPEED = 0.1  # units a second


class PlanarWindows(EpisodeWindows):
    """Windows of upright bodies on a floor."""

    def load(self, episodes: list[Episode]) -> None:
        """Decode episodes into arrays with one row for each step."""
        num_dynamic = max(episode.pose.shape[1] for episode in episodes)
        pose, twist = (
            np.concatenate([_pad_bodies(getattr(episode, name), num_dynamic) for episode in episodes])
            for name in ("pose", "twist")
        )
        self._motion = make_motion(pose, twist)
        actions = np.concatenate([_compute_applied_actions(episode) for episode in episodes])
        self._action = torch.as_tensor(actions.astype(np.float32))
        self._context = _build_context(episodes, num_dynamic)
        self._visible: Tensor | None = None
        if any(episode.visible is not None for episode in episodes):
            seen = [np.ones(e.pose.shape[:2]) if e.visible is None else e.visible for e in episodes]
            self._visible = torch.as_tensor(np.concatenate([_pad_bodies(part, num_dynamic) for part in seen]) > 0)

    def mark_contacts(self, episode: Episode) -> np.ndarray:
        """Mark the states (T+1,) in which the robot touches a load."""
        return super().mark_contacts(episode) & (episode.kind is None)

    def mark_encounters(self, episode: Episode) -> np.ndarray:
        """Mark the states (T+1,) in which the robot and a moving agent would soon pass closely if both kept their velocities."""
        return _find_encounters(episode)

    def compute_max_speeds(self) -> Tensor:
        """Compute the 99.9th percentiles of speeds, by kind: once in a while physics throws a robot that is run over.

        Returns:
            (len(DYNAMIC_KINDS), 2) speed [units/s] and yaw rate [rad/s]; 0 where there is none of a kind.
        """
        context, episode = self._context, self._episode
        speed = self._motion["velocity"].abs() / context.unit[episode, None]
        speeds = torch.stack([speed, self._motion["yaw_rate"].abs()], -1).cpu().numpy()
        kind = torch.where(context.present > 0, context.kind.argmax(-1), -1)[episode].cpu().numpy()
        rows = [speeds[kind == column] for column in range(len(DYNAMIC_KINDS))]
        limits = [np.quantile(row, 0.999, axis=0) if len(row) else (0, 0) for row in rows]
        return torch.as_tensor(np.array(limits, np.float32))

    def take(self, rows: np.ndarray, length: int) -> Batch:
        """Take the windows of `length` steps that begin at given rows (W,)."""
        first = torch.as_tensor(rows)
        episode = self._episode[first]
        span = first[:, None] + torch.arange(length + 1)
        context = replace(self._context, **{name: values[episode] for name, values in self._context.list_tensors().items()})
        if self._visible is not None:  # a body that is lost within the window is left out of it
            context = replace(context, present=context.present * self._visible[span].all(1))
        motion = {name: values[span] for name, values in self._motion.items()}
        states = [
            PlanarState(**{name: values[:, t] for name, values in motion.items()}, context=context) for t in range(length + 1)
        ]
        batch = Batch(states[0], self._action[span[:, :-1]], states[1:], context.kinds)
        return _select_nearest(batch) if states[0].yaw_rate.shape[1] > 1 + NUM_NEAREST_AGENTS else batch

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Mirror windows and turn loads about, at random."""
        return augment_windows(batch, rng)


def augment_windows(batch: Batch, rng: np.random.Generator) -> Batch:
    """Mirror each window, and turn each load about with its footprint turned back, by the toss of a coin.

    Physics knows no left and right, and a load's heading may as well be called its opposite: four times the data.
    """
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
    return Batch(reflect(batch.state), actions, [reflect(state) for state in batch.targets], batch.graph_key)


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
    return Batch(states[0], batch.actions, states[1:], batch.graph_key)


def _compute_applied_actions(episode: Episode) -> np.ndarray:
    """(T+1, A) the actions that reached the robot: those decided `latency_steps` before, and none at first."""
    late = min(episode.variation.latency_steps, len(episode))
    return np.concatenate([np.zeros_like(episode.action[:late]), episode.action[: len(episode) - late]])


def _pad_bodies(values: np.ndarray, num_dynamic: int) -> np.ndarray:
    return np.pad(values, [(0, 0), (0, num_dynamic - values.shape[1]), *[(0, 0)] * (values.ndim - 2)])


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
