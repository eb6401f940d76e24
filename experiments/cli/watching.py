"""`ground view` and `record`."""

from operator import attrgetter
from pathlib import Path
from typing import Annotated

import tyro

from experiments.cli.console import CONSOLE, SCENE, File, Place2, Pose2
from experiments.cli.layouts import asked_layout
from experiments.cli.runs import factories
from sim.utils.errors import GroundError, UnknownName


def view(
    run: Annotated[Path | None, tyro.conf.Positional] = None,
    scene: str | None = None,
    split: str = "test",
    index: int = 0,
    arm: str | None = None,
    layout: Path | None = None,
    start: Pose2 | None = None,
    load: Pose2 | None = None,
    goal: Place2 | None = None,
    host: str = "127.0.0.1",
    port: int = 8080,
    stay: bool = False,
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
    from experiments.viewer.runs import scene_of
    from experiments.viewer.serve import serve
    from sim.scenes.scene import scenes

    if run and arm is None and layout is None:
        check_has_episodes(run)
    found = scene_of(run) if run else None
    if found and scene not in (None, found):
        raise GroundError(f"{run} is of {found}: leave --scene out, or the run")
    name = found or scene or SCENE
    if recorded := run is not None and arm is None and layout is None:
        _must_be_split(split, name)
    elif split not in scenes[name].splits:
        raise UnknownName("split", split, scenes[name].splits)
    own = asked_layout(layout, name, index, start, load, goal)
    arm = arm or ("scripted" if own else None)  # nothing is recorded in a space of one's own
    usual = "test" if recorded and split not in scenes[name].splits else split
    space = own or scenes[name].sample_layout(usual, index)
    serve(name, run, space, usual, index, arm, host, port, stay, CONSOLE, own is not None, split)


def _must_be_split(split: str, scene: str) -> None:
    """Raise UnknownName unless a run of the scene may hold episodes in such spaces, a protocol's or one's own among them."""
    from sim.scenes.scene import scenes

    splits = (*scenes[scene].splits, *(protocol.split for protocol in scenes[scene].protocols.values()))
    if split not in splits and not split.startswith("own-"):
        raise UnknownName("split", split, splits)


def record(run: File, out: Path, split: str = "test", index: int = 0, arms: tuple[str, ...] = (), thoughts: bool = True) -> None:
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
    from experiments.viewer.export import check, save
    from experiments.viewer.library import Library, title
    from experiments.viewer.player import think
    from experiments.viewer.runs import in_scene
    from experiments.viewer.take import SAME_ACTION

    check(out)
    _must_be_split(split, read_config(run).scene)
    check_has_episodes(run)
    library = Library(run)
    row, *beside = (library.find(split, index, arm) for arm in arms or (find_best_planner(library.rows),))
    takes = library.takes(row, list(map(attrgetter("method_label"), beside)))
    thinkers = factories(run) if thoughts else {}
    for take in takes:
        if take.name in thinkers:
            with show_progress_bar(CONSOLE, f"{take.name} thinks again") as progress:
                differs = think(take, in_scene(thinkers[take.name], take.setting.scene)(), told=progress)
            if differs > SAME_ACTION:
                CONSOLE.print(f"[yellow]{take.name} would act differently now, by at most {differs:.2g}[/]")
    with show_progress_bar(CONSOLE, f"record {out.name}") as progress:
        named = f"{split} {index}: {', '.join(take.name for take in takes)}" if beside else title(row)
        save(takes, out, named, progress)
    CONSOLE.print(f"recording: {out.resolve()}", soft_wrap=True)
