#!/bin/sh
# Package: pybullet 3.2.7 (CPython 3.11, x86-64 Linux)
# Expected: resetSimulation frees the textures that were loaded.
# Observed: every texture file that was ever loaded stays in a cache of file contents. With textures of new names in each episode memory
#           grows without end. enableFileCaching=0 around loadTexture keeps it flat.
# Output seen:
#     cached: more than 30 MB in 300 resets
#     enableFileCaching=0: less than 5 MB in 300 resets
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pybullet==3.2.7 numpy==2.4.6 pillow==12.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON_END'
import resource
from pathlib import Path

import numpy as np
import pybullet as p
from PIL import Image

p.connect(p.DIRECT)
rng = np.random.default_rng(0)
counter = 0


def load_textures(count, cached):
    global counter
    for _ in range(count):
        counter += 1
        p.resetSimulation()
        name = f"texture-{counter}.png"
        Image.fromarray(rng.integers(0, 255, (256, 256, 3), dtype=np.uint8)).save(name)
        p.setPhysicsEngineParameter(enableFileCaching=int(cached))
        p.loadTexture(name)
        Path(name).unlink()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


growth = {}
for cached in (False, True):
    before = load_textures(300, cached)
    growth[cached] = load_textures(300, cached) - before
print(f"cached: {'more' if growth[True] > 30 else 'less'} than 30 MB in 300 resets")
print(f"enableFileCaching=0: {'less' if growth[False] < 5 else 'more'} than 5 MB in 300 resets")
assert growth[True] > 30 and growth[False] < 5, growth
PYTHON_END
