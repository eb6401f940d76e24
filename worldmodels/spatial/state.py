"""Rigid bodies in space: states, and training windows of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sim.bodies import Bodies, Kind
from sim.data.episode import Episode
from sim.scenes.scene import scenes
from worldmodels.training.windows import Batch, EpisodeWindows, compute_applied_actions, get_action_twist

MIN_TWIST_CHANGE = 0.1  # [m/s, rad/s] in one step, of bodies that touch others
MOTION_FIELDS = ("position", "rotation", "velocity", "angular_velocity")
SCENE_FIELDS = ("command_matrix", "zone", "unit_m", "violation")  # tensors without a row for each body
FLOOR_HALF_M = (100.0, 100.0, 1.0)
MAX_STATIC_BODIES = 16  # the nearest, for models of limited range


@dataclass(frozen=True)
class SpatialState:
    """B scenes of N bodies: M dynamic bodies, the floor z = 0, and other static bodies."""

    position: Tensor  # (B, N, 3) [m]
    rotation: Tensor  # (B, N, 4) quaternion xyzw
    velocity: Tensor  # (B, N, 3) [m/s], world frame; of a belt: that of its surface
    angular_velocity: Tensor  # (B, N, 3) [rad/s], world frame
    half_extents: Tensor  # (B, N, 3) [m]
    kind: Tensor  # (B, N) Kind
    shape: Tensor  # (B, N) Shape
    present: Tensor  # (B, N) 1 or 0
    inertia: Tensor  # (B, N, 4) measured mass [kg] and centre of mass [m]; zeros: unknown
    command_matrix: Tensor  # (B, 6, A) twist of the robot that each number of an action commands
    zone: Tensor  # (B, 2, 2) range of the robot's x and y [m]
    unit_m: Tensor  # (B,) typical length of the scene [m]
    violation: Tensor  # (B,) 1 if a violation is reported in this state, a label of training data
    num_dynamic: int  # M

    def map(self, change: Callable[[Tensor], Tensor]) -> "SpatialState":
        """Apply a function to all tensors."""
        changed: dict[str, Any] = {name: change(value) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **changed)

    def decode_dynamic(self) -> Bodies:
        """Decode the dynamic bodies (B, M, ...)."""
        return decode_bodies([self]).map(lambda values: values[:, 0])

    def decode(self) -> Bodies:
        """Decode all bodies (B, N, ...), also the static ones."""
        return decode_bodies([self], self.position.shape[1]).map(lambda values: values[:, 0])


def decode_bodies(states: Sequence[SpatialState], count: int | None = None) -> Bodies:
    """Decode H states of B scenes.

    Args:
        states: H states.
        count: number of bodies, by default all dynamic ones.

    Returns:
        Bodies (B, H, count, ...).
    """
    count = states[0].num_dynamic if count is None else count

    def stack(*names: str) -> Tensor:
        parts = [torch.stack([getattr(state, name)[:, :count] for state in states], 1) for name in names]
        return torch.cat(parts, -1) if len(parts) > 1 else parts[0]

    constants = {name: stack(name) for name in ("half_extents", "kind", "shape", "present")}
    return Bodies(pose=stack("position", "rotation"), twist=stack("velocity", "angular_velocity"), **constants)


def encode_observation(
    observation: Mapping[str, np.ndarray], dynamic: np.ndarray, scene: str = "", static_range_m: float = np.inf
) -> SpatialState:
    """Encode one observation.

    Args:
        observation: observation of GroundEnv.
        dynamic: (M,) rows of the dynamic bodies.
        scene: its robot may have a zone; empty: unknown.
        static_range_m: static bodies farther from all dynamic bodies are left out.

    Returns:
        State of one scene.
    """
    bodies = Bodies.from_observation(observation)
    statics = np.flatnonzero(bodies.is_static)
    if static_range_m == np.inf:
        return _build_state(observation, dynamic, statics, scene)
    present = dynamic[bodies.present[dynamic] > 0]
    distance = np.linalg.norm(bodies.pose[statics, None, :2] - bodies.pose[present, :2], axis=-1).min(-1, initial=np.inf)
    distance -= np.linalg.norm(bodies.half_extents[statics, :2], axis=-1)
    near = np.argsort(distance, kind="stable")[:MAX_STATIC_BODIES]
    near = np.sort(near[distance[near] <= static_range_m])
    return _build_state(observation, dynamic, statics[near], scene, MAX_STATIC_BODIES - len(near))


def _build_state(
    observation: Mapping[str, np.ndarray], dynamic: np.ndarray, statics: np.ndarray, scene: str, padding: int = 0
) -> SpatialState:
    """Build the state of one scene from rows of an observation, padded with static bodies."""
    # The last rows of `get` are the floor and an absent body.
    rows = np.concatenate([dynamic, [-2], statics, np.full(padding, -1)])
    count = len(observation["pose"])
    inertia = observation.get("measured_inertia", np.zeros((count, 4)))

    def get(values: np.ndarray, floor: Sequence[float] | float) -> Tensor:
        values = np.concatenate([values, np.array([floor, floor])])
        return torch.as_tensor(values[rows][None].astype(np.float32))

    present = np.append(observation["present"], (1, 0))[rows]
    zone = scenes[scene].action_spec.zone if scene in list(scenes) else ()
    return SpatialState(
        position=get(observation["pose"][:, :3], (0, 0, -FLOOR_HALF_M[2])),
        rotation=get(observation["pose"][:, 3:], (0, 0, 0, 1)),
        velocity=get(observation["twist"][:, :3], (0, 0, 0)),
        angular_velocity=get(observation["twist"][:, 3:], (0, 0, 0)),
        half_extents=get(observation["half_extents"], FLOOR_HALF_M),
        kind=get(observation["kind"], Kind.RACK).long(),
        shape=get(observation["shape"], 0).long(),
        present=torch.as_tensor(present[None].astype(np.float32)),
        inertia=get(inertia, (0, 0, 0, 0)),
        command_matrix=torch.as_tensor(observation["action_twist"][None].astype(np.float32)),
        zone=torch.tensor([zone or ((-np.inf, np.inf),) * 2], dtype=torch.float32),
        unit_m=torch.as_tensor(np.asarray(observation["unit_m"], np.float32).reshape(1)),
        violation=torch.zeros(1),
        num_dynamic=len(dynamic),
    )


def stack_scenes(states: Sequence[SpatialState], num_dynamic: int) -> SpatialState:
    """Stack single scenes, padded with absent bodies to the largest scene.

    Args:
        states: states of one scene each.
        num_dynamic: number of dynamic bodies with padding.

    Returns:
        State of all scenes.
    """

    def join(name: str) -> Tensor:
        if name in SCENE_FIELDS:
            return torch.cat([getattr(state, name) for state in states])
        parts = []
        for state in states:
            dynamic, static = getattr(state, name)[0].tensor_split([state.num_dynamic])
            padding = dynamic.new_zeros(num_dynamic - len(dynamic), *dynamic.shape[1:])
            parts.append(torch.cat([dynamic, padding, static]))
        return pad_sequence(parts, batch_first=True)

    tensors = {name: join(name) for name, value in vars(states[0]).items() if isinstance(value, Tensor)}
    _fill_rotations(tensors["rotation"])
    return SpatialState(**tensors, num_dynamic=num_dynamic)


def _fill_rotations(rotation: Tensor) -> None:
    """Set the quaternions (..., 4) of padding, which are zero, to the identity."""
    rotation[..., 3] += rotation.abs().sum(-1) == 0


class SpatialWindows(EpisodeWindows):
    """Windows of rigid bodies in space."""

    def __init__(self, episodes: Iterable[Episode], scene: str = "") -> None:
        self.scene = scene
        super().__init__(episodes)

    def load(self, episodes: list[Episode]) -> None:
        if episodes[0].has_skills:
            self.max_steps = 1
        size = max(episode.pose.shape[1] for episode in episodes)
        self._scenes = stack_scenes([_build_first_state(episode, self.scene) for episode in episodes], size)

        def join(arrays: list[np.ndarray | None], default: float, width: int) -> Tensor:
            rows = zip(arrays, episodes, strict=True)
            full = [
                np.full((*e.pose.shape[:2], width), default) if a is None else a.reshape(*e.pose.shape[:2], width)
                for a, e in rows
            ]
            padded = [np.pad(values, [(0, 0), (0, size - values.shape[1]), (0, 0)]) for values in full]
            return torch.as_tensor(np.concatenate(padded).astype(np.float32))

        self._pose = join([episode.pose for episode in episodes], 0, 7)
        _fill_rotations(self._pose[..., 3:])
        self._twist = join([episode.twist for episode in episodes], 0, 6)
        self._inertia = join([episode.measured_inertia for episode in episodes], 0, 4)
        self._visible = join([episode.visible for episode in episodes], 1, 1)[..., 0]
        violation = [np.zeros(len(e)) if e.violation is None else e.violation for e in episodes]
        self._violation = torch.as_tensor(np.concatenate(violation).astype(np.float32))
        actions = [compute_applied_actions(episode) for episode in episodes]
        self._action = torch.as_tensor(np.concatenate(actions).astype(np.float32))

    def mark_contacts(self, episode: Episode) -> np.ndarray:
        # Most bodies lie still or move steadily on a belt: changes of motion count as contacts.
        changes = np.linalg.norm(np.diff(episode.twist, axis=0, prepend=episode.twist[:1]), axis=-1)
        is_changed = (changes[:, episode.pose.shape[1] > 1 :] > MIN_TWIST_CHANGE).any(-1)
        return np.asarray(is_changed | super().mark_contacts(episode))

    def take(self, rows: np.ndarray, length: int) -> Batch:
        first = torch.as_tensor(rows)
        span = first[:, None] + torch.arange(length + 1)
        scene = self._scenes.map(lambda values: values[self._episode[first]])
        # A body that is not visible all the time is left out.
        scene = replace(scene, present=_put_dynamic(scene.present, self._visible[span].amin(1)))

        def make_state(step: Tensor) -> SpatialState:
            pose, twist = self._pose[step], self._twist[step]
            parts = (pose[..., :3], pose[..., 3:], twist[..., :3], twist[..., 3:], self._inertia[step])
            pairs = zip((*MOTION_FIELDS, "inertia"), parts, strict=True)
            moving: dict[str, Any] = {name: _put_dynamic(getattr(scene, name), values) for name, values in pairs}
            return replace(scene, **moving, violation=self._violation[step])

        first_state, *targets = (make_state(step) for step in span.unbind(1))
        return Batch(first_state, self._action[span[:, :-1]], targets)


def _put_dynamic(values: Tensor, dynamic: Tensor) -> Tensor:
    """Replace the rows of dynamic bodies."""
    return torch.cat([dynamic, values[:, dynamic.shape[1] :]], 1)


def _build_first_state(episode: Episode, scene: str) -> SpatialState:
    count = episode.pose.shape[1]
    observation = {**episode.make_observation(0), "action_twist": get_action_twist(episode), "unit_m": np.array([episode.unit_m])}
    return _build_state(observation, np.arange(count), np.arange(count, len(observation["pose"])), scene)
