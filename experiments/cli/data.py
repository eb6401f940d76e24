"""`ground collect` and `ground data info`."""

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from agents.planning.search import SearchConfig
from agents.planning.spec import PlannerSpec
from experiments.cli.console import CONSOLE, DEFAULT_SCENE, PathArgument
from experiments.progress import show_progress_bar
from sim.data.collect import CollectConfig, ShardResult
from sim.data.collect import collect as collect_episodes
from sim.data.images import ImageConfig, compute_storage_cost
from sim.data.store import Dataset
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError

IMAGE_SIZE_PX = (96, 96)
IMAGE_EVERY_STEPS = 5


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
    image_size: tuple[int, int] = IMAGE_SIZE_PX,
    image_every: int = IMAGE_EVERY_STEPS,
    lossless: bool = False,
    workers: int = 2,
) -> None:
    """Collect episodes into a dataset; the same command resumes an interrupted collection.

    Examples: ground collect data/a --steps 60000 |
    ground collect data/b --vary 'load_mass_kg=3:12!5:7' load_friction=0.3 |
    ground collect data/c --behaviours planner=1 --planner runs/demo/models/graph |
    ground collect data/d --cameras overhead robot --image-every 5 --vary appearance=varied

    Args:
        scene: name of the scene, such as logistics/tote-push or tote-push.
        behaviours: NAME=WEIGHT pairs; default: the mix of the scene.
        vary: variations to fix, to sample, or to sample without a held-out range: NAME=VALUE,
            NAME=LOW:HIGH, NAME=LOW:HIGH!HELD_LOW:HELD_HIGH.
        planner: directory of a trained model, on which the behaviour "planner" plans.
        cameras: cameras to record (colour, depth, segmentation): overhead, robot, side.
        image_size: width and height [pixels].
        image_every: control steps between two images.
        lossless: store colour images as PNG instead of JPEG.
    """
    weights = tuple(_parse_weight(text) for text in behaviours)
    if (planner is not None) != ("planner" in dict(weights)):
        raise GroundError("a planner collects with both --planner MODEL and --behaviours planner=WEIGHT: one of them is missing")
    if not cameras and (lossless or (image_size, image_every) != (IMAGE_SIZE_PX, IMAGE_EVERY_STEPS)):
        raise GroundError("--image-size, --image-every and --lossless describe images: name --cameras too")
    images = ImageConfig(cameras, image_size, image_every, lossless) if cameras else None
    scene = scenes[scene].name
    config = CollectConfig(scene, steps, seed, split, weights, vary, images=images)
    policies = {}
    tags = {}
    if planner:
        spec = PlannerSpec(scene, str(planner), "mppi", SearchConfig(samples=64, horizon=20))
        spec()  # raises BadFile before anything is written
        policies["planner"] = spec
        tags = {"planner": str(planner), "weights": str(spec.describe_content()["model"])}
    with show_progress_bar(CONSOLE, "collect") as progress:
        results: list[ShardResult] = []
        dataset = collect_episodes(config, out, workers, policies, tags, progress, results.append)
    CONSOLE.print(f"{dataset.steps} steps in {out}")
    if images:
        CONSOLE.print(str(compute_storage_cost(dataset)), soft_wrap=True)
        if results:
            steps, seconds, image_seconds = (sum(values) for values in list(zip(*results, strict=True))[1:4])
            CONSOLE.print(
                f"{steps / seconds:.0f} steps/s per worker with images, {steps / (seconds - image_seconds):.0f} without"
            )


def _parse_weight(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name, float(value or 1)
    except ValueError as error:
        raise GroundError(f"behaviour '{text}': write NAME or NAME=WEIGHT") from error


def describe_data(path: PathArgument) -> None:
    """Describe and verify a dataset, and list its damaged shards.

    Example: ground data info runs/demo/data/round-1
    """
    dataset = Dataset.open(path)
    damaged: list[str] = []
    episodes = list(dataset.episodes(damaged))
    faults = dict.fromkeys([*dataset.find_faults(), *damaged])
    table = Table("behaviour", "episodes", "steps", title=f"{path}: {dataset.scene}, split {dataset.manifest['split']}")
    for name in sorted({episode.behaviour for episode in episodes}):
        lengths = [len(episode) for episode in episodes if episode.behaviour == name]
        table.add_row(name, str(len(lengths)), str(sum(lengths)))
    CONSOLE.print(table)
    num_steps = sum(map(len, episodes))
    contact_share = sum(int(episode.touching.sum()) for episode in episodes if episode.touching is not None) / max(1, num_steps)
    CONSOLE.print(
        f"{num_steps} readable steps in {len(dataset.manifest['shards'])} shards, {len(dataset.layout_ids)} layouts, "
        f"{contact_share:.0%} with contact, {sum(bool(episode.success) for episode in episodes)} episodes solved"
    )
    if "images" in dataset.manifest and num_steps and not faults:
        images = dataset.manifest["images"]
        size = "{} × {}".format(*images["size"])
        CONSOLE.print(f"images of {', '.join(images['cameras'])}, {size}, every {images['every']} steps, as {images['rgb']}")
        CONSOLE.print(str(compute_storage_cost(dataset)), soft_wrap=True)
    for fault in faults:
        CONSOLE.print(f"[red]{escape(fault)}[/]", soft_wrap=True)
    if faults:
        raise GroundError(f"{len(faults)} damaged: the other shards are usable; collect again to replace them")
