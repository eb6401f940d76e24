"""One file per scene: a robot, a task, a layout family and what may vary, registered by name."""

from collections.abc import Callable
from dataclasses import dataclass

from sim.layout import Layout
from sim.registry import Registry
from sim.robots.differential_drive import DifferentialDrive
from sim.task import PushTask
from sim.variation import Variation, Variations
from sim.world import LoadBody


@dataclass(frozen=True)
class Scene:
    """All there is to know about a scene; the environment is a thin junction of these."""

    name: str
    gym_id: str
    task: PushTask
    robot: Callable[[Variation], DifferentialDrive]
    load: Callable[[Variation], LoadBody]
    draw: Callable[[str, int], Layout]  # (split, index) -> layout
    faults: Callable[[Layout], list[str]]
    splits: tuple[str, ...]
    variations_of: Callable[[str], Variations]  # what a split varies
    max_loads: int = 3
    max_static: int = 36
    control_dt_s: float = 0.1
    episode_steps: int = 250

    @property
    def movers(self) -> int:
        """Rows of an observation that can move: the robot and the loads."""
        return 1 + self.max_loads


scenes: Registry[Scene] = Registry("scene", "sim.scenes")
