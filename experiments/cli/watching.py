"""`ground view` and `record`."""

from operator import attrgetter
from pathlib import Path
from typing import Annotated

import tyro

from experiments.cli.console import CONSOLE, DEFAULT_SCENE, PathArgument, PlanarPose, PlanarPosition
from experiments.cli.layouts import read_requested_layout
from experiments.cli.runs import load_planner_factories
from sim.utils.errors import GroundError, UnknownName


def view(
    run: Annotated[Path | None, tyro.conf.Positional] = None,
    scene: str | None = None,
    split: str = "test",
    index: int = 0,
    method: str | None = None,
    layout: Path | None = None,
    start: PlanarPose | None = None,
    load: PlanarPose | None = None,
    goal: PlanarPosition | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    keep_serving: bool = False,
) -> None:
    """Watch a scene in the browser: live with any arm, or the recorded episodes of a run with what its planner thought.

    Examples: ground view | ground view runs/demo | ground view runs/demo --arm graph+mppi --split shift-two-totes --index 3

    Args:
        run: a run directory; its arms and its episodes can be chosen on the page.
        scene: none: the run's, without a run logistics/tote-push.
        arm: who acts, live; none: the run's recorded episodes, without a run the scripted expert.
        index: number of the space in its split.
        layout: a space of your own instead: a layout file, or the YAML of a map_server map, in which what is not given is drawn.
        start: x, y and yaw of the robot, for a map.
        load: x, y and yaw of the load, for a map; in scenes that have one.
        goal: x and y of the goal, for a map.
        host: listens on this machine alone unless told otherwise.
        port: the first free one from here on.
        stay: go on serving after the page was closed.
    """
    from experiments.report.kept import check_has_episodes
    from experiments.viewer.runs import read_run_scene
    from experiments.viewer.serve import serve
    from sim.scenes.scene import scenes

    if run and method is None and layout is None:
        check_has_episodes(run)
    run_scene = read_run_scene(run) if run else None
    if run_scene and scene not in (None, run_scene):
        raise GroundError(f"{run} is of {run_scene}: leave --scene out, or the run")
    scene_name = run_scene or scene or DEFAULT_SCENE
    if is_recorded := run is not None and method is None and layout is None:
        _check_split(split, scene_name)
    elif split not in scenes[scene_name].splits:
        raise UnknownName("split", split, scenes[scene_name].splits)
    custom_layout = read_requested_layout(layout, scene_name, index, start, load, goal)
    method = method or ("scripted" if custom_layout else None)  # nothing is recorded in a space of one's own
    layout_split = "test" if is_recorded and split not in scenes[scene_name].splits else split
    shown_layout = custom_layout or scenes[scene_name].sample_layout(layout_split, index)
    serve(
        scene_name,
        run,
        shown_layout,
        layout_split,
        index,
        method,
        host,
        port,
        keep_serving,
        CONSOLE,
        custom_layout is not None,
        split,
    )


def _check_split(split: str, scene: str) -> None:
    """Raise UnknownName unless a run of the scene may hold episodes in such spaces, a protocol's or one's own among them."""
    from sim.scenes.scene import scenes

    splits = (*scenes[scene].splits, *(protocol.split for protocol in scenes[scene].protocols.values()))
    if split not in splits and not split.startswith("own-"):
        raise UnknownName("split", split, splits)


def record(
    run: PathArgument, out: Path, split: str = "test", index: int = 0, methods: tuple[str, ...] = (), show_plans: bool = True
) -> None:
    """Write a recorded episode, or several arms' on the same space, as one HTML file or as a film.

    Examples: ground record runs/demo --out talk.mp4 --arms graph+mppi scripted --index 3 | ground record runs/demo --out one.html

    Args:
        out: an .html file, which opens from disk, or an .mp4, which needs a Chromium on this machine to draw it.
        arms: side by side; without any, the run's best planner.
        thoughts: let planners think again, and show what they imagined.
    """
    from experiments.config.experiment import read_config
    from experiments.progress import show_progress_bar
    from experiments.report.kept import check_has_episodes
    from experiments.report.summary import find_best_planner
    from experiments.viewer.export import check_recording_path, save_recording
    from experiments.viewer.library import EpisodeIndex, format_title
    from experiments.viewer.player import recompute_plans
    from experiments.viewer.runs import set_scene
    from experiments.viewer.take import ACTION_TOLERANCE

    check_recording_path(out)
    _check_split(split, read_config(run).scene)
    check_has_episodes(run)
    episode_index = EpisodeIndex(run)
    result, *other_results = (
        episode_index.find(split, index, method) for method in methods or (find_best_planner(episode_index.results),)
    )
    replays = episode_index.make_replays(result, list(map(attrgetter("method_label"), other_results)))
    planner_factories = load_planner_factories(run) if show_plans else {}
    for replay in replays:
        if replay.name in planner_factories:
            with show_progress_bar(CONSOLE, f"{replay.name} thinks again") as progress:
                action_difference = recompute_plans(
                    replay, set_scene(planner_factories[replay.name], replay.setup.scene)(), on_progress=progress
                )
            if action_difference > ACTION_TOLERANCE:
                CONSOLE.print(f"[yellow]{replay.name} would act differently now, by at most {action_difference:.2g}[/]")
    with show_progress_bar(CONSOLE, f"record {out.name}") as progress:
        caption = f"{split} {index}: {', '.join(replay.name for replay in replays)}" if other_results else format_title(result)
        save_recording(replays, out, caption, progress)
    CONSOLE.print(f"recording: {out.resolve()}", soft_wrap=True)
