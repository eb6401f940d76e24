"""Soak test with valid and damaged input files and command lines.

Each input is a valid file with random changes, or a random command line. A command must succeed, or
refuse it in one line: `error: ...` and exit code 2. It must not hang, and a refused command leaves
no new or changed file. Most commands run in this process; some run as a process of their own.
"""

import contextlib
import inspect
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_type_hints
from unittest import mock

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from common import Summary, make_parser
from PIL import Image
from safetensors.torch import load_file, save_file

from experiments import cli, pipeline
from experiments.cli.console import CONSOLE
from experiments.config.experiment import PRESETS, list_presets
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.specs import make_episode_specs
from experiments.methods.method import Method
from experiments.versions import start_or_resume
from sim.data.collect import CollectConfig, collect
from sim.data.importers.ros_map import OccupancyMap
from sim.data.store import MANIFEST, Dataset
from sim.env import GroundEnv
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from sim.utils.files import lock_directory
from worldmodels.model import models
from worldmodels.training.checkpoint import save_checkpoint

MAX_CPU_S = 10  # of one command
MAX_WALL_S = 120  # of one command, on a machine that others use too
MAX_DATA_BYTES = 6_000_000_000  # of this process: an input must not use up the machine's memory
SCENE = "logistics/tote-push"
DEEP = "[" * 3000 + "]" * 3000
DEEP_MARK = "@deep@"  # replaced by DEEP in text
UNCLEAR = re.compile(r"Traceback|object at 0x|<class |<function ")
NASTY = (
    *(float("nan"), float("inf"), float("-inf"), -0.0, 0, -1, 1e-300, 1e308, -1e308, 10**30, 2**31, 2**63, 10**400),
    *(0.5, 3, 7.25, 100, 1e4, 1e9, -1e9, True, False, None, "", "x", "NaN", "1", "x" * 3000, "✓\u202e", "a\nb", "../x", "\ud800"),
    *([], [1], [None, "x"], {}, {"x": 1}, [[]], DEEP_MARK, [0] * 2000),
)


class Accepted(SystemExit):
    """Raised in place of long work: the input was accepted."""

    def __init__(self) -> None:
        super().__init__(0)


class TooLongError(BaseException):
    """Raised in a command that takes too long."""


@dataclass(frozen=True)
class Examples:
    """Valid inputs, which are copied before changes."""

    layouts: tuple[Path, ...]  # of every scene
    map: Path  # directory with map.yaml and map.pgm
    dataset: Path
    validation: Path
    model: Path
    run: Path


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float
    error: str = ""  # traceback of an exception that escaped


# -- examples --------------------------------------------------------------------------------------


def make_examples(path: Path, dataset: Path | None = None, validation: Path | None = None) -> Examples:
    """Make valid inputs.

    Args:
        path: directory for them.
        dataset: of the scene SCENE; None: it is collected.
        validation: of the split val; None: it is collected.
    """
    files = []
    for name in scenes:
        for split in scenes[name].splits:
            files.append(path / "layouts" / f"{name.replace('/', '-')}-{split}.json")
            scenes[name].sample_layout(split, 0).save(files[-1])
    OccupancyMap.from_layout(Layout.load(files[-1]), 0.1).save(path / "map" / "map.yaml")
    if dataset is None:
        dataset = collect(CollectConfig(SCENE, 800, shard_steps=400, layouts_per_shard=3), path / "train", 1).path
    if validation is None:
        validation = collect(CollectConfig(SCENE, 600, 8, "val", shard_steps=600, layouts_per_shard=3), path / "val", 1).path
    torch.manual_seed(0)
    for name in ("best", "last"):
        model = models["graph"](hidden_size=16)
        metadata = {"scene": SCENE, "layouts": [], "data": "x", "env_steps": 800, "update": 2, "finished": True}
        save_checkpoint(model, path / "model", name, metadata)
    return Examples(tuple(files), path / "map", dataset, validation, path / "model", make_run(path / "run"))


