"""`ground view` and `ground record`."""

from pathlib import Path
from typing import Annotated

import tyro

from experiments.cli.console import CONSOLE, DEFAULT_SCENE, PathArgument, PlanarPose, PlanarPosition, print_warnings
from experiments.cli.layouts import read_custom_layout, read_requested_layouts
from experiments.evaluation.results import CUSTOM_SPLIT_PREFIX, is_custom_split
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName


def view(
    run: Annotated[Path | None, tyro.conf.Positional] = None,
    scene: str | None = None,
    split: str = "test",
    index: int = 0,
    method: str | None = None,
    models: tuple[Path, ...] = (),
    layout: Path | None = None,
    start: PlanarPose | None = None,
    load: PlanarPose | None = None,
    goal: PlanarPosition | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    keep_serving: bool = False,
) -> None:
    """Watch a scene in the browser: live, or the recorded episodes of a run with their plans.

    Examples: ground view | ground view runs/demo | ground view runs/demo --method graph+mppi --split shift-two-totes --index 3 |
    ground view --scene push-fixture --models experiments/results/models/joint

    Args:
        run: a run directory; the page offers its methods and episodes.
        scene: name of the scene, such as tote-push; default: the scene of the run, or
            logistics/tote-push without a run.
        split: split of the layout.
        index: number of the layout in its split.
        method: method that acts live. Default: recorded episodes of the run; without a run, a
            planner on the first of the models, or the scripted expert.
        models: directories of external models; the page offers planners on them.
        layout: a custom layout instead of a split: a layout file, or a map_server YAML file.
            Missing poses in a map are sampled.
        start: x, y and yaw of the robot, for a map [m, rad].
        load: x, y and yaw of the load, for a map, in scenes with a load [m, rad].
        goal: x and y of the goal, for a map [m].
        host: address to listen on; the default is reachable from this machine only.
        port: port to listen on; if it is in use, the next free port.
        keep_serving: continue after the page is closed.
    """
    from experiments.report.export import check_has_episodes
    from experiments.viewer.page.serve import ViewRequest, serve
    from experiments.viewer.replay.methods import read_run_scene

    shows_episodes = run is not None and method is None and layout is None
    if run and shows_episodes:
        check_has_episodes(run)
    requested_scene = scenes.resolve_name(scene) if scene else None
    run_scene = read_run_scene(run) if run else None
    if run_scene and requested_scene not in (None, run_scene):
        raise GroundError(f"{run} is of {run_scene}: leave --scene out, or the run")
    scene_name = run_scene or requested_scene or DEFAULT_SCENE
    splits = scenes[scene_name].splits
    if shows_episodes:
        _check_split(split, scene_name)
    elif split not in splits:
        raise UnknownName("split", split, splits)
    custom_layouts = read_requested_layouts((layout,) if layout else (), scene_name, (start, load, goal))
    layout_split = split if split in splits else "test"
    request = ViewRequest(
        scene_name,
        custom_layouts[0] if custom_layouts else scenes[scene_name].sample_layout(layout_split, index),
        layout_split,
        index,
        method or ("scripted" if layout and not models else None),  # a custom layout has no recorded episode
        run,
        split,
        models,
        bool(custom_layouts),
    )
    serve(request, host, port, keep_serving, CONSOLE)


def _check_split(split: str, scene: str) -> None:
    """Raise UnknownName unless a run of the scene may have episodes in the split."""

    splits = (*scenes[scene].splits, *(protocol.split for protocol in scenes[scene].protocols.values()))
    if split not in splits and not is_custom_split(split):
        raise UnknownName("split", split, splits)


def record(
    run: PathArgument,
    out: Path,
    split: str = "test",
    index: int = 0,
    layout: Path | None = None,
    methods: tuple[str, ...] = (),
    show_plans: bool = True,
) -> None:
    """Write a recorded episode, of one or several methods, as an HTML file or a video.

    Examples: ground record runs/demo --out talk.mp4 --methods graph+mppi scripted --index 3 |
    ground record runs/demo --out one.html | ground record runs/demo --out hall.html --layout hall.json

    Args:
        out: an .html file, which opens from disk, or an .mp4 file, which needs Chromium.
        split: split of the layout.
        index: number of the episode in its split, or in the custom layout.
        layout: a custom layout of the run's evaluation, instead of a split.
        methods: methods to show side by side; default: the best planner of the run.
        show_plans: recompute the plans of planners, and show them.
    """
    from experiments.config.experiment import read_config
    from experiments.progress import show_progress_bar
    from experiments.report.export import check_has_episodes
    from experiments.report.measures.summary import find_best_planner, get_episode_label
    from experiments.viewer.drawing.recording import check_recording_path, save_recording
    from experiments.viewer.replay.episode_index import EpisodeIndex, format_title
    from experiments.viewer.replay.methods import load_run_methods, set_scene
    from experiments.viewer.replay.player import recompute_plans
    from experiments.viewer.replay.replay import ACTION_TOLERANCE

    check_recording_path(out)
    scene = read_config(run).scene
    if layout:
        split = f"{CUSTOM_SPLIT_PREFIX}{read_custom_layout(layout, scene).id}"
    _check_split(split, scene)
    check_has_episodes(run)
    episode_index = EpisodeIndex(run)
    names = methods or (find_best_planner(episode_index.results),)
    results = [episode_index.find(split, index, name) for name in names]
    replays = episode_index.make_replays(results[0], [result.method_label for result in results[1:]])
    planners = {result.method_label for result in results if result.model}
    factories, missing = load_run_methods(run) if show_plans and planners else ({}, {})
    for name in sorted(planners - set(factories)) if show_plans else ():
        print_warnings(f"the plans of {name} are not shown: {missing.get(name, 'its model is not in the run')}")
    for replay in replays:
        if replay.name in planners and replay.name in factories:
            policy = set_scene(factories[replay.name], replay.setup.scene)()
            with show_progress_bar(CONSOLE, f"plans of {replay.name}") as progress:
                difference = recompute_plans(replay, policy, on_progress=progress)
            if difference > ACTION_TOLERANCE:
                print_warnings(f"{replay.name} would act differently now, by at most {difference:.2g}")
    caption = format_title(results[0])
    if len(replays) > 1:
        caption = f"{get_episode_label(results[0])}: {', '.join(replay.name for replay in replays)}"
    with show_progress_bar(CONSOLE, f"record {out.name}") as progress:
        save_recording(replays, out, caption, progress)
    CONSOLE.print(f"recording: {out.resolve()}", soft_wrap=True)
