"""One file per scene: a robot, a task, a layout family and what may vary, registered by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from sim.actions import ActionSpec
from sim.bodies import CONTROL_DT_S, Bodies, LoadSpec
from sim.layout import AGENT_KIND_BY_NAME, Layout
from sim.policy import PolicyFactory
from sim.robots.robot import Robot
from sim.task import Task
from sim.traffic.simulation import PROFILES, TrafficSimulation
from sim.utils.errors import GroundError, UnknownName
from sim.utils.registry import Registry
from sim.variation import Variation, Variations
from sim.visuals import SceneVisuals

STATIC_ROWS_STEP = 16  # rows of static bodies beyond a scene's max_static are rounded up to a multiple of it
DEFAULT_PROTOCOL = "default"  # the protocol that a scene has by itself


@dataclass(frozen=True)
class EvaluationProtocol:
    """A published way to evaluate, as far as a scene can follow it: what is other than in the scene itself."""

    split: str  # its spaces, in which nothing is collected or trained
    sample_layout: Callable[[str, int], Layout]
    variations: Variations
    task: Task  # with the protocol's idea of success
    episode_steps: int
    episodes: int  # that are usually played


@dataclass(frozen=True)
class IndicatorSet:
    """What else a scene tells of an episode, as numbers in its row."""

    descriptions: Mapping[str, str] = field(hash=False)  # what each is, with its unit, by its name in the row
    compute: Callable[
        [Bodies, Any, float, float], dict[str, float]
    ]  # states (T + 1, N), field, speed limit [m/s], control step [s]


@dataclass(frozen=True)
class Scene:
    """All there is to know about a scene; the environment is a thin junction of these."""

    name: str
    gym_id: str
    task: Task
    make_robot: Callable[[Variation], Robot]
    sample_layout: Callable[[str, int], Layout]  # (split, index) -> layout
    find_scene_faults: Callable[[Layout], list[str]]
    splits: tuple[str, ...]
    get_variations: Callable[[str], Variations]  # what a split varies
    behaviours: Mapping[str, PolicyFactory] = field(hash=False)  # "random" and "scripted" among them
    behaviour_mix: Mapping[str, float] = field(
        hash=False
    )  # behaviours by weight that data is collected with where nobody says otherwise
    sample_near_start: Callable[[Layout, np.random.Generator], np.ndarray | None]  # (M, 3) first movers where contact is soon
    visuals: SceneVisuals
    indicators: IndicatorSet | None = None
    make_task: Callable[..., Layout] | None = (
        None  # hall, boxes, name, seed, robot, load, goal -> layout: of maps, where they fit
    )
    make_load: Callable[[Variation, Layout], LoadSpec] | None = None  # what is pushed, where anything is
    dynamic_noun: str = "load"  # what moves beside the robot, as people call it
    unit_m: float = 1.0  # by which models scale lengths: 1 where loads are as large as a tote
    footprint_size: int = 1  # boxes that a load is made of, at most
    max_loads: int = 3
    max_goals: int = 1
    max_traffic: int = 0
    sight_range_m: float = 6.0  # how far away traffic is seen
    max_static: int = 36  # rows of static bodies in an observation; a layout with more boxes has more
    episode_steps: int = 250
    has_averaged_forces: bool = False  # whether forces are means over a control step: where they matter, and not touching alone
    hold_steps: int = 0  # for which the goal must stay reached before an episode counts as solved
    protocols: Mapping[str, EvaluationProtocol] = field(default_factory=dict, hash=False)

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
        """What the numbers of an action mean, under the usual physics."""
        return self.make_robot(Variation()).action_spec

    @property
    def control_dt_s(self) -> float:
        """The same in every scene: models and traffic are made for it."""
        return CONTROL_DT_S

    def make_variations(self, split: str, texts: tuple[str, ...]) -> Variations:
        """What episodes draw where somebody says what of the physics is to vary, on the scene's own base; else what the split
        varies. Looks are no physics."""
        usual = self.get_variations(split if split in self.splits else "test")
        asked = Variations.parse(texts, usual.base)
        return asked if asked.spans else replace(asked, spans=usual.spans)

    def find_faults(self, layout: Layout) -> list[str]:
        """Everything that is wrong with a layout, one line each."""
        return self.find_scene_faults(layout) or self.find_capacity_faults(layout)

    def find_capacity_faults(self, layout: Layout) -> list[str]:
        """Of what there is too much."""
        counts = (("loads", len(layout.loads), self.max_loads), ("travellers", len(layout.traffic), self.max_traffic))
        return [f"{count} {what}, at most {most} are allowed" for what, count, most in counts if count > most]

    def count_static_rows(self, layout: Layout | None) -> int:
        """Count the rows of static bodies in an observation of a layout; None: of the usual layouts."""
        count = 0 if layout is None else len(layout.static_boxes)
        return self.max_static if count <= self.max_static else -(-count // STATIC_ROWS_STEP) * STATIC_ROWS_STEP

    def with_protocol(self, protocol: str) -> "Scene":
        """The scene as a protocol has it, by the name SCENE@PROTOCOL."""
        if protocol == DEFAULT_PROTOCOL:
            return self
        if protocol not in self.protocols:
            raise UnknownName(f"protocol of {self.name}", protocol, (DEFAULT_PROTOCOL, *self.protocols))
        way = self.protocols[protocol]
        return replace(
            self,
            name=make_scene_id(self.name, protocol),
            sample_layout=way.sample_layout,
            splits=(way.split,),
            get_variations=lambda _: way.variations,
            task=way.task,
            episode_steps=way.episode_steps,
            hold_steps=0,  # solved at any moment
        )

    @property
    def max_dynamic(self) -> int:
        """Rows of an observation that can move: the robot, the loads and the traffic."""
        return 1 + self.max_loads + self.max_traffic

    def make_loads(self, layout: Layout, variation: Variation) -> list[LoadSpec]:
        """The loads of a layout."""
        return [self.make_load(variation, layout)] * len(layout.loads) if self.make_load else []

    def get_footprints(self, layout: Layout) -> list[np.ndarray]:
        """List the boxes of each dynamic body of a layout, under the usual physics.

        Returns:
            Arrays (P, 4) of x, y, half width, half depth in the body's frame [m]; the robot first.
        """
        agents = [PROFILES[AGENT_KIND_BY_NAME[route.kind]].half_extents for route in layout.traffic]
        boxes = [[(0.0, 0.0, *half[:2])] for half in (self.make_robot(Variation()).half_extents, *agents)]
        loads = [load.footprint_boxes for load in self.make_loads(layout, Variation())]
        return [np.array(body_boxes) for body_boxes in (boxes[0], *loads, *boxes[1:])]

    def make_traffic(self, layout: Layout, variation: Variation, seed: int) -> TrafficSimulation:
        """The travellers of a layout; `seed` is of their moods."""
        radius = self.make_robot(variation).half_extents[0]
        return TrafficSimulation(layout.traffic, layout.static_boxes, radius, seed, variation.traffic_speed)


def make_scene_id(scene: str, protocol: str) -> str:
    """How `scenes` calls a scene under a protocol."""
    return scene if protocol == DEFAULT_PROTOCOL else f"{scene}@{protocol}"


def split_scene_id(name: str) -> tuple[str, str]:
    """The scene and the protocol of a name as in `named`."""
    scene, _, protocol = name.partition("@")
    return scene, protocol or DEFAULT_PROTOCOL


class _SceneRegistry(Registry[Scene]):
    def __getitem__(self, name: str) -> Scene:
        scene, protocol = split_scene_id(self.resolve_name(name))
        return super().__getitem__(scene).with_protocol(protocol)

    def resolve_name(self, name: str) -> str:
        """Complete a scene's name, of which the part behind the slash is enough; a protocol stays.

        Raises:
            UnknownName: no scene has this name.
        """
        scene, protocol = split_scene_id(name)
        matches = [known for known in self if scene in (known, known.rpartition("/")[2])]
        if len(matches) != 1:
            raise UnknownName("scene", scene, self)
        return make_scene_id(matches[0], protocol)

    def find_by_layout(self, layout: Layout) -> Scene:
        """Find the scene that a layout was made for: the same surface and kinds of bodies, then the fewest faults."""

        def count_differences(scene: Scene) -> tuple[int, int]:
            example = scene.sample_layout("test", 0)
            kinds = [(bool(item.loads), bool(item.part), item.surface) for item in (layout, example)]
            has_wrong_traffic = bool(layout.traffic) and not scene.max_traffic
            num_different = sum(value != expected for value, expected in zip(*kinds, strict=True))
            return num_different + has_wrong_traffic, len(scene.find_scene_faults(layout))

        return min((self[name] for name in self), key=count_differences)

    def list_with_protocols(self) -> list[str]:
        """Names of every scene, alone and under each of its protocols."""
        return [make_scene_id(name, protocol) for name in self for protocol in (DEFAULT_PROTOCOL, *self[name].protocols)]


scenes = _SceneRegistry("scene", "sim.scenes")
