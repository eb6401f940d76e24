"""Training windows of upright bodies on a floor."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from sim.bodies import Kind
from sim.data.episode import Episode
from sim.geometry.rotations import make_upright_poses
from worldmodels.planar import state as planar
from worldmodels.planar.state import DYNAMIC_KINDS, MOTION_FIELDS, PlanarState, SceneContext
from worldmodels.training.windows import Batch, EpisodeWindows, compute_applied_actions, get_action_twist

MIRRORED_TWIST = [1, 2]  # rows of a planar twist that a mirror negates: left, yaw rate
CYLINDER_KINDS = (Kind.ROBOT, Kind.PERSON)
ENCOUNTER_DISTANCE = 0.2  # [units] between the centres of the robot and an agent as they pass
ENCOUNTER_S = 2.5  # time within which they pass
MIN_AGENT_SPEED = 0.1  # [units/s] of moving agents


class PlanarWindows(EpisodeWindows):
    """Windows of upright bodies on a floor."""

    def load(self, episodes: list[Episode]) -> None:
        num_dynamic = max(episode.pose.shape[1] for episode in episodes)
        pose = np.concatenate([_pad_bodies(episode.pose, num_dynamic) for episode in episodes])
        twist = np.concatenate([_pad_bodies(episode.twist, num_dynamic) for episode in episodes])
        self._motion = planar.make_motion(pose, twist)
        actions = np.concatenate([compute_applied_actions(episode) for episode in episodes])
        self._action = torch.as_tensor(actions.astype(np.float32))
        self._context = _build_context(episodes, num_dynamic)
        self._visible: Tensor | None = None
        if any(episode.visible is not None for episode in episodes):
            masks = [np.ones(e.pose.shape[:2]) if e.visible is None else e.visible for e in episodes]
            self._visible = torch.as_tensor(np.concatenate([_pad_bodies(mask, num_dynamic) for mask in masks]) > 0)

    def mark_contacts(self, episode: Episode) -> np.ndarray:
        return super().mark_contacts(episode) & (episode.kind is None)

    def mark_encounters(self, episode: Episode) -> np.ndarray:
        """Mark the encounters of an episode, in which the robot or an agent has to yield.

        Returns:
            (T+1,) bool: the robot and a moving agent would soon pass closely at constant
            velocities.
        """
        if episode.kind is None:
            return np.zeros(len(episode), bool)
        offset, velocity = (values[:, 1:, :2] - values[:, :1, :2] for values in (episode.pose, episode.twist))
        is_close = planar.compute_closest_approach(offset, velocity, ENCOUNTER_S) < ENCOUNTER_DISTANCE * episode.unit_m
        moves = np.linalg.norm(episode.twist[:, 1:, :2], axis=-1) > MIN_AGENT_SPEED * episode.unit_m
        return np.asarray((is_close & ((offset * velocity).sum(-1) < 0) & moves).any(1))

    def compute_max_speeds(self) -> Tensor:
        """Compute the 99.9th percentiles of speeds, by kind; collisions cause outliers beyond them.

        Returns:
            (len(DYNAMIC_KINDS), 2) speed [units/s] and yaw rate [rad/s]; 0 for kinds without data.
        """
        speed = self._motion["velocity"].abs() / self._context.unit[self._episode, None]
        speeds = torch.stack([speed, self._motion["yaw_rate"].abs()], -1).cpu().numpy()
        kinds = torch.where(self._context.present > 0, self._context.kind.argmax(-1), -1)
        kind = kinds[self._episode].cpu().numpy()
        rows = [speeds[kind == column] for column in range(len(DYNAMIC_KINDS))]
        limits = [np.quantile(row, 0.999, axis=0) if len(row) else (0, 0) for row in rows]
        return torch.as_tensor(np.array(limits, np.float32))

    def take(self, rows: np.ndarray, length: int) -> Batch:
        first = torch.as_tensor(rows)
        episode = self._episode[first]
        span = first[:, None] + torch.arange(length + 1)
        context = replace(self._context, **{name: values[episode] for name, values in self._context.list_tensors().items()})
        if self._visible is not None:  # a body that is not visible all the time is left out
            context = replace(context, present=context.present * self._visible[span].all(1))
        motion = {name: values[span] for name, values in self._motion.items()}
        steps = [{name: values[:, t] for name, values in motion.items()} for t in range(length + 1)]
        states = [PlanarState(**step, context=context) for step in steps]
        batch = Batch(states[0], self._action[span[:, :-1]], states[1:], context.kinds)
        return _select_nearest(batch) if states[0].yaw_rate.shape[1] > 1 + planar.NUM_NEAREST_AGENTS else batch

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        return augment_windows(batch, rng)


def augment_windows(batch: Batch, rng: np.random.Generator) -> Batch:
    """Mirror each window and rotate each load by half a turn, each with probability 1/2.

    The dynamics are symmetric under reflection. The heading of a load is only defined up to half a
    turn once its footprint is turned back.
    """
    shape = batch.state.yaw_rate.shape
    dtype = batch.state.yaw_rate.dtype
    context = batch.state.context
    mirrored = torch.as_tensor(rng.random(shape[0]) < 0.5)[:, None]
    turned = torch.as_tensor(rng.random(shape) < 0.5)
    turned &= context.kind[..., DYNAMIC_KINDS.index(Kind.LOAD)] > 0
    turn_sign = 1 - 2 * turned.to(dtype)
    mirror_sign = 1 - 2 * mirrored.to(dtype)

    def flip(values: Tensor) -> Tensor:
        return torch.where(mirrored, values.conj(), values)

    context = replace(
        context,
        static_centre=flip(context.static_centre),
        static_heading=flip(context.static_heading),
        core_centre=torch.where(mirrored[..., None], context.core_centre.conj(), context.core_centre) * turn_sign[..., None],
    )

    def reflect(state: PlanarState) -> PlanarState:
        heading = flip(state.heading) * turn_sign
        return PlanarState(flip(state.position), heading, flip(state.velocity), state.yaw_rate * mirror_sign, context)

    is_odd = context.command_matrix[:, MIRRORED_TWIST].abs().sum(1) > 0  # (W, A) odd in a mirror
    actions = batch.actions * torch.where(is_odd, mirror_sign, torch.ones_like(mirror_sign))[:, None]
    return Batch(reflect(batch.state), actions, [reflect(state) for state in batch.targets], batch.graph_key)


def _select_nearest(batch: Batch) -> Batch:
    """Select the robot and the agents of closest approach."""
    state = batch.state
    offset, velocity = map(torch.view_as_real, (state.position - state.position[:, :1], state.velocity))
    distance = planar.compute_closest_approach(offset, velocity) + 1e6 * (1 - state.context.present)
    agents = 1 + distance[:, 1:].argsort(1)[:, : planar.NUM_NEAREST_AGENTS]
    order = torch.cat([torch.zeros(len(agents), 1, dtype=torch.long), agents], 1)

    def pick(values: Tensor) -> Tensor:
        index = order.reshape(*order.shape, *[1] * (values.ndim - 2)).expand(-1, -1, *values.shape[2:])
        return values.gather(1, index)

    context = replace(state.context.map_dynamic(pick), kinds=state.context.kinds)
    states = [
        PlanarState(**{name: pick(getattr(full, name)) for name in MOTION_FIELDS}, context=context)
        for full in (state, *batch.targets)
    ]
    return Batch(states[0], batch.actions, states[1:], batch.graph_key)


def _pad_bodies(values: np.ndarray, num_dynamic: int) -> np.ndarray:
    return np.pad(values, [(0, 0), (0, num_dynamic - values.shape[1]), *[(0, 0)] * (values.ndim - 2)])


def _build_context(episodes: list[Episode], num_dynamic: int) -> SceneContext:
    """Build the context of E episodes, padded to the same numbers of bodies and boxes."""
    statics = max(len(episode.layout.static_boxes) for episode in episodes)
    count = len(episodes)
    total = num_dynamic + statics
    footprint_size = max(1 if episode.footprints is None else episode.footprints.shape[1] for episode in episodes)
    parts = {
        "pose": np.tile(np.array([0, 0, 0, 0, 0, 0, 1.0]), (count, total, 1)),
        "half_extents": np.zeros((count, total, 3)),
        "kind": np.full((count, total), Kind.RACK),
        "shape": np.zeros((count, total)),
        "present": np.zeros((count, total)),
        "action_twist": np.zeros((count, 6, episodes[0].action.shape[1])),
        "footprints": np.zeros((count, total, footprint_size, 4)),
        "unit_m": np.array([[episode.unit_m] for episode in episodes]),
    }
    for i, episode in enumerate(episodes):
        boxes = episode.layout.static_boxes
        size = episode.pose.shape[1]
        static = slice(num_dynamic, num_dynamic + len(boxes))
        parts["pose"][i, :size] = episode.pose[0]
        parts["half_extents"][i, :size] = episode.half_extents
        parts["kind"][i, :num_dynamic] = [Kind.ROBOT, *[Kind.LOAD] * (num_dynamic - 1)]
        if episode.kind is not None:
            parts["kind"][i, :size] = episode.kind
        parts["shape"][i, :num_dynamic] = np.isin(parts["kind"][i, :num_dynamic], CYLINDER_KINDS)
        parts["present"][i, :size] = 1
        parts["pose"][i, static] = make_upright_poses(boxes[:, :3], boxes[:, 5])
        parts["half_extents"][i, static] = boxes[:, 3:6]
        parts["present"][i, static] = 1
        parts["action_twist"][i] = get_action_twist(episode)
        if episode.footprints is None:
            parts["footprints"][i, 1:size, 0, 2:] = episode.half_extents[1:, :2]
        else:
            parts["footprints"][i, :size, : episode.footprints.shape[1]] = episode.footprints
    kinds = frozenset(Kind(kind) for kind in np.unique(parts["kind"][:, :num_dynamic][parts["present"][:, :num_dynamic] > 0]))
    return replace(planar.build_scene_context(parts, np.arange(num_dynamic), np.arange(num_dynamic, total)), kinds=kinds)
