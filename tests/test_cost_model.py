"""The model that predicts costs without bodies."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SCENE
from scipy.stats import spearmanr

from agents.planning.search import SearchConfig
from agents.planning.spec import PlannerSpec
from sim.data.episode import Episode
from sim.data.store import Dataset
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.sensors.flat import compute_flat_vector
from worldmodels.latent.cost import CostModel, CostWindows
from worldmodels.training.checkpoint import load_checkpoint
from worldmodels.training.loop import TrainConfig, train

STEPS = 10


@pytest.fixture(scope="module")
def trained(dataset: Dataset, validation: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cost")
    torch.manual_seed(0)
    config = TrainConfig(updates=400, batch=64, lengths=(4, STEPS), learning_rate=0.004, validate_every=200, device="cpu")
    windows, held_out = CostWindows(dataset.episodes(), SCENE), CostWindows(validation.episodes(), SCENE)
    train(
        CostModel(num_members=2, hidden_size=64),
        windows,
        held_out,
        config,
        path,
        {"scene": SCENE, "data": ["tiny"], "env_steps": 1200},
    )
    return path


def test_observations_of_episodes_equal_those_of_the_environment(dataset: Dataset) -> None:
    scene = scenes[SCENE]
    episode: Episode = next(iter(dataset.episodes()))
    env = GroundEnv(SCENE, "train")
    observation, _ = env.reset(seed=episode.seed, options={"layout": episode.layout, "variation": episode.variation})
    expected = compute_flat_vector(observation, scene.task, scene.max_dynamic)
    vector = compute_flat_vector(episode.make_observation(0), scene.task, len(episode.half_extents))
    np.testing.assert_allclose(vector, expected, atol=1e-5)
    env.close()


def test_a_trained_model_ranks_validation_episodes_by_cost(trained: Path, validation: Dataset) -> None:
    windows, model = CostWindows(validation.episodes(), SCENE), load_checkpoint(trained)
    assert isinstance(model, CostModel)
    batch = windows.take(windows.find_starts(STEPS)[0], STEPS)
    with torch.inference_mode():
        change = model.predict_costs(batch.state, batch.actions).mean(0)[:, -1] - batch.state.cost
    assert spearmanr(change, batch.targets[-1] - batch.state.cost).statistic > 0.2


def test_a_planner_selects_plans_by_predicted_costs_without_bodies(trained: Path) -> None:
    planner = PlannerSpec(SCENE, str(trained), "mppi", SearchConfig(samples=64, iterations=2, horizon=STEPS))()
    env = GroundEnv(SCENE, "test")
    observation, _ = env.reset(seed=0)
    planner.start_episode(env.make_episode_start(0))
    first, _ = planner.predict(observation)
    decision = planner.last_decision
    assert decision.disagreement is None
    prediction = planner.objective.model.rollout(planner.objective.state, torch.stack([decision.plan, -decision.plan]))
    assert prediction.bodies is None
    assert prediction.cost.shape == (2, 2, STEPS)
    assert (prediction.cost >= 0).all()
    planned, opposite = (planner.objective.evaluate(plan[None]).costs for plan in (decision.plan, -decision.plan))
    assert planned < opposite
    np.testing.assert_allclose(first, decision.plan[0])
    env.close()
