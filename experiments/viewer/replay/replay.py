"""Replay: one method in one episode, step by step: live, or along recorded actions.

The state is always rebuilt by replaying actions from the start, which is exact; `deviation_m` measures it.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from sim.bodies import LOAD, Bodies, Observation
from sim.contacts import Contact
from sim.data.episode import Episode
from sim.data.recorder import EpisodeRecorder
from sim.env import GroundEnv
from sim.layout import Layout
from sim.policy import Policy
from sim.robots.robot import LinkVisual
from sim.scenes.scene import Scene, scenes
from sim.variation import Variation

if TYPE_CHECKING:
    from agents.planning.objective import Evaluation
    from agents.planning.planner import Planner

NUM_SHOWN_CANDIDATES = 48
ACTION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PlannerTrace:
    """What a planner predicted at one step. Paths and poses are those of one particle."""

    plan_poses: np.ndarray  # (H, M, 7) along the chosen plan, of the dynamic bodies that the model has: the robot first
    kinds: np.ndarray  # (M,) Kind of those
    half_extents: np.ndarray  # (M, 3) [m]
    candidate_paths: np.ndarray  # (B, H, M, 2) of some candidates, the one of lowest cost first [m]
    candidate_costs: np.ndarray  # (B,) of those
    step_costs: np.ndarray  # (H,) predicted cost of each step of the plan, in the task's unit
    decision_s: float
    budget_s: float | None  # of the decision; None: a control step
    disagreement_m: float | None  # of the particles


@dataclass(frozen=True)
class Frame:
    """The state before an action, and the action; or a moment within an action that is a skill."""

    pose: np.ndarray  # (M, 7)
    cost: float
    touching: bool
    violations: tuple[str, ...]
    success: bool
    contacts: tuple[Contact, ...] = ()
    link_poses: np.ndarray | None = None  # (V, 7) of the robot's link meshes
    prediction_error_m: float = np.nan  # of loads and agents, by the plan of the step before
    action: np.ndarray | None = None  # (n,) taken here; None at the end
    planner_trace: PlannerTrace | None = None
    step: int = 0  # number of completed actions
    time_s: float = 0.0  # since the start of the episode
    present: np.ndarray | None = None  # (M,) bodies that exist; None: all
    note: str = ""  # what the robot does within a skill

    def compute_prediction_error(self, trace: PlannerTrace) -> float:
        """Compute the mean distance of loads and agents from their prediction one step before [m]."""
        distances = np.linalg.norm(trace.plan_poses[0, LOAD:, None, :2] - self.pose[None, LOAD:, :2], axis=-1)
        return float(distances.min(1).mean()) if distances.size else np.nan


@dataclass(frozen=True)
class EpisodeSetup:
    """The layout, physics and seed of an episode."""

    scene: str
    layout: Layout
    seed: int = 0
    variation: Variation = field(default_factory=Variation)
    split: str = "test"  # of the layout


class Replay:
    """The frames of one method in one episode."""

    def __init__(self, name: str, setup: EpisodeSetup, policy: Policy | None, recorded_actions: np.ndarray | None = None) -> None:
        """Reset the environment.

        Args:
            name: of the method.
            setup: of the episode.
            policy: None where only recorded actions are applied.
            recorded_actions: (T, n) applied before the policy decides.
        """
        self.name, self.setup, self.policy = name, setup, policy
        self.scene: Scene = scenes[setup.scene]
        self.recorded_actions = np.zeros((0, 0), np.float32) if recorded_actions is None else recorded_actions
        self.max_action_difference = 0.0  # between the policy and the recorded actions
        self.deviation_m: float | None = None  # between a recorded episode and its replay
        self._env = GroundEnv(setup.scene, "test")
        self.restart()

    @classmethod
    def from_episode(cls, scene: str, episode: Episode, split: str = "test") -> "Replay":
        """Replay all of a recorded episode; no planner is run."""
        setup = EpisodeSetup(scene, episode.layout, episode.seed, episode.variation, split)
        replay = cls(episode.behaviour, setup, None, episode.action[:-1])
        while not replay.is_over:
            replay.advance()
        states = replay.states[: len(episode)]
        positions = np.stack([frame.pose[:, :3] for frame in states])
        replay.deviation_m = float(np.abs(positions - episode.pose[: len(states), :, :3]).max())
        return replay

    def branch(self, step: int, name: str, policy: Policy) -> "Replay":
        """Make a replay that is equal until a step, from which another policy continues."""
        new_replay = Replay(name, self.setup, None, self.actions[:step])
        while new_replay.num_steps < step and not new_replay.is_over:
            new_replay.advance()
        new_replay.set_policy(policy)
        return new_replay

    @property
    def actions(self) -> np.ndarray:
        """(T, n) taken so far."""
        actions = [frame.action for frame in list(self.frames) if frame.action is not None]
        return np.array(actions, np.float32).reshape(-1, self.scene.action_spec.size)

    @property
    def is_over(self) -> bool:
        """Whether it is solved, out of time, or at the end of a recording."""
        is_recording_finished = self.policy is None and self.num_steps >= len(self.recorded_actions)
        return self._has_ended or is_recording_finished

    @property
    def num_steps(self) -> int:
        """Number of completed actions."""
        return self.frames[-1].step

    @property
    def states(self) -> list[Frame]:
        """The frames before and after each action, without those within skills."""
        frames = list(self.frames)
        return [
            frame for frame, earlier in zip(frames, [None, *frames], strict=False) if not earlier or frame.step > earlier.step
        ]

    def find_state(self, step: int) -> int:
        """Find the frame at which an action begins.

        Args:
            step: number of actions before it.
        """
        return next(index for index, frame in enumerate(self.frames) if frame.step == step)

    def get_planner_trace(self, index: int) -> PlannerTrace | None:
        """Return the planner's trace at a frame; the last frame has no decision: that of the one before."""
        step = self.frames[index].step
        return self.frames[self.find_state(step - 1 if index == len(self.frames) - 1 and step > 0 else step)].planner_trace

    def restart(self) -> None:
        """Go back to the start and drop all frames."""
        options = {"layout": self.setup.layout, "variation": self.setup.variation}
        self._observation, info = self._env.reset(seed=self.setup.seed, options=options)
        self._recorder = EpisodeRecorder(self._env, self.setup.seed)
        self._has_ended = False
        self.frames = [self._make_frame(info, 0)]
        self.set_policy(self.policy)

    def set_policy(self, policy: Policy | None) -> None:
        """Let a policy decide after the recorded actions."""
        self.policy = policy
        if policy is not None:
            policy.start_episode(self._env.make_episode_start(self.setup.seed))

    def advance(self) -> None:
        """Make one step: by the recorded action, else by the policy's."""
        step = self.num_steps
        trace, policy_action = self._run_policy(self._observation)
        if step < len(self.recorded_actions):
            action = np.asarray(self.recorded_actions[step], np.float32)
        else:
            assert policy_action is not None, "a replay without a policy is over"
            action = policy_action
        difference = np.inf
        if policy_action is not None:
            difference = float(np.abs(policy_action - action).max())
            self.max_action_difference = max(self.max_action_difference, difference)
        self.frames[-1] = replace(self.frames[-1], action=action, planner_trace=trace)
        self._recorder.record_action(action)
        last = self.frames[-1]
        self._observation, _, has_succeeded, is_truncated, info = self._env.step(action)
        self._has_ended = has_succeeded or is_truncated
        frame = self._make_frame(info, step + 1)
        within = [
            replace(last, action=None, planner_trace=None, violations=(), contacts=(), **vars(motion))
            for motion in self._env.read_frames()
            if motion.time_s < frame.time_s
        ]
        if trace and difference < ACTION_TOLERANCE:  # else the error is not the plan's
            frame = replace(frame, prediction_error_m=frame.compute_prediction_error(trace))
        self.frames += [*within, frame]

    def make_episode(self) -> Episode:
        """Make the episode of all steps so far."""
        return self._recorder.make_episode(self.name)

    @property
    def half_extents(self) -> np.ndarray:
        """(M, 3) of the dynamic bodies [m]."""
        return np.asarray(self._env.bodies.half_extents[: len(self.frames[0].pose)])

    @cached_property
    def link_visuals(self) -> tuple[LinkVisual, ...]:
        """Meshes of the robot's links."""
        return self.scene.make_robot(self.setup.variation).visuals

    @property
    def bodies(self) -> Bodies:
        """Bodies of the last frame; the static ones are the same in every frame."""
        return self._env.bodies

    @property
    def cost_field(self) -> Any:
        """The cost-to-go field of the layout."""
        return self._env.cost_field

    def close(self) -> None:
        """Free the simulator."""
        self._env.close()

    def _make_frame(self, info: dict[str, Any], step: int) -> Frame:
        self._recorder.record_state(info)
        return Frame(
            pose=self._recorder.poses[-1],
            step=step,
            time_s=self._recorder.times_s[-1],
            present=self._recorder.present[-1],
            violations=tuple(kind for kind, has_occurred in info["violations"].items() if has_occurred),
            contacts=tuple(self._env.read_contacts()),
            link_poses=self._env.read_link_poses(),
            **{name: info[name] for name in ("cost", "touching", "success")},
        )

    def _run_policy(self, observation: Observation) -> tuple[PlannerTrace | None, np.ndarray | None]:
        if self.policy is None:
            return None, None
        if not hasattr(self.policy, "on_evaluation"):
            return None, np.asarray(self.policy.predict(observation)[0], np.float32)
        planner = cast("Planner", self.policy)
        evaluations: list[Evaluation] = []
        planner.on_evaluation = lambda candidates, evaluation: evaluations.append(evaluation)
        action, _ = planner.predict(observation)
        planner.on_evaluation = None
        return _make_trace(planner, evaluations), np.asarray(action, np.float32)


