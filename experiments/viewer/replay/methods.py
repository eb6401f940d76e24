"""Methods to choose from in the viewer: those of a run, also of an unfinished one, and of models."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from sim.policy import PolicyFactory
from sim.scenes.scene import scenes, split_scene_id
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import read_json

SceneMethods = Mapping[str, Mapping[str, PolicyFactory]]  # factories by scene and name
RunMethods = tuple[dict[str, PolicyFactory], dict[str, str]]  # factories by label, and reasons by name of what is missing


def read_run_scene(run: Path) -> str | None:
    """Read the scene of a run; None if its configuration names none.

    Raises:
        BadFile: the directory is no run.
    """
    try:
        name = read_json(run / "config.json")["scene"]
    except (GroundError, KeyError, TypeError) as error:
        if not (run / "results").is_dir():
            raise BadFile(f"{run} is no run directory (config.json is missing)") from error
        return None
    return name if name in scenes else None


def set_scene(factory: PolicyFactory, scene: str) -> PolicyFactory:
    """Make the same method for a protocol of its scene, whose idea of success a planner must know."""
    from agents.planning.spec import PlannerSpec

    return replace(factory, scene=scene) if isinstance(factory, PlannerSpec) else factory


def load_run_methods(run: Path) -> RunMethods:
    """Load the methods of a run that are there, and the reasons why others are not."""
    from experiments.config.experiment import read_config
    from experiments.methods.build import MethodSet

    try:
        methods, missing = MethodSet(read_config(run), run).make_available()
    except GroundError as error:
        methods, missing = [], {"all that this run trained": str(error)}
    return {method.label: method.make_policy for method in methods}, missing


def load_model_methods(paths: Sequence[Path], scene: str) -> dict[str, PolicyFactory]:
    """Make planners on trained models that belong to no run, named after their directories.

    Raises:
        BadFile: a model is missing, damaged, or was not trained on the scene.
    """
    from agents.planning.spec import PlannerSpec
    from worldmodels.training.checkpoint import load_checkpoint

    for path in paths:
        load_checkpoint(path, split_scene_id(scene)[0])
    return {f"{path.resolve().name}+{PlannerSpec.search}": PlannerSpec(scene, str(path)) for path in paths}
