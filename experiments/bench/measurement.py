"""Measurement: one line of the bench's tables; and what several benchmarks need."""

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sim.bodies import Observation
from sim.env import GroundEnv
from worldmodels.model import LearnedModel, models


@dataclass(frozen=True)
class Measurement:
    """One measured quantity. Ratios in % are shares."""

    quantity: str
    value: float
    unit: str
    conditions: str = ""

    @property
    def formatted_value(self) -> str:
        """Value and unit as text."""
        return f"{self.value:.1%}" if self.unit == "%" else f"{self.value:.3g} {self.unit}"


class Stopwatch:
    """A function that adds up its time."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self.seconds = 0.0

    def __call__(self, *arguments: Any) -> Any:
        start_s = time.perf_counter()
        result = self._function(*arguments)
        self.seconds += time.perf_counter() - start_s
        return result


def time_rollouts(model: Any) -> Stopwatch:
    """Replace the rollouts of one model by timed ones."""
    model.rollout_batch = Stopwatch(model.rollout_batch)
    return model.rollout_batch


def measure_s(function: Callable[[], Any]) -> float:
    """Measure the time of one call [s]."""
    stopwatch = Stopwatch(function)
    stopwatch()
    return stopwatch.seconds


def compute_median_ratio(durations_a: Iterable[float], durations_b: Iterable[float]) -> float:
    """Compute the median of paired ratios a / b."""
    return statistics.median(a / b for a, b in zip(durations_a, durations_b, strict=True))


def make_random_model(name: str, input_sizes: dict[str, int] | None = None) -> LearnedModel:
    """Make a model with random weights; the same each time.

    Args:
        input_sizes: length of the vector observation by scene, for models that need it.
    """
    torch.manual_seed(0)
    return models[name](**({"input_sizes": input_sizes} if input_sizes else {})).eval()


def record_scripted_episode(env: GroundEnv, index: int = 0) -> list[tuple[Observation, np.ndarray]]:
    """Run the scripted policy in a test layout.

    Returns:
        Observations, each with the action of the policy.
    """
    policy = env.scene.behaviours["scripted"]()
    observation, _ = env.reset(seed=0, options={"index": index})
    policy.start_episode(env.make_episode_start(0))
    steps = []
    is_over = False
    while not is_over:
        action, _ = policy.predict(observation)
        steps.append((observation, action))
        observation, _, success, truncated, _ = env.step(action)
        is_over = success or truncated
    return steps
