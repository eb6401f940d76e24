"""Episode: a recorded sequence of states and actions, from a simulator or a real site."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.bodies import CONTROL_DT_S, Kind, Observation, Shape
from sim.geometry.rotations import interpolate_quaternions
from sim.layout import Layout
from sim.utils.errors import GroundError
from sim.variation import Variation

TIME_TOLERANCE = 0.02  # deviation of equal time steps from the control step, relative to it
MAX_GAP_STEPS = 2.5  # a longer time without a sample is a gap, without interpolation [steps]


@dataclass(frozen=True)
class EpisodeSource:
    """Source of an episode: a scene with its seed, or a log with its file and clock."""

    scene: str = ""
    seed: int = 0
    file: str = ""
    clock: str = ""  # meaning of time 0, such as "unix epoch 1719484800.25 s"


@dataclass(frozen=True, kw_only=True)
class Episode:
    """States of M dynamic bodies over T steps.

    Row t holds the state before action t. The action of the last row is never applied. The labels
    `violation`, `cost`, `touching`, `static_force_n` and `success` are None if unknown.

    Attributes:
        layout: layout of the episode.
        source: scene or log that the episode comes from.
        behaviour: name of the policy.
        variation: physics and appearance.
        half_extents: (M, 3) of robot, loads and agents [m].
        pose: (T+1, M, 7) position [m], quaternion xyzw, world frame.
        twist: (T+1, M, 6) linear [m/s] and angular [rad/s], world frame.
        action: (T+1, n) in [-1, 1].
        time_s: (T+1,) increasing; None: states are a control step apart.
        visible: (T+1, M) bool; None: all bodies are always visible.
        cost: (T+1,) in the task's cost unit.
        touching: (T+1,) bool, the robot touches a dynamic body.
        static_force_n: (T+1,) largest contact force with a static body.
        violation: (T+1,) bool, some violation is reported in this state.
        measured_inertia: (T+1, M, 4) mass [kg] and centre of mass [m] in the body's frame, as the
            robot measured them, zeros where unknown; None in scenes without this measurement.
        has_skills: an action is a whole skill, and time steps differ.
        shape: (M,) Shape; None: robots and people are cylinders, all else are boxes.
        success: the last state is a success.
        footprints: (M, P, 4) boxes of each body, as in an observation; None: a box for each body.
        action_twist: (6, n) as in an observation; None: that of the differential drive.
        unit_m: length by which models scale lengths.
        kind: (M,) Kind; None: the robot and loads.
        images: encoded images by column, an entry for each state; read separately from datasets.
    """

    layout: Layout
    source: EpisodeSource
    behaviour: str
    variation: Variation
    half_extents: np.ndarray
    pose: np.ndarray
    twist: np.ndarray
    action: np.ndarray
    time_s: np.ndarray | None = None
    visible: np.ndarray | None = None
    cost: np.ndarray | None = None
    touching: np.ndarray | None = None
    static_force_n: np.ndarray | None = None
    violation: np.ndarray | None = None
    measured_inertia: np.ndarray | None = None
    has_skills: bool = False
    shape: np.ndarray | None = None
    success: bool | None = None
    footprints: np.ndarray | None = None
    action_twist: np.ndarray | None = None
    unit_m: float = 1.0
    kind: np.ndarray | None = None
    images: dict[str, list[bytes | None]] | None = None

    def __post_init__(self) -> None:
        rows, bodies = self.pose.shape[:2]
        num_actions = 2 if self.action_twist is None else self.action.shape[-1]
        shapes: dict[str, tuple[int | None, ...]] = {  # None: any length
            "pose": (rows, bodies, 7),
            "twist": (rows, bodies, 6),
            "half_extents": (bodies, 3),
            "action": (rows, num_actions),
            "visible": (rows, bodies),
            "measured_inertia": (rows, bodies, 4),
            "shape": (bodies,),
            "kind": (bodies,),
            "footprints": (bodies, None, 4),
            "action_twist": (6, num_actions),
            **dict.fromkeys(("time_s", "cost", "touching", "static_force_n", "violation"), (rows,)),
        }
        for name, shape in shapes.items():
            found = np.shape(getattr(self, name))
            is_right = len(found) == len(shape) and all(n in (None, m) for n, m in zip(shape, found, strict=True))
            if getattr(self, name) is not None and not is_right:
                needed = str(shape).replace("None", "any")
                raise GroundError(f"{name} of an episode has the shape {found}, {needed} is needed")
        if self.time_s is not None and (np.diff(self.time_s) <= 0).any():
            raise GroundError("the time stamps of an episode must increase")

    def __len__(self) -> int:
        return len(self.action)

    @property
    def seed(self) -> int:
        """Seed of a simulated episode."""
        return self.source.seed

    def make_observation(self, step: int) -> Observation:
        """Make the observation of a state, without sensors, noise or occlusion.

        Args:
            step: row of `pose`.

        Returns:
            The fields of Bodies for the M dynamic bodies and the static boxes, `footprints` and
            `goal`.
        """
        static = self.layout.static_bodies
        count = len(self.half_extents)
        rows = count + len(static.kind)
        kind = np.array([Kind.ROBOT, *[Kind.LOAD] * (count - 1)]) if self.kind is None else self.kind
        footprints = np.zeros((rows, 1 if self.footprints is None else self.footprints.shape[1], 4), np.float32)
        footprints[:count, 0, 2:] = self.half_extents[:, :2]
        if self.footprints is not None:
            footprints[:count] = self.footprints
        goals = np.array([(goal.x, goal.y, goal.yaw) for goal in self.layout.goals], np.float32)
        is_round = np.isin(kind, (Kind.ROBOT, Kind.PERSON))
        shape = np.where(is_round, Shape.CYLINDER, Shape.BOX) if self.shape is None else self.shape
        visible = np.ones(count) if self.visible is None else self.visible[step]
        observation = {
            "pose": np.vstack([self.pose[step], static.pose]).astype(np.float32),
            "twist": np.vstack([self.twist[step], static.twist]).astype(np.float32),
            "half_extents": np.vstack([self.half_extents, static.half_extents]).astype(np.float32),
            "kind": np.concatenate([kind, static.kind]).astype(np.int8),
            "shape": np.concatenate([shape, static.shape]).astype(np.int8),
            "present": np.concatenate([visible, static.present]).astype(np.int8),
            "footprints": footprints,
            "goal": goals if len(goals) > 1 else goals[0],
        }
        if self.measured_inertia is not None:
            observation["measured_inertia"] = np.pad(self.measured_inertia[step], [(0, rows - count), (0, 0)]).astype(np.float32)
        return observation

    def resample(self) -> "Episode":
        """Resample to states that are a control step apart.

        Positions and twists are interpolated linearly, rotations spherically. An action holds until
        the next sample. A body is not visible where its samples have a gap.

        Returns:
            The episode itself if all states are a control step apart, or its actions are skills.
            Otherwise, a resampled
            episode without labels of states.
        """
        tolerance_s = TIME_TOLERANCE * CONTROL_DT_S
        if self.time_s is None or self.has_skills or (abs(np.diff(self.time_s) - CONTROL_DT_S) <= tolerance_s).all():
            return self
        time_s = np.arange(self.time_s[0], self.time_s[-1] + 1e-9, CONTROL_DT_S)
        after = np.clip(np.searchsorted(self.time_s, time_s, side="right"), 1, len(self.time_s) - 1)
        seen = np.ones(self.pose.shape[:2], bool) if self.visible is None else self.visible
        pose = np.empty((len(time_s), *self.pose.shape[1:]))
        twist = np.empty((len(time_s), *self.twist.shape[1:]))
        visible = np.zeros(pose.shape[:2], bool)
        for body in range(seen.shape[1]):
            known = np.flatnonzero(seen[:, body])
            if len(known) < 2:
                pose[:, body] = self.pose[0, body]
                twist[:, body] = 0
                continue
            stamps = self.time_s[known]
            right = np.clip(np.searchsorted(stamps, time_s, side="right"), 1, len(known) - 1)
            low = known[right - 1]
            high = known[right]
            gap_s = stamps[right] - stamps[right - 1]
            share = np.clip((time_s - stamps[right - 1]) / gap_s, 0, 1)[:, None]
            pose[:, body, :3] = self.pose[low, body, :3] + share * (self.pose[high, body, :3] - self.pose[low, body, :3])
            pose[:, body, 3:] = interpolate_quaternions(self.pose[low, body, 3:], self.pose[high, body, 3:], share)
            twist[:, body] = self.twist[low, body] + share * (self.twist[high, body] - self.twist[low, body])
            inside = (time_s >= stamps[0]) & (time_s <= stamps[-1])
            visible[:, body] = inside & (gap_s <= MAX_GAP_STEPS * CONTROL_DT_S)
        unknown: dict[str, Any] = dict.fromkeys(("cost", "touching", "static_force_n", "images"))
        action = self.action[after - 1]
        return replace(self, pose=pose, twist=twist, action=action, time_s=time_s, visible=visible, **unknown)
