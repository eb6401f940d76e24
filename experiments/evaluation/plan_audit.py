"""What plans were foreseen to lead to beside what they would: chosen ones and random ones, carried out in the true simulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agents.planning.objective import Evaluation, Objective
from agents.planning.planner import Decision, Planner
from agents.planning.search import NUM_KNOTS, make_spline_basis
from experiments.evaluation.results import PlanCounts
from experiments.methods.method import EpisodeSpec
from sim.bodies import Kind
from sim.env import GroundEnv
from sim.geometry.gaps import TOUCH_M, compute_static_gaps
from sim.policy import Policy
from sim.task import Task
from worldmodels.simulator import SimulatorModel

AUDIT_INTERVAL_DECISIONS = 10  # decisions between two looks at what the chosen plan would really do
CONTACT_VIOLATION = (
    "static_contact"  # kind of violation: near what stands still; forces, which would make it one, are not imagined
)
NUM_RANDOM_PLANS = 2  # looked at beside it, from the same state


@dataclass(frozen=True)
class AuditedPlan:
    """What was foreseen of plans from one state, and what they would have led to."""

    predicted_cost: float  # cost of the chosen plan, mean over its steps, in the unit of the task's costs
    realised_cost: float
    random_predicted_cost: float  # the same of random plans, mean over them
    random_realised_cost: float
    random_disagreement: float | None
    predicted_violations: Mapping[
        str, float
    ]  # violations that the chosen plan leads to, by kind: in which share of the particles
    realised_violations: Mapping[str, float]  # 0 or 1


class PlanAudit:
    """In one episode: how models disagree along its chosen plans, and what every tenth of these, and random ones, would do."""

    def __init__(self, env: GroundEnv, policy: Policy, spec: EpisodeSpec) -> None:
        """Of a policy that does not plan nothing is found."""
        self._env, self._planner, self._spec = env, policy if isinstance(policy, Planner) else None, spec
        self._task, self._audited_plans, self._disagreements = env.scene.task, list[AuditedPlan](), list[float | None]()
        self._simulator_objective: Objective | None = None  # made when it is first asked

    def add_decision(self, observation: dict[str, np.ndarray], decision_number: int) -> None:
        """The policy has made its decision of this number, from 1."""
        if self._planner is None or (decision := self._planner.last_decision) is None:
            return
        self._disagreements.append(decision.disagreement)
        if (decision_number - 1) % AUDIT_INTERVAL_DECISIONS == 0:
            self._audited_plans.append(self._audit_plan(self._planner, decision, observation, decision_number))

    def _audit_plan(
        self, planner: Planner, decision: Decision, observation: dict[str, np.ndarray], decision_number: int
    ) -> AuditedPlan:
        """The plans are carried out to their ends in the true simulator."""
        if self._simulator_objective is None:
            simulator = SimulatorModel(self._spec.scene)
            simulator.start_episode(self._env.make_episode_start(self._spec.seed))
            self._simulator_objective = Objective(simulator, self._task, self._env.scene.hold_steps)
        self._simulator_objective.observe(observation)
        plans = torch.cat([decision.plan[None], sample_random_plans(decision.plan, self._spec.seed, decision_number)])
        model_evaluation, simulator_evaluation = planner.objective.evaluate(plans), self._simulator_objective.evaluate(plans)
        return AuditedPlan(
            predicted_cost=float(decision.step_costs.mean()),
            realised_cost=float(simulator_evaluation.step_costs[0].mean()),
            random_predicted_cost=float(model_evaluation.step_costs[1:].mean()),
            random_realised_cost=float(simulator_evaluation.step_costs[1:].mean()),
            random_disagreement=_compute_known_mean(
                [model_evaluation.compute_disagreement(plan_index) for plan_index in range(1, len(plans))]
            ),
            predicted_violations=compute_violation_shares(model_evaluation, observation, self._task),
            realised_violations=compute_violation_shares(simulator_evaluation, observation, self._task),
        )

    def summarise(self) -> dict[str, Any]:
        """Summarise the audit as fields of an EpisodeResult."""
        kinds = (CONTACT_VIOLATION, *self._task.predict_violations(self._env.bodies))
        return {"disagreement": _compute_known_mean(self._disagreements), **_summarise_plans(self._audited_plans, kinds)}


def sample_random_plans(template: torch.Tensor, seed: int, decision_number: int) -> torch.Tensor:
    """(RANDOM_PLANS, H, A) smooth plans as long as `like` (H, A); the same for an episode's seed and the number of a decision."""
    horizon, action_size = template.shape
    basis = make_spline_basis(horizon, min(NUM_KNOTS, horizon)).numpy()
    knots = np.random.default_rng([seed, decision_number]).standard_normal((NUM_RANDOM_PLANS, basis.shape[1], action_size))
    return torch.as_tensor(np.clip(basis @ knots, -1, 1), dtype=template.dtype)


def compute_violation_shares(evaluation: Evaluation, observation: dict[str, np.ndarray], task: Task) -> dict[str, float]:
    """In which share of the particles the first plan leads to violations before it reaches the goal, by kind: the task's, as far
    as poses tell, and whether the robot or a load comes up to something that stands still."""
    bodies = evaluation.bodies.map(lambda values: values[:, 0])  # (P, H, M, ...)
    num_loads = int(((observation["kind"] == Kind.LOAD) & (observation["present"] > 0)).sum())
    in_contact = (compute_static_gaps(observation, bodies.pose[:, :, : 1 + num_loads].numpy()) < TOUCH_M).any(-1)
    violations = {CONTACT_VIOLATION: torch.as_tensor(in_contact), **task.predict_violations(bodies)}
    before_goal = evaluation.step_costs[0] > 0  # (H,)
    return {kind: float((is_violated & before_goal).any(-1).float().mean()) for kind, is_violated in violations.items()}


def _summarise_plans(audited_plans: Sequence[AuditedPlan], kinds: Sequence[str]) -> dict[str, Any]:
    """Average the costs, and count the plans that lead to each kind of violation."""
    means = ("predicted_cost", "realised_cost", "random_predicted_cost", "random_realised_cost", "random_disagreement")
    return {
        **{name: _compute_known_mean([getattr(plan, name) for plan in audited_plans]) for name in means},
        "plans_checked": len(audited_plans),
        "plans": {kind: _count_plans(audited_plans, kind) for kind in kinds},
    }


def _count_plans(audited_plans: Sequence[AuditedPlan], kind: str) -> PlanCounts:
    pairs = [(plan.predicted_violations[kind] > 0.5, plan.realised_violations[kind] > 0.5) for plan in audited_plans]
    return PlanCounts(
        predicted=sum(is_predicted for is_predicted, _ in pairs),
        realised=sum(is_realised for _, is_realised in pairs),
        both=sum(is_predicted and is_realised for is_predicted, is_realised in pairs),
        expected=float(sum(plan.predicted_violations[kind] for plan in audited_plans)),
    )


def _compute_known_mean(values: Sequence[float | None]) -> float | None:
    """Of what is known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
