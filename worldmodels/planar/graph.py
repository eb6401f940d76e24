"""graph: message passing over bodies, everything in each body's own frame.

Object-centric after Battaglia et al. 2016 ("Interaction networks") and Sanchez-Gonzalez et al. 2020 ("Learning to simulate").
Each mover hears static boxes through the closest point on them and other movers through closest points on both, within a cut-off;
messages are summed, so the number of bodies does not matter, and nothing sees where the origin is. Each message says where two
bodies would touch and how fast they close in there, and pushes there, so that levers need not be learned: without both, a load's
error after 2 s is a quarter larger. Trained over several steps.

Who gives way changes its velocity just enough to pass at some distance. Which change that would be is geometry, and a feature;
the distance, how far ahead it is kept, how fast it can change, and whether it minds the other, are learned. Whatever else it
is up to is then cut to what its detours allow: where they were one push among others, whims carried people through them, and
of the plans that meet nobody in 16 futures twice as many met somebody in truth.

What traffic is up to cannot be seen, so its future is several: each mover of it has a whim, normal random numbers that change
within seconds, and an intent that it makes of this and of how things stand when a rollout begins, which lasts. And it sees the
robot or does not: who does not hears nothing of it and goes on; who does keeps out of its way, exactly. How likely that is the
model guesses from how things stand, and `minds` from what each has done. Two futures are imagined of each window in which a mover
sees the robot and two in which it does not, and the energy score of all as a mixture is the loss (Gneiting and Raftery 2007,
"Strictly proper scoring rules"; Bouchacourt et al. 2016, "DISCO nets"): the distance to what came, less half of that between
futures. It is least where futures come as often as imagined. (Where seeing was one whim among others, the distance that was
learned lay between that of those who kept it and of those who did not.)
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.bodies import DT_S, TRAFFIC, Bodies, Kind
from sim.policy import EpisodeStart
from sim.utils.errors import GroundError
from worldmodels.model import LearnedModel, models
from worldmodels.planar.attention import WHIM, WHIMS, Belief, believed, decided, drawn, seers, whims_over
from worldmodels.planar.composition import alone, beside, chosen, representatives
from worldmodels.planar.contacts import GAP, LEVER, SPEED, Contact, Detour, detour_of, limited, way_given
from worldmodels.planar.rollout import Fixed, Motion, gyration_of, in_pieces, of_any_size, pairs_of, per_body, per_piece
from worldmodels.planar.scores import mixed_scores, step_errors
from worldmodels.planar.state import KINDS, NEAREST, PlanarState, Surroundings, commanded, repeated, still
from worldmodels.planar.vectors import across, cross, gap, heading_of_angle, inverse, outside, turned
from worldmodels.training.compile import Compiled
from worldmodels.training.joint import JointWindows
from worldmodels.training.windows import Windows

FUTURES = 16  # of traffic, that are imagined
PLANS = 4  # of the robot, beside each of which they are
ROOM, SOON_S = 0.08, 1.5  # that those who give way keep, in the scene's unit, and for how long: both are learned from here on
SHARE, AGILITY = 0.5, 0.04  # of a detour that each takes upon itself, and how far it changes its velocity in a step [units/s]
SURE, MOSTLY = 8.0, 0.25  # one minds others or does not, and nothing between; and does before anything is learned
DEEP = 0.08  # change of velocity [units/s] that is a typical detour
EDGE = 0.01  # how softly the one closest point gives way to the other [m]
FASTEST = (5.0, 12.0)  # [units/s, rad/s] that nothing imagined exceeds where no data tell
BEYOND = 1.5  # times as fast as nearly all of its kind in the data: what is too fast would else make more of it in the next step


@dataclass(frozen=True)
class GraphConfig:
    hidden: int = 96
    edge: int = 48
    cutoff_m: float = 0.5  # gap from which on bodies do not touch soon, in the scene's units as the next one
    sight_m: float = 1.1  # from which on traffic gives way to nobody

    def __post_init__(self) -> None:
        if self.hidden < 1 or self.edge < 1 or min(self.cutoff_m, self.sight_m) <= 0:
            raise GroundError(f"graph sizes must be positive, not {self}")


@models.add("graph")
class GraphModel(LearnedModel):
    name = "graph"
    fastest: Tensor  # (len(KINDS), 2) of each kind of mover [units/s, rad/s]

    def __init__(self, config: GraphConfig | None = None, **sizes: Any) -> None:
        super().__init__()
        self.sizes = config or GraphConfig(**sizes)
        hidden, edge = self.sizes.hidden, self.sizes.edge
        body, piece = 4 + len(KINDS), 6 + len(KINDS)  # half extents, rounding, gyration, kind; with the piece's own
        self.body = nn.Linear(body + 3, hidden)  # with the action
        self.whim = nn.Linear(3 * WHIMS, hidden, bias=False)
        self.intent = nn.Linear(hidden, hidden, bias=False)
        self.motion = nn.Linear(3, hidden, bias=False)
        self.ends = nn.Linear(hidden, 3 * edge)  # static receiver, pair receiver, pair sender
        self.static_edge = nn.Linear(9, edge, bias=False)  # on many rows, where a bias would cost a copy
        self.pair_pieces = nn.Linear(2 * piece, 2 * edge)
        self.pair_edge = nn.Linear(22, 2 * edge, bias=False)  # both rounds; the last three of who gives way
        self.first = nn.Linear(2 * edge, hidden)
        self.second_ends = nn.Linear(hidden, 2 * edge, bias=False)
        self.second = nn.Linear(hidden + edge, hidden)
        self.head = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 6)
        self.static_push, self.pair_push = (nn.Linear(edge, 4, bias=False) for _ in range(2))
        self.minds = nn.Linear(hidden, len(KINDS))
        self.room, self.agility = nn.Parameter(torch.ones(len(KINDS) ** 2)), nn.Parameter(torch.ones(len(KINDS)))
        self.foresight = nn.Parameter(torch.ones(()))  # over SOON_S
        self.register_buffer("fastest", torch.tensor(FASTEST).repeat(len(KINDS), 1))
        self._advance_compiled = Compiled(self._advance)
        for layer in (self.out, self.static_push, self.pair_push, self.minds, self.intent):
            for values in layer.parameters():
                nn.init.zeros_(values)
        nn.init.constant_(self.minds.bias, MOSTLY)

    def prepare(self, windows: Windows | JointWindows) -> None:
        """How fast each kind of mover goes in the data."""
        fastest = torch.stack([part.fastest() for part in windows.parts.values()]).amax(0)
        self.fastest = torch.where(fastest > 0, BEYOND * fastest, self.fastest)

    def config(self) -> dict[str, Any]:
        return asdict(self.sizes)

    @torch.inference_mode()
    def start_episode(self, start: EpisodeStart) -> None:
        """Compile now for as many bodies as there are, not within the first decision."""
        if self.compiled:
            loads = len(start.layout.loads)
            for movers in [1 + loads] if loads else [1, 1 + NEAREST]:
                one = still(movers, 4, self.pieces, Kind.LOAD if loads else Kind.PERSON, self.action_size)
                for state in (one.expand(2), repeated(one, 2))[: 1 + self.together]:
                    self.imagine(state if loads or movers == 1 else self.members(state, 2), torch.zeros(2, 2, self.action_size))

    def imagine(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        unit = state.around.unit[:, None]
        gyration = gyration_of(state.around)
        bodies = self._bodies(state, gyration)
        fixed, nodes = self._fixed(state, bodies, gyration), self._nodes(state, actions, bodies)
        motion, sees = pairs_of(state), None
        if state.whim is not None:  # what one is up to follows from where all are now, and stays
            traffic = state.around.traffic
            sight = self._seeing(motion, fixed, nodes[:, 0])[..., None].expand(-1, -1, 2) if state.sees is None else state.sees
            sees = seers(sight, state.whim, traffic, actions.shape[1])
            nodes = nodes + self.whim(whims_over(state.whim, actions.shape[1])) * traffic[:, None, :, None]
            intent = self.intent(self._heard(motion, fixed, nodes[:, 0], sees[0])[0]) * traffic[..., None]
            nodes = nodes + intent[:, None]
        told = nodes.unbind(1)
        seen = [None] * len(told) if sees is None else sees.unbind()
        advance: Callable[..., Motion] = self._advance
        if self.compiled and not nodes.requires_grad:
            advance, (motion, fixed) = self._advance_compiled, of_any_size(motion, fixed, told[0], seen[0])
        states = []
        for one, who in zip(told, seen, strict=True):
            motion = advance(motion, fixed, one, who)
            position, heading, velocity = (torch.view_as_complex(part) for part in motion[:3])
            states.append(PlanarState(position * unit, heading, velocity * unit, motion.spin, state.around))
        return states

    def step(self, state: PlanarState, action: Tensor) -> PlanarState:
        return self.imagine(state, action[:, None])[0]

    @torch.inference_mode()
    def believe(self, observation: Mapping[str, np.ndarray], before: Belief | None = None) -> Belief | None:
        if not np.isin(observation["kind"][observation["present"] > 0], TRAFFIC).any():
            return None
        state = self.begin(observation)
        sight = self._sight(state, torch.zeros(1, 1, state.around.limits.shape[-1]))
        return believed(
            before,
            tuple(self.movers(observation).tolist()),
            state,
            sight,
            lambda then: self.imagine(then, torch.zeros(len(then.spin), 1, then.around.limits.shape[-1]))[0],
        )

    def begin(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Belief | None = None) -> PlanarState:
        state = super().begin(observation, steps)
        return state if belief is None else replace(state, sees=torch.stack([belief.sees, belief.usually], -1))

    def particles_of(self, state: PlanarState) -> int:
        return FUTURES if state.around.has(*TRAFFIC) else 1

    def members(self, state: PlanarState, particles: int) -> PlanarState:
        """Each mover has a whim in each particle, always the same ones."""
        batch, movers = state.spin.shape
        if particles == 1:
            return state
        whims = drawn(particles, movers).to(state.spin)
        return replace(state, whim=whims.repeat_interleave(batch // particles, 0))

    def _rollout(self, state: PlanarState, actions: Tensor) -> Bodies:
        """Traffic minds what the robot does, but many plans are much alike: futures are imagined beside a few that differ most,
        the first candidate among them, and each candidate's robot is put among those beside the plan most like its own."""
        if not state.around.has(*TRAFFIC):
            return super()._rollout(state, actions)
        robot = super()._rollout(alone(state), actions)
        picked, alike = representatives(robot.pose[0, :, :, :, 0, :2].flatten(2), PLANS)
        beside_them = actions.detach()[torch.arange(len(actions))[:, None], picked]  # no plan answers for what others would risk
        futures = super()._rollout(state, beside_them)
        return beside(robot, chosen(futures, alike))

    def _bodies(self, state: PlanarState, gyration: Tensor) -> Tensor:
        """(E, M, 4 + len(KINDS)): what each mover is."""
        around, unit = state.around, state.around.unit[:, None, None]
        sizes = torch.cat([around.half_extents[..., :2], around.rounding[..., None]], -1) / unit
        return torch.cat([sizes, gyration[..., None], around.kind], -1)

    def _nodes(self, state: PlanarState, actions: Tensor, bodies: Tensor) -> Tensor:
        """(B, H, M, hidden): what each mover is and, the robot, is told to do."""
        movers, unit = state.spin.shape[1], state.around.unit[:, None, None]
        command = commanded(state, actions)
        command = torch.cat([command[..., :2] / unit, command[..., 2:]], -1)
        command = F.pad(command[:, :, None], (0, 0, 0, movers - 1))  # the robot's row
        nodes: Tensor = self.body(torch.cat([bodies[:, None].expand(*command.shape[:2], -1, -1), command], -1))
        return nodes

    def _sight(self, state: PlanarState, actions: Tensor) -> Tensor:
        """(B, M) how likely each mover is to see the robot, from how things stand alone."""
        gyration = gyration_of(state.around)
        bodies = self._bodies(state, gyration)
        node = self._nodes(state, actions[:, :1], bodies)[:, 0]
        return self._seeing(pairs_of(state), self._fixed(state, bodies, gyration), node)

    def _seeing(self, state: Motion, fixed: Fixed, node: Tensor) -> Tensor:
        hidden, *_ = self._heard(state, fixed, node, None)
        return torch.sigmoid(SURE * self.minds(hidden)[..., KINDS.index(Kind.ROBOT)])

    def _fixed(self, state: PlanarState, bodies: Tensor, gyration: Tensor) -> Fixed:
        around, unit = state.around, state.around.unit
        count = around.core.shape[2]
        core, rounding = (
            (around.core / unit[:, None, None, None]).flatten(1, 2),
            per_piece(around.rounding / unit[:, None], count),
        )
        pieces = torch.cat([per_piece(bodies, count), core], -1)
        total = pieces.shape[1]
        mine, theirs = pieces[:, :, None].expand(-1, -1, total, -1), pieces[:, None].expand(-1, total, -1, -1)
        there = per_piece(around.present, count) * ((core.sum(-1) + rounding) > 0)
        body = torch.arange(total) // count
        pair_present = there[:, :, None] * there[:, None] * (body[:, None] != body)
        wary = per_piece(around.traffic, count)
        return Fixed(
            core,
            rounding,
            torch.view_as_real(around.place / unit[:, None, None]).flatten(1, 2) if count > 1 else None,
            gyration,
            around.kind,
            around.traffic * (around.kind @ (AGILITY * self.agility)),
            around.kind @ self.fastest,
            self.pair_pieces(torch.cat([mine, theirs], -1)) if bodies.shape[1] > 1 else None,
            pair_present,
            torch.maximum(wary[:, :, None], wary[:, None]),
            self._room(around, core.square().sum(-1).sqrt() + rounding, count),
            torch.view_as_real(around.static_centre / unit[:, None]),
            torch.view_as_real(around.static_heading),
            around.static_half / unit[:, None, None],
            around.static_present,
        )

    def _room(self, around: Surroundings, size: Tensor, count: int) -> Tensor | None:
        """(E, K, K) distance that the centre of each piece, of radius `size` (E, K), keeps from each other's; 0 unless it is of
        traffic."""
        if count > 1 or (around.has(Kind.LOAD) and not around.has(*TRAFFIC)):
            return None
        kind, gives = per_piece(around.kind, count), per_piece(around.traffic, count)
        room = size[:, :, None] + size[:, None] + kind @ (ROOM * self.room.view(len(KINDS), -1)) @ kind.mT
        return room * gives[:, :, None]

    def _advance(self, state: Motion, fixed: Fixed, node: Tensor, sees: Tensor | None) -> Motion:
        """One step: each body's change of motion in its own frame, from what it heard."""
        own = turned(state.velocity, inverse(state.heading))
        hidden, pushed, detour = self._heard(state, fixed, node, sees)
        out = self.out(self.head(hidden).relu_())
        shift, kick = (SPEED * (out[..., :4] + pushed[..., :4])).chunk(2, -1)
        if detour is not None:  # who has a will of its own goes at once as it has decided
            decided = limited(way_given(kick, detour), fixed.agility)
            shift, kick = (torch.where(fixed.agility[..., None] > 0, decided, own_way) for own_way in (shift, kick))
        turn, twist = (out[..., 4:] + SPEED * pushed[..., 4:] / fixed.gyration[..., None]).unbind(-1)
        moved = turned(torch.stack([DT_S * (own + shift), own + kick], -2), state.heading[..., None, :])
        velocity, (fastest, spinniest) = moved[..., 1, :], fixed.fastest.unbind(-1)
        return Motion(
            position=state.position + moved[..., 0, :],
            heading=turned(state.heading, heading_of_angle(DT_S * (state.spin + turn))),
            velocity=limited(velocity, fastest),
            spin=torch.clamp(state.spin + twist, -spinniest, spinniest),
        )

    def _heard(self, state: Motion, fixed: Fixed, node: Tensor, sees: Tensor | None) -> tuple[Tensor, Tensor, Detour | None]:
        """What each body makes of two rounds of messages (B, M, hidden), how it is pushed (B, M, 6), and its detours."""
        back = inverse(state.heading)
        own = turned(state.velocity, back)
        node = node + self.motion(torch.cat([own, state.spin[..., None]], -1))
        at, count = in_pieces(state, fixed)
        back, moving = per_piece(back, count), per_piece(own, count)
        receive_static, receive, send = per_piece(self.ends(F.relu(node)), count).chunk(3, -1)
        static, pushed = self._from_static(at, fixed, back, moving, receive_static)
        first = second = torch.zeros_like(static)
        detour = None
        if fixed.pair is not None:
            pairs, near, contact, detour = self._pairs(at, fixed, fixed.pair, back)
            if sees is not None:
                robot = fixed.kind[..., KINDS.index(Kind.ROBOT)]
                near = near * (1 - per_piece(1 - sees, count)[:, :, None] * per_piece(robot, count)[:, None])
            pair_first, pair_second = pairs.chunk(2, -1)
            first = _messages(pair_first, receive, send, near).sum(2)
        hidden = self.first(per_body(torch.cat([static, first], -1), count)).add_(node).relu_()
        if fixed.pair is not None:
            receive, send = per_piece(self.second_ends(hidden), count).chunk(2, -1)
            messages = _messages(pair_second, receive, send, near)
            second = messages.sum(2)
            pushed = pushed + contact.pushed(self.pair_push(messages))
            if detour is not None:
                minds = torch.sigmoid(SURE * self.minds(hidden)) @ fixed.kind.mT
                if sees is not None:  # who sees the robot minds it
                    minds = torch.maximum(minds, robot[:, None])
                minds = minds * ((near > 0) & (fixed.agility > 0)[..., None])
                detour = detour._replace(length=SHARE * detour.length, minds=minds)
        heard = torch.cat([hidden, per_body(second, count)], -1)
        return self.second(heard).relu_() + hidden, per_body(pushed, count), detour

    def _from_static(self, state: Motion, fixed: Fixed, back: Tensor, own: Tensor, receive: Tensor) -> tuple[Tensor, Tensor]:
        """What static boxes near each piece tell it (B, K, edge), by the closest point on each, and how they push (B, K, 6)."""
        heading, half, core = fixed.static_heading[:, None], fixed.static_half[:, None], fixed.core[:, :, None]
        rounding = fixed.rounding[..., None]
        local = turned(state.position[:, :, None] - fixed.static_centre[:, None], inverse(heading))
        nearest = torch.clamp(local, -half, half) - local
        nearest = turned(nearest, turned(heading, back[:, :, None]))  # from the piece to the box, own frame
        length, normal = gap(nearest, core, rounding)
        point = core * (5 * normal).clamp(-1, 1) + rounding[..., None] * normal  # the corner that is nearest, or within a face
        contact = Contact(point if fixed.place is None else point + fixed.place[:, :, None], normal, length)
        speed = -own[:, :, None] - state.spin[:, :, None, None] * across(contact.point)
        to_me = outside(nearest, core) / GAP  # where a corner of theirs would touch
        edges = self.static_edge(torch.cat([contact.features(speed), to_me.clamp(-5, 5)], -1))
        near = _nearness(length, self.sizes.cutoff_m) * fixed.static_present[:, None]
        messages = edges.add_(receive[:, :, None]).relu_() * near[..., None]
        return messages.sum(2), contact.pushed(self.static_push(messages))

    def _pairs(self, state: Motion, fixed: Fixed, shapes: Tensor, back: Tensor) -> tuple[Tensor, Tensor, Contact, Detour | None]:
        """Edges (B, K, K, 2 * edge) from every piece (dim 2) to every other (dim 1), their weights (B, K, K), contacts, and the
        detours that would avoid them."""
        offset, speed = (values[:, None] - values[:, :, None] for values in (state.position, state.velocity))
        back = back[:, :, None]
        facing = turned(state.heading[:, None], back)
        offset, speed = turned(offset, back), turned(speed, back)
        core, rounding = fixed.core, fixed.rounding
        away = inverse(facing)
        to_them = -turned(outside(-turned(offset, away), core[:, None]), facing)  # from my centre to their box
        to_me = outside(offset, core[:, :, None])  # from my box to their centre
        ahead, out = gap(to_them, core[:, :, None], rounding[..., None])
        behind, into = gap(turned(to_me, away), core[:, None], rounding[:, None])
        ahead, behind = ahead - rounding[:, None], behind - rounding[..., None]
        mine = torch.sigmoid((ahead - behind) / EDGE)[..., None]  # whether a corner of theirs would touch my face, or the reverse
        normal = torch.lerp(turned(into, facing), out, mine)
        point = torch.lerp(offset - to_me, to_them, mine)
        lever = point - offset
        if fixed.place is not None:
            lever = lever + turned(fixed.place[:, None], facing)
            point = point + fixed.place[:, :, None]
        contact = Contact(point, normal, torch.maximum(ahead, behind))
        spin = state.spin[:, None, :, None].expand(-1, ahead.shape[1], -1, -1)
        at = speed + spin * across(lever) - state.spin[:, :, None, None] * across(point)
        levers = torch.stack([cross(lever, normal) / LEVER, spin[..., 0]], -1)
        features = torch.cat([offset, facing, speed, to_them, to_me, contact.features(at), levers], -1)
        weight, detour = self.pair_edge.weight, None
        if fixed.pair_room is None:
            weight = weight[:, : features.shape[-1]]
        else:
            detour = detour_of(offset, speed, fixed.pair_room, SOON_S * self.foresight)
            most = (detour.length / DEEP).clamp(-2, 2)[..., None]
            giving = torch.cat([detour.normal * most.clamp(min=0), most], -1)
            features = torch.cat([features, giving * fixed.pair_wary[..., None]], -1)
        reach = self.sizes.cutoff_m + (self.sizes.sight_m - self.sizes.cutoff_m) * fixed.pair_wary
        edges = F.linear(features, weight) + shapes
        return edges, _nearness(contact.length, reach) * fixed.pair_present, contact, detour

    def loss(self, state: PlanarState, actions: Tensor, targets: list[PlanarState]) -> Tensor:
        present = state.around.present
        if not state.around.has(*TRAFFIC):
            errors = torch.stack([step_errors(*pair) for pair in zip(self.imagine(state, actions), targets, strict=True)])
        else:
            errors = self._scores(state, actions, targets)
        return (errors * present).sum() / present.expand_as(errors).sum()

    def _scores(self, state: PlanarState, actions: Tensor, targets: list[PlanarState]) -> Tensor:
        """(H, W, M) energy scores of futures in which traffic sees the robot or does not, two of each, as likely as believed."""
        whims = torch.randn(2, *state.spin.shape, WHIM, device=state.spin.device)
        sees = torch.rand_like(state.spin) < 0.5
        four = replace(repeated(state, 4), whim=torch.cat([decided(whims, sees), decided(whims, ~sees)]).flatten(0, 1))
        seeing = self._sight(state, actions)
        first = torch.where(sees, seeing, 1 - seeing)  # how likely what the first two imagine of each is
        futures = self.imagine(four, actions.repeat(4, 1, 1))
        return torch.stack([mixed_scores(future, true, first) for future, true in zip(futures, targets, strict=True)])


def _nearness(gap: Tensor, reach: Tensor | float) -> Tensor:
    return (1 - gap / reach).clamp(0, 1)


def _messages(edges: Tensor, receive: Tensor, send: Tensor, near: Tensor) -> Tensor:
    """(B, M, M, edge): what the others (dim 2) tell each mover."""
    return (edges + receive[:, :, None]).add_(send[:, None]).relu_() * near[..., None]
