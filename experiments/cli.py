"""`ground`: what people type. Mistakes are told in one line and exit with 2, Ctrl-C with 130; a traceback means a bug."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sim.errors import BadLayout, GroundError, UnknownName
from sim.files import read_json

if TYPE_CHECKING:
    from sim.layout import Layout

CONSOLE = Console(width=None if sys.stdout.isatty() else 150)
Words = Annotated[tuple[str, ...], tyro.conf.Positional]
File = Annotated[Path, tyro.conf.Positional]
Pose2 = tuple[float, float, float]
Place2 = tuple[float, float]
SCENE = "logistics/tote-push"


def demo(out: Path = Path("runs"), workers: int = 2) -> None:
    """The whole flow at a small size: collect, train, plan in unseen spaces, compare, report (at most 10 minutes)."""
    _run("demo", out, workers)


def run(
    experiment: Annotated[str, tyro.conf.Positional],
    out: Path = Path("runs"),
    workers: int = 2,
    protocol: str | None = None,
    cache: Path | None = None,
) -> None:
    """A named experiment, or one from a TOML file. Goes on where it was interrupted.

    Examples: ground run tote-push | ground run my.toml --out /data/runs | ground run push-fixture --protocol pusht

    Args:
        protocol: evaluate by a protocol of the scene, in a run of its own.
        cache: where finished data, trainings and episodes are shared between experiments; without it, OUT/.cache.
    """
    _run(experiment, out, workers, protocol, cache)


def _run(experiment: str, out: Path, workers: int, protocol: str | None = None, cache: Path | None = None) -> None:
    from experiments.cache import Cache
    from experiments.config import load
    from experiments.pipeline import run as run_pipeline
    from experiments.report.build import rows_of
    from experiments.report.comparison import comparison_table
    from experiments.report.summary import summary_table

    config = load(experiment)
    if protocol not in (None, config.protocol):
        config = replace(config.under(protocol), name=f"{config.name}-{protocol}")
    path = out / config.name
    page = run_pipeline(config, path, workers, CONSOLE, Cache(cache or out / ".cache"))
    rows = rows_of(path)
    CONSOLE.print(summary_table(rows))
    CONSOLE.print(comparison_table(rows))
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def collect(
    out: File,
    scene: str = SCENE,
    steps: int = 20_000,
    seed: int = 0,
    split: str = "train",
    behaviours: tuple[str, ...] = (),
    vary: tuple[str, ...] = (),
    planner: Path | None = None,
    cameras: tuple[str, ...] = (),
    picture_size: tuple[int, int] = (96, 96),
    every: int = 5,
    lossless: bool = False,
    workers: int = 2,
) -> None:
    """Collect episodes into a dataset; a killed collection goes on with the same command.

    Examples: ground collect data/a --steps 60000 | ground collect data/b --vary load_mass_kg=3:12!5:7 load_friction=0.3 |
    ground collect data/c --behaviours planner=1 --planner runs/demo/models/graph |
    ground collect data/d --cameras overhead robot --every 5 --vary looks=varied

    Args:
        behaviours: name=weight pairs; none: the scene's own mix.
        vary: physics to fix, sample or hold out: name=VALUE, name=LOW:HIGH, name=LOW:HIGH!HELD_LOW:HELD_HIGH.
        planner: a trained model's directory, for the behaviour "planner".
        cameras: whose pictures (colour, depth, segmentation) to keep: overhead, robot, side.
        picture_size: width and height.
        every: steps from one picture to the next.
        lossless: colours as PNG; otherwise JPEG.
    """
    from agents.build import PlannerSpec
    from agents.search import SearchConfig
    from experiments.progress import bar
    from sim.collect import CollectConfig
    from sim.collect import collect as collect_episodes
    from sim.pictures import PictureConfig, price

    weights = tuple(_weight(text) for text in behaviours)
    pictures = PictureConfig(cameras, picture_size, every, lossless) if cameras else None
    config = CollectConfig(scene, steps, seed, split, weights, vary, shard_steps=min(2000, steps), pictures=pictures)
    spec = PlannerSpec(scene, str(planner), "mppi", SearchConfig(samples=64, horizon=20)) if planner else None
    if spec:
        spec()  # a model that cannot be loaded is told before anything is written
    with bar(CONSOLE, "collect") as progress:
        extra = {"planner": spec} if spec else {}
        dataset = collect_episodes(config, out, workers, extra, {"planner": str(planner)} if planner else {}, progress)
    CONSOLE.print(f"{dataset.steps} steps in {out}")
    if pictures:
        CONSOLE.print(str(price(dataset)), soft_wrap=True)


def _weight(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value or 1)
    except ValueError as error:
        raise GroundError(f"behaviour '{text}': write NAME or NAME=WEIGHT") from error


def data_info(path: File) -> None:
    """Describe and verify a dataset: damaged shards are named, the rest is still usable."""
    from sim.dataset import Dataset
    from sim.pictures import price

    dataset = Dataset.open(path)
    damaged: list[str] = []
    episodes = list(dataset.episodes(damaged))
    faults = dict.fromkeys([*dataset.faults(), *damaged])
    steps: dict[str, list[int]] = {}
    for episode in episodes:
        steps.setdefault(episode.behaviour, []).append(len(episode))
    table = Table("behaviour", "episodes", "steps", title=f"{path}: {dataset.scene}, split {dataset.manifest['split']}")
    for name, lengths in sorted(steps.items()):
        table.add_row(name, str(len(lengths)), str(sum(lengths)))
    CONSOLE.print(table)
    touching = sum(int(episode.touching.sum()) for episode in episodes)
    total = max(1, sum(len(episode) for episode in episodes))
    CONSOLE.print(
        f"{total} readable steps in {len(dataset.manifest['shards'])} shards, {len(dataset.layout_ids)} layouts, "
        f"{touching / total:.0%} with contact, {sum(episode.success for episode in episodes)} episodes solved"
    )
    if "pictures" in dataset.manifest and not faults:
        facts = dataset.manifest["pictures"]
        size = "{} × {}".format(*facts["size"])
        CONSOLE.print(
            f"pictures of {', '.join(facts['cameras'])}, {size}, every {facts['every']} steps, colours as {facts['rgb']}"
        )
        CONSOLE.print(str(price(dataset)), soft_wrap=True)
    for fault in faults:
        CONSOLE.print(f"[red]{escape(fault)}[/]", soft_wrap=True)
    if faults:
        raise GroundError(f"{len(faults)} damaged: the other shards are usable; collect again to replace them")


def train(
    data: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path,
    validation: tuple[Path, ...],
    model: str = "graph",
    scene: str | None = None,
    updates: int = 6000,
    seed: int = 0,
    check_every: int = 250,
    threads: int = 2,
    resume: bool = True,
) -> None:
    """Train a world model on datasets; goes on from its last checkpoint.

    Examples: ground train data/a data/b --validation data/val --out models/mine --model graph |
    ground train runs/tote-push/data/round-1 runs/push-fixture/data/round-1 --scene all
    --validation runs/tote-push/data/val runs/push-fixture/data/val --out models/joint

    Args:
        validation: datasets that choose among checkpoints; of each scene that is trained on.
        scene: "all" for one model of several scenes; none: the data's own one.
        check_every: updates between two looks at the validation data, each with a checkpoint.
    """
    from experiments.config import ModelPlan
    from experiments.progress import bar
    from experiments.trainings import train_on
    from sim.dataset import Dataset
    from sim.scenes import scenes
    from worldmodels.training import TrainConfig

    plan = ModelPlan(model, TrainConfig(updates=updates, seed=seed, check_every=check_every, threads=threads))
    found, judging = ([Dataset.open(path) for path in paths] for paths in (data, validation))
    if scene not in (None, "all") and (other := [dataset for dataset in found if dataset.scene != scenes[scene].name]):
        raise GroundError(f"{other[0].path} is of scene '{other[0].scene}', not '{scene}'")
    with bar(CONSOLE, f"train {model}") as progress:
        train_on(plan, found, judging, out, resume, progress, joint=scene == "all")
    for name, error_mm in read_json(out / "best.json").get("scenes_mm", {}).items():
        CONSOLE.print(f"{name}: {scenes[name].other} error after 2 s {error_mm:.0f} mm (median)")
    CONSOLE.print(f"trained model in {out}")


def fidelity(
    models: Annotated[tuple[Path, ...], tyro.conf.Positional], data: Path, windows: int = 2000, plot: Path = Path("fidelity.html")
) -> None:
    """Open-loop error of models by horizon on a dataset of unseen layouts, in metres and degrees, with a plot.

    Example: ground fidelity runs/demo/models/graph --data runs/demo/data/test
    """
    from experiments.report.html import write_fidelity
    from sim.dataset import Dataset
    from sim.scenes import scenes
    from worldmodels.fidelity import as_rows
    from worldmodels.fidelity import fidelity as measure
    from worldmodels.training import load_checkpoint
    from worldmodels.windows import Windows

    dataset = Dataset.open(data)
    if dataset.manifest["split"] == "train":
        raise GroundError(
            f"{data} was collected in training spaces: fidelity is measured on unseen ones (ground collect --split test)"
        )
    seen = Windows(dataset.episodes())
    rows = [
        {**row, "model": path.resolve().name}
        for path in models
        for row in as_rows(measure(load_checkpoint(path, dataset.scene), seen, windows))
    ]
    other = scenes[dataset.scene].other
    columns = ("model", "horizon", f"{other} mm (median)", f"{other} mm (p90)", f"{other} °", "of way moved")
    table = Table(*columns, "robot mm", "robot °", title=str(data))
    for row in rows:
        table.add_row(
            row["model"],
            f"{row['horizon_s']:g} s",
            f"{row['load_mm_median']:.1f}",
            f"{row['load_mm_p90']:.1f}",
            f"{row['load_deg_median']:.1f}",
            f"{row['load_relative_median']:.1%}",
            f"{row['robot_mm_median']:.1f}",
            f"{row['robot_deg_median']:.1f}",
        )
    CONSOLE.print(table)
    names = " ".join(map(str, models))
    write_fidelity(plot, rows, dataset.scene, f"ground fidelity {names} --data {data}")
    CONSOLE.print(f"plot: {plot.resolve()}", soft_wrap=True)


def evaluate(
    run: File,
    split: str | None = None,
    episodes: int | None = None,
    protocol: str | None = None,
    models: tuple[Path, ...] = (),
    oracle: int = 0,
    layout: Path | None = None,
    start: Pose2 | None = None,
    load: Pose2 | None = None,
    goal: Place2 | None = None,
    workers: int = 2,
) -> None:
    """Play every arm of a finished run on spaces of a split, or on a space of your own (--layout FILE.json, or a ROS map).

    Examples: ground evaluate runs/demo --split shift-two-totes | ground evaluate runs/demo --layout my-hall.json |
    ground evaluate runs/demo --layout warehouse.yaml --start 1 1 0 --goal 4 4 | ground evaluate runs/pf --protocol pusht

    Args:
        split: "test" unless told otherwise, or the protocol's.
        episodes: 20 unless told otherwise, or as many as the protocol has.
        protocol: one of the scene's, other than the run's own; its episodes are compared among themselves.
        models: trained elsewhere, as on several scenes; they plan in this run from now on, called by their directories' names.
        layout: a layout file, or the YAML of a map_server map, in which what is not given is drawn.
        start: x, y and yaw of the robot, for a map.
        load: x, y and yaw of the load, for a map; in scenes that have one.
        goal: x and y of the goal, for a map.
    """
    from experiments.config import config_of
    from experiments.pipeline import Steps
    from experiments.report.build import compare as compare_runs
    from experiments.report.build import read, rows_by
    from experiments.report.summary import summary_table
    from sim.scenes import USUAL

    config = config_of(run)
    config = config.under(protocol or config.protocol)
    if models:
        Steps(config, run, workers, CONSOLE).invite(models)
        Steps(config, run, workers, CONSOLE).measure_fidelity()
    if layout is not None:
        own = own_layout(layout, config.scene, 0, start, load, goal)
        rows = Steps(config, run, workers, CONSOLE).evaluate_layout(own, oracle > 0)
        page = compare_runs(read([run], rows[0]["split"], config.protocol), run / "own" / own.id)
        CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)
    else:
        usual, (first, *_) = config.protocol == USUAL, config.episodes
        split = split or ("test" if usual else first)
        count = episodes or (20 if usual else config.episodes.get(split, 20))
        Steps(replace(config, episodes={split: count}, oracle=oracle), run, workers, CONSOLE).evaluate()
        rows = [row for row in rows_by(run, config.protocol) if row["split"] == split]
    CONSOLE.print(summary_table(rows))


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional],
    out: Path = Path("comparison"),
    format: str = "table",
    protocol: str | None = None,
    scene: str | None = None,
    split: str | None = None,
) -> None:
    """Compare the arms of one or several runs: tables here, and a report.

    Examples: ground compare runs/demo runs/other | ground compare runs/demo --format csv > rates.csv |
    ground compare runs/tote-push runs/push-fixture --scene all

    Args:
        format: table, md for Markdown, csv or json.
        protocol: only episodes played by this one.
        scene: "all" for one table of runs of several scenes, without a report.
        split: only episodes of this one.
    """
    from experiments.report.build import compare as compare_runs
    from experiments.report.build import fidelity_of, read, rows_by
    from experiments.report.comparison import comparison_table
    from experiments.report.guards import notes
    from experiments.report.summary import scenes_table, summary_csv, summary_markdown, summary_records, summary_table

    texts: dict[str, Callable[[Any], str]] = {
        "md": summary_markdown,
        "csv": summary_csv,
        "json": lambda rows: json.dumps(summary_records(rows), indent=1),
    }
    if not runs:
        raise GroundError("name at least one run directory, as in: ground compare runs/demo")
    if format not in ("table", *texts):
        raise UnknownName("format", format, ("table", *texts))
    if scene not in (None, "all"):
        raise GroundError(f"--scene {scene}: runs say their scene themselves; 'all' makes one table of several scenes")
    if scene:
        CONSOLE.print(scenes_table([rows_by(path, protocol) for path in runs], [fidelity_of(path) for path in runs]))
        return
    found = read(runs, split, protocol)
    page, rows = compare_runs(found, out), found.rows
    told = [*notes(rows), *found.skipped]
    if format in texts:
        print(texts[format](rows))
        if format == "md":
            print("\n".join(told))
        return
    CONSOLE.print(summary_table(rows))
    CONSOLE.print(comparison_table(rows))
    for note in told:
        CONSOLE.print(f"[yellow]{escape(note)}[/]", soft_wrap=True)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def verify(run: File, sample: int = 12, workers: int = 2) -> None:
    """Play a sample of a run's episodes again from their seeds; tells each row that does not come out the same.

    The oracle is left out: it takes minutes for each episode.
    """
    from experiments.config import config_of
    from experiments.evaluation import arm_of
    from experiments.pipeline import Steps
    from experiments.progress import bar
    from experiments.report.build import rows_of
    from experiments.report.summary import is_oracle
    from experiments.verify import sample_of
    from experiments.verify import verify as play_again

    if sample < 1:
        raise GroundError(f"--sample {sample}: at least one episode is needed")
    found, missing = Steps(config_of(run), run, workers, CONSOLE).arms_there()
    arms = {arm.label: arm for arm in found if not is_oracle(arm.name)}
    for name, why in missing.items():
        CONSOLE.print(f"[yellow]{name} cannot be played again: {escape(why)}[/]", soft_wrap=True)
    rows = sample_of(rows_of(run), arms, sample)
    if not rows:
        raise GroundError(f"{run}: no evaluated episodes of arms that are there: evaluate first")
    with bar(CONSOLE, "verify") as progress:
        verdicts = play_again(rows, arms, run / "results", workers, progress)
    other = [verdict for verdict in verdicts if verdict.faults]
    for verdict in other:
        CONSOLE.print(
            f"[red]{verdict.arm} in {verdict.split}/{verdict.index}[/]: {escape('; '.join(verdict.faults))}", soft_wrap=True
        )
    counts = ", ".join(f"{name} {sum(arm_of(row) == name for row in rows)}" for name in arms)
    CONSOLE.print(f"{len(rows) - len(other)} of {len(rows)} episodes came out the same ({counts})", soft_wrap=True)
    if other:
        raise GroundError(f"{len(other)} of {len(rows)} episodes do not come out the same")


def report(run: File, out: Path | None = None) -> None:
    """Write the HTML report of a run from its rows.

    Examples: ground report runs/demo | ground report results/tote-push --out report

    Args:
        out: directory of the report; usually `report` in the run's.
    """
    from experiments.progress import bar
    from experiments.report.build import build_report

    planners = _factories(run)
    with bar(CONSOLE, "report") as progress:
        page = build_report(run, planners, progress, out)
    CONSOLE.print(f"report: {page.resolve()}", soft_wrap=True)


def keep(run: File, out: Path) -> None:
    """Keep a run's rows as one small file, from which tables and a report can be made without the run.

    Example: ground keep runs/tote-push --out results/tote-push, then: ground compare results/tote-push
    """
    from experiments.report.build import keep_run

    file = keep_run(run, out)
    CONSOLE.print(f"{file}: {file.stat().st_size / 1e3:.0f} kB", soft_wrap=True)


def _factories(run: Path) -> dict[str, Any]:
    """The planners of a run that are there, by name; none of a run of which rows alone were kept."""
    from experiments.config import config_of
    from experiments.pipeline import Steps

    if not (run / "results").exists():
        return {}
    found, missing = Steps(config_of(run), run, 1, CONSOLE).arms_there()
    for name, why in missing.items():
        CONSOLE.print(f"[yellow]{name} cannot think again, its rows are shown all the same: {escape(why)}[/]", soft_wrap=True)
    return {arm.label: arm.factory for arm in found if arm.model}


def view(
    run: Annotated[Path | None, tyro.conf.Positional] = None,
    scene: str = SCENE,
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
    from experiments.viewer.serve import scene_of, serve
    from sim.scenes import scenes

    name = scene_of(run) or scene if run else scene
    if split not in scenes[name].splits:
        raise UnknownName("split", split, scenes[name].splits)
    own = own_layout(layout, name, index, start, load, goal) if layout else None
    arm = arm or ("scripted" if own else None)  # nothing is recorded in a space of one's own
    serve(name, run, own or scenes[name].draw(split, index), split, index, arm, host, port, stay, CONSOLE)


def record(run: File, out: Path, split: str = "test", index: int = 0, arms: tuple[str, ...] = (), thoughts: bool = True) -> None:
    """Write a recorded episode, or several arms' on the same space, as one HTML file or as a film.

    Examples: ground record runs/demo --out talk.mp4 --arms graph+mppi scripted --index 3 | ground record runs/demo --out one.html

    Args:
        out: an .html file, which opens from disk, or an .mp4, which needs a Chromium on this machine to draw it.
        arms: side by side; without any, the run's best planner.
        thoughts: let planners think again, and show what they imagined.
    """
    from experiments.config import config_of
    from experiments.evaluation import arm_of
    from experiments.progress import bar
    from experiments.report.summary import best_planner
    from experiments.viewer.export import check, save
    from experiments.viewer.library import Library, title
    from experiments.viewer.player import think
    from experiments.viewer.take import SAME_ACTION
    from sim.scenes import scenes

    check(out)
    scene = scenes[config_of(run).scene]
    splits = (*scene.splits, *(protocol.split for protocol in scene.protocols.values()))
    if split not in splits and not split.startswith("own-"):
        raise UnknownName("split", split, splits)
    library = Library(run)
    row, *beside = (library.find(split, index, arm) for arm in arms or (best_planner(library.rows),))
    takes = library.takes(row, list(map(arm_of, beside)))
    factories = _factories(run) if thoughts else {}
    for take in takes:
        if take.name in factories:
            with bar(CONSOLE, f"{take.name} thinks again") as progress:
                differs = think(take, factories[take.name](), told=progress)
            if differs > SAME_ACTION:
                CONSOLE.print(f"[yellow]{take.name} would act differently now, by at most {differs:.2g}[/]")
    with bar(CONSOLE, f"record {out.name}") as progress:
        named = f"{split} {index}: {', '.join(take.name for take in takes)}" if beside else title(row)
        save(takes, out, named, progress)
    CONSOLE.print(f"recording: {out.resolve()}", soft_wrap=True)


def layout_check(file: File, scene: str = SCENE) -> None:
    """Check a floor plan of your own; says what is wrong in one line per fault.

    The format is described in sim/layout.py; `ground layout new` writes one to begin with.
    """
    from sim.layout import Layout
    from sim.scenes import scenes

    try:
        layout = Layout.load(file)
        faults = scenes[scene].faults(layout)
    except BadLayout as error:
        faults = error.faults
    for fault in faults:
        print(f"{file}: {fault}")
    if faults:
        raise SystemExit(2)
    print(f"{file}: good, layout {layout.id}")


def layout_import(
    file: File,
    out: Path,
    start: Pose2 | None = None,
    load: Pose2 | None = None,
    goal: Place2 | None = None,
    seed: int = 0,
    scene: str = SCENE,
) -> None:
    """Make a layout of a map as ROS's map_server keeps it (YAML and PGM or PNG); what is not given is drawn from the seed.

    Example: ground layout import warehouse.yaml --out warehouse.json --start 1 1 0 --goal 4 4

    Args:
        start: x, y and yaw of the robot [m, rad].
        load: x, y and yaw of the load; in scenes that have one.
        goal: x and y of the goal.
    """
    layout = own_layout(file, scene, seed, start, load, goal)
    layout.save(out)
    print(f"{out}: layout {layout.id} with {len(layout.boxes)} boxes")


def layout_export(file: File, out: Path, resolution_m: float = 0.05) -> None:
    """Write a layout's free space as a map that ROS's map_server reads: OUT.yaml, and a PGM picture beside it."""
    from sim.layout import Layout
    from sim.layouts.ros_map import OccupancyMap

    if not 0.005 <= resolution_m <= 1:
        raise GroundError(f"resolution {resolution_m} m: between 0.005 and 1 is possible")
    OccupancyMap.of(Layout.load(file), resolution_m).save(out)
    print(out)


def own_layout(file: Path, scene: str, seed: int, start: Any = None, load: Any = None, goal: Any = None) -> "Layout":
    """A space of the user's own: a layout file, or a map with a task in it; BadLayout where it cannot be used."""
    from sim.layout import Layout, Pose
    from sim.layouts.ros_map import OccupancyMap
    from sim.scenes import scenes

    if file.suffix not in (".yaml", ".yml"):
        if start or load or goal:
            raise GroundError(f"{file} says itself where things are: --start, --load and --goal are for maps")
        layout = Layout.load(file)
    else:
        task_in = scenes[scene].task_in
        if task_in is None:
            raise GroundError(f"{file}: {scene} does not take place in halls, of which maps are: --scene chooses another")
        hall, boxes = OccupancyMap.load(file).space(str(file))
        most = scenes[scene].max_static - 4
        if len(boxes) > most:
            fault = f"needs {len(boxes)} or more boxes, at most {most} are allowed: cut a part out, or straighten its walls"
            raise BadLayout(str(file), [fault])
        places = (start and Pose(*start), load and Pose(*load), goal and Pose(*goal))
        layout = task_in(hall, boxes, str(file), seed, *places)
    if faults := scenes[scene].faults(layout):
        raise BadLayout(str(file), faults)
    return layout


