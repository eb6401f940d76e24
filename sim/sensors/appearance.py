"""How a space looks in pictures where looks vary: colours, textures and light of one episode. Physics knows nothing of it."""

import colorsys
from dataclasses import dataclass
from typing import Any

import numpy as np

TEXTURE = 128  # pixels a side
COATS = 6  # of static boxes; more boxes than that share them


@dataclass(frozen=True)
class Coat:
    """Colour and texture of a body."""

    colour: tuple[float, float, float]
    texture: np.ndarray | None  # (TEXTURE, TEXTURE) uint8 that darkens the colour; None: plain


@dataclass(frozen=True)
class Look:
    """One episode's."""

    floor: Coat
    load: Coat
    static: tuple[Coat, ...]
    light: dict[str, Any]  # arguments of Bullet's renderer


def drawn(rng: np.random.Generator) -> Look:
    """A bright floor, a load that stands out, boxes of any colour; a lamp somewhere above."""
    bearing, low = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 1.5)
    warm = float(rng.uniform(0.75, 1))
    light = {
        "lightDirection": [float(low * np.cos(bearing)), float(low * np.sin(bearing)), 1.0],
        "lightColor": [1.0, (1 + warm) / 2, warm] if rng.random() < 0.5 else [warm, (1 + warm) / 2, 1.0],
        "lightAmbientCoeff": float(rng.uniform(0.4, 0.7)),
        "lightDiffuseCoeff": float(rng.uniform(0.3, 0.6)),
        "lightSpecularCoeff": float(rng.uniform(0, 0.1)),
        "shadow": int(rng.random() < 0.5),
    }
    floor = _coat(rng, saturation=(0, 0.3), value=(0.6, 1), textured=0.8)
    load = _coat(rng, saturation=(0.6, 1), value=(0.6, 1), textured=0.4)
    return Look(floor, load, tuple(_coat(rng, (0, 0.7), (0.3, 0.9), 0.5) for _ in range(COATS)), light)


def _coat(rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float], textured: float) -> Coat:
    colour = colorsys.hsv_to_rgb(rng.random(), float(rng.uniform(*saturation)), float(rng.uniform(*value)))
    return Coat(colour, _texture(rng) if rng.random() < textured else None)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Stripes, tiles or stains, on fine grain."""
    x, y = np.meshgrid(np.arange(TEXTURE), np.arange(TEXTURE))
    period = int(rng.choice([8, 16, 32, 64]))
    bands = [(x // period) % 2, (x // period + y // period) % 2, np.minimum(x % period, y % period) < 2]
    stains = np.kron(rng.random((8, 8)), np.ones((TEXTURE // 8, TEXTURE // 8)))
    pattern = [*bands, stains][int(rng.integers(4))]
    dark = float(rng.uniform(0.15, 0.5)) * np.asarray(pattern, float) + 0.1 * rng.random((TEXTURE, TEXTURE))
    return np.asarray(255 * (1 - dark), np.uint8)
