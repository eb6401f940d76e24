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


class Known:
    """An objective that is a linear-quadratic problem; the observation is its state."""

    action_size = 2

    def __init__(self, seconds: float = 0.0) -> None:
        self.model, self.calls, self._seconds = self, list[torch.Tensor](), seconds

    def start_episode(self, start: EpisodeStart) -> None:
        self.calls.clear()

    def observe(self, observation: dict[str, np.ndarray], steps: int = 0) -> None:
        self._problem = LinearQuadratic(tuple(observation["state"]), CONFIG.horizon)

    def evaluate(self, actions: torch.Tensor) -> Evaluation:
        self.calls.append(actions)
        time.sleep(self._seconds)
        costs = self._problem.costs(actions)
        blank = torch.zeros(1, *actions.shape[:2], 2, 7)
        return Evaluation(costs, costs[:, None].expand(-1, actions.shape[1]), Bodies(*[blank] * 6))


def planner_on(
    name: str, budget_s: float | None = None, config: SearchConfig = CONFIG, seconds: float = 0.0
) -> tuple[Planner, Any]:
    objective: Any = Known(seconds)
    planner = Planner(objective, searches[name](config), budget_s)
    planner.start_episode(START)
    return planner, objective


def state(*values: float) -> dict[str, np.ndarray]:
    return {"state": np.array(values)}


@pytest.mark.parametrize("name", searches)
def test_the_model_is_asked_once_per_iteration_and_begins_with_the_last_plan(name: str) -> None:
    planner, objective = planner_on(name)
    first = planner.decide(state(0.2, -0.1, 0, 0))
    assert (len(objective.calls), first.iterations) == (3, 3)
    assert {tuple(call.shape) for call in objective.calls} == {(64, 12, 2)} or name == "icem"  # whose population shrinks
    assert {tuple(call.shape[1:]) for call in objective.calls} == {(12, 2)}
    assert sum(map(len, objective.calls)) == 3 * 64
    assert not objective.calls[0][0].any()
    second = planner.decide(state(0.1, 0, 0, 0))
    assert len(objective.calls) == 6
    assert torch.equal(objective.calls[3][0], torch.cat([first.plan[1:], first.plan[-1:]]))
    assert second.plan.shape == (12, 2)


@pytest.mark.parametrize("name", searches)
def test_the_plan_is_the_best_candidate_seen(name: str) -> None:
    planner, objective = planner_on(name)
    decision = planner.decide(state(0.2, -0.1, 0, 0))
    seen = torch.cat(objective.calls)
    costs = LinearQuadratic((0.2, -0.1, 0, 0), 12).costs(seen)
    assert decision.cost == float(costs.min().detach())
    assert torch.equal(decision.plan, seen[costs.argmin()])
    assert decision.disagreement is None
    assert decision.seconds >= decision.model_seconds > 0


@pytest.mark.parametrize("name", searches)
def test_the_same_seed_gives_the_same_actions(name: str) -> None:
    runs = []
    for seed in (5, 5, 6):
        planner, _ = planner_on(name)
        planner.start_episode(replace(START, seed=seed))
        runs.append(np.array([planner.predict(state(0.2, -0.1, 0.1 * step, 0), deterministic=False)[0] for step in range(4)]))
    assert np.array_equal(runs[0], runs[1])
    assert not np.array_equal(runs[0], runs[2])
    assert np.abs(runs[0]).max() <= 1


@pytest.mark.parametrize("name", searches)
def test_begin_forgets_the_episode_before(name: str) -> None:
    planner, _ = planner_on(name)
    first = planner.decide(state(0.2, -0.1, 0, 0)).plan
    planner.decide(state(0.1, 0, 0, 0))
    planner.start_episode(START)
    assert planner.last_decision is None
    assert torch.equal(planner.decide(state(0.2, -0.1, 0, 0)).plan, first)


@pytest.mark.parametrize("name", searches)
def test_acting_step_by_step_brings_the_system_home(name: str) -> None:
    planner, _ = planner_on(name, config=replace(CONFIG, samples=128))
    position = np.array([0.3, -0.25, 0.0, 0.0])
    before = np.linalg.norm(position)
    for _ in range(25):
        action, _ = planner.predict(state(*position))
        position = LinearQuadratic.step(position, action)
    assert np.linalg.norm(position) < (0.8 if name == "random" else 0.3) * before


