"""Compilation changes how fast a model imagines, and nothing else."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_models import SCENE, made, observation_of

from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from worldmodels.planar.state import PlanarState, make_example_state
from worldmodels.training.compile import CompiledFunction


def test_compiled_rollouts_are_those_of_the_model_for_any_number_of_candidates_boxes_and_episodes() -> None:
    model = made("graph")
    layout = scenes[SCENE].sample_layout("test", 0)
    variation = scenes[SCENE].get_variations("test").base
    torch._dynamo.reset()
    compiled = torch._dynamo.utils.counters["stats"]
    before = compiled["unique_graphs"]
    model.is_compiled = True
    model.start_episode(EpisodeStart(0, layout, variation))
    assert compiled["unique_graphs"] == before + 1
    for boxes, candidates in ((6, 5), (3, 12), (1, 2), (0, 7)):
        state = model.encode(observation_of(1)) if boxes == 6 else make_example_state(2, boxes)
        actions = 2 * torch.rand(candidates, 4, 2, generator=torch.Generator().manual_seed(boxes)) - 1
        model.is_compiled = True
        fast = model.rollout(state, actions).bodies
        model.is_compiled = False
        slow = model.rollout(state, actions).bodies
        torch.testing.assert_close(fast.pose, slow.pose, atol=1e-5, rtol=0)
        torch.testing.assert_close(fast.twist, slow.twist, atol=1e-4, rtol=0)
    assert compiled["unique_graphs"] == before + 1, "another size was compiled anew"
    model.is_batched = model.is_compiled = True
    model.start_episode(EpisodeStart(0, layout, variation))
    for boxes, candidates, episodes in ((3, 5, 3), (0, 4, 4), (6, 3, 2)):
        states = [make_example_state(2, boxes), *[model.encode(observation_of(1))] * (episodes - 1)]
        actions = [2 * torch.rand(candidates, 4, 2, generator=torch.Generator().manual_seed(i)) - 1 for i in range(episodes)]
        model.is_compiled = True
        quick = model.rollout_batch(states, actions)
        model.is_compiled = False
        for fast, slow in zip(quick, model.rollout_batch(states, actions), strict=True):
            fast, slow = fast.bodies, slow.bodies
            torch.testing.assert_close(fast.pose, slow.pose, atol=1e-5, rtol=0)
            torch.testing.assert_close(fast.twist, slow.twist, atol=1e-4, rtol=0)
    assert compiled["unique_graphs"] == before + 2, "another number of episodes was compiled anew"


def test_where_compilation_fails_the_function_itself_runs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("no C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda function: broken)
    double = CompiledFunction(lambda values: 2 * values)
    with caplog.at_level(logging.WARNING):
        assert [double(torch.tensor(number)).item() for number in (1.0, 2.0)] == [2.0, 4.0]
    assert [record.getMessage() for record in caplog.records] == [
        "the model's step was not compiled and runs eagerly (no C++ compiler found)"
    ]


def test_what_is_compiled_does_not_depend_on_what_was_before() -> None:
    """Each number of bodies has a program of its own: one that fits several would be another than that of a scene alone."""
    found, compiled = [], torch._dynamo.utils.counters["stats"]
    for sizes in ((4,), (2, 3, 4)):
        torch._dynamo.reset()
        before = compiled["unique_graphs"]
        model = made("graph")
        model.is_compiled = True
        actions = 2 * torch.rand(6, 5, 2, generator=torch.Generator().manual_seed(0)) - 1
        for movers in sizes:
            poses = model.rollout(spread(movers), actions).bodies.pose
        found.append(poses)
        assert compiled["unique_graphs"] == before + len(sizes)
    assert torch.equal(*found)


def test_a_process_may_meet_many_numbers_of_bodies() -> None:
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    double = CompiledFunction(lambda values: 2 * values)
    for size in range(2, 12):
        double(torch.ones(size))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 10


def spread(movers: int) -> PlanarState:
    """Bodies in a row, near enough to touch soon."""
    state = make_example_state(movers, 3)
    around = replace(state.context, core_half=state.context.core_half + 0.2, half_extents=state.context.half_extents + 0.2)
    return replace(state, position=state.position + 0.5 * torch.arange(movers), context=around)


def test_a_warm_up_compiles_what_parts_of_several_boxes_need() -> None:
    name = "factory/push-fixture"
    layout = scenes[name].sample_layout("test", 0)
    torch._dynamo.reset()
    model = made("graph")
    model.is_compiled, model.footprint_size = True, scenes[name].footprint_size
    compiled = torch._dynamo.utils.counters["stats"]
    before = compiled["unique_graphs"]
    model.start_episode(EpisodeStart(0, layout, scenes[name].get_variations("test").base))
    env = GroundEnv(name, "test")
    observation, _ = env.reset(seed=0, options={"layout": layout})
    model.rollout(model.encode(observation), torch.zeros(5, 3, 2))
    env.close()
    assert compiled["unique_graphs"] == before + 1
