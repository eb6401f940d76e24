"""rigid: boxes that fall, hit the floor, slide and tip, with learned contacts at the corners.

A step is split into substeps. In each, gravity acts, and a network maps the height and velocity of
every corner to an impulse there. The impulses of the eight corners accelerate the box by the
equations of Newton and Euler. Tangential impulses oppose sliding. All inputs are relative to the
vertical, so predictions are equivariant to yaw and to horizontal shifts. Boxes do not touch each
other yet. Source of learned contacts: Sanchez-Gonzalez et al. 2020, "Learning to simulate complex
physics with graph networks".
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.bodies import CONTROL_DT_S
from sim.data.episode import Episode
from sim.geometry.rotations import integrate_rotation, rotate_in_space
from sim.utils.errors import GroundError
from worldmodels.model import LearnedModel, Prediction, models
from worldmodels.spatial.state import SpatialState, SpatialWindows, decode_bodies, encode_observation
from worldmodels.training.windows import Batch

HEIGHT_M = 0.05  # typical height of a corner where contact matters
SPEED_M_S = 1.0  # typical speed
SIZE_M = 0.2  # typical size
CONTACT_M = 0.01  # height of corners at which contact begins
SOFTNESS_M = 0.0025  # width of the transition to contact
MAX_GAIN = 4.0  # maximum ratio of a corner's stopping impulse and its speed
MAX_LIFT_M_S = 1.0  # maximum upward speed of a corner that is lifted out of the floor
UP = torch.tensor([0.0, 0.0, 1.0])
# Errors that count alike: position [m], rotation [rad], velocity [m/s], angular velocity [rad/s].
ERROR_SCALES = (0.02, 0.1, 0.2, 2.0)
MIN_MOVED_M = 0.02  # distance of boxes that count as moved


@dataclass(frozen=True)
class RigidConfig:
    """Sizes of the model."""

    hidden_size: int = 64
    substeps: int = 8

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or self.substeps < 1:
            raise GroundError(f"rigid sizes must be positive, not {self}")


@models.add("rigid")
class RigidModel(LearnedModel):
    """Newton's and Euler's equations with learned contact impulses."""

    name = "rigid"

    def __init__(self, config: RigidConfig | None = None, **sizes: Any) -> None:
        super().__init__()
        self.rigid_config = config or RigidConfig(**sizes)
        hidden = self.rigid_config.hidden_size
        self.contact = nn.Sequential(nn.Linear(6, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 3))
        self.gravity = nn.Parameter(torch.tensor(0.5))  # in units of 10 m/s²

    def get_config(self) -> dict[str, Any]:
        return asdict(self.rigid_config)

    @classmethod
    def make_windows(cls, episodes: Iterable[Episode], scene: str) -> SpatialWindows:
        """Decode episodes into windows of boxes in space."""
        return SpatialWindows(episodes)

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> SpatialState:
        return encode_observation(observation)

    def rollout_batch(self, states: Sequence[SpatialState], actions: Sequence[Tensor]) -> list[Prediction]:
        return [self._rollout(state, candidates.shape[:2]) for state, candidates in zip(states, actions, strict=True)]

    @torch.inference_mode()
    def _rollout(self, state: SpatialState, shape: torch.Size) -> Prediction:
        """Predict B candidates of H actions, `shape`, which all have the same outcome."""
        bodies = decode_bodies(self.imagine(state, shape[1]))
        return Prediction(bodies.map(lambda values: values.expand(1, *shape, *values.shape[2:])))

    def imagine(self, state: SpatialState, steps: int) -> list[SpatialState]:
        """Predict the states after each of the next control steps, differentiably."""
        states = []
        for _ in range(steps):
            for _ in range(self.rigid_config.substeps):
                state = self._advance(state, CONTROL_DT_S / self.rigid_config.substeps)
            states.append(state)
        return states

    def _advance(self, state: SpatialState, dt_s: float) -> SpatialState:
        falling = state.velocity - 10 * dt_s * self.gravity * UP
        levers = state.compute_levers()
        corner_velocity = falling[..., None, :] + torch.linalg.cross(state.angular_velocity[..., None, :], levers)
        impulse = self._compute_impulses(state, levers, corner_velocity, dt_s)
        turn = _turn_by_moment(state, torch.linalg.cross(levers, impulse).sum(-2))
        velocity = falling + impulse.sum(-2)
        angular_velocity = state.angular_velocity + turn
        return replace(
            state,
            position=state.position + dt_s * velocity,
            rotation=integrate_rotation(state.rotation, angular_velocity, dt_s),
            velocity=velocity,
            angular_velocity=angular_velocity,
        )

    def _compute_impulses(self, state: SpatialState, levers: Tensor, velocity: Tensor, dt_s: float) -> Tensor:
        """Compute the impulse per kilogram (B, M, 8, 3) at each corner."""
        # The height is that at the end of the substep.
        height = state.position[..., None, 2] + levers[..., 2] + dt_s * velocity[..., 2]
        sliding = velocity[..., :2].square().sum(-1).clamp(min=1e-8).sqrt()
        lever_length = levers[..., :2].square().sum(-1).clamp(min=1e-8).sqrt()
        size = (state.half_extents.mean(-1)[..., None] / SIZE_M).expand_as(height)
        speeds = (velocity[..., 2] / SPEED_M_S, sliding / SPEED_M_S)
        features = torch.stack([height / HEIGHT_M, *speeds, lever_length / SIZE_M, levers[..., 2] / SIZE_M, size], -1)
        normal, friction, lift = self.contact(features.clamp(-5, 5)).unbind(-1)
        gate = torch.sigmoid((CONTACT_M - height) / SOFTNESS_M) * state.present[..., None]
        stop = F.relu(-velocity[..., 2]) * MAX_GAIN * torch.sigmoid(normal - 1)
        upward = gate * (stop + MAX_LIFT_M_S * torch.sigmoid(lift - 3)) / 4  # four corners share it
        grip = torch.minimum(F.softplus(friction) * upward, sliding)  # never reverses sliding
        return torch.cat([-(grip / sliding)[..., None] * velocity[..., :2], upward[..., None]], -1)

    def compute_loss(self, batch: Batch) -> Tensor:
        predicted = self.imagine(batch.state, len(batch.targets))
        errors = torch.stack([_compute_errors(*pair) for pair in zip(predicted, batch.targets, strict=True)])
        return (errors * batch.state.present).sum() / (batch.state.present.sum() * len(predicted))

    @torch.inference_mode()
    def compute_validation_error(self, batch: Batch) -> float:
        """Compute the median error of moved boxes at the windows' end [mm]; NaN if none moved."""
        end = self.imagine(batch.state, len(batch.targets))[-1]
        moved = (batch.targets[-1].position - batch.state.position).norm(dim=-1) > MIN_MOVED_M
        errors = (end.position - batch.targets[-1].position).norm(dim=-1)[moved]
        return 1e3 * float(errors.median()) if len(errors) else math.nan

    def describe_validation(self, batch: Batch, dynamic_noun: str) -> str:
        return "box error"


