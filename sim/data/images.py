"""Pictures in datasets: what cameras saw at some steps, encoded, in columns of the shards beside the states.

A shard stays one file, written whole or not at all, and reading states leaves the pictures on the disk. Colours are JPEG, or PNG
where nothing may be lost; depth is PNG in whole millimetres (65.535 m at most), segmentation PNG of body + 2, so FLOOR is 1.
"""

import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sim.data.store import PICTURE, Dataset
from sim.sensors.cameras import CAMERAS, MOST_PIXELS, NOTHING, Picture
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import read_json, write_json

if TYPE_CHECKING:
    from sim.env import GroundEnv

SPEED = "speed.json"
QUALITY = 90  # of JPEG


@dataclass(frozen=True)
class PictureConfig:
    """Which pictures to take."""

    cameras: tuple[str, ...]
    size: tuple[int, int] = (96, 96)  # width, height
    every: int = 5  # steps
    lossless: bool = False  # colours as PNG

    def __post_init__(self) -> None:
        for camera in self.cameras:
            if camera not in CAMERAS:
                raise UnknownName("camera", camera, CAMERAS)
        if not self.cameras or len(set(self.cameras)) < len(self.cameras):
            raise GroundError("pictures need cameras, each named once")
        if not all(0 < side <= MOST_PIXELS for side in self.size):
            raise GroundError(f"a picture of {self.size[0]} × {self.size[1]}: 1 to {MOST_PIXELS} pixels a side are possible")
        if self.every < 1:
            raise GroundError(f"pictures every {self.every} steps: at least 1 is needed")

    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        colours = "png" if self.lossless else "jpeg"
        return {"cameras": list(self.cameras), "size": list(self.size), "every": self.every, "rgb": colours}


@dataclass
class Album:
    """Takes an episode's pictures; one row for each step, empty where none is due."""

    config: PictureConfig
    rows: dict[str, list[bytes | None]] = field(default_factory=dict)
    seconds: float = 0.0  # that pictures took, over all episodes
    _steps: int = 0

    def begin(self) -> None:
        columns = (f"{PICTURE}{camera}.{part}" for camera in self.config.cameras for part in PARTS)
        self.rows, self._steps = {column: [] for column in columns}, 0

    def take(self, env: "GroundEnv") -> None:
        """Call before each action and once at the end."""
        begun = time.perf_counter()
        due = self._steps % self.config.every == 0
        self._steps += 1
        for camera in self.config.cameras:
            taken = encoded(env.picture(camera, *self.config.size), self.config.lossless) if due else dict.fromkeys(PARTS)
            for part, content in taken.items():
                self.rows[f"{PICTURE}{camera}.{part}"].append(content)
        self.seconds += time.perf_counter() - begun


PARTS = ("rgb", "depth", "body")


def encoded(picture: Picture, lossless: bool = False) -> dict[str, bytes]:
    """By PARTS."""
    depth_mm = np.clip(np.rint(1e3 * picture.depth_m), 0, 65535).astype(np.uint16)
    body = picture.body - NOTHING
    if body.max(initial=0) > 255:
        raise GroundError(f"segmentation has room for 253 bodies, not for {body.max()}")
    colours: dict[str, Any] = {"format": "PNG", "compress_level": 1} if lossless else {"format": "JPEG", "quality": QUALITY}
    return {
        "rgb": _bytes(picture.rgb, **colours),
        "depth": _bytes(depth_mm, format="PNG", compress_level=1),
        "body": _bytes(body.astype(np.uint8), format="PNG", compress_level=1),
    }


def decoded(content: dict[str, bytes]) -> Picture:
    rgb, depth_mm, body = (np.asarray(Image.open(io.BytesIO(content[part]))) for part in PARTS)
    return Picture(rgb, depth_mm.astype(np.float32) / 1e3, body.astype(np.int16) + np.int16(NOTHING))


def _bytes(values: np.ndarray, **how: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, **how)
    return buffer.getvalue()


@dataclass(frozen=True)
class Seen:
    """One episode's pictures, in the order of its dataset."""

    steps: np.ndarray  # (K,) rows of the episode's arrays
    pictures: dict[str, list[Picture]]  # K, by camera


def pictures_of(dataset: Dataset) -> Iterator[Seen]:
    """Of every episode, decoded one episode at a time; BadFile where a shard is damaged, GroundError where there are none."""
    if "pictures" not in dataset.manifest:
        raise GroundError(f"{dataset.path} holds no pictures: collect with --cameras")
    cameras = dataset.manifest["pictures"]["cameras"]
    for name in sorted(dataset.manifest["shards"]):
        path = dataset.path / name
        try:
            columns = [f"{PICTURE}{camera}.{part}" for camera in cameras for part in PARTS]
            table = pq.read_table(path, columns=columns)
            start = 0
            for meta in json.loads(table.schema.metadata[b"episodes"]):
                yield _seen(table.slice(start, meta["rows"]), cameras)
                start += meta["rows"]
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise BadFile(f"{path} is damaged ({str(error).splitlines()[0]})") from error


def _seen(table: pa.Table, cameras: list[str]) -> Seen:
    columns = {name: table[name].to_pylist() for name in table.column_names}
    steps = np.flatnonzero([content is not None for content in columns[f"{PICTURE}{cameras[0]}.rgb"]])
    return Seen(
        steps,
        {
            camera: [decoded({part: columns[f"{PICTURE}{camera}.{part}"][step] for part in PARTS}) for step in steps]
            for camera in cameras
        },
    )


@dataclass(frozen=True)
class Price:
    """What pictures cost a dataset; bytes as they lie on the disk."""

    steps: int
    state_bytes: int
    picture_bytes: int
    seconds: float  # of workers, pictures included
    picture_seconds: float

    def __str__(self) -> str:
        per_step = f"{(self.state_bytes + self.picture_bytes) / self.steps:.0f} bytes per step with pictures"
        text = f"{per_step}, {self.state_bytes / self.steps:.0f} without"
        if not self.seconds:
            return text
        with_, without = self.steps / self.seconds, self.steps / max(1e-9, self.seconds - self.picture_seconds)
        return f"{with_:.0f} steps/s a worker with pictures, {without:.0f} without; {text}"


def add_speed(path: Path, steps: int, seconds: float, picture_seconds: float) -> None:
    """Note beside a dataset what a shard took. Times are no part of it: equal data are equal bytes."""
    found = read_json(path / SPEED) if (path / SPEED).exists() else [0, 0.0, 0.0]
    write_json(path / SPEED, [a + b for a, b in zip(found, (steps, seconds, picture_seconds), strict=True)])


def price(dataset: Dataset) -> Price:
    sizes = [0, 0]
    for name in dataset.manifest["shards"]:
        about = pq.read_metadata(dataset.path / name)
        for group in range(about.num_row_groups):
            for column in range(about.num_columns):
                chunk = about.row_group(group).column(column)
                sizes[chunk.path_in_schema.startswith(PICTURE)] += chunk.total_compressed_size
    steps, seconds, picture_seconds = read_json(dataset.path / SPEED) if (dataset.path / SPEED).exists() else (0, 0.0, 0.0)
    share = dataset.steps / steps if steps else 0.0
    return Price(dataset.steps, sizes[0], sizes[1], share * seconds, share * picture_seconds)
