import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PLANAR_MODELS, LinearQuadratic
from test_models import make_random_model

from agents.planning.objective import TERMINAL_WEIGHT, Evaluation, Objective
from agents.planning.planner import Planner
from agents.planning.search import SearchConfig, searches
from agents.planning.spec import PlannerSpec
from sim.bodies import ROBOT, Bodies
from sim.env import GroundEnv
from sim.layout import Hall, Layout, Pose
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.scenes.tote_push.task import PushTask
from sim.utils.errors import BadFile, GroundError
from sim.variation import Variation
from worldmodels.model import Prediction, models
from worldmodels.simulator import SimulatorModel
from worldmodels.training.checkpoint import save_checkpoint

SCENE = "logistics/tote-push"
HALL = Layout(Hall(0, 0, 6, 6), Pose(2, 3), (Pose(2.8, 3),), Pose(4, 3))
START = EpisodeStart(5, HALL, Variation())
CONFIG = SearchConfig(samples=64, iterations=3, horizon=12)


class LinearQuadraticObjective:
    """An objective that is a linear-quadratic problem; the observation is its state."""

    action_size = 2

    def __init__(self, delay_s: float = 0.0) -> None:
        self.model, self.calls, self._delay_s = self, list[torch.Tensor](), delay_s

    def start_episode(self, start: EpisodeStart) -> None:
        self.calls.clear()

    def observe(self, observation: dict[str, np.ndarray], steps: int = 0) -> None:
        self._problem = LinearQuadratic(tuple(observation["state"]), CONFIG.horizon)

    def evaluate(self, actions: torch.Tensor) -> Evaluation:
        self.calls.append(actions)
        time.sleep(self._delay_s)
        costs = self._problem.compute_costs(actions)
        blank = torch.zeros(1, *actions.shape[:2], 2, 7)
        return Evaluation(costs, costs[:, None].expand(-1, actions.shape[1]), Bodies(*[blank] * 6))


def make_planner(
    name: str, budget_s: float | None = None, config: SearchConfig = CONFIG, delay_s: float = 0.0
) -> tuple[Planner, Any]:
    objective: Any = LinearQuadraticObjective(delay_s)
    planner = Planner(objective, searches[name](config), budget_s)
    planner.start_episode(START)
    return planner, objective


def make_state(*values: float) -> dict[str, np.ndarray]:
    return {"state": np.array(values)}


@pytest.mark.parametrize("name", searches)
def test_a_search_evaluates_once_per_iteration_and_starts_from_the_last_plan(name: str) -> None:
    planner, objective = make_planner(name)
    first = planner.decide(make_state(0.2, -0.1, 0, 0))
    assert (len(objective.calls), first.iterations) == (3, 3)
    assert {tuple(call.shape) for call in objective.calls} == {(64, 12, 2)} or name in ("beam", "icem")  # the population shrinks
    assert {tuple(call.shape[1:]) for call in objective.calls} == {(12, 2)}
    assert sum(map(len, objective.calls)) == 3 * 64
    assert not objective.calls[0][0].any()
    second = planner.decide(make_state(0.1, 0, 0, 0))
    assert len(objective.calls) == 6
    assert torch.equal(objective.calls[3][0], torch.cat([first.plan[1:], first.plan[-1:]]))
    assert second.plan.shape == (12, 2)


@pytest.mark.parametrize("name", searches)
def test_the_plan_is_the_best_evaluated_candidate(name: str) -> None:
    planner, objective = make_planner(name)
    decision = planner.decide(make_state(0.2, -0.1, 0, 0))
    candidates = torch.cat(objective.calls)
    costs = LinearQuadratic((0.2, -0.1, 0, 0), 12).compute_costs(candidates)
    assert decision.cost == float(costs.min().detach())
    assert torch.equal(decision.plan, candidates[costs.argmin()])
    assert decision.disagreement is None
    assert decision.seconds >= decision.model_seconds > 0


@pytest.mark.parametrize("name", searches)
def test_the_same_seed_gives_the_same_actions(name: str) -> None:
    runs = []
    for seed in (5, 5, 6):
        planner, _ = make_planner(name)
        planner.start_episode(replace(START, seed=seed))
        runs.append(
            np.array([planner.predict(make_state(0.2, -0.1, 0.1 * step, 0), deterministic=False)[0] for step in range(4)])
        )
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert np.abs(runs[0]).max() <= 1


@pytest.mark.parametrize("name", searches)
def test_start_episode_resets_a_planner(name: str) -> None:
    planner, _ = make_planner(name)
    first = planner.decide(make_state(0.2, -0.1, 0, 0)).plan
    planner.decide(make_state(0.1, 0, 0, 0))
    planner.start_episode(START)
    assert planner.last_decision is None
    assert torch.equal(planner.decide(make_state(0.2, -0.1, 0, 0)).plan, first)


