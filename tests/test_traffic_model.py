"""Models of people and forklifts: several predicted futures, or a prediction baseline."""

from dataclasses import replace

import numpy as np
import pyrvo
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_traffic import HALL, SCENE

from agents.planning.objective import Objective
from agents.planning.spec import PlannerSpec
from sim.bodies import ROBOT, Bodies, Kind
from sim.data.collect import CollectConfig, collect
from sim.env import GroundEnv
from sim.geometry.rotations import compute_yaw
from sim.layout import AgentRoute, Pose
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName
from worldmodels.baselines import PREDICTION_BASELINES, ConstantVelocity, PredictionBaseline
from worldmodels.planar.attention import (
    CORRELATION_S,
    NOISE_SIZE,
    NUM_WAVES,
    fix_attention,
    sample_attention,
    sample_noise,
    unroll_noise,
    update_belief,
)
from worldmodels.planar.composition import choose_representatives, select_robot
from worldmodels.planar.contacts import AvoidanceConstraint, compute_avoidance, project_velocity_change
from worldmodels.planar.graph import NUM_PARTICLES, NUM_REPRESENTATIVES, GraphModel
from worldmodels.planar.scores import compute_mixture_scores
from worldmodels.planar.state import (
    DYNAMIC_KINDS,
    NEAREST_WITHIN_S,
    NUM_NEAREST_AGENTS,
    PlanarState,
    compute_closest_approach,
    encode_observation,
    repeat_batch,
    select_nearest_agents,
)
from worldmodels.planar.vectors import compute_cross_product
from worldmodels.planar.windows import PlanarWindows, augment_windows
from worldmodels.simulator import SimulatorModel
from worldmodels.training.windows import Batch

ROBOT_ONLY = replace(HALL, traffic=())


def make_random_model() -> GraphModel:
    """Make a model with nonzero last layers, so that its inputs have an effect."""
    torch.manual_seed(0)
    model = GraphModel(hidden_size=16, edge_size=8)
    for layer in (model.out, model.static_push, model.pair_push, model.attention, model.intent):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return model.eval()


def make_observation(layout: object = HALL, steps: int = 5) -> dict[str, np.ndarray]:
    env = GroundEnv(SCENE, layout=layout)  # type: ignore[arg-type]
    observation, _ = env.reset(seed=0)
    for _ in range(steps):
        observation, *_ = env.step(np.array([0.5, 0.1]))
    env.close()
    return observation


