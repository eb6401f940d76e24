"""EpisodeSpec: one episode to run, in a layout of a split or in a layout of the user's own."""

from dataclasses import dataclass, replace

import numpy as np

from experiments.evaluation.results import CUSTOM_SPLIT_PREFIX
from sim.layout import Layout, Pose
from sim.scenes.scene import Scene
from sim.utils.errors import BadFile, BadLayout, GroundError
from sim.variation import Variation

MAX_TASK_ATTEMPTS = 100
PHYSICS_SHARE = 0.2  # by which the physics of episodes in a custom layout differ from the scene's


@dataclass(frozen=True)
class EpisodeSpec:
    """One episode to run."""

    run: str
    scene: str
    split: str
    index: int
    seed: int
    layout: Layout
    variation: Variation | None = None  # None: sampled from the seed, as the split varies it


def make_episode_specs(run: str, scene: Scene, split: str, count: int, seed: int = 0, first_index: int = 0) -> list[EpisodeSpec]:
    """Make the episodes of `count` layouts of a split, from number `first_index` on.

    Raises:
        GroundError: the split is the training split.
        BadFile: two of the layouts are equal.
    """
    if split == "train":
        raise GroundError("the training split is not evaluated: models have seen its layouts")
    indices = range(first_index, first_index + count)
    specs = [EpisodeSpec(run, scene.name, split, index, seed + index, scene.sample_layout(split, index)) for index in indices]
    if len({spec.layout.id for spec in specs}) < count:
        raise BadFile(f"split {split} has equal layouts among numbers {indices[0]} to {indices[-1]}")
    return specs


def make_custom_specs(run: str, scene: Scene, layout: Layout, count: int, seed: int = 0) -> list[EpisodeSpec]:
    """Make episodes in a custom layout.

    Episode 0 is the layout as it is. Each further episode has another start, load pose, goal,
    physics and seed in the same hall; all follow from `seed` and the episode's index.

    Raises:
        BadLayout: the hall leaves no free poses for another task.
    """
    spec = EpisodeSpec(run, scene.name, f"{CUSTOM_SPLIT_PREFIX}{layout.id}", 0, seed, layout)
    return [spec, *(_vary_spec(spec, scene, index) for index in range(1, count))]


def _vary_spec(spec: EpisodeSpec, scene: Scene, index: int) -> EpisodeSpec:
    rng = np.random.default_rng([spec.seed, index, 5])
    physics = (["load_mass_kg", "load_friction"] if scene.max_loads else []) + ["traffic_speed"] * bool(scene.max_traffic)
    base = scene.make_variations("test", ()).base
    scaled = {name: getattr(base, name) * rng.uniform(1 - PHYSICS_SHARE, 1 + PHYSICS_SHARE) for name in physics}
    layout = _vary_task(spec.layout, scene, rng)
    return replace(spec, index=index, seed=spec.seed + index, layout=layout, variation=replace(base, **scaled))


def _vary_task(layout: Layout, scene: Scene, rng: np.random.Generator) -> Layout:
    """Sample another task in a layout; the goal stays where it belongs to boxes (fixtures)."""
    faults = ["the hall leaves no free poses for another task"]
    for _ in range(MAX_TASK_ATTEMPTS):
        if scene.make_task is not None:
            task = scene.make_task(layout.hall, layout.boxes, layout.name, int(rng.integers(2**31)))
            varied = replace(layout, robot=task.robot, loads=(*task.loads, *layout.loads[1:]), goal=task.goal)
        elif scene.vary_task is not None:
            varied = scene.vary_task(layout, rng)
        elif (poses := scene.sample_near_start(layout, rng)) is not None:
            robot, *loads = (Pose(*(round(float(value), 4) for value in pose)) for pose in poses)
            varied = replace(layout, robot=robot, loads=tuple(loads))
        else:
            break
        if not (faults := scene.find_faults(varied)):
            return varied
    raise BadLayout(layout.name, faults)
