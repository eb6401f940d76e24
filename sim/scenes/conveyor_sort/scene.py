"""Registration of factory/conveyor-sort."""

from sim.policy import RANDOM_BEHAVIOURS
from sim.robots.panda import Panda, ToolLimits
from sim.scenes.conveyor_sort import layouts as conveyor
from sim.scenes.conveyor_sort.expert import BEHAVIOURS
from sim.scenes.conveyor_sort.task import ConveyorSortTask
from sim.scenes.conveyor_sort.visuals import INDICATORS, VISUALS
from sim.scenes.scene import Scene, scenes
from sim.variation import Variation
from sim.world import SceneWorld

NAME = "factory/conveyor-sort"
UNIT_M = 0.2  # scales parts of 7 cm to the size of totes
TOOL_ACCELERATION_M_S2 = 8.0
PADDLE_CLEARANCE_M = 0.006  # more than that of a stick: in fast motion the paddle tilts


def _make_robot(variation: Variation) -> Panda:
    limits = ToolLimits(variation.speed_limit_m_s, TOOL_ACCELERATION_M_S2)
    return Panda(
        limits,
        conveyor.PADDLE_HALF_M[0],
        surface_z_m=conveyor.BELT_TOP_M + PADDLE_CLEARANCE_M,
        paddle_width_m=2 * conveyor.PADDLE_HALF_M[1],
        zone=conveyor.TOOL_ZONE_M,
    )


def _make_world(gui: bool) -> SceneWorld:
    from sim.scenes.conveyor_sort.world import ConveyorWorld

    return ConveyorWorld(gui)


scenes.add(NAME)(
    Scene(
        name=NAME,
        gym_id="ground/ConveyorSort-v0",
        task=ConveyorSortTask(unit_m=UNIT_M),
        make_robot=_make_robot,
        make_world=_make_world,
        dynamic_noun="part",
        sample_layout=conveyor.sample_layout,
        find_scene_faults=conveyor.find_faults,
        splits=tuple(conveyor.SPLIT_SPECS),
        get_variations=lambda split: conveyor.VARIATIONS,
        behaviours={**RANDOM_BEHAVIOURS, **BEHAVIOURS},
        behaviour_mix={"smooth-random": 0.1, "poke": 0.5, "scripted-noisy": 0.4},
        visuals=VISUALS,
        indicators=INDICATORS,
        sample_near_start=conveyor.sample_near_start,
        unit_m=UNIT_M,
        max_loads=conveyor.MAX_PARTS,
        max_goals=conveyor.MAX_PARTS,
        max_static=24,
        episode_steps=250,
        has_averaged_forces=True,
        physics="240 Hz, 50 solver iterations",
    )
)
