"""What the bench says of searches, at the smallest size; a stand-in for pytorch-mppi shows what it is given to plan with."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.bench import search as search_bench
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from worldmodels.planar.graph import GraphModel

SCENE = "logistics/tote-push"


def test_a_search_is_measured_beside_one_that_plans_on_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    class Mppi:
        def __init__(self, dynamics: Any, cost: Any, size: int, sigma: torch.Tensor, **options: Any) -> None:
            given.append({"dynamics": dynamics, "cost": cost, "size": size, **options})

        def command(self, start: torch.Tensor) -> None:
            given[-1]["start"] = start

    monkeypatch.setitem(sys.modules, "pytorch_mppi", SimpleNamespace(MPPI=Mppi))
    for name, value in (("CANDIDATE_COUNTS", (4, 8)), ("NUM_REPETITIONS", 2), ("HORIZON_STEPS", 3)):
        monkeypatch.setattr(search_bench, name, value)
    torch.manual_seed(0)
    model, env = GraphModel(hidden_size=16, edge_size=8).eval(), GroundEnv(SCENE, "test")
    observation, _ = env.reset(seed=0, options={"index": 0})
    measurements = search_bench.measure_search_costs(scenes[SCENE], model, [observation, observation], env.make_episode_start(0))
    assert [measurement.quantity for measurement in measurements[::2]] == [
        f"search / model rollouts, {count} candidates" for count in (4, 8)
    ]
    assert len(measurements) == 4
    assert all(measurement.value > 0 for measurement in measurements)
    one, action = given[-1], torch.tensor([[0.5, 0.2], [-1.0, 0.0]])
    assert (one["size"], one["num_samples"], one["horizon"]) == (14, 8, 3)
    after = one["dynamics"](one["start"].expand(2, -1), action)
    expected = model.rollout(model.encode(observation), action[:, None]).bodies
    torch.testing.assert_close(after[:, :4].unflatten(1, (2, 2)), expected.pose[0, :, 0, :, :2])
    torch.testing.assert_close(after[:, 12:], expected.twist[0, :, 0, :, 5])
    assert one["cost"](after, action).shape == (2,)
    env.close()
