#!/bin/sh
# Package: pybullet-arm64 3.2.8 with numpy 2.4.6 (CPython 3.11 to 3.13; x86-64 Linux and macOS)
# Expected: getCameraImage returns arrays of shape (height, width, 4), as pybullet 3.2.7 does where numpy is installed.
# Observed: the wheel is built without numpy. isNumpyEnabled() is 0 and the image is one flat tuple; code that indexes rows and
#           columns reads single numbers. numpy.reshape(image, (height, width, 4)) serves both builds.
# Output seen:
#     isNumpyEnabled() 0, image: tuple of 48 numbers
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pybullet-arm64==3.2.8 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON_END'
import numpy  # installed, and imported before pybullet
import pybullet as p

p.connect(p.DIRECT)
width, height = 4, 3
image = p.getCameraImage(width, height, renderer=p.ER_TINY_RENDERER)[2]
print(f"isNumpyEnabled() {p.isNumpyEnabled()}, image: {type(image).__name__} of {len(image)} numbers")
assert not p.isNumpyEnabled() and isinstance(image, tuple) and len(image) == width * height * 4, "images are arrays now"
assert numpy.reshape(image, (height, width, 4)).shape == (3, 4, 4)
PYTHON_END
