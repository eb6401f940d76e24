"""mlp: an ensemble of probabilistic MLPs on the flat egocentric vector (PETS, Chua et al. 2018), the field's usual baseline.

Each member predicts mean and variance of every mover's change of pose and motion in the robot's frame, and is trained on the
next step by likelihood. In a rollout each member imagines each candidate once, by its means (trajectory sampling, TS-infinity).
"""

import math
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.bodies import CONTROL_DT_S, Bodies
from sim.sensors.flat import NUM_LOADS, compute_egocentric_vector, get_vector_slices
from sim.utils.errors import GroundError
from worldmodels.model import models
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.state import PlanarState, compute_command, decode_all_bodies, decode_footprints
from worldmodels.training.windows import Batch, EpisodeWindows, JointWindows

NUM_OUTPUTS = 6  # displacement x, y, turn, change of velocity x, y, change of spin
NUM_BODIES = 1 + NUM_LOADS


@dataclass(frozen=True)
class MlpConfig:
    num_members: int = 5
    hidden_size: int = 200
    num_layers: int = 3
    footprint_size: int = 1  # boxes that bodies are made of, at most: as many as in the data that it is trained on

    def __post_init__(self) -> None:
        if min(self.num_members, self.hidden_size, self.num_layers, self.footprint_size) < 1:
            raise GroundError(f"mlp sizes must be positive, not {self}")


@models.add("mlp")
class MlpEnsemble(PlanarModel):
    name = "mlp"
    static_range = math.inf  # it was trained on the nearest boxes, however far
    input_mean: Tensor
    input_std: Tensor
    output_std: Tensor

    def __init__(self, config: MlpConfig | None = None, **sizes: Any) -> None:
        super().__init__()
        self._build(config or MlpConfig(**sizes))

    def _build(self, sizes: MlpConfig) -> None:
        self.mlp_config, self.particles = sizes, sizes.num_members
        widths = [
            get_vector_slices(sizes.footprint_size).size + 3,
            *[self.mlp_config.hidden_size] * self.mlp_config.num_layers,
            2 * NUM_BODIES * NUM_OUTPUTS,
        ]
        shapes = list(pairwise(widths))
        self.weights = nn.ParameterList(torch.randn(self.particles, i, o) / i**0.5 for i, o in shapes)
        self.biases = nn.ParameterList(torch.zeros(self.particles, 1, o) for _, o in shapes)
        self.register_buffer("input_mean", torch.zeros(widths[0]))
        self.register_buffer("input_std", torch.ones(widths[0]))
        self.register_buffer("output_std", torch.ones(NUM_BODIES * NUM_OUTPUTS))

    def get_config(self) -> dict[str, Any]:
        return asdict(self.mlp_config)

    def fit_normalisation(self, windows: EpisodeWindows | JointWindows) -> None:
        batches = [part.take(part.find_starts(1)[0][:: max(1, part.steps // 20_000)], 1) for part in windows.parts.values()]
        pieces = max(batch.state.context.core_centre.shape[-1] for batch in batches)
        if pieces != self.mlp_config.footprint_size:
            self._build(replace(self.mlp_config, footprint_size=pieces))
        inputs = torch.cat([self._encode_inputs(batch.state, batch.actions[:, 0]) for batch in batches])
        changes = torch.cat([_compute_changes(batch.state, batch.targets[0]) for batch in batches])
        self.input_mean.copy_(inputs.mean(0))
        self.input_std.copy_(inputs.std(0).clamp(min=1e-2))
        self.output_std.copy_(changes.flatten(1).std(0).clamp(min=1e-3))

    def _encode_inputs(self, state: PlanarState, action: Tensor) -> Tensor:
        bodies: Bodies = decode_all_bodies(state)
        count, pieces = self.mlp_config.footprint_size, None
        if count > 1:  # of several scenes, those of the one with the most
            pieces = F.pad(decode_footprints(state), (0, 0, 0, count - state.context.core_centre.shape[-1]))
        return torch.cat(
            [compute_egocentric_vector(bodies, state.yaw_rate.shape[1], pieces), compute_command(state, action[:, None])[:, 0]],
            -1,
        )

    def _predict_members(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (P, B, BODIES, OUTPUTS) of normalised changes from inputs (P, B, F)."""
        x = ((inputs - self.input_mean) / self.input_std).clamp(-5, 5)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            if index + 1 < len(self.weights):
                x = F.silu(x)
        mean, spread = x.unflatten(-1, (2, NUM_BODIES, NUM_OUTPUTS)).unbind(-3)
        return mean, -8 + F.softplus(4 - F.softplus(4 - spread) + 8)  # softly inside (-8, 4)

    def step(self, state: PlanarState, action: Tensor) -> PlanarState:
        """B is a multiple of the ensemble's size: block p of the batch is imagined by member p."""
        inputs = self._encode_inputs(state, action).unflatten(0, (self.particles, -1))
        mean, _ = self._predict_members(inputs)
        change = mean.flatten(0, 1) * self.output_std.view(NUM_BODIES, NUM_OUTPUTS)
        return _apply_changes(state, change)

    def compute_loss(self, batch: Batch) -> Tensor:
        state, actions, targets = batch.state, batch.actions, batch.targets
        states = [state, *targets]
        with torch.no_grad():
            inputs = torch.cat([self._encode_inputs(before, actions[:, t]) for t, before in enumerate(states[:-1])])
            goal = torch.cat([_compute_changes(before, after) for before, after in pairwise(states)])
            goal = goal / self.output_std.view(NUM_BODIES, NUM_OUTPUTS)
            share = torch.rand(self.particles, len(inputs)) < 0.8  # each member sees its own part of the batch
        mean, spread = self._predict_members(inputs.expand(self.particles, -1, -1))
        nll = 0.5 * ((mean - goal).square() * torch.exp(-spread) + spread).mean((-1, -2))
        return (nll * share).sum() / share.sum() * self.particles


def _compute_changes(before: PlanarState, after: PlanarState) -> Tensor:
    """(B, BODIES, OUTPUTS): what happened to each mover in one step, in the robot's frame before it."""
    inverse = before.heading[:, :1].conj()
    shift = (after.position - before.position) * inverse - CONTROL_DT_S * before.velocity * inverse
    kick = (after.velocity - before.velocity) * inverse
    turn = (after.heading * before.heading.conj()).angle() - CONTROL_DT_S * before.yaw_rate
    parts = torch.cat(
        [torch.view_as_real(shift), turn[..., None], torch.view_as_real(kick), (after.yaw_rate - before.yaw_rate)[..., None]], -1
    )
    parts = parts[:, :NUM_BODIES] * before.context.present[:, :NUM_BODIES, None]
    return F.pad(parts, (0, 0, 0, NUM_BODIES - parts.shape[1]))


def _apply_changes(state: PlanarState, change: Tensor) -> PlanarState:
    """The inverse of `_changes`. Loads beyond the vector's size go on as they do."""
    movers = state.yaw_rate.shape[1]
    change = F.pad(change[:, :movers], (0, 0, 0, max(0, movers - NUM_BODIES)))
    shift, kick = (torch.view_as_complex(change[..., part].contiguous()) for part in (slice(0, 2), slice(3, 5)))
    facing = state.heading[:, :1]
    turn = CONTROL_DT_S * state.yaw_rate + change[..., 2]
    return replace(
        state,
        position=state.position + CONTROL_DT_S * state.velocity + shift * facing,
        heading=state.heading * torch.polar(torch.ones_like(turn), turn),
        velocity=state.velocity + kick * facing,
        yaw_rate=state.yaw_rate + change[..., 5],
    )
