"""Costs of models and planners: decisions, batched planning, model steps, training updates."""

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from agents.planning.objective import Objective
from agents.planning.planner import Planner, plan
from agents.planning.search import SearchConfig, searches
from experiments.bench.measurement import Measurement, make_random_model, measure_s, record_scripted_episode, time_rollouts
from experiments.bench.simulation import SHARD_STEPS
from sim.bodies import Observation
from sim.data.collect import CollectConfig, collect
from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import Scene
from sim.sensors.flat import compute_flat_vector
from worldmodels.model import models
from worldmodels.simulator import SimulatorModel
from worldmodels.training.muon import Muon

SEARCH_CONFIG = SearchConfig(samples=128, iterations=2, horizon=25)
NUM_DECISIONS = 60
NUM_BATCHED_EPISODES = 8
NUM_SIMULATED_CANDIDATES = 16  # of the simulator, where models predict 128


def make_planner(scene: Scene, model: Any) -> Planner:
    """Make a planner with the bench's search budget."""
    return Planner(Objective(model, scene.task), searches["mppi"](SEARCH_CONFIG))


def measure_decision(scene: Scene, with_compiled: bool = False) -> list[Measurement]:
    """Measure a planner's decision and its parts: model, cost, search."""
    env = GroundEnv(scene, "test")
    observations = [observation for observation, _ in record_scripted_episode(env)][:NUM_DECISIONS]
    start = env.make_episode_start(0)
    measurements = _measure_decision_parts(scene, observations, start, is_compiled=False)
    if with_compiled:
        measurements += _measure_decision_parts(scene, observations, start, is_compiled=True)
    measurements += _measure_batched_planning(scene, with_compiled)
    return measurements + _measure_model_steps(scene, observations[len(observations) // 2], start, with_compiled)


def _measure_decision_parts(
    scene: Scene, observations: list[Observation], start: EpisodeStart, is_compiled: bool
) -> list[Measurement]:
    model = make_random_model("graph")
    model.is_compiled = is_compiled
    planner = make_planner(scene, model)
    planner.start_episode(start)
    rollouts = time_rollouts(model)
    planner.decide(observations[0])  # computes the cost field once per layout
    durations_ms = []
    for observation in observations:
        rollouts.seconds = 0.0
        decision = planner.decide(observation)
        durations_ms.append((1e3 * decision.seconds, 1e3 * rollouts.seconds, 1e3 * (decision.model_seconds - rollouts.seconds)))
    total, rollout, cost = np.array(durations_ms).T
    budget = f"{SEARCH_CONFIG.samples} × {SEARCH_CONFIG.horizon} × {SEARCH_CONFIG.iterations}"
    name = f"decision at {budget}, {_describe_compilation(is_compiled)}"
    return [
        Measurement(f"{name}, p50", np.median(total), "ms", "graph model, random weights, mppi"),
        Measurement(f"{name}, p95", np.percentile(total, 95), "ms", f"{len(total)} decisions along one episode"),
        Measurement("its model rollouts, p50", np.median(rollout), "ms"),
        Measurement("planner without rollouts / rollouts", np.median((total - rollout) / rollout), "%"),
        Measurement("task cost / rollouts", np.median(cost / rollout), "%", "the objective on predicted states"),
    ]


def _describe_compilation(is_compiled: bool) -> str:
    return "compiled" if is_compiled else "not compiled"


def _measure_batched_planning(scene: Scene, is_compiled: bool, repetitions: int = 7) -> list[Measurement]:
    """Measure the decisions of several episodes one after the other, against a batch."""
    model = make_random_model("graph")
    model.is_compiled = is_compiled
    model.is_batched = True
    env = GroundEnv(scene, "test")
    planners = [make_planner(scene, model) for _ in range(NUM_BATCHED_EPISODES)]
    observations = []
    for index, planner in enumerate(planners):
        observations.append(env.reset(seed=index, options={"index": index})[0])
        planner.start_episode(env.make_episode_start(index))
    env.close()

    def plan_one_by_one() -> None:
        for planner, observation in zip(planners, observations, strict=True):
            planner.decide(observation)

    ratios = [measure_s(plan_one_by_one) / measure_s(lambda: plan(planners, observations)) for _ in range(repetitions + 1)]
    conditions = f"of {NUM_BATCHED_EPISODES} episodes, {_describe_compilation(is_compiled)}"
    # The first repetition warms up.
    return [Measurement("decisions one by one / batched", median(ratios[1:]), "×", conditions)]


def _measure_model_steps(
    scene: Scene, observation: Observation, start: EpisodeStart, is_compiled: bool, repetitions: int = 7
) -> list[Measurement]:
    """Measure one step of all candidates by each model."""
    shape = SEARCH_CONFIG.samples, SEARCH_CONFIG.horizon, scene.action_spec.size
    actions = 2 * torch.rand(*shape, generator=torch.Generator().manual_seed(0)) - 1
    sizes = {"cost": {scene.name: len(compute_flat_vector(observation, scene.task, scene.max_dynamic))}}
    cases: list[tuple[str, Any, torch.Tensor]] = [(name, make_random_model(name, sizes.get(name)), actions) for name in models]
    for _, model, _ in cases:
        model.is_compiled = is_compiled
    cases.append(("simulator", SimulatorModel(scene.name), actions[:NUM_SIMULATED_CANDIDATES]))
    step_ms: dict[str, list[float]] = {name: [] for name, _, _ in cases}
    for _, model, _ in cases:
        model.start_episode(start)
    for _ in range(repetitions + 1):
        for name, model, candidates in cases:
            state = model.encode(observation)
            rollout_s = measure_s(lambda: model.rollout(state, candidates))  # noqa: B023
            step_ms[name].append(1e3 * rollout_s * SEARCH_CONFIG.samples / len(candidates) / SEARCH_CONFIG.horizon)
    # The first repetition warms up.
    medians = {name: median(durations[1:]) for name, durations in step_ms.items()}
    conditions = {name: f"{medians['simulator'] / value:.0f} times faster than the simulator" for name, value in medians.items()}
    conditions["simulator"] = f"measured with {NUM_SIMULATED_CANDIDATES} candidates; models {_describe_compilation(is_compiled)}"
    return [Measurement(f"one step of 128 candidates, {name}", medians[name], "ms", conditions[name]) for name in medians]


def measure_training(scene: Scene, repetitions: int = 15) -> list[Measurement]:
    """Measure an update of the graph model, and the data side of it."""
    model = make_random_model("graph").train()
    with tempfile.TemporaryDirectory() as folder:
        config = CollectConfig(scene.name, steps=SHARD_STEPS, shard_steps=SHARD_STEPS, seed=99)
        windows = model.make_windows(collect(config, Path(folder), workers=1).episodes(), scene.name)
    rng = np.random.default_rng(0)
    optimizer = Muon(model.parameters(), lr=1e-3)
    seconds = []  # of sampling, and of the update
    for _ in range(repetitions + 1):
        start_s = time.perf_counter()
        batch = windows.sample(rng, 256, 8)
        sampled_at_s = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        model.compute_loss(batch).backward()
        optimizer.step()
        seconds.append((sampled_at_s - start_s, time.perf_counter() - sampled_at_s))
    sampling_s, update_s = np.median(seconds[1:], axis=0)  # the first repetition warms up
    return [
        Measurement("one update, 256 windows of 8 steps", 1e3 * update_s, "ms", "graph model"),
        Measurement("sampling its windows / the update", sampling_s / update_s, "%"),
    ]
