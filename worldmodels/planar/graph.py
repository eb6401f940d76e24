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

from sim.bodies import CONTROL_DT_S, TRAFFIC_KINDS, Bodies, Kind
from sim.policy import EpisodeStart
from sim.utils.errors import GroundError
from worldmodels.model import models
from worldmodels.planar.attention import (
    NOISE_SIZE,
    NUM_WAVES,
    AttentionBelief,
    fix_attention,
    sample_attention,
    sample_noise,
    unroll_noise,
    update_belief,
)
from worldmodels.planar.composition import choose_representatives, gather, merge_agents, robot_only
from worldmodels.planar.contacts import (
    GAP_SCALE,
    LEVER_SCALE,
    SPEED_SCALE,
    AvoidanceConstraint,
    ContactGeometry,
    compute_avoidance,
    limit_length,
    project_velocity_change,
)
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.rollout import (
    Motion,
    RolloutContext,
    compute_gyration,
    mark_dynamic_sizes,
    repeat_per_box,
    split_into_boxes,
    sum_per_body,
    to_motion,
)
from worldmodels.planar.scores import compute_mixture_scores, compute_step_errors
from worldmodels.planar.state import (
    DYNAMIC_KINDS,
    NUM_NEAREST_AGENTS,
    PlanarState,
    SceneContext,
    compute_command,
    make_example_state,
    repeat_batch,
)
from worldmodels.planar.vectors import (
    angle_to_heading,
    compute_gap,
    cross_product,
    invert_heading,
    rotate_quarter,
    rotate_vectors,
    subtract_box,
)
from worldmodels.planar.windows import PlanarWindows
from worldmodels.training.compile import CompiledFunction
from worldmodels.training.windows import Batch, EpisodeWindows, JointWindows

NUM_PARTICLES = 16  # of traffic, that are imagined
NUM_REPRESENTATIVES = 4  # of the robot, beside each of which they are
CLEARANCE, AVOIDANCE_HORIZON_S = (
    0.08,
    1.5,
)  # that those who give way keep, in the scene's unit, and for how long: both are learned from here on
AVOIDANCE_SHARE, VELOCITY_CHANGE = (
    0.5,
    0.04,
)  # of a detour that each takes upon itself, and how far it changes its velocity in a step [units/s]
ATTENTION_GAIN, ATTENTION_BIAS = (
    8.0,
    0.25,
)  # one minds others or does not, and nothing between; and does before anything is learned
AVOIDANCE_SCALE = 0.08  # change of velocity [units/s] that is a typical detour
BLEND_SCALE = 0.01  # how softly the one closest point gives way to the other [m]
MAX_SPEEDS = (5.0, 12.0)  # [units/s, rad/s] that nothing imagined exceeds where no data tell
MAX_SPEED_FACTOR = (
    1.5  # times as fast as nearly all of its kind in the data: what is too fast would else make more of it in the next step
)


@dataclass(frozen=True)
class GraphConfig:
    hidden_size: int = 96
    edge_size: int = 48
    contact_range: float = 0.5  # gap from which on bodies do not touch soon, in the scene's units as the next one
    avoidance_range: float = 1.1  # from which on traffic gives way to nobody

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or self.edge_size < 1 or min(self.contact_range, self.avoidance_range) <= 0:
            raise GroundError(f"graph sizes must be positive, not {self}")


