"""Robot files that come with PyBullet; finding them does not load PyBullet."""

from pathlib import Path

import pybullet_data

DATA = Path(pybullet_data.getDataPath())  # URDF files and meshes
