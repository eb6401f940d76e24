"""The search benchmark at its smallest size, with a stub of pytorch-mppi that records its arguments."""

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


def test_search_costs_are_measured_against_pytorch_mppi_on_the_same_model(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[dict[str, Any]] = []

    class Mppi:
        def __init__(self, dynamics: Any, cost: Any, size: int, sigma: torch.Tensor, **options: Any) -> None:
            calls.append({"dynamics": dynamics, "cost": cost, "size": size, **options})

        def command(self, start: torch.Tensor) -> None:
            calls[-1]["start"] = start

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
    call, action = calls[-1], torch.tensor([[0.5, 0.2], [-1.0, 0.0]])
    assert (call["size"], call["num_samples"], call["horizon"]) == (14, 8, 3)
    state = call["dynamics"](call["start"].expand(2, -1), action)
    expected = model.rollout(model.encode(observation), action[:, None]).bodies
    torch.testing.assert_close(state[:, :4].unflatten(1, (2, 2)), expected.pose[0, :, 0, :, :2])
    torch.testing.assert_close(state[:, 12:], expected.twist[0, :, 0, :, 5])
    assert call["cost"](state, action).shape == (2,)
    env.close()
