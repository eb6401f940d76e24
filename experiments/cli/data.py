"""`ground collect`, `data info`, `train` and `fidelity`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.markup import escape
from rich.table import Table

from experiments.cli.console import CONSOLE, DEFAULT_SCENE, PathArgument
from sim.utils.errors import GroundError
from sim.utils.files import read_json


def collect(
    out: PathArgument,
    scene: str = DEFAULT_SCENE,
    steps: int = 20_000,
    seed: int = 0,
    split: str = "train",
    behaviours: tuple[str, ...] = (),
    vary: tuple[str, ...] = (),
    planner: Path | None = None,
    cameras: tuple[str, ...] = (),
    image_size: tuple[int, int] = (96, 96),
    image_every: int = 5,
    lossless: bool = False,
    workers: int = 2,
) -> None:
    """Collect episodes into a dataset; a killed collection goes on with the same command.

    Examples: ground collect data/a --steps 60000 | ground collect data/b --vary 'load_mass_kg=3:12!5:7' load_friction=0.3 |
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
    from agents.planning.search import SearchConfig
    from agents.planning.spec import PlannerSpec
    from experiments.progress import show_progress_bar
    from sim.data.collect import CollectConfig
    from sim.data.collect import collect as collect_episodes
    from sim.data.images import ImageConfig, compute_storage_cost

    weights = tuple(_parse_weight(text) for text in behaviours)
    if (planner is not None) != ("planner" in dict(weights)):
        raise GroundError("a planner collects with both --planner MODEL and --behaviours planner=WEIGHT: one of them is missing")
    if not cameras and (lossless or (image_size, image_every) != ((96, 96), 5)):
        raise GroundError("--picture-size, --every and --lossless are of pictures: name --cameras too")
    image_config = ImageConfig(cameras, image_size, image_every, lossless) if cameras else None
    config = CollectConfig(scene, steps, seed, split, weights, vary, shard_steps=min(2000, steps), images=image_config)
    planner_spec = PlannerSpec(scene, str(planner), "mppi", SearchConfig(samples=64, horizon=20)) if planner else None
    tags = dict[str, str]()
    if planner_spec:
        planner_spec()  # a model that cannot be loaded is told before anything is written
        tags = {"planner": str(planner), "weights": str(planner_spec.describe_content()["model"])}  # trained on, it is another
    with show_progress_bar(CONSOLE, "collect") as progress:
        dataset = collect_episodes(config, out, workers, {"planner": planner_spec} if planner_spec else {}, tags, progress)
    CONSOLE.print(f"{dataset.steps} steps in {out}")
    if image_config:
        CONSOLE.print(str(compute_storage_cost(dataset)), soft_wrap=True)


def _parse_weight(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value or 1)
    except ValueError as error:
        raise GroundError(f"behaviour '{text}': write NAME or NAME=WEIGHT") from error


