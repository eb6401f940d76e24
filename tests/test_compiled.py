"""Compilation changes the speed of rollouts and not their values."""

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_models import SCENE, make_crowded_observation, make_random_model

from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from worldmodels.planar.state import PlanarState, make_example_state
from worldmodels.training.compile import CompiledFunction


def test_compiled_and_eager_rollouts_agree_for_any_number_of_candidates_boxes_and_episodes() -> None:
    model = make_random_model("graph")
    layout = scenes[SCENE].sample_layout("test", 0)
    variation = scenes[SCENE].get_variations("test").base
    torch._dynamo.reset()
    stats = torch._dynamo.utils.counters["stats"]
    before = stats["unique_graphs"]
    model.is_compiled = True
    model.start_episode(EpisodeStart(0, layout, variation))
    assert stats["unique_graphs"] == before + 1
    for boxes, candidates in ((6, 5), (3, 12), (1, 2), (0, 7)):
        state = model.encode(make_crowded_observation(1)) if boxes == 6 else make_example_state(2, boxes)
        actions = 2 * torch.rand(candidates, 4, 2, generator=torch.Generator().manual_seed(boxes)) - 1
        model.is_compiled = True
        fast = model.rollout(state, actions).bodies
        model.is_compiled = False
        slow = model.rollout(state, actions).bodies
        torch.testing.assert_close(fast.pose, slow.pose, atol=1e-5, rtol=0)
        torch.testing.assert_close(fast.twist, slow.twist, atol=1e-4, rtol=0)
    assert stats["unique_graphs"] == before + 1, "a different size was compiled again"
    model.is_batched = model.is_compiled = True
    model.start_episode(EpisodeStart(0, layout, variation))
    for boxes, candidates, episodes in ((3, 5, 3), (0, 4, 4), (6, 3, 2)):
        states = [make_example_state(2, boxes), *[model.encode(make_crowded_observation(1))] * (episodes - 1)]
        actions = [2 * torch.rand(candidates, 4, 2, generator=torch.Generator().manual_seed(i)) - 1 for i in range(episodes)]
        model.is_compiled = True
        predictions = model.rollout_batch(states, actions)
        model.is_compiled = False
        for fast, slow in zip(predictions, model.rollout_batch(states, actions), strict=True):
            fast, slow = fast.bodies, slow.bodies
            torch.testing.assert_close(fast.pose, slow.pose, atol=1e-5, rtol=0)
            torch.testing.assert_close(fast.twist, slow.twist, atol=1e-4, rtol=0)
    assert stats["unique_graphs"] == before + 2, "a different number of episodes was compiled again"


def test_the_function_runs_eagerly_where_compilation_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("no C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", lambda function: fail)
    multiply = CompiledFunction(lambda values: 2 * values)
    with caplog.at_level(logging.WARNING):
        assert [multiply(torch.tensor(number)).item() for number in (1.0, 2.0)] == [2.0, 4.0]
    assert [record.getMessage() for record in caplog.records] == [
        "the model's step was not compiled and runs eagerly (no C++ compiler found)"
    ]


def test_compiled_rollouts_do_not_depend_on_earlier_sizes() -> None:
    """Each number of bodies has its own program: a program for several sizes would round differently."""
    poses, stats = [], torch._dynamo.utils.counters["stats"]
    for sizes in ((4,), (2, 3, 4)):
        torch._dynamo.reset()
        before = stats["unique_graphs"]
        model = make_random_model("graph")
        model.is_compiled = True
        actions = 2 * torch.rand(6, 5, 2, generator=torch.Generator().manual_seed(0)) - 1
        for num_dynamic in sizes:
            bodies = model.rollout(make_row_state(num_dynamic), actions).bodies
        poses.append(bodies.pose)
        assert stats["unique_graphs"] == before + len(sizes)
    assert torch.equal(*poses)


def test_a_process_can_compile_many_numbers_of_bodies() -> None:
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    multiply = CompiledFunction(lambda values: 2 * values)
    for size in range(2, 12):
        multiply(torch.ones(size))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 10


def make_row_state(num_dynamic: int) -> PlanarState:
    """Make bodies in a row that soon touch."""
    state = make_example_state(num_dynamic, 3)
    context = replace(state.context, core_half=state.context.core_half + 0.2, half_extents=state.context.half_extents + 0.2)
    return replace(state, position=state.position + 0.5 * torch.arange(num_dynamic), context=context)


def test_a_warm_up_compiles_for_footprints_of_several_boxes() -> None:
    name = "factory/push-fixture"
    layout = scenes[name].sample_layout("test", 0)
    torch._dynamo.reset()
    model = make_random_model("graph")
    model.is_compiled, model.footprint_size = True, scenes[name].footprint_size
    stats = torch._dynamo.utils.counters["stats"]
    before = stats["unique_graphs"]
    model.start_episode(EpisodeStart(0, layout, scenes[name].get_variations("test").base))
    env = GroundEnv(name, "test")
    observation, _ = env.reset(seed=0, options={"layout": layout})
    model.rollout(model.encode(observation), torch.zeros(5, 3, 2))
    env.close()
    assert stats["unique_graphs"] == before + 1