def layout_draw(file: File, out: Path | None = None) -> None:
    """Draw a floor plan from above, as PNG, SVG or PDF."""
    from experiments.report.topdown import save_layout
    from sim.layout import Layout

    target = out or file.with_suffix(".png")
    save_layout(Layout.load(file), target)
    print(target)


def layout_new(out: File, split: str = "test", index: int = 0, scene: str = SCENE, overwrite: bool = False) -> None:
    """Write a space of a split as a JSON file: something to edit."""
    from sim.scenes import scenes

    if out.exists() and not overwrite:
        raise GroundError(f"{out} is there already: --overwrite replaces it")
    if split not in scenes[scene].splits:
        raise UnknownName("split", split, scenes[scene].splits)
    scenes[scene].draw(split, index).save(out)
    print(out)


def bench(out: Path = Path("bench.json"), scenes: tuple[str, ...] = (), compiled: bool = False) -> None:
    """Measure what each scene costs, as ratios: step, workers, pictures, decision, training; prints tables and writes JSON.

    Args:
        scenes: all of them, unless named.
        compiled: also with compiled models, after half a minute of compilation for each scene.
    """
    from experiments.bench import bench as measure

    measure(out, CONSOLE, scenes, compiled)


def show() -> None:
    """List scenes with their splits, behaviours and protocols; models, search methods and experiments."""
    from agents.search import searches
    from experiments.config import names as experiments
    from sim.scenes import scenes
    from worldmodels.model import models

    for name in scenes:
        scene = scenes[name]
        CONSOLE.print(f"[bold]{name}[/]")
        for title, names in (("splits", scene.splits), ("behaviours", scene.behaviours), ("protocols", scene.protocols)):
            if names:
                CONSOLE.print(f"  {title}: {', '.join(names)}", soft_wrap=True)
    for what, known in (("models", [*models, "simulator"]), ("search methods", list(searches)), ("experiments", experiments())):
        CONSOLE.print(f"[bold]{what}[/]: {', '.join(known)}", soft_wrap=True)


