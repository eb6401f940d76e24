"""logistics/tote-push: an AMR pushes a tote through a hall with racks to a bay."""

from sim.layout import Layout
from sim.layouts import hall
from sim.policy import RANDOM
from sim.pushing import PUSHING
from sim.robots.differential_drive import DifferentialDrive, DriveLimits
from sim.scenes import Scene, scenes
from sim.task import PushTask
from sim.variation import Variation
from sim.world import LoadBody


def _robot(variation: Variation) -> DifferentialDrive:
    return DifferentialDrive(DriveLimits(speed_m_s=variation.speed_limit_m_s), radius_m=hall.ROBOT_RADIUS_M)


def _tote(variation: Variation, _: Layout) -> LoadBody:
    width, depth, height = (float(half) for half in hall.LOAD_HALF_M)
    size = (width * variation.load_scale, depth * variation.load_scale, height)
    return LoadBody(size, variation.load_mass_kg, variation.load_friction)


scenes.add("logistics/tote-push")(
    Scene(
        name="logistics/tote-push",
        gym_id="ground/TotePush-v0",
        task=PushTask(),
        robot=_robot,
        load=_tote,
        draw=hall.draw,
        faults_of=hall.faults_of,
        splits=tuple(hall.TIERS),
        variations_of=lambda split: hall.tier_of(split).variations,
        behaviours={**RANDOM, **PUSHING},
        mix={"smooth-random": 0.2, "approach-and-push": 0.5, "scripted-noisy": 0.3},
        random_start=hall.random_start,
        task_in=hall.task_in,
    )
)
