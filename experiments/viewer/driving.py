"""A person as a policy: keys or the page's pad set the speeds, and the robot keeps them until they are changed.

An AMR drives forward and back and turns; an arm's tool goes away from who stands before the table, back, left and right.
"""

from typing import Any

import numpy as np

from sim.bodies import Observation
from sim.policy import EpisodeStart

SPEED_STEP_SHARE = 0.5  # by which a key changes a speed, of its limit
YAW_RATE_ROW = 5  # row of an observation's action twist
# Arrows and WASD move viser's camera.
DRIVE_KEYS = {
    "forward": ("I", (SPEED_STEP_SHARE, 0.0)),
    "back": ("K", (-SPEED_STEP_SHARE, 0.0)),
    "left": ("J", (0.0, SPEED_STEP_SHARE)),
    "right": ("L", (0.0, -SPEED_STEP_SHARE)),
    "stop": ("space", None),
}


class HumanPolicy:
    """Does what was last pressed. One person drives, so one driver serves every take."""

    def __init__(self) -> None:
        self.command = np.zeros(2, np.float32)

    def apply_key(self, key: str) -> None:
        """One of KEYS."""
        change = DRIVE_KEYS[key][1]
        self.command = np.zeros(2, np.float32) if change is None else np.clip(self.command + np.array(change, np.float32), -1, 1)

    def __str__(self) -> str:
        """What is asked for now, of the limits."""
        forward, left = self.command
        left_text = f"{abs(left):.0%} to the {'left' if left > 0 else 'right'}" if left else ""
        forward_text = f"{abs(forward):.0%} {'forward' if forward > 0 else 'back'}" if forward else ""
        return ", ".join(filter(None, (forward_text, left_text))) or "no speed"

    def start_episode(self, start: EpisodeStart) -> None:
        self.apply_key("stop")

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        forward, left = self.command
        can_turn = bool(observation["action_twist"][YAW_RATE_ROW].any())
        # A table is looked at along its y axis: its x axis points to the right.
        return np.array((forward, left) if can_turn else (-left, forward), np.float32), state
