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

from sim.data.store import IMAGE_PREFIX, Dataset
from sim.sensors.cameras import BACKGROUND, CAMERAS, MAX_PIXELS, CameraImage
from sim.utils.errors import BadFile, GroundError, UnknownName
from sim.utils.files import read_json, write_json

if TYPE_CHECKING:
    from sim.env import GroundEnv

TIMINGS = "speed.json"
JPEG_QUALITY = 90  # of JPEG


@dataclass(frozen=True)
class ImageConfig:
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
        if not all(0 < side <= MAX_PIXELS for side in self.size):
            raise GroundError(f"a picture of {self.size[0]} × {self.size[1]}: 1 to {MAX_PIXELS} pixels a side are possible")
        if self.every < 1:
            raise GroundError(f"pictures every {self.every} steps: at least 1 is needed")

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        colours = "png" if self.lossless else "jpeg"
        return {"cameras": list(self.cameras), "size": list(self.size), "every": self.every, "rgb": colours}


@dataclass
class ImageRecorder:
    """Takes an episode's pictures; one row for each step, empty where none is due."""

    config: ImageConfig
    columns: dict[str, list[bytes | None]] = field(default_factory=dict)
    seconds: float = 0.0  # that pictures took, over all episodes
    _steps: int = 0

    def start_episode(self) -> None:
        columns = (f"{IMAGE_PREFIX}{camera}.{part}" for camera in self.config.cameras for part in PARTS)
        self.columns, self._steps = {column: [] for column in columns}, 0

    def record(self, env: "GroundEnv") -> None:
        """Call before each action and once at the end."""
        begun = time.perf_counter()
        due = self._steps % self.config.every == 0
        self._steps += 1
        for camera in self.config.cameras:
            taken = (
                encode_image(env.render_camera(camera, *self.config.size), self.config.lossless) if due else dict.fromkeys(PARTS)
            )
            for part, content in taken.items():
                self.columns[f"{IMAGE_PREFIX}{camera}.{part}"].append(content)
        self.seconds += time.perf_counter() - begun


PARTS = ("rgb", "depth", "body")


def encode_image(picture: CameraImage, lossless: bool = False) -> dict[str, bytes]:
    """By PARTS."""
    depth_mm = np.clip(np.rint(1e3 * picture.depth_m), 0, 65535).astype(np.uint16)
    body = picture.body - BACKGROUND
    if body.max(initial=0) > 255:
        raise GroundError(f"segmentation has room for 253 bodies, not for {body.max()}")
    colours: dict[str, Any] = {"format": "PNG", "compress_level": 1} if lossless else {"format": "JPEG", "quality": JPEG_QUALITY}
    return {
        "rgb": _encode(picture.rgb, **colours),
        "depth": _encode(depth_mm, format="PNG", compress_level=1),
        "body": _encode(body.astype(np.uint8), format="PNG", compress_level=1),
    }


def decode_image(content: dict[str, bytes]) -> CameraImage:
    rgb, depth_mm, body = (np.asarray(Image.open(io.BytesIO(content[part]))) for part in PARTS)
    return CameraImage(rgb, depth_mm.astype(np.float32) / 1e3, body.astype(np.int16) + np.int16(BACKGROUND))


def _encode(values: np.ndarray, **how: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, **how)
    return buffer.getvalue()


@dataclass(frozen=True)
class EpisodeImages:
    """One episode's pictures, in the order of its dataset."""

    steps: np.ndarray  # (K,) rows of the episode's arrays
    images: dict[str, list[CameraImage]]  # K, by camera


def read_images(dataset: Dataset) -> Iterator[EpisodeImages]:
    """Of every episode, decoded one episode at a time; BadFile where a shard is damaged, GroundError where there are none."""
    if "images" not in dataset.manifest:
        raise GroundError(f"{dataset.path} holds no pictures: collect with --cameras")
    cameras = dataset.manifest["images"]["cameras"]
    for name in sorted(dataset.manifest["shards"]):
        path = dataset.path / name
        try:
            columns = [f"{IMAGE_PREFIX}{camera}.{part}" for camera in cameras for part in PARTS]
            table = pq.read_table(path, columns=columns)
            start = 0
            for meta in json.loads(table.schema.metadata[b"episodes"]):
                yield _read_episode(table.slice(start, meta["rows"]), cameras)
                start += meta["rows"]
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise BadFile(f"{path} is damaged ({str(error).splitlines()[0]})") from error


def _read_episode(table: pa.Table, cameras: list[str]) -> EpisodeImages:
    columns = {name: table[name].to_pylist() for name in table.column_names}
    steps = np.flatnonzero([content is not None for content in columns[f"{IMAGE_PREFIX}{cameras[0]}.rgb"]])
    return EpisodeImages(
        steps,
        {
            camera: [decode_image({part: columns[f"{IMAGE_PREFIX}{camera}.{part}"][step] for part in PARTS}) for step in steps]
            for camera in cameras
        },
    )


@dataclass(frozen=True)
class StorageCost:
    """What pictures cost a dataset; bytes as they lie on the disk."""

    steps: int
    state_bytes: int
    image_bytes: int
    seconds: float  # of workers, pictures included
    image_seconds: float

    def __str__(self) -> str:
        per_step = f"{(self.state_bytes + self.image_bytes) / self.steps:.0f} bytes per step with pictures"
        text = f"{per_step}, {self.state_bytes / self.steps:.0f} without"
        if not self.seconds:
            return text
        with_, without = self.steps / self.seconds, self.steps / max(1e-9, self.seconds - self.image_seconds)
        return f"{with_:.0f} steps/s a worker with pictures, {without:.0f} without; {text}"


def add_timing(path: Path, steps: int, seconds: float, image_seconds: float) -> None:
    """Note beside a dataset what a shard took. Times are no part of it: equal data are equal bytes."""
    found = read_json(path / TIMINGS) if (path / TIMINGS).exists() else [0, 0.0, 0.0]
    write_json(path / TIMINGS, [a + b for a, b in zip(found, (steps, seconds, image_seconds), strict=True)])


def compute_storage_cost(dataset: Dataset) -> StorageCost:
    sizes = [0, 0]
    for name in dataset.manifest["shards"]:
        about = pq.read_metadata(dataset.path / name)
        for group in range(about.num_row_groups):
            for column in range(about.num_columns):
                chunk = about.row_group(group).column(column)
                sizes[chunk.path_in_schema.startswith(IMAGE_PREFIX)] += chunk.total_compressed_size
    steps, seconds, picture_seconds = read_json(dataset.path / TIMINGS) if (dataset.path / TIMINGS).exists() else (0, 0.0, 0.0)
    share = dataset.steps / steps if steps else 0.0
    return StorageCost(dataset.steps, sizes[0], sizes[1], share * seconds, share * picture_seconds)
