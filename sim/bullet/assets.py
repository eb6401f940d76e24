"""Robot files that come with PyBullet. This module does not load PyBullet itself."""

from pathlib import Path

import pybullet_data

DATA = Path(pybullet_data.getDataPath())  # URDF files and meshes
