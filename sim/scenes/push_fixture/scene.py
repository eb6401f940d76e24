"""Registration of factory/push-fixture; its protocol `pusht` is in pusht.py."""

from sim.bodies import LoadSpec
from sim.layout import Layout
from sim.policy import RANDOM_BEHAVIOURS
from sim.robots.panda import TOOL_RANGE_M, Panda, ToolLimits
from sim.scenes.push_fixture import layouts as table
from sim.scenes.push_fixture.expert import BEHAVIOURS
from sim.scenes.push_fixture.pusht import make_protocol
from sim.scenes.push_fixture.task import PoseTask
from sim.scenes.push_fixture.visuals import VISUALS
from sim.scenes.scene import Scene, scenes
from sim.variation import Variation

NAME = "factory/push-fixture"
UNIT_M = 0.2  # scales parts of 10 cm to the size of totes of half a metre


def _make_part(variation: Variation, layout: Layout) -> LoadSpec:
    size = table.compute_half_extents(layout.part)
    footprint = table.PARTS[layout.part]
    return LoadSpec(size, variation.load_mass_kg, variation.load_friction, footprint)


scenes.add(NAME)(
    Scene(
        name=NAME,
        gym_id="ground/PushFixture-v0",
        task=PoseTask(unit_m=UNIT_M, reach_m=TOOL_RANGE_M),
        make_robot=lambda variation: Panda(ToolLimits(speed_m_s=variation.speed_limit_m_s), stick_radius_m=table.TOOL_RADIUS_M),
        make_load=_make_part,
        dynamic_noun="part",
        sample_layout=table.sample_layout,
        find_scene_faults=table.find_faults,
        splits=tuple(table.SPLIT_SPECS),
        get_variations=lambda split: table.get_spec(split).variations,
        behaviours={**RANDOM_BEHAVIOURS, **BEHAVIOURS},
        behaviour_mix={"smooth-random": 0.1, "poke": 0.55, "scripted-noisy": 0.35},
        visuals=VISUALS,
        sample_near_start=table.sample_near_start,
        unit_m=UNIT_M,
        footprint_size=table.MAX_FOOTPRINT_BOXES,
        max_loads=1,
        max_static=12,
        episode_steps=200,
        hold_steps=5,
        has_averaged_forces=True,
        protocols={"pusht": make_protocol(NAME, UNIT_M)},
    )
)
