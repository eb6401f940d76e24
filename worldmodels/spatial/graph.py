"""spatial-graph: message passing over bodies in space, with all features in each body's own frame.

A body receives messages from its nearest bodies, one for each contact point of the pair. A frame of
a body is that of its axes, relabelled so that z is the axis nearest to the vertical: a box that
tipped over looks like an upright one. No feature depends on the origin or on a heading, so
predictions turn and shift with the scene. A message describes point, normal, gap and the velocities
there, and adds a push at that point. Gravity acts on a body to the degree that it is not supported.

In scenes whose actions are skills, a step is one jump: the skill tells where it would leave all
bodies if nothing slipped or fell, and the network predicts the difference after settling, the
probability that each body stands, and that of a violation.

The heads are an ensemble on a shared trunk: their predictions are the particles.
Sources: Sanchez-Gonzalez et al. 2020, "Learning to simulate complex physics with graph networks";
Osband et al. 2016, "Deep exploration via bootstrapped DQN" (heads).
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sim.actions import ZONE_GAIN_PER_S
from sim.bodies import CONTROL_DT_S, Bodies, Kind, Observation, Shape, is_static_kind
from sim.data.episode import Episode
from sim.geometry.arrays import get_namespace
from sim.geometry.rotations import integrate_rotation, rotate_in_space
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError
from worldmodels.model import LearnedModel, Prediction, models
from worldmodels.poses import average_poses, compute_rotation_vector
from worldmodels.spatial import state as spatial
from worldmodels.spatial.box_distance import compute_box_contacts, rotate, rotate_back
from worldmodels.spatial.state import MOTION_FIELDS, SpatialState, SpatialWindows
from worldmodels.training.compile import CompiledFunction
from worldmodels.training.windows import Batch, EpisodeWindows, JointWindows

GRAVITY_M_S2 = 9.81
STATIC_RANGE = 2.0  # [units] from bodies, of static bodies that matter in usual plans
MAX_DISTANCE = 1e3  # [units] of bodies that are absent
GAP_SCALES = (0.1, 0.01)  # [units] typical gaps before and in contact
SPEED_SCALE = 0.5  # [units/s] typical speed where contact matters
LONG_HALF_EXTENT = 0.3  # [units] of bodies whose middle has no influence
SIZE_SCALE = 0.2  # [units] typical size of a body
JUMP_SCALES = (0.1, 0.5)  # [units, rad] typical settling of a body that is not stable
NUM_POINT_FEATURES = 20
NUM_BODY_FEATURES = 20 + len(Kind)
NUM_OUTPUTS = 15
# Errors that count alike: position [units], rotation [rad], velocity [units/s], angular velocity.
ERROR_SCALES = (0.01, 0.05, 0.05, 0.3)
MIN_TOLERANCE = 0.002  # [units] error of settled bodies that counts like MOVED_TOLERANCE
MOVED_TOLERANCE = 0.1  # of the distance moved
MIN_MOVED = 0.02  # [units] distance of bodies that count as moved
MAX_STANDING_DROP_M = 0.02
MIN_STANDING_COSINE = math.cos(math.radians(10))
get_namespace(torch.zeros(()))  # a compilation could not follow the first search
FALL_COST = 3.0  # of a body that falls for certain in the final test [cost unit]
NUM_LOCAL_BODIES = 8  # that a skill may change, in plans: the nearest to the one that it moves
# Cartons touch many others.
SKILL_SIZES: dict[str, int] = {"num_rounds": 3, "num_neighbours": 8, "num_heads": 5}


@dataclass(frozen=True)
class SpatialGraphConfig:
    """Sizes of the network."""

    hidden_size: int = 64
    edge_size: int = 32
    num_rounds: int = 2
    num_neighbours: int = 6
    num_heads: int = 1
    contact_range: float = 0.3  # [units] gap beyond which bodies do not touch soon
    skill_scene: str = ""  # scene whose actions are skills; empty: actions are velocities

    def __post_init__(self) -> None:
        sizes = (self.hidden_size, self.edge_size, self.num_rounds, self.num_neighbours, self.num_heads)
        if min(sizes) < 1 or self.contact_range <= 0:
            raise GroundError(f"spatial-graph sizes must be positive, not {self}")


class Motion(NamedTuple):
    """Motion of N bodies in the world frame, dynamic ones first, lengths in the scene's unit."""

    position: Tensor  # (B, M, 3)
    rotation: Tensor  # (B, M, 4) quaternion xyzw
    velocity: Tensor  # (B, M, 3)
    angular_velocity: Tensor  # (B, M, 3)


