"""A person as a policy: keys or buttons change the commanded speeds, which then stay."""

from typing import Any

import numpy as np

from sim.bodies import Observation
from sim.policy import EpisodeStart
from sim.scenes.scene import Scene

SPEED_STEP_SHARE = 0.5  # of a speed's limit, by which a key changes it
OPPOSITES = {"forward": "back", "left": "right", "up": "down"}
DRIVE_KEYS = {  # arrows and WASD move viser's camera
    "forward": "I", "back": "K", "left": "J", "right": "L", "up": "U", "down": "O", "stop": "space"
}  # fmt: skip


class DriveCommand:
    """The commanded speeds by direction, as shares of their limits."""

    def __init__(self) -> None:
        self.speeds = dict.fromkeys(OPPOSITES, 0.0)

    def apply_key(self, key: str) -> None:
        """Apply one of DRIVE_KEYS."""
        if key == "stop":
            self.speeds = dict.fromkeys(OPPOSITES, 0.0)
        for direction, opposite in OPPOSITES.items():
            change = SPEED_STEP_SHARE * ((key == direction) - (key == opposite))
            self.speeds[direction] = min(1.0, max(-1.0, self.speeds[direction] + change))

    def __str__(self) -> str:
        """Describe the speeds."""
        names = {direction: direction if speed > 0 else OPPOSITES[direction] for direction, speed in self.speeds.items()}
        return ", ".join(f"{abs(speed):.0%} {names[key]}" for key, speed in self.speeds.items() if speed) or "no speed"


class HumanPolicy:
    """Policy of a person at the keyboard. All replays share the command."""

    def __init__(self, scene: Scene, command: DriveCommand) -> None:
        self._components = scene.action_spec.components
        self._drive = scene.visuals.drive
        self.command = command

    def start_episode(self, start: EpisodeStart) -> None:
        """Stop."""
        self.command.apply_key("stop")

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Return the action of the command.

        Returns:
            action: (n,) in [-1, 1]; components without keys are 0.
            state: as given.
        """
        action = dict.fromkeys(self._components, 0.0)
        for direction, (component, sign) in self._drive.items():
            if component in action:
                action[component] += sign * self.command.speeds[direction]
        return np.array(list(action.values()), np.float32), state


def list_drive_keys(scene: Scene) -> list[str]:
    """List the keys that drive the robot of a scene."""
    directions = [key for key, (component, _) in scene.visuals.drive.items() if component in scene.action_spec.components]
    return [key for key in DRIVE_KEYS if key == "stop" or any(key in (name, OPPOSITES[name]) for name in directions)]
