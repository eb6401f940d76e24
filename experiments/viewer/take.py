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

SHOWN_CANDIDATES = 48
SAME_ACTION = 1e-3


@dataclass(frozen=True)
class Thought:
    """What a planner imagined at one step. Paths and poses are of one particle."""

    plan: np.ndarray  # (H, M, 7) poses along the chosen plan, of the movers that it minds: the robot first
    kinds: np.ndarray  # (M,) Kind of those
    half_extents: np.ndarray  # (M, 3) [m]
    candidates: np.ndarray  # (B, H, M, 2) some candidates' paths, the cheapest first [m]
    costs: np.ndarray  # (B,) of those
    running: np.ndarray  # (H,) predicted cost of each step of the plan [m]
    seconds: float
    budget_s: float | None  # for the decision; None: a control period
    disagreement: float | None  # [m]


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
    hits: tuple[Contact, ...] = ()
    links: np.ndarray | None = None  # (V, 7) poses of what the robot's visuals are drawn in
    error_m: float = np.nan  # how far others are from where the plan before had them
    action: np.ndarray | None = None  # (2,) taken here; None at the end
    thought: Thought | None = None

    def error_of(self, thought: Thought) -> float:
        """How far others are, on average, from where a plan, made the step before and followed, had them [m]."""
        away = np.linalg.norm(thought.plan[0, LOAD:, None, :2] - self.pose[None, LOAD:, :2], axis=-1)
        return float(away.min(1).mean()) if away.size else np.nan


@dataclass(frozen=True)
class Setting:
    """Where, and under which physics."""

    scene: str
    layout: Layout
    seed: int = 0
    variation: Variation = field(default_factory=Variation)
    split: str = "test"  # that the space is of