class Constants(NamedTuple):
    """Constants of a rollout, lengths in the scene's unit."""

    half_extents: Tensor  # (B, N, 3)
    kind: Tensor  # (B, N, len(Kind)) one-hot
    is_cylinder: Tensor  # (B, N) 1 or 0
    present: Tensor  # (B, N)
    inertia: Tensor  # (B, N, 5) 1 if measured, logarithm of the mass, centre of mass
    gravity: Tensor  # (B, N) [units/s²]


class Changes(NamedTuple):
    """Predicted changes of M bodies in P particles, vectors in the world frame."""

    vectors: Tensor  # (P * B, M, 4, 3) of position, rotation, velocity and angular velocity
    freedom: Tensor  # (P * B, M) 1: nothing supports the body; 0: it stands firmly
    standing: Tensor  # (P * B, M) logit of the probability that it still stands after the step
    violation: Tensor  # (P * B,) logit of the probability of a violation


class Rollout(NamedTuple):
    """Predicted H steps of B scenes."""

    states: list[SpatialState]  # H states of P * B scenes, one block of B for each particle
    changes: list[Changes]  # H changes
    test: Changes | None  # in the final test after them


class BodyFrames(NamedTuple):
    """Frames of bodies, whose z axis is nearest to the vertical."""

    axes: Tensor  # (B, N, 3, 3) in columns, world frame
    half_extents: Tensor  # (B, N, 3) along these axes
    order: Tensor  # (B, N, 3) the body's own axis of each axis
    signs: Tensor  # (B, N, 3)


