"""What a run directory, damaged or unfinished as it may be, has to offer to a page."""

from dataclasses import replace
from pathlib import Path

from sim.policy import PolicyFactory
from sim.scenes.scene import scenes
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import read_json

RunMethods = tuple[dict[str, PolicyFactory], dict[str, str]]  # those that are there, and why others are not


def read_run_scene(run: Path) -> str | None:
    """The scene that a run is of, if it can still tell."""
    try:
        name = read_json(run / "config.json")["scene"]
    except (GroundError, KeyError, TypeError) as error:
        if not (run / "results").is_dir():
            raise BadFile(f"{run} is no run directory (config.json is missing)") from error
        return None
    return name if name in scenes else None


def set_scene(factory: PolicyFactory, scene: str) -> PolicyFactory:
    """The same arm by a protocol of its scene: what a planner minds is the protocol's idea of success."""
    from agents.planning.spec import PlannerSpec

    return replace(factory, scene=scene) if isinstance(factory, PlannerSpec) else factory


def load_run_methods(run: Path) -> RunMethods:
    """What of a run's arms is there already, and why the others are not."""
    from experiments.config.experiment import read_config
    from experiments.methods.build import MethodSet

    try:
        methods, missing = MethodSet(read_config(run), run).make_available()
    except GroundError as error:
        methods, missing = [], {"what this run trained": str(error)}
    return {method.label: method.make_policy for method in methods}, missing
