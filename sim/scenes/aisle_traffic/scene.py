"""Registration of logistics/aisle-traffic."""

from sim.policy import RANDOM_BEHAVIOURS
from sim.robots.differential_drive import make_drive
from sim.scenes.aisle_traffic import layouts as aisles
from sim.scenes.aisle_traffic.expert import BEHAVIOURS
from sim.scenes.aisle_traffic.task import INDICATORS, CrossingTask
from sim.scenes.aisle_traffic.visuals import VISUALS
from sim.scenes.scene import IndicatorSet, Scene, scenes

scenes.add("logistics/aisle-traffic")(
    Scene(
        name="logistics/aisle-traffic",
        gym_id="ground/AisleTraffic-v0",
        task=CrossingTask(),
        indicators=IndicatorSet(INDICATORS, CrossingTask().compute_indicators),
        make_robot=make_drive,
        sample_layout=aisles.sample_layout,
        find_scene_faults=aisles.find_faults,
        splits=tuple(aisles.SPLIT_SPECS),
        get_variations=lambda split: aisles.get_spec(split).variations,
        behaviours={**RANDOM_BEHAVIOURS, **BEHAVIOURS},
        behaviour_mix={"smooth-random": 0.15, "rush": 0.4, "scripted-noisy": 0.45},
        visuals=VISUALS,
        sample_near_start=aisles.sample_near_start,
        make_task=aisles.make_task,
        dynamic_noun="traffic",
        unit_m=4.0,
        max_loads=0,
        max_traffic=aisles.MAX_TRAFFIC,
        episode_steps=300,
    )
)
