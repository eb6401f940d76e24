"""logistics/tote-push: an AMR pushes a tote through a hall with racks to a bay."""

from sim.bodies import LoadBody
from sim.layout import Layout
from sim.policy import RANDOM
from sim.robots.differential_drive import DifferentialDrive, DriveLimits
from sim.scenes.scene import Scene, scenes
from sim.scenes.tote_push import layouts as hall
from sim.scenes.tote_push.expert import PUSHING
from sim.scenes.tote_push.task import PushTask
from sim.variation import Variation


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
