"""Base class of learned models of upright bodies on a floor."""

import math
from abc import abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sim.bodies import CONTROL_DT_S, Bodies
from sim.data.episode import Episode
from sim.utils.errors import GroundError
from worldmodels.model import LearnedModel, Prediction
from worldmodels.planar import state as planar
from worldmodels.planar.state import PlanarState, repeat_batch
from worldmodels.planar.windows import PlanarWindows
from worldmodels.training.windows import Batch


class PlanarModel(LearnedModel):
    """A differentiable model of PlanarState.

    It predicts the robot, the loads or nearest agents, and encodes static boxes within reach of a
    rollout.
    """

    static_range: float = 2.6  # [units] from bodies; boxes beyond do not matter in usual plans
    static_margin: float = 0.6  # [units] beyond the robot's range in a plan, if that is longer

    @abstractmethod
    def step(self, state: PlanarState, action: Tensor) -> PlanarState:
        """Predict the state after one control step.

        Args:
            state: B scenes.
            action: (B, A) in [-1, 1].

        Returns:
            B scenes.
        """

    @classmethod
    def make_windows(cls, episodes: Iterable[Episode], scene: str) -> PlanarWindows:
        """Decode episodes into windows of planar states."""
        return PlanarWindows(episodes)

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> PlanarState:
        speed = float(np.linalg.norm(observation["action_twist"][:2])) / float(observation["unit_m"][0])
        return planar.encode_observation(observation, max(self.static_range, steps * CONTROL_DT_S * speed + self.static_margin))

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        return planar.select_nearest_agents(Bodies.from_observation(observation))

    def rollout_batch(self, states: Sequence[PlanarState], actions: Sequence[Tensor]) -> list[Prediction]:
        groups = defaultdict[Any, list[int]](list)  # scenes of equal sizes are predicted at once
        predictions: dict[int, Prediction] = {}
        for index, (state, candidates) in enumerate(zip(states, actions, strict=True)):
            groups[state.context.core_half.shape, candidates.shape, self.count_particles(state)].append(index)
        for group in groups.values():
            candidates = torch.stack([actions[index] for index in group])
            with torch.inference_mode(not candidates.requires_grad):
                bodies = self._rollout_bodies(planar.stack_scenes([states[index] for index in group]), candidates)
                for position, index in enumerate(group):
                    predictions[index] = Prediction(bodies.map(itemgetter((slice(None), position))))
        return [predictions[index] for index in range(len(states))]

    def _rollout_bodies(self, state: PlanarState, actions: Tensor) -> Bodies:
        """Predict bodies (P, E, B, H, M, ...) from E scenes and actions (E, B, H, A)."""
        particles = self.count_particles(state)
        scenes, batch = actions.shape[:2]
        expanded = repeat_batch(planar.repeat_scenes(state, batch), particles) if scenes > 1 else state.expand(particles * batch)
        states = self.imagine(self.assign_particles(expanded, particles), actions.flatten(0, 1).repeat(particles, 1, 1))
        size = len(expanded.yaw_rate)
        shape = particles, scenes, batch
        return planar.decode_bodies(states).map(lambda values: values.expand(size, *values.shape[1:]).unflatten(0, shape))

    @torch.inference_mode()
    def predict_mean(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        """Predict the mean over the particles.

        Args:
            state: W scenes.
            actions: (W, H, A) in [-1, 1].

        Returns:
            H states of W scenes.
        """
        particles = self.count_particles(state)
        return [planar.average_particles(later, particles) for later in self.predict_particles(state, actions)]

    @torch.inference_mode()
    def predict_particles(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        """Predict every particle.

        Args:
            state: W scenes.
            actions: (W, H, A) in [-1, 1].

        Returns:
            H states of P * W scenes, one block of W for each particle.
        """
        particles = self.count_particles(state)
        if particles == 1:
            return self.imagine(state, actions)
        state = self.assign_particles(repeat_batch(state, particles), particles)
        return self.imagine(state, actions.repeat(particles, 1, 1))

    def predict_bodies(self, state: PlanarState, actions: Tensor) -> Bodies:
        """Predict the dynamic bodies in every particle.

        Args:
            state: W scenes.
            actions: (W, H, A) in [-1, 1].

        Returns:
            Bodies (P, W, H, M, ...).
        """
        bodies = planar.decode_bodies(self.predict_particles(state, actions))
        return bodies.map(lambda values: values.unflatten(0, (-1, len(state.yaw_rate))))

    def count_particles(self, state: PlanarState) -> int:
        """Count the particles that are predicted from a state."""
        return self.particles

    def assign_particles(self, state: PlanarState, particles: int) -> PlanarState:
        """Make the start of each particle from a batch of equal blocks, one for each particle."""
        return state

    def imagine(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        """Predict the states after each action, differentiably.

        Args:
            state: B scenes.
            actions: (B, H, A) in [-1, 1].

        Returns:
            H states of B scenes.
        """
        states = []
        for t in range(actions.shape[1]):
            state = self.step(state, actions[:, t])
            states.append(state)
        return states

    def compute_validation_error(self, batch: Batch) -> float:
        """Compute the error of bodies other than the robot that moved, at the windows' end [mm].

        Source: Gneiting and Raftery 2007, "Strictly proper scoring rules".

        Returns:
            The median distance. Of several particles the mean energy score: the mean distance of
            the particles less half of the mean distance between two. NaN where no body moved.
        """
        particles = self.count_particles(batch.state)
        true = batch.targets[-1]
        moved = planar.find_moved_bodies(batch.state, true)
        if not moved.any():
            return math.nan
        positions = self.predict_particles(batch.state, batch.actions)[-1].position.unflatten(0, (particles, -1))[:, moved]
        errors = (positions - true.position[moved]).abs().mean(0)
        if particles == 1:
            return float(errors.median()) * 1e3
        spread = (positions[:, None] - positions).abs().sum((0, 1)) / (particles * (particles - 1))
        return float((errors - spread / 2).mean()) * 1e3

    def describe_validation(self, batch: Batch, dynamic_noun: str) -> str:
        """Name the error of `compute_validation_error`.

        Raises:
            GroundError: only the robot moves, so the error is undefined.
        """
        if not planar.find_moved_bodies(batch.state, batch.targets[-1]).any():
            raise GroundError("nothing but the robot moves in the validation data: collect more of it")
        return f"{dynamic_noun} {'energy score' if self.count_particles(batch.state) > 1 else 'error'}"
