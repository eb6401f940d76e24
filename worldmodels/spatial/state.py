"""Rigid boxes in space above a floor: states, and training windows of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import torch
from torch import Tensor

from sim.bodies import Bodies, Kind
from sim.data.episode import Episode
from sim.geometry.rotations import rotate_in_space
from worldmodels.training.windows import Batch, EpisodeWindows

CORNERS = torch.tensor([(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
MIN_MOVING_TWIST = 0.1  # norm of a twist [m/s, rad/s] of moving boxes
MOTION_FIELDS = ("position", "rotation", "velocity", "angular_velocity")


@dataclass(frozen=True)
class SpatialState:
    """B scenes of M boxes; the floor is z = 0."""

    position: Tensor  # (B, M, 3) [m]
    rotation: Tensor  # (B, M, 4) quaternion xyzw
    velocity: Tensor  # (B, M, 3) [m/s], world frame
    angular_velocity: Tensor  # (B, M, 3) [rad/s], world frame
    half_extents: Tensor  # (B, M, 3) [m]
    present: Tensor  # (B, M) 1 or 0
    kind: Tensor  # (B, M) Kind

    def compute_levers(self) -> Tensor:
        """Compute the vectors from the boxes' centres to their corners.

        Returns:
            (B, M, 8, 3) in the world frame [m].
        """
        local = CORNERS.to(self.position) * self.half_extents[..., None, :]
        return rotate_in_space(local, self.rotation[..., None, :].expand(*local.shape[:-1], 4))


def decode_bodies(states: Sequence[SpatialState]) -> Bodies:
    """Decode H states of B scenes as Bodies (B, H, M, ...)."""
    first = states[0]
    shape = (first.present.shape[0], len(states), *first.present.shape[1:])
    motion = {name: torch.stack([getattr(state, name) for state in states], 1) for name in MOTION_FIELDS}
    return Bodies(
        pose=torch.cat([motion["position"], motion["rotation"]], -1),
        twist=torch.cat([motion["velocity"], motion["angular_velocity"]], -1),
        half_extents=first.half_extents[:, None].expand(*shape, 3),
        kind=first.kind[:, None].expand(shape),
        shape=torch.zeros(shape, dtype=torch.long),
        present=first.present[:, None].expand(shape),
    )


class SpatialWindows(EpisodeWindows):
    """Windows of rigid boxes in space."""

    def load(self, episodes: list[Episode]) -> None:
        bodies = max(episode.pose.shape[1] for episode in episodes)

        def pad(values: np.ndarray, axis: int) -> np.ndarray:
            missing = [(0, 0)] * values.ndim
            missing[axis] = (0, bodies - values.shape[axis])
            return np.pad(values, missing)

        def join(arrays: list[np.ndarray]) -> Tensor:
            return torch.as_tensor(np.concatenate(arrays).astype(np.float32))

        self._pose, self._twist = (join([pad(getattr(e, name), 1) for e in episodes]) for name in ("pose", "twist"))
        self._action = join([episode.action for episode in episodes])
        self._half_extents = join([pad(episode.half_extents, 0)[None] for episode in episodes])
        self._present = join([pad(np.ones(len(episode.half_extents)), 0)[None] for episode in episodes])
        kinds = [np.full(len(e.half_extents), Kind.LOAD) if e.kind is None else e.kind for e in episodes]
        self._kind = join([pad(kind, 0)[None] for kind in kinds]).long()

    def mark_contacts(self, episode: Episode) -> np.ndarray:
        # In most states all boxes lie still: moving ones count as contacts.
        return np.asarray((np.linalg.norm(episode.twist, axis=-1) > MIN_MOVING_TWIST).any(-1))

    def take(self, rows: np.ndarray, length: int) -> Batch:
        first = torch.as_tensor(rows)
        span = first[:, None] + torch.arange(length + 1)
        constants = [values[self._episode[first]] for values in (self._half_extents, self._present, self._kind)]
        pose = self._pose[span]
        twist = self._twist[span]
        states = [
            SpatialState(pose[:, t, :, :3], pose[:, t, :, 3:], twist[:, t, :, :3], twist[:, t, :, 3:], *constants)
            for t in range(length + 1)
        ]
        return Batch(states[0], self._action[span[:, :-1]], states[1:])


def encode_observation(observation: Mapping[str, np.ndarray]) -> SpatialState:
    """Encode the dynamic bodies of one observation.

    Args:
        observation: observation of GroundEnv.

    Returns:
        State of one scene.
    """
    bodies = Bodies.from_observation(observation)
    bodies = bodies.map(itemgetter(bodies.is_dynamic)).map(lambda values: torch.as_tensor(values)[None])
    pose, twist, half_extents = bodies.pose.float(), bodies.twist.float(), bodies.half_extents.float()
    constants = (half_extents, bodies.present.float(), bodies.kind.long())
    return SpatialState(pose[..., :3], pose[..., 3:], twist[..., :3], twist[..., 3:], *constants)