@pytest.mark.parametrize("name", searches)
def test_a_time_budget_stops_early_and_still_acts(name: str) -> None:
    planner, objective = planner_on(name, budget_s=1e-9)
    action, _ = planner.predict(state(0.2, -0.1, 0, 0))
    assert len(objective.calls) == 1
    assert planner.last_decision is not None
    assert planner.last_decision.iterations == 1
    assert action.shape == (2,)
    assert np.abs(action).max() <= 1
    slow, calls = planner_on(name, budget_s=0.35, config=replace(CONFIG, iterations=50), seconds=0.1)
    decision = slow.decide(state(0.2, -0.1, 0, 0))
    assert 1 <= decision.iterations <= 3  # sleeping takes at least as long as it says
    assert len(calls.calls) == decision.iterations
    free, calls = planner_on(name, budget_s=1e9)
    assert free.decide(state(0.2, -0.1, 0, 0)).iterations == 3


def observed(layout: Layout = HALL) -> dict[str, np.ndarray]:
    env = GroundEnv(SCENE, layout=layout)
    observation, _ = env.reset(seed=0)
    env.close()
    return observation


def objective_of(model: Any, observation: dict[str, np.ndarray]) -> Objective:
    model.start_episode(START)
    objective = Objective(model, scenes[SCENE].task)
    objective.observe(observation)
    return objective


def test_the_objective_is_the_cost_the_environment_charges() -> None:
    """With the simulator as model, a candidate's running costs are those that the environment gives for its actions."""
    actions = torch.rand(3, 8, 2, generator=torch.Generator().manual_seed(0))
    imagined = objective_of(SimulatorModel(SCENE), observed()).evaluate(actions)
    env = GroundEnv(SCENE, layout=HALL)
    for candidate in range(3):
        env.reset(seed=0)
        costs = [env.step(action)[4]["cost"] for action in actions[candidate].numpy()]
        np.testing.assert_allclose(imagined.step_costs[candidate], costs, atol=0.03)
    env.close()
    total = imagined.step_costs.mean(1) + TERMINAL_WEIGHT * imagined.step_costs[:, -1]
    torch.testing.assert_close(imagined.costs, total)


def test_what_comes_after_the_goal_costs_nothing() -> None:
    at_goal = replace(HALL, loads=(Pose(3.99, 3),))
    imagined = objective_of(SimulatorModel(SCENE), observed(at_goal)).evaluate(torch.zeros(2, 5, 2))
    assert not imagined.step_costs.any()
    assert not imagined.costs.any()
    on_the_way = objective_of(SimulatorModel(SCENE), observed(replace(HALL, robot=Pose(2.24, 3))))
    running = on_the_way.evaluate(torch.tensor([1.0, 0.0]).expand(1, 20, 2)).step_costs[0]
    reached = int((running == 0).float().argmax())
    assert 5 < reached < 20
    assert not running[reached:].any()
    assert running[:reached].min() > 0


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_particles_are_averaged_and_their_disagreement_is_told(name: str) -> None:
    torch.manual_seed(0)
    model = models[name]().eval()
    imagined = objective_of(model, observed()).evaluate(torch.rand(4, 6, 2))
    assert imagined.costs.shape == (4,)
    assert imagined.step_costs.shape == (4, 6)
    disagreement = imagined.compute_disagreement(0)
    assert (disagreement is None) == (model.particles == 1)
    if disagreement is not None:
        assert disagreement > 0
        same = replace(imagined, bodies=imagined.bodies.map(lambda values: values[:1].expand(3, *values.shape[1:])))
        assert same.compute_disagreement(0) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("search", searches)
def test_planning_on_the_true_simulator_pushes_the_load_home(search: str) -> None:
    """A short way straight ahead, which every search method must find that needs no gradient."""
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


