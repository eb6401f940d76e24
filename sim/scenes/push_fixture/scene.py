"""factory/push-fixture: an arm pushes a part over a table into a fixture; its protocol `pusht` is in sim/pusht.py."""

from sim.bodies import LoadBody
from sim.layout import Layout
from sim.policy import RANDOM
from sim.robots.panda import REACH_M, Panda, ToolLimits
from sim.scenes.push_fixture import layouts as table
from sim.scenes.push_fixture.expert import TOOL_PUSHING
from sim.scenes.push_fixture.pusht import pusht
from sim.scenes.push_fixture.task import PoseTask
from sim.scenes.scene import Scene, scenes
from sim.variation import Variation

NAME = "factory/push-fixture"
UNIT_M = 0.2  # parts of 10 cm are to the table what totes of half a metre are to the hall


def _robot(variation: Variation) -> Panda:
    return Panda(ToolLimits(speed_m_s=variation.speed_limit_m_s), radius_m=table.TOOL_RADIUS_M)


def _part(variation: Variation, layout: Layout) -> LoadBody:
    return LoadBody(table.half_extents(layout.part), variation.load_mass_kg, variation.load_friction, table.PARTS[layout.part])


scenes.add(NAME)(
    Scene(
        name=NAME,
        gym_id="ground/PushFixture-v0",
        task=PoseTask(unit_m=UNIT_M, reach_m=REACH_M),
        robot=_robot,
        load=_part,
        other="part",
        draw=table.draw,
        faults_of=table.faults_of,
        splits=tuple(table.TIERS),
        variations_of=lambda split: table.tier_of(split).variations,
        behaviours={**RANDOM, **TOOL_PUSHING},
        mix={"smooth-random": 0.1, "poke": 0.55, "scripted-noisy": 0.35},
        random_start=table.random_start,
        unit_m=UNIT_M,
        pieces=table.PIECES,
        max_loads=1,
        max_static=12,
        episode_steps=200,
        hold_steps=5,
        averaged=True,
        protocols={"pusht": pusht(NAME, UNIT_M)},
    )
)
