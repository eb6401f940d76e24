"""Policies: whatever turns an observation into an action, and the random ones, which any scene has.

All speak `predict` as Stable-Baselines3 does, so that one evaluator judges random, scripted, learned and planned behaviour.
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
    """The state of a world between two steps, as far as it can be set again."""

    pose: np.ndarray  # (M, 7) of the robot, loads and traffic
    twist: np.ndarray  # (M, 6)
    traffic: TrafficState | None = None


@dataclass(frozen=True)
class EpisodeStart:
    """What a policy is told before an episode. Only the simulator as a model may look at layout, variation and truth."""

    seed: int
    layout: Layout
    variation: Variation
    read_state: Callable[[], SimState] | None = None  # the whole state at any time, with what no observation shows


class Policy(Protocol):
    """Stateful per episode: `begin`, then one `predict` per control step."""

    def start_episode(self, start: EpisodeStart) -> None: ...

    def predict(
        self, observation: Observation, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        """Action (2,) in [-1, 1] and the state to hand back."""
        ...


PolicyFactory = Callable[[], Policy]


class ScriptedPolicy:
    """Shared start: a generator per episode."""

    collection_steps: int | None = None  # of an episode where it collects data; None: as long as the scene's

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


def _action_size(observation: Observation) -> int:
    return int(observation["action_twist"].shape[-1])


class UniformRandom(ScriptedPolicy):
    """A fresh uniform action every step: the floor of every comparison."""

    collection_steps = 60

    def _compute_action(self, observation: Observation) -> np.ndarray:
        return self._rng.uniform(-1, 1, _action_size(observation))


class SmoothRandom(ScriptedPolicy):
    """Noise that wanders: an Ornstein-Uhlenbeck process about a mean that jumps now and then."""

    collection_steps = 60

    def _reset(self) -> None:
        self._noise, self._steps_left = np.zeros(1), 0

    def _compute_action(self, observation: Observation) -> np.ndarray:
        size = _action_size(observation)
        if self._steps_left == 0:
            self._mean = self._rng.uniform(-1, 1, size) * np.array([1.0, *[0.7] * (size - 1)])
            self._steps_left = int(self._rng.integers(5, 25))
        self._steps_left -= 1
        self._noise = 0.8 * self._noise + 0.25 * self._rng.standard_normal(size)
        return self._mean + self._noise


RANDOM_BEHAVIOURS: dict[str, PolicyFactory] = {"random": UniformRandom, "smooth-random": SmoothRandom}
