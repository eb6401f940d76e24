"""mlp: an ensemble of probabilistic MLPs on the flat egocentric vector, the usual baseline.

Each member predicts the mean and variance of each body's change of pose and motion in the robot's
frame. It is trained on the next step by maximum likelihood. In a rollout each member predicts each
candidate once, by its means (trajectory sampling, TS-infinity).

Source: Chua et al. 2018, "Deep reinforcement learning in a handful of trials using probabilistic
dynamics models" (PETS).
"""

import math
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.bodies import CONTROL_DT_S
from sim.sensors.flat import NUM_TRACKED_BODIES, compute_egocentric_vector, get_vector_slices
from sim.utils.errors import GroundError
from worldmodels.model import models
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.state import PlanarState, compute_command, decode_all_bodies, decode_footprints
from worldmodels.training.windows import Batch, EpisodeWindows, JointWindows

NUM_OUTPUTS = 6  # displacement x, y, turn, change of velocity x, y, change of yaw rate
NUM_BODIES = 1 + NUM_TRACKED_BODIES


@dataclass(frozen=True)
class MlpConfig:
    """Sizes of the ensemble."""

    num_members: int = 5
    hidden_size: int = 200
    num_layers: int = 3
    footprint_size: int = 1  # maximum number of collision boxes of a body in the training data

    def __post_init__(self) -> None:
        if min(self.num_members, self.hidden_size, self.num_layers, self.footprint_size) < 1:
            raise GroundError(f"mlp sizes must be positive, not {self}")


