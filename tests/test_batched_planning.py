"""Batched planning gives the plans of single planning, up to the order of floating-point sums."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PLANAR_MODELS
from test_models import make_crowded_observation, make_random_model, sample_plans

from agents.planning.objective import Objective
from agents.planning.planner import Planner, act_batch, plan
from agents.planning.search import SearchConfig, searches
from agents.planning.spec import PlannerSpec
from sim.bodies import Bodies
from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from worldmodels.baselines import PREDICTION_BASELINES, PredictionBaseline
from worldmodels.model import WorldModel
from worldmodels.simulator import SimulatorModel

SCENE = "logistics/tote-push"
CONFIG = SearchConfig(samples=12, iterations=2, horizon=5)


@cache
def make_starts(scene: str) -> list[tuple[dict[str, np.ndarray], EpisodeStart]]:
    """Make the start of an episode of each of the last splits: layouts of different sizes and bodies."""
    episode_starts = []
    for number, split in enumerate(scenes[scene].splits[-3:]):
        env = GroundEnv(scene, split)
        observation, _ = env.reset(seed=number, options={"index": number})
        episode_starts.append((observation, env.make_episode_start(number)))
        env.close()
    return episode_starts


def make_planners(model: WorldModel[Any], scene: str, search: str, starts: list[EpisodeStart]) -> list[Planner]:
    prior_policy = scenes[scene].behaviours["scripted"] if searches[search].needs_prior else None
    planners = [
        Planner(Objective(model, scenes[scene].task), searches[search](CONFIG), prior_policy=prior_policy and prior_policy())
        for _ in starts
    ]
    for planner, start in zip(planners, starts, strict=True):
        planner.start_episode(start)
    return planners


def assert_plans_agree(model: WorldModel[Any], scene: str, search: str = "mppi") -> None:
    """Compare two decisions in a row: the second also compares the warm start."""
    observations, starts = zip(*make_starts(scene), strict=True)
    single, batched = (make_planners(model, scene, search, list(starts)) for _ in range(2))
    for _ in range(2):
        expected = [planner.decide(observation) for planner, observation in zip(single, observations, strict=True)]
        decisions = plan(batched, observations)
        for decision, reference in zip(decisions, expected, strict=True):
            torch.testing.assert_close(decision.plan, reference.plan, atol=1e-4, rtol=0)
            torch.testing.assert_close(decision.step_costs, reference.step_costs, atol=1e-3, rtol=1e-4)
            assert decision.disagreement == (reference.disagreement and pytest.approx(reference.disagreement, abs=1e-4))


@pytest.mark.parametrize("scene", scenes)
@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_batched_plans_equal_single_plans(name: str, scene: str) -> None:
    assert_plans_agree(make_random_model(name), scene)


@pytest.mark.parametrize("search", searches)
def test_batched_plans_equal_single_plans_for_each_search(search: str) -> None:
    assert_plans_agree(make_random_model("graph"), SCENE, search)


@pytest.mark.parametrize("prediction", PREDICTION_BASELINES)
def test_batched_plans_equal_single_plans_for_each_prediction_baseline(prediction: str) -> None:
    assert_plans_agree(PredictionBaseline(make_random_model("graph"), prediction), "logistics/aisle-traffic")


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_batched_rollouts_do_not_depend_on_other_scenes(name: str) -> None:
    """Scenes of different loads and boxes, with different numbers of candidates and steps, share a batch."""
    model = make_random_model(name)
    state, crowded = model.encode(make_crowded_observation(1)), model.encode(make_crowded_observation(3))
    context = state.context
    empty = replace(
        state,
        context=replace(context, **{name: values[:, :0] for name, values in context.list_tensors().items() if "static" in name}),
    )
    inputs = [
        (state, sample_plans(4, 6)),
        (crowded, sample_plans(4, 6)),
        (empty, sample_plans(4, 6)),
        (state, sample_plans(3, 2)),
        (crowded, sample_plans(4, 6)),
    ]
    predictions = model.rollout_batch(*zip(*inputs, strict=True))
    for prediction, single_input in zip(predictions, inputs, strict=True):
        bodies = prediction.bodies
        expected = model.rollout(*single_input).bodies
        for field in vars(Bodies(*[None] * 6)):
            torch.testing.assert_close(getattr(bodies, field), getattr(expected, field), atol=1e-5, rtol=1e-4)
    assert (predictions[0].bodies.pose - predictions[2].bodies.pose).abs().max() > 1e-4, "boxes have no effect here"


def test_several_scenes_share_one_rollout_per_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = make_random_model("graph"), []
    imagine = type(model).imagine
    monkeypatch.setattr(type(model), "imagine", lambda self, *args: (calls.append(len(args[1])), imagine(self, *args))[1])
    (observation, start), *_ = make_starts(SCENE)
    planners = make_planners(model, SCENE, "mppi", [replace(start, seed=seed) for seed in range(3)])
    actions = act_batch(planners, [observation] * 3)
    assert calls == [3 * CONFIG.samples] * CONFIG.iterations
    assert len({tuple(action) for action in actions}) == 3, "each planner has its own generator"


def test_policies_that_cannot_batch_act_singly_or_are_refused(tmp_path: object) -> None:
    (observation, start), *_ = make_starts(SCENE)
    oracles = [make_planners(SimulatorModel(SCENE), SCENE, "random", [start])[0] for _ in range(2)]
    first, second = act_batch(oracles, [observation] * 2)
    np.testing.assert_array_equal(first, second)
    scripted = scenes[SCENE].behaviours["scripted"]()
    scripted.start_episode(start)
    assert len(act_batch([scripted, oracles[0]], [observation] * 2)) == 2
    for spec in (PlannerSpec(SCENE, "simulator"), PlannerSpec(SCENE, "m", budget_s=0.1), PlannerSpec(SCENE, "m", "gradient")):
        assert not spec.can_batch
        with pytest.raises(GroundError, match="cannot plan in a batch"):
            spec.make_planners(2)
