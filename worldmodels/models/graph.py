"""graph: message passing over bodies, everything in each body's own frame.

Object-centric after Battaglia et al. 2016 ("Interaction networks") and Sanchez-Gonzalez et al. 2020 ("Learning to simulate").
Each mover hears static boxes through the closest point on them and other movers through closest points on both, within a cut-off;
messages are summed, so the number of bodies does not matter, and nothing sees where the origin is. Each message says where two
bodies would touch and how fast they close in there, and pushes there, so that levers need not be learned: without both, a load's
error after 2 s is a quarter larger. Trained over several steps.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.errors import GroundError
from sim.policy import EpisodeStart
from worldmodels.compiled import Compiled
from worldmodels.model import LearnedModel, models
from worldmodels.planar import KINDS, PlanarState, still
from worldmodels.vectors import across, cross, gap, heading_of_angle, inverse, outside, turned

DT_S = 0.1
FRESH = torch.contiguous_format
SPEED, GAP, LEVER = 0.5, 0.1, 0.2  # typical speed [m/s], gap and lever [m] where contact matters
EDGE = 0.01  # how softly the one closest point gives way to the other [m]
ERROR_SCALES = (0.01, 0.025, 0.05, 0.15)  # position [m], heading [rad], velocity [m/s], spin [rad/s] that count alike


@dataclass(frozen=True)
class GraphConfig:
    hidden: int = 96
    edge: int = 48
    cutoff_m: float = 0.5

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.edge < 1 or self.cutoff_m <= 0:
            raise GroundError(f"graph sizes must be positive, not {self}")


class _Scene(NamedTuple):
    """What stays as it is through all steps of a rollout. E is the batch, or 1 for one scene imagined many times."""

    core: Tensor  # (E, M, 2) half extents of each mover's box [m]
    rounding: Tensor  # (E, M) radius around the box [m]
    pair: Tensor  # (E, M, M, 2 * edge) what each mover's shape means to each other
    pair_present: Tensor  # (E, M, M), zero on the diagonal
    static_centre: Tensor  # (E, S, 2) [m]
    static_heading: Tensor  # (E, S, 2)
    static_half: Tensor  # (E, S, 2) [m]
    static_present: Tensor  # (E, S)


class _Motion(NamedTuple):
    """B scenes of M movers, as real pairs in the world frame."""

    position: Tensor  # (B, M, 2) [m]
    heading: Tensor  # (B, M, 2)
    velocity: Tensor  # (B, M, 2) [m/s]
    spin: Tensor  # (B, M) [rad/s]


class _Contact(NamedTuple):
    """Where bodies would touch, in the frame of the one that hears of it."""

    point: Tensor  # (..., 2) from its centre [m]
    normal: Tensor  # (..., 2) unit, out of it
    length: Tensor  # (...) between the two [m]

    def features(self, speed: Tensor) -> Tensor:
        """(..., 7) from the speed (..., 2) of the other's point against its own, and how far apart they will be."""
        closing = -(speed * self.normal).sum(-1)
        sliding, lever = cross(speed, self.normal), cross(self.point, self.normal)
        lengths = torch.stack([self.length, self.length - DT_S * closing], -1)
        rest = torch.stack([closing / SPEED, sliding / SPEED, lever / LEVER], -1)
        return torch.cat([self.normal, _scaled(lengths), rest], -1)

    def pushed(self, along: Tensor) -> Tensor:
        """(B, M, 6): displacement and change of velocity, and the turn and change of spin that come with them, of pushes
        (B, M, N, 4) at the points, along the normal and to its left."""
        tangent = across(self.normal)
        shift, kick = (along[..., i : i + 1] * self.normal + along[..., i + 1 : i + 2] * tangent for i in (0, 2))
        torque = torch.stack([cross(self.point, shift), cross(self.point, kick)], -1)
        return torch.cat([shift, kick, torque], -1).sum(2)


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
        self.static_edge = nn.Linear(9, edge, bias=False)  # on many rows, where a bias would cost a copy
        self.pair_bodies = nn.Linear(2 * body, 2 * edge)
        self.pair_edge = nn.Linear(19, 2 * edge, bias=False)  # both rounds
        self.first = nn.Linear(2 * edge, hidden)
        self.second_ends = nn.Linear(hidden, 2 * edge, bias=False)
        self.second = nn.Linear(hidden + edge, hidden)
        self.head = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 6)
        self.static_push, self.pair_push = (nn.Linear(edge, 4, bias=False) for _ in range(2))
        self._advance_compiled = Compiled(self._advance)
        for values in (self.out.weight, self.out.bias, self.static_push.weight, self.pair_push.weight):
            nn.init.zeros_(values)

    def config(self) -> dict[str, Any]:
        return asdict(self.sizes)

    def start_episode(self, start: EpisodeStart) -> None:
        """Compile now for as many bodies as there are, not within the first decision."""
        if self.compiled:
            self.rollout(still(1 + len(start.layout.loads), 4), torch.zeros(2, 2, 2))

    def imagine(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        scene, nodes = self._scene(state), self._nodes(state, actions).unbind(1)
        position, heading, velocity = (torch.view_as_real(part) for part in (state.position, state.heading, state.velocity))
        motion = _Motion(position, heading, velocity, state.spin)
        advance: Callable[..., _Motion] = self._advance
        if self.compiled and len(scene.core) == 1 and not nodes[0].requires_grad:
            advance, (motion, scene) = self._advance_compiled, _of_any_size(motion, scene, nodes[0])
        states = []
        for node in nodes:
            motion = advance(motion, scene, node)
            position, heading, velocity = (torch.view_as_complex(part) for part in motion[:3])
            states.append(PlanarState(position, heading, velocity, motion.spin, state.around))
        return states

    def step(self, state: PlanarState, action: Tensor) -> PlanarState:
        return self.imagine(state, action[:, None])[0]

    def _bodies(self, state: PlanarState) -> Tensor:
        """(E, M, 3 + KINDS): what each mover is."""
        around = state.around
        return torch.cat([around.core, around.rounding[..., None], around.kind], -1)

    def _nodes(self, state: PlanarState, actions: Tensor) -> Tensor:
        """(B, H, M, hidden): what each mover is and, the robot, is told to do."""
        movers, bodies = state.spin.shape[1], self._bodies(state)
        command = F.pad((actions * state.around.limits[:, None])[:, :, None], (0, 0, 0, movers - 1))  # the robot's row
        return self.body(torch.cat([bodies[:, None].expand(*command.shape[:2], -1, -1), command], -1))

    def _scene(self, state: PlanarState) -> _Scene:
        around, movers, bodies = state.around, state.spin.shape[1], self._bodies(state)
        mine, theirs = bodies[:, :, None].expand(-1, -1, movers, -1), bodies[:, None].expand(-1, movers, -1, -1)
        return _Scene(
            core=around.core,
            rounding=around.rounding,
            pair=self.pair_bodies(torch.cat([mine, theirs], -1)),
            pair_present=around.present[:, :, None] * around.present[:, None] * (1 - torch.eye(movers)),
            static_centre=torch.view_as_real(around.static_centre),
            static_heading=torch.view_as_real(around.static_heading),
            static_half=around.static_half,
            static_present=around.static_present,
        )

    def _advance(self, state: _Motion, scene: _Scene, node: Tensor) -> _Motion:
        """One step: two rounds of messages, then each body's change of motion in its own frame."""
        back = inverse(state.heading)
        own = turned(state.velocity, back)
        node = node + self.motion(torch.cat([own, state.spin[..., None]], -1))
        receive_static, receive, send = self.ends(F.relu(node)).chunk(3, -1)
        pairs, near, contact = self._pairs(state, scene, back)
        pair_first, pair_second = pairs.chunk(2, -1)
        static, pushed = self._from_static(state, scene, back, own, receive_static)
        heard = _messages(pair_first, receive, send, near).sum(2)
        hidden = self.first(torch.cat([static, heard], -1)).add_(node).relu_()
        receive, send = self.second_ends(hidden).chunk(2, -1)
        messages = _messages(pair_second, receive, send, near)
        pushed = pushed + contact.pushed(self.pair_push(messages))
        hidden = self.second(torch.cat([hidden, messages.sum(2)], -1)).relu_() + hidden
        out = self.out(self.head(hidden).relu_())
        gyration = scene.core.square().sum(-1) / 3 + scene.rounding.square() / 2  # of a solid box, of a disc [m²]
        moves = out[..., :4] + pushed[..., :4]
        shift, kick = moves[..., :2], moves[..., 2:]
        turn, twist = (out[..., 4:] + SPEED * pushed[..., 4:] / gyration.clamp(min=1e-4)[..., None]).unbind(-1)
        moved = turned(torch.stack([DT_S * (own + SPEED * shift), own + SPEED * kick], -2), state.heading[..., None, :])
        return _Motion(
            position=state.position + moved[..., 0, :],
            heading=turned(state.heading, heading_of_angle(DT_S * (state.spin + turn))),
            velocity=moved[..., 1, :].contiguous(),
            spin=state.spin + twist,
        )

    def _from_static(self, state: _Motion, scene: _Scene, back: Tensor, own: Tensor, receive: Tensor) -> tuple[Tensor, Tensor]:
        """What static boxes near each mover tell it (B, M, edge), by the closest point on each, and how they push (B, M, 6)."""
        heading, half, core = scene.static_heading[:, None], scene.static_half[:, None], scene.core[:, :, None]
        rounding = scene.rounding[..., None]
        local = turned(state.position[:, :, None] - scene.static_centre[:, None], inverse(heading))
        nearest = torch.clamp(local, -half, half) - local
        nearest = turned(nearest, turned(heading, back[:, :, None]))  # from the mover to the box, own frame
        length, normal = gap(nearest, core, rounding)
        point = core * (5 * normal).clamp(-1, 1) + rounding[..., None] * normal  # the corner that is nearest, or within a face
        contact = _Contact(point, normal, length)
        speed = -own[:, :, None] - state.spin[:, :, None, None] * across(point)
        to_me = outside(nearest, core) / GAP  # where a corner of theirs would touch
        edges = self.static_edge(torch.cat([contact.features(speed), to_me.clamp(-5, 5)], -1))
        near = self._nearness(length) * scene.static_present[:, None]
        messages = edges.add_(receive[:, :, None]).relu_() * near[..., None]
        return messages.sum(2), contact.pushed(self.static_push(messages))

    def _pairs(self, state: _Motion, scene: _Scene, back: Tensor) -> tuple[Tensor, Tensor, _Contact]:
        """Edges (B, M, M, 2 * edge) from every mover (dim 2) to every other (dim 1), their weights (B, M, M), and contacts."""
        offset, speed = (values[:, None] - values[:, :, None] for values in (state.position, state.velocity))
        back = back[:, :, None]
        facing = turned(state.heading[:, None], back)
        offset, speed = turned(offset, back), turned(speed, back)
        core, rounding = scene.core, scene.rounding
        away = inverse(facing)
        to_them = -turned(outside(-turned(offset, away), core[:, None]), facing)  # from my centre to their box
        to_me = outside(offset, core[:, :, None])  # from my box to their centre
        ahead, out = gap(to_them, core[:, :, None], rounding[..., None])
        behind, into = gap(turned(to_me, away), core[:, None], rounding[:, None])
        ahead, behind = ahead - rounding[:, None], behind - rounding[..., None]
        mine = torch.sigmoid((ahead - behind) / EDGE)[..., None]  # whether a corner of theirs would touch my face, or the reverse
        normal = torch.lerp(turned(into, facing), out, mine)
        contact = _Contact(torch.lerp(offset - to_me, to_them, mine), normal, torch.maximum(ahead, behind))
        lever = contact.point - offset
        spin = state.spin[:, None, :, None].expand(-1, ahead.shape[1], -1, -1)
        at = speed + spin * across(lever) - state.spin[:, :, None, None] * across(contact.point)
        levers = torch.stack([cross(lever, normal) / LEVER, spin[..., 0]], -1)
        features = torch.cat([offset, facing, speed, to_them, to_me, contact.features(at), levers], -1)
        return self.pair_edge(features) + scene.pair, self._nearness(contact.length) * scene.pair_present, contact

    def _nearness(self, gap: Tensor) -> Tensor:
        return (1 - gap / self.sizes.cutoff_m).clamp(0, 1)

    def loss(self, state: PlanarState, actions: Tensor, targets: list[PlanarState]) -> Tensor:
        total = torch.zeros(())
        for predicted, true in zip(self.imagine(state, actions), targets, strict=True):
            total = total + step_error(predicted, true)
        return total / len(targets)


def _of_any_size(motion: _Motion, scene: _Scene, node: Tensor) -> tuple[_Motion, _Scene]:
    """Tell the compiler that the numbers of candidates and boxes change. What would be compiled anew is avoided: fewer than two
    boxes, and a first state whose memory differs from that of later ones."""
    missing = max(0, 2 - scene.static_present.shape[1])
    boxes = [F.pad(values, (0,) * (2 * values.ndim - 3) + (missing,)).clone(memory_format=FRESH) for values in scene[-4:]]
    motion, scene = _Motion(*(values.clone() for values in motion)), _Scene(*scene[:-4], *boxes)
    for values in (*motion, node):
        torch._dynamo.maybe_mark_dynamic(values, 0)
    for values in boxes:
        torch._dynamo.maybe_mark_dynamic(values, 1)
    return motion, scene


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


def _scaled(gap: Tensor) -> Tensor:
    return (gap / GAP).clamp(-3, 5)


def _messages(edges: Tensor, receive: Tensor, send: Tensor, near: Tensor) -> Tensor:
    """(B, M, M, edge): what the others (dim 2) tell each mover."""
    return (edges + receive[:, :, None]).add_(send[:, None]).relu_() * near[..., None]