def test_a_spec_is_a_planner_when_called(tmp_path: Path) -> None:
    save_checkpoint(models["graph"](), tmp_path / "model", "best", {"scene": SCENE})
    spec = PlannerSpec(SCENE, str(tmp_path / "model"), "cem", SearchConfig(samples=8, iterations=1, horizon=3))
    assert hash(spec) == hash(replace(spec))
    first, second = spec(), spec()
    for planner in (first, second):
        planner.start_episode(START)
    actions = [planner.predict(observed())[0] for planner in (first, second)]
    assert np.array_equal(*actions)
    with pytest.raises(BadFile, match="train one first"):
        replace(spec, model=str(tmp_path / "nothing"))()


class Hill:
    action_size = 2
    """On a line, from 0 to home at 3 or beyond, with a hill between: within the usual horizon every way only leads up."""

    model = property(lambda self: self)

    def start_episode(self, start: EpisodeStart) -> None: ...

    def observe(self, observation: dict[str, np.ndarray], steps: int = 0) -> None:
        self._place = float(observation["state"][0])

    @staticmethod
    def cost(place: torch.Tensor) -> torch.Tensor:
        return torch.where(place < 3, 1 + 0.5 * torch.exp(-4 * (place - 1).square()) + 0.02 * place.clamp(max=0).square(), 0)

    def evaluate(self, actions: torch.Tensor) -> Evaluation:
        running = self.cost(self._place + 0.2 * actions[..., 0].cumsum(-1))
        blank = torch.zeros(1, *actions.shape[:2], 2, 7)
        return Evaluation(running.mean(1) + running[:, -1], running, Bodies(*[blank] * 6))


@pytest.mark.parametrize("far", [False, True])
def test_a_planner_that_looks_further_gets_over_a_hill_that_others_stay_behind(far: bool) -> None:
    usual, double = SearchConfig(samples=64, horizon=12), SearchConfig(samples=32, horizon=24)
    objective: Any = Hill()
    planner = Planner(objective, searches["mppi"](usual), long_horizon_search=searches["mppi"](double) if far else None)
    planner.start_episode(START)
    place, steps = 0.0, 0
    while place < 3 and steps < 250:
        action, _ = planner.predict(state(place))
        place, steps = place + 0.2 * float(action[0]), steps + 1
    assert (place >= 3) == far


class Slides:
    """The robot is where the actions say."""

    def update_belief(self, observation: object, previous: object) -> None: ...

    def encode(self, observation: object, steps: int, belief: object) -> None: ...

    def rollout(self, state: object, actions: torch.Tensor) -> Prediction:
        pose = torch.zeros(1, *actions.shape[:2], 2, 7)
        pose[0, :, :, 0, 0] = actions[..., 0]
        return Prediction(Bodies(pose, *[torch.zeros(1, *actions.shape[:2], 2)] * 5))


