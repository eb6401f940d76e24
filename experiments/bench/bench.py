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
from experiments.bench.search import Stopwatch, search_costs
from experiments.versions import versions
from experiments.viewer.measure import BODIES, SIZES, cost_of_pushing, first_frame_s
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

SCENE = "logistics/tote-push"  # of what is measured once
BUDGET = SearchConfig(samples=128, iterations=2, horizon=25)
SHARD_STEPS = 1500
PICTURE_SIZES, PICTURES = (64, 128, 256), 20
TOGETHER = 8  # episodes whose decisions are made at once
SIMULATED = 16  # candidates that the simulator imagines, where models imagine 128


Lines = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Measurement:
    """One line of the table."""

    part: str
    what: str
    value: float
    unit: str
    how: str = ""

    @property
    def cell(self) -> str:
        return f"{self.value:.1%}" if self.unit == "%" else f"{self.value:.3g} {self.unit}"


def bench(out: Path, console: Console, names: Sequence[str] = (), compiled: bool = False) -> None:
    """Measure scenes (all of them, unless named), print a table for each and one of what is measured once, write JSON."""
    torch.set_num_threads(1)
    names = [scenes[name].name for name in names] or list(scenes)
    parts: dict[str, Callable[[Scene], Lines]] = {**PARTS, "decision": partial(_decision, compiled=compiled)}
    found = {name: _measured(scenes[name], parts, console, name) for name in names}
    found["once"] = _measured(scenes[SCENE], ONCE, console, f"once, in {SCENE}")
    measurements = [{"scene": name, **asdict(line)} for name, lines in found.items() for line in lines]
    write_json(out, {"versions": versions(), "measurements": measurements})
    console.print(f"written: {out.resolve()}", soft_wrap=True)


def _measured(scene: Scene, parts: Mapping[str, Callable[[Scene], Lines]], console: Console, title: str) -> list[Measurement]:
    """All parts, in a table."""
    found = list[Measurement]()
    with console.status("measuring") as status:
        for name, part in parts.items():
            status.update(f"measuring {title}: {name}")
            found += [Measurement(name, *line) for line in part(scene)]
    table = Table("part", "what", "value", "how", title=f"{title}: medians of runs in turns, one thread")
    for last, line in zip([None, *found[:-1]], found, strict=True):
        table.add_row("" if last and last.part == line.part else line.part, line.what, line.cell, line.how)
    console.print(table)
    return found


def _step(scene: Scene, repetitions: int = 5) -> Lines:
    """The environment's step against what Bullet must do for it anyway."""
    ratios: dict[str, list[float]] = {"bare": [], "simulation": []}
    step_ms = []
    for index in range(3):
        env = GroundEnv(scene, "test")
        actions = np.stack([action for _, action in _episode(env, index)])
        env.reset(seed=0, options={"index": index})
        replay = CommandReplay.record(env, actions)
        for _ in range(repetitions):
            env.reset(seed=0, options={"index": index})
            begun = time.perf_counter()
            for action in actions:
                env.step(action)
            stepping = time.perf_counter() - begun
            bare, simulation = replay.measure_seconds()
            ratios["bare"].append(stepping / bare)
            ratios["simulation"].append(stepping / simulation)
            step_ms.append(1e3 * stepping / len(actions))
        env.close()
    how = f"scripted episodes in 3 test spaces, {repetitions} times each"
    return [
        ("env.step", statistics.median(step_ms), "ms", how),
        ("env.step / bare Bullet", statistics.median(ratios["bare"]), "×", "bare: the same motor commands and physics steps"),
        ("env.step / stepSimulation alone", statistics.median(ratios["simulation"]), "×", "24 physics steps of 1/240 s each"),
    ]


def _episode(env: GroundEnv, index: int) -> list[tuple[Observation, np.ndarray]]:
    """Observations of a scripted episode and the actions taken on them."""
    policy = env.scene.behaviours["scripted"]()
    observation, _ = env.reset(seed=0, options={"index": index})
    policy.start_episode(env.make_episode_start(0))
    steps, finished = [], False
    while not finished:
        action, _ = policy.predict(observation)
        steps.append((observation, action))
        observation, _, success, truncated, _ = env.step(action)
        finished = success or truncated
    return steps


def _workers(scene: Scene, repetitions: int = 3) -> Lines:
    """Two workers against one: pairs of shards one after the other by one worker, then at the same time by two."""
    rates: list[tuple[float, float]] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        make_worker_pool(2) as pool,
    ):
        file = Path(folder)
        shard = CollectConfig(scene.name, steps=SHARD_STEPS, shard_steps=SHARD_STEPS, seed=99)
        for future in [pool.submit(_shard_seconds, shard, number, file / str(number)) for number in range(2)]:
            future.result()  # both workers have started and imported
        for pair in range(1, repetitions + 1):
            numbers = (2 * pair, 2 * pair + 1)
            alone = [pool.submit(_shard_seconds, shard, number, file / str(number)).result() for number in numbers]
            together = [pool.submit(_shard_seconds, shard, number, file / str(number)) for number in numbers]
            rates.append((2 * SHARD_STEPS / sum(alone), sum(SHARD_STEPS / future.result() for future in together)))
    how = f"shards of {SHARD_STEPS} steps, timed inside workers that are already running, caches emptied before each"
    return [
        ("collecting, one worker", statistics.median(one for one, _ in rates), "steps/s", how),
        ("two workers / one worker", statistics.median(two / one for one, two in rates), "×", "the same shards"),
    ]


