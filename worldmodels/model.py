"""The contract of world models, learned or not."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from torch import Tensor, nn

from sim.bodies import Bodies
from sim.data.episode import Episode
from sim.policy import EpisodeStart
from sim.utils.registry import Registry
from worldmodels.training.windows import Batch, EpisodeWindows, JointWindows

State = TypeVar("State")


@dataclass(frozen=True)
class Prediction:
    """What B candidates of H actions lead to, in P particles.

    A model that knows bodies predicts them, and the task judges them. Other models predict cost and violations themselves.
    """

    bodies: Bodies | None = None  # (P, B, H, M, ...) dynamic bodies after each action
    cost: Tensor | None = None  # (P, B, H) after each action, in the task's cost unit
    violation: Tensor | None = None  # (P, B, H) probability of a violation after each action
    value: Tensor | None = None  # (P, B) cost-to-go after the last action, in the task's cost unit


class WorldModel(ABC, Generic[State]):
    """Predicts what candidate actions lead to: `encode` an observation, then `rollout` candidates from that state."""

    particles: int = 1  # predictions of each candidate

    def start_episode(self, start: EpisodeStart) -> None:
        """Prepare for an episode. Learned models compile; the simulator takes the true physics from it."""

    def update_belief(self, observation: Mapping[str, np.ndarray], previous: Any = None) -> Any:
        """Update the belief about what cannot be seen.

        Args:
            observation: of now.
            previous: the belief one control step ago; None at the start of an episode.
        """
        return None

    @abstractmethod
    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> State:
        """Encode one observation.

        Args:
            observation: as of GroundEnv.
            steps: the longest rollout that will be asked for.
            belief: as of `update_belief`.
        """

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Select the rows (M,) of an observation that a prediction's bodies are, in their order."""
        return np.flatnonzero(Bodies.from_observation(observation).is_dynamic)

    @abstractmethod
    def rollout_batch(self, states: Sequence[State], actions: Sequence[Tensor]) -> list[Prediction]:
        """Predict E scenes at once.

        Args:
            states: E states, whose scenes may differ in size.
            actions: for each state, candidates (B, H, A) in [-1, 1]. Predictions are differentiable where they want gradients.

        Returns:
            E predictions.
        """

    def rollout(self, state: State, actions: Tensor) -> Prediction:
        """Predict what candidates (B, H, A) in [-1, 1] lead to from one state."""
        return self.rollout_batch([state], [actions])[0]

    def close(self) -> None:
        """Release processes and memory."""


class LearnedModel(nn.Module, WorldModel[Any]):
    """A model that is trained on windows of episodes by the loop in `worldmodels.training.loop`."""

    name: ClassVar[str]
    is_compiled: bool = False  # whether rollouts may run compiled, where the model can
    is_batched: bool = False  # whether rollouts of several scenes at once will be asked for
    action_size: int = 2  # numbers of an action where it will predict
    footprint_size: int = 1  # boxes that a load is made of, at most, where it will predict

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments, for the checkpoint."""

    @classmethod
    @abstractmethod
    def make_windows(cls, episodes: Iterable[Episode], scene: str) -> EpisodeWindows:
        """Decode episodes of a scene into the windows that the model learns from."""

    def fit_normalisation(self, windows: EpisodeWindows | JointWindows) -> None:
        """Fit normalisation constants to the training data, before the first update."""

    @abstractmethod
    def compute_loss(self, batch: Batch) -> Tensor:
        """Compute the loss of W windows: a scalar."""

    @abstractmethod
    def compute_validation_error(self, batch: Batch) -> float:
        """Compute the error by which checkpoints are chosen, in the units of `describe_validation`; nan where it is undefined."""

    @abstractmethod
    def describe_validation(self, batch: Batch, dynamic_noun: str) -> str:
        """Name what `compute_validation_error` measures, as in "load error"."""


models: Registry[type[LearnedModel]] = Registry("model", "worldmodels.planar", "worldmodels.spatial", "worldmodels.latent")
