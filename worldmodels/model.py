"""Interface of world models, learned or simulated."""

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
    """Predicted outcome of B candidates of H actions, in P particles.

    Models of bodies predict bodies, and the task computes their cost. Other models predict cost and
    violations themselves.
    """

    bodies: Bodies | None = None  # (P, B, H, M, ...) dynamic bodies after each action
    cost: Tensor | None = None  # (P, B, H) after each action, in the task's cost unit
    violation: Tensor | None = None  # (P, B, H) probability of a violation after each action
    value: Tensor | None = None  # (P, B) cost-to-go after the last action, in the task's cost unit


class WorldModel(ABC, Generic[State]):
    """Predicts outcomes of candidate actions: `encode` an observation, then `rollout`."""

    particles: int = 1  # number of predictions of each candidate

    def start_episode(self, start: EpisodeStart) -> None:
        """Prepare for an episode: learned models compile, the simulator reads the true physics."""

    def update_belief(self, observation: Mapping[str, np.ndarray], previous: Any = None) -> Any:
        """Update the belief about hidden state.

        Args:
            observation: the present observation.
            previous: belief one control step ago; None at the start of an episode.

        Returns:
            The present belief, of the model's own type; None for models without hidden state.
        """
        return None

    @abstractmethod
    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> State:
        """Encode one observation.

        Args:
            observation: observation of GroundEnv.
            steps: length of the longest rollout from this state.
            belief: result of `update_belief`.

        Returns:
            State of one scene, of the model's own type.
        """

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Select the bodies of an observation that the model predicts.

        Args:
            observation: observation of GroundEnv.

        Returns:
            (M,) rows in the observation, in the order of the predicted bodies.
        """
        return np.flatnonzero(Bodies.from_observation(observation).is_dynamic)

    @abstractmethod
    def rollout_batch(self, states: Sequence[State], actions: Sequence[Tensor]) -> list[Prediction]:
        """Predict the outcome of candidates in E scenes.

        Args:
            states: E states, whose scenes may differ in size.
            actions: E tensors of candidates (B, H, A) in [-1, 1]. Where they require gradients,
                predictions are differentiable.

        Returns:
            E predictions.
        """

    def rollout(self, state: State, actions: Tensor) -> Prediction:
        """Predict the outcome of candidates in one scene.

        Args:
            state: state of one scene.
            actions: candidates (B, H, A) in [-1, 1].

        Returns:
            One prediction.
        """
        return self.rollout_batch([state], [actions])[0]

    def close(self) -> None:
        """Release processes and memory."""


class LearnedModel(nn.Module, WorldModel[Any]):
    """A model that `worldmodels.training.loop` trains on windows of episodes."""

    name: ClassVar[str]
    scene: str = ""  # scene of use; empty: the only scene of the training data
    is_compiled: bool = False  # run rollouts compiled, where the model supports it
    is_batched: bool = False  # prepare for rollouts of several scenes at once
    action_size: int = 2  # numbers of an action in the scene of use
    footprint_size: int = 1  # maximum number of collision boxes of a load in the scene of use

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
        """Compute the loss of W windows.

        Returns:
            () loss, differentiable.
        """

    @abstractmethod
    def compute_validation_error(self, batch: Batch) -> float:
        """Compute the error by which the best checkpoint is chosen; NaN where it is undefined.

        Returns:
            Error in the unit of the metric that `describe_validation` names, [mm] for bodies.
        """

    @abstractmethod
    def describe_validation(self, batch: Batch, dynamic_noun: str) -> str:
        """Name the metric of `compute_validation_error`, such as "load error"."""


models: Registry[type[LearnedModel]] = Registry("model", "worldmodels.planar", "worldmodels.spatial", "worldmodels.latent")
