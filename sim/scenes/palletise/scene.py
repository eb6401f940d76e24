"""Registration of logistics/palletise."""

from sim.policy import UniformRandom
from sim.robots.iiwa import Iiwa
from sim.scenes.palletise import layouts
from sim.scenes.palletise.expert import BEHAVIOURS, propose_actions
from sim.scenes.palletise.orders import import_order
from sim.scenes.palletise.skill import ACTION_SPEC, PlaceCarton
from sim.scenes.palletise.task import PalletiseTask
from sim.scenes.palletise.visuals import INDICATORS, VISUALS
from sim.scenes.scene import Scene, scenes
from sim.world import SceneWorld

NAME = "logistics/palletise"


def _make_world(gui: bool) -> SceneWorld:
    from sim.scenes.palletise.world import PalletWorld

    return PalletWorld(gui)


scenes.add(NAME)(
    Scene(
        name=NAME,
        gym_id="ground/Palletise-v0",
        task=PalletiseTask(),
        make_robot=lambda variation: Iiwa(ACTION_SPEC),
        make_world=_make_world,
        dynamic_noun="carton",
        sample_layout=layouts.sample_layout,
        find_scene_faults=layouts.find_faults,
        splits=tuple(layouts.SPLIT_SPECS),
        get_variations=lambda split: layouts.get_spec(split).variations,
        behaviours={"random": UniformRandom, **BEHAVIOURS},
        behaviour_mix={"random-feasible": 0.55, "scripted-noisy": 0.25, "known-mass": 0.1, "random": 0.1},
        visuals=VISUALS,
        indicators=INDICATORS,
        sample_near_start=lambda layout, rng: None,
        max_loads=layouts.MAX_CARTONS,
        max_static=8,
        episode_steps=layouts.MAX_CARTONS + 2,
        has_final_test=True,
        is_skill=True,
        skill=PlaceCarton(),
        propose_actions=propose_actions,
        vary_task=layouts.shuffle_order,
        importers={".csv": import_order},
        measures_inertia=True,
        shard_steps=250,
        layouts_per_shard=100,
        physics="240 Hz, 50 solver iterations",
    )
)
