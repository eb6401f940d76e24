"""TODO."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TrafficState:
    """All there is to know of K travellers: what can be seen, and what cannot."""

    seed: int  # of their moods
    time: int  # control steps since the start
    pose: np.ndarray  # (K, 3) x, y, yaw
    velocity: np.ndarray  # (K, 3) along x and y, and turning [m/s, rad/s]
    stop: np.ndarray  # (K,) which of its stops each is on the way to
