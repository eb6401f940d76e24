"""Episode: what happened once, in a simulator or on a real site."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sim.bodies import CONTROL_DT_S, Kind, Observation, Shape
from sim.geometry.rotations import interpolate_quaternions, make_upright_poses
from sim.layout import Layout
from sim.utils.errors import GroundError
from sim.variation import Variation

TIME_TOLERANCE = 0.02  # of a control step: how unequal time steps may be and still count as equal
MAX_GAP_STEPS = 2.5  # a longer time without a sample is a gap: nothing is interpolated across it


@dataclass(frozen=True)
class EpisodeSource:
    """Where an episode comes from: a scene with its seed, or a log with its file and clock."""

    scene: str = ""
    seed: int = 0
    file: str = ""
    clock: str = ""  # what time 0 is, as in "unix epoch 1719484800.25 s"


@dataclass(frozen=True, kw_only=True)
class Episode:
    """M dynamic bodies over T steps. Row t holds the state before action t; the last row's action was never applied.

    Labels (`cost`, `touching`, `static_force_n`, `success`) are None where nobody knows them.
    """

    layout: Layout
    source: EpisodeSource
    behaviour: str  # the policy that acted
    variation: Variation
    half_extents: np.ndarray  # (M, 3) of robot, loads and agents [m]
    pose: np.ndarray  # (T+1, M, 7) position [m], quaternion xyzw, world frame
    twist: np.ndarray  # (T+1, M, 6) [m/s, rad/s], world frame
    action: np.ndarray  # (T+1, n) in [-1, 1]
    time_s: np.ndarray | None = None  # (T+1,) rising; None: a control step apart
    visible: np.ndarray | None = None  # (T+1, M) bool; None: all, always
    cost: np.ndarray | None = None  # (T+1,) in the task's cost_unit_m
    touching: np.ndarray | None = None  # (T+1,) bool, robot against a load
    static_force_n: np.ndarray | None = None  # (T+1,) largest contact force with a static body
    success: bool | None = None
    footprints: np.ndarray | None = None  # (M, P, 4) boxes of each body, as in an observation; None: one box each
    action_twist: np.ndarray | None = None  # (6, n) as in an observation; None: that of the differential drive
    unit_m: float = 1.0
    kind: np.ndarray | None = None  # (M,) Kind; None: the robot and loads
    images: dict[str, list[bytes | None]] | None = None  # encoded, by column, a row for each step; read separately

    def __post_init__(self) -> None:
        rows, bodies = self.pose.shape[:2]
        for name in ("twist", "action", "time_s", "visible", "cost", "touching", "static_force_n"):
            values = getattr(self, name)
            if values is not None and len(values) != rows:
                raise GroundError(f"an episode of {rows} states has {len(values)} rows of {name}")
        if len(self.half_extents) != bodies:
            raise GroundError(f"an episode of {bodies} bodies has sizes of {len(self.half_extents)}")
        if self.time_s is not None and (np.diff(self.time_s) <= 0).any():
            raise GroundError("an episode's time stamps must rise")

    def __len__(self) -> int:
        return len(self.action)

    @property
    def seed(self) -> int:
        """Seed of the scene that it was simulated in."""
        return self.source.seed

    @property
    def is_uniform(self) -> bool:
        """Whether its states are a control step apart."""
        if self.time_s is None:
            return True
        return bool((abs(np.diff(self.time_s) - CONTROL_DT_S) <= TIME_TOLERANCE * CONTROL_DT_S).all())

    def make_observation(self, step: int) -> Observation:
        """Make the observation of a state, without sensors, noise or occlusion.

        Args:
            step: row of `pose`.

        Returns:
            The fields of Bodies for the M dynamic bodies and the static boxes, `footprints` and `goal`.
        """
        boxes, count = self.layout.static_boxes, len(self.half_extents)
        kind = np.array([Kind.ROBOT, *[Kind.LOAD] * (count - 1)]) if self.kind is None else self.kind
        footprints = np.zeros((count + len(boxes), 1 if self.footprints is None else self.footprints.shape[1], 4), np.float32)
        footprints[:count, 0, 2:] = self.half_extents[:, :2]
        if self.footprints is not None:
            footprints[:count] = self.footprints
        goals = np.array([(goal.x, goal.y, goal.yaw) for goal in self.layout.goals], np.float32)
        is_round = np.isin(kind, (Kind.ROBOT, Kind.PERSON))
        return {
            "pose": np.vstack([self.pose[step], make_upright_poses(boxes[:, :3], boxes[:, 5])]).astype(np.float32),
            "twist": np.vstack([self.twist[step], np.zeros((len(boxes), 6))]).astype(np.float32),
            "half_extents": np.vstack([self.half_extents, boxes[:, 3:6]]).astype(np.float32),
            "kind": np.concatenate([kind, boxes[:, 6]]).astype(np.int8),
            "shape": np.concatenate([np.where(is_round, Shape.CYLINDER, Shape.BOX), np.zeros(len(boxes))]).astype(np.int8),
            "present": np.ones(count + len(boxes), np.int8),
            "footprints": footprints,
            "goal": goals if len(goals) > 1 else goals[0],
        }

    def resample(self) -> "Episode":
        """Interpolate to states a control step apart; bodies are invisible where their samples have a gap.

        Positions and twists are linear between samples, rotations spherical; an action holds until the next one.

        Returns:
            The episode itself where its states are a control step apart already; labels per state are dropped otherwise.
        """
        if self.time_s is None or self.is_uniform:
            return self
        time_s = np.arange(self.time_s[0], self.time_s[-1] + 1e-9, CONTROL_DT_S)
        after = np.clip(np.searchsorted(self.time_s, time_s, side="right"), 1, len(self.time_s) - 1)
        seen = np.ones(self.pose.shape[:2], bool) if self.visible is None else self.visible
        pose, twist = np.empty((len(time_s), *self.pose.shape[1:])), np.empty((len(time_s), *self.twist.shape[1:]))
        visible = np.zeros(pose.shape[:2], bool)
        for body in range(seen.shape[1]):
            known = np.flatnonzero(seen[:, body])
            if len(known) < 2:
                pose[:, body], twist[:, body] = self.pose[0, body], 0
                continue
            stamps = self.time_s[known]
            right = np.clip(np.searchsorted(stamps, time_s, side="right"), 1, len(known) - 1)
            low, high, gap_s = known[right - 1], known[right], stamps[right] - stamps[right - 1]
            share = np.clip((time_s - stamps[right - 1]) / gap_s, 0, 1)[:, None]
            pose[:, body, :3] = self.pose[low, body, :3] + share * (self.pose[high, body, :3] - self.pose[low, body, :3])
            pose[:, body, 3:] = interpolate_quaternions(self.pose[low, body, 3:], self.pose[high, body, 3:], share)
            twist[:, body] = self.twist[low, body] + share * (self.twist[high, body] - self.twist[low, body])
            inside = (time_s >= stamps[0]) & (time_s <= stamps[-1])
            visible[:, body] = inside & (gap_s <= MAX_GAP_STEPS * CONTROL_DT_S)
        blank: dict[str, Any] = dict.fromkeys(("cost", "touching", "static_force_n", "images"))
        action = self.action[after - 1]
        return replace(self, pose=pose, twist=twist, action=action, time_s=time_s, visible=visible, **blank)