def _turn_by_moment(state: SpatialState, moment: Tensor) -> Tensor:
    """Compute the change of angular velocity (B, M, 3) by angular impulses per kilogram.

    Boxes are solid and of uniform density; impulses are about their centres.
    """
    square = state.half_extents.square()
    inertia = ((square.sum(-1, keepdim=True) - square) / 3).clamp(min=1e-6)  # about the box's axes
    inverse = state.rotation * torch.tensor([-1.0, -1.0, -1.0, 1.0])
    return rotate_in_space(rotate_in_space(moment, inverse) / inertia, state.rotation)


def _compute_errors(predicted: SpatialState, true: SpatialState) -> Tensor:
    """Compute the robust error (B, M) of each box: contact causes outliers."""
    alignment = (predicted.rotation * true.rotation).sum(-1).abs().clamp(max=1)
    angle = 2 * (1 - alignment.square()).clamp(min=1e-8).sqrt()
    distances = (
        (predicted.position - true.position).norm(dim=-1),
        angle,
        (predicted.velocity - true.velocity).norm(dim=-1),
        (predicted.angular_velocity - true.angular_velocity).norm(dim=-1),
    )
    scaled = [distance / scale for distance, scale in zip(distances, ERROR_SCALES, strict=True)]
    return torch.stack([F.smooth_l1_loss(part, torch.zeros_like(part), reduction="none") for part in scaled]).mean(0)