@pytest.mark.parametrize("name", searches)
def test_replanning_each_step_drives_the_system_to_its_target(name: str) -> None:
    planner, _ = make_planner(name, config=replace(CONFIG, samples=128))
    position = np.array([0.3, -0.25, 0.0, 0.0])
    before = np.linalg.norm(position)
    for _ in range(25):
        action, _ = planner.predict(make_state(*position))
        position = LinearQuadratic.step(position, action)
    assert np.linalg.norm(position) < (0.8 if name == "random" else 0.3) * before


@pytest.mark.parametrize("name", searches)
def test_a_time_budget_stops_early_and_still_acts(name: str) -> None:
    planner, objective = make_planner(name, budget_s=1e-9)
    action, _ = planner.predict(make_state(0.2, -0.1, 0, 0))
    assert len(objective.calls) == 1
    assert planner.last_decision is not None
    assert planner.last_decision.iterations == 1
    assert action.shape == (2,)
    assert np.abs(action).max() <= 1
    slow, objective = make_planner(name, budget_s=0.35, config=replace(CONFIG, iterations=50), delay_s=0.1)
    decision = slow.decide(make_state(0.2, -0.1, 0, 0))
    assert 1 <= decision.iterations <= 3  # a sleep may take longer than its duration
    assert len(objective.calls) == decision.iterations
    free, _ = make_planner(name, budget_s=1e9)
    assert free.decide(make_state(0.2, -0.1, 0, 0)).iterations == 3


def make_observation(layout: Layout = HALL) -> dict[str, np.ndarray]:
    env = GroundEnv(SCENE, layout=layout)
    observation, _ = env.reset(seed=0)
    env.close()
    return observation


def make_objective(model: Any, observation: dict[str, np.ndarray]) -> Objective:
    model.start_episode(START)
    objective = Objective(model, scenes[SCENE].task)
    objective.observe(observation)
    return objective


def test_step_costs_equal_the_costs_of_the_environment() -> None:
    """The model is the simulator."""
    actions = torch.rand(3, 8, 2, generator=torch.Generator().manual_seed(0))
    evaluation = make_objective(SimulatorModel(SCENE), make_observation()).evaluate(actions)
    env = GroundEnv(SCENE, layout=HALL)
    for candidate in range(3):
        env.reset(seed=0)
        costs = [env.step(action)[4]["cost"] for action in actions[candidate].numpy()]
        np.testing.assert_allclose(evaluation.step_costs[candidate], costs, atol=0.03)
    env.close()
    total = evaluation.step_costs.mean(1) + TERMINAL_WEIGHT * evaluation.step_costs[:, -1]
    torch.testing.assert_close(evaluation.costs, total)


def test_steps_after_success_have_no_cost() -> None:
    at_goal = replace(HALL, loads=(Pose(3.99, 3),))
    evaluation = make_objective(SimulatorModel(SCENE), make_observation(at_goal)).evaluate(torch.zeros(2, 5, 2))
    assert not evaluation.step_costs.any()
    assert not evaluation.costs.any()
    objective = make_objective(SimulatorModel(SCENE), make_observation(replace(HALL, robot=Pose(2.24, 3))))
    step_costs = objective.evaluate(torch.tensor([1.0, 0.0]).expand(1, 20, 2)).step_costs[0]
    reached = int((step_costs == 0).float().argmax())
    assert 5 < reached < 20
    assert not step_costs[reached:].any()
    assert step_costs[:reached].min() > 0


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_particles_are_averaged_and_their_disagreement_is_computed(name: str) -> None:
    torch.manual_seed(0)
    model = models[name]().eval()
    evaluation = make_objective(model, make_observation()).evaluate(torch.rand(4, 6, 2))
    assert evaluation.costs.shape == (4,)
    assert evaluation.step_costs.shape == (4, 6)
    disagreement = evaluation.compute_disagreement(0)
    assert (disagreement is None) == (model.particles == 1)
    if disagreement is not None:
        assert disagreement > 0
        same = replace(evaluation, bodies=evaluation.bodies.map(lambda values: values[:1].expand(3, *values.shape[1:])))
        assert same.compute_disagreement(0) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("search", searches)
