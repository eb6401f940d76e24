"""One arm in one space, step by step: live, along the actions of a recorded episode, or from any moment of it on its own.

The state is always rebuilt by replaying actions from the start, which is exact; `deviation_m` says by how much it was not.
"""

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sim.bodies import LOAD, Bodies, Observation
from sim.contacts import Contact
from sim.data.episode import Episode
from sim.env import GroundEnv
from sim.layout import Layout
from sim.policy import Policy
from sim.robots.robot import LinkVisual
from sim.scenes.scene import scenes
from sim.variation import Variation

if TYPE_CHECKING:
    import torch

    from agents.planning.objective import Evaluation
    from agents.planning.planner import Planner

NUM_SHOWN_CANDIDATES = 48
ACTION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PlannerTrace:
    """What a planner imagined at one step. Paths and poses are of one particle."""

    plan_poses: np.ndarray  # (H, M, 7) poses along the chosen plan, of the movers that it minds: the robot first
    kinds: np.ndarray  # (M,) Kind of those
    half_extents: np.ndarray  # (M, 3) [m]
    candidate_paths: np.ndarray  # (B, H, M, 2) some candidates' paths, the cheapest first [m]
    candidate_costs: np.ndarray  # (B,) of those
    step_costs: np.ndarray  # (H,) predicted cost of each step of the plan [m]
    decision_s: float
    budget_s: float | None  # for the decision; None: a control period
    disagreement_m: float | None  # [m]


@dataclass(frozen=True)
class Frame:
    """The state before an action, and what came with it."""

    pose: np.ndarray  # (M, 7)
    twist: np.ndarray  # (M, 6)
    cost: float
    touching: bool
    static_force_n: float
    violations: tuple[str, ...]
    success: bool
    contacts: tuple[Contact, ...] = ()
    link_poses: np.ndarray | None = None  # (V, 7) poses of what the robot's visuals are drawn in
    prediction_error_m: float = np.nan  # how far others are from where the plan before had them
    action: np.ndarray | None = None  # (2,) taken here; None at the end
    planner_trace: PlannerTrace | None = None

    def compute_prediction_error(self, trace: PlannerTrace) -> float:
        """How far others are, on average, from where a plan, made the step before and followed, had them [m]."""
        distances = np.linalg.norm(trace.plan_poses[0, LOAD:, None, :2] - self.pose[None, LOAD:, :2], axis=-1)
        return float(distances.min(1).mean()) if distances.size else np.nan


@dataclass(frozen=True)
class EpisodeSetup:
    """Where, and under which physics."""

    scene: str
    layout: Layout
    seed: int = 0
    variation: Variation = field(default_factory=Variation)
    split: str = "test"  # that the space is of


