"""What is decided together is what each would decide alone, up to the order in which numbers are added."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from conftest import PLANAR_MODELS
from test_models import made, observation_of, plans

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
def starts(scene: str) -> list[tuple[dict[str, np.ndarray], EpisodeStart]]:
    """How an episode of each of the last splits begins: spaces of different sizes, with different bodies."""
    found = []
    for number, split in enumerate(scenes[scene].splits[-3:]):
        env = GroundEnv(scene, split)
        observation, _ = env.reset(seed=number, options={"index": number})
        found.append((observation, env.make_episode_start(number)))
        env.close()
    return found


def planners(model: WorldModel[Any], scene: str, search: str, begun: list[EpisodeStart]) -> list[Planner]:
    guide = scenes[scene].behaviours["scripted"] if searches[search].needs_prior else None
    found = [
        Planner(Objective(model, scenes[scene].task), searches[search](CONFIG), prior_policy=guide and guide()) for _ in begun
    ]
    for planner, start in zip(found, begun, strict=True):
        planner.start_episode(start)
    return found


def assert_decided_alike(model: WorldModel[Any], scene: str, search: str = "mppi") -> None:
    """Two decisions in a row, so that the second one's warm start is compared too."""
    observations, begun = zip(*starts(scene), strict=True)
    alone, together = (planners(model, scene, search, list(begun)) for _ in range(2))
    for _ in range(2):
        expected = [planner.decide(observation) for planner, observation in zip(alone, observations, strict=True)]
        found = plan(together, observations)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one.plan, other.plan, atol=1e-4, rtol=0)
            torch.testing.assert_close(one.step_costs, other.step_costs, atol=1e-3, rtol=1e-4)
            assert one.disagreement == (other.disagreement and pytest.approx(other.disagreement, abs=1e-4))


@pytest.mark.parametrize("scene", scenes)
@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_a_plan_made_together_is_the_plan_made_alone(name: str, scene: str) -> None:
    assert_decided_alike(made(name), scene)


@pytest.mark.parametrize("search", searches)
def test_whatever_the_search(search: str) -> None:
    assert_decided_alike(made("graph"), SCENE, search)


@pytest.mark.parametrize("assumption", PREDICTION_BASELINES)
def test_whatever_is_assumed_of_traffic(assumption: str) -> None:
    assert_decided_alike(PredictionBaseline(made("graph"), assumption), "logistics/aisle-traffic")


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_bodies_of_one_scene_do_not_leak_into_another(name: str) -> None:
    """Scenes with other loads and boxes, and other numbers of candidates and steps, leave a rollout as it is."""
    model = made(name)
    state, crowded = model.encode(observation_of(1)), model.encode(observation_of(3))
    around = state.context
    empty = replace(
        state,
        context=replace(around, **{name: values[:, :0] for name, values in around.list_tensors().items() if "static" in name}),
    )
    asked = [(state, plans(4, 6)), (crowded, plans(4, 6)), (empty, plans(4, 6)), (state, plans(3, 2)), (crowded, plans(4, 6))]
    found = model.rollout_batch(*zip(*asked, strict=True))
    for prediction, of in zip(found, asked, strict=True):
        bodies = prediction.bodies
        expected = model.rollout(*of).bodies
        for field in vars(Bodies(*[None] * 6)):
            torch.testing.assert_close(getattr(bodies, field), getattr(expected, field), atol=1e-5, rtol=1e-4)
    assert (found[0].bodies.pose - found[2].bodies.pose).abs().max() > 1e-4, "boxes do not matter here"


def test_several_scenes_are_imagined_in_one_call_per_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    model, calls = made("graph"), []
    imagine = type(model).imagine
    monkeypatch.setattr(type(model), "imagine", lambda self, *of: (calls.append(len(of[1])), imagine(self, *of))[1])
    (observation, start), *_ = starts(SCENE)
    several = planners(model, SCENE, "mppi", [replace(start, seed=seed) for seed in range(3)])
    actions = act_batch(several, [observation] * 3)
    assert calls == [3 * CONFIG.samples] * CONFIG.iterations
    assert len({tuple(action) for action in actions}) == 3, "each has a generator of its own"


def test_who_cannot_share_decides_alone_or_is_refused(tmp_path: object) -> None:
    (observation, start), *_ = starts(SCENE)
    oracles = [planners(SimulatorModel(SCENE), SCENE, "random", [start])[0] for _ in range(2)]
    first, second = act_batch(oracles, [observation] * 2)
    np.testing.assert_array_equal(first, second)
    scripted = scenes[SCENE].behaviours["scripted"]()
    scripted.start_episode(start)
    assert len(act_batch([scripted, oracles[0]], [observation] * 2)) == 2
    for spec in (PlannerSpec(SCENE, "simulator"), PlannerSpec(SCENE, "m", budget_s=0.1), PlannerSpec(SCENE, "m", "gradient")):
        assert not spec.can_batch
        with pytest.raises(GroundError, match="cannot plan in a batch"):
            spec.make_planners(2)
