"""What things cost, as ratios: each measured within one run, its sides in turns, medians of the repetitions.

A ratio holds on another machine where a time does not; and where other work runs beside it, both sides are slowed alike.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from agents.planning.batch import decide_batch
from agents.planning.objective import Objective
from agents.planning.planner import Planner
from agents.planning.search import SearchConfig, searches
from experiments.bench.search import Stopwatch, measure_search_costs
from experiments.versions import read_versions
from experiments.viewer.measure import NUM_BODIES, NUM_SIZES, measure_time_to_first_frame, measure_update_cost
from sim.bodies import Observation
from sim.bullet.physics_check import CommandReplay, compute_deviation, integrate_slide, simulate_push, simulate_slide
from sim.costmaps.cache import clear_caches
from sim.data.collect import CollectConfig, collect, collect_shard
from sim.data.images import encode_image
from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import Scene, scenes
from sim.utils.files import write_json
from sim.utils.workers import make_worker_pool
from worldmodels.model import LearnedModel, models
from worldmodels.simulator import SimulatorModel
from worldmodels.training.muon import Muon
from worldmodels.training.windows import Windows

REFERENCE_SCENE = "logistics/tote-push"  # of what is measured once
SEARCH_CONFIG = SearchConfig(samples=128, iterations=2, horizon=25)
SHARD_STEPS = 1500
IMAGE_SIZES_PX, NUM_IMAGES = (64, 128, 256), 20
NUM_BATCHED_EPISODES = 8  # episodes whose decisions are made at once
NUM_SIMULATED_CANDIDATES = 16  # candidates that the simulator imagines, where models imagine 128


MeasurementTuples = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Measurement:
    """One line of the table."""

    part: str
    quantity: str
    value: float
    unit: str
    conditions: str = ""

    @property
    def formatted_value(self) -> str:
        return f"{self.value:.1%}" if self.unit == "%" else f"{self.value:.3g} {self.unit}"


def run_benchmarks(out: Path, console: Console, scene_names: Sequence[str] = (), with_compiled: bool = False) -> None:
    """Measure scenes (all of them, unless named), print a table for each and one of what is measured once, write JSON."""
    torch.set_num_threads(1)
    scene_names = [scenes[name].name for name in scene_names] or list(scenes)
    benchmarks: dict[str, Callable[[Scene], MeasurementTuples]] = {
        **SCENE_BENCHMARKS,
        "decision": partial(_measure_decision, with_compiled=with_compiled),
    }
    measurements_by_scene = {name: _measure_and_print(scenes[name], benchmarks, console, name) for name in scene_names}
    measurements_by_scene["once"] = _measure_and_print(
        scenes[REFERENCE_SCENE], REFERENCE_BENCHMARKS, console, f"once, in {REFERENCE_SCENE}"
    )
    records = [
        {"scene": name, **asdict(measurement)}
        for name, measurements in measurements_by_scene.items()
        for measurement in measurements
    ]
    write_json(out, {"versions": read_versions(), "measurements": records})
    console.print(f"written: {out.resolve()}", soft_wrap=True)


def _measure_and_print(
    scene: Scene, benchmarks: Mapping[str, Callable[[Scene], MeasurementTuples]], console: Console, title: str
) -> list[Measurement]:
    """All parts, in a table."""
    measurements = list[Measurement]()
    with console.status("measuring") as status:
        for name, benchmark in benchmarks.items():
            status.update(f"measuring {title}: {name}")
            measurements += [Measurement(name, *values) for values in benchmark(scene)]
    table = Table("part", "what", "value", "how", title=f"{title}: medians of runs in turns, one thread")
    for previous, measurement in zip([None, *measurements[:-1]], measurements, strict=True):
        table.add_row(
            "" if previous and previous.part == measurement.part else measurement.part,
            measurement.quantity,
            measurement.formatted_value,
            measurement.conditions,
        )
    console.print(table)
    return measurements


def _measure_step(scene: Scene, repetitions: int = 5) -> MeasurementTuples:
    """The environment's step against what Bullet must do for it anyway."""
    ratios: dict[str, list[float]] = {"bare": [], "simulation": []}
    step_ms = []
    for index in range(3):
        env = GroundEnv(scene, "test")
        actions = np.stack([action for _, action in _record_scripted_episode(env, index)])
        env.reset(seed=0, options={"index": index})
        replay = CommandReplay.record(env, actions)
        for _ in range(repetitions):
            env.reset(seed=0, options={"index": index})
            start_s = time.perf_counter()
            for action in actions:
                env.step(action)
            step_s = time.perf_counter() - start_s
            bare_s, simulation_s = replay.measure_seconds()
            ratios["bare"].append(step_s / bare_s)
            ratios["simulation"].append(step_s / simulation_s)
            step_ms.append(1e3 * step_s / len(actions))
        env.close()
    conditions = f"scripted episodes in 3 test spaces, {repetitions} times each"
    return [
        ("env.step", statistics.median(step_ms), "ms", conditions),
        ("env.step / bare Bullet", statistics.median(ratios["bare"]), "×", "bare: the same motor commands and physics steps"),
        ("env.step / stepSimulation alone", statistics.median(ratios["simulation"]), "×", "24 physics steps of 1/240 s each"),
    ]