@models.add("spatial-graph")
class SpatialGraph(LearnedModel):
    """A graph network of rigid bodies in space."""

    name = "spatial-graph"

    def __init__(self, config: SpatialGraphConfig | None = None, **sizes: Any) -> None:
        super().__init__()
        self._build(config or SpatialGraphConfig(**sizes))

    def _build(self, config: SpatialGraphConfig) -> None:
        self.spatial_config = config
        hidden, edge, rounds, heads = config.hidden_size, config.edge_size, config.num_rounds, config.num_heads
        self.particles = heads
        self._skill = scenes[config.skill_scene].skill if config.skill_scene else None
        self.body = nn.Linear(NUM_BODY_FEATURES + (4 + self._skill.num_features if self._skill else 6), hidden)
        self.edge = nn.Linear(NUM_POINT_FEATURES, rounds * edge)
        self.receive, self.send = (nn.ModuleList(nn.Linear(hidden, edge, bias=False) for _ in range(rounds)) for _ in range(2))
        self.update = nn.ModuleList(nn.Linear(hidden + edge, hidden) for _ in range(rounds))
        self.push = nn.Linear(edge, 4, bias=False)
        self.head = nn.Parameter(nn.init.kaiming_uniform_(torch.empty(heads, hidden, hidden), math.sqrt(5)))
        self.out = nn.Parameter(torch.zeros(heads, hidden, NUM_OUTPUTS))
        self.bias = nn.Parameter(torch.zeros(heads, 1, NUM_OUTPUTS))
        nn.init.zeros_(self.push.weight)
        self._step_compiled = CompiledFunction(self._step)

    def get_config(self) -> dict[str, Any]:
        return asdict(self.spatial_config)

    @torch.inference_mode()
    def start_episode(self, start: EpisodeStart) -> None:
        """Compile for the number of bodies of the scene, before the first decision."""
        if not self.is_compiled:
            return
        scene = scenes[self.scene]
        count = scene.max_dynamic if self._keeps_absent_bodies else 1 + len(start.layout.loads)
        rows = {"pose": 7, "twist": 6, "half_extents": 3, "measured_inertia": 4}
        example: Observation = {name: np.ones((count + 1, size)) for name, size in rows.items()}
        example |= {
            "shape": np.zeros(count + 1),
            "present": np.ones(count + 1),
            "kind": np.array([*[Kind.LOAD] * count, Kind.RACK]),
        }
        state = self.encode({**example, "action_twist": scene.action_spec.twist, "unit_m": np.ones(1)})
        self.rollout(state, torch.zeros(2, 2, self.action_size))

    @property
    def _keeps_absent_bodies(self) -> bool:
        """Bodies that arrive later keep their rows, so that rows have a meaning in all steps."""
        return bool(self._skill or (self.scene and scenes[self.scene].make_world))

    @classmethod
    def make_windows(cls, episodes: Iterable[Episode], scene: str) -> SpatialWindows:
        """Decode episodes into windows of bodies in space."""
        return SpatialWindows(episodes, scene)

    def fit_normalisation(self, windows: EpisodeWindows | JointWindows) -> None:
        """Set up for the skill of the training data, if actions are skills."""
        names = [part.scene for part in windows.parts.values() if isinstance(part, SpatialWindows)]
        if len(names) == 1 and names[0] in list(scenes) and scenes[names[0]].skill:
            self._build(replace(self.spatial_config, skill_scene=names[0], **SKILL_SIZES))

    def encode(self, observation: Mapping[str, np.ndarray], steps: int = 0, belief: Any = None) -> SpatialState:
        if self._skill:
            return spatial.encode_observation(observation, self.select_bodies(observation), self.scene)
        speed = float(np.linalg.norm(observation["action_twist"][:3]))
        reach = max(STATIC_RANGE * float(observation["unit_m"][0]), steps * CONTROL_DT_S * speed)
        return spatial.encode_observation(observation, self.select_bodies(observation), self.scene, reach)

    def select_bodies(self, observation: Mapping[str, np.ndarray]) -> np.ndarray:
        """Select the dynamic bodies, also absent ones in scenes where bodies arrive later."""
        if self._keeps_absent_bodies:
            return np.arange(int(np.argmax(np.append(is_static_kind(observation["kind"]), True))))
        return super().select_bodies(observation)

    def rollout_batch(self, states: Sequence[SpatialState], actions: Sequence[Tensor]) -> list[Prediction]:
        groups = defaultdict[Any, list[int]](list)  # scenes of equal sizes are predicted at once
        for index, (state, candidates) in enumerate(zip(states, actions, strict=True)):
            groups[state.num_dynamic, candidates.shape].append(index)
        predictions: dict[int, Prediction] = {}
        for group in groups.values():
            candidates = torch.stack([actions[index] for index in group])
            with torch.inference_mode(not candidates.requires_grad):
                state = spatial.stack_scenes([states[index] for index in group], states[group[0]].num_dynamic)
                for index, prediction in zip(group, self._rollout(state, candidates), strict=True):
                    predictions[index] = prediction
        return [predictions[index] for index in range(len(states))]

    def _rollout(self, state: SpatialState, actions: Tensor) -> list[Prediction]:
        """Predict the candidates (E, B, H, A) of E scenes."""
        count, batch = actions.shape[:2]
        shape = self.particles, count, batch
        state = state.map(lambda values: values.repeat_interleave(batch, 0))
        rollout = self.imagine(state, actions.flatten(0, 1), is_local=True)
        bodies = spatial.decode_bodies(rollout.states).map(lambda values: values.unflatten(0, shape))
        picks = [itemgetter((slice(None), index)) for index in range(count)]
        if not self._skill:
            return [Prediction(bodies.map(pick)) for pick in picks]
        violation = torch.stack([change.violation.sigmoid() for change in rollout.changes], -1).unflatten(0, shape)
        value = None if rollout.test is None else FALL_COST * rollout.test.standing.neg().sigmoid().amax(-1).unflatten(0, shape)
        return [
            Prediction(bodies.map(pick), violation=pick(violation), value=None if value is None else pick(value))
            for pick in picks
        ]

    def imagine(self, state: SpatialState, actions: Tensor, is_local: bool = False) -> Rollout:
        """Predict the states after each action, differentiably.

        Each step starts from the mean of the particles.

        Args:
            state: B scenes.
            actions: (B, H, A) in [-1, 1].
            is_local: skills change only the nearest bodies to the one that they move, and the final
                test is predicted.
        """
        constants = _make_constants(state)
        for values in (*constants, *_get_motion(state)):
            torch._dynamo.maybe_mark_dynamic(values, 0)
        states, steps, test, anchor = [], [], None, None
        for t in range(actions.shape[1]):
            nominal = None
            if self._skill:
                nominal, inputs = self.apply_skill(state, actions[:, t])
                if is_local:
                    anchor = _find_moved_place(state, nominal)
            else:
                inputs = _compute_command(state, actions[:, t])
            predicted, changes = self._advance(state, constants, inputs, nominal, anchor)
            states.append(predicted)
            steps.append(changes)
            state = _average_particles(predicted, self.particles)
        if self._skill and is_local and self._skill.test_features is not None:
            inputs = torch.tensor(self._skill.test_features).to(state.position).expand(len(state.position), -1)
            test = self._advance(state, constants, inputs, state, anchor)[1]
        return Rollout(states, steps, test)

    def _advance(
        self, state: SpatialState, constants: Constants, inputs: Tensor, nominal: SpatialState | None, anchor: Tensor | None
    ) -> tuple[SpatialState, Changes]:
        """Predict one step, for skills that of the bodies nearest to `anchor` (B, 3)."""
        is_eager = inputs.requires_grad or state.position.requires_grad or self.training or not self.is_compiled
        step = self._step if is_eager else self._step_compiled
        count = state.num_dynamic
        motion = _get_motion(state)
        reference = None if nominal is None else _get_motion(nominal)
        repeated = (state if nominal is None else nominal).map(
            lambda values: values.repeat(self.particles, *[1] * (values.ndim - 1))
        )
        if reference is None or anchor is None or count <= NUM_LOCAL_BODIES:
            after, changes = step(motion, constants, inputs, reference, count)
            return _put_motion(repeated, after), changes
        order = _sort_by_distance(reference.position, constants.present, anchor, count)
        motion, reference = (Motion(*(_select_rows(values, order) for values in parts)) for parts in (motion, reference))
        constants = Constants(*(_select_rows(values, order) for values in constants))
        after, changes = step(motion, constants, inputs, reference, NUM_LOCAL_BODIES)
        rows = order[:, :NUM_LOCAL_BODIES].repeat(self.particles, 1)
        pairs = zip(_get_motion(repeated), after, strict=True)
        complete = (values.scatter(1, rows[..., None].expand_as(part), part)[:, :count] for values, part in pairs)
        return _put_motion(repeated, Motion(*complete)), changes

    def apply_skill(self, state: SpatialState, action: Tensor) -> tuple[SpatialState, Tensor]:
        """Apply the intended effect of a skill.

        Args:
            state: B scenes.
            action: (B, A) in [-1, 1].

        Returns:
            The state of B scenes if nothing slipped or fell, and the features (B, F) of the action.
        """
        assert self._skill is not None
        pose, features = self._skill.compute_nominal(state.decode(), action)
        pose = pose.to(state.position)
        zero = torch.zeros_like(state.velocity[:, : state.num_dynamic])
        velocity, spin = (
            torch.cat([zero, values[:, state.num_dynamic :]], 1) for values in (state.velocity, state.angular_velocity)
        )
        parts = zip(MOTION_FIELDS, (pose[..., :3], pose[..., 3:], velocity, spin), strict=True)
        return replace(state, **dict(parts)), features.to(pose)

    def _step(
        self, motion: Motion, constants: Constants, inputs: Tensor, nominal: Motion | None, count: int
    ) -> tuple[Motion, Changes]:
        """Advance `count` bodies by one control step, or by the skill that leads to `nominal`."""
        changes = self._predict_changes(motion, constants, inputs, nominal, count)
        free = changes.freedom[..., None]
        shift, turn, kick, twist = changes.vectors.unbind(-2)
        start = motion if nominal is None else nominal
        position, rotation, velocity, angular_velocity = (values[:, :count].repeat(self.particles, 1, 1) for values in start)
        if nominal is not None:
            position = position + free * JUMP_SCALES[0] * shift
            rotation = integrate_rotation(rotation, free * JUMP_SCALES[1] * turn, 1.0)
            return Motion(position, rotation, velocity, angular_velocity), changes
        gravity = constants.gravity[:, :count, None].repeat(self.particles, 1, 1)
        fall = -CONTROL_DT_S * gravity * free * torch.tensor([0.0, 0.0, 1.0]).to(position)
        position = position + CONTROL_DT_S * (velocity + SPEED_SCALE * shift + fall / 2)
        rotation = integrate_rotation(rotation, angular_velocity + turn, CONTROL_DT_S)
        return Motion(position, rotation, velocity + SPEED_SCALE * kick + fall, angular_velocity + twist), changes

    def _predict_changes(
        self, motion: Motion, constants: Constants, inputs: Tensor, nominal: Motion | None, count: int
    ) -> Changes:
        config = self.spatial_config
        bodies = motion if nominal is None else nominal
        batch = len(bodies.position)
        frames = _make_frames(bodies.rotation, constants.half_extents)
        node = self._encode_bodies(motion, frames, constants, inputs, nominal)
        index = _find_neighbours(bodies, frames, constants, count, config.num_neighbours)
        features, near, normal, point, sliding = _encode_contacts(bodies, frames, constants, index, config.contact_range)
        edges = self.edge(features).chunk(config.num_rounds, -1)
        hidden = node.relu()
        for edge, receive, send, update in zip(edges, self.receive, self.send, self.update, strict=True):
            sent = _gather(send(hidden), index)[..., None, :]
            messages = (edge + sent + receive(hidden[:, :count])[:, :, None, None]).relu() * near[..., None]
            own = hidden[:, :count]
            own = own + update(torch.cat([own, messages.sum((2, 3))], -1)).relu()
            hidden = torch.cat([own, hidden[:, count:]], 1)
        out = ((own.flatten(0, 1) @ self.head).relu() @ self.out + self.bias).unflatten(1, (batch, count))
        frames = BodyFrames(*(values[:, :count] for values in frames))
        square = frames.half_extents.square()
        gyration = ((square.sum(-1, keepdim=True) - square) / 3).clamp(min=1e-3)
        scale = torch.stack([torch.ones_like(gyration), gyration / SPEED_SCALE] * 2, -2)
        vectors = out[..., :12].unflatten(-1, (4, 3)) + self._compute_pushes(messages, normal, point, sliding) / scale
        world = rotate(frames.axes[..., None, :, :], vectors).flatten(0, 1)
        freedom, standing, violation = out[..., 12:].flatten(0, 1).unbind(-1)
        # A soft maximum over the present bodies.
        present = constants.present[:, :count].log().repeat(self.particles, 1)
        violation = (violation + present).logsumexp(-1) - present.exp().sum(-1).clamp(min=1).log()
        return Changes(world, torch.sigmoid(freedom), standing, violation)

    def _compute_pushes(self, messages: Tensor, normal: Tensor, point: Tensor, sliding: Tensor) -> Tensor:
        """Sum the pushes at contact points, and their moments: (B, M, 4, 3)."""
        size = self.push(messages)
        shift, kick = (size[..., i : i + 1] * normal + size[..., i + 1 : i + 2] * sliding for i in (0, 2))
        pairs = [(push, torch.linalg.cross(point, push)) for push in (shift, kick)]
        return torch.stack([values.sum((2, 3)) for pair in pairs for values in pair], -2)

    def _encode_bodies(
        self, motion: Motion, frames: BodyFrames, constants: Constants, inputs: Tensor, nominal: Motion | None
    ) -> Tensor:
        """Encode all bodies as nodes (B, N, hidden)."""
        bodies = motion if nominal is None else nominal
        total = bodies.position.shape[1]
        velocity, angular_velocity = (rotate_back(frames.axes, values) for values in bodies[2:])
        centre = constants.inertia[..., 2:].gather(-1, frames.order) * frames.signs
        is_round = (frames.order == 2) * constants.is_cylinder[..., None]
        parts = (
            (frames.half_extents / SIZE_SCALE).clamp(max=5),
            frames.axes[..., 2, :],
            velocity / SPEED_SCALE,
            angular_velocity,
            is_round,
            centre / SIZE_SCALE,
            constants.kind,
            constants.inertia[..., :2],
        )
        if nominal is None:  # the robot's command, against its motion
            own = torch.cat([velocity[:, 0] / SPEED_SCALE, angular_velocity[:, 0]], -1)
            command = (inputs * torch.tensor([1 / SPEED_SCALE] * 3 + [1.0] * 3).to(inputs) - own)[:, None]
            extra = F.pad(command, (0, 0, 0, total - 1))
        else:
            moved = nominal.position - motion.position
            is_moved = (moved.abs().sum(-1, keepdim=True) > 1e-4).to(moved)
            moved = (rotate_back(frames.axes, moved) / SIZE_SCALE).clamp(-5, 5)
            extra = torch.cat([moved, is_moved, inputs[:, None].expand(-1, total, -1)], -1)
        node: Tensor = self.body(torch.cat([*parts, extra], -1))
        return node

    def compute_loss(self, batch: Batch) -> Tensor:
        rollout = self.imagine(batch.state, batch.actions)
        bodies = batch.state.decode_dynamic()
        counted = bodies.present * (bodies.kind != Kind.ROBOT) if self._skill else bodies.present
        before = batch.state
        total = torch.zeros(())
        for t, (state, change, true) in enumerate(zip(rollout.states, rollout.changes, batch.targets, strict=True)):
            nominal = self.apply_skill(before, batch.actions[:, t])[0] if self._skill else None
            errors = _compute_errors(state, true, nominal)
            if nominal is not None:
                stands = find_standing(nominal, true).to(errors)
                errors = errors + F.binary_cross_entropy_with_logits(
                    change.standing.unflatten(0, (-1, len(counted))), stands.expand_as(errors), reduction="none"
                )
                logits = change.violation.unflatten(0, (-1, len(counted)))
                total = total + F.binary_cross_entropy_with_logits(logits, true.violation.expand_as(logits))
            total = total + (errors * counted).sum() / counted.expand_as(errors).sum()
            before = true
        return total / len(batch.targets)

    @torch.inference_mode()
    def predict_bodies(self, state: SpatialState, actions: Tensor) -> Bodies:
        """Predict the dynamic bodies in every particle.

        Args:
            state: W scenes.
            actions: (W, H, A) in [-1, 1].

        Returns:
            Bodies (P, W, H, M, ...).
        """
        bodies = spatial.decode_bodies(self.imagine(state, actions).states)
        return bodies.map(lambda values: values.unflatten(0, (-1, len(actions))))

    def compute_validation_error(self, batch: Batch) -> float:
        """Compute the error of bodies at the windows' end.

        Returns:
            The median [mm] of those that moved, NaN if none did. For skills the mean of all, since
            most bodies hardly move.
        """
        true = batch.targets[-1].decode_dynamic().pose
        end = average_poses(self.predict_bodies(batch.state, batch.actions).pose[:, :, -1])
        errors = (end - true)[..., :3].norm(dim=-1)
        if self._skill:
            return 1e3 * float(errors[batch.state.present[:, : errors.shape[1]] > 0].mean())
        errors = errors[self._find_moved_bodies(batch)]
        return 1e3 * float(errors.median()) if len(errors) else math.nan

    def describe_validation(self, batch: Batch, dynamic_noun: str) -> str:
        """Name the error.

        Raises:
            GroundError: only the robot moves, so the error is undefined.
        """
        if not self._skill and not self._find_moved_bodies(batch).any():
            raise GroundError("nothing but the robot moves in the validation data: collect more of it")
        return f"{dynamic_noun} error"

    def _find_moved_bodies(self, batch: Batch) -> Tensor:
        """Find the dynamic bodies (B, M), other than a robot, that moved."""
        before, after = batch.state, batch.targets[-1]
        bodies = before.decode_dynamic()
        distance = (after.decode_dynamic().pose - bodies.pose)[..., :3].norm(dim=-1)
        return (distance > MIN_MOVED * before.unit_m[:, None]) & (bodies.present > 0) & (bodies.kind != Kind.ROBOT)


