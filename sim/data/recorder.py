"""EpisodeRecorder: records the states and actions of an environment as an Episode."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.data.episode import Episode, EpisodeSource
from sim.data.images import ImageRecorder

if TYPE_CHECKING:
    from sim.env import GroundEnv


@dataclass
class EpisodeRecorder:
    """Recorder of one episode.

    Call `record_state` with the first observation, then `record_action` and `record_state` for each
    step. T steps have T actions and T + 1 states.
    """

    env: "GroundEnv"
    seed: int
    images: ImageRecorder | None = None
    poses: list[np.ndarray] = field(default_factory=list)  # (M, 7) each
    twists: list[np.ndarray] = field(default_factory=list)  # (M, 6) each
    actions: list[np.ndarray] = field(default_factory=list)  # (n,) each
    infos: list[dict[str, Any]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    present: list[np.ndarray] = field(default_factory=list)  # (M,) each
    inertias: list[np.ndarray] = field(default_factory=list)  # (M, 4) each, where they are measured

    def __post_init__(self) -> None:
        self.num_bodies = self.env.num_dynamic
        if self.images:
            self.images.start_episode()

    def record_state(self, info: dict[str, Any]) -> None:
        """Record the current state of the environment.

        Args:
            info: as `reset` and `step` return it.
        """
        self.poses.append(self.env.bodies.pose[: self.num_bodies].copy())
        self.twists.append(self.env.bodies.twist[: self.num_bodies].copy())
        self.infos.append(info)
        self.times_s.append(self.env.read_time_s())
        self.present.append(self.env.bodies.present[: self.num_bodies].astype(bool))
        if (inertia := self.env.read_measured_inertia()) is not None:
            self.inertias.append(inertia)
        if self.images:
            self.images.record(self.env)

    def record_action(self, action: np.ndarray) -> None:
        """Record the action that follows the last recorded state.

        Args:
            action: (n,) in [-1, 1].
        """
        self.actions.append(np.asarray(action, np.float32))

    def drop_last_state(self) -> None:
        """Drop the last state and the action that led to it."""
        columns = self.images.columns.values() if self.images else ()
        for values in (self.poses, self.twists, self.actions, self.infos, self.times_s, self.present, self.inertias, *columns):
            if values:
                values.pop()

    def make_episode(self, behaviour: str) -> Episode:
        """Make the episode. It is a success if the last state is a success.

        Args:
            behaviour: name of the policy.
        """
        env = self.env
        infos = self.infos
        labels: dict[str, Any] = {}
        if env.scene.make_world:
            violation = np.array([any(info["violations"].values()) for info in infos])
            labels = {"violation": violation, "visible": np.stack(self.present), "has_skills": env.scene.is_skill}
            labels["time_s"] = np.array(self.times_s) if env.scene.is_skill else None
            labels["measured_inertia"] = np.stack(self.inertias) if self.inertias else None
        return Episode(
            layout=env.layout,
            source=EpisodeSource(env.scene.name, self.seed),
            behaviour=behaviour,
            variation=env.variation,
            half_extents=env.bodies.half_extents[: self.num_bodies].copy(),
            pose=np.stack(self.poses),
            twist=np.stack(self.twists),
            # The last state has no action; the format has one action for each state.
            action=np.stack([*self.actions, np.zeros(env.scene.action_spec.size, np.float32)]),
            cost=np.array([info["cost"] for info in infos]),
            touching=np.array([info["touching"] for info in infos]),
            static_force_n=np.array([info["static_force_n"] for info in infos]),
            success=bool(infos[-1]["success"]),
            images=self.images.columns if self.images else None,
            **labels,
            **env.describe_bodies(),
        )
