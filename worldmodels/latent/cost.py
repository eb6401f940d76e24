"""cost: predicts the task's cost of candidate actions, and no bodies.

An encoder computes a hidden state from the vector observation and the cost. A recurrent network
updates the hidden state with each action. A linear layer computes the change of cost from it.
The model is an ensemble: its members are trained on the same windows, and each is a particle.
Sources: Silver et al. 2017, "The predictron: end-to-end learning and planning"; Oh et al. 2017,
"Value prediction network".
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.bodies import Bodies
from sim.data.episode import Episode
from sim.scenes.scene import scenes
from sim.sensors.flat import compute_flat_vector
from sim.utils.errors import GroundError
from worldmodels.model import LearnedModel, Prediction, models
from worldmodels.training.windows import Batch, EpisodeWindows, JointWindows


@dataclass(frozen=True)
class CostConfig:
    """Sizes of the model."""

    num_members: int = 3
    hidden_size: int = 128
    action_size: int = 2
    # Length of the vector observation by scene. None: set by the training data.
    input_sizes: dict[str, int] | None = None

    def __post_init__(self) -> None:
        if min(self.num_members, self.hidden_size, self.action_size, *(self.input_sizes or {}).values()) < 1:
            raise GroundError(f"sizes of the model 'cost' must be positive, not {self}")


@dataclass(frozen=True)
class CostState:
    """Vector observations and costs of W states of one scene."""

    vector: Tensor  # (W, F) of `compute_flat_vector`
    cost: Tensor  # (W,) in the task's cost unit
    scene: str = ""


class CostWindows(EpisodeWindows):
    """Windows of flat vectors and costs."""

    def __init__(self, episodes: Iterable[Episode], scene: str) -> None:
        """Decode episodes of a scene.

        Raises:
            GroundError: an episode has no cost labels.
        """
        self.scene = scene
        super().__init__(episodes)

    def load(self, episodes: list[Episode]) -> None:
        """Decode episodes into tensors with one row per step, in the order of the episodes.

        Raises:
            GroundError: an episode has no cost labels.
        """
        task = scenes[self.scene].task
        vectors = []
        for episode in episodes:
            if episode.cost is None:
                raise GroundError("the model 'cost' learns from episodes with cost labels")
            count = len(episode.half_extents)
            vectors += [compute_flat_vector(episode.make_observation(t), task, count) for t in range(len(episode))]
        self.vector = torch.as_tensor(np.stack(vectors))
        self.cost = torch.as_tensor(np.concatenate([np.float32(episode.cost) for episode in episodes]))
        self.action = torch.as_tensor(np.concatenate([np.float32(episode.action) for episode in episodes]))

    def take(self, rows: np.ndarray, length: int) -> Batch:
        """Take windows of steps.

        Args:
            rows: (W,) row of each window's first state.
            length: number of steps L.

        Returns:
            First states, actions (W, L, A), and as targets the cost (W,) after each action.
        """
        first = torch.as_tensor(rows)
        steps = first[:, None] + torch.arange(length + 1)
        costs = list(self.cost[steps[:, 1:]].unbind(1))
        return Batch(CostState(self.vector[first], self.cost[first], self.scene), self.action[steps[:, :-1]], costs)


class _Encoder(nn.Module):
    """Encoder of one scene: from W states to the first hidden state (W, hidden_size) per member."""

    mean: Tensor
    std: Tensor
    cost_scale: Tensor

    def __init__(self, config: CostConfig, size: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(size + 1, config.hidden_size), nn.SiLU(), nn.Linear(config.hidden_size, config.hidden_size))
            for _ in range(config.num_members)
        )
        self.register_buffer("mean", torch.zeros(size + 1))
        self.register_buffer("std", torch.ones(size + 1))
        self.register_buffer("cost_scale", torch.ones(()))

    def forward(self, state: CostState) -> list[Tensor]:
        inputs = ((torch.cat([state.vector, state.cost[:, None]], -1) - self.mean) / self.std).clamp(-5, 5)
        return [torch.tanh(layer(inputs)) for layer in self.layers]


@models.add("cost")
class CostModel(LearnedModel):
    """Recurrent model of the cost.

    The predicted cost includes the violation penalty. Bodies and the kinds of violation are not
    predicted.
    """

    name = "cost"

    def __init__(self, config: CostConfig | None = None, **sizes: Any) -> None:
        super().__init__()
        self._build(config or CostConfig(**sizes))

    def _build(self, config: CostConfig) -> None:
        self.cost_config = config
        self.particles = config.num_members
        sizes = sorted((config.input_sizes or {}).items())
        self.encoders = nn.ModuleDict({scene: _Encoder(config, size) for scene, size in sizes})
        members = range(config.num_members)
        self.dynamics = nn.ModuleList(nn.GRU(config.action_size, config.hidden_size, batch_first=True) for _ in members)
        self.heads = nn.ModuleList(nn.Linear(config.hidden_size, 1) for _ in members)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return asdict(self.cost_config)

    @classmethod
    def make_windows(cls, episodes: Iterable[Episode], scene: str) -> CostWindows:
        """Decode episodes into windows of flat vectors and costs."""
        return CostWindows(episodes, scene)

    def fit_normalisation(self, windows: EpisodeWindows | JointWindows) -> None:
        """Size the encoders for the data, and normalise their inputs."""
        parts = {part.scene: part for part in windows.parts.values() if isinstance(part, CostWindows)}
        action_size = next(iter(parts.values())).action.shape[1]
        input_sizes = {scene: part.vector.shape[1] for scene, part in parts.items()}
        self._build(replace(self.cost_config, action_size=action_size, input_sizes=input_sizes))
        for scene, part in parts.items():
            encoder = self._get_encoder(scene)
            inputs = torch.cat([part.vector, part.cost[:, None]], -1)
            encoder.mean.copy_(inputs.mean(0))
            encoder.std.copy_(inputs.std(0).clamp(min=1e-2))
            # A third is the median of the scaled changes: asinh is nearly linear for most of them.
            encoder.cost_scale.copy_(3 * part.cost.diff().abs().median().clamp(min=1e-3))

    def _get_encoder(self, scene: str) -> _Encoder:
        if scene not in self.encoders:
            raise GroundError(f"the model 'cost' was trained on {', '.join(self.encoders) or 'nothing'}, not on '{scene}'")
        encoder = self.encoders[scene]
        assert isinstance(encoder, _Encoder)
        return encoder

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> CostState:
        """Compute the flat vector and the cost of an observation.

        Args:
            observation: of GroundEnv.

        Returns:
            One state. Its cost includes the violation penalty.
        """
        name = self.scene or next(iter(self.encoders), "")
        bodies = Bodies.from_observation(observation)
        task = scenes[name].task
        field = task.get_cost_field(bodies, observation["goal"])
        cost = task.compute_cost(bodies, np.zeros(self.cost_config.action_size), observation["goal"], field)
        cost = cost + task.compute_violation_penalty(bodies, np.zeros(3), field)
        vector = compute_flat_vector(dict(observation), task, scenes[name].max_dynamic)
        return CostState(torch.as_tensor(vector[None]), torch.as_tensor(np.array([cost], np.float32)), name)

    def rollout_batch(self, states: Sequence[CostState], actions: Sequence[Tensor]) -> list[Prediction]:
        """Predict the costs of the candidates of each state.

        Args:
            states: E states.
            actions: for each state, candidates (B, H, A) in [-1, 1].

        Returns:
            Costs (P, B, H) for each state.
        """
        return [self._rollout(state, candidates) for state, candidates in zip(states, actions, strict=True)]

    def _rollout(self, state: CostState, actions: Tensor) -> Prediction:
        with torch.inference_mode(not actions.requires_grad):
            return Prediction(cost=self.predict_costs(state, actions))

    def predict_costs(self, state: CostState, actions: Tensor) -> Tensor:
        """Predict costs. The result is differentiable with respect to the actions.

        Args:
            state: W states, or one state for all actions.
            actions: (W, H, A) in [-1, 1].

        Returns:
            (P, W, H) in the task's cost unit, at least 0.
        """
        changes = torch.sinh(self._predict_changes(state, actions))
        return F.relu(state.cost[:, None] + self._get_encoder(state.scene).cost_scale * changes)

    def _predict_changes(self, state: CostState, actions: Tensor) -> Tensor:
        """Predict asinh(change / cost_scale) of the cost (P, W, H), relative to the first state."""
        changes = []
        encoded = self._get_encoder(state.scene)(state)
        for first_hidden, dynamics, head in zip(encoded, self.dynamics, self.heads, strict=True):
            hidden, _ = dynamics(actions, first_hidden.expand(len(actions), -1)[None].contiguous())
            changes.append(head(hidden)[..., 0])
        return torch.stack(changes)

    def compute_loss(self, batch: Batch) -> Tensor:
        """Compute the mean smooth L1 error of asinh(change / cost_scale) in W windows.

        The function asinh grows slowly, so that rare jumps of the cost do not dominate the loss.

        Returns:
            () loss.
        """
        changes = torch.stack(batch.targets, 1) - batch.state.cost[:, None]
        target = torch.asinh(changes / self._get_encoder(batch.state.scene).cost_scale)
        predicted = self._predict_changes(batch.state, batch.actions)
        return F.smooth_l1_loss(predicted, target.expand_as(predicted))

    @torch.inference_mode()
    def compute_validation_error(self, batch: Batch) -> float:
        """Compute the median error of the cost at the end of the windows [mm]."""
        error = self.predict_costs(batch.state, batch.actions).mean(0)[:, -1] - batch.targets[-1]
        return 1e3 * scenes[batch.state.scene].task.cost_unit_m * float(error.abs().median())

    def describe_validation(self, batch: Batch, dynamic_noun: str) -> str:
        """Name the error of `compute_validation_error`."""
        return "cost error"
