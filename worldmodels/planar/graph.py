"""graph: message passing over bodies, with all features in each body's own frame.

Each collision box receives messages from static boxes and from boxes of other dynamic bodies within
a range, by the closest points. Messages are summed, so the number of bodies does not matter, and no
feature depends on the origin. A message describes the contact point and the closing speed there. It
adds a push at that point, so that levers need not be learned. Training is over several steps.
Sources: Battaglia et al. 2016, "Interaction networks"; Sanchez-Gonzalez et al. 2020, "Learning to
simulate complex physics with graph networks".

Yielding agents change their velocity just enough to keep a clearance (a velocity obstacle). The
change is geometry, and a feature of the message. Clearance, time horizon, largest change of
velocity and the degree of yielding are learned. All other changes of an agent's velocity are
projected onto what these constraints allow.

The motion of agents is uncertain. Each agent has latent noise: normal random numbers that change
within seconds, and an intent, computed from the noise and the scene at the start of a rollout. An
inattentive agent receives no messages from the robot; an attentive agent yields to it fully. The
model predicts the probability of attention from the scene, and `attention` filters it over time.

In training, each window has four particles: agents are attentive in two of them, and inattentive in
two. The loss is the energy score of this mixture: the mean distance to the true motion minus half of
the mean distance between particles. It is least if the predicted frequencies are true. Sources:
Gneiting and Raftery 2007, "Strictly proper scoring rules"; Bouchacourt et al. 2016, "DISCO nets".
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
from worldmodels.planar import attention as agents
from worldmodels.planar import contacts, rollout, vectors
from worldmodels.planar import state as planar
from worldmodels.planar.attention import NUM_WAVES, AttentionBelief
from worldmodels.planar.composition import choose_representatives, gather, merge_agents, select_robot
from worldmodels.planar.contacts import SPEED_SCALE, AvoidanceConstraint, ContactGeometry
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.rollout import Motion, RolloutContext, repeat_per_box, sum_per_body
from worldmodels.planar.scores import compute_mixture_scores, compute_step_errors
from worldmodels.planar.state import DYNAMIC_KINDS, PlanarState, SceneContext, make_example_state, repeat_batch
from worldmodels.planar.vectors import compute_gap, invert_heading, rotate_quarter, rotate_vectors, subtract_box
from worldmodels.planar.windows import PlanarWindows
from worldmodels.training.compile import CompiledFunction
from worldmodels.training.windows import Batch, EpisodeWindows, JointWindows

NUM_PARTICLES = 16  # in scenes with agents
NUM_REPRESENTATIVES = 4  # candidates for which the agents are predicted
CLEARANCE = 0.08  # [units] that yielding agents keep; a start value, the model learns a factor
AVOIDANCE_HORIZON_S = 1.5  # for which they keep it; a start value, the model learns a factor
AVOIDANCE_SHARE = 0.5  # of the avoidance that each body of a pair takes over
VELOCITY_CHANGE = 0.04  # [units/s] of agents in one step; a start value, as above
ATTENTION_GAIN = 8.0  # agents are attentive or not, rarely in between
ATTENTION_BIAS = 0.25  # agents are attentive before anything is learned
AVOIDANCE_SCALE = 0.08  # [units/s] typical change of velocity for avoidance
BLEND_SCALE = 0.01  # [units] softness of the choice between the closest points of two boxes
MAX_SPEEDS = (5.0, 12.0)  # [units/s, rad/s] limits of predictions for kinds without data
# Limit of predicted speeds, as a factor on nearly the fastest of a kind in the data: errors of
# bodies that are too fast would grow from step to step.
MAX_SPEED_FACTOR = 1.5
ROBOT_COLUMN = DYNAMIC_KINDS.index(Kind.ROBOT)


@dataclass(frozen=True)
class GraphConfig:
    """Sizes of the network, and ranges of messages."""

    hidden_size: int = 96
    edge_size: int = 48
    contact_range: float = 0.5  # [units] gap beyond which bodies do not touch soon
    avoidance_range: float = 1.1  # [units] gap beyond which agents do not yield

    def __post_init__(self) -> None:
        if self.hidden_size < 1 or self.edge_size < 1 or min(self.contact_range, self.avoidance_range) <= 0:
            raise GroundError(f"graph sizes must be positive, not {self}")


@models.add("graph")
class GraphModel(PlanarModel):
    """A graph network of planar bodies. Its particles are samples of the motion of agents."""

    name = "graph"
    max_speed: Tensor  # (len(DYNAMIC_KINDS), 2) limits by kind [units/s, rad/s]

    def __init__(self, config: GraphConfig | None = None, **sizes: Any) -> None:
        super().__init__()
        self.graph_config = config or GraphConfig(**sizes)
        hidden = self.graph_config.hidden_size
        edge = self.graph_config.edge_size
        kinds = len(DYNAMIC_KINDS)
        self.body = nn.Linear(7 + kinds, hidden)  # half extents, rounding, gyration, command; kind
        self.latent_noise = nn.Linear(3 * NUM_WAVES, hidden, bias=False)
        self.intent = nn.Linear(hidden, hidden, bias=False)
        self.motion = nn.Linear(3, hidden, bias=False)
        self.ends = nn.Linear(hidden, 3 * edge)  # static receiver, pair receiver, pair sender
        self.static_edge = nn.Linear(9, edge, bias=False)  # many rows: a bias would cost a copy
        self.pair_pieces = nn.Linear(2 * (6 + kinds), 2 * edge)
        self.pair_edge = nn.Linear(22, 2 * edge, bias=False)  # both rounds; last three: avoidance
        self.first = nn.Linear(2 * edge, hidden)
        self.second_ends = nn.Linear(hidden, 2 * edge, bias=False)
        self.second = nn.Linear(hidden + edge, hidden)
        self.head = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 6)
        self.static_push, self.pair_push = (nn.Linear(edge, 4, bias=False) for _ in range(2))
        self.attention = nn.Linear(hidden, kinds)
        self.clearance = nn.Parameter(torch.ones(kinds**2))
        self.velocity_change = nn.Parameter(torch.ones(kinds))
        self.avoidance_horizon = nn.Parameter(torch.ones(()))  # over AVOIDANCE_HORIZON_S
        self.register_buffer("max_speed", torch.tensor(MAX_SPEEDS).repeat(kinds, 1))
        self._step_motion_compiled = CompiledFunction(self._step_motion)
        for layer in (self.out, self.static_push, self.pair_push, self.attention, self.intent):
            for values in layer.parameters():
                nn.init.zeros_(values)
        nn.init.constant_(self.attention.bias, ATTENTION_BIAS)

    def fit_normalisation(self, windows: EpisodeWindows | JointWindows) -> None:
        """Set the limits of speed by kind from the training data."""
        speeds = [part.compute_max_speeds() for part in windows.parts.values() if isinstance(part, PlanarWindows)]
        fastest = torch.stack(speeds).amax(0)
        self.max_speed = torch.where(fastest > 0, MAX_SPEED_FACTOR * fastest, self.max_speed)

    def get_config(self) -> dict[str, Any]:
        return asdict(self.graph_config)

    @torch.inference_mode()
    def start_episode(self, start: EpisodeStart) -> None:
        """Compile for all numbers of bodies in the episode, before its first decision."""
        if self.is_compiled:
            loads = len(start.layout.loads)
            kind = Kind.LOAD if loads else Kind.PERSON
            for count in [1 + loads] if loads else [1, 1 + planar.NUM_NEAREST_AGENTS]:
                example = make_example_state(count, 4, self.footprint_size, kind, self.action_size)
                for state in (example.expand(2), repeat_batch(example, 2))[: 1 + self.is_batched]:
                    state = state if loads or count == 1 else self.assign_particles(state, 2)
                    self.imagine(state, torch.zeros(2, 2, self.action_size))

    def imagine(self, state: PlanarState, actions: Tensor) -> list[PlanarState]:
        unit = state.context.unit[:, None]
        motion, context, nodes = self._start_rollout(state, actions)
        attention = None
        if state.latent_noise is not None:
            is_agent = state.context.is_agent
            probability = state.attention
            if probability is None:
                probability = self._compute_attention(motion, context, nodes[:, 0])[..., None].expand(-1, -1, 2)
            attention = agents.sample_attention(probability, state.latent_noise, is_agent, actions.shape[1])
            noise = self.latent_noise(agents.unroll_noise(state.latent_noise, actions.shape[1]))
            nodes = nodes + noise * is_agent[:, None, :, None]
            # The intent follows from the start of the rollout, and lasts.
            intent = self.intent(self._pass_messages(motion, context, nodes[:, 0], attention[0])[0]) * is_agent[..., None]
            nodes = nodes + intent[:, None]
        step_nodes = nodes.unbind(1)
        step_attention = [None] * len(step_nodes) if attention is None else attention.unbind()
        advance: Callable[..., Motion] = self._step_motion
        if self.is_compiled and not nodes.requires_grad:
            advance = self._step_motion_compiled
            motion, context = rollout.mark_dynamic_sizes(motion, context, step_nodes[0], step_attention[0])
        states = []
        for inputs in zip(step_nodes, step_attention, strict=True):
            motion = advance(motion, context, *inputs)
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

        def make_zero_actions(before: PlanarState) -> Tensor:
            return torch.zeros(len(before.yaw_rate), 1, before.context.command_matrix.shape[-1])

        prior = self._predict_attention(state, make_zero_actions(state))
        rows = tuple(self.select_bodies(observation).tolist())

        def imagine(before: PlanarState) -> PlanarState:
            return self.imagine(before, make_zero_actions(before))[0]

        return agents.update_belief(previous, rows, state, prior, imagine)

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: AttentionBelief | None = None) -> PlanarState:
        state = super().encode(observation, steps)
        return state if belief is None else replace(state, attention=torch.stack([belief.attention, belief.prior], -1))

    def count_particles(self, state: PlanarState) -> int:
        return NUM_PARTICLES if state.context.has_kind(*TRAFFIC_KINDS) else 1

    def assign_particles(self, state: PlanarState, particles: int) -> PlanarState:
        """Give each agent the latent noise of each particle, always the same."""
        if particles == 1:
            return state
        batch, num_dynamic = state.yaw_rate.shape
        noise = agents.sample_noise(particles, num_dynamic).to(state.yaw_rate)
        return replace(state, latent_noise=noise.repeat_interleave(batch // particles, 0))

    def _rollout_bodies(self, state: PlanarState, actions: Tensor) -> Bodies:
        """Predict the robot for each candidate, and the agents for a few representative candidates.

        Agents react to the robot, but many candidates are alike. Each candidate's robot is merged
        with the agents of its nearest representative, among which is the first candidate.
        """
        if not state.context.has_kind(*TRAFFIC_KINDS):
            return super()._rollout_bodies(state, actions)
        robot = super()._rollout_bodies(select_robot(state), actions)
        selected, nearest = choose_representatives(robot.pose[0, :, :, :, 0, :2].flatten(2), NUM_REPRESENTATIVES)
        # Detached: a candidate gets no gradient by way of agents that belong to another candidate.
        representatives = actions.detach()[torch.arange(len(actions))[:, None], selected]
        return merge_agents(robot, gather(super()._rollout_bodies(state, representatives), nearest))

    def _start_rollout(self, state: PlanarState, actions: Tensor) -> tuple[Motion, RolloutContext, Tensor]:
        """Compute the motion, the constants and the nodes (B, H, M, hidden) of a rollout."""
        scene = state.context
        gyration = rollout.compute_gyration(scene)
        sizes = torch.cat([scene.half_extents[..., :2], scene.rounding[..., None]], -1)
        # (E, M, 4 + len(DYNAMIC_KINDS)) sizes, gyration and kind of each body
        bodies = torch.cat([sizes / scene.unit[:, None, None], gyration[..., None], scene.kind], -1)
        context = self._build_rollout_context(scene, bodies, gyration)
        return rollout.extract_motion(state), context, self._encode_nodes(state, actions, bodies)

    def _encode_nodes(self, state: PlanarState, actions: Tensor, bodies: Tensor) -> Tensor:
        """Encode bodies, and the robot's command, as nodes (B, H, M, hidden)."""
        command = planar.compute_command(state, actions)
        command = torch.cat([command[..., :2] / state.context.unit[:, None, None], command[..., 2:]], -1)
        command = F.pad(command[:, :, None], (0, 0, 0, state.yaw_rate.shape[1] - 1))  # 0 for others
        nodes: Tensor = self.body(torch.cat([bodies[:, None].expand(*command.shape[:2], -1, -1), command], -1))
        return nodes

    def _predict_attention(self, state: PlanarState, actions: Tensor) -> Tensor:
        """Predict the probability (B, M) of attention to the robot from a state alone."""
        motion, context, nodes = self._start_rollout(state, actions[:, :1])
        return self._compute_attention(motion, context, nodes[:, 0])

    def _compute_attention(self, state: Motion, context: RolloutContext, node: Tensor) -> Tensor:
        hidden, *_ = self._pass_messages(state, context, node, None)
        return torch.sigmoid(ATTENTION_GAIN * self.attention(hidden)[..., ROBOT_COLUMN])

    def _build_rollout_context(self, scene: SceneContext, bodies: Tensor, gyration: Tensor) -> RolloutContext:
        unit = scene.unit[:, None, None]
        count = scene.core_half.shape[2]
        core = (scene.core_half / unit[..., None]).flatten(1, 2)
        rounding = repeat_per_box(scene.rounding / unit[..., 0], count)
        boxes = torch.cat([repeat_per_box(bodies, count), core], -1)
        total = boxes.shape[1]
        pairs = [boxes[:, :, None].expand(-1, -1, total, -1), boxes[:, None].expand(-1, total, -1, -1)]
        present = repeat_per_box(scene.present, count) * ((core.sum(-1) + rounding) > 0)
        body = torch.arange(total) // count
        is_agent = repeat_per_box(scene.is_agent, count)
        return RolloutContext(
            core_half=core,
            rounding=rounding,
            core_centre=torch.view_as_real(scene.core_centre / unit).flatten(1, 2) if count > 1 else None,
            gyration=gyration,
            kind=scene.kind,
            max_velocity_change=scene.is_agent * (scene.kind @ (VELOCITY_CHANGE * self.velocity_change)),
            max_speed=scene.kind @ self.max_speed,
            pair_shape=self.pair_pieces(torch.cat(pairs, -1)) if bodies.shape[1] > 1 else None,
            pair_present=present[:, :, None] * present[:, None] * (body[:, None] != body),
            pair_has_agent=torch.maximum(is_agent[:, :, None], is_agent[:, None]),
            pair_clearance=self._compute_pair_clearance(scene, core.square().sum(-1).sqrt() + rounding, count),
            static_centre=torch.view_as_real(scene.static_centre / unit[..., 0]),
            static_heading=torch.view_as_real(scene.static_heading),
            static_half=scene.static_half / unit,
            static_present=scene.static_present,
        )

    def _compute_pair_clearance(self, scene: SceneContext, radius: Tensor, count: int) -> Tensor | None:
        """Compute the distance (E, K, K) that boxes keep between centres; 0 unless of agents."""
        if count > 1 or (scene.has_kind(Kind.LOAD) and not scene.has_kind(*TRAFFIC_KINDS)):
            return None
        kind = repeat_per_box(scene.kind, count)
        clearance = kind @ (CLEARANCE * self.clearance.view(len(DYNAMIC_KINDS), -1)) @ kind.mT
        return (radius[:, :, None] + radius[:, None] + clearance) * repeat_per_box(scene.is_agent, count)[:, :, None]

    def _step_motion(self, state: Motion, context: RolloutContext, node: Tensor, attention: Tensor | None) -> Motion:
        """Advance bodies by one step: each changes its motion in its own frame."""
        own = rotate_vectors(state.velocity, invert_heading(state.heading))
        hidden, pushes, avoidance = self._pass_messages(state, context, node, attention)
        out = self.out(self.head(hidden).relu_())
        shift, kick = (SPEED_SCALE * (out[..., :4] + pushes[..., :4])).chunk(2, -1)
        if avoidance is not None:  # agents take on their new velocity at once
            change = contacts.limit_length(contacts.project_velocity_change(kick, avoidance), context.max_velocity_change)
            shift, kick = (torch.where(context.max_velocity_change[..., None] > 0, change, values) for values in (shift, kick))
        turn, twist = (out[..., 4:] + SPEED_SCALE * pushes[..., 4:] / context.gyration[..., None]).unbind(-1)
        moved = rotate_vectors(torch.stack([CONTROL_DT_S * (own + shift), own + kick], -2), state.heading[..., None, :])
        max_speed, max_yaw_rate = context.max_speed.unbind(-1)
        return Motion(
            position=state.position + moved[..., 0, :],
            heading=rotate_vectors(state.heading, vectors.make_heading(CONTROL_DT_S * (state.yaw_rate + turn))),
            velocity=contacts.limit_length(moved[..., 1, :], max_speed),
            yaw_rate=torch.clamp(state.yaw_rate + twist, -max_yaw_rate, max_yaw_rate),
        )

    def _pass_messages(
        self, state: Motion, context: RolloutContext, node: Tensor, attention: Tensor | None
    ) -> tuple[Tensor, Tensor, AvoidanceConstraint | None]:
        """Pass two rounds of messages.

        Returns:
            Hidden features (B, M, hidden), pushes (B, M, 6), and avoidance constraints (B, M, M).
        """
        inverse = invert_heading(state.heading)
        own = rotate_vectors(state.velocity, inverse)
        node = node + self.motion(torch.cat([own, state.yaw_rate[..., None]], -1))
        boxes, count = rollout.split_into_boxes(state, context)
        inverse = repeat_per_box(inverse, count)
        receive_static, receive, send = repeat_per_box(self.ends(F.relu(node)), count).chunk(3, -1)
        static, pushes = self._pass_static_messages(boxes, context, inverse, repeat_per_box(own, count), receive_static)
        first = second = torch.zeros_like(static)
        avoidance = None
        if context.pair_shape is not None:
            pairs, near, contact, avoidance = self._encode_pairs(boxes, context, context.pair_shape, inverse)
            if attention is not None:
                robot = context.kind[..., ROBOT_COLUMN]
                near = near * (1 - repeat_per_box(1 - attention, count)[:, :, None] * repeat_per_box(robot, count)[:, None])
            pair_first, pair_second = pairs.chunk(2, -1)
            first = _compute_messages(pair_first, receive, send, near).sum(2)
        hidden = self.first(sum_per_body(torch.cat([static, first], -1), count)).add_(node).relu_()
        if context.pair_shape is not None:
            receive, send = repeat_per_box(self.second_ends(hidden), count).chunk(2, -1)
            messages = _compute_messages(pair_second, receive, send, near)
            second = messages.sum(2)
            pushes = pushes + contact.apply_pushes(self.pair_push(messages))
            if avoidance is not None:
                yielding = torch.sigmoid(ATTENTION_GAIN * self.attention(hidden)) @ context.kind.mT
                if attention is not None:  # attentive agents yield to the robot
                    yielding = torch.maximum(yielding, robot[:, None])
                yielding = yielding * ((near > 0) & (context.max_velocity_change > 0)[..., None])
                avoidance = avoidance._replace(length=AVOIDANCE_SHARE * avoidance.length, is_yielding=yielding)
        inputs = torch.cat([hidden, sum_per_body(second, count)], -1)
        return self.second(inputs).relu_() + hidden, sum_per_body(pushes, count), avoidance

    def _pass_static_messages(
        self, state: Motion, context: RolloutContext, to_own_frame: Tensor, own: Tensor, receive: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum messages (B, K, edge) and pushes (B, K, 6) of static boxes, by closest points."""
        heading = context.static_heading[:, None]
        half = context.static_half[:, None]
        core = context.core_half[:, :, None]
        rounding = context.rounding[..., None]
        local = rotate_vectors(state.position[:, :, None] - context.static_centre[:, None], invert_heading(heading))
        nearest = torch.clamp(local, -half, half) - local
        nearest = rotate_vectors(nearest, rotate_vectors(heading, to_own_frame[:, :, None]))
        gap, normal = compute_gap(nearest, core, rounding)
        # The nearest corner of the receiver, or a point of its face.
        point = core * (5 * normal).clamp(-1, 1) + rounding[..., None] * normal
        contact = ContactGeometry(point if context.core_centre is None else point + context.core_centre[:, :, None], normal, gap)
        speed = -own[:, :, None] - state.yaw_rate[:, :, None, None] * rotate_quarter(contact.point)
        corner = subtract_box(nearest, core) / contacts.GAP_SCALE  # from a corner of the static box
        edges = self.static_edge(torch.cat([contact.compute_features(speed), corner.clamp(-5, 5)], -1))
        near = _compute_nearness(gap, self.graph_config.contact_range) * context.static_present[:, None]
        messages = edges.add_(receive[:, :, None]).relu_() * near[..., None]
        return messages.sum(2), contact.apply_pushes(self.static_push(messages))

    def _encode_pairs(
        self, state: Motion, context: RolloutContext, shapes: Tensor, to_own_frame: Tensor
    ) -> tuple[Tensor, Tensor, ContactGeometry, AvoidanceConstraint | None]:
        """Encode pairs of boxes, receiver (dim 1) and sender (dim 2), in the receiver's frame.

        Returns:
            Edges (B, K, K, 2 * edge), their weights (B, K, K), contacts, and avoidance constraints.
        """
        to_own_frame = to_own_frame[:, :, None]
        heading = rotate_vectors(state.heading[:, None], to_own_frame)
        offset, speed = (
            rotate_vectors(values[:, None] - values[:, :, None], to_own_frame) for values in (state.position, state.velocity)
        )
        core = context.core_half
        rounding = context.rounding
        inverse = invert_heading(heading)
        # From the receiver's centre to the sender's box, then from its box to the sender's centre.
        to_sender = -rotate_vectors(subtract_box(-rotate_vectors(offset, inverse), core[:, None]), heading)
        from_receiver = subtract_box(offset, core[:, :, None])
        receiver_gap, receiver_normal = compute_gap(to_sender, core[:, :, None], rounding[..., None])
        sender_gap, sender_normal = compute_gap(rotate_vectors(from_receiver, inverse), core[:, None], rounding[:, None])
        receiver_gap = receiver_gap - rounding[:, None]
        sender_gap = sender_gap - rounding[..., None]
        # 1 where a corner of the sender would touch a face of the receiver, 0 in the opposite case.
        share = torch.sigmoid((receiver_gap - sender_gap) / BLEND_SCALE)[..., None]
        normal = torch.lerp(rotate_vectors(sender_normal, heading), receiver_normal, share)
        point = torch.lerp(offset - from_receiver, to_sender, share)
        lever = point - offset
        if context.core_centre is not None:
            lever = lever + rotate_vectors(context.core_centre[:, None], heading)
            point = point + context.core_centre[:, :, None]
        contact = ContactGeometry(point, normal, torch.maximum(receiver_gap, sender_gap))
        yaw_rate = state.yaw_rate[:, None, :, None].expand(-1, receiver_gap.shape[1], -1, -1)
        point_speed = speed + yaw_rate * rotate_quarter(lever) - state.yaw_rate[:, :, None, None] * rotate_quarter(point)
        levers = torch.stack([vectors.compute_cross_product(lever, normal) / contacts.LEVER_SCALE, yaw_rate[..., 0]], -1)
        contact_features = contact.compute_features(point_speed)
        features = torch.cat([offset, heading, speed, to_sender, from_receiver, contact_features, levers], -1)
        avoidance = None
        if context.pair_clearance is not None:
            horizon_s = AVOIDANCE_HORIZON_S * self.avoidance_horizon
            avoidance = contacts.compute_avoidance(offset, speed, context.pair_clearance, horizon_s)
            length = (avoidance.length / AVOIDANCE_SCALE).clamp(-2, 2)[..., None]
            change = torch.cat([avoidance.normal * length.clamp(min=0), length], -1)
            features = torch.cat([features, change * context.pair_has_agent[..., None]], -1)
        edges = F.linear(features, self.pair_edge.weight[:, : features.shape[-1]]) + shapes
        config = self.graph_config
        interaction_range = config.contact_range + (config.avoidance_range - config.contact_range) * context.pair_has_agent
        return edges, _compute_nearness(contact.gap, interaction_range) * context.pair_present, contact, avoidance

    def compute_loss(self, batch: Batch) -> Tensor:
        state = batch.state
        if state.context.has_kind(*TRAFFIC_KINDS):
            errors = self._compute_energy_scores(state, batch.actions, batch.targets)
        else:
            pairs = zip(self.imagine(state, batch.actions), batch.targets, strict=True)
            errors = torch.stack([compute_step_errors(*pair) for pair in pairs])
        return (errors * state.context.present).sum() / state.context.present.expand_as(errors).sum()

    def _compute_energy_scores(self, state: PlanarState, actions: Tensor, targets: list[PlanarState]) -> Tensor:
        """Compute the energy scores (H, W, M) of two particles with attentive agents, two without."""
        rate = state.yaw_rate
        noise = torch.randn(2, *rate.shape, agents.NOISE_SIZE, device=rate.device)
        is_attentive = torch.rand_like(rate) < 0.5
        noises = [agents.fix_attention(noise, mask) for mask in (is_attentive, ~is_attentive)]
        start = replace(repeat_batch(state, 4), latent_noise=torch.cat(noises).flatten(0, 1))
        attention = self._predict_attention(state, actions)
        probability = torch.where(is_attentive, attention, 1 - attention)  # of the first two
        pairs = zip(self.imagine(start, actions.repeat(4, 1, 1)), targets, strict=True)
        return torch.stack([compute_mixture_scores(particles, true, probability) for particles, true in pairs])


def _compute_nearness(gap: Tensor, interaction_range: Tensor | float) -> Tensor:
    return (1 - gap / interaction_range).clamp(0, 1)


def _compute_messages(edges: Tensor, receive: Tensor, send: Tensor, near: Tensor) -> Tensor:
    """Compute the messages (B, M, M, edge) from senders (dim 2) to receivers (dim 1)."""
    return (edges + receive[:, :, None]).add_(send[:, None]).relu_() * near[..., None]