def find_standing(before: SpatialState, after: SpatialState) -> Tensor:
    """Find the dynamic bodies (B, M) that neither dropped nor tilted between two states."""
    count = before.num_dynamic
    drop = (before.position - after.position)[:, :count, 2]
    up = torch.tensor([0.0, 0.0, 1.0]).to(drop)
    axes = (rotate_in_space(up, state.rotation[:, :count]) for state in (before, after))
    cosine = math.prod(axes).sum(-1)
    return (drop <= MAX_STANDING_DROP_M) & (cosine >= MIN_STANDING_COSINE)


def _make_constants(state: SpatialState) -> Constants:
    unit = state.unit_m[:, None, None]
    mass = state.inertia[..., :1]
    return Constants(
        half_extents=state.half_extents / unit,
        kind=F.one_hot(state.kind, len(Kind)).to(unit),
        is_cylinder=(state.shape == Shape.CYLINDER).to(unit),
        present=state.present.clone(),
        inertia=torch.cat([(mass > 0).to(unit), mass.log1p(), state.inertia[..., 1:] / unit], -1),
        gravity=(GRAVITY_M_S2 / unit[..., 0]).expand_as(state.present).contiguous(),
    )


def _get_motion(state: SpatialState) -> Motion:
    position, rotation, velocity, angular_velocity = (getattr(state, name) for name in MOTION_FIELDS)
    unit = state.unit_m[:, None, None]
    return Motion(position / unit, rotation, velocity / unit, angular_velocity)