def _record_scripted_episode(env: GroundEnv, index: int) -> list[tuple[Observation, np.ndarray]]:
    """Observations of a scripted episode and the actions taken on them."""
    policy = env.scene.behaviours["scripted"]()
    observation, _ = env.reset(seed=0, options={"index": index})
    policy.start_episode(env.make_episode_start(0))
    steps, is_over = [], False
    while not is_over:
        action, _ = policy.predict(observation)
        steps.append((observation, action))
        observation, _, success, truncated, _ = env.step(action)
        is_over = success or truncated
    return steps


def _measure_workers(scene: Scene, repetitions: int = 3) -> MeasurementTuples:
    """Two workers against one: pairs of shards one after the other by one worker, then at the same time by two."""
    rates: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder, make_worker_pool(2) as pool:
        folder_path = Path(folder)
        collect_config = CollectConfig(scene.name, steps=SHARD_STEPS, shard_steps=SHARD_STEPS, seed=99)
        for future in [pool.submit(_measure_shard_s, collect_config, number, folder_path / str(number)) for number in range(2)]:
            future.result()  # both workers have started and imported
        for repetition in range(1, repetitions + 1):
            numbers = (2 * repetition, 2 * repetition + 1)
            sequential_s = [
                pool.submit(_measure_shard_s, collect_config, number, folder_path / str(number)).result() for number in numbers
            ]
            parallel_jobs = [
                pool.submit(_measure_shard_s, collect_config, number, folder_path / str(number)) for number in numbers
            ]
            rates.append((2 * SHARD_STEPS / sum(sequential_s), sum(SHARD_STEPS / future.result() for future in parallel_jobs)))
    conditions = f"shards of {SHARD_STEPS} steps, timed inside workers that are already running, caches emptied before each"
    return [
        ("collecting, one worker", statistics.median(sequential_rate for sequential_rate, _ in rates), "steps/s", conditions),
        (
            "two workers / one worker",
            statistics.median(parallel_rate / sequential_rate for sequential_rate, parallel_rate in rates),
            "×",
            "the same shards",
        ),
    ]


def _measure_shard_s(collect_config: CollectConfig, number: int, file: Path) -> float:
    clear_caches()
    getattr(scenes[collect_config.scene].sample_layout, "cache_clear", lambda: None)()
    start_s = time.perf_counter()
    collect_shard(collect_config, file, number, {})
    return time.perf_counter() - start_s


def _measure_images(scene: Scene) -> MeasurementTuples:
    """Colour, depth and segmentation of one camera, taken and encoded."""
    env = GroundEnv(scene, "test")
    env.reset(seed=0, options={"index": 0})
    measurements: MeasurementTuples = []
    for size in IMAGE_SIZES_PX:
        render_s, encode_s = [], []
        for _ in range(NUM_IMAGES):
            start_s = time.perf_counter()
            image = env.render_camera("overhead", size, size)
            rendered_at_s = time.perf_counter()
            encode_image(image)
            render_s.append(rendered_at_s - start_s)
            encode_s.append(time.perf_counter() - rendered_at_s)
        conditions = f"encoding it takes {1e3 * statistics.median(encode_s):.1f} ms more"
        measurements.append((f"pictures of {size} × {size}", 1 / statistics.median(render_s), "1/s", conditions))
    env.close()
    return measurements