class Take:
    """Frames of one arm in one setting. `script` (T, 2) are actions to follow before the policy decides by itself."""

    def __init__(self, name: str, setting: Setting, policy: Policy | None, script: np.ndarray | None = None) -> None:
        self.name, self.setting, self.policy = name, setting, policy
        self.script = np.zeros((0, 2), np.float32) if script is None else script
        self.own_actions_differ_by = 0.0  # of the policy, where it thinks along a script
        self.deviation_m: float | None = None  # of a recorded take, replayed, from what was recorded
        self._env = GroundEnv(setting.scene, "test")
        self.restart()

    @classmethod
    def recorded(cls, scene: str, episode: Episode, split: str = "test") -> "Take":
        """A recorded episode with all its frames, replayed from its actions, and without thoughts."""
        setting = Setting(scene, episode.layout, episode.seed, episode.variation, split)
        take = cls(episode.behaviour, setting, None, episode.action[:-1])
        while not take.over:
            take.advance()
        count = min(len(take.frames), len(episode))
        ours = np.stack([frame.pose[:, :3] for frame in take.frames[:count]])
        take.deviation_m = float(np.abs(ours - episode.pose[:count, :, :3]).max())
        return take

    def branch(self, step: int, name: str, policy: Policy) -> "Take":
        """The same until `step`, from where another arm goes on; before, it has thought nothing."""
        other = Take(name, self.setting, None, self.actions[:step])
        while len(other.frames) <= step and not other.over:
            other.advance()
        other.take_over(policy)
        return other

    @property
    def actions(self) -> np.ndarray:
        """(T, 2) taken so far."""
        return np.array([frame.action for frame in list(self.frames) if frame.action is not None], np.float32).reshape(-1, 2)

    @property
    def over(self) -> bool:
        """Solved, out of time, or a recording at its end."""
        steps = len(self.frames) - 1
        recorded = self.policy is None and steps >= len(self.script)
        return self.frames[-1].success or steps >= scenes[self.setting.scene].episode_steps or recorded

    def thought(self, index: int) -> Thought | None:
        """What was imagined at a frame; at the last one, where nothing was decided yet, at the one before."""
        at = index - 1 if index == len(self.frames) - 1 and index > 0 else index
        return self.frames[at].thought

    def restart(self) -> None:
        setting = self.setting
        options = {"layout": setting.layout, "variation": setting.variation}
        self._observation, info = self._env.reset(seed=setting.seed, options=options)
        self._info: dict[str, Any] = info
        self.frames = [self._frame()]
        self.take_over(self.policy)

    def take_over(self, policy: Policy | None) -> None:
        """From here on, after the script, this policy decides."""
        self.policy = policy
        if policy is not None:
            policy.start_episode(self._env.make_episode_start(self.setting.seed))

    def advance(self, action: np.ndarray | None = None) -> None:
        """One step: by `action` where a person drives, else by the script, else by the policy."""
        step = len(self.frames) - 1
        thought, own = self._think(self._observation)
        if action is None and step < len(self.script):
            action = self.script[step]
            if own is not None:
                self.own_actions_differ_by = max(self.own_actions_differ_by, float(np.abs(own - action).max()))
        chosen = action if action is not None else own
        chosen = np.zeros(2, np.float32) if chosen is None else np.asarray(chosen, np.float32)
        self.frames[-1] = replace(self.frames[-1], action=chosen, thought=thought)
        self._observation, _, _, _, self._info = self._env.step(chosen)
        frame = self._frame()
        followed = own is not None and np.abs(own - chosen).max() < SAME_ACTION  # else an error would not be the plan's
        self.frames.append(replace(frame, error_m=frame.error_of(thought)) if thought and followed else frame)

    def episode(self) -> Episode:
        """What happened so far, to keep."""
        frames, actions = list(self.frames), self.actions
        movers = len(frames[0].pose)
        return Episode(
            layout=self.setting.layout,
            seed=self.setting.seed,
            behaviour=self.name,
            variation=self.setting.variation,
            half_extents=self._env.bodies.half_extents[:movers].copy(),
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
        return scenes[self.setting.scene].make_robot(self.setting.variation).visuals

    @property
    def bodies(self) -> Bodies:
        """Of the last frame: the space's own boxes are there in every frame."""
        return self._env.bodies

    @property
    def field(self) -> Any:
        """The geodesic field of this space."""
        return self._env.cost_field

    def close(self) -> None:
        self._env.close()

    def _frame(self) -> Frame:
        movers, info = int(self._env.bodies.is_dynamic.sum()), self._info
        return Frame(
            pose=self._env.bodies.pose[:movers].copy(),
            twist=self._env.bodies.twist[:movers].copy(),
            cost=info["cost"],
            touching=info["touching"],
            static_force_n=info["static_force_n"],
            violations=tuple(kind for kind, happened in info["violations"].items() if happened),
            success=info["success"],
            hits=tuple(self._env.read_contacts()),
            links=self._env.read_link_poses(),
        )

    def _think(self, observation: Observation) -> tuple[Thought | None, np.ndarray | None]:
        """What the policy thinks and would do here."""
        if self.policy is None:
            return None, None
        watching = _Watching(self.policy)
        own, _ = self.policy.predict(observation)
        return watching.thought(), np.asarray(own)


class _Watching:
    """Looks over a planner's shoulder during one decision."""

    def __init__(self, policy: Policy) -> None:
        self._planner: Planner | None = policy if hasattr(policy, "watch") else None  # type: ignore[assignment]
        self._seen: list[tuple[torch.Tensor, Evaluation]] = []
        if self._planner is not None:
            self._planner.on_evaluation = self._see

    def _see(self, candidates: "torch.Tensor", imagined: "Evaluation") -> None:
        self._seen.append((candidates, imagined))

    def thought(self) -> Thought | None:
        planner = self._planner
        if planner is None or planner.last_decision is None:
            return None
        import torch  # who only watches scripted arms need not wait for it

        planner.on_evaluation = None
        costs = torch.cat([imagined.costs for _, imagined in self._seen])
        poses = torch.cat([imagined.bodies.pose[0] for _, imagined in self._seen])
        order = costs.argsort()[:: max(1, len(costs) // SHOWN_CANDIDATES)]
        bodies = self._seen[0][1].bodies.map(lambda values: values[0, 0, 0].numpy())
        there = np.flatnonzero(bodies.present)
        return Thought(
            plan=poses[int(costs.argmin())][:, there].numpy(),
            kinds=bodies.kind[there],
            half_extents=bodies.half_extents[there],
            candidates=poses[order][:, :, there, :2].numpy(),
            costs=costs[order].numpy(),
            running=planner.last_decision.step_costs.numpy(),
            seconds=planner.last_decision.seconds,
            budget_s=planner.budget_s,
            disagreement=planner.last_decision.disagreement,
        )
