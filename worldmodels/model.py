"""The contract every world model keeps, whether learned or the simulator itself."""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from sim.bodies import CONTROL_DT_S, Bodies
from sim.policy import EpisodeStart
from sim.utils.registry import Registry
from worldmodels.planar.state import (
    PlanarState,
    average_particles,
    decode_bodies,
    encode_observation,
    repeat_batch,
    repeat_scenes,
    select_nearest_agents,
    stack_scenes,
)
from worldmodels.training.joint import JointWindows
from worldmodels.training.windows import Windows

State = TypeVar("State")


class WorldModel(ABC, Generic[State]):
    """Imagines: `begin` at an observation, then `rollout` or `step` with candidate actions, batched over candidates."""

    def start_episode(self, start: EpisodeStart) -> None:
        """Told before each episode. Learned models ignore it; the simulator takes the true physics from it."""

    def update_belief(self, observation: Mapping[str, np.ndarray], previous: Any = None) -> Any:
        """What an observation, and what was believed `before` it, one control step ago, say of what cannot be seen."""
        return None

    @abstractmethod
    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> State:
        """The state of one observation, for rollouts of at most so many steps."""

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """(M,) rows of an observation that the bodies of a rollout from it are, in their order."""
        return np.flatnonzero(Bodies.from_observation(observation).is_dynamic)

    particles: int = 1  # members that each imagine every candidate

    @abstractmethod
    def rollout(self, state: State, actions: Tensor) -> Bodies:
        """Movers after each of H actions (B, H, A) from one state: Bodies (P, B, H, M, ...), P particles of each future."""

    def rollout_scenes(self, states: Sequence[State], actions: Sequence[Tensor]) -> list[Bodies]:
        """A rollout from each of several states with its own actions; learned models imagine scenes of equal sizes at once."""
        return [self.rollout(state, own) for state, own in zip(states, actions, strict=True)]

    def close(self) -> None:
        """Release processes and memory."""


class LearnedModel(nn.Module, WorldModel[PlanarState]):
    """A model that is trained: `step` one state on, differentiably; `loss` over windows."""

    name: str
    static_range: float = (
        2.6  # in the scene's unit: static boxes farther than this from every mover do not matter within usual plans
    )
    static_margin: float = 0.6  # in the scene's unit: or than this beyond how far the robot can come within a plan
    is_compiled: bool = False  # whether rollouts may run compiled, where the model can
    is_batched: bool = False  # whether rollouts of several scenes at once will be asked for
    action_size: int = 2  # numbers of an action where it will imagine
    footprint_size: int = 1  # boxes that loads are made of, at most, where it will imagine

    @abstractmethod
    def step(self, state: PlanarState, action: Tensor) -> PlanarState:
        """The state after one control step with actions (B, A) in [-1, 1]."""

    @abstractmethod
    def compute_loss(self, state: PlanarState, actions: Tensor, targets: list[PlanarState]) -> Tensor:
        """Scalar over W windows: first state (W), actions (W, L, A), the L true states that followed."""

    @abstractmethod
    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for the checkpoint."""

    def fit_normalisation(self, windows: Windows | JointWindows) -> None:
        """Take normalisation constants from the training data before the first update."""

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> PlanarState:
        speed = float(np.linalg.norm(observation["action_twist"][:2])) / float(observation["unit_m"][0])
        return encode_observation(observation, max(self.static_range, steps * CONTROL_DT_S * speed + self.static_margin))

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        return select_nearest_agents(Bodies.from_observation(observation))

    def rollout(self, state: PlanarState, actions: Tensor) -> Bodies:
        return self.rollout_scenes([state], [actions])[0]

    def rollout_scenes(self, states: Sequence[PlanarState], actions: Sequence[Tensor]) -> list[Bodies]:
        """Differentiable where the actions want gradients."""
        alike, found = defaultdict(list), dict[int, Bodies]()
        for number, (state, plans) in enumerate(zip(states, actions, strict=True)):
            alike[state.context.core_half.shape, plans.shape, self.count_particles(state)].append(number)
        for numbers in alike.values():
            plans = torch.stack([actions[number] for number in numbers])
            with torch.inference_mode(not plans.requires_grad):
                bodies = self._rollout_batch(stack_scenes([states[number] for number in numbers]), plans)
                found |= {number: bodies.map(itemgetter((slice(None), place))) for place, number in enumerate(numbers)}
        return [found[number] for number in range(len(states))]

    def _rollout_batch(self, state: PlanarState, actions: Tensor) -> Bodies:
        """What comes of actions (E, B, H, A) in E scenes: (P, E, B, H, M, ...)."""
        particles, (scenes, batch) = self.count_particles(state), actions.shape[:2]
        spread = repeat_batch(repeat_scenes(state, batch), particles) if scenes > 1 else state.expand(particles * batch)
        states = self.imagine(self.assign_particles(spread, particles), actions.flatten(0, 1).repeat(particles, 1, 1))
        return decode_bodies(states).map(
            lambda values: values.expand(len(spread.yaw_rate), *values.shape[1:]).unflatten(0, (particles, scenes, batch))
        )

    @torch.inference_mode()
    def predict_mean(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        """The model's best guess: H states of W different scenes, averaged over its particles."""
        particles = self.count_particles(state)
        return [average_particles(later, particles) for later in self.predict_particles(state, actions)]

    @torch.inference_mode()
    def predict_particles(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        """All that may come: H states of W different scenes, one block (W) for each particle."""
        particles = self.count_particles(state)
        if particles == 1:
            return self.imagine(state, actions)
        return self.imagine(self.assign_particles(repeat_batch(state, particles), particles), actions.repeat(particles, 1, 1))

    def count_particles(self, state: PlanarState) -> int:
        """How many members imagine what comes of a state."""
        return self.particles

    def assign_particles(self, state: PlanarState, particles: int) -> PlanarState:
        """A batch of `particles` equal blocks, one for each member, as the members see it."""
        return state

    def imagine(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        """The H states after actions (B, H, A), differentiably."""
        states = []
        for t in range(actions.shape[1]):
            state = self.step(state, actions[:, t])
            states.append(state)
        return states


models: Registry[type[LearnedModel]] = Registry("model", "worldmodels.planar")