def _make_trace(planner: "Planner", evaluations: "list[Evaluation]") -> PlannerTrace | None:
    """Make the trace of a planner's last decision from the evaluations of its candidates."""
    longest = max((evaluation.step_costs.shape[1] for evaluation in evaluations), default=0)
    evaluations = [evaluation for evaluation in evaluations if evaluation.step_costs.shape[1] == longest]
    predicted = [evaluation.bodies for evaluation in evaluations if evaluation.bodies is not None]
    decision = planner.last_decision
    if decision is None or not predicted:  # a model that predicts costs alone
        return None
    import torch  # scripted methods are shown without waiting for it

    costs = torch.cat([evaluation.costs.detach() for evaluation in evaluations])
    poses = torch.cat([bodies.pose[0].detach() for bodies in predicted])
    order = costs.argsort()[:: max(1, len(costs) // NUM_SHOWN_CANDIDATES)]
    bodies = predicted[0].map(lambda values: values[0, 0, 0].detach().numpy())
    present = np.flatnonzero(bodies.present)
    return PlannerTrace(
        plan_poses=poses[int(costs.argmin())][:, present].numpy(),
        kinds=bodies.kind[present],
        half_extents=bodies.half_extents[present],
        candidate_paths=poses[order][:, :, present, :2].numpy(),
        candidate_costs=costs[order].numpy(),
        step_costs=decision.step_costs.numpy(),
        decision_s=decision.seconds,
        budget_s=planner.budget_s,
        disagreement_m=decision.disagreement,
    )
