"""`ground layout`: spaces of one's own, as files and maps."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.cli.console import DEFAULT_SCENE, PathArgument, PlanarPose, PlanarPosition
from sim.utils.errors import BadLayout, GroundError, UnknownName

if TYPE_CHECKING:
    from sim.layout import Layout


def check_layout(file: PathArgument, scene: str = DEFAULT_SCENE) -> None:
    """Check a floor plan of your own; says what is wrong in one line per fault.

    The format is described in sim/layout.py; `ground layout new` writes one to begin with.
    """
    from sim.layout import Layout
    from sim.scenes.scene import scenes

    try:
        layout = Layout.load(file)
        faults = scenes[scene].find_faults(layout)
    except BadLayout as error:
        faults = error.faults
    for fault in faults:
        print(f"{file}: {fault}")
    if faults:
        raise SystemExit(2)
    print(f"{file}: good, layout {layout.id}")


def draw_layout(file: PathArgument, out: Path | None = None) -> None:
    """Draw a floor plan from above, as PNG, SVG or PDF."""
    from experiments.report.topdown import save_layout_image
    from sim.layout import Layout

    target = out or file.with_suffix(".png")
    save_layout_image(Layout.load(file), target)
    print(target)


def import_layout(
    file: PathArgument,
    out: Path,
    start: PlanarPose | None = None,
    load: PlanarPose | None = None,
    goal: PlanarPosition | None = None,
    seed: int = 0,
    scene: str = DEFAULT_SCENE,
    overwrite: bool = False,
) -> None:
    """Make a layout of a map as ROS's map_server keeps it (YAML and PGM or PNG); what is not given is drawn from the seed.

    Example: ground layout import warehouse.yaml --out warehouse.json --start 1 1 0 --goal 4 4

    Args:
        start: x, y and yaw of the robot [m, rad].
        load: x, y and yaw of the load; in scenes that have one.
        goal: x and y of the goal.
    """
    _check_overwrite(out, overwrite)
    layout = read_custom_layout(file, scene, seed, start, load, goal)
    layout.save(out)
    print(f"{out}: layout {layout.id} with {len(layout.boxes)} boxes")


def export_layout(file: PathArgument, out: Path, resolution_m: float = 0.05, overwrite: bool = False) -> None:
    """Write a layout's free space as a map that ROS's map_server reads: OUT.yaml, and a PGM picture beside it."""
    from sim.data.importers.ros_map import OccupancyMap
    from sim.layout import Layout

    if not 0.005 <= resolution_m <= 1:
        raise GroundError(f"resolution {resolution_m} m: between 0.005 and 1 is possible")
    _check_overwrite(out, overwrite)
    OccupancyMap.from_layout(Layout.load(file), resolution_m).save(out)
    print(out)


def create_layout(
    out: PathArgument, split: str = "test", index: int = 0, scene: str = DEFAULT_SCENE, overwrite: bool = False
) -> None:
    """Write a space of a split as a JSON file: something to edit."""
    from sim.scenes.scene import scenes

    _check_overwrite(out, overwrite)
    if split not in scenes[scene].splits:
        raise UnknownName("split", split, scenes[scene].splits)
    scenes[scene].sample_layout(split, index).save(out)
    print(out)


def _check_overwrite(out: Path, overwrite: bool) -> None:
    """GroundError rather than a plan that was edited by hand lost."""
    if out.exists() and not overwrite:
        raise GroundError(f"{out} is there already: --overwrite replaces it")


def read_requested_layout(file: Path | None, scene: str, seed: int, start: Any, load: Any, goal: Any) -> "Layout | None":
    """The space of `--layout`, where one is named: places without it are a mistake."""
    if file is None and (start or load or goal):
        raise GroundError("--start, --load and --goal belong to a space of your own: --layout FILE too")
    return read_custom_layout(file, scene, seed, start, load, goal) if file else None


def read_custom_layout(file: Path, scene: str, seed: int, start: Any = None, load: Any = None, goal: Any = None) -> "Layout":
    """A space of the user's own: a layout file, or a map with a task in it; BadLayout where it cannot be used."""
    from sim.data.importers.ros_map import OccupancyMap
    from sim.layout import Layout, Pose
    from sim.scenes.scene import scenes

    if file.suffix not in (".yaml", ".yml"):
        if start or load or goal:
            raise GroundError(f"{file} says itself where things are: --start, --load and --goal are for maps")
        layout = Layout.load(file)
    else:
        make_task = scenes[scene].make_task
        if make_task is None:
            raise GroundError(f"{file}: {scene} does not take place in halls, of which maps are: --scene chooses another")
        hall, boxes = OccupancyMap.load(file).extract_hall(str(file))
        max_boxes = scenes[scene].max_static - 4
        if len(boxes) > max_boxes:
            fault = f"needs {len(boxes)} or more boxes, at most {max_boxes} are allowed: cut a part out, or straighten its walls"
            raise BadLayout(str(file), [fault])
        poses = (start and Pose(*start), load and Pose(*load), goal and Pose(*goal))
        layout = make_task(hall, boxes, str(file), seed, *poses)
    if faults := scenes[scene].find_faults(layout):
        raise BadLayout(str(file), faults)
    return layout
