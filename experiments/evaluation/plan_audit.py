"""What plans were foreseen to lead to beside what they would: chosen ones and random ones, carried out in the true simulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agents.planning.objective import Evaluation, Objective
from agents.planning.planner import Decision, Planner
from agents.planning.search import NUM_KNOTS, make_spline_basis
from experiments.methods.method import Trial
from sim.bodies import Kind
from sim.env import GroundEnv
from sim.geometry.gaps import TOUCH_M, compute_static_gaps
from sim.policy import Policy
from sim.task import Task
from worldmodels.simulator import SimulatorModel

CHECK_EVERY = 10  # decisions between two looks at what the chosen plan would really do
TOUCHING = "touching"  # kind of violation: near what stands still; forces, which would make it one, are not imagined
RANDOM_PLANS = 2  # looked at beside it, from the same state


@dataclass(frozen=True)
class Check:
    """What was foreseen of plans from one state, and what they would have led to."""

    predicted: float  # cost of the chosen plan, mean over its steps, in the unit of the task's costs
    realised: float
    random_predicted: float  # the same of random plans, mean over them
    random_realised: float
    random_disagreement: float | None
    foreseen: Mapping[str, float]  # violations that the chosen plan leads to, by kind: in which share of the particles
    happened: Mapping[str, float]  # 0 or 1


class Foresight:
    """In one episode: how models disagree along its chosen plans, and what every tenth of these, and random ones, would do."""

    def __init__(self, env: GroundEnv, policy: Policy, trial: Trial) -> None:
        """Of a policy that does not plan nothing is found."""
        self._env, self._planner, self._trial = env, policy if isinstance(policy, Planner) else None, trial
        self._task, self._checks, self._disagreement = env.scene.task, list[Check](), list[float | None]()
        self._truth: Objective | None = None  # made when it is first asked

    def decided(self, observation: dict[str, np.ndarray], number: int) -> None:
        """The policy has made its decision of this number, from 1."""
        if self._planner is None or (decision := self._planner.last_decision) is None:
            return
        self._disagreement.append(decision.disagreement)
        if (number - 1) % CHECK_EVERY == 0:
            self._checks.append(self._check(self._planner, decision, observation, number))

    def _check(self, planner: Planner, decision: Decision, observation: dict[str, np.ndarray], number: int) -> Check:
        """The plans are carried out to their ends in the true simulator."""
        if self._truth is None:
            simulator = SimulatorModel(self._trial.scene)
            simulator.start_episode(self._env.make_episode_start(self._trial.seed))
            self._truth = Objective(simulator, self._task, self._env.scene.hold_steps)
        self._truth.observe(observation)
        plans = torch.cat([decision.plan[None], random_plans(decision.plan, self._trial.seed, number)])
        imagined, real = planner.objective.evaluate(plans), self._truth.evaluate(plans)
        return Check(
            predicted=float(decision.step_costs.mean()),
            realised=float(real.step_costs[0].mean()),
            random_predicted=float(imagined.step_costs[1:].mean()),
            random_realised=float(real.step_costs[1:].mean()),
            random_disagreement=_mean([imagined.compute_disagreement(plan) for plan in range(1, len(plans))]),
            foreseen=violating(imagined, observation, self._task),
            happened=violating(real, observation, self._task),
        )

    def summary(self) -> dict[str, Any]:
        """Columns of the episode's row."""
        kinds = (TOUCHING, *self._task.predict_violations(self._env.bodies))
        return {"disagreement": _mean(self._disagreement), **_summary_of(self._checks, kinds)}


def random_plans(like: torch.Tensor, seed: int, number: int) -> torch.Tensor:
    """(RANDOM_PLANS, H, A) smooth plans as long as `like` (H, A); the same for an episode's seed and the number of a decision."""
    horizon, actions = like.shape
    basis = make_spline_basis(horizon, min(NUM_KNOTS, horizon)).numpy()
    knots = np.random.default_rng([seed, number]).standard_normal((RANDOM_PLANS, basis.shape[1], actions))
    return torch.as_tensor(np.clip(basis @ knots, -1, 1), dtype=like.dtype)


def violating(imagined: Evaluation, observation: dict[str, np.ndarray], task: Task) -> dict[str, float]:
    """In which share of the particles the first plan leads to violations before it reaches the goal, by kind: the task's, as far
    as poses tell, and whether the robot or a load comes up to something that stands still."""
    bodies = imagined.bodies.map(lambda values: values[:, 0])  # (P, H, M, ...)
    loads = int(((observation["kind"] == Kind.LOAD) & (observation["present"] > 0)).sum())
    touching = (compute_static_gaps(observation, bodies.pose[:, :, : 1 + loads].numpy()) < TOUCH_M).any(-1)
    kinds = {TOUCHING: torch.as_tensor(touching), **task.predict_violations(bodies)}
    ahead = imagined.step_costs[0] > 0  # (H,)
    return {kind: float((true & ahead).any(-1).float().mean()) for kind, true in kinds.items()}


def _summary_of(checks: Sequence[Check], kinds: Sequence[str]) -> dict[str, Any]:
    """Means over the checks, and of each kind of violation, how many plans lead to it: by most particles, in truth, and both; and
    how many were to be expected."""
    violating = dict[str, float]()
    for kind in kinds:
        pairs = [(check.foreseen[kind] > 0.5, check.happened[kind] > 0.5) for check in checks]
        violating[f"plans_{kind}_predicted"] = sum(foreseen for foreseen, _ in pairs)
        violating[f"plans_{kind}_realised"] = sum(happened for _, happened in pairs)
        violating[f"plans_{kind}_both"] = sum(foreseen and happened for foreseen, happened in pairs)
        violating[f"plans_{kind}_expected"] = float(sum(check.foreseen[kind] for check in checks))
    return {
        "predicted_cost": _mean([check.predicted for check in checks]),
        "realised_cost": _mean([check.realised for check in checks]),
        "random_predicted_cost": _mean([check.random_predicted for check in checks]),
        "random_realised_cost": _mean([check.random_realised for check in checks]),
        "random_disagreement": _mean([check.random_disagreement for check in checks]),
        "plans_checked": len(checks),
        **violating,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Of what is known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