def test_a_plan_pays_for_its_worst_moment_however_soon_it_is_over() -> None:
    class Careful(PushTask):
        risk_time_constant_s = 0.5

        def compute_cost(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return torch.zeros(bodies.pose.shape[:-2])

        def compute_violation_penalty(self, bodies: Bodies, command: Any, field: Any) -> Any:
            return 20 * (bodies.pose[..., ROBOT, 0] > 0.5)

        def is_success(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return bodies.pose[..., ROBOT, 0] < -0.5

    objective = Objective(Slides(), Careful())  # type: ignore[arg-type]
    objective.observe(observed())
    actions = torch.zeros(4, 10, 2)
    actions[1, 3, 0] = actions[2, 3:8, 0] = actions[3, 5:, 0] = 1
    actions[3, 2, 0] = -1  # what comes after success does not matter
    risk = 20 * np.exp(-0.1 * np.arange(10) / Careful.risk_time_constant_s)  # what is later can still be avoided
    expected = [0, risk[3] / 10 + risk[3], risk[3:8].mean() / 2 + risk[3], 0]
    assert objective.evaluate(actions).costs.tolist() == pytest.approx(expected)


def test_a_goal_that_has_to_be_held_is_not_reached_by_passing_through() -> None:
    class Far(PushTask):
        def compute_cost(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return 1.0 * (bodies.pose[..., ROBOT, 0] == 0)

        def is_success(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return bodies.pose[..., ROBOT, 0] > 0

    actions = torch.zeros(4, 10, 2)
    actions[0, 3:5, 0] = 1  # passes through: two steps
    actions[1, 3:6, 0] = 1  # three steps, and leaves after it was done
    actions[2, 8:, 0] = 1  # who knows how long
    for hold_steps, owed in ((0, [3, 3, 8, 10]), (2, [8, 3, 8, 10])):
        objective = Objective(Slides(), Far(), hold_steps)  # type: ignore[arg-type]
        objective.observe(observed())
        assert objective.evaluate(actions).step_costs.sum(1).tolist() == owed


@pytest.mark.parametrize("hold_steps", [0, 2])
def test_a_violation_counts_until_the_goal_was_held(hold_steps: int) -> None:
    class Careless(PushTask):
        risk_time_constant_s = np.inf

        def compute_cost(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return torch.ones(bodies.pose.shape[:-2])

        def compute_violation_penalty(self, bodies: Bodies, command: Any, field: Any) -> Any:
            return 20.0 * (bodies.pose[..., ROBOT, 0] > 0.5)

        def is_success(self, bodies: Bodies, *args: Any) -> torch.Tensor:
            return bodies.pose[..., ROBOT, 0] > 0.3

    objective = Objective(Slides(), Careless(), hold_steps)  # type: ignore[arg-type]
    objective.observe(observed())
    actions = torch.zeros(7, 10, 2)
    actions[:, 4:, 0] = 0.4  # solved from the fifth step on
    for candidate in range(6):
        actions[candidate, 4 + candidate, 0] = 0.6  # and a violation in it, or later
    risky = [20.0] * (1 + hold_steps) + [0.0] * (6 - hold_steps)
    assert objective.evaluate(actions).costs.tolist() == pytest.approx([0.4 + risk / 10 + risk for risk in risky])


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_costs_fall_along_their_gradient(name: str) -> None:
    """Through model, task and field: a small step down the slope costs less."""
    objective = objective_of(make_random_model(name), observed())
    actions = (0.3 * torch.randn(5, 8, 2, generator=torch.Generator().manual_seed(1))).requires_grad_()
    costs = objective.evaluate(actions).costs
    (slope,) = torch.autograd.grad(costs.sum(), actions)
    assert torch.isfinite(slope).all()
    steep = slope.flatten(1).norm(dim=1)
    assert (steep > 0).any()
    after = objective.evaluate((actions - 1e-3 * slope / (steep[:, None, None] + 1e-9)).detach()).costs
    assert (after <= costs.detach() + 1e-5).all()
    torch.testing.assert_close(objective.evaluate(actions.detach()).costs, costs.detach())


def test_with_the_true_dynamics_a_guide_is_imagined_to_do_what_it_does() -> None:
    guide = scenes[SCENE].behaviours["scripted"]()
    env = GroundEnv(SCENE, layout=HALL)
    observation, _ = env.reset(seed=0)
    objective = objective_of(SimulatorModel(SCENE), observation)
    guide.start_episode(START)
    plan = objective.imagine_policy(guide, observation, 12)
    guide.start_episode(START)
    for action in plan:
        np.testing.assert_allclose(guide.predict(observation)[0], action, atol=0.02)
        observation = env.step(action.numpy())[0]
    env.close()


@pytest.mark.parametrize("name", searches)
def test_a_decision_costs_as_many_model_steps_as_the_search_says(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = models["graph"]().eval()
    asked = list[tuple[int, int]]()
    rollout = type(model).rollout
    monkeypatch.setattr(
        type(model), "rollout", lambda self, state, actions: (asked.append(actions.shape[:2]), rollout(self, state, actions))[1]
    )
    config = SearchConfig(samples=6, iterations=2, horizon=4)
    guide = scenes[SCENE].behaviours["scripted"]() if searches[name].needs_prior else None
    planner = Planner(Objective(model, scenes[SCENE].task), searches[name](config), prior_policy=guide)
    planner.start_episode(START)
    first = planner.decide(observed()).plan
    assert sum(samples * steps for samples, steps in asked) == 6 * 2 * 4 + (2 * 4 if guide else 0)
    planner.start_episode(START)
    assert torch.equal(planner.decide(observed()).plan, first)