@models.add("mlp")
class MlpEnsemble(PlanarModel):
    """An ensemble of probabilistic MLPs; its members are the particles."""

    name = "mlp"
    static_range = math.inf  # the vector holds the nearest static boxes at any distance
    input_mean: Tensor
    input_std: Tensor
    output_std: Tensor

    def __init__(self, config: MlpConfig | None = None, **sizes: Any) -> None:
        super().__init__()
        self._build(config or MlpConfig(**sizes))

    def _build(self, config: MlpConfig) -> None:
        self.mlp_config = config
        self.particles = config.num_members
        num_inputs = get_vector_slices(config.footprint_size).size + 3
        widths = [num_inputs, *[config.hidden_size] * config.num_layers, 2 * NUM_BODIES * NUM_OUTPUTS]
        shapes = list(pairwise(widths))
        self.weights = nn.ParameterList(torch.randn(self.particles, i, o) / i**0.5 for i, o in shapes)
        self.biases = nn.ParameterList(torch.zeros(self.particles, 1, o) for _, o in shapes)
        self.register_buffer("input_mean", torch.zeros(num_inputs))
        self.register_buffer("input_std", torch.ones(num_inputs))
        self.register_buffer("output_std", torch.ones(NUM_BODIES * NUM_OUTPUTS))

    def get_config(self) -> dict[str, Any]:
        return asdict(self.mlp_config)

    def fit_normalisation(self, windows: EpisodeWindows | JointWindows) -> None:
        batches = [part.take(part.find_starts(1)[0][:: max(1, part.steps // 20_000)], 1) for part in windows.parts.values()]
        footprint_size = max(batch.state.context.core_centre.shape[-1] for batch in batches)
        if footprint_size != self.mlp_config.footprint_size:
            self._build(replace(self.mlp_config, footprint_size=footprint_size))
        inputs = torch.cat([self._encode_inputs(batch.state, batch.actions[:, 0]) for batch in batches])
        changes = torch.cat([_compute_changes(batch.state, batch.targets[0]) for batch in batches])
        self.input_mean.copy_(inputs.mean(0))
        self.input_std.copy_(inputs.std(0).clamp(min=1e-2))
        self.output_std.copy_(changes.flatten(1).std(0).clamp(min=1e-3))

    def _encode_inputs(self, state: PlanarState, action: Tensor) -> Tensor:
        footprints = None
        if self.mlp_config.footprint_size > 1:  # pad to the scene with the most boxes
            missing = self.mlp_config.footprint_size - state.context.core_centre.shape[-1]
            footprints = F.pad(decode_footprints(state), (0, 0, 0, missing))
        vector = compute_egocentric_vector(decode_all_bodies(state), state.yaw_rate.shape[1], footprints)
        return torch.cat([vector, compute_command(state, action[:, None])[:, 0]], -1)

    def _predict_members(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Predict mean and log variance (P, B, BODIES, OUTPUTS) of normalised changes."""
        x = ((inputs - self.input_mean) / self.input_std).clamp(-5, 5)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if index + 1 < len(self.weights):
                x = F.silu(x)
        mean, log_variance = x.unflatten(-1, (2, NUM_BODIES, NUM_OUTPUTS)).unbind(-3)
        return mean, -8 + F.softplus(4 - F.softplus(4 - log_variance) + 8)  # soft limits -8 and 4

    def step(self, state: PlanarState, action: Tensor) -> PlanarState:
        # The batch has a block for each member.
        inputs = self._encode_inputs(state, action).unflatten(0, (self.particles, -1))
        mean, _ = self._predict_members(inputs)
        change = mean.flatten(0, 1) * self.output_std.view(NUM_BODIES, NUM_OUTPUTS)
        return _apply_changes(state, change)

    def compute_loss(self, batch: Batch) -> Tensor:
        states = [batch.state, *batch.targets]
        with torch.no_grad():
            inputs = torch.cat([self._encode_inputs(before, batch.actions[:, t]) for t, before in enumerate(states[:-1])])
            target = torch.cat([_compute_changes(before, after) for before, after in pairwise(states)])
            target = target / self.output_std.view(NUM_BODIES, NUM_OUTPUTS)
            mask = torch.rand(self.particles, len(inputs)) < 0.8  # each learns from its own part
        mean, log_variance = self._predict_members(inputs.expand(self.particles, -1, -1))
        nll = 0.5 * ((mean - target).square() * torch.exp(-log_variance) + log_variance).mean((-1, -2))
        return (nll * mask).sum() / mask.sum() * self.particles


def _compute_changes(before: PlanarState, after: PlanarState) -> Tensor:
    """Compute each body's change (B, BODIES, OUTPUTS) in one step, in the robot's old frame."""
    inverse = before.heading[:, :1].conj()
    shift = (after.position - before.position) * inverse - CONTROL_DT_S * before.velocity * inverse
    kick = (after.velocity - before.velocity) * inverse
    turn = (after.heading * before.heading.conj()).angle() - CONTROL_DT_S * before.yaw_rate
    twist = after.yaw_rate - before.yaw_rate
    changes = torch.cat([torch.view_as_real(shift), turn[..., None], torch.view_as_real(kick), twist[..., None]], -1)
    changes = changes[:, :NUM_BODIES] * before.context.present[:, :NUM_BODIES, None]
    return F.pad(changes, (0, 0, 0, NUM_BODIES - changes.shape[1]))


def _apply_changes(state: PlanarState, change: Tensor) -> PlanarState:
    """Invert `_compute_changes`. Loads beyond NUM_BODIES keep their velocities."""
    num_dynamic = state.yaw_rate.shape[1]
    change = F.pad(change[:, :num_dynamic], (0, 0, 0, max(0, num_dynamic - NUM_BODIES)))
    shift, kick = (torch.view_as_complex(change[..., part].contiguous()) for part in (slice(0, 2), slice(3, 5)))
    heading = state.heading[:, :1]
    turn = CONTROL_DT_S * state.yaw_rate + change[..., 2]
    return replace(
        state,
        position=state.position + CONTROL_DT_S * state.velocity + shift * heading,
        heading=state.heading * torch.polar(torch.ones_like(turn), turn),
        velocity=state.velocity + kick * heading,
        yaw_rate=state.yaw_rate + change[..., 5],
    )
