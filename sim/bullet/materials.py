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

_file_numbers = itertools.count()  # Bullet caches files by name, so each name is used once


def apply_material(client: BulletClient, body: int, material: Material) -> None:
    """Set colour and texture of a body and all its links."""
    changes: dict[str, Any] = {"rgbaColor": (*material.colour, 1.0)}
    if material.texture is not None:
        changes["textureUniqueId"] = _load_texture(client, material.texture)
    for link in range(-1, client.getNumJoints(body)):
        client.changeVisualShape(body, link, **changes)


def _load_texture(client: BulletClient, texture: np.ndarray) -> int:
    """Load a texture (P, P) uint8 by way of a file, as Bullet needs; `resetSimulation` frees it."""
    file = Path(_get_folder().name) / f"{next(_file_numbers)}.png"
    Image.fromarray(texture).convert("RGB").save(file, compress_level=1)
    texture_id = int(client.loadTexture(str(file)))
    file.unlink()
    return texture_id


@lru_cache(maxsize=1)
def _get_folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="textures-")  # deleted with the process