def sample_plans(count: int) -> torch.Tensor:
    return torch.rand(count, 6, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_particles_differ_are_reproducible_and_share_the_robots_motion() -> None:
    model, observation = make_random_model(), make_observation()
    state = model.encode(observation)
    first, repeated = (model.rollout(state, sample_plans(5)).bodies for _ in range(2))
    assert first.pose.shape == (NUM_PARTICLES, 5, 6, 1 + NUM_NEAREST_AGENTS, 7)
    torch.testing.assert_close(first.pose, repeated.pose)
    torch.testing.assert_close(first.pose[:, :, :, ROBOT], first.pose[:1, :, :, ROBOT].expand(NUM_PARTICLES, -1, -1, -1))
    num_present = torch.as_tensor(observation["present"][1 : 1 + NUM_NEAREST_AGENTS].sum())
    ends = first.pose[:, 0, -1, 1 : 1 + int(num_present), :2]
    assert (ends.std(0) > 1e-4).any(), "latent noise has no effect"
    assert len({tuple(row.flatten().tolist()) for row in ends.round(decimals=5)}) == NUM_PARTICLES


def test_latent_noise_is_normal_at_all_times_and_changes() -> None:
    noise = torch.randn(4000, 1, NOISE_SIZE, generator=torch.Generator().manual_seed(0))
    unrolled = unroll_noise(noise, 21)[:, :, 0]  # (4000, 21, D)
    assert not unrolled[..., [0, NUM_WAVES]].any(), "attention waves must not drive the motion"
    unrolled = unrolled[..., [d for d in range(3 * NUM_WAVES) if d not in (0, NUM_WAVES)]]
    torch.testing.assert_close(unrolled.mean(0), torch.zeros(21, 3 * NUM_WAVES - 2), atol=0.08, rtol=0)
    torch.testing.assert_close(unrolled.std(0), torch.ones(21, 3 * NUM_WAVES - 2), atol=0.06, rtol=0)
    correlation = (unrolled[:, 0] * unrolled[:, 10]).mean(0)  # a second later, a quarter of their period
    torch.testing.assert_close(correlation, torch.tensor([1.0] * (2 * NUM_WAVES - 2) + [0.0] * NUM_WAVES), atol=0.08, rtol=0)


def test_attention_has_its_probability_at_all_times_and_is_correlated() -> None:
    noise, probability = sample_noise(16, 3), torch.tensor([[0.25, 0.5, 0.75]])
    attention = sample_attention(
        torch.stack([probability, probability], -1).expand(16, -1, -1), noise, torch.ones(16, 3), 25
    )  # (25, 16, 3)
    assert torch.equal(attention[0].mean(0), probability[0])
    samples = sample_attention(
        torch.stack([probability, probability], -1).expand(4000, -1, -1), sample_noise(4000, 3), torch.ones(4000, 3), 61
    )
    torch.testing.assert_close(samples.mean(1), probability.expand(61, -1), atol=0.03, rtol=0)
    same = (samples[0] == samples[40]).float().mean(0)
    correlation = float(np.exp(-4.0 / CORRELATION_S))
    torch.testing.assert_close(
        same, correlation + (1 - correlation) * (probability[0] ** 2 + (1 - probability[0]) ** 2), atol=0.03, rtol=0
    )
    certain = torch.tensor([1.0, 0.8]).expand(4000, 3, -1)  # certain attention decays to its prior
    lost = 1 - sample_attention(certain, sample_noise(4000, 3), torch.ones(4000, 3), 61).mean(1)
    expected = 0.2 * (1 - torch.exp(-0.1 * torch.arange(61.0) / CORRELATION_S))
    torch.testing.assert_close(lost, expected[:, None].expand(-1, 3), atol=0.03, rtol=0)
    flags = fix_attention(noise[:1], torch.tensor([[True, False, True]]))
    assert (
        sample_attention(torch.stack([probability, probability], -1), flags, torch.ones(1, 3), 99) == torch.tensor([1, 0, 1])
    ).all()
    assert (
        sample_attention(torch.stack([0 * probability, probability], -1), noise[:1], torch.tensor([[0.0, 1, 1]]), 3)[..., 0] == 1
    ).all(), "the robot always counts as attentive"


def test_the_mixture_score_is_least_at_the_true_weight_spread_and_position() -> None:
    """Three of four positions lie near a first mode, the rest near a second one."""
    count, generator = 20_000, torch.Generator().manual_seed(0)
    base = replace(encode_observation(make_observation()), latent_noise=None)
    assert base.context.is_agent[0, 1]
    states = repeat_batch(base, count)

    def add_noise(std: float, modes: torch.Tensor) -> torch.Tensor:
        return modes + std * torch.randn(count, base.yaw_rate.shape[1], generator=generator, dtype=torch.complex64)

    target = replace(
        states, position=states.position + add_noise(0.3, (torch.rand(count, 1, generator=generator) > 0.75).float())
    )

    def compute_score(probability: float, std: float, second: float = 1.0) -> float:
        positions = torch.cat([states.position + add_noise(std, torch.tensor(mode)) for mode in (0.0, 0.0, second, second)])
        particles = replace(repeat_batch(states, 4), position=positions)
        return float(compute_mixture_scores(particles, target, torch.full(base.yaw_rate.shape, probability))[:, 1].mean())

    best = compute_score(0.75, 0.3)
    assert best < min(compute_score(probability, 0.3) for probability in (0.5, 0.65, 0.85, 1.0))
    assert best < min(compute_score(0.75, std) for std in (0.0, 0.15, 0.6))
    assert best < min(compute_score(0.75, 0.3, second) for second in (0.6, 1.4))


@pytest.mark.parametrize("is_attentive", [False, True])
def test_attention_is_inferred_from_motion(is_attentive: bool) -> None:
    """In this test attentive agents turn left and inattentive agents go straight on."""
    state = encode_observation(make_observation())
    state = replace(state, context=replace(state.context, present=torch.ones_like(state.context.present)))
    step = torch.tensor(0.1j) * state.context.unit[0]

    def step_model(state: PlanarState) -> PlanarState:
        assert state.latent_noise is not None
        return replace(state, velocity=state.velocity + step * (state.latent_noise[..., 0] < 0), latent_noise=None)

    rows, prior = tuple(range(state.yaw_rate.shape[1])), torch.full(state.yaw_rate.shape, 0.5)
    belief = update_belief(None, rows, state, prior, step_model)
    assert torch.equal(belief.attention, prior)
    for _ in range(5):
        state = replace(state, velocity=state.velocity + step * is_attentive)
        belief = update_belief(belief, rows, state, prior, step_model)
    assert (belief.attention > 0.9).all() if is_attentive else (belief.attention < 0.1).all()
    reordered = update_belief(belief, (0, 99, *rows[:1:-1]), state, prior, lambda state: state)
    assert reordered.attention[0, 1] == 0.5, "a new agent has the prior attention"
    assert torch.allclose(reordered.attention[0, 2:], belief.attention[0, 2:], atol=0.1), "known agents keep their attention"
    empty = replace(state, context=replace(state.context, present=torch.zeros_like(state.context.present)))
    returned = update_belief(replace(belief, state=empty), rows, state, prior, lambda state: state)
    assert torch.equal(returned.attention, prior), "an agent that was absent is new, even in the same row"
    for _ in range(100):
        belief = update_belief(belief, rows, state, prior, lambda state: state)
    torch.testing.assert_close(belief.attention, prior, atol=0.05, rtol=0)


def test_an_intent_is_set_at_the_start_of_a_rollout_and_persists() -> None:
    model, state = make_random_model(), encode_observation(make_observation())
    num_bodies = int(state.context.present.sum())
    noise = torch.nn.functional.pad(
        torch.randn(1, 1 + NUM_NEAREST_AGENTS, NOISE_SIZE - 2 * NUM_WAVES), (0, 2 * NUM_WAVES)
    )  # constant: no waves
    noise = fix_attention(noise, torch.ones(1, 1 + NUM_NEAREST_AGENTS, dtype=torch.bool))

    def compute_difference() -> torch.Tensor:
        """Compute the difference between a continued rollout and one restarted at its middle."""
        continued = model.imagine(replace(state, latent_noise=noise), sample_plans(1))
        restarted = model.imagine(replace(continued[2], latent_noise=noise), sample_plans(1)[:, 3:])
        return (continued[-1].velocity - restarted[-1].velocity).abs()[0, 1:num_bodies].max()

    with torch.inference_mode():
        assert compute_difference() > 1e-5
        torch.nn.init.zeros_(model.intent.weight)
        assert compute_difference() < 1e-6


def test_rollouts_keep_speed_limits() -> None:
    model = make_random_model()
    with torch.no_grad():
        model.out.weight *= 1e3
    model.max_speed = torch.tensor([[0.5, 2.0], [1.0, 1.0], [0.4, 5.0], [0.3, 1.0]])
    state = encode_observation(make_observation())
    for particle in model.predict_particles(state, sample_plans(1)):
        limit = (particle.context.kind @ model.max_speed).unbind(-1)
        assert (particle.velocity.abs() / particle.context.unit[:, None] <= 1.001 * limit[0]).all()
        assert (particle.yaw_rate.abs() <= limit[1]).all()
    assert (particle.yaw_rate.abs() == limit[1])[particle.context.present.bool().expand(NUM_PARTICLES, -1)].any(), (
        "no yaw rate was limited"
    )


@given(
    offset=st.tuples(st.floats(-3, 3), st.floats(-3, 3)).filter(lambda xy: np.hypot(*xy) > 0.3),
    velocity=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
    other_velocity=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
)
def test_an_avoidance_constraint_is_shared_equally_as_in_orca(
    offset: tuple[float, float], velocity: tuple[float, float], other_velocity: tuple[float, float]
) -> None:
    crowd = pyrvo.RVOSimulator(0.1, 10.0, 10, 1.5, 1.0, 0.4, 9.0)
    for agent, (position, agent_velocity) in enumerate((((0.0, 0.0), velocity), (offset, other_velocity))):
        crowd.add_agent(position)
        crowd.set_agent_velocity(agent, agent_velocity)
        crowd.set_agent_pref_velocity(agent, agent_velocity)
    crowd.do_step()
    relative = torch.tensor(other_velocity, dtype=torch.float64) - torch.tensor(velocity, dtype=torch.float64)
    constraint = compute_avoidance(torch.tensor(offset, dtype=torch.float64), relative, torch.tensor(0.8), torch.tensor(1.5))
    change = np.array(crowd.get_agent_velocity(0).to_tuple()) - velocity
    expected = constraint.normal.numpy() * max(0.0, float(constraint.length)) / 2
    assert np.linalg.norm(change) == pytest.approx(np.linalg.norm(expected), abs=2e-3)
    if (
        abs(float(compute_cross_product(torch.tensor(offset, dtype=torch.float64), relative))) > 1e-4
    ):  # a head-on agent can be passed on either side, and rounding decides
        np.testing.assert_allclose(change, expected, atol=2e-3)


@given(
    others=st.lists(
        st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 1), st.floats(-1, 1)).filter(
            lambda row: np.hypot(*row[:2]) > 1
        ),
        min_size=1,
        max_size=3,
    ),
    velocity=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    preferred=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_a_yielding_agent_keeps_close_to_its_preferred_velocity(
    others: list[tuple[float, ...]], velocity: tuple[float, float], preferred: tuple[float, float]
) -> None:
    crowd = pyrvo.RVOSimulator(0.1, 10.0, 10, 1.5, 1.0, 0.4, 9.0)
    for agent, (x, y, *agent_velocity) in enumerate([(0.0, 0.0, *velocity), *others]):
        crowd.add_agent((x, y))
        crowd.set_agent_velocity(agent, tuple(agent_velocity))
        crowd.set_agent_pref_velocity(agent, tuple(agent_velocity) if agent else preferred)
    crowd.do_step()
    agents = torch.tensor(others, dtype=torch.float64)
    current = torch.tensor(velocity, dtype=torch.float64)
    constraints = compute_avoidance(agents[:, :2], agents[:, 2:] - current, torch.tensor(0.8), torch.tensor(1.5))
    constraints = constraints._replace(length=0.5 * constraints.length)
    change = project_velocity_change(
        torch.tensor(preferred)[None, None] - current, AvoidanceConstraint(*(values[None, None] for values in constraints))
    )[0, 0]
    shortfall = constraints.length - (constraints.normal * change).sum(-1)
    if len(others) == 1 and abs(float(compute_cross_product(agents[0, :2], agents[0, 2:] - current))) > 1e-4:
        np.testing.assert_allclose(change + current, crowd.get_agent_velocity(0).to_tuple(), atol=2e-3)
    before = constraints.length - (constraints.normal * (torch.tensor(preferred) - current)).sum(-1)
    assert float(shortfall.max()) <= max(0.0, float(before.max())) + 1e-6
    if (before <= 0).all():
        np.testing.assert_allclose(change + current, preferred, atol=1e-6)