def _shard_seconds(shard: CollectConfig, number: int, file: Path) -> float:
    clear_caches()
    getattr(scenes[shard.scene].sample_layout, "cache_clear", lambda: None)()
    begun = time.perf_counter()
    collect_shard(shard, file, number, {})
    return time.perf_counter() - begun


def _pictures(scene: Scene) -> Lines:
    """Colour, depth and segmentation of one camera, taken and encoded."""
    env = GroundEnv(scene, "test")
    env.reset(seed=0, options={"index": 0})
    lines: Lines = []
    for size in PICTURE_SIZES:
        taking, encoding = [], []
        for _ in range(PICTURES):
            begun = time.perf_counter()
            picture = env.render_camera("overhead", size, size)
            taken = time.perf_counter()
            encode_image(picture)
            taking.append(taken - begun)
            encoding.append(time.perf_counter() - taken)
        how = f"encoding it takes {1e3 * statistics.median(encoding):.1f} ms more"
        lines.append((f"pictures of {size} × {size}", 1 / statistics.median(taking), "1/s", how))
    env.close()
    return lines


def _decision(scene: Scene, decisions: int = 60, compiled: bool = False) -> Lines:
    """A planner's decision, and what of it is the model, the cost and the search."""
    env = GroundEnv(scene, "test")
    observations = [observation for observation, _ in _episode(env, 0)][:decisions]
    start = env.make_episode_start(0)
    size, lines = f"{BUDGET.samples} × {BUDGET.horizon} × {BUDGET.iterations}", list[tuple[Any, ...]]()
    for quick in (False, True) if compiled else (False,):
        model = _random_weights("graph")
        model.is_compiled = quick
        planner = Planner(Objective(model, scene.task), searches["mppi"](BUDGET))
        planner.start_episode(start)
        rollout = Stopwatch(model.rollout)
        model.rollout = rollout  # type: ignore[method-assign, assignment]  # of this one model
        planner.decide(observations[0])  # the field is computed once per space, not per decision
        parts = []
        for observation in observations:
            rollout.seconds = 0.0
            decision = planner.decide(observation)
            parts.append((decision.seconds, rollout.seconds, decision.model_seconds - rollout.seconds))
        total, imagining, costing = (1e3 * np.array(values) for values in zip(*parts, strict=True))
        how = "compiled" if quick else "not compiled"
        lines += [
            (f"decision at {size}, {how}, p50", np.median(total), "ms", "graph model, random weights, mppi"),
            (f"decision at {size}, {how}, p95", np.percentile(total, 95), "ms", f"{len(total)} decisions along one episode"),
            ("model's rollouts in it, p50", np.median(imagining), "ms"),
            ("planner logic / model", np.median((total - imagining) / imagining), "%", "all but the rollouts"),
            ("of it the task's cost", np.median(costing / imagining), "%", "the objective on imagined states"),
        ]
    return lines + _together(scene, compiled) + _model_steps(scene, observations[len(observations) // 2], start, compiled)


def _search(scene: Scene) -> Lines:
    env = GroundEnv(scene, "test")
    observations = [observation for observation, _ in _episode(env, 0)]
    return search_costs(scene, _random_weights("graph"), observations, env.make_episode_start(0))


def _together(scene: Scene, compiled: bool, repetitions: int = 7) -> Lines:
    """Decisions of several episodes one after the other, against those made at once."""
    model, env = _random_weights("graph"), GroundEnv(scene, "test")
    model.is_compiled, model.is_batched = compiled, True
    planners = [Planner(Objective(model, scene.task), searches["mppi"](BUDGET)) for _ in range(TOGETHER)]
    observations = []
    for index, planner in enumerate(planners):
        observations.append(env.reset(seed=index, options={"index": index})[0])
        planner.start_episode(env.make_episode_start(index))
    env.close()
    ratios = []
    for _ in range(repetitions + 1):  # the first one warms up
        begun = time.perf_counter()
        for planner, observation in zip(planners, observations, strict=True):
            planner.decide(observation)
        alone = time.perf_counter()
        decide_batch(planners, observations)
        ratios.append((alone - begun) / (time.perf_counter() - alone))
    how = f"of {TOGETHER} episodes, {'compiled' if compiled else 'not compiled'}"
    return [("decisions, one after the other / together", statistics.median(ratios[1:]), "×", how)]


def _model_steps(scene: Scene, observation: Observation, start: EpisodeStart, compiled: bool, repetitions: int = 7) -> Lines:
    """One step of all candidates, by each model."""
    actions = 2 * torch.rand(BUDGET.samples, BUDGET.horizon, 2, generator=torch.Generator().manual_seed(0)) - 1
    seconds: dict[str, list[float]] = {name: [] for name in [*models, "simulator"]}
    simulator = SimulatorModel(scene.name)
    simulator.start_episode(start)
    imagined: list[tuple[str, Any, torch.Tensor]] = [(name, _random_weights(name), actions) for name in models]
    for _, model, _ in imagined:
        model.compiled = compiled
        model.start_episode(start)
    imagined.append(("simulator", simulator, actions[:SIMULATED]))
    for repetition in range(repetitions + 1):
        for name, model, plans in imagined:
            state = model.begin(observation)
            begun = time.perf_counter()
            model.rollout(state, plans)
            if repetition:  # the first one warms up
                seconds[name].append((time.perf_counter() - begun) * BUDGET.samples / len(plans) / BUDGET.horizon)
    true = statistics.median(seconds["simulator"])
    lines: Lines = [
        (
            "one step of 128 candidates, simulator",
            1e3 * true,
            "ms",
            f"{'models compiled where they can be; ' if compiled else ''}measured with {SIMULATED} candidates",
        )
    ]
    for name in models:
        median = statistics.median(seconds[name])
        how = f"{true / median:.0f} times faster than the simulator"
        lines.append((f"one step of 128 candidates, {name}", 1e3 * median, "ms", how))
    return lines


def _viewer(scene: Scene) -> Lines:
    """What a page costs the server, of a control period."""
    model = _random_weights("graph")
    bodies, whole = cost_of_pushing(scene, Planner(Objective(model, scene.task), searches["mppi"](BUDGET)))
    how = "CPU time of a frame, server's thread included, of a control period; a client reads everything"
    return [
        (f"pushing {BODIES} bodies of {SIZES} sizes that all move", bodies / scene.control_dt_s, "%", how),
        ("pushing a page with all overlays and plots", whole / scene.control_dt_s, "%", "the same"),
        *(
            (f"from the command to the first scene, {name}", first_frame_s(name), "s", "ground view, until a client draws")
            for name in scenes
        ),
    ]


def _random_weights(name: str) -> LearnedModel:
    torch.manual_seed(0)
    return models[name]().eval()


def _training(scene: Scene, repetitions: int = 15) -> Lines:
    """What the data side of an update costs."""
    with tempfile.TemporaryDirectory() as folder:
        shard = CollectConfig(scene.name, steps=SHARD_STEPS, shard_steps=SHARD_STEPS, seed=99)
        windows = Windows(collect(shard, Path(folder), workers=1).episodes())
    model, rng = _random_weights("graph").train(), np.random.default_rng(0)
    optimizer = Muon(model.parameters(), lr=1e-3)
    sampling, updating = [], []
    for _ in range(repetitions + 1):
        begun = time.perf_counter()
        batch = windows.sample(rng, 256, 8)
        sampled = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        model.compute_loss(batch.state, batch.actions, batch.targets).backward()
        optimizer.step()
        sampling.append(sampled - begun)
        updating.append(time.perf_counter() - sampled)
    update, sample = statistics.median(updating[1:]), statistics.median(sampling[1:])
    return [
        ("one update, 256 windows of 8 steps", 1e3 * update, "ms", "graph model"),
        ("sampling its windows / the update", sample / update, "%"),
    ]


def _physics(scene: Scene) -> Lines:
    """Bullet against theory and against itself with more effort."""
    load = scene.make_loads(scene.sample_layout("test", 0), scene.get_variations("test").base)[0]
    theory, multibody, maximal = (way[0] for way in (integrate_slide(load, 0.8, 4.0), simulate_slide(load, 0.8, 4.0),
                                                     simulate_slide(load, 0.8, 4.0, maximal=True)))  # fmt: skip
    usual = simulate_push(scene)
    more, finer = (
        compute_deviation(usual, simulate_push(scene, solver_iterations=50)),
        compute_deviation(usual, simulate_push(scene, physics_hz=480)),
    )
    apart = [f"the farthest of {len(usual)} pushes over 1.2 m, {np.rad2deg(turn):.1f}° turned" for _, turn in (more, finer)]
    return [
        ("way of a sliding, spinning tote, theory", 1e3 * theory, "mm", "0.8 m/s, 4 rad/s, Coulomb on four corners"),
        ("way as a multibody", 1e3 * multibody, "mm", f"{multibody / theory - 1:+.1%}; what World uses"),
        ("way as a maximal-coordinate body", 1e3 * maximal, "mm", f"{maximal / theory - 1:+.1%}"),
        ("pushed tote, 10 or 50 solver iterations", 1e3 * more[0], "mm apart", apart[0]),
        ("pushed tote, 24 or 48 physics steps", 1e3 * finer[0], "mm apart", apart[1]),
    ]


PARTS: dict[str, Callable[[Scene], Lines]] = {
    "step": _step,
    "workers": _workers,
    "pictures": _pictures,
    "decision": _decision,
    "training": _training,
}
ONCE: dict[str, Callable[[Scene], Lines]] = {"search": _search, "viewer": _viewer, "physics": _physics}
