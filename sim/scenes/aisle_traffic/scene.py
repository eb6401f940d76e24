"""logistics/aisle-traffic: an AMR crosses a hall to a station among people and forklifts."""

from sim.policy import RANDOM
from sim.robots.differential_drive import DifferentialDrive, DriveLimits
from sim.scenes.aisle_traffic import layouts as aisles
from sim.scenes.aisle_traffic.expert import CROSSING
from sim.scenes.aisle_traffic.task import INDICATORS, CrossingTask
from sim.scenes.scene import Indicators, Scene, scenes
from sim.variation import Variation


def _robot(variation: Variation) -> DifferentialDrive:
    return DifferentialDrive(DriveLimits(speed_m_s=variation.speed_limit_m_s), radius_m=aisles.ROBOT_RADIUS_M)


scenes.add("logistics/aisle-traffic")(
    Scene(
        name="logistics/aisle-traffic",
        gym_id="ground/AisleTraffic-v0",
        task=CrossingTask(),
        indicators=Indicators(INDICATORS, CrossingTask().indicators),
        robot=_robot,
        draw=aisles.draw,
        faults_of=aisles.faults_of,
        splits=tuple(aisles.TIERS),
        variations_of=lambda split: aisles.tier_of(split).variations,
        behaviours={**RANDOM, **CROSSING},
        mix={"smooth-random": 0.15, "rush": 0.4, "scripted-noisy": 0.45},
        random_start=aisles.random_start,
        task_in=aisles.task_in,
        other="traffic",
        unit_m=4.0,
        max_loads=0,
        max_traffic=aisles.MOST_TRAFFIC,
        episode_steps=300,
    )
)
