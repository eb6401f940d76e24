"""Episodes to training windows: everything is decoded once into memory, then random windows are drawn by indexing."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.data.episode import Episode
from sim.utils.errors import GroundError

CONTACT_SHARE = 0.75  # of windows with contact: the data holds fewer, and they are the hard ones


@dataclass(frozen=True)
class Batch:
    """W windows of L steps; states are the model's own."""

    state: Any  # before the first action
    actions: Tensor  # (W, L, A)
    targets: list[Any]  # L states that followed, or what else the model learns from
    graph_key: Any = None  # two batches whose loss takes other operations differ in this, or in the shapes of their tensors


class EpisodeWindows(ABC):
    """All steps of many episodes as a few arrays; a row is one step.

    States that are not a control step apart are resampled. A window never spans a gap in which the robot was not seen.
    """

    def __init__(self, episodes: Iterable[Episode]) -> None:
        """Decode episodes.

        Raises:
            GroundError: none of them has a step.
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
        self._starts: tuple[int, np.ndarray, np.ndarray] | None = None  # of the last length asked for
        self.load(used)

    @property
    def parts(self) -> "Mapping[str, EpisodeWindows]":
        """Windows by scene, as JointWindows has them."""
        return {"": self}

    @abstractmethod
    def load(self, episodes: list[Episode]) -> None:
        """Decode episodes into arrays with one row for each step."""

    @abstractmethod
    def take(self, rows: np.ndarray, length: int) -> Batch:
        """Take the windows of `length` steps that begin at given rows (W,)."""

    def mark_contacts(self, episode: Episode) -> np.ndarray:
        """Mark the states (T+1,) with contact that windows should hold more of."""
        return np.zeros(len(episode), bool) if episode.touching is None else episode.touching

    def mark_encounters(self, episode: Episode) -> np.ndarray:
        """Mark the states (T+1,) from which windows should begin more often."""
        return np.zeros(len(episode), bool)

    def augment(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Transform windows at random as physics allows."""
        return batch

    def find_starts(self, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the rows from which `length` steps follow.

        Returns:
            All such rows, and those whose windows hold a contact or begin with an encounter. Encounters count by their beginning:
            chosen by their outcome they would make it look likelier than it is.

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
        if self._starts is None or self._starts[0] != length:
            self._starts = (length, *self.find_starts(length))
        _, rows, with_contact = self._starts
        count = int(size * CONTACT_SHARE) if len(with_contact) else 0
        picked = [rng.choice(rows, size - count)]
        if count:
            picked.append(rng.choice(with_contact, count))
        return self.augment(self.take(np.concatenate(picked), length), rng)


class JointWindows:
    """Windows of several scenes, for one model of them all.

    A batch holds one scene, drawn uniformly: none is padded to another's bodies, and none counts more for having more data.
    """

    def __init__(self, parts: Mapping[str, EpisodeWindows]) -> None:
        if not parts:
            raise GroundError("no episodes to train on")
        self.parts = dict(sorted(parts.items()))

    def sample(self, rng: np.random.Generator, size: int, length: int) -> Batch:
        """Draw `size` random windows of one scene."""
        names = list(self.parts)
        return self.parts[names[int(rng.integers(len(names)))]].sample(rng, size, length)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor], done: dict[int, Any] | None = None) -> Any:
    """Apply a function to every tensor in nested dataclasses, lists and tuples; what is shared stays shared."""
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
    """List the tensors of nested dataclasses, lists and tuples, each once."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(value, note)
    return found


def _count_steps_left(episode: Episode) -> np.ndarray:
    """Count for each state (T+1,) how many states follow in a row in which the robot is seen; -1 where it is not seen."""
    rows = np.arange(len(episode))
    if episode.visible is None:
        return rows[::-1].copy()
    unseen = np.append(np.flatnonzero(~episode.visible[:, 0]), len(episode))
    return np.asarray(unseen[np.searchsorted(unseen, rows)] - rows - 1)