@dataclass(frozen=True)
class Command:
    """One thing that `ground` does."""

    act: Callable[..., Any]

    @property
    def line(self) -> str:
        return (self.act.__doc__ or "").strip().splitlines()[0]


COMMANDS = {
    "demo": Command(demo),
    "run": Command(run),
    "collect": Command(collect),
    "data info": Command(data_info),
    "train": Command(train),
    "fidelity": Command(fidelity),
    "evaluate": Command(evaluate),
    "compare": Command(compare),
    "verify": Command(verify),
    "report": Command(report),
    "keep": Command(keep),
    "view": Command(view),
    "record": Command(record),
    "layout check": Command(layout_check),
    "layout draw": Command(layout_draw),
    "layout import": Command(layout_import),
    "layout export": Command(layout_export),
    "layout new": Command(layout_new),
    "bench": Command(bench),
    "list": Command(show),
}


def _find(words: list[str]) -> tuple[str, list[str]]:
    """The command's name, of one word or two, and its arguments."""
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in COMMANDS:
            return name, words[length:]
    group = [name for name in COMMANDS if name.startswith(f"{words[0]} ")]
    if group:
        raise GroundError(f"'ground {words[0]}' needs one of: {', '.join(name.split()[1] for name in group)}")
    close = get_close_matches(words[0], COMMANDS, n=1)
    raise (
        UnknownName("command", words[0], COMMANDS)
        if not close
        else GroundError(f"unknown command '{words[0]}': did you mean 'ground {close[0]}'? see ground --help")
    )