def test_particles_of_representative_plans_apply_to_all_plans() -> None:
    model, state, actions = make_random_model(), encode_observation(make_observation()), sample_plans(9)
    robot = model.rollout(state, actions).bodies.pose[0, :, :, ROBOT, :2].flatten(1)[None]
    selected, nearest = choose_representatives(robot, 3)
    assert selected[0, 0] == 0
    distance = torch.cdist(robot[0], robot[0, selected[0]])
    assert distance.argmin(1).tolist() == nearest[0].tolist()
    assert float(distance.amin(1).max()) <= float(torch.pdist(robot[0, selected[0]]).min()), (
        "a plan that is left out is farther than the representatives are from each other"
    )
    batched = model.rollout(state, actions[:NUM_REPRESENTATIVES]).bodies.pose[..., 1:, :2]
    for plan in range(NUM_REPRESENTATIVES):
        single = model.rollout(state, actions[[plan, plan]]).bodies.pose[:, 0, :, 1:, :2]
        torch.testing.assert_close(batched[:, plan], single, atol=1e-4, rtol=0)


def test_people_react_to_the_robot_within_their_range() -> None:
    model = make_random_model()
    for distance, is_yielding in ((3.5, True), (5.5, False)):  # between centres [m]
        state = encode_observation(
            make_observation(replace(HALL, boxes=(), traffic=(AgentRoute(5, 4, 0, "person", 1.0, (Pose(1, 4),)),)))
        )
        near = state.position[:, 1:2] - distance
        present, far = (replace(state, position=torch.cat([robot, state.position[:, 1:]], 1)) for robot in (near, near - 30))
        with torch.no_grad():
            ends = [model.imagine(item, torch.zeros(1, 1, 2))[0].position[0, 1] for item in (present, far)]
        assert (float((ends[0] - ends[1]).abs()) > 1e-6) == is_yielding