def _put_motion(state: SpatialState, motion: Motion) -> SpatialState:
    """Replace the motion of the first bodies."""
    unit = state.unit_m[:, None, None]
    parts = (motion.position * unit, motion.rotation, motion.velocity * unit, motion.angular_velocity)
    pairs = zip(MOTION_FIELDS, parts, strict=True)
    changed: dict[str, Any] = {name: torch.cat([part, getattr(state, name)[:, part.shape[1] :]], 1) for name, part in pairs}
    return replace(state, **changed)


def _average_particles(state: SpatialState, particles: int) -> SpatialState:
    """Average the motion over P blocks of a batch."""
    if particles == 1:
        return state
    count = len(state.position) // particles
    motion = [getattr(state, name).unflatten(0, (particles, count)) for name in MOTION_FIELDS]
    pose = average_poses(torch.cat(motion[:2], -1))
    parts = (pose[..., :3], pose[..., 3:], *(values.mean(0) for values in motion[2:]))
    return replace(state.map(lambda values: values[:count]), **dict(zip(MOTION_FIELDS, parts, strict=True)))


def _find_moved_place(before: SpatialState, nominal: SpatialState) -> Tensor:
    """Find the new position (B, 3) of the body that a skill moves most, in the scene's unit."""
    distance = (nominal.position - before.position).square().sum(-1)
    row = distance.argmax(-1)[:, None, None].expand(-1, 1, 3)
    return nominal.position.gather(1, row)[:, 0] / before.unit_m[:, None]


