"""Costs of the simulator: environment steps, workers, images; and its physics against theory."""

import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from experiments.bench.measurement import Measurement, compute_median_ratio, measure_s, record_scripted_episode
from sim.bullet.physics_check import CommandReplay, compute_deviation, integrate_slide, simulate_push, simulate_slide
from sim.costmaps.cache import clear_caches
from sim.data.collect import CollectConfig, collect_shard
from sim.data.images import encode_image
from sim.env import GroundEnv
from sim.scenes.scene import Scene, scenes
from sim.utils.workers import make_worker_pool

SHARD_STEPS = 1500
IMAGE_SIZES_PX = (64, 128, 256)
NUM_IMAGES = 20
NUM_LAYOUTS = 3


def measure_step(scene: Scene, repetitions: int = 5) -> list[Measurement]:
    """Measure the environment's step beside the work that Bullet has in any case."""
    durations_s = []  # of the environment's step, of bare Bullet, of stepSimulation
    for index in range(NUM_LAYOUTS):
        env = GroundEnv(scene, "test")
        actions = np.stack([action for _, action in record_scripted_episode(env, index)])
        env.reset(seed=0, options={"index": index})
        replay = CommandReplay.record(env, actions)
        for _ in range(repetitions):
            env.reset(seed=0, options={"index": index})
            start_s = time.perf_counter()
            for action in actions:
                env.step(action)
            episode_s = time.perf_counter() - start_s
            durations_s.append(np.array([episode_s, *replay.measure_seconds()]) / len(actions))
        env.close()
    step_s, bare_s, simulation_s = np.transpose(durations_s)
    conditions = f"scripted episodes in {NUM_LAYOUTS} test layouts, {repetitions} times each"
    bare_conditions = "bare: the same motor commands and physics steps"
    simulation_ratio = compute_median_ratio(step_s, simulation_s)
    return [
        Measurement("env.step", 1e3 * median(step_s), "ms", conditions),
        Measurement("env.step / bare Bullet", compute_median_ratio(step_s, bare_s), "×", bare_conditions),
        Measurement("env.step / stepSimulation", simulation_ratio, "×", "24 physics steps of 1/240 s each"),
    ]


def measure_workers(scene: Scene, repetitions: int = 3) -> list[Measurement]:
    """Measure two workers against one: pairs of shards in turn, then at the same time."""
    with tempfile.TemporaryDirectory() as folder, make_worker_pool(2) as pool:
        config = CollectConfig(scene.name, steps=SHARD_STEPS, shard_steps=SHARD_STEPS, seed=99)

        def measure_pair_s(pair: int, is_parallel: bool) -> list[float]:
            jobs = [partial(_measure_shard_s, config, number, Path(folder, str(number))) for number in (2 * pair, 2 * pair + 1)]
            if is_parallel:
                return [future.result() for future in [pool.submit(job) for job in jobs]]
            return [pool.submit(job).result() for job in jobs]

        measure_pair_s(0, is_parallel=True)  # both workers start and import
        sequential: list[float] = []  # steps/s
        parallel: list[float] = []
        for pair in range(1, repetitions + 1):
            sequential.append(2 * SHARD_STEPS / sum(measure_pair_s(pair, is_parallel=False)))
            parallel.append(sum(SHARD_STEPS / shard_s for shard_s in measure_pair_s(pair, is_parallel=True)))
    conditions = f"shards of {SHARD_STEPS} steps, timed inside running workers, caches emptied before each"
    return [
        Measurement("collecting, one worker", median(sequential), "steps/s", conditions),
        Measurement("two workers / one worker", compute_median_ratio(parallel, sequential), "×", "the same shards"),
    ]


def _measure_shard_s(config: CollectConfig, number: int, file: Path) -> float:
    clear_caches()
    getattr(scenes[config.scene].sample_layout, "cache_clear", lambda: None)()
    return measure_s(lambda: collect_shard(config, file, number, {}))


def measure_images(scene: Scene) -> list[Measurement]:
    """Measure colour, depth and segmentation of one camera, rendered and encoded."""
    env = GroundEnv(scene, "test")
    env.reset(seed=0, options={"index": 0})
    measurements = []
    for size in IMAGE_SIZES_PX:
        render = partial(env.render_camera, "overhead", size, size)
        encode = partial(encode_image, render())
        render_s = median(measure_s(render) for _ in range(NUM_IMAGES))
        encode_s = median(measure_s(encode) for _ in range(NUM_IMAGES))
        conditions = f"encoding one takes {1e3 * encode_s:.1f} ms more"
        measurements.append(Measurement(f"images of {size} × {size}", 1 / render_s, "1/s", conditions))
    env.close()
    return measurements


def measure_physics(scene: Scene) -> list[Measurement]:
    """Measure Bullet against theory, and against itself with a finer solver."""
    load = scene.make_loads(scene.sample_layout("test", 0), scene.get_variations("test").base)[0]
    theory_m, _ = integrate_slide(load, 0.8, 4.0)
    multibody_m, _ = simulate_slide(load, 0.8, 4.0)
    maximal_m, _ = simulate_slide(load, 0.8, 4.0, maximal=True)
    pushes = simulate_push(scene)
    slide = "distance that a sliding, spinning tote travels"
    measurements = [
        Measurement(f"{slide}, theory", 1e3 * theory_m, "mm", "0.8 m/s, 4 rad/s, Coulomb on four corners"),
        Measurement(f"{slide}, multibody", 1e3 * multibody_m, "mm", f"{multibody_m / theory_m - 1:+.1%}; used in World"),
        Measurement(f"{slide}, maximal coordinates", 1e3 * maximal_m, "mm", f"{maximal_m / theory_m - 1:+.1%}"),
    ]
    finer_settings = {"10 or 50 solver iterations": {"solver_iterations": 50}, "24 or 48 physics steps": {"physics_hz": 480}}
    for quantity, finer in finer_settings.items():
        deviation_m, turn = compute_deviation(pushes, simulate_push(scene, **finer))
        conditions = f"largest of {len(pushes)} pushes over 1.2 m, {np.rad2deg(turn):.1f}° turned"
        measurements.append(Measurement(f"difference of pushed totes, {quantity}", 1e3 * deviation_m, "mm", conditions))
    return measurements
