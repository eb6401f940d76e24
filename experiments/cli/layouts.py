"""`ground layout`: custom layouts as files and maps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from experiments.cli.console import DEFAULT_SCENE, PathArgument, PlanarPose, PlanarPosition, print_message
from experiments.evaluation.results import format_layout
from sim.data.importers.ros_map import IMAGE_SUFFIXES, OccupancyMap
from sim.layout import Layout, Pose
from sim.scenes.scene import scenes
from sim.utils.errors import BadLayout, GroundError, UnknownName

MAP_SUFFIXES = (".yaml", ".yml")
MapPoses = tuple[PlanarPose | None, PlanarPose | None, PlanarPosition | None]  # of robot, load and goal


def check_layout(file: PathArgument, scene: str | None = None) -> None:
    """Check a layout file, and print one line for each fault.

    docs/layouts.md describes the format; `ground layout new` writes a file to edit.
    Examples: ground layout check my-hall.json |
    ground layout check my-hall.json --scene aisle-traffic

    Args:
        scene: name of the scene; default: the scene that the layout fits best.
    """
    try:
        layout = Layout.load(file)
        checked_scene = scenes[scene] if scene else scenes.find_by_layout(layout)
        faults = checked_scene.find_faults(layout)
    except BadLayout as error:
        faults = error.faults
    for fault in faults:
        print(f"{file}: {fault}")
    if faults:
        raise SystemExit(2)
    print(f"{file}: good for {checked_scene.name}, layout {format_layout(layout.name or file.stem, layout.id)}")


def draw_layout(file: PathArgument, out: Path | None = None) -> None:
    """Draw a layout from above, as PNG, SVG or PDF.

    Example: ground layout draw my-hall.json --out my-hall.svg
    """
    from experiments.report.figures.topdown import save_layout_image

    layout = Layout.load(file)  # first: a directory may have no name to extend
    target = out or file.with_suffix(".png")
    try:
        save_layout_image(layout, target)
    except (LookupError, ValueError) as error:  # a layout with faults is drawn if possible
        if faults := scenes.find_by_layout(layout).find_faults(layout):
            raise BadLayout(str(file), faults) from error
        raise
    print(target)


def import_layout(
    file: PathArgument,
    out: Path,
    start: PlanarPose | None = None,
    load: PlanarPose | None = None,
    goal: PlanarPosition | None = None,
    seed: int = 0,
    scene: str = DEFAULT_SCENE,
    tolerance: float | None = None,
    overwrite: bool = False,
) -> None:
    """Import a map of ROS's map_server, or a list of cartons, as a layout.

    In a map (YAML and PGM or PNG) a task is sampled. A list of cartons is a CSV file with the
    columns length, width, height [m], mass [kg] and count.
    Examples: ground layout import warehouse.yaml --out warehouse.json --start 1 1 0 --goal 4 4 |
    ground layout import order.csv --out order.json --scene palletise

    Args:
        file: the YAML file of the map, or the CSV file of the list.
        tolerance: distance up to which boxes may reach beyond walls [m]. A larger tolerance needs
            fewer boxes, and narrows passages by up to twice its value. Default: the smallest of 0,
            0.05 and 0.1 with which few boxes are enough.
        start: x, y and yaw of the robot [m, rad]; default: sampled.
        load: x, y and yaw of the load, in scenes with a load [m, rad]; default: sampled.
        goal: x and y of the goal [m]; default: sampled.
    """
    _check_overwrite(out, overwrite)
    if tolerance is not None and not 0 <= tolerance <= 1:
        raise GroundError(f"tolerance {tolerance:g} m: between 0 and 1 is possible")
    layout = read_custom_layout(file, scene, (start, load, goal), seed, tolerance)
    layout.save(out)
    print(f"{out}: layout {format_layout(layout.name, layout.id)} with {len(layout.boxes)} boxes")


def export_layout(file: PathArgument, out: Path, resolution_m: float = 0.05, overwrite: bool = False) -> None:
    """Export a layout as a map for ROS's map_server: a YAML file, and a PGM image of the same name.

    Example: ground layout export my-hall.json --out my-hall.yaml
    """
    if not 0.005 <= resolution_m <= 1:
        raise GroundError(f"resolution {resolution_m} m: between 0.005 and 1 is possible")
    _check_overwrite(out, overwrite)
    OccupancyMap.from_layout(Layout.load(file), resolution_m).save(out)
    print(out)


def create_layout(
    out: PathArgument, split: str = "test", index: int = 0, scene: str = DEFAULT_SCENE, overwrite: bool = False
) -> None:
    """Create a layout file to edit, from a layout of a split.

    Example: ground layout new my-hall.json --scene aisle-traffic --split test --index 3
    """
    _check_overwrite(out, overwrite)
    if split not in scenes[scene].splits:
        raise UnknownName("split", split, scenes[scene].splits)
    replace(scenes[scene].sample_layout(split, index), name=out.stem).save(out)
    print(out)


def _check_overwrite(out: Path, overwrite: bool) -> None:
    if out.is_dir():
        raise GroundError(f"{out} is a directory: name a file")
    if out.exists() and not overwrite:
        raise GroundError(f"{out} exists already: --overwrite replaces it")


def read_requested_layouts(files: Sequence[Path], scene: str, poses: MapPoses) -> list[Layout]:
    """Read the layouts of `--layout`.

    Args:
        poses: of `--start`, `--load` and `--goal`.

    Raises:
        GroundError: poses are given without a map, or for several.
        BadLayout: a layout cannot be used in the scene.
    """
    if any(poses) and len(files) != 1:
        raise GroundError("--start, --load and --goal belong to one map: --layout MAP.yaml too")
    layouts = [read_custom_layout(file, scene, poses) for file in files]
    return list({layout.id: layout for layout in layouts}.values())


def read_custom_layout(
    file: Path, scene: str, poses: MapPoses = (None, None, None), seed: int = 0, tolerance_m: float | None = None
) -> Layout:
    """Read a layout file, or a map with a task in it. Its name is its own, or else the file's.

    Args:
        poses: of robot, load and goal for a map, in its coordinates [m, rad].
        seed: of poses that a map and the arguments do not give.
        tolerance_m: of the boxes for a map's walls; None: chosen.

    Raises:
        GroundError: poses are given for a layout file.
        BadLayout: it cannot be used in the scene.
    """
    suffix = file.suffix.lower()
    suffixes = {suffix: name for name in scenes for suffix in scenes[name].importers}
    if suffix not in (*MAP_SUFFIXES, *IMAGE_SUFFIXES):
        if any(poses):
            raise GroundError(f"{file} has its own poses: --start, --load and --goal are for maps")
        if suffix in suffixes and suffix not in scenes[scene].importers:
            raise GroundError(f"{file}: {scene} reads no {suffix} files: --scene {suffixes[suffix]} does")
        layout = scenes[scene].importers[suffix](file, seed) if suffix in suffixes else Layout.load(file)
    else:
        make_task = scenes[scene].make_task
        if make_task is None:
            raise GroundError(f"{file}: {scene} does not take place in halls, as maps do: --scene selects another")
        occupancy = OccupancyMap.load(file, print_message)
        hall, boxes = occupancy.extract_hall(str(file), tolerance_m, print_message)
        x, y = occupancy.offset
        local_poses = [pose and Pose(pose[0] - x, pose[1] - y, *pose[2:]) for pose in poses]
        layout = replace(make_task(hall, boxes, file.stem, seed, *local_poses), map_offset=Pose(x, y))
    if faults := scenes[scene].find_faults(layout):
        raise BadLayout(str(file), faults)
    return replace(layout, name=layout.name or file.stem)