def make_run(path: Path) -> Path:
    """Make a run with results of two methods without a model."""
    content = {"name": "run", "scene": SCENE, "models": [], "baselines": [], "episodes": {"test": 2}}
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    (path / "versions.json").write_text(json.dumps({"python": "3"}), encoding="utf-8")
    specs = make_episode_specs("run", scenes[SCENE], "test", 2)
    for name in ("random", "scripted"):
        evaluate(Method(name, scenes[SCENE].behaviours[name]), specs, path / "results" / name, workers=1)
    return path


# -- changes ---------------------------------------------------------------------------------------


def change_bytes(rng: random.Random, data: bytes) -> bytes:
    """Flip, delete, insert, repeat or cut off bytes at random places."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 20))):
        at = rng.randrange(len(content) + 1)
        length = rng.choice((1, 1, 4, 30))
        kind = rng.randrange(6)
        if kind == 0 and at < len(content):
            content[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del content[at : at + length]
        elif kind == 2:
            content[at:at] = rng.randbytes(length)
        elif kind == 3:
            content[at:at] = content[at : at + 10 * length]
        elif kind == 4:
            content[at : at + length] = rng.choice((b"\0", b"\xff", b"9", b"-", b'"', b"\n")) * length
        elif rng.random() < 0.3:
            del content[at:]
    return bytes(content)


def change_value(rng: random.Random, value: Any, depth: int = 0) -> Any:
    """Change one random part of a JSON value: a nasty value, a missing, unknown or repeated part."""
    if isinstance(value, dict) and value and (depth == 0 or rng.random() < 0.85):
        key = rng.choice(sorted(value))
        kind = rng.random()
        changed = dict(value)
        if kind < 0.07:
            del changed[key]
        elif kind < 0.14:
            changed[rng.choice((key[:-1], key + "s", "", "✓", key.upper(), "x" * 500))] = rng.choice(NASTY)
        elif kind < 0.4:
            changed[key] = rng.choice(NASTY)
        else:
            changed[key] = change_value(rng, value[key], depth + 1)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.85:
        index = rng.randrange(len(value))
        kind = rng.random()
        changed_list = list(value)
        if kind < 0.1:
            del changed_list[index]
        elif kind < 0.2:
            changed_list += [value[index]] * rng.choice((1, 1, 3, 500))
        elif kind < 0.35:
            changed_list[index] = rng.choice(NASTY)
        else:
            changed_list[index] = change_value(rng, value[index], depth + 1)
        return changed_list
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300 and rng.random() < 0.5:
        return rng.choice((-value, value * 1000, value + 0.1, value + 1, value * 1e-6, str(value), value * 6.2832))
    return rng.choice(NASTY)


def change_values(rng: random.Random, value: Any) -> Any:
    """Change up to four parts of a JSON value; sometimes none."""
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        value = change_value(rng, value)
    return value


def format_json(value: Any) -> bytes:
    """Format a JSON value, with NaN and infinite numbers, and with a deep list at DEEP_MARK."""
    return json.dumps(value).replace(f'"{DEEP_MARK}"', DEEP).encode()


def format_toml(value: Any) -> str:
    """Format a TOML value; tables are inline."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dict):
        items = [f"{json.dumps(str(key))} = {format_toml(item)}" for key, item in value.items() if item is not None]
        return "{" + ", ".join(items) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(format_toml(item) for item in value if item is not None) + "]"
    return DEEP if value == DEEP_MARK else json.dumps(str(value))


def write_changed(rng: random.Random, file: Path, content: bytes, bytes_share: float = 0.25) -> None:
    """Write a file whose bytes are sometimes changed too."""
    file.write_bytes(change_bytes(rng, content) if rng.random() < bytes_share else content)


# -- cases: each writes changed input into `work` and returns the words of a command -----------------