@models.add("graph")
class GraphModel(PlanarModel):
    name = "graph"
    max_speed: Tensor  # (len(KINDS), 2) of each kind of mover [units/s, rad/s]

    def __init__(self, config: GraphConfig | None = None, **sizes: Any) -> None:
        super().__init__()
        self.graph_config = config or GraphConfig(**sizes)
        hidden, edge = self.graph_config.hidden_size, self.graph_config.edge_size
        body, piece = (
            4 + len(DYNAMIC_KINDS),
            6 + len(DYNAMIC_KINDS),
        )  # half extents, rounding, gyration, kind; with the piece's own
        self.body = nn.Linear(body + 3, hidden)  # with the action
        self.latent_noise = nn.Linear(3 * NUM_WAVES, hidden, bias=False)
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
        self.attention = nn.Linear(hidden, len(DYNAMIC_KINDS))
        self.clearance, self.velocity_change = (
            nn.Parameter(torch.ones(len(DYNAMIC_KINDS) ** 2)),
            nn.Parameter(torch.ones(len(DYNAMIC_KINDS))),
        )
        self.avoidance_horizon = nn.Parameter(torch.ones(()))  # over SOON_S
        self.register_buffer("max_speed", torch.tensor(MAX_SPEEDS).repeat(len(DYNAMIC_KINDS), 1))
        self._step_motion_compiled = CompiledFunction(self._step_motion)
        for layer in (self.out, self.static_push, self.pair_push, self.attention, self.intent):
            for values in layer.parameters():
                nn.init.zeros_(values)
        nn.init.constant_(self.attention.bias, ATTENTION_BIAS)

    def fit_normalisation(self, windows: EpisodeWindows | JointWindows) -> None:
        """How fast each kind of mover goes in the data."""
        fastest = torch.stack(
            [part.compute_max_speeds() for part in windows.parts.values() if isinstance(part, PlanarWindows)]
        ).amax(0)
        self.max_speed = torch.where(fastest > 0, MAX_SPEED_FACTOR * fastest, self.max_speed)

    def get_config(self) -> dict[str, Any]:
        return asdict(self.graph_config)

    @torch.inference_mode()
    def start_episode(self, start: EpisodeStart) -> None:
        """Compile now for as many bodies as there are, not within the first decision."""
        if self.is_compiled:
            loads = len(start.layout.loads)
            for movers in [1 + loads] if loads else [1, 1 + NUM_NEAREST_AGENTS]:
                one = make_example_state(movers, 4, self.footprint_size, Kind.LOAD if loads else Kind.PERSON, self.action_size)
                for state in (one.expand(2), repeat_batch(one, 2))[: 1 + self.is_batched]:
                    self.imagine(
                        state if loads or movers == 1 else self.assign_particles(state, 2), torch.zeros(2, 2, self.action_size)
                    )

    def imagine(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        unit = state.context.unit[:, None]
        gyration = compute_gyration(state.context)
        bodies = self._encode_bodies(state, gyration)
        fixed, nodes = self._build_rollout_context(state, bodies, gyration), self._encode_nodes(state, actions, bodies)
        motion, sees = to_motion(state), None
        if state.latent_noise is not None:  # what one is up to follows from where all are now, and stays
            traffic = state.context.is_agent
            sight = (
                self._compute_attention(motion, fixed, nodes[:, 0])[..., None].expand(-1, -1, 2)
                if state.attention is None
                else state.attention
            )
            sees = sample_attention(sight, state.latent_noise, traffic, actions.shape[1])
            nodes = nodes + self.latent_noise(unroll_noise(state.latent_noise, actions.shape[1])) * traffic[:, None, :, None]
            intent = self.intent(self._pass_messages(motion, fixed, nodes[:, 0], sees[0])[0]) * traffic[..., None]
            nodes = nodes + intent[:, None]
        told = nodes.unbind(1)
        seen = [None] * len(told) if sees is None else sees.unbind()
        advance: Callable[..., Motion] = self._step_motion
        if self.is_compiled and not nodes.requires_grad:
            advance, (motion, fixed) = self._step_motion_compiled, mark_dynamic_sizes(motion, fixed, told[0], seen[0])
        states = []
        for one, who in zip(told, seen, strict=True):
            motion = advance(motion, fixed, one, who)
            position, heading, velocity = (torch.view_as_complex(part) for part in motion[:3])
            states.append(PlanarState(position * unit, heading, velocity * unit, motion.yaw_rate, state.context))
        return states

    def step(self, state: PlanarState, action: Tensor) -> PlanarState:
        return self.imagine(state, action[:, None])[0]

    @torch.inference_mode()
    def update_belief(
        self, observation: Mapping[str, np.ndarray], previous: AttentionBelief | None = None
    ) -> AttentionBelief | None:
        if not np.isin(observation["kind"][observation["present"] > 0], TRAFFIC_KINDS).any():
            return None
        state = self.encode(observation)
        sight = self._predict_attention(state, torch.zeros(1, 1, state.context.command_matrix.shape[-1]))
        return update_belief(
            previous,
            tuple(self.select_bodies(observation).tolist()),
            state,
            sight,
            lambda then: self.imagine(then, torch.zeros(len(then.yaw_rate), 1, then.context.command_matrix.shape[-1]))[0],
        )

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: AttentionBelief | None = None) -> PlanarState:
        state = super().encode(observation, steps)
        return state if belief is None else replace(state, attention=torch.stack([belief.attention, belief.prior], -1))

    def count_particles(self, state: PlanarState) -> int:
        return NUM_PARTICLES if state.context.has_kind(*TRAFFIC_KINDS) else 1

    def assign_particles(self, state: PlanarState, particles: int) -> PlanarState:
        """Each mover has a whim in each particle, always the same ones."""
        batch, movers = state.yaw_rate.shape
        if particles == 1:
            return state
        whims = sample_noise(particles, movers).to(state.yaw_rate)
        return replace(state, latent_noise=whims.repeat_interleave(batch // particles, 0))

    def _rollout_bodies(self, state: PlanarState, actions: Tensor) -> Bodies:
        """Traffic minds what the robot does, but many plans are much alike: futures are imagined beside a few that differ most,
        the first candidate among them, and each candidate's robot is put among those beside the plan most like its own."""
        if not state.context.has_kind(*TRAFFIC_KINDS):
            return super()._rollout_bodies(state, actions)
        robot = super()._rollout_bodies(robot_only(state), actions)
        picked, alike = choose_representatives(robot.pose[0, :, :, :, 0, :2].flatten(2), NUM_REPRESENTATIVES)
        beside_them = actions.detach()[torch.arange(len(actions))[:, None], picked]  # no plan answers for what others would risk
        futures = super()._rollout_bodies(state, beside_them)
        return merge_agents(robot, gather(futures, alike))

    def _encode_bodies(self, state: PlanarState, gyration: Tensor) -> Tensor:
        """(E, M, 4 + len(KINDS)): what each mover is."""
        around, unit = state.context, state.context.unit[:, None, None]
        sizes = torch.cat([around.half_extents[..., :2], around.rounding[..., None]], -1) / unit
        return torch.cat([sizes, gyration[..., None], around.kind], -1)

    def _encode_nodes(self, state: PlanarState, actions: Tensor, bodies: Tensor) -> Tensor:
        """(B, H, M, hidden): what each mover is and, the robot, is told to do."""
        movers, unit = state.yaw_rate.shape[1], state.context.unit[:, None, None]
        command = compute_command(state, actions)
        command = torch.cat([command[..., :2] / unit, command[..., 2:]], -1)
        command = F.pad(command[:, :, None], (0, 0, 0, movers - 1))  # the robot's row
        nodes: Tensor = self.body(torch.cat([bodies[:, None].expand(*command.shape[:2], -1, -1), command], -1))
        return nodes

    def _predict_attention(self, state: PlanarState, actions: Tensor) -> Tensor:
        """(B, M) how likely each mover is to see the robot, from how things stand alone."""
        gyration = compute_gyration(state.context)
        bodies = self._encode_bodies(state, gyration)
        node = self._encode_nodes(state, actions[:, :1], bodies)[:, 0]
        return self._compute_attention(to_motion(state), self._build_rollout_context(state, bodies, gyration), node)

    def _compute_attention(self, state: Motion, context: RolloutContext, node: Tensor) -> Tensor:
        hidden, *_ = self._pass_messages(state, context, node, None)
        return torch.sigmoid(ATTENTION_GAIN * self.attention(hidden)[..., DYNAMIC_KINDS.index(Kind.ROBOT)])

    def _build_rollout_context(self, state: PlanarState, bodies: Tensor, gyration: Tensor) -> RolloutContext:
        around, unit = state.context, state.context.unit
        count = around.core_half.shape[2]
        core, rounding = (
            (around.core_half / unit[:, None, None, None]).flatten(1, 2),
            repeat_per_box(around.rounding / unit[:, None], count),
        )
        pieces = torch.cat([repeat_per_box(bodies, count), core], -1)
        total = pieces.shape[1]
        mine, theirs = pieces[:, :, None].expand(-1, -1, total, -1), pieces[:, None].expand(-1, total, -1, -1)
        there = repeat_per_box(around.present, count) * ((core.sum(-1) + rounding) > 0)
        body = torch.arange(total) // count
        pair_present = there[:, :, None] * there[:, None] * (body[:, None] != body)
        wary = repeat_per_box(around.is_agent, count)
        return RolloutContext(
            core,
            rounding,
            torch.view_as_real(around.core_centre / unit[:, None, None]).flatten(1, 2) if count > 1 else None,
            gyration,
            around.kind,
            around.is_agent * (around.kind @ (VELOCITY_CHANGE * self.velocity_change)),
            around.kind @ self.max_speed,
            self.pair_pieces(torch.cat([mine, theirs], -1)) if bodies.shape[1] > 1 else None,
            pair_present,
            torch.maximum(wary[:, :, None], wary[:, None]),
            self._compute_pair_clearance(around, core.square().sum(-1).sqrt() + rounding, count),
            torch.view_as_real(around.static_centre / unit[:, None]),
            torch.view_as_real(around.static_heading),
            around.static_half / unit[:, None, None],
            around.static_present,
        )

    def _compute_pair_clearance(self, around: SceneContext, size: Tensor, count: int) -> Tensor | None:
        """(E, K, K) distance that the centre of each piece, of radius `size` (E, K), keeps from each other's; 0 unless it is of
        traffic."""
        if count > 1 or (around.has_kind(Kind.LOAD) and not around.has_kind(*TRAFFIC_KINDS)):
            return None
        kind, gives = repeat_per_box(around.kind, count), repeat_per_box(around.is_agent, count)
        room = size[:, :, None] + size[:, None] + kind @ (CLEARANCE * self.clearance.view(len(DYNAMIC_KINDS), -1)) @ kind.mT
        return room * gives[:, :, None]

    def _step_motion(self, state: Motion, context: RolloutContext, node: Tensor, attention: Tensor | None) -> Motion:
        """One step: each body's change of motion in its own frame, from what it heard."""
        own = rotate_vectors(state.velocity, invert_heading(state.heading))
        hidden, pushed, detour = self._pass_messages(state, context, node, attention)
        out = self.out(self.head(hidden).relu_())
        shift, kick = (SPEED_SCALE * (out[..., :4] + pushed[..., :4])).chunk(2, -1)
        if detour is not None:  # who has a will of its own goes at once as it has decided
            decided = limit_length(project_velocity_change(kick, detour), context.max_velocity_change)
            shift, kick = (torch.where(context.max_velocity_change[..., None] > 0, decided, own_way) for own_way in (shift, kick))
        turn, twist = (out[..., 4:] + SPEED_SCALE * pushed[..., 4:] / context.gyration[..., None]).unbind(-1)
        moved = rotate_vectors(torch.stack([CONTROL_DT_S * (own + shift), own + kick], -2), state.heading[..., None, :])
        velocity, (fastest, spinniest) = moved[..., 1, :], context.max_speed.unbind(-1)
        return Motion(
            position=state.position + moved[..., 0, :],
            heading=rotate_vectors(state.heading, angle_to_heading(CONTROL_DT_S * (state.yaw_rate + turn))),
            velocity=limit_length(velocity, fastest),
            yaw_rate=torch.clamp(state.yaw_rate + twist, -spinniest, spinniest),
        )

    def _pass_messages(
        self, state: Motion, context: RolloutContext, node: Tensor, attention: Tensor | None
    ) -> tuple[Tensor, Tensor, AvoidanceConstraint | None]:
        """What each body makes of two rounds of messages (B, M, hidden), how it is pushed (B, M, 6), and its detours."""
        back = invert_heading(state.heading)
        own = rotate_vectors(state.velocity, back)
        node = node + self.motion(torch.cat([own, state.yaw_rate[..., None]], -1))
        at, count = split_into_boxes(state, context)
        back, moving = repeat_per_box(back, count), repeat_per_box(own, count)
        receive_static, receive, send = repeat_per_box(self.ends(F.relu(node)), count).chunk(3, -1)
        static, pushed = self._pass_static_messages(at, context, back, moving, receive_static)
        first = second = torch.zeros_like(static)
        detour = None
        if context.pair_shape is not None:
            pairs, near, contact, detour = self._encode_pairs(at, context, context.pair_shape, back)
            if attention is not None:
                robot = context.kind[..., DYNAMIC_KINDS.index(Kind.ROBOT)]
                near = near * (1 - repeat_per_box(1 - attention, count)[:, :, None] * repeat_per_box(robot, count)[:, None])
            pair_first, pair_second = pairs.chunk(2, -1)
            first = _compute_messages(pair_first, receive, send, near).sum(2)
        hidden = self.first(sum_per_body(torch.cat([static, first], -1), count)).add_(node).relu_()
        if context.pair_shape is not None:
            receive, send = repeat_per_box(self.second_ends(hidden), count).chunk(2, -1)
            messages = _compute_messages(pair_second, receive, send, near)
            second = messages.sum(2)
            pushed = pushed + contact.apply_pushes(self.pair_push(messages))
            if detour is not None:
                minds = torch.sigmoid(ATTENTION_GAIN * self.attention(hidden)) @ context.kind.mT
                if attention is not None:  # who sees the robot minds it
                    minds = torch.maximum(minds, robot[:, None])
                minds = minds * ((near > 0) & (context.max_velocity_change > 0)[..., None])
                detour = detour._replace(length=AVOIDANCE_SHARE * detour.length, is_yielding=minds)
        heard = torch.cat([hidden, sum_per_body(second, count)], -1)
        return self.second(heard).relu_() + hidden, sum_per_body(pushed, count), detour

    def _pass_static_messages(
        self, state: Motion, context: RolloutContext, to_own_frame: Tensor, own: Tensor, receive: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What static boxes near each piece tell it (B, K, edge), by the closest point on each, and how they push (B, K, 6)."""
        heading, half, core = context.static_heading[:, None], context.static_half[:, None], context.core_half[:, :, None]
        rounding = context.rounding[..., None]
        local = rotate_vectors(state.position[:, :, None] - context.static_centre[:, None], invert_heading(heading))
        nearest = torch.clamp(local, -half, half) - local
        nearest = rotate_vectors(
            nearest, rotate_vectors(heading, to_own_frame[:, :, None])
        )  # from the piece to the box, own frame
        length, normal = compute_gap(nearest, core, rounding)
        point = core * (5 * normal).clamp(-1, 1) + rounding[..., None] * normal  # the corner that is nearest, or within a face
        contact = ContactGeometry(
            point if context.core_centre is None else point + context.core_centre[:, :, None], normal, length
        )
        speed = -own[:, :, None] - state.yaw_rate[:, :, None, None] * rotate_quarter(contact.point)
        to_me = subtract_box(nearest, core) / GAP_SCALE  # where a corner of theirs would touch
        edges = self.static_edge(torch.cat([contact.compute_features(speed), to_me.clamp(-5, 5)], -1))
        near = _compute_nearness(length, self.graph_config.contact_range) * context.static_present[:, None]
        messages = edges.add_(receive[:, :, None]).relu_() * near[..., None]
        return messages.sum(2), contact.apply_pushes(self.static_push(messages))

    def _encode_pairs(
        self, state: Motion, context: RolloutContext, shapes: Tensor, to_own_frame: Tensor
    ) -> tuple[Tensor, Tensor, ContactGeometry, AvoidanceConstraint | None]:
        """Edges (B, K, K, 2 * edge) from every piece (dim 2) to every other (dim 1), their weights (B, K, K), contacts, and the
        detours that would avoid them."""
        offset, speed = (values[:, None] - values[:, :, None] for values in (state.position, state.velocity))
        to_own_frame = to_own_frame[:, :, None]
        facing = rotate_vectors(state.heading[:, None], to_own_frame)
        offset, speed = rotate_vectors(offset, to_own_frame), rotate_vectors(speed, to_own_frame)
        core, rounding = context.core_half, context.rounding
        away = invert_heading(facing)
        to_them = -rotate_vectors(
            subtract_box(-rotate_vectors(offset, away), core[:, None]), facing
        )  # from my centre to their box
        to_me = subtract_box(offset, core[:, :, None])  # from my box to their centre
        ahead, out = compute_gap(to_them, core[:, :, None], rounding[..., None])
        behind, into = compute_gap(rotate_vectors(to_me, away), core[:, None], rounding[:, None])
        ahead, behind = ahead - rounding[:, None], behind - rounding[..., None]
        mine = torch.sigmoid((ahead - behind) / BLEND_SCALE)[
            ..., None
        ]  # whether a corner of theirs would touch my face, or the reverse
        normal = torch.lerp(rotate_vectors(into, facing), out, mine)
        point = torch.lerp(offset - to_me, to_them, mine)
        lever = point - offset
        if context.core_centre is not None:
            lever = lever + rotate_vectors(context.core_centre[:, None], facing)
            point = point + context.core_centre[:, :, None]
        contact = ContactGeometry(point, normal, torch.maximum(ahead, behind))
        spin = state.yaw_rate[:, None, :, None].expand(-1, ahead.shape[1], -1, -1)
        at = speed + spin * rotate_quarter(lever) - state.yaw_rate[:, :, None, None] * rotate_quarter(point)
        levers = torch.stack([cross_product(lever, normal) / LEVER_SCALE, spin[..., 0]], -1)
        features = torch.cat([offset, facing, speed, to_them, to_me, contact.compute_features(at), levers], -1)
        weight, detour = self.pair_edge.weight, None
        if context.pair_clearance is None:
            weight = weight[:, : features.shape[-1]]
        else:
            detour = compute_avoidance(offset, speed, context.pair_clearance, AVOIDANCE_HORIZON_S * self.avoidance_horizon)
            most = (detour.length / AVOIDANCE_SCALE).clamp(-2, 2)[..., None]
            giving = torch.cat([detour.normal * most.clamp(min=0), most], -1)
            features = torch.cat([features, giving * context.pair_has_agent[..., None]], -1)
        reach = (
            self.graph_config.contact_range
            + (self.graph_config.avoidance_range - self.graph_config.contact_range) * context.pair_has_agent
        )
        edges = F.linear(features, weight) + shapes
        return edges, _compute_nearness(contact.gap, reach) * context.pair_present, contact, detour

    def compute_loss(self, batch: Batch) -> Tensor:
        state, actions, targets = batch.state, batch.actions, batch.targets
        present = state.context.present
        if not state.context.has_kind(*TRAFFIC_KINDS):
            errors = torch.stack([compute_step_errors(*pair) for pair in zip(self.imagine(state, actions), targets, strict=True)])
        else:
            errors = self._compute_energy_scores(state, actions, targets)
        return (errors * present).sum() / present.expand_as(errors).sum()

    def _compute_energy_scores(self, state: PlanarState, actions: Tensor, targets: list[PlanarState]) -> Tensor:
        """(H, W, M) energy scores of futures in which traffic sees the robot or does not, two of each, as likely as believed."""
        whims = torch.randn(2, *state.yaw_rate.shape, NOISE_SIZE, device=state.yaw_rate.device)
        sees = torch.rand_like(state.yaw_rate) < 0.5
        four = replace(
            repeat_batch(state, 4),
            latent_noise=torch.cat([fix_attention(whims, sees), fix_attention(whims, ~sees)]).flatten(0, 1),
        )
        seeing = self._predict_attention(state, actions)
        first = torch.where(sees, seeing, 1 - seeing)  # how likely what the first two imagine of each is
        futures = self.imagine(four, actions.repeat(4, 1, 1))
        return torch.stack([compute_mixture_scores(future, true, first) for future, true in zip(futures, targets, strict=True)])


def _compute_nearness(gap: Tensor, reach: Tensor | float) -> Tensor:
    return (1 - gap / reach).clamp(0, 1)


def _compute_messages(edges: Tensor, receive: Tensor, send: Tensor, near: Tensor) -> Tensor:
    """(B, M, M, edge): what the others (dim 2) tell each mover."""
    return (edges + receive[:, :, None]).add_(send[:, None]).relu_() * near[..., None]