def test_planning_with_the_simulator_pushes_the_load_to_the_goal(search: str) -> None:
    """The push is short and straight; methods that need gradients are refused."""
    layout = replace(HALL, robot=Pose(2.4, 3), loads=(Pose(3, 3),), goal=Pose(3.6, 3))
    spec = PlannerSpec(SCENE, "simulator", search, SearchConfig(samples=24, iterations=2, horizon=12))
    if searches[search].needs_gradient:
        with pytest.raises(GroundError, match="no gradients"):
            spec()
        return
    planner = spec()
    env = GroundEnv(SCENE, layout=layout)
    observation, _ = env.reset(seed=0)
    planner.start_episode(EpisodeStart(0, layout, env.variation))
    success, steps = False, 0
    while not success and steps < 40:
        observation, _, success, _, _ = env.step(planner.predict(observation)[0])
        steps += 1
    env.close()
    assert success


def test_calling_a_spec_builds_equal_planners(tmp_path: Path) -> None:
    save_checkpoint(models["graph"](), tmp_path / "model", "best", {"scene": SCENE})
    spec = PlannerSpec(SCENE, str(tmp_path / "model"), "cem", SearchConfig(samples=8, iterations=1, horizon=3))
    assert hash(spec) == hash(replace(spec))
    first, second = spec(), spec()
    for planner in (first, second):
        planner.start_episode(START)
    actions = [planner.predict(make_observation())[0] for planner in (first, second)]
    assert np.array_equal(*actions)
    with pytest.raises(BadFile, match="train one first"):
        replace(spec, model=str(tmp_path / "nothing"))()


class CostBarrier:
    """A line with its goal at 3 or beyond; within the usual horizon, costs only rise towards the barrier before it."""

    action_size = 2

    model = property(lambda self: self)

    def start_episode(self, start: EpisodeStart) -> None: ...

    def observe(self, observation: dict[str, np.ndarray], steps: int = 0) -> None:
        self._position = float(observation["state"][0])

    @staticmethod
    def compute_cost(position: torch.Tensor) -> torch.Tensor:
        return torch.where(
            position < 3, 1 + 0.5 * torch.exp(-4 * (position - 1).square()) + 0.02 * position.clamp(max=0).square(), 0
        )

    def evaluate(self, actions: torch.Tensor) -> Evaluation:
        step_costs = self.compute_cost(self._position + 0.2 * actions[..., 0].cumsum(-1))
        blank = torch.zeros(1, *actions.shape[:2], 2, 7)
        return Evaluation(step_costs.mean(1) + step_costs[:, -1], step_costs, Bodies(*[blank] * 6))


@pytest.mark.parametrize("has_long_horizon", [False, True])
def test_only_a_long_horizon_search_crosses_a_cost_barrier(has_long_horizon: bool) -> None:
    usual, double = SearchConfig(samples=64, horizon=12), SearchConfig(samples=32, horizon=24)
    objective: Any = CostBarrier()
    planner = Planner(
        objective, searches["mppi"](usual), long_horizon_search=searches["mppi"](double) if has_long_horizon else None
    )
    planner.start_episode(START)
    position, steps = 0.0, 0
    while position < 3 and steps < 250:
        action, _ = planner.predict(make_state(position))
        position, steps = position + 0.2 * float(action[0]), steps + 1
    assert (position >= 3) == has_long_horizon


class ActionAsPosition:
    """A model in which the first action component is the robot's x position."""

    def update_belief(self, observation: object, previous: object) -> None: ...

    def encode(self, observation: object, steps: int, belief: object) -> None: ...

    def rollout(self, state: object, actions: torch.Tensor) -> Prediction:
        pose = torch.zeros(1, *actions.shape[:2], 2, 7)
        pose[0, :, :, 0, 0] = actions[..., 0]
        return Prediction(Bodies(pose, *[torch.zeros(1, *actions.shape[:2], 2)] * 5))


