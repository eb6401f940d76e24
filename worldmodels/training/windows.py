"""Training windows of episodes: decoded once into memory, then sampled by indexing."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.data.episode import Episode
from sim.utils.errors import GroundError

CONTACT_SHARE = 0.75  # of windows with contact, which are rare in the data and hard to predict


@dataclass(frozen=True)
class Batch:
    """W windows of L steps, with states of the model's own type."""

    state: Any  # before the first action
    actions: Tensor  # (W, L, A)
    targets: list[Any]  # the L following states, or other targets
    graph_key: Any = None  # batches with equal keys and shapes have a loss of the same operations


class EpisodeWindows(ABC):
    """All steps of many episodes as a few arrays, with one row for each step.

    Episodes are resampled to the control step. No window spans a gap in which the robot is not
    visible.
    """

    max_steps: int = sys.maxsize  # of a window, where models learn from shorter ones than usual

    def __init__(self, episodes: Iterable[Episode]) -> None:
        """Decode episodes.

        Raises:
            GroundError: no episode has a step.
        """
        used = [episode.resample() for episode in episodes if len(episode) > 1]
        if not used:
            raise GroundError("no episodes to train on")
        self.layout_ids = frozenset(episode.layout.id for episode in used)
        lengths = np.array([len(episode) for episode in used])
        self.steps = int(lengths.sum())
        self._episode = torch.as_tensor(np.repeat(np.arange(len(used)), lengths))  # of each row
        self._steps_left = np.concatenate([_count_steps_left(episode) for episode in used])
        self._touching = np.concatenate([self.mark_contacts(episode) for episode in used])
        self._has_encounter = np.concatenate([self.mark_encounters(episode) for episode in used])
        self._starts: tuple[int, np.ndarray, np.ndarray] | None = None  # of the latest length
        self.load(used)

    @property
    def parts(self) -> "Mapping[str, EpisodeWindows]":
        """Windows by scene, as in JointWindows."""
        return {"": self}

    @abstractmethod
    def load(self, episodes: list[Episode]) -> None:
        """Decode episodes into arrays with one row for each step."""

    @abstractmethod
    def take(self, rows: np.ndarray, length: int) -> Batch:
        """Take windows by their first rows.

        Args:
            rows: (W,) first rows.
            length: number L of steps.

        Returns:
            W windows.
        """

    def mark_contacts(self, episode: Episode) -> np.ndarray:
        """Mark the contacts of an episode, which windows contain more often than the data.

        Returns:
            (T+1,) bool by state.
        """
        return np.zeros(len(episode), bool) if episode.touching is None else episode.touching

    def mark_encounters(self, episode: Episode) -> np.ndarray:
        """Mark the encounters of an episode, with which windows begin more often than in the data.

        Returns:
            (T+1,) bool by state.
        """
        return np.zeros(len(episode), bool)

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Transform windows at random by symmetries of the dynamics."""
        return batch

    def find_starts(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the rows from which `length` steps follow.

        Returns:
            rows: (N,) all such rows.
            with_contact: (K,) rows whose windows contain a contact or begin with an encounter.
                A choice of encounters by their outcome would bias its probability.

        Raises:
            GroundError: no episode is that long.
        """
        contacts = np.concatenate([[0], np.cumsum(self._touching)])
        rows = np.flatnonzero(self._steps_left >= length)
        if not len(rows):
            raise GroundError(f"no episode has {length} steps in a row: collect longer ones or use shorter windows")
        with_contact = (contacts[rows + length + 1] > contacts[rows]) | self._has_encounter[rows]
        return rows, rows[with_contact]

    def sample(self, rng: np.random.Generator, size: int, length: int) -> Batch:
        """Draw `size` random windows, CONTACT_SHARE of them with contact, and augment them."""
        length = min(length, self.max_steps)
        if self._starts is None or self._starts[0] != length:
            self._starts = (length, *self.find_starts(length))
        _, rows, with_contact = self._starts
        count = int(size * CONTACT_SHARE) if len(with_contact) else 0
        chosen = [rng.choice(rows, size - count)]
        if count:
            chosen.append(rng.choice(with_contact, count))
        return self.augment(self.take(np.concatenate(chosen), length), rng)


class JointWindows:
    """Windows of several scenes, for one model.

    Each batch is of one scene, which is sampled uniformly. So no scene is padded to the number of
    bodies of another, and the amount of data does not weight a scene.
    """

    def __init__(self, parts: Mapping[str, EpisodeWindows]) -> None:
        """Join the windows of scenes.

        Args:
            parts: windows by scene.

        Raises:
            GroundError: there are none.
        """
        if not parts:
            raise GroundError("no episodes to train on")
        self.parts = dict(sorted(parts.items()))

    def sample(self, rng: np.random.Generator, size: int, length: int) -> Batch:
        """Draw `size` random windows of one scene."""
        names = list(self.parts)
        return self.parts[names[int(rng.integers(len(names)))]].sample(rng, size, length)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor], done: dict[int, Any] | None = None) -> Any:
    """Apply a function to every tensor in nested dataclasses, lists and tuples.

    Args:
        value: nested value; shared parts stay shared.
        change: function of a tensor.
        done: results by the identity of their values, in recursion.

    Returns:
        The changed copy.
    """
    done = {} if done is None else done
    if id(value) in done:
        return done[id(value)]
    result = value
    if isinstance(value, Tensor):
        result = change(value)
    elif isinstance(value, list | tuple):
        result = type(value)(map_tensors(inner, change, done) for inner in value)
    elif is_dataclass(value) and not isinstance(value, type):
        result = replace(value, **{f.name: map_tensors(getattr(value, f.name), change, done) for f in fields(value)})
    done[id(value)] = result
    return result


def list_tensors(value: Any) -> list[Tensor]:
    """List the tensors of nested dataclasses, lists and tuples, each once.

    Returns:
        Tensors in the order of the fields.
    """
    tensors: list[Tensor] = []

    def append(tensor: Tensor) -> Tensor:
        tensors.append(tensor)
        return tensor

    map_tensors(value, append)
    return tensors


def compute_applied_actions(episode: Episode) -> np.ndarray:
    """Compute the actions that reach the robot: `latency_steps` late, and 0 before.

    Returns:
        (T+1, A) in [-1, 1].
    """
    latency = min(episode.variation.latency_steps, len(episode))
    return np.concatenate([np.zeros_like(episode.action[:latency]), episode.action[: len(episode) - latency]])


def get_action_twist(episode: Episode) -> np.ndarray:
    """Return the twist (6, A) of an episode's actions; by default that of the differential drive."""
    if episode.action_twist is not None:
        return episode.action_twist
    twist = np.zeros((6, 2))
    twist[[0, 5], [0, 1]] = episode.variation.speed_limit_m_s, 1.5
    return twist


def _count_steps_left(episode: Episode) -> np.ndarray:
    """Count the following states (T+1,) until the robot is not visible; -1 where it is not."""
    rows = np.arange(len(episode))
    if episode.visible is None:
        return rows[::-1].copy()
    gaps = np.append(np.flatnonzero(~episode.visible[:, 0]), len(episode))
    return np.asarray(gaps[np.searchsorted(gaps, rows)] - rows - 1)