def test_absent_bodies_do_not_change_the_rollout() -> None:
    model, observation = make_random_model(), make_observation()
    state = model.encode(observation)
    empty = model.encode(make_observation(ROBOT_ONLY))
    assert state.yaw_rate.shape == empty.yaw_rate.shape == (1, 1 + NUM_NEAREST_AGENTS)
    assert not empty.context.is_agent.any()
    shifted = replace(empty, position=empty.position + torch.tensor([0, *[0.3] * NUM_NEAREST_AGENTS]))
    expected, *results = (
        model.rollout(item, sample_plans(3)).bodies.pose[..., ROBOT, :] for item in (empty, shifted, select_robot(empty))
    )
    for result in results:
        torch.testing.assert_close(expected, result)


def test_predicted_bodies_have_the_kinds_of_the_observed_bodies() -> None:
    observation = make_observation()
    predicted = make_random_model().rollout(encode_observation(observation), sample_plans(2)).bodies
    is_present = predicted.present[0, 0, 0] > 0
    bodies = Bodies.from_observation(observation)
    assert (
        predicted.kind[0, 0, 0][is_present].tolist()
        == bodies.kind[select_nearest_agents(bodies)][: int(is_present.sum())].tolist()
    )
    assert set(DYNAMIC_KINDS) == {Kind.ROBOT, Kind.LOAD, Kind.PERSON, Kind.FORKLIFT}