def make_layout_case(rng: random.Random, examples: Examples, work: Path) -> list[str]:
    """Change a layout, then check, draw, export or simulate it."""
    source = rng.choice(examples.layouts)
    content = json.loads(source.read_text(encoding="utf-8"))
    write_changed(rng, work / "case.json", format_json(change_values(rng, content)))
    scene = source.stem.rpartition("-")[0]
    command = rng.choices(("check", "check scene", "export", "draw", "simulate", "evaluate"), (4, 2, 3, 1, 4, 1))[0]
    if command == "draw":
        return ["layout", "draw", "case.json", "--out", rng.choice(("x.png", "x.svg"))]
    if command == "export":
        return ["layout", "export", "case.json", "--out", "x.yaml", "--resolution-m", str(rng.choice((0.05, 0.2, 1.0)))]
    if command == "evaluate":
        shutil.copytree(examples.run, work / "run")
        return ["evaluate", "run", "--layout", "case.json", "--episodes", "2", "--workers", "1"]
    name = next(name for name in scenes if scene.startswith(name.replace("/", "-")))
    return (
        ["simulate", "case.json", name]
        if command == "simulate"
        else ["layout", "check", "case.json", "--scene", name][: 3 if command == "check" else 5]
    )


def make_map_case(rng: random.Random, examples: Examples, work: Path) -> list[str]:
    """Change a map's YAML file or its image, then import it."""
    metadata = yaml.safe_load((examples.map / "map.yaml").read_text(encoding="utf-8"))
    image = (examples.map / "map.pgm").read_bytes()
    if rng.random() < 0.4:
        suffix = rng.choice(("png", "bmp", "jpeg", "tiff", "gif"))
        picture = Image.open(io.BytesIO(image)).convert(rng.choice(("L", "RGB", "1")))
        stream = io.BytesIO()
        picture.save(stream, format=suffix)
        image = stream.getvalue()
        metadata["image"] = f"map.{suffix}"
    name = metadata["image"]
    if rng.random() < 0.5:
        metadata = change_values(rng, metadata)
    text = yaml.safe_dump(metadata, allow_unicode=True).replace(f"'{DEEP_MARK}'", DEEP).encode(errors="surrogatepass")
    write_changed(rng, work / "map.yaml", text, 0.15)
    if rng.random() < 0.1 and image.startswith(b"P5"):
        width, height = (rng.choice((0, 1, 70_000, 10**9, -5)) for _ in range(2))
        image = f"P5\n{width} {height}\n255\n".encode() + image[20:]
    write_changed(rng, work / name, image, 0.5)
    words = ["layout", "import", "map.yaml", "--out", "x.json", "--scene", rng.choice(list(scenes))]
    if rng.random() < 0.3:
        words += ["--start", *(str(rng.choice((0.5, 1, 3, float("nan"), 1e9))) for _ in range(3))]
    if rng.random() < 0.2:
        words += ["--tolerance", str(rng.choice((0, 0.1, 1, -1, float("nan"))))]
    return words


def make_experiment_case(rng: random.Random, examples: Examples, work: Path) -> list[str]:
    """Change an experiment file, then run it; the steps of the run are left out."""
    source = PRESETS / f"{rng.choice(list_presets())}.toml"
    text = source.read_text(encoding="utf-8")
    if rng.random() < 0.6:
        import tomllib

        content = tomllib.loads(text)
        if rng.random() < 0.5:
            content = {**json.loads(json.dumps(asdict(pipeline.ExperimentConfig("x")))), **content}
        content = change_values(rng, content)
        if isinstance(content, dict):
            text = "".join(
                f"{json.dumps(str(key))} = {format_toml(value)}\n" for key, value in content.items() if value is not None
            )
    else:
        lines = text.splitlines()
        for _ in range(rng.choice((1, 1, 2, 4))):
            at = rng.randrange(len(lines))
            value = format_toml(rng.choice(NASTY)) if rng.random() < 0.8 else "@"
            lines[at] = rng.choice(("", lines[at] * 2, re.sub(r"[\d.]+", lambda _, value=value: value, lines[at], count=1)))
            lines.insert(rng.randrange(len(lines)), rng.choice((lines[at], "x = 1", "[planner]", f'base = "{source.stem}"')))
        text = "\n".join(lines)
    write_changed(rng, work / "case.toml", text.encode(errors="surrogatepass"), 0.15)
    return ["run", "case.toml", "--out", "runs"]


