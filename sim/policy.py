"""The policy interface, and random policies for any scene.

`predict` has the signature of Stable-Baselines3, so the same evaluator runs random, scripted,
learned and planning policies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sim.bodies import Observation
from sim.layout import Layout
from sim.traffic.state import TrafficState
from sim.variation import Variation


@dataclass(frozen=True)
class SimState:
    """The state of a world between two steps, which `World.set_state` can restore."""

    pose: np.ndarray  # (M, 7) of robot, loads and traffic: position [m], quaternion xyzw
    twist: np.ndarray  # (M, 6) linear [m/s] and angular [rad/s]
    traffic: TrafficState | None = None
    memory: Any = None  # of a scene's own world: all that poses do not show


@dataclass(frozen=True)
class EpisodeStart:
    """Information for a policy at the start of an episode.

    Only the oracle, whose model is the simulator, may use the layout, the variation and the state.
    """

    seed: int
    layout: Layout
    variation: Variation
    read_state: Callable[[], SimState] | None = None  # the current state, with its hidden part


class Policy(Protocol):
    """Maps observations to actions; may keep state within an episode."""

    def start_episode(self, start: EpisodeStart) -> None:
        """Reset the state for a new episode."""

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Choose the action of a control step.

        Args:
            observation: dictionary observation of GroundEnv.
            state: recurrent state, unused here; part of Stable-Baselines3's signature.
            episode_start: unused, as `state`.
            deterministic: unused, as `state`.

        Returns:
            Action (n,) in [-1, 1], and `state`.
        """
        ...


PolicyFactory = Callable[[], Policy]


class ScriptedPolicy:
    """Base of policies with a random generator, which is seeded for each episode."""

    # Steps of an episode in data collection; None: those of the scene.
    collection_steps: int | None = None

    def start_episode(self, start: EpisodeStart) -> None:
        self._rng = np.random.default_rng([start.seed, 77])
        self._reset()

    def _reset(self) -> None: ...

    def _compute_action(self, observation: Observation) -> np.ndarray:
        raise NotImplementedError

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        return np.clip(self._compute_action(observation), -1, 1).astype(np.float32), state


class UniformRandom(ScriptedPolicy):
    """Uniform random actions: the weakest method of every comparison."""

    collection_steps = 60

    def _compute_action(self, observation: Observation) -> np.ndarray:
        return self._rng.uniform(-1, 1, observation["action_twist"].shape[-1:])


class SmoothRandom(ScriptedPolicy):
    """Smooth random actions: an Ornstein-Uhlenbeck process about a mean that jumps."""

    collection_steps = 60

    def _reset(self) -> None:
        self._noise = np.zeros(1)
        self._steps_left = 0

    def _compute_action(self, observation: Observation) -> np.ndarray:
        size = observation["action_twist"].shape[-1]
        if self._steps_left == 0:
            self._mean = self._rng.uniform(-1, 1, size) * np.array([1.0, *[0.7] * (size - 1)])
            self._steps_left = int(self._rng.integers(5, 25))
        self._steps_left -= 1
        self._noise = 0.8 * self._noise + 0.25 * self._rng.standard_normal(size)
        return self._mean + self._noise


RANDOM_BEHAVIOURS: dict[str, PolicyFactory] = {"random": UniformRandom, "smooth-random": SmoothRandom}
