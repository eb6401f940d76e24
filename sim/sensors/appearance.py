"""Appearance randomisation: colours, textures and light of one episode's images.

Physics does not depend on it.
"""

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np

TEXTURE_PIXELS = 128  # width and height
NUM_STATIC_MATERIALS = 6  # static boxes beyond this number share materials


@dataclass(frozen=True)
class Material:
    """Colour and texture of a body."""

    colour: tuple[float, float, float]  # red, green, blue in [0, 1]
    texture: np.ndarray | None  # (TEXTURE_PIXELS,) * 2, uint8, darkens the colour; None: plain


@dataclass(frozen=True)
class Appearance:
    """Materials and light of one episode."""

    floor: Material
    load: Material
    static: tuple[Material, ...]
    light: dict[str, Any]  # arguments of Bullet's renderer


def sample_appearance(rng: np.random.Generator) -> Appearance:
    """Sample a bright floor, a load of saturated colour, boxes of any colour and a lamp above."""
    azimuth = rng.uniform(0, 2 * np.pi)
    slope = rng.uniform(0.2, 1.5)  # horizontal part of the light's direction
    warmth = float(rng.uniform(0.75, 1))
    light = {
        "lightDirection": [float(slope * np.cos(azimuth)), float(slope * np.sin(azimuth)), 1.0],
        "lightColor": [1.0, (1 + warmth) / 2, warmth] if rng.random() < 0.5 else [warmth, (1 + warmth) / 2, 1.0],
        "lightAmbientCoeff": float(rng.uniform(0.4, 0.7)),
        "lightDiffuseCoeff": float(rng.uniform(0.3, 0.6)),
        "lightSpecularCoeff": float(rng.uniform(0, 0.1)),
        "shadow": int(rng.random() < 0.5),
    }
    floor = _sample_material(rng, saturation=(0, 0.3), value=(0.6, 1), texture_share=0.8)
    load = _sample_material(rng, saturation=(0.6, 1), value=(0.6, 1), texture_share=0.4)
    static = tuple(_sample_material(rng, (0, 0.7), (0.3, 0.9), 0.5) for _ in range(NUM_STATIC_MATERIALS))
    return Appearance(floor, load, static, light)


def _sample_material(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float], texture_share: float
) -> Material:
    colour = colorsys.hsv_to_rgb(rng.random(), float(rng.uniform(*saturation)), float(rng.uniform(*value)))
    return Material(colour, _sample_texture(rng) if rng.random() < texture_share else None)


def _sample_texture(rng: np.random.Generator) -> np.ndarray:
    """Sample stripes, tiles, a grid of lines or stains, with fine grain."""
    x, y = np.meshgrid(np.arange(TEXTURE_PIXELS), np.arange(TEXTURE_PIXELS))
    period = int(rng.choice([8, 16, 32, 64]))
    bands = [(x // period) % 2, (x // period + y // period) % 2, np.minimum(x % period, y % period) < 2]
    stains = np.kron(rng.random((8, 8)), np.ones((TEXTURE_PIXELS // 8, TEXTURE_PIXELS // 8)))
    pattern = [*bands, stains][int(rng.integers(4))]
    dark = float(rng.uniform(0.15, 0.5)) * np.asarray(pattern, float) + 0.1 * rng.random((TEXTURE_PIXELS, TEXTURE_PIXELS))
    return np.asarray(255 * (1 - dark), np.uint8)