def _measure_decision(scene: Scene, num_decisions: int = 60, with_compiled: bool = False) -> MeasurementTuples:
    """A planner's decision, and what of it is the model, the cost and the search."""
    env = GroundEnv(scene, "test")
    observations = [observation for observation, _ in _record_scripted_episode(env, 0)][:num_decisions]
    start = env.make_episode_start(0)
    budget_text, measurements = (
        f"{SEARCH_CONFIG.samples} × {SEARCH_CONFIG.horizon} × {SEARCH_CONFIG.iterations}",
        list[tuple[Any, ...]](),
    )
    for is_compiled in (False, True) if with_compiled else (False,):
        model = _make_random_model("graph")
        model.is_compiled = is_compiled
        planner = Planner(Objective(model, scene.task), searches["mppi"](SEARCH_CONFIG))
        planner.start_episode(start)
        rollout = Stopwatch(model.rollout)
        model.rollout = rollout  # type: ignore[method-assign, assignment]  # of this one model
        planner.decide(observations[0])  # the field is computed once per space, not per decision
        durations_s = []
        for observation in observations:
            rollout.seconds = 0.0
            decision = planner.decide(observation)
            durations_s.append((decision.seconds, rollout.seconds, decision.model_seconds - rollout.seconds))
        total_ms, rollout_ms, cost_ms = (1e3 * np.array(values) for values in zip(*durations_s, strict=True))
        compilation = "compiled" if is_compiled else "not compiled"
        measurements += [
            (f"decision at {budget_text}, {compilation}, p50", np.median(total_ms), "ms", "graph model, random weights, mppi"),
            (
                f"decision at {budget_text}, {compilation}, p95",
                np.percentile(total_ms, 95),
                "ms",
                f"{len(total_ms)} decisions along one episode",
            ),
            ("model's rollouts in it, p50", np.median(rollout_ms), "ms"),
            ("planner logic / model", np.median((total_ms - rollout_ms) / rollout_ms), "%", "all but the rollouts"),
            ("of it the task's cost", np.median(cost_ms / rollout_ms), "%", "the objective on imagined states"),
        ]
    return (
        measurements
        + _measure_batched_planning(scene, with_compiled)
        + _measure_model_steps(scene, observations[len(observations) // 2], start, with_compiled)
    )


def _measure_search(scene: Scene) -> MeasurementTuples:
    env = GroundEnv(scene, "test")
    observations = [observation for observation, _ in _record_scripted_episode(env, 0)]
    return measure_search_costs(scene, _make_random_model("graph"), observations, env.make_episode_start(0))


def _measure_batched_planning(scene: Scene, is_compiled: bool, repetitions: int = 7) -> MeasurementTuples:
    """Decisions of several episodes one after the other, against those made at once."""
    model, env = _make_random_model("graph"), GroundEnv(scene, "test")
    model.is_compiled, model.is_batched = is_compiled, True
    planners = [Planner(Objective(model, scene.task), searches["mppi"](SEARCH_CONFIG)) for _ in range(NUM_BATCHED_EPISODES)]
    observations = []
    for index, planner in enumerate(planners):
        observations.append(env.reset(seed=index, options={"index": index})[0])
        planner.start_episode(env.make_episode_start(index))
    env.close()
    ratios = []
    for _ in range(repetitions + 1):  # the first one warms up
        start_s = time.perf_counter()
        for planner, observation in zip(planners, observations, strict=True):
            planner.decide(observation)
        sequential_end_s = time.perf_counter()
        decide_batch(planners, observations)
        ratios.append((sequential_end_s - start_s) / (time.perf_counter() - sequential_end_s))
    conditions = f"of {NUM_BATCHED_EPISODES} episodes, {'compiled' if is_compiled else 'not compiled'}"
    return [("decisions, one after the other / together", statistics.median(ratios[1:]), "×", conditions)]


def _measure_model_steps(
    scene: Scene, observation: Observation, start: EpisodeStart, is_compiled: bool, repetitions: int = 7
) -> MeasurementTuples:
    """One step of all candidates, by each model."""
    actions = 2 * torch.rand(SEARCH_CONFIG.samples, SEARCH_CONFIG.horizon, 2, generator=torch.Generator().manual_seed(0)) - 1
    seconds: dict[str, list[float]] = {name: [] for name in [*models, "simulator"]}
    simulator = SimulatorModel(scene.name)
    simulator.start_episode(start)
    cases: list[tuple[str, Any, torch.Tensor]] = [(name, _make_random_model(name), actions) for name in models]
    for _, model, _ in cases:
        model.compiled = is_compiled
        model.start_episode(start)
    cases.append(("simulator", simulator, actions[:NUM_SIMULATED_CANDIDATES]))
    for repetition in range(repetitions + 1):
        for name, model, candidates in cases:
            state = model.begin(observation)
            start_s = time.perf_counter()
            model.rollout(state, candidates)
            if repetition:  # the first one warms up
                seconds[name].append(
                    (time.perf_counter() - start_s) * SEARCH_CONFIG.samples / len(candidates) / SEARCH_CONFIG.horizon
                )
    simulator_s = statistics.median(seconds["simulator"])
    measurements: MeasurementTuples = [
        (
            "one step of 128 candidates, simulator",
            1e3 * simulator_s,
            "ms",
            f"{'models compiled where they can be; ' if is_compiled else ''}measured with {NUM_SIMULATED_CANDIDATES} candidates",
        )
    ]
    for name in models:
        model_s = statistics.median(seconds[name])
        conditions = f"{simulator_s / model_s:.0f} times faster than the simulator"
        measurements.append((f"one step of 128 candidates, {name}", 1e3 * model_s, "ms", conditions))
    return measurements


def _measure_viewer(scene: Scene) -> MeasurementTuples:
    """What a page costs the server, of a control period."""
    model = _make_random_model("graph")
    bodies_s, page_s = measure_update_cost(scene, Planner(Objective(model, scene.task), searches["mppi"](SEARCH_CONFIG)))
    conditions = "CPU time of a frame, server's thread included, of a control period; a client reads everything"
    return [
        (f"pushing {NUM_BODIES} bodies of {NUM_SIZES} sizes that all move", bodies_s / scene.control_dt_s, "%", conditions),
        ("pushing a page with all overlays and plots", page_s / scene.control_dt_s, "%", "the same"),
        *(
            (
                f"from the command to the first scene, {name}",
                measure_time_to_first_frame(name),
                "s",
                "ground view, until a client draws",
            )
            for name in scenes
        ),
    ]


def _make_random_model(name: str) -> LearnedModel:
    torch.manual_seed(0)
    return models[name]().eval()


def _measure_training(scene: Scene, repetitions: int = 15) -> MeasurementTuples:
    """What the data side of an update costs."""
    with tempfile.TemporaryDirectory() as folder:
        collect_config = CollectConfig(scene.name, steps=SHARD_STEPS, shard_steps=SHARD_STEPS, seed=99)
        windows = Windows(collect(collect_config, Path(folder), workers=1).episodes())
    model, rng = _make_random_model("graph").train(), np.random.default_rng(0)
    optimizer = Muon(model.parameters(), lr=1e-3)
    sampling_s, update_s = [], []
    for _ in range(repetitions + 1):
        start_s = time.perf_counter()
        batch = windows.sample(rng, 256, 8)
        sampled_at_s = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        model.compute_loss(batch.state, batch.actions, batch.targets).backward()
        optimizer.step()
        sampling_s.append(sampled_at_s - start_s)
        update_s.append(time.perf_counter() - sampled_at_s)
    median_update_s, median_sampling_s = statistics.median(update_s[1:]), statistics.median(sampling_s[1:])
    return [
        ("one update, 256 windows of 8 steps", 1e3 * median_update_s, "ms", "graph model"),
        ("sampling its windows / the update", median_sampling_s / median_update_s, "%"),
    ]


def _measure_physics(scene: Scene) -> MeasurementTuples:
    """Bullet against theory and against itself with more effort."""
    load = scene.make_loads(scene.sample_layout("test", 0), scene.get_variations("test").base)[0]
    theory_m, multibody_m, maximal_m = (motion[0] for motion in (integrate_slide(load, 0.8, 4.0), simulate_slide(load, 0.8, 4.0),
                                                     simulate_slide(load, 0.8, 4.0, maximal=True)))  # fmt: skip
    reference = simulate_push(scene)
    iteration_deviation, timestep_deviation = (
        compute_deviation(reference, simulate_push(scene, solver_iterations=50)),
        compute_deviation(reference, simulate_push(scene, physics_hz=480)),
    )
    conditions = [
        f"the farthest of {len(reference)} pushes over 1.2 m, {np.rad2deg(turn):.1f}° turned"
        for _, turn in (iteration_deviation, timestep_deviation)
    ]
    return [
        ("way of a sliding, spinning tote, theory", 1e3 * theory_m, "mm", "0.8 m/s, 4 rad/s, Coulomb on four corners"),
        ("way as a multibody", 1e3 * multibody_m, "mm", f"{multibody_m / theory_m - 1:+.1%}; what World uses"),
        ("way as a maximal-coordinate body", 1e3 * maximal_m, "mm", f"{maximal_m / theory_m - 1:+.1%}"),
        ("pushed tote, 10 or 50 solver iterations", 1e3 * iteration_deviation[0], "mm apart", conditions[0]),
        ("pushed tote, 24 or 48 physics steps", 1e3 * timestep_deviation[0], "mm apart", conditions[1]),
    ]


SCENE_BENCHMARKS: dict[str, Callable[[Scene], MeasurementTuples]] = {
    "step": _measure_step,
    "workers": _measure_workers,
    "pictures": _measure_images,
    "decision": _measure_decision,
    "training": _measure_training,
}
REFERENCE_BENCHMARKS: dict[str, Callable[[Scene], MeasurementTuples]] = {
    "search": _measure_search,
    "viewer": _measure_viewer,
    "physics": _measure_physics,
}