class Replay:
    """Frames of one arm in one setting. `script` (T, 2) are actions to follow before the policy decides by itself."""

    def __init__(self, name: str, setup: EpisodeSetup, policy: Policy | None, recorded_actions: np.ndarray | None = None) -> None:
        self.name, self.setup, self.policy = name, setup, policy
        self.recorded_actions = np.zeros((0, 2), np.float32) if recorded_actions is None else recorded_actions
        self.max_action_difference = 0.0  # of the policy, where it thinks along a script
        self.deviation_m: float | None = None  # of a recorded take, replayed, from what was recorded
        self._env = GroundEnv(setup.scene, "test")
        self.restart()

    @classmethod
    def from_episode(cls, scene: str, episode: Episode, split: str = "test") -> "Replay":
        """A recorded episode with all its frames, replayed from its actions, and without thoughts."""
        setup = EpisodeSetup(scene, episode.layout, episode.seed, episode.variation, split)
        replay = cls(episode.behaviour, setup, None, episode.action[:-1])
        while not replay.is_over:
            replay.advance()
        num_frames = min(len(replay.frames), len(episode))
        positions = np.stack([frame.pose[:, :3] for frame in replay.frames[:num_frames]])
        replay.deviation_m = float(np.abs(positions - episode.pose[:num_frames, :, :3]).max())
        return replay

    def branch(self, step: int, name: str, policy: Policy) -> "Replay":
        """The same until `step`, from where another arm goes on; before, it has thought nothing."""
        new_replay = Replay(name, self.setup, None, self.actions[:step])
        while len(new_replay.frames) <= step and not new_replay.is_over:
            new_replay.advance()
        new_replay.set_policy(policy)
        return new_replay

    @property
    def actions(self) -> np.ndarray:
        """(T, 2) taken so far."""
        return np.array([frame.action for frame in list(self.frames) if frame.action is not None], np.float32).reshape(-1, 2)

    @property
    def is_over(self) -> bool:
        """Solved, out of time, or a recording at its end."""
        num_steps = len(self.frames) - 1
        is_recording_finished = self.policy is None and num_steps >= len(self.recorded_actions)
        return self.frames[-1].success or num_steps >= scenes[self.setup.scene].episode_steps or is_recording_finished

    def get_planner_trace(self, index: int) -> PlannerTrace | None:
        """What was imagined at a frame; at the last one, where nothing was decided yet, at the one before."""
        frame_index = index - 1 if index == len(self.frames) - 1 and index > 0 else index
        return self.frames[frame_index].planner_trace

    def restart(self) -> None:
        setup = self.setup
        options = {"layout": setup.layout, "variation": setup.variation}
        self._observation, info = self._env.reset(seed=setup.seed, options=options)
        self._info: dict[str, Any] = info
        self.frames = [self._read_frame()]
        self.set_policy(self.policy)

    def set_policy(self, policy: Policy | None) -> None:
        """From here on, after the script, this policy decides."""
        self.policy = policy
        if policy is not None:
            policy.start_episode(self._env.make_episode_start(self.setup.seed))

    def advance(self, action: np.ndarray | None = None) -> None:
        """One step: by `action` where a person drives, else by the script, else by the policy."""
        step = len(self.frames) - 1
        trace, policy_action = self._run_policy(self._observation)
        if action is None and step < len(self.recorded_actions):
            action = self.recorded_actions[step]
            if policy_action is not None:
                self.max_action_difference = max(self.max_action_difference, float(np.abs(policy_action - action).max()))
        applied_action = action if action is not None else policy_action
        applied_action = np.zeros(2, np.float32) if applied_action is None else np.asarray(applied_action, np.float32)
        self.frames[-1] = replace(self.frames[-1], action=applied_action, thought=trace)
        self._observation, _, _, _, self._info = self._env.step(applied_action)
        frame = self._read_frame()
        is_plan_followed = (
            policy_action is not None and np.abs(policy_action - applied_action).max() < ACTION_TOLERANCE
        )  # else an error would not be the plan's
        self.frames.append(replace(frame, error_m=frame.compute_prediction_error(trace)) if trace and is_plan_followed else frame)

    def to_episode(self) -> Episode:
        """What happened so far, to keep."""
        frames, actions = list(self.frames), self.actions
        num_dynamic = len(frames[0].pose)
        return Episode(
            layout=self.setup.layout,
            seed=self.setup.seed,
            behaviour=self.name,
            variation=self.setup.variation,
            half_extents=self._env.bodies.half_extents[:num_dynamic].copy(),
            pose=np.stack([frame.pose for frame in frames]),
            twist=np.stack([frame.twist for frame in frames]),
            action=np.concatenate([actions[: len(frames) - 1], np.zeros((1, 2), np.float32)]),
            cost=np.array([frame.cost for frame in frames]),
            touching=np.array([frame.touching for frame in frames]),
            static_force_n=np.array([frame.static_force_n for frame in frames]),
            success=frames[-1].success,
            **self._env.describe_bodies(),
        )

    @property
    def half_extents(self) -> np.ndarray:
        return np.asarray(self._env.bodies.half_extents[: len(self.frames[0].pose)])

    @property
    def visuals(self) -> tuple[LinkVisual, ...]:
        """Meshes of the robot's links."""
        return scenes[self.setup.scene].make_robot(self.setup.variation).visuals

    @property
    def bodies(self) -> Bodies:
        """Of the last frame: the space's own boxes are there in every frame."""
        return self._env.bodies

    @property
    def cost_field(self) -> Any:
        """The geodesic field of this space."""
        return self._env.cost_field

    def close(self) -> None:
        self._env.close()

    def _read_frame(self) -> Frame:
        num_dynamic, info = int(self._env.bodies.is_dynamic.sum()), self._info
        return Frame(
            pose=self._env.bodies.pose[:num_dynamic].copy(),
            twist=self._env.bodies.twist[:num_dynamic].copy(),
            cost=info["cost"],
            touching=info["touching"],
            static_force_n=info["static_force_n"],
            violations=tuple(kind for kind, has_occurred in info["violations"].items() if has_occurred),
            success=info["success"],
            contacts=tuple(self._env.read_contacts()),
            link_poses=self._env.read_link_poses(),
        )

    def _run_policy(self, observation: Observation) -> tuple[PlannerTrace | None, np.ndarray | None]:
        """What the policy thinks and would do here."""
        if self.policy is None:
            return None, None
        recorder = _PlannerRecorder(self.policy)
        action, _ = self.policy.predict(observation)
        return recorder.make_trace(), np.asarray(action)


class _PlannerRecorder:
    """Looks over a planner's shoulder during one decision."""

    def __init__(self, policy: Policy) -> None:
        self._planner: Planner | None = policy if hasattr(policy, "watch") else None  # type: ignore[assignment]
        self._evaluations: list[tuple[torch.Tensor, Evaluation]] = []
        if self._planner is not None:
            self._planner.on_evaluation = self._record_evaluation

    def _record_evaluation(self, candidates: "torch.Tensor", evaluation: "Evaluation") -> None:
        self._evaluations.append((candidates, evaluation))

    def make_trace(self) -> PlannerTrace | None:
        planner = self._planner
        if planner is None or planner.last_decision is None:
            return None
        import torch  # who only watches scripted arms need not wait for it

        planner.on_evaluation = None
        costs = torch.cat([evaluation.costs for _, evaluation in self._evaluations])
        poses = torch.cat([evaluation.bodies.pose[0] for _, evaluation in self._evaluations])
        order = costs.argsort()[:: max(1, len(costs) // NUM_SHOWN_CANDIDATES)]
        bodies = self._evaluations[0][1].bodies.map(lambda values: values[0, 0, 0].numpy())
        present = np.flatnonzero(bodies.present)
        return PlannerTrace(
            plan_poses=poses[int(costs.argmin())][:, present].numpy(),
            kinds=bodies.kind[present],
            half_extents=bodies.half_extents[present],
            candidate_paths=poses[order][:, :, present, :2].numpy(),
            candidate_costs=costs[order].numpy(),
            step_costs=planner.last_decision.step_costs.numpy(),
            decision_s=planner.last_decision.seconds,
            budget_s=planner.budget_s,
            disagreement_m=planner.last_decision.disagreement,
        )
