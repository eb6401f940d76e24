"""Scene: a robot, a task, a distribution of layouts and variations, registered by name.

Each package of `sim.scenes` registers one scene.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sim.actions import ActionSpec
from sim.bodies import CONTROL_DT_S, Bodies, LoadSpec, Observation
from sim.layout import AGENT_KIND_BY_NAME, Layout
from sim.policy import PolicyFactory
from sim.robots.robot import Robot
from sim.task import Task
from sim.traffic.simulation import PROFILES, TrafficSimulation
from sim.utils.errors import GroundError, UnknownName
from sim.utils.registry import Registry
from sim.variation import Variation, Variations
from sim.visuals import SceneVisuals
from sim.world import SceneWorld, Skill

STATIC_ROWS_STEP = 16  # above a scene's max_static, rows of static bodies are a multiple of this
DEFAULT_PROTOCOL = "default"  # the scene's own evaluation protocol


@dataclass(frozen=True)
class EvaluationProtocol:
    """A published evaluation protocol, as differences from the scene.

    Attributes:
        split: name of its layouts, which are not used for data collection or training.
        sample_layout: (split, index) -> layout.
        variations: distribution of physics and appearance.
        task: task with the success criterion of the protocol.
        episode_steps: time limit [control steps].
        episodes: number of episodes of an evaluation.
    """

    split: str
    sample_layout: Callable[[str, int], Layout]
    variations: Variations
    task: Task
    episode_steps: int
    episodes: int


@dataclass(frozen=True)
class IndicatorSet:
    """Additional indicators of an episode result.

    Attributes:
        descriptions: description of each indicator with its unit, by name.
        compute: (states (T+1, N), cost field, speed limit [m/s], control step, or mean duration of
            a skill [s]) -> indicators.
    """

    descriptions: Mapping[str, str] = field(hash=False)
    compute: Callable[[Bodies, Any, float, float], dict[str, float]]


@dataclass(frozen=True)
class Scene:
    """All properties of a scene. The environment connects its robot, world and task.

    Attributes:
        name: name in `scenes`, as domain/scene.
        gym_id: id in Gymnasium.
        task: cost, success and violations.
        make_robot: variation -> robot.
        sample_layout: (split, index) -> layout.
        find_scene_faults: layout -> faults, one line each.
        splits: names of the splits.
        get_variations: split -> distribution of physics and appearance.
        behaviours: policies by name, with "random" and "scripted".
        behaviour_mix: weights of the default behaviours of data collection.
        sample_near_start: (layout, generator) -> (M, 3) x, y, yaw of the first M dynamic bodies
            near contact [m, rad], or None.
        visuals: appearance in viewer and figures.
        indicators: additional indicators of episode results.
        make_task: (hall, boxes, name, seed, robot, load, goal) -> layout, for imported maps.
        make_load: (variation, layout) -> load; None in scenes without loads.
        dynamic_noun: noun for the dynamic bodies beside the robot.
        unit_m: length by which models scale lengths; 1 where loads have the size of a tote.
        footprint_size: largest number of boxes of a load.
        max_loads: largest number of loads.
        max_goals: largest number of goals.
        max_traffic: largest number of agents.
        sight_range_m: distance up to which agents are observed.
        max_static: rows of static bodies in an observation; layouts with more boxes have more rows.
        episode_steps: time limit [control steps].
        has_averaged_forces: contact forces are means over a control step, for tasks with force
            limits.
        hold_steps: steps for which success must last, after its first step, before an episode ends.
        protocols: published evaluation protocols, by name.
        make_world: makes the scene's own physics, from whether Bullet's window is open; None: a
            robot, loads and traffic in a hall or on a table.
        has_final_test: success also needs the world's outcome.
        is_skill: an action is a whole skill, and steps take different times.
        skill: intended effect of an action, for models of skills.
        propose_actions: (observation, number, generator) -> (K, n) sensible actions, at most the
            number, for search methods that use them.
        vary_task: (layout, generator) -> another task in the same layout, where `make_task` and
            `sample_near_start` make none.
        importers: by suffix of a file, (file, seed) -> layout, such as from an order list.
        measures_inertia: the robot measures mass and centre of mass of what it lifts.
        shard_steps: states of a shard of collected data.
        layouts_per_shard: number of layouts in a shard.
        physics: settings of the physics engine, for the manifest of datasets.
    """

    name: str
    gym_id: str
    task: Task
    make_robot: Callable[[Variation], Robot]
    sample_layout: Callable[[str, int], Layout]
    find_scene_faults: Callable[[Layout], list[str]]
    splits: tuple[str, ...]
    get_variations: Callable[[str], Variations]
    behaviours: Mapping[str, PolicyFactory] = field(hash=False)
    behaviour_mix: Mapping[str, float] = field(hash=False)
    sample_near_start: Callable[[Layout, np.random.Generator], np.ndarray | None]
    visuals: SceneVisuals
    indicators: IndicatorSet | None = None
    make_task: Callable[..., Layout] | None = None
    make_load: Callable[[Variation, Layout], LoadSpec] | None = None
    dynamic_noun: str = "load"
    unit_m: float = 1.0
    footprint_size: int = 1
    max_loads: int = 3
    max_goals: int = 1
    max_traffic: int = 0
    sight_range_m: float = 6.0
    max_static: int = 36
    episode_steps: int = 250
    has_averaged_forces: bool = False
    hold_steps: int = 0
    protocols: Mapping[str, EvaluationProtocol] = field(default_factory=dict, hash=False)
    make_world: Callable[[bool], SceneWorld] | None = None
    has_final_test: bool = False
    is_skill: bool = False
    skill: Skill | None = None
    vary_task: Callable[[Layout, np.random.Generator], Layout] | None = None
    importers: Mapping[str, Callable[[Path, int], Layout]] = field(default_factory=dict, hash=False)
    propose_actions: Callable[[Observation, int, np.random.Generator], np.ndarray] | None = None
    measures_inertia: bool = False
    shard_steps: int = 2000
    layouts_per_shard: int = 8
    physics: str = "240 Hz, 10 solver iterations"

    def __post_init__(self) -> None:
        missing = {"random", "scripted", *self.behaviour_mix} - set(self.behaviours)
        if missing:
            raise GroundError(f"scene {self.name} lacks behaviours: {', '.join(sorted(missing))}")

    @property
    def goal_shape(self) -> tuple[int, ...]:
        """Shape of the goal in an observation."""
        return (self.max_goals, 3) if self.max_goals > 1 else (3,)

    @cached_property
    def action_spec(self) -> ActionSpec:
        """Meaning of the components of an action, with the default variation."""
        return self.make_robot(Variation()).action_spec

    @property
    def control_dt_s(self) -> float:
        """Duration of a control step, the same in every scene: models and traffic depend on it."""
        return CONTROL_DT_S

    def make_variations(self, split: str, texts: tuple[str, ...]) -> Variations:
        """Make the variations of a split, or custom variations on the base values of the split.

        Args:
            split: name of a split; the test split stands for other names.
            texts: custom variations, as for `Variations.parse`. Custom values of the physics
                replace all variations of the split.
        """
        split_variations = self.get_variations(split if split in self.splits else "test")
        custom = Variations.parse(texts, split_variations.base)
        return custom if custom.spans else replace(custom, spans=split_variations.spans)

    def find_faults(self, layout: Layout) -> list[str]:
        """Find the faults of a layout, one line each."""
        return self.find_scene_faults(layout) or self.find_capacity_faults(layout)

    def find_capacity_faults(self, layout: Layout) -> list[str]:
        """Find the numbers of bodies in a layout that exceed the scene's limits, one line each."""
        counts = (("loads", len(layout.loads), self.max_loads), ("agents", len(layout.traffic), self.max_traffic))
        return [f"{count} {noun}, at most {limit} are allowed" for noun, count, limit in counts if count > limit]

    def count_static_rows(self, layout: Layout | None) -> int:
        """Count the rows of static bodies in observations of a layout; None: of sampled layouts."""
        count = 0 if layout is None else len(layout.static_bodies.kind)
        return self.max_static if count <= self.max_static else -(-count // STATIC_ROWS_STEP) * STATIC_ROWS_STEP

    def with_protocol(self, protocol: str) -> "Scene":
        """Make the scene of an evaluation protocol, with the name SCENE@PROTOCOL.

        Raises:
            UnknownName: the scene has no protocol of this name.
        """
        if protocol == DEFAULT_PROTOCOL:
            return self
        if protocol not in self.protocols:
            raise UnknownName(f"protocol of {self.name}", protocol, (DEFAULT_PROTOCOL, *self.protocols))
        changes = self.protocols[protocol]
        return replace(
            self,
            name=make_scene_id(self.name, protocol),
            sample_layout=changes.sample_layout,
            splits=(changes.split,),
            get_variations=lambda split: changes.variations,
            task=changes.task,
            episode_steps=changes.episode_steps,
            hold_steps=0,  # success in a single step is enough
        )

    @property
    def max_dynamic(self) -> int:
        """Number of rows of dynamic bodies in an observation: robot, loads and agents."""
        return 1 + self.max_loads + self.max_traffic

    def create_world(self, gui: bool = False) -> SceneWorld:
        """Create the physics of the scene; this loads the physics engine.

        Args:
            gui: open Bullet's own window.
        """
        if self.make_world:
            return self.make_world(gui)
        from sim.bullet.world import World

        return World(gui, averaged=self.has_averaged_forces)

    def make_loads(self, layout: Layout, variation: Variation) -> list[LoadSpec]:
        """Make the loads of a layout."""
        return [self.make_load(variation, layout)] * len(layout.loads) if self.make_load else []

    def get_footprints(self, layout: Layout) -> list[np.ndarray]:
        """List the boxes of each dynamic body of a layout, with the default variation.

        Returns:
            Arrays (P, 4) of x, y, half width, half depth in the body's frame [m]; the robot first.
        """
        agents = [PROFILES[AGENT_KIND_BY_NAME[route.kind]].half_extents for route in layout.traffic]
        boxes = [[(0.0, 0.0, *half[:2])] for half in (self.make_robot(Variation()).half_extents, *agents)]
        outlines = layout.details.list_load_outlines() if layout.details else []
        loads = [load.footprint_boxes for load in self.make_loads(layout, Variation())] or [
            ((0.0, 0.0, *half),) for half in outlines
        ]
        return [np.array(body_boxes) for body_boxes in (boxes[0], *loads, *boxes[1:])]

    def make_traffic(self, layout: Layout, variation: Variation, seed: int) -> TrafficSimulation:
        """Make the traffic of a layout.

        Args:
            layout: layout with agents.
            variation: gives the factor on their speeds, and the robot.
            seed: seed of the behaviour schedules of the agents.
        """
        radius = self.make_robot(variation).half_extents[0]
        return TrafficSimulation(layout.traffic, layout.static_boxes, radius, seed, variation.traffic_speed)


def make_scene_id(scene: str, protocol: str) -> str:
    """Make the name of a scene with a protocol, as `scenes` uses it."""
    return scene if protocol == DEFAULT_PROTOCOL else f"{scene}@{protocol}"


def split_scene_id(name: str) -> tuple[str, str]:
    """Split a name as of `make_scene_id` into scene and protocol."""
    scene, _, protocol = name.partition("@")
    return scene, protocol or DEFAULT_PROTOCOL


class _SceneRegistry(Registry[Scene]):
    def __getitem__(self, name: str) -> Scene:
        scene, protocol = split_scene_id(self.resolve_name(name))
        return super().__getitem__(scene).with_protocol(protocol)

    def resolve_name(self, name: str) -> str:
        """Complete the name of a scene, which may lack the domain before the slash.

        A protocol in the name is kept.

        Raises:
            UnknownName: no scene has this name.
        """
        scene, protocol = split_scene_id(name)
        matches = [known for known in self if scene in (known, known.rpartition("/")[2])]
        if len(matches) != 1:
            raise UnknownName("scene", scene, self)
        return make_scene_id(matches[0], protocol)

    def find_by_layout(self, layout: Layout) -> Scene:
        """Find the scene that a layout was made for.

        The scene has the same surface and kinds of bodies; of several such scenes, the layout has
        the fewest faults in it.
        """

        def count_differences(scene: Scene) -> tuple[int, int]:
            example = scene.sample_layout("test", 0)
            kinds = [(bool(item.loads), bool(item.part), item.surface) for item in (layout, example)]
            has_wrong_traffic = bool(layout.traffic) and not scene.max_traffic
            num_different = sum(value != expected for value, expected in zip(*kinds, strict=True))
            return num_different + has_wrong_traffic, len(scene.find_scene_faults(layout))

        return min((self[name] for name in self), key=count_differences)

    def list_with_protocols(self) -> list[str]:
        """List the names of all scenes, with each of their protocols."""
        return [make_scene_id(name, protocol) for name in self for protocol in (DEFAULT_PROTOCOL, *self[name].protocols)]


scenes = _SceneRegistry("scene", "sim.scenes")