def change_parquet(rng: random.Random, file: Path) -> None:
    """Change the metadata, a column or the bytes of a Parquet file."""
    table = pq.read_table(file)
    metadata = dict(table.schema.metadata or {})
    kind = rng.random()
    if kind < 0.55 and metadata:
        key = rng.choice(sorted(metadata))
        with contextlib.suppress(ValueError):
            metadata[key] = format_json(change_values(rng, json.loads(metadata[key])))
        table = table.replace_schema_metadata(metadata)
    elif kind < 0.8 and table.num_columns:
        index = rng.randrange(table.num_columns)
        name = table.column_names[index]
        table = {
            "drop": lambda: table.drop_columns([name]),
            "rename": lambda: table.rename_columns([*table.column_names[:index], "x", *table.column_names[index + 1 :]]),
            "null": lambda: table.set_column(index, name, pa.nulls(len(table), table[name].type)),
            "text": lambda: table.set_column(index, name, pa.array(["x"] * len(table))),
            "number": lambda: table.set_column(
                index, name, pa.array([rng.choice((0, -1, 1e9, float("nan"))) * 1.0] * len(table))
            ),
            "cut": lambda: table.slice(0, rng.randrange(len(table) + 1)),
            "nan": lambda: set_nan(rng, table, index),
        }[rng.choice(("drop", "rename", "null", "text", "number", "cut", "nan", "nan"))]()
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, file)
    if kind > 0.7:
        file.write_bytes(change_bytes(rng, file.read_bytes()))


def set_nan(rng: random.Random, table: pa.Table, index: int) -> pa.Table:
    """Put a number that is not finite, or too large, into a column of lists of numbers."""
    column = table.column(index).combine_chunks()
    if not len(table) or not pa.types.is_fixed_size_list(column.type) or not pa.types.is_floating(column.type.value_type):
        return table
    values = column.flatten().to_numpy(zero_copy_only=False).copy()
    values[rng.randrange(len(values))] = rng.choice((float("nan"), float("inf"), 1e30))
    return table.set_column(index, table.column_names[index], pa.FixedSizeListArray.from_arrays(values, column.type.list_size))


def make_dataset_case(rng: random.Random, examples: Examples, work: Path) -> list[str]:
    """Change a dataset, then describe it, train on it, or measure a model with it."""
    shutil.copytree(examples.validation, work / "data")
    file = rng.choice(sorted((work / "data").glob("*.parquet")))
    change_parquet(rng, file)
    if file.name != MANIFEST and rng.random() < 0.8:  # else its hash shows the change
        rewrite_hash(work / "data", file)
    command = rng.choices(("info", "eval", "train", "validation", "collect"), (10, 2, 2, 1, 1))[0]
    if command == "info":
        return ["data", "info", "data"]
    if command == "eval":
        return ["eval-model", str(examples.model), "--data", "data", "--windows", "20"]
    if command == "collect":
        return ["collect", "data", "--steps", "600", "--seed", "8", "--split", "val", "--workers", "1"]
    words = ["--updates", "1", "--batch", "4", "--lengths", "2", "--threads", "1", "--out", "model"]
    if command == "validation":
        return ["train", str(examples.dataset), "--validation", "data", *words]
    with contextlib.suppress(Exception):  # training needs the split train
        manifest = Dataset.open(work / "data").manifest
        write_manifest(work / "data", {**manifest, "split": "train"})
    return ["train", "data", "--validation", str(examples.validation), *words]


def rewrite_hash(path: Path, file: Path) -> None:
    """Write the present hash of a shard into the manifest."""
    import hashlib

    manifest = json.loads(pq.read_schema(path / MANIFEST).metadata[b"manifest"])
    if file.name in manifest["shards"]:
        manifest["shards"][file.name]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        write_manifest(path, manifest)


