"""Camera images in datasets, encoded in columns of the shards beside the states.

Reading the states does not read the images. Colours are JPEG, or PNG if they must be lossless.
Depth is PNG in whole millimetres, at most 65.535 m. Segmentation is PNG of body - BACKGROUND.
"""

import io
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from sim.data.store import IMAGE_PREFIX, Dataset
from sim.sensors.cameras import BACKGROUND, CAMERAS, MAX_PIXELS, CameraImage
from sim.utils.errors import BadFile, GroundError, UnknownName

if TYPE_CHECKING:
    from sim.env import GroundEnv

JPEG_QUALITY = 90
PARTS = ("rgb", "depth", "body")  # the encoded parts of an image


@dataclass(frozen=True)
class ImageConfig:
    """Configuration of the images of a dataset."""

    cameras: tuple[str, ...]
    size: tuple[int, int] = (96, 96)  # width, height [pixels]
    every: int = 5  # control steps between two images
    lossless: bool = False  # colours as PNG

    def __post_init__(self) -> None:
        for camera in self.cameras:
            if camera not in CAMERAS:
                raise UnknownName("camera", camera, CAMERAS)
            if self.cameras.count(camera) > 1:
                raise GroundError(f"camera '{camera}' is given twice")
        if not self.cameras:
            raise GroundError("images need at least one camera")
        if not all(0 < side <= MAX_PIXELS for side in self.size):
            raise GroundError(f"an image of {self.size[0]} × {self.size[1]} pixels: 1 to {MAX_PIXELS} a side are allowed")
        if self.every < 1:
            raise GroundError(f"images every {self.every} steps: at least 1 is needed")

    def describe(self) -> dict[str, Any]:
        """Describe the images in the manifest of a dataset."""
        colours = "png" if self.lossless else "jpeg"
        return {"cameras": list(self.cameras), "size": list(self.size), "every": self.every, "rgb": colours}


@dataclass
class ImageRecorder:
    """Records the images of an episode.

    Attributes:
        config: cameras, size and interval.
        columns: encoded images by column, an entry for each state; None in states without images.
        seconds: time spent on images, over all episodes.
    """

    config: ImageConfig
    columns: dict[str, list[bytes | None]] = field(default_factory=dict)
    seconds: float = 0.0
    _steps: int = 0

    def start_episode(self) -> None:
        """Forget the images of the last episode."""
        self.columns = {_name_column(camera, part): [] for camera in self.config.cameras for part in PARTS}
        self._steps = 0

    def record(self, env: "GroundEnv") -> None:
        """Record the current state. To be called before each action and once at the end."""
        start_s = time.perf_counter()
        is_due = self._steps % self.config.every == 0
        self._steps += 1
        for camera in self.config.cameras:
            image = env.render_camera(camera, *self.config.size) if is_due else None
            content = encode_image(image, self.config.lossless) if image else {}
            for part in PARTS:
                self.columns[_name_column(camera, part)].append(content.get(part))
        self.seconds += time.perf_counter() - start_s


def _name_column(camera: str, part: str) -> str:
    return f"{IMAGE_PREFIX}{camera}.{part}"


def encode_image(image: CameraImage, lossless: bool = False) -> dict[str, bytes]:
    """Encode an image.

    Args:
        image: the image.
        lossless: colours as PNG instead of JPEG.

    Returns:
        Encoded PARTS by name.

    Raises:
        GroundError: the image has more than 253 bodies.
    """
    depth_mm = np.clip(np.rint(1e3 * image.depth_m), 0, 65535).astype(np.uint16)
    body = image.body - BACKGROUND
    if body.max(initial=0) > 255:
        raise GroundError(f"a segmentation with {body.max()} bodies: at most 253 are allowed")
    colours: dict[str, Any] = {"format": "PNG", "compress_level": 1} if lossless else {"format": "JPEG", "quality": JPEG_QUALITY}
    return {
        "rgb": _encode(image.rgb, **colours),
        "depth": _encode(depth_mm, format="PNG", compress_level=1),
        "body": _encode(body.astype(np.uint8), format="PNG", compress_level=1),
    }


def decode_image(content: Mapping[str, bytes]) -> CameraImage:
    """Decode an image from its encoded PARTS."""
    rgb, depth_mm, body = (np.asarray(Image.open(io.BytesIO(content[part]))) for part in PARTS)
    return CameraImage(rgb, depth_mm.astype(np.float32) / 1e3, body.astype(np.int16) + np.int16(BACKGROUND))


def _encode(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, **options)
    return buffer.getvalue()


@dataclass(frozen=True)
class EpisodeImages:
    """The images of an episode.

    Attributes:
        steps: (K,) rows of the episode's arrays that have images.
        images: K images by camera.
    """

    steps: np.ndarray
    images: dict[str, list[CameraImage]]


def read_images(dataset: Dataset) -> Iterator[EpisodeImages]:
    """Read the images of all episodes, in the order of the dataset.

    Yields:
        The decoded images of an episode.

    Raises:
        GroundError: the dataset has no images.
        BadFile: a shard is damaged.
    """
    if "images" not in dataset.manifest:
        raise GroundError(f"{dataset.path} holds no images: collect with --cameras")
    cameras = dataset.manifest["images"]["cameras"]
    for name in sorted(dataset.manifest["shards"]):
        path = dataset.path / name
        try:
            table = pq.read_table(path, columns=[_name_column(camera, part) for camera in cameras for part in PARTS])
            start = 0
            for metadata in json.loads(table.schema.metadata[b"episodes"]):
                yield _decode_episode(table.slice(start, metadata["rows"]), cameras)
                start += metadata["rows"]
        except (pa.ArrowException, OSError, KeyError, ValueError) as error:
            raise BadFile(f"{path} is damaged ({str(error).splitlines()[0]})") from error


def _decode_episode(table: pa.Table, cameras: list[str]) -> EpisodeImages:
    columns = {name: table[name].to_pylist() for name in table.column_names}
    steps = np.flatnonzero([content is not None for content in columns[_name_column(cameras[0], "rgb")]])
    images = {
        camera: [decode_image({part: columns[_name_column(camera, part)][step] for part in PARTS}) for step in steps]
        for camera in cameras
    }
    return EpisodeImages(steps, images)


@dataclass(frozen=True)
class StorageCost:
    """Storage and time that the images of a dataset take.

    Attributes:
        steps: number of states.
        state_bytes: compressed size of the states.
        image_bytes: compressed size of the images.
    """

    steps: int
    state_bytes: int
    image_bytes: int

    def __str__(self) -> str:
        total_bytes = (self.state_bytes + self.image_bytes) / self.steps
        return f"{total_bytes:.0f} bytes per step with images, {self.state_bytes / self.steps:.0f} without"


def compute_storage_cost(dataset: Dataset) -> StorageCost:
    """Compute the storage that the images of a dataset take."""
    sizes = [0, 0]  # states, images
    for name in dataset.manifest["shards"]:
        for group in pq.read_metadata(dataset.path / name).to_dict()["row_groups"]:
            for chunk in group["columns"]:
                sizes[chunk["path_in_schema"].startswith(IMAGE_PREFIX)] += chunk["total_compressed_size"]
    return StorageCost(dataset.steps, sizes[0], sizes[1])
