"""Registration of logistics/tote-push."""

from sim.bodies import LoadSpec
from sim.layout import Layout
from sim.policy import RANDOM_BEHAVIOURS
from sim.robots.differential_drive import make_drive
from sim.scenes.scene import Scene, scenes
from sim.scenes.tote_push import layouts as hall
from sim.scenes.tote_push.expert import BEHAVIOURS
from sim.scenes.tote_push.task import PushTask
from sim.scenes.tote_push.visuals import VISUALS
from sim.variation import Variation


def _make_tote(variation: Variation, _: Layout) -> LoadSpec:
    width, depth, height = hall.LOAD_HALF_M.tolist()
    size = (width * variation.load_scale, depth * variation.load_scale, height)
    return LoadSpec(size, variation.load_mass_kg, variation.load_friction)


scenes.add("logistics/tote-push")(
    Scene(
        name="logistics/tote-push",
        gym_id="ground/TotePush-v0",
        task=PushTask(),
        make_robot=make_drive,
        make_load=_make_tote,
        sample_layout=hall.sample_layout,
        find_scene_faults=hall.find_faults,
        splits=tuple(hall.SPLIT_SPECS),
        get_variations=lambda split: hall.get_spec(split).variations,
        behaviours={**RANDOM_BEHAVIOURS, **BEHAVIOURS},
        behaviour_mix={"smooth-random": 0.2, "approach-and-push": 0.5, "scripted-noisy": 0.3},
        visuals=VISUALS,
        sample_near_start=hall.sample_near_start,
        make_task=hall.make_task,
    )
)
