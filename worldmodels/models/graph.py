"""graph: message passing over bodies, everything in each body's own frame.

Object-centric after Battaglia et al. 2016 ("Interaction networks") and Sanchez-Gonzalez et al. 2020 ("Learning to simulate").
Each mover hears static boxes through the closest point on them and other movers through closest points on both, within a cut-off;
messages are summed, so the number of bodies does not matter, and nothing sees where the origin is. Trained over several steps.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.errors import GroundError
from worldmodels.model import LearnedModel, models
from worldmodels.planar import KINDS, PlanarState

DT_S = 0.1
SPEED, GAP = 0.5, 0.1  # typical speed [m/s] and gap [m] where contact matters
ERROR_SCALES = (0.02, 0.05, 0.1, 0.3)  # position [m], heading [rad], velocity [m/s], spin [rad/s] that count alike


@dataclass(frozen=True)
class GraphConfig:
    hidden: int = 96
    edge: int = 48
    cutoff_m: float = 0.5

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.edge < 1 or self.cutoff_m <= 0:
            raise GroundError(f"graph sizes must be positive, not {self}")


@dataclass(frozen=True)
class _Constant:
    """What the network makes of the surroundings and of the actions, computed once for all steps of a rollout."""

    node: Tensor  # (B, H, M, hidden)
    pair: Tensor  # (E, M, M, 2 * edge)
    pair_present: Tensor  # (E, M, M), zero on the diagonal
    to_static: Tensor  # (E, 1, S) complex, conjugate headings of the boxes


@models.add("graph")
class GraphModel(LearnedModel):
    name = "graph"

    def __init__(self, config: GraphConfig | None = None, **sizes: Any) -> None:
        super().__init__()
        self.sizes = config or GraphConfig(**sizes)
        hidden, edge = self.sizes.hidden, self.sizes.edge
        body = 3 + KINDS  # core, rounding, kind
        self.body = nn.Linear(body + 2, hidden)  # with the action
        self.motion = nn.Linear(3, hidden, bias=False)
        self.ends = nn.Linear(hidden, 3 * edge)  # static receiver, pair receiver, pair sender
        self.static_edge = nn.Linear(5, edge, bias=False)  # on many rows, where a bias would cost a copy
        self.pair_bodies = nn.Linear(2 * body, 2 * edge)
        self.pair_edge = nn.Linear(12, 2 * edge, bias=False)  # both rounds
        self.first = nn.Linear(2 * edge, hidden)
        self.second_ends = nn.Linear(hidden, 2 * edge, bias=False)
        self.second = nn.Linear(hidden + edge, hidden)
        self.head = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 6)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def config(self) -> dict[str, Any]:
        return asdict(self.sizes)

    def imagine(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        constant = self._constant(state, actions)
        states = []
        for t in range(actions.shape[1]):
            state = self._advance(state, constant, constant.node[:, t])
            states.append(state)
        return states

    def step(self, state: PlanarState, action: Tensor) -> PlanarState:
        return self.imagine(state, action[:, None])[0]

    def _constant(self, state: PlanarState, actions: Tensor) -> _Constant:
        around, movers = state.around, state.spin.shape[1]
        bodies = torch.cat([around.core, around.rounding[..., None], around.kind], -1)  # (E, M, body)
        command = F.pad((actions * around.limits[:, None])[:, :, None], (0, 0, 0, movers - 1))  # (B, H, M, 2), the robot's row
        told = torch.cat([bodies[:, None].expand(*command.shape[:2], -1, -1), command], -1)
        mine, theirs = bodies[:, :, None].expand(-1, -1, movers, -1), bodies[:, None].expand(-1, movers, -1, -1)
        present = around.present[:, :, None] * around.present[:, None] * (1 - torch.eye(movers))
        return _Constant(
            node=self.body(told),
            pair=self.pair_bodies(torch.cat([mine, theirs], -1)),
            pair_present=present,
            to_static=around.static_heading[:, None].conj().resolve_conj(),
        )

    def _advance(self, state: PlanarState, constant: _Constant, node: Tensor) -> PlanarState:
        """One step: two rounds of messages, then each body's change of motion in its own frame."""
        inverse = state.heading.conj().resolve_conj()
        own = state.velocity * inverse
        moving = torch.cat([torch.view_as_real(own), state.spin[..., None]], -1)
        node = node + self.motion(moving)
        receive_static, receive, send = self.ends(F.relu(node)).chunk(3, -1)
        pairs, near = self._pairs(state, constant, inverse)
        pair_first, pair_second = pairs.chunk(2, -1)
        static = self._from_static(state, constant, inverse, receive_static)
        heard = _messages(pair_first, receive, send, near)
        hidden = self.first(torch.cat([static, heard], -1)).add_(node).relu_()
        receive, send = self.second_ends(hidden).chunk(2, -1)
        heard = _messages(pair_second, receive, send, near)
        hidden = self.second(torch.cat([hidden, heard], -1)).relu_() + hidden
        out = self.out(self.head(hidden).relu_())
        shift, kick = torch.view_as_complex(out[..., :4].unflatten(-1, (2, 2))).unbind(-1)
        turn, twist = out[..., 4], out[..., 5]
        return state.moved(DT_S * (own + SPEED * shift), DT_S * (state.spin + turn), own + SPEED * kick, state.spin + twist)

    def _from_static(self, state: PlanarState, constant: _Constant, inverse: Tensor, receive: Tensor) -> Tensor:
        """(B, M, edge): what static boxes near each mover tell it, by the closest point on each."""
        around = state.around
        local = torch.view_as_real((state.position[..., None] - around.static_centre[:, None]) * constant.to_static)
        half = around.static_half[:, None]
        nearest = torch.view_as_complex(torch.clamp(local, -half, half) - local)
        nearest = nearest * around.static_heading[:, None] * inverse[..., None]  # from the mover to the box, own frame
        gap, normal = _gap(nearest, around.core[:, :, None], around.rounding[..., None])
        near = self._nearness(gap) * around.static_present[:, None]
        to_me = torch.view_as_real(_outside(nearest, around.core[:, :, None])) / GAP  # where a corner of theirs would touch
        edges = self.static_edge(torch.cat([normal, _scaled(gap), to_me.clamp(-5, 5)], -1))
        return (near[..., None, :] @ edges.add_(receive[:, :, None]).relu_()).squeeze(-2)

    def _pairs(self, state: PlanarState, constant: _Constant, inverse: Tensor) -> tuple[Tensor, Tensor]:
        """Edges (B, M, M, 2 * edge) from every mover (dim 2) to every other (dim 1), and their weights (B, M, M)."""
        around, inverse = state.around, inverse[..., None]
        offset = (state.position[:, None] - state.position[..., None]) * inverse
        turned = state.heading[:, None] * inverse
        speed = (state.velocity[:, None] - state.velocity[..., None]) * inverse
        core, rounding = around.core, around.rounding
        back = turned.conj().resolve_conj()
        to_them = -_outside(-offset * back, core[:, None]) * turned  # from my centre to their box
        to_me = _outside(offset, core[:, :, None])  # from my box to their centre
        ahead, _ = _gap(to_them, core[:, :, None], rounding[..., None])
        behind, _ = _gap(to_me * back, core[:, None], rounding[:, None])
        gap = torch.maximum(ahead - rounding[:, None], behind - rounding[..., None])
        near = self._nearness(gap) * constant.pair_present
        vectors = torch.view_as_real(torch.stack([offset, turned, speed, to_them, to_me], -1)).flatten(-2)
        spin = state.spin[:, None, :, None].expand(-1, gap.shape[1], -1, -1)
        return self.pair_edge(torch.cat([vectors, _scaled(gap), spin], -1)) + constant.pair, near

    def _nearness(self, gap: Tensor) -> Tensor:
        return (1 - gap / self.sizes.cutoff_m).clamp(0, 1)

    def loss(self, state: PlanarState, actions: Tensor, targets: list[PlanarState]) -> Tensor:
        total = torch.zeros(())
        for predicted, true in zip(self.imagine(state, actions), targets, strict=True):
            total = total + step_error(predicted, true)
        return total / len(targets)