def write_manifest(path: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest without the columns of its shards."""
    table = pa.schema([]).empty_table().replace_schema_metadata({"manifest": json.dumps(manifest)})
    pq.write_table(table, path / MANIFEST)


def make_checkpoint_case(rng: random.Random, examples: Examples, work: Path) -> list[str]:
    """Change a checkpoint, then measure it, or collect with a planner on it."""
    shutil.copytree(examples.model, work / "model")
    if rng.random() < 0.5:
        content = json.loads((work / "model" / "best.json").read_text(encoding="utf-8"))
        write_changed(rng, work / "model" / "best.json", format_json(change_values(rng, content)))
    else:
        file = work / "model" / "best.safetensors"
        tensors = load_file(file)
        name = rng.choice(sorted(tensors))
        kind = rng.randrange(6)
        if kind == 0:
            del tensors[name]
        elif kind == 1:
            tensors["x"] = torch.zeros(2)
        elif kind == 2:
            tensors[name] = torch.zeros(rng.choice(((), (0,), (3, 3), (1, 1, 1))))
        elif kind == 3:
            tensors[name] = tensors[name].to(rng.choice((torch.float64, torch.int64, torch.bool, torch.bfloat16)))
        elif kind == 4:
            tensors[name] = torch.full_like(tensors[name], rng.choice((float("nan"), float("inf"), 1e38, 0.0)))
        save_file(tensors, file)
        write_changed(rng, file, file.read_bytes(), 0.4)
    if rng.random() < 0.3:
        return ["collect", "out", "--behaviours", "planner=1", "--planner", "model", "--workers", "1"]
    return ["eval-model", "model", "--data", str(examples.validation), "--windows", "20"]


def make_run_case(rng: random.Random, examples: Examples, work: Path) -> list[str]:
    """Change a file of a run, then compare, report, export or verify it."""
    shutil.copytree(examples.run, work / "run")
    file = rng.choice([path for path in sorted((work / "run").rglob("*")) if path.is_file() and path.name != ".lock"])
    if file.suffix == ".json":
        write_changed(rng, file, format_json(change_values(rng, json.loads(file.read_text(encoding="utf-8")))))
    elif rng.random() < 0.1:
        file.unlink()
    else:
        change_parquet(rng, file)
    return rng.choice(
        (
            ["compare", "run", "--format", rng.choice(("csv", "json", "md")), "--out", "x"],
            ["report", "run", "--out", "x"],
            ["export", "run", "--out", "x"],
            ["verify", "run", "--sample", "2", "--workers", "1"],
            ["record", "run", "--out", "x.html", "--methods", "scripted"],
            ["evaluate", "run", "--episodes", "2", "--workers", "1"],
        )
    )


VALUES = (
    *(
        "",
        "-",
        "--",
        "0",
        "-1",
        "1.5",
        "1e309",
        "nan",
        "-inf",
        "None",
        "True",
        "✓",
        "x" * 5000,
        "a b",
        "a\nb",
        "\udcff",
        "a=1",
        "=",
    ),
    *(
        "load_mass_kg=3",
        "load_mass_kg=nan",
        "1:2!3:4",
        "[red]",
        "99999999999999999999",
        "0x10",
        "1_000",
        "'",
        '"',
        "$HOME",
        "*",
        "~",
    ),
)
PATHS = (
    *(
        "run",
        "data",
        "model",
        "layout.json",
        "map.yaml",
        "map.pgm",
        "new",
        "new.json",
        "new.yaml",
        "new.png",
        "new.mp4",
        "new.html",
    ),
    *(
        "none",
        "none.toml",
        "a-file",
        "a-file/x",
        ".",
        "run/results",
        "data/_manifest.parquet",
        "é/✓",
        "demo",
        "x" * 300,
        "\udcff",
        "",
    ),
)
TEXTS = (
    *(
        "test",
        "train",
        "val",
        "shift-two-totes",
        "graph",
        "mppi",
        "scripted",
        "random",
        "all",
        "tote-push",
        SCENE,
        "aisle-traffic",
    ),
    *(
        "pusht",
        "overhead",
        "robot",
        "csv",
        "json",
        "md",
        "default",
        "smooth-random=1",
        "load_mass_kg=3:4",
        "appearance=varied",
        "x",
        "",
    ),
)
NUMBERS = ("0", "1", "2", "3", "7", "100", "600", "-1", "1.5", "0.5", "nan", "inf", "1e309", "99999999999999999999", "x")


def make_words_case(rng: random.Random, examples: Examples, work: Path) -> list[str]:
    """Make a random command line of known and unknown words, options and values."""
    for name, source in (("run", examples.run), ("data", examples.validation), ("model", examples.model), ("", examples.map)):
        shutil.copytree(source, work / name, dirs_exist_ok=True)
    shutil.copyfile(examples.layouts[0], work / "layout.json")
    (work / "a-file").write_text("mine", encoding="utf-8")
    name = rng.choice(list(cli.COMMANDS))
    words = name.split()
    parameters = inspect.signature(cli.load_command(name)).parameters.values()
    hints = get_type_hints(cli.load_command(name), include_extras=True)
    for parameter in parameters:
        is_positional = "Positional" in str(hints[parameter.name])
        is_required = parameter.default is parameter.empty
        if rng.random() < (0.95 if is_required else 0.6 if is_positional else 0.15):
            words += [] if is_positional else [f"--{parameter.name.replace('_', '-')}"]
            words += draw_values(rng, str(hints[parameter.name]), parameter.name)
    if rng.random() < 0.15:
        words.insert(rng.randrange(len(words) + 1), rng.choice((*VALUES, *words, "--help", "--stepps")))
    return words


def draw_values(rng: random.Random, hint: str, name: str) -> list[str]:
    """Draw values for a parameter, mostly of its kind."""
    if "bool" in hint:
        return []
    pool = NUMBERS if "int" in hint or "float" in hint else PATHS if "Path" in hint else TEXTS
    usual = {"run": ("run",), "data": ("data",), "models": ("model",), "file": ("layout.json", "map.yaml")}.get(name, pool)
    count = {"start": 3, "load": 3, "goal": 2, "image_size": 2}.get(name, rng.choice((1, 1, 2)) if "tuple" in hint else 1)
    if rng.random() < 0.05:
        count = rng.randrange(4)
    return [rng.choice(usual if rng.random() < 0.7 else pool if rng.random() < 0.7 else VALUES) for _ in range(count)]


CASES: dict[str, tuple[float, Callable[[random.Random, Examples, Path], list[str]]]] = {  # weight, maker
    "layout": (3, make_layout_case),
    "map": (2, make_map_case),
    "experiment": (2, make_experiment_case),
    "dataset": (1.5, make_dataset_case),
    "checkpoint": (1.5, make_checkpoint_case),
    "run": (1, make_run_case),
    "words": (3, make_words_case),
}
REAL_COMMANDS = ("layout", "list", "data", "eval-model")  # that run as a process of their own too


# -- commands --------------------------------------------------------------------------------------


def accept(*_: Any, **__: Any) -> Any:
    """Stand for long work."""
    raise Accepted


def construct_pipeline(config: Any, path: Path, workers: int, console: Any, cache: Any = None) -> Any:
    """Stand for a run: begin it, go on with it, and make all of its steps without their work."""
    with lock_directory(path):
        plan = pipeline.Pipeline(config, path, workers, console)
        for _ in range(2):
            start_or_resume(config, path, console)
        plan._make_collect_configs()
        plan._methods.make_available()
    raise Accepted


@contextlib.contextmanager
def replace_long_work() -> Iterator[None]:
    """Replace what takes minutes, writes outside the work directory or serves pages."""
    with contextlib.ExitStack() as stack:
        for target, stand_in in {
            "sim.data.collect.run_jobs": accept,
            "experiments.cli.runs.run_pipeline": construct_pipeline,
            "experiments.versions.read_versions": lambda: {"python": "3"},  # runs git
            "experiments.cli.bench._measure_and_print": lambda scene, benchmarks, title: [],
            "experiments.viewer.page.serve.run_server": accept,
            "experiments.evaluation.evaluate.run_jobs": accept,
            "experiments.cli.evaluation.verify_results": accept,
            "experiments.viewer.drawing.recording.save_recording": accept,
            "experiments.viewer.recordings.save_recording": lambda *_, **__: None,
            "worldmodels.training.loop.VALIDATION_WINDOWS": 16,
        }.items():
            stack.enter_context(mock.patch(target, stand_in))
        yield


def stop_long_command(number: int, _: Any) -> None:
    """Handle the alarm."""
    raise TooLongError(signal.Signals(number).name)


def simulate_layout(file: str, scene: str) -> None:
    """Simulate a layout that its check accepts."""
    layout = Layout.load(Path(file))
    if faults := scenes[scene].find_faults(layout):
        raise GroundError("; ".join(faults))
    env = GroundEnv(scene, "test", layout)
    env.reset(seed=0)
    observation, reward, *_ = env.step(np.ones(env.action_space.shape, np.float32))
    env.close()
    assert np.isfinite(reward), "the reward is not finite"
    assert all(np.isfinite(values).all() or name == "goal" for name, values in observation.items()), (
        "an observation is not finite"
    )


def run_here(words: list[str], work: Path) -> Outcome:
    """Run a command in this process, in the work directory."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    error = ""
    before = os.getcwd()
    start_s = time.monotonic()
    handlers = {number: signal.signal(number, stop_long_command) for number in (signal.SIGPROF, signal.SIGALRM)}
    os.chdir(work)
    signal.setitimer(signal.ITIMER_PROF, MAX_CPU_S)
    signal.setitimer(signal.ITIMER_REAL, MAX_WALL_S)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch("sys.argv", ["ground", *words]):
            if words[:1] == ["simulate"]:
                simulate_layout(*words[1:])
            else:
                cli.main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    except GroundError as end:
        code = 2
        err.write(f"error: {end}\n")
    except BaseException as end:
        if isinstance(end, KeyboardInterrupt):
            raise
        error = traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.chdir(before)
    return Outcome(code, out.getvalue(), err.getvalue(), time.monotonic() - start_s, error)


def run_apart(words: list[str], work: Path) -> Outcome:
    """Run a command in a process of its own."""
    start_s = time.monotonic()
    command = [sys.executable, "-m", "experiments.cli", *words]
    try:
        result = subprocess.run(
            command, cwd=work, capture_output=True, timeout=MAX_WALL_S, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
    except subprocess.TimeoutExpired:
        return Outcome(-1, "", "", time.monotonic() - start_s, "TooLongError: a process")
    out, err = (text.decode(errors="surrogateescape") for text in (result.stdout, result.stderr))
    error = err if "Traceback" in err else ""
    return Outcome(result.returncode, out, err, time.monotonic() - start_s, error)


def read_files(path: Path) -> dict[str, tuple[int, int]]:
    """Read size and time of every file below a directory, without locks."""
    files = (file for file in path.rglob("*") if file.is_file() and file.name != ".lock")
    return {str(file.relative_to(path)): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


def find_fault(words: list[str], outcome: Outcome, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> str:
    """Find what is wrong with the end of a command; empty: nothing."""
    if outcome.error:
        lines = outcome.error.strip().splitlines()
        places = [line.strip() for line in lines if line.strip().startswith("File ") and "site-packages" not in line]
        return f"traceback {lines[-1][:300]} at {places[-1].rpartition('/')[2] if places else '?'}"
    if outcome.code not in (0, 2):
        return f"exit code {outcome.code}: {outcome.err[-300:]}"
    if any(name.endswith(".tmp") for name in after.keys() - before.keys()):
        return "a temporary file is left"
    if outcome.code == 0:
        return ""
    lines = outcome.err.splitlines()
    is_list_of_faults = words[:2] == ["layout", "check"] and not outcome.err
    errors = [line for line in lines if line.startswith("error: ")]
    if is_list_of_faults:
        lines = errors = outcome.out.splitlines()
        if not errors or not all(line.startswith(tuple(words[2:])) for line in errors):
            return f"not a line for each fault: {outcome.out[:300]!r}"
    elif len(errors) != 1 or lines[-1] != errors[0]:
        return f"not one line: {outcome.err[:400]!r}"
    if unclear := UNCLEAR.search("".join(errors)):
        return f"unclear ({unclear[0]}): {errors[0][:300]}"
    if after != before:
        changed = sorted(name for name in after.keys() | before.keys() if after.get(name) != before.get(name))
        return f"refused, and left {', '.join(changed)}: {errors[0][:200]}"
    return ""


def run_case(kind: str, seed: str, examples: Examples, work: Path, is_real: bool = False) -> tuple[list[str], Outcome, str]:
    """Make one input, run its command in an empty directory, and judge the end.

    Returns:
        The command's words, its outcome, and its fault or an empty text.
    """
    rng = random.Random(seed)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    words = CASES[kind][1](rng, examples, work)
    before = read_files(work)
    can_run_apart = is_real and words[:1] and words[0] in REAL_COMMANDS
    with replace_long_work():
        outcome = run_apart(words, work) if can_run_apart else run_here(words, work)
    return words, outcome, find_fault(words, outcome, before, read_files(work))


def main() -> int:
    """Run the soak test from the command line."""
    examples_text = (
        "fuzz.py --tries 10000 --seed 1 --json summary.json",
        "fuzz.py --kinds map layout --tries 500",
        "fuzz.py --seed 1 --only map-17 --keep case",
    )
    parser = make_parser(str(__doc__), examples_text)
    parser.add_argument("--tries", type=int, default=10_000, help="number of inputs (default: 10000)")
    parser.add_argument("--real", type=int, default=100, help="inputs for processes of their own (default: 100)")
    parser.add_argument("--kinds", nargs="*", choices=list(CASES), help="kinds of input (default: all)")
    parser.add_argument("--only", help="KIND-NUMBER of one input to try again")
    parser.add_argument("--keep", type=Path, help="directory for the files of failures")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))
    torch.set_num_threads(1)
    CONSOLE.width = 200
    summary = Summary("fuzz", arguments.seed)
    counts: Counter[str] = Counter()
    slowest = 0.0
    kinds = arguments.kinds or list(CASES)
    rng = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory(prefix="soak-fuzz-") as directory:
        examples = make_examples(Path(directory) / "examples")
        work = Path(directory) / "work"
        plan = [(rng.choices(kinds, [CASES[kind][0] for kind in kinds])[0], number) for number in range(arguments.tries)]
        if arguments.only:
            plan = [(arguments.only.split("-")[0], int(arguments.only.split("-")[1]))]
        real_numbers = set(np.linspace(0, arguments.tries, arguments.real, endpoint=False).astype(int).tolist()) - {0}
        for kind, number in plan:
            is_real = number in real_numbers
            words, outcome, fault = run_case(kind, f"{arguments.seed}-{kind}-{number}", examples, work, is_real)
            summary.num_tries += 1
            counts[f"{kind}: {'accepted' if outcome.code == 0 else 'refused'}"] += 1
            slowest = max(slowest, outcome.seconds)
            if fault:
                shown = " ".join(word[:60] for word in words).encode("unicode_escape").decode()
                summary.add_failure(f"{kind}-{number} ({shown}): {fault}")
                if arguments.keep:
                    shutil.copytree(work, arguments.keep / f"{kind}-{number}", dirs_exist_ok=True)
            if arguments.only:
                print(words, outcome.code, outcome.out, outcome.err, outcome.error, sep="\n")
            if number % 500 == 499:
                print(f"{number + 1} inputs, {len(summary.failures)} failures", flush=True)
    summary.figures |= {"inputs": dict(sorted(counts.items())), "slowest_s": round(slowest, 1)}
    return summary.finish(arguments.json)


if __name__ == "__main__":
    sys.exit(main())
