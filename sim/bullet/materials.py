"""Colours and textures on Bullet's bodies."""

import itertools
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sim.bullet.client import BulletClient
from sim.sensors.appearance import Material

_numbers = itertools.count()  # a file name is never used twice: Bullet caches files by name


def apply_material(client: BulletClient, body: int, material: Material) -> None:
    """Give a body and all its links a colour and a texture."""
    changes: dict[str, Any] = {"rgbaColor": (*material.colour, 1.0)}
    if material.texture is not None:
        changes["textureUniqueId"] = _load_texture(client, material.texture)
    for link in range(-1, client.getNumJoints(body)):
        client.changeVisualShape(body, link, **changes)


def _load_texture(client: BulletClient, texture: np.ndarray) -> int:
    """Load a texture (P, P) uint8; Bullet reads textures from files alone, and frees them when a world is rebuilt."""
    file = Path(_get_folder().name) / f"{next(_numbers)}.png"
    Image.fromarray(texture).convert("RGB").save(file, compress_level=1)
    number = int(client.loadTexture(str(file)))
    file.unlink()
    return number


@lru_cache(maxsize=1)
def _get_folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="textures-")  # deleted with the process