def step_error(predicted: PlanarState, true: PlanarState) -> Tensor:
    """Robust error of one step, averaged over the bodies that are there: contact makes tails that squares would follow."""
    position, heading, velocity, spin = ERROR_SCALES
    zero = torch.zeros_like(true.spin)

    def huber(error: Tensor, scale: float) -> Tensor:
        return F.smooth_l1_loss(error / scale, zero, reduction="none")

    error = (
        huber((predicted.position - true.position).abs(), position)
        + huber((predicted.heading * true.heading.conj()).imag, heading)
        + 0.5 * huber((predicted.velocity - true.velocity).abs(), velocity)
        + 0.5 * huber(predicted.spin - true.spin, spin)
    )
    present = true.around.present
    return (error * present).sum() / present.expand_as(error).sum()


def _outside(point: Tensor, half: Tensor) -> Tensor:
    """From a box about the origin to a point, complex; zero inside."""
    xy = torch.view_as_real(point)
    return torch.view_as_complex(xy - torch.clamp(xy, -half, half))


def _gap(reach: Tensor, core: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """Length of a vector beyond a rounded box's own extent along it [m], and its direction (..., 2)."""
    distance = reach.abs()
    normal = torch.view_as_real(reach) / distance.clamp(min=1e-4)[..., None]
    return distance - (normal.abs() * core).sum(-1) - rounding, normal


def _scaled(gap: Tensor) -> Tensor:
    return (gap / GAP).clamp(-3, 5)[..., None]


def _messages(edges: Tensor, receive: Tensor, send: Tensor, near: Tensor) -> Tensor:
    """(B, M, edge): the sum of what the others tell each mover."""
    return ((edges + receive[:, :, None]).add_(send[:, None]).relu_() * near[..., None]).sum(2)
