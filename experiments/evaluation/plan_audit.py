"""PlanAudit: predicted costs and violations of plans beside those in the true simulator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agents.planning.objective import Evaluation, Objective
from agents.planning.planner import Decision, Planner
from agents.planning.search import NUM_KNOTS, make_spline_basis
from experiments.evaluation.results import ANY_VIOLATION, CONTACT_VIOLATION, PlanCounts
from experiments.evaluation.specs import EpisodeSpec
from sim.bodies import Kind, Observation
from sim.env import GroundEnv
from sim.geometry.gaps import TOUCH_M, compute_static_gaps
from sim.policy import Policy
from sim.task import Task
from worldmodels.simulator import SimulatorModel

AUDIT_INTERVAL_DECISIONS = 10
NUM_RANDOM_PLANS = 2  # from the same state as the chosen plan
MEANS = ("predicted_cost", "realised_cost", "random_predicted_cost", "random_realised_cost", "random_disagreement")


@dataclass(frozen=True)
class AuditedPlan:
    """Outcome of plans from one state. Costs are means over the steps, in the task's unit."""

    predicted_cost: float
    realised_cost: float
    random_predicted_cost: float  # mean over the random plans
    random_realised_cost: float
    random_disagreement: float | None
    predicted_violations: Mapping[str, float]  # share of the particles, by kind
    realised_violations: Mapping[str, float]  # 0 or 1, by kind


class PlanAudit:
    """Audit of the plans of one episode; empty where the policy does not plan."""

    def __init__(self, env: GroundEnv, policy: Policy, spec: EpisodeSpec) -> None:
        self._env = env
        self._planner = policy if isinstance(policy, Planner) else None
        self._spec = spec
        self._audited_plans: list[AuditedPlan] = []
        self._disagreements: list[float | None] = []
        self._simulator_objective: Objective | None = None  # made when first needed

    def add_decision(self, observation: Observation) -> None:
        """Add the policy's last decision.

        Args:
            observation: from which it was made.
        """
        if self._planner is None or (decision := self._planner.last_decision) is None:
            return
        if len(self._disagreements) % AUDIT_INTERVAL_DECISIONS == 0:
            self._audited_plans.append(self._audit_plan(self._planner, decision, observation))
        self._disagreements.append(decision.disagreement)

    def _audit_plan(self, planner: Planner, decision: Decision, observation: Observation) -> AuditedPlan:
        """Run the plans to their ends in the true simulator."""
        decision_number = 1 + len(self._disagreements)
        task = self._env.scene.task
        if self._simulator_objective is None:
            simulator = SimulatorModel(self._spec.scene)
            simulator.start_episode(self._env.make_episode_start(self._spec.seed))
            self._simulator_objective = Objective(simulator, task, self._env.scene.hold_steps)
        self._simulator_objective.observe(observation)
        plans = torch.cat([decision.plan[None], sample_random_plans(decision.plan, self._spec.seed, decision_number)])
        predicted = planner.objective.evaluate(plans)
        realised = self._simulator_objective.evaluate(plans)
        return AuditedPlan(
            predicted_cost=float(decision.step_costs.mean()),
            realised_cost=float(realised.step_costs[0].mean()),
            random_predicted_cost=float(predicted.step_costs[1:].mean()),
            random_realised_cost=float(realised.step_costs[1:].mean()),
            random_disagreement=_compute_known_mean([predicted.compute_disagreement(index) for index in range(1, len(plans))]),
            predicted_violations=compute_violation_shares(predicted, observation, task),
            realised_violations=compute_violation_shares(realised, observation, task),
        )

    def summarise(self) -> dict[str, Any]:
        """Summarise the audit as fields of an EpisodeResult."""
        plans = self._audited_plans
        kind = ANY_VIOLATION if self._env.scene.make_world else CONTACT_VIOLATION
        kinds = (kind, *self._env.scene.task.predict_violations(self._env.bodies))
        return {
            "disagreement": _compute_known_mean(self._disagreements),
            **{name: _compute_known_mean([getattr(plan, name) for plan in plans]) for name in MEANS},
            "plans_checked": len(plans),
            "plans": {kind: _count_plans(plans, kind) for kind in kinds},
        }


def sample_random_plans(template: torch.Tensor, seed: int, decision_number: int) -> torch.Tensor:
    """Sample smooth plans; the same for one seed and decision number.

    Args:
        template: plan (H, A), whose length and type the random plans take.
        seed: of the episode.

    Returns:
        Plans (NUM_RANDOM_PLANS, H, A) in [-1, 1].
    """
    horizon, action_size = template.shape
    basis = make_spline_basis(horizon, min(NUM_KNOTS, horizon)).numpy()
    knots = np.random.default_rng([seed, decision_number]).standard_normal((NUM_RANDOM_PLANS, basis.shape[1], action_size))
    return torch.as_tensor(np.clip(basis @ knots, -1, 1), dtype=template.dtype)


def compute_violation_shares(evaluation: Evaluation, observation: Observation, task: Task) -> dict[str, float]:
    """Compute the share of particles in which the first plan violates something before the goal.

    Kinds are those of the task that poses show, and CONTACT_VIOLATION of the robot or a load; or
    ANY_VIOLATION where the model predicts that.
    A step's cost is 0 from the goal on.

    Args:
        evaluation: of plans by a model.
        observation: at the begin of the plans.

    Returns:
        Shares in [0, 1], by kind; none where the model predicts no bodies.
    """
    if evaluation.bodies is None:
        return {}
    bodies = evaluation.bodies.map(lambda values: values[:, 0])  # (P, H, M, ...)
    violations: dict[str, Any] = dict(task.predict_violations(bodies))
    if evaluation.violation is not None:
        violations[ANY_VIOLATION] = evaluation.violation[:, 0] > 0.5
    else:
        num_loads = int(((observation["kind"] == Kind.LOAD) & (observation["present"] > 0)).sum())
        gaps = compute_static_gaps(observation, bodies.pose[:, :, : 1 + num_loads].numpy())
        violations = {CONTACT_VIOLATION: torch.as_tensor((gaps < TOUCH_M).any(-1)), **violations}
    before_goal = evaluation.step_costs[0] > 0  # (H,)
    return {kind: float((is_violated & before_goal).any(-1).float().mean()) for kind, is_violated in violations.items()}


def _count_plans(plans: Sequence[AuditedPlan], kind: str) -> PlanCounts:
    """Count the plans that lead to a kind of violation; predicted means in most particles."""
    shares = [plan.predicted_violations.get(kind, 0.0) for plan in plans]
    predicted = [share > 0.5 for share in shares]
    realised = [plan.realised_violations.get(kind, 0.0) > 0.5 for plan in plans]
    both = sum(map(all, zip(predicted, realised, strict=True)))
    return PlanCounts(sum(predicted), sum(realised), both, float(sum(shares)))


def _compute_known_mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