def describe_data(path: PathArgument) -> None:
    """Describe and verify a dataset: damaged shards are named, the rest is still usable."""
    from sim.data.images import compute_storage_cost
    from sim.data.store import Dataset

    dataset = Dataset.open(path)
    damaged: list[str] = []
    episodes = list(dataset.episodes(damaged))
    faults = dict.fromkeys([*dataset.find_faults(), *damaged])
    lengths_by_behaviour: dict[str, list[int]] = {}
    for episode in episodes:
        lengths_by_behaviour.setdefault(episode.behaviour, []).append(len(episode))
    table = Table("behaviour", "episodes", "steps", title=f"{path}: {dataset.scene}, split {dataset.manifest['split']}")
    for name, lengths in sorted(lengths_by_behaviour.items()):
        table.add_row(name, str(len(lengths)), str(sum(lengths)))
    CONSOLE.print(table)
    num_contact_steps = sum(int(episode.touching.sum()) for episode in episodes)
    num_steps = sum(len(episode) for episode in episodes)
    CONSOLE.print(
        f"{num_steps} readable steps in {len(dataset.manifest['shards'])} shards, {len(dataset.layout_ids)} layouts, "
        f"{num_contact_steps / max(1, num_steps):.0%} with contact, {sum(episode.success for episode in episodes)} episodes solved"
    )
    if "images" in dataset.manifest and num_steps and not faults:
        image_metadata = dataset.manifest["images"]
        size = "{} × {}".format(*image_metadata["size"])
        CONSOLE.print(
            f"pictures of {', '.join(image_metadata['cameras'])}, {size}, every {image_metadata['every']} steps, colours as {image_metadata['rgb']}"
        )
        CONSOLE.print(str(compute_storage_cost(dataset)), soft_wrap=True)
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
    batch: int = 256,
    lengths: tuple[int, ...] = (4, 8, 8, 12),
    learning_rate: float = 8e-3,
    seed: int = 0,
    validate_every: int = 250,
    threads: int = 2,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    resume: bool = True,
) -> None:
    """Train a world model on datasets; goes on from its last checkpoint.

    Examples: ground train data/a data/b --validation data/val --out models/mine --model graph |
    ground train runs/tote-push/data/round-1 runs/push-fixture/data/round-1 --scene all
    --validation runs/tote-push/data/val runs/push-fixture/data/val --out models/joint

    Args:
        validation: datasets that choose among checkpoints; of each scene that is trained on.
        scene: "all" for one model of several scenes; none: the data's own one.
        batch: windows in an update.
        lengths: steps of a window, growing while it trains.
        learning_rate: at first; it falls to a fiftieth of that.
        check_every: updates between two looks at the validation data, each with a checkpoint.
        device: "auto" takes a GPU where there is one.
    """
    from experiments.config.experiment import ModelTrainingConfig
    from experiments.methods.training import train_model
    from experiments.progress import show_progress_bar
    from sim.data.store import Dataset
    from sim.scenes.scene import scenes
    from worldmodels.training.loop import TrainConfig

    config = TrainConfig(
        updates, batch, lengths, learning_rate, seed=seed, validate_every=validate_every, threads=threads, device=device
    )
    model_plan = ModelTrainingConfig(model, config)
    datasets, validation_datasets = ([Dataset.open(path) for path in paths] for paths in (data, validation))
    if scene not in (None, "all") and (
        wrong_datasets := [dataset for dataset in datasets if dataset.scene != scenes[scene].name]
    ):
        raise GroundError(f"{wrong_datasets[0].path} is of scene '{wrong_datasets[0].scene}', not '{scene}'")
    with show_progress_bar(CONSOLE, f"train {model}") as progress:
        train_model(model_plan, datasets, validation_datasets, out, resume, progress, is_joint=scene == "all")
    for name, error_mm in read_json(out / "best.json").get("scenes_mm", {}).items():
        error_text = (
            f"{scenes[name].dynamic_noun} off by {error_mm:.0f} mm after 2 s (median, or energy score of several futures)"
        )
        CONSOLE.print(f"{name}: {error_text}", soft_wrap=True)
    CONSOLE.print(f"trained model in {out}")


def eval_model(
    models: Annotated[tuple[Path, ...], tyro.conf.Positional], data: Path, windows: int = 2000, plot: Path = Path("fidelity.html")
) -> None:
    """Open-loop error of models by horizon on a dataset of unseen layouts, in metres and degrees, with a plot.

    Example: ground fidelity runs/demo/models/graph --data runs/demo/data/test
    """
    from experiments.report.build import make_run_names
    from experiments.report.html import write_open_loop_page
    from sim.data.store import Dataset
    from sim.scenes.scene import scenes
    from worldmodels.assessment.open_loop import ConstantVelocity, to_records
    from worldmodels.assessment.open_loop import measure_open_loop_error as measure
    from worldmodels.training.checkpoint import load_checkpoint
    from worldmodels.training.windows import Windows

    dataset = Dataset.open(data)
    if dataset.manifest["split"] == "train":
        raise GroundError(
            f"{data} was collected in training spaces: fidelity is measured on unseen ones (ground collect --split test)"
        )
    loaded_models = [load_checkpoint(path, dataset.scene) for path in models]
    for path in models:
        if shared_layouts := dataset.layout_ids & set(read_json(path / "best.json").get("layouts", ())):
            raise GroundError(
                f"{path} was trained or chosen on {len(shared_layouts)} layouts of {data}: it is measured on unseen ones"
            )
    test_windows = Windows(dataset.episodes())
    records = [
        {**record, "model": name}
        for name, model in zip(make_run_names(models), loaded_models, strict=True)
        for record in to_records(measure(model, test_windows, windows))
    ]
    records += to_records(measure(ConstantVelocity(), test_windows, windows))
    noun = scenes[dataset.scene].dynamic_noun
    columns = ("model", "horizon", f"{noun} mm (median)", f"{noun} mm (p90)", f"{noun} °", "of way moved")
    table = Table(*columns, "robot mm", "robot °", title=str(data))
    for record in records:
        table.add_row(
            record["model"],
            f"{record['horizon_s']:g} s",
            f"{record['body_mm_median']:.1f}",
            f"{record['body_mm_p90']:.1f}",
            f"{record['body_deg_median']:.1f}",
            f"{record['body_relative_median']:.1%}",
            f"{record['robot_mm_median']:.1f}",
            f"{record['robot_deg_median']:.1f}",
        )
    CONSOLE.print(table)
    model_paths = " ".join(map(str, models))
    write_open_loop_page(plot, records, dataset.scene, f"ground fidelity {model_paths} --data {data}")
    CONSOLE.print(f"plot: {plot.resolve()}", soft_wrap=True)