def _sort_by_distance(position: Tensor, present: Tensor, anchor: Tensor, count: int) -> Tensor:
    """Sort bodies (B, N): present dynamic ones by their distance from a place, then the others."""
    distance = (position - anchor[:, None]).norm(dim=-1) + MAX_DISTANCE * (1 - present)
    distance[:, count:] = 2 * MAX_DISTANCE
    return distance.argsort(stable=True, dim=-1)


def _select_rows(values: Tensor, order: Tensor) -> Tensor:
    """Select rows (B, K) of values (B, N, ...)."""
    index = order.reshape(*order.shape, *[1] * (values.ndim - 2)).expand(*order.shape, *values.shape[2:])
    return values.gather(1, index)


def _make_matrix(quaternion: Tensor) -> Tensor:
    """Make rotation matrices (..., 3, 3) of quaternions xyzw."""
    x, y, z, w = quaternion.unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)),
        *(2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)),
        *(2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def _make_frames(rotation: Tensor, half_extents: Tensor) -> BodyFrames:
    axes = _make_matrix(rotation)
    vertical = axes[..., 2, :]
    highest = vertical.abs().argmax(-1, keepdim=True)
    order = (highest + torch.tensor([1, 2, 0]).to(highest)) % 3
    flip = torch.where(vertical.gather(-1, highest) < 0, -1.0, 1.0)
    signs = torch.cat([torch.ones_like(flip), flip, flip], -1)  # stays right-handed
    axes = axes.gather(-1, order[..., None, :].expand_as(axes)) * signs[..., None, :]
    return BodyFrames(axes, half_extents.gather(-1, order), order, signs)


def _gather(values: Tensor, index: Tensor) -> Tensor:
    """Gather the rows (B, M, K, D) of values (B, N, D) by index (B, M, K)."""
    rows = index.flatten(1)[..., None].expand(-1, -1, values.shape[-1])
    return values.gather(1, rows).unflatten(1, index.shape[1:])


def _find_neighbours(bodies: Motion, frames: BodyFrames, constants: Constants, count: int, limit: int) -> Tensor:
    """Find the nearest bodies (B, M, K) of M dynamic ones, by a lower bound of the distance."""
    offset = bodies.position[:, :count, None] - bodies.position[:, None]  # (B, M, N, 3)
    local = rotate_back(frames.axes[:, None], offset)
    outside = (local.abs() - frames.half_extents[:, None]).clamp(min=0).norm(dim=-1)
    bound = outside - frames.half_extents[:, :count, None].norm(dim=-1)
    total = bodies.position.shape[1]
    is_same = torch.eye(count, total, device=bound.device)
    absent = is_same + 1 - constants.present[:, None]
    return (bound + MAX_DISTANCE * absent).topk(min(limit, total), largest=False).indices


def _encode_contacts(
    bodies: Motion, frames: BodyFrames, constants: Constants, index: Tensor, contact_range: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Encode the contact points (B, M, K, P) of M bodies with K neighbours, in the bodies' frames.

    Returns:
        Features, nearness, normals, points, and sliding velocities.
    """
    count = index.shape[1]
    packed = [bodies.position, frames.axes.flatten(-2), frames.half_extents, bodies.velocity, bodies.angular_velocity]
    packed.append(constants.present[..., None])
    packed.append(_make_matrix(bodies.rotation)[..., 2] * constants.is_cylinder[..., None])
    mine = [values[:, :count, None] for values in packed]
    parts = _gather(torch.cat(packed, -1), index).split([values.shape[-1] for values in packed], -1)
    position, axes, half, velocity, angular_velocity, present, axis = parts
    own_axes, axes = mine[1].unflatten(-1, (3, 3)), axes.unflatten(-1, (3, 3))
    own_half = mine[2].expand_as(half)
    offset = position - mine[0]
    box_axes, box_half = _face_cylinder(offset, own_axes, own_half, axes, half, mine[-1])
    other_axes, other_half = _face_cylinder(-offset, axes, half, own_axes, own_half, axis)
    turn = (box_axes[..., None] * other_axes[..., None, :]).sum(-3)
    contact = compute_box_contacts(rotate_back(box_axes, offset), turn, box_half, other_half)
    back = (own_axes[..., None] * box_axes[..., None, :]).sum(-3)[..., None, :, :]
    normal = rotate(back, contact.normal[..., None, :])
    point = rotate(back, contact.points)
    centre, speed, spin, own_spin = (
        rotate_back(own_axes, values)[..., None, :]
        for values in (offset, velocity - mine[3], angular_velocity, mine[4].expand_as(offset))
    )
    lever = point - centre
    speed = speed + torch.linalg.cross(spin.expand_as(lever), lever) - torch.linalg.cross(own_spin.expand_as(point), point)
    # Centres of long bodies, such as belts and the floor, are of no importance along them.
    beyond = (half - LONG_HALF_EXTENT).clamp(min=0)
    middle = offset + rotate(axes, torch.clamp(rotate_back(axes, -offset), -beyond, beyond))
    middle = rotate_back(own_axes, middle)[..., None, :]
    normal = normal.expand_as(point)
    closing = -(speed * normal).sum(-1, keepdim=True)
    sliding = speed + closing * normal
    gaps = contact.gaps[..., None]
    moment = torch.linalg.cross(point, normal)
    features = [
        *(gaps / GAP_SCALES[0], gaps / GAP_SCALES[1], (gaps - CONTROL_DT_S * closing) / GAP_SCALES[0]),
        (contact.distance / GAP_SCALES[1])[..., None, None].expand_as(gaps),
        *(closing / SPEED_SCALE, sliding / SPEED_SCALE, normal, point / SIZE_SCALE, moment / SIZE_SCALE),
        (middle / SIZE_SCALE).expand_as(point),
    ]
    # Where bodies are few, each is among its own neighbours.
    is_other = index != torch.arange(count, device=index.device)[:, None]
    near = (1 - contact.gaps / contact_range).clamp(0, 1) * present * is_other[..., None]
    return torch.cat(features, -1).clamp(-5, 5), near, normal, point, sliding


def _compute_command(state: SpatialState, action: Tensor) -> Tensor:
    """Compute the twist (B, 6) that actions (B, A) command, within the robot's zone."""
    command = (state.command_matrix * action[:, None]).sum(-1)
    low, high = (ZONE_GAIN_PER_S * (state.zone - state.position[:, 0, :2, None])).unbind(-1)
    planar = command[:, :2].maximum(low).minimum(high)
    return torch.cat([torch.cat([planar, command[:, 2:3]], -1) / state.unit_m[:, None], command[:, 3:]], -1)


def _face_cylinder(
    offset: Tensor, axes: Tensor, half: Tensor, other_axes: Tensor, other_half: Tensor, axis: Tensor
) -> tuple[Tensor, Tensor]:
    """Replace cylinders by boxes whose narrow side faces the nearest point of the other body.

    Args:
        offset: (..., 3) from the centre of the cylinder to that of the other body.
        axes: (..., 3, 3) of the body.
        half: (..., 3) half extents of the body along these axes.
        other_axes: (..., 3, 3) of the other body.
        other_half: (..., 3) half extents of the other body.
        axis: (..., 3) unit vector along the cylinder; 0 for boxes, which stay.

    Returns:
        Axes (..., 3, 3) and half extents (..., 3).
    """
    local = rotate_back(other_axes, -offset)
    nearest = offset + rotate(other_axes, torch.clamp(local, -other_half, other_half))
    side = nearest - (nearest * axis).sum(-1, keepdim=True) * axis
    length = (half * rotate_back(axes, axis).abs()).sum(-1)
    radius = ((half.sum(-1) - length) / 2).clamp(min=1e-3)
    beside = (side.norm(dim=-1) / (0.2 * radius)).clamp(max=1)  # 0: above or below
    # Where there is no side, an upright direction of any heading would not turn with the scene.
    side = F.normalize(side + 1e-3 * radius[..., None] * axes.sum(-1), dim=-1)
    side = F.normalize(side - (side * axis).sum(-1, keepdim=True) * axis, dim=-1)
    faced = torch.stack([side, torch.linalg.cross(axis.expand_as(side), side), axis.expand_as(side)], -1)
    widths = torch.stack([radius * (0.7 + 0.3 * beside), radius * (0.7 - 0.68 * beside), length], -1)
    is_round = axis.abs().sum(-1, keepdim=True) > 0
    return torch.where(is_round[..., None], faced, axes), torch.where(is_round, widths, half)


def _compute_errors(predicted: SpatialState, true: SpatialState, nominal: SpatialState | None) -> Tensor:
    """Compute the robust errors (P, B, M): contact causes outliers that squares would follow.

    Args:
        predicted: P * B scenes.
        true: B scenes.
        nominal: for skills, the states if nothing slipped or fell.
    """
    count = true.num_dynamic
    unit = true.unit_m[:, None]

    def get_pairs(name: str) -> tuple[Tensor, Tensor]:
        return getattr(predicted, name)[:, :count].unflatten(0, (-1, len(unit))), getattr(true, name)[:, :count]

    def compute_distance(name: str) -> Tensor:
        values, expected = get_pairs(name)
        return (values - expected).square().sum(-1).add(1e-10).sqrt()

    turn = compute_rotation_vector(*get_pairs("rotation")).square().sum(-1).add(1e-10).sqrt()
    if nominal is not None:
        moved = (true.position - nominal.position)[:, :count].norm(dim=-1) / unit
        tolerance = MIN_TOLERANCE + MOVED_TOLERANCE * moved
        size = true.half_extents[:, :count].norm(dim=-1) / unit  # rotations move corners
        return _compute_huber(compute_distance("position") / unit / tolerance) + _compute_huber(turn * size / tolerance)
    position, angle, velocity, spin = ERROR_SCALES
    return (
        _compute_huber(compute_distance("position") / unit / position)
        + _compute_huber(turn / angle)
        + 0.5 * _compute_huber(compute_distance("velocity") / unit / velocity)
        + 0.5 * _compute_huber(compute_distance("angular_velocity") / spin)
    )


def _compute_huber(error: Tensor) -> Tensor:
    return F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none")
