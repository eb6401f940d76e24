"""Colours and textures on Bullet's bodies."""

import tempfile
from typing import Any

import numpy as np
from PIL import Image

from sim.bullet.client import BulletClient
from sim.sensors.appearance import Material


def apply_material(client: BulletClient, body: int, material: Material) -> None:
    """Set colour and texture of a body and all its links."""
    changes: dict[str, Any] = {"rgbaColor": (*material.colour, 1.0)}
    if material.texture is not None:
        changes["textureUniqueId"] = _load_texture(client, material.texture)
    for link in range(-1, client.getNumJoints(body)):
        client.changeVisualShape(body, link, **changes)


def _load_texture(client: BulletClient, texture: np.ndarray) -> int:
    """Load a texture (P, P) uint8 by way of a file, as Bullet needs; `resetSimulation` frees it."""
    with tempfile.NamedTemporaryFile(suffix=".png") as file:  # Bullet caches by name: random names
        Image.fromarray(texture).convert("RGB").save(file, "PNG", compress_level=1)
        file.flush()
        return int(client.loadTexture(file.name))
