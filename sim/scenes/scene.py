"""One file per scene: a robot, a task, a layout family and what may vary, registered by name."""


from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from sim.actions import ActionSpec
from sim.bodies import DT_S, Bodies, LoadBody
from sim.layout import Layout
from sim.policy import PolicyFactory
from sim.robots.robot import Robot
from sim.task import Task
from sim.traffic.simulation import Traffic
from sim.utils.errors import GroundError, UnknownName
from sim.utils.registry import Registry
from sim.variation import Variation, Variations

USUAL = "usual"  # the protocol that a scene has by itself


@dataclass(frozen=True)
class Protocol:
    """A published way to evaluate, as far as a scene can follow it: what is other than in the scene itself."""

    split: str  # its spaces, in which nothing is collected or trained
    draw: Callable[[str, int], Layout]
    variations: Variations
    task: Task  # with the protocol's idea of success
    episode_steps: int
    episodes: int  # that are usually played


@dataclass(frozen=True)
class Indicators:
    """What else a scene tells of an episode, as numbers in its row."""

    says: Mapping[str, str] = field(hash=False)  # what each is, with its unit, by its name in the row
    of: Callable[[Bodies, Any, float, float], dict[str, float]]  # states (T + 1, N), field, speed limit [m/s], control step [s]


@dataclass(frozen=True)
class Scene:
    """All there is to know about a scene; the environment is a thin junction of these."""

    name: str
    gym_id: str
    task: Task
    robot: Callable[[Variation], Robot]
    draw: Callable[[str, int], Layout]  # (split, index) -> layout
    faults_of: Callable[[Layout], list[str]]
    splits: tuple[str, ...]
    variations_of: Callable[[str], Variations]  # what a split varies
    behaviours: Mapping[str, PolicyFactory] = field(hash=False)  # "random" and "scripted" among them
    mix: Mapping[str, float] = field(hash=False)  # behaviours by weight that data is collected with where nobody says otherwise
    random_start: Callable[[Layout, np.random.Generator], np.ndarray | None]  # (M, 3) first movers where contact is soon
    indicators: Indicators | None = None
    task_in: Callable[..., Layout] | None = None  # hall, boxes, name, seed, robot, load, goal -> layout: of maps, where they fit
    load: Callable[[Variation, Layout], LoadBody] | None = None  # what is pushed, where anything is
    other: str = "load"  # what moves beside the robot, as people call it
    unit_m: float = 1.0  # by which models scale lengths: 1 where loads are as large as a tote
    pieces: int = 1  # boxes that a load is made of, at most
    max_loads: int = 3
    max_traffic: int = 0
    sight_m: float = 6.0  # how far away traffic is seen
    max_static: int = 36
    episode_steps: int = 250
    averaged: bool = False  # whether forces are means over a control step: where they matter, and not touching alone
    hold_steps: int = 0  # for which the goal must stay reached before an episode counts as solved
    protocols: Mapping[str, Protocol] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        missing = {"random", "scripted", *self.mix} - set(self.behaviours)
        if missing:
            raise GroundError(f"scene {self.name} lacks behaviours: {', '.join(sorted(missing))}")

    @cached_property
    def action_spec(self) -> ActionSpec:
        """What the numbers of an action mean, under the usual physics."""
        return self.robot(Variation()).action_spec

    @property
    def control_dt_s(self) -> float:
        """The same in every scene: models and traffic are made for it."""
        return DT_S

    def varied(self, split: str, texts: tuple[str, ...]) -> Variations:
        """What episodes draw where somebody says what of the physics is to vary, on the scene's own base; else what the split
        varies. Looks are no physics."""
        usual = self.variations_of(split if split in self.splits else "test")
        asked = Variations.parse(texts, usual.base)
        return asked if asked.spans else replace(asked, spans=usual.spans)

    def faults(self, layout: Layout) -> list[str]:
        """Everything that is wrong with a layout, one line each."""
        return self.faults_of(layout) or self.crowded(layout)

    def crowded(self, layout: Layout) -> list[str]:
        """Of what there is too much."""
        walls = len(layout.static_boxes) - len(layout.boxes)
        counts = (
            ("loads", len(layout.loads), self.max_loads),
            ("travellers", len(layout.traffic), self.max_traffic),
            ("boxes", len(layout.boxes), self.max_static - walls),
        )
        return [f"{count} {what}, at most {most} are allowed" for what, count, most in counts if count > most]

    def under(self, protocol: str) -> "Scene":
        """The scene as a protocol has it, by the name SCENE@PROTOCOL."""
        if protocol == USUAL:
            return self
        if protocol not in self.protocols:
            raise UnknownName(f"protocol of {self.name}", protocol, (USUAL, *self.protocols))
        way = self.protocols[protocol]
        return replace(
            self,
            name=named(self.name, protocol),
            draw=way.draw,
            splits=(way.split,),
            variations_of=lambda _: way.variations,
            task=way.task,
            episode_steps=way.episode_steps,
            hold_steps=0,  # solved at any moment
        )

    @property
    def movers(self) -> int:
        """Rows of an observation that can move: the robot, the loads and the traffic."""
        return 1 + self.max_loads + self.max_traffic

    def loads(self, layout: Layout, variation: Variation) -> list[LoadBody]:
        """The loads of a layout."""
        return [self.load(variation, layout)] * len(layout.loads) if self.load else []

    def traffic(self, layout: Layout, variation: Variation, seed: int) -> Traffic:
        """The travellers of a layout; `seed` is of their moods."""
        radius = self.robot(variation).half_extents[0]
        return Traffic(layout.traffic, layout.static_boxes, radius, seed, variation.traffic_speed)


def named(scene: str, protocol: str) -> str:
    """How `scenes` calls a scene under a protocol."""
    return scene if protocol == USUAL else f"{scene}@{protocol}"


def parted(name: str) -> tuple[str, str]:
    """The scene and the protocol of a name as in `named`."""
    scene, _, protocol = name.partition("@")
    return scene, protocol or USUAL


class _Scenes(Registry[Scene]):
    def __getitem__(self, name: str) -> Scene:
        scene, protocol = parted(name)
        return super().__getitem__(scene).under(protocol)

    def with_protocols(self) -> list[str]:
        """Names of every scene, alone and under each of its protocols."""
        return [named(name, protocol) for name in self for protocol in (USUAL, *self[name].protocols)]


scenes = _Scenes("scene", "sim.scenes")