@pytest.mark.parametrize("name", PREDICTION_BASELINES)
def test_prediction_baselines_are_static_or_move_at_constant_velocity(name: str) -> None:
    model, observation = make_random_model(), make_observation()
    baseline = PredictionBaseline(model, name)
    state = baseline.encode(observation)
    bodies = baseline.rollout(state, sample_plans(3)).bodies
    speed = torch.view_as_real(state.velocity[0]) * (name == "constant-velocity")
    expected = torch.view_as_real(state.position[0]) + 0.6 * speed
    torch.testing.assert_close(bodies.pose[0, 1, -1, 1:, :2], expected[1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(bodies.pose[0, :, :, ROBOT], model.rollout(state, sample_plans(3)).bodies.pose[0, :, :, ROBOT])


def test_the_planners_constant_velocity_baseline_equals_that_of_the_assessment() -> None:
    baseline, observation = PredictionBaseline(make_random_model(), "constant-velocity"), make_observation()
    state = baseline.encode(observation)
    state = replace(state, yaw_rate=torch.full_like(state.yaw_rate, 0.7))
    bodies = baseline.rollout(state, sample_plans(1)).bodies
    predicted = ConstantVelocity().predict_bodies(state, sample_plans(1)).pose[0, 0, :, 1:]
    expected = bodies.pose[0, 0, :, 1:]
    torch.testing.assert_close(predicted[..., :3], expected[..., :3], atol=1e-5, rtol=0)
    torch.testing.assert_close(compute_yaw(predicted[..., 3:]), compute_yaw(expected[..., 3:]), atol=1e-5, rtol=0)


def test_a_prior_policy_acts_on_predicted_observations_of_the_selected_bodies() -> None:
    crowd = replace(
        HALL, boxes=(), traffic=tuple(replace(agent, x=agent.x + dx) for agent in HALL.traffic for dx in (0.0, 0.7, 1.4))
    )
    env = GroundEnv(SCENE, layout=crowd)
    observation, _ = env.reset(seed=0)
    observed = np.flatnonzero(Bodies.from_observation(observation).is_dynamic)
    assert len(observed) > 1 + NUM_NEAREST_AGENTS
    poses = []

    class RecordingPolicy:
        def start_episode(self, start: object) -> None: ...

        def predict(self, observation: dict[str, np.ndarray], *args: object) -> tuple[np.ndarray, None]:
            poses.append(observation["pose"].copy())
            return np.array([0.5, 0.2], np.float32), None

    for model in (make_random_model(), SimulatorModel(SCENE)):
        poses.clear()
        model.start_episode(env.make_episode_start(0))
        plan = Objective(model, env.scene.task).imagine_policy(RecordingPolicy(), observation, 3)
        assert plan.tolist() == [[0.5, pytest.approx(0.2)]] * 3
        predicted = model.rollout(model.encode(observation), plan[None, :1].expand(2, -1, -1)).bodies.pose[0, 0, 0].numpy()
        rows = model.select_bodies(observation)
        np.testing.assert_allclose(poses[1][rows], predicted, atol=1e-5)
        unselected = np.setdiff1d(observed, rows)
        np.testing.assert_array_equal(poses[1][unselected], observation["pose"][unselected])
    env.close()


def test_the_gradient_of_a_plans_cost_is_zero_for_other_plans() -> None:
    """Particles come from representative plans, which must get no gradient from the costs of other plans."""
    observation = make_observation()
    objective = Objective(make_random_model(), scenes[SCENE].task)
    objective.observe(observation, 6)
    actions = sample_plans(8).requires_grad_()
    costs = objective.evaluate(actions).costs
    for index in range(len(actions)):
        (gradient,) = torch.autograd.grad(costs[index], actions, retain_graph=True)
        assert (gradient[index] != 0).any()
        assert (gradient[torch.arange(len(actions)) != index] == 0).all()


def test_a_prior_policy_with_the_simulator_as_model_is_refused() -> None:
    with pytest.raises(GroundError, match="mixed cannot roll out its prior policy"):
        PlannerSpec(SCENE, "simulator", "mixed")()


def test_an_unknown_prediction_baseline_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownName, match="did you mean 'static'"):
        PlannerSpec(SCENE, "simulator", traffic_prediction="stati")


@given(offset=st.tuples(st.floats(-5, 5), st.floats(-5, 5)), velocity=st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_the_closest_approach_is_the_least_distance_within_its_horizon(
    offset: tuple[float, float], velocity: tuple[float, float]
) -> None:
    path = np.array(offset) + np.linspace(0, NEAREST_WITHIN_S, 301)[:, None] * np.array(velocity)
    least = np.linalg.norm(path, axis=-1).min()
    assert compute_closest_approach(np.array(offset), np.array(velocity)) == pytest.approx(least, abs=0.01)
    assert float(compute_closest_approach(torch.tensor(offset), torch.tensor(velocity))) == pytest.approx(least, abs=0.01)


def test_a_fast_approaching_agent_is_selected_before_nearer_standing_agents() -> None:
    standing = [AgentRoute(4 + 0.1 * k, 6, 0, "person", 1.0, (Pose(9, 4),)) for k in range(NUM_NEAREST_AGENTS)]
    approaching = AgentRoute(6.5, 4, np.pi, "person", 1.4, (Pose(1, 4),))
    layout = replace(HALL, boxes=(), traffic=(*standing, approaching))
    bodies = Bodies.from_observation(make_observation(layout, steps=0))
    bodies.twist[1 + NUM_NEAREST_AGENTS, 0] = -1.4
    assert select_nearest_agents(bodies)[:2].tolist() == [ROBOT, 1 + NUM_NEAREST_AGENTS]
    bodies.twist[1 + NUM_NEAREST_AGENTS, 0] = 1.4
    assert 1 + NUM_NEAREST_AGENTS not in select_nearest_agents(bodies)


def test_windows_contain_the_robot_and_its_nearest_agents(tmp_path: object) -> None:
    config = CollectConfig(SCENE, steps=600, shard_steps=600, split="shift-dense", layouts_per_shard=2)
    windows = PlanarWindows(collect(config, tmp_path, workers=1).episodes())  # type: ignore[arg-type]
    batch = windows.take(windows.find_starts(4)[0][:40], 4)
    assert batch.state.yaw_rate.shape[1] == 1 + NUM_NEAREST_AGENTS
    assert (batch.state.context.kind[:, 0, 0] == 1).all()
    assert (batch.state.context.is_agent[:, 1:].sum(1) == NUM_NEAREST_AGENTS).all()
    offset, velocity = map(torch.view_as_real, (batch.state.position - batch.state.position[:, :1], batch.state.velocity))
    assert (compute_closest_approach(offset, velocity)[:, 1:].diff(dim=1) >= 0).all(), (
        "agents are not in order of closest approach"
    )
    augmented = augment_windows(batch, np.random.default_rng(0))
    people = batch.state.context.kind[..., DYNAMIC_KINDS.index(Kind.PERSON)] > 0
    same = (augmented.state.heading - batch.state.heading).abs() < 1e-6
    flipped = (augmented.state.heading - batch.state.heading.conj()).abs() < 1e-6
    assert (same | flipped)[people].all(), "the heading of a person was reversed"


def make_forked_batch(size: int, steps: int) -> Batch:
    """Make windows of a person who turns left three times as often as right, at random."""
    layout = replace(HALL, boxes=(), traffic=(AgentRoute(4, 4, 0, "person", 1.0, (Pose(9, 4),)),))
    state = repeat_batch(encode_observation(make_observation(layout, steps=0)), size)
    side = torch.where(torch.arange(size) % 4 > 0, 1.0, -1.0)
    is_person = torch.zeros(1 + NUM_NEAREST_AGENTS)
    is_person[1] = 1
    states = []
    for step in range(1, steps + 1):
        shift = torch.complex(0.1 * step * torch.ones(size), 0.1 * step * side)[:, None] * is_person
        velocity = torch.complex(torch.ones(size), side)[:, None] * is_person
        states.append(PlanarState(state.position + shift, state.heading, velocity, state.yaw_rate, state.context))
    first = replace(state, velocity=torch.complex(torch.ones(size), torch.zeros(size))[:, None] * is_person)
    return Batch(first, torch.zeros(size, steps, 2), states)


def test_particles_follow_each_branch_as_often_as_the_training_data() -> None:
    torch.manual_seed(0)
    model, batch = GraphModel(hidden_size=64, edge_size=8), make_forked_batch(32, 3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 230)
    for _ in range(230):
        optimizer.zero_grad()
        model.compute_loss(batch).backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        start = make_forked_batch(200, 3).state
        ends = model.imagine(model.assign_particles(start, 200), torch.zeros(200, 3, 2))[-1].position[:, 1] - start.position[0, 1]
    assert ends.imag.max() > 0.2
    assert ends.imag.min() < -0.2
    assert abs(float((ends.imag > 0).float().mean()) - 0.75) < 0.15
    assert abs(float(ends.real.median()) - 0.3) < 0.15