def test_a_short_violation_adds_the_largest_penalty_to_the_cost() -> None:
    class PenaltyTask(PushTask):
        risk_time_constant_s = 0.5

        def compute_cost(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return torch.zeros(bodies.pose.shape[:-2])

        def compute_violation_penalty(self, bodies: Bodies, command: Any, field: Any) -> Any:
            return 20 * (bodies.pose[..., ROBOT, 0] > 0.5)

        def is_success(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return bodies.pose[..., ROBOT, 0] < -0.5

    objective = Objective(ActionAsPosition(), PenaltyTask())  # type: ignore[arg-type]
    objective.observe(make_observation())
    actions = torch.zeros(4, 10, 2)
    actions[1, 3, 0] = actions[2, 3:8, 0] = actions[3, 5:, 0] = 1
    actions[3, 2, 0] = -1  # steps after success have no cost
    risk = 20 * np.exp(-0.1 * np.arange(10) / PenaltyTask.risk_time_constant_s)  # later violations can still be avoided
    expected = [0, risk[3] / 10 + risk[3], risk[3:8].mean() / 2 + risk[3], 0]
    assert objective.evaluate(actions).costs.tolist() == pytest.approx(expected)


def test_success_must_be_held_for_hold_steps() -> None:
    class ConstantCostTask(PushTask):
        def compute_cost(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return 1.0 * (bodies.pose[..., ROBOT, 0] == 0)

        def is_success(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return bodies.pose[..., ROBOT, 0] > 0

    actions = torch.zeros(4, 10, 2)
    actions[0, 3:5, 0] = 1  # at the goal for two steps
    actions[1, 3:6, 0] = 1  # at the goal for three steps, then leaves it
    actions[2, 8:, 0] = 1  # at the goal until the plan ends
    for hold_steps, expected in ((0, [3, 3, 8, 10]), (2, [8, 3, 8, 10])):
        objective = Objective(ActionAsPosition(), ConstantCostTask(), hold_steps)  # type: ignore[arg-type]
        objective.observe(make_observation())
        assert objective.evaluate(actions).step_costs.sum(1).tolist() == expected


@pytest.mark.parametrize("hold_steps", [0, 2])
def test_a_violation_counts_until_the_goal_was_held(hold_steps: int) -> None:
    class ViolationTask(PushTask):
        risk_time_constant_s = np.inf

        def compute_cost(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return torch.ones(bodies.pose.shape[:-2])

        def compute_violation_penalty(self, bodies: Bodies, command: Any, field: Any) -> Any:
            return 20.0 * (bodies.pose[..., ROBOT, 0] > 0.5)

        def is_success(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return bodies.pose[..., ROBOT, 0] > 0.3

    objective = Objective(ActionAsPosition(), ViolationTask(), hold_steps)  # type: ignore[arg-type]
    objective.observe(make_observation())
    actions = torch.zeros(7, 10, 2)
    actions[:, 4:, 0] = 0.4  # success from the fifth step on
    for candidate in range(6):
        actions[candidate, 4 + candidate, 0] = 0.6  # with a violation at that step or later
    penalties = [20.0] * (1 + hold_steps) + [0.0] * (6 - hold_steps)
    assert objective.evaluate(actions).costs.tolist() == pytest.approx([0.4 + penalty / 10 + penalty for penalty in penalties])


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_costs_fall_along_their_gradient(name: str) -> None:
    """The gradient runs through model, task and cost-to-go field; a small step against it costs less."""
    objective = make_objective(make_random_model(name), make_observation())
    actions = (0.3 * torch.randn(5, 8, 2, generator=torch.Generator().manual_seed(1))).requires_grad_()
    costs = objective.evaluate(actions).costs
    (gradient,) = torch.autograd.grad(costs.sum(), actions)
    assert torch.isfinite(gradient).all()
    norm = gradient.flatten(1).norm(dim=1)
    assert (norm > 0).any()
    after = objective.evaluate((actions - 1e-3 * gradient / (norm[:, None, None] + 1e-9)).detach()).costs
    assert (after <= costs.detach() + 1e-5).all()
    torch.testing.assert_close(objective.evaluate(actions.detach()).costs, costs.detach())


def test_the_predicted_plan_of_a_prior_policy_equals_its_actions() -> None:
    prior_policy = scenes[SCENE].behaviours["scripted"]()
    env = GroundEnv(SCENE, layout=HALL)
    observation, _ = env.reset(seed=0)
    objective = make_objective(SimulatorModel(SCENE), observation)
    prior_policy.start_episode(START)
    plan = objective.imagine_policy(prior_policy, observation, 12)
    prior_policy.start_episode(START)
    for action in plan:
        np.testing.assert_allclose(prior_policy.predict(observation)[0], action, atol=0.02)
        observation = env.step(action.numpy())[0]
    env.close()


@pytest.mark.parametrize("name", searches)
def test_the_number_of_model_steps_follows_from_the_search_config(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["graph"]().eval()
    rollout_sizes = list[tuple[int, int]]()
    rollout = type(model).rollout
    monkeypatch.setattr(
        type(model),
        "rollout",
        lambda self, state, actions: (rollout_sizes.append(actions.shape[:2]), rollout(self, state, actions))[1],
    )
    config = SearchConfig(samples=6, iterations=2, horizon=4)
    prior_policy = scenes[SCENE].behaviours["scripted"]() if searches[name].needs_prior else None
    planner = Planner(Objective(model, scenes[SCENE].task), searches[name](config), prior_policy=prior_policy)
    planner.start_episode(START)
    first = planner.decide(make_observation()).plan
    assert sum(samples * steps for samples, steps in rollout_sizes) == 6 * 2 * 4 + (2 * 4 if prior_policy else 0)
    planner.start_episode(START)
    assert torch.equal(planner.decide(make_observation()).plan, first)
