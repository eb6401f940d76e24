"""State of the traffic simulation."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TrafficState:
    """The whole state of K agents, including the part that cannot be observed."""

    seed: int  # of the behaviour schedules
    time: int  # control steps since the start
    pose: np.ndarray  # (K, 3) x, y [m] and yaw [rad]
    velocity: np.ndarray  # (K, 3) along x and y [m/s], and yaw rate [rad/s]
    stop: np.ndarray  # (K,) index of the stop that each agent heads for