def _usage(names: list[str]) -> None:
    CONSOLE.print("[bold]ground[/]: can a robot that imagines before it acts be trusted in a space it has never seen?\n")
    table = Table(box=None, show_header=False)
    for name in names:
        table.add_row(f"ground {name}", COMMANDS[name].line)
    CONSOLE.print(table)
    CONSOLE.print("\n`ground COMMAND --help` explains one. Begin with: ground demo")


def main() -> None:
    """Entry point."""
    words = sys.argv[1:]
    group = [name for name in COMMANDS if words and name.startswith(f"{words[0]} ")]
    if not words or words[0] in ("-h", "--help"):
        _usage(list(COMMANDS))
        return
    if group and words[1:] in (["-h"], ["--help"]):
        _usage(group)
        return
    name = ""
    try:
        name, rest = _find(words)
        tyro.cli(COMMANDS[name].act, args=rest, prog=f"ground {name}")
    except GroundError as error:
        Console(stderr=True).print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from error
    except KeyboardInterrupt:
        said = "closed" if name == "view" else "stopped; what was finished is kept, the same command goes on"
        Console(stderr=True).print(said)
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(0) from None
    except OSError as error:
        if error.filename is None:
            raise
        message = f"{error.filename}: {error.strerror}"  # a file that cannot be read or written is no bug
        Console(stderr=True).print(f"[red]error:[/] {escape(message)}", soft_wrap=True, highlight=False)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
