"""The contract every world model keeps, whether learned or the simulator itself."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sim.bodies import Bodies
from sim.policy import EpisodeStart
from sim.registry import Registry
from worldmodels.planar import PlanarState, bodies_of, state_of

State = TypeVar("State")


class WorldModel(ABC, Generic[State]):
    """Imagines: `begin` at an observation, then `rollout` or `step` with candidate actions, batched over candidates."""

    def start_episode(self, start: EpisodeStart) -> None:  # noqa: B027
        """Told before each episode. Learned models ignore it; the simulator takes the true physics from it."""

    @abstractmethod
    def begin(self, observation: Mapping[str, np.ndarray]) -> State:
        """The state of one observation."""

    @abstractmethod
    def rollout(self, state: State, actions: Tensor) -> Bodies:
        """Movers after each of H actions (B, H, A) from one state: Bodies (B, H, M, ...)."""

    def disagreement(self) -> Tensor | None:
        """(B, H) spread of an ensemble's members about the load's position in the last rollout [m], or None."""
        return None

    def close(self) -> None:  # noqa: B027
        """Release processes and memory."""


class LearnedModel(nn.Module, WorldModel[PlanarState]):
    """A model that is trained: `step` one state on, differentiably; `loss` over windows."""

    name: str
    reach_m: float = 2.6  # static boxes farther than this from every mover do not matter within a plan

    @abstractmethod
    def step(self, state: PlanarState, action: Tensor) -> PlanarState:
        """The state after one control step with actions (B, A) in [-1, 1]."""

    @abstractmethod
    def loss(self, state: PlanarState, actions: Tensor, targets: list[PlanarState]) -> Tensor:
        """Scalar over W windows: first state (W), actions (W, L, A), the L true states that followed."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Constructor arguments, for the checkpoint."""

    def prepare(self, positions: "WindowStatistics") -> None:  # noqa: B027
        """Take normalisation constants from the training data before the first update."""

    def begin(self, observation: Mapping[str, np.ndarray]) -> PlanarState:
        return state_of(observation, self.reach_m)

    @torch.inference_mode()
    def rollout(self, state: PlanarState, actions: Tensor) -> Bodies:
        return bodies_of(self.imagine(state.expand(len(actions)), actions))

    def imagine(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        """The H states after actions (B, H, A), differentiably."""
        states = []
        for t in range(actions.shape[1]):
            state = self.step(state, actions[:, t])
            states.append(state)
        return states


WindowStatistics = Mapping[str, Tensor]
models: Registry[type[LearnedModel]] = Registry("model", "worldmodels.models")
