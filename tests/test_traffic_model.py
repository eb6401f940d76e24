"""How models see people and forklifts: several futures, or an assumption."""

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
from worldmodels.assessment.open_loop import ConstantVelocity
from worldmodels.baselines import PREDICTION_BASELINES, PredictionBaseline
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

ALONE = replace(HALL, traffic=())


def restless() -> GraphModel:
    """A model whose last layers are not zero, so that what it is told shows."""
    torch.manual_seed(0)
    model = GraphModel(hidden_size=16, edge_size=8)
    for layer in (model.out, model.static_push, model.pair_push, model.attention, model.intent):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return model.eval()


def observed(layout: object = HALL, steps: int = 5) -> dict[str, np.ndarray]:
    env = GroundEnv(SCENE, layout=layout)  # type: ignore[arg-type]
    observation, _ = env.reset(seed=0)
    for _ in range(steps):
        observation, *_ = env.step(np.array([0.5, 0.1]))
    env.close()
    return observation


def plans(count: int) -> torch.Tensor:
    return torch.rand(count, 6, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_futures_differ_are_always_the_same_and_share_what_the_robot_does() -> None:
    model, observation = restless(), observed()
    state = model.encode(observation)
    first, again = (model.rollout(state, plans(5)).bodies for _ in range(2))
    assert first.pose.shape == (NUM_PARTICLES, 5, 6, 1 + NUM_NEAREST_AGENTS, 7)
    torch.testing.assert_close(first.pose, again.pose)
    torch.testing.assert_close(first.pose[:, :, :, ROBOT], first.pose[:1, :, :, ROBOT].expand(NUM_PARTICLES, -1, -1, -1))
    seen = torch.as_tensor(observation["present"][1 : 1 + NUM_NEAREST_AGENTS].sum())
    ends = first.pose[:, 0, -1, 1 : 1 + int(seen), :2]
    assert (ends.std(0) > 1e-4).any(), "what they are up to makes a difference"
    assert len({tuple(row.flatten().tolist()) for row in ends.round(decimals=5)}) == NUM_PARTICLES


def test_latent_noise_is_normal_at_all_times_and_changes() -> None:
    noise = torch.randn(4000, 1, NOISE_SIZE, generator=torch.Generator().manual_seed(0))
    unrolled = unroll_noise(noise, 21)[:, :, 0]  # (4000, 21, D)
    assert not unrolled[..., [0, NUM_WAVES]].any(), "who sees the robot is not a way to go"
    unrolled = unrolled[..., [d for d in range(3 * NUM_WAVES) if d not in (0, NUM_WAVES)]]
    torch.testing.assert_close(unrolled.mean(0), torch.zeros(21, 3 * NUM_WAVES - 2), atol=0.08, rtol=0)
    torch.testing.assert_close(unrolled.std(0), torch.ones(21, 3 * NUM_WAVES - 2), atol=0.06, rtol=0)
    later = (unrolled[:, 0] * unrolled[:, 10]).mean(0)  # a second later, a quarter of their period
    torch.testing.assert_close(later, torch.tensor([1.0] * (2 * NUM_WAVES - 2) + [0.0] * NUM_WAVES), atol=0.08, rtol=0)


def test_seeing_is_as_likely_as_believed_at_all_times_and_lasts() -> None:
    noise, likely = sample_noise(16, 3), torch.tensor([[0.25, 0.5, 0.75]])
    sees = sample_attention(torch.stack([likely, likely], -1).expand(16, -1, -1), noise, torch.ones(16, 3), 25)  # (25, 16, 3)
    assert torch.equal(sees[0].mean(0), likely[0])
    many = sample_attention(
        torch.stack([likely, likely], -1).expand(4000, -1, -1), sample_noise(4000, 3), torch.ones(4000, 3), 61
    )
    torch.testing.assert_close(many.mean(1), likely.expand(61, -1), atol=0.03, rtol=0)
    same = (many[0] == many[40]).float().mean(0)
    kept = float(np.exp(-4.0 / CORRELATION_S))
    torch.testing.assert_close(same, kept + (1 - kept) * (likely[0] ** 2 + (1 - likely[0]) ** 2), atol=0.03, rtol=0)
    known = torch.tensor([1.0, 0.8]).expand(4000, 3, -1)  # who is known to see it will stop like anybody
    stopped = 1 - sample_attention(known, sample_noise(4000, 3), torch.ones(4000, 3), 61).mean(1)
    expected = 0.2 * (1 - torch.exp(-0.1 * torch.arange(61.0) / CORRELATION_S))
    torch.testing.assert_close(stopped, expected[:, None].expand(-1, 3), atol=0.03, rtol=0)
    flags = fix_attention(noise[:1], torch.tensor([[True, False, True]]))
    assert (sample_attention(torch.stack([likely, likely], -1), flags, torch.ones(1, 3), 99) == torch.tensor([1, 0, 1])).all()
    assert (
        sample_attention(torch.stack([0 * likely, likely], -1), noise[:1], torch.tensor([[0.0, 1, 1]]), 3)[..., 0] == 1
    ).all(), "the robot sees itself"


def test_the_score_is_least_where_futures_are_as_likely_and_as_spread_as_what_comes() -> None:
    """Three in four come near one place, the others near a second; futures say which share, and how spread."""
    count, dice = 20_000, torch.Generator().manual_seed(0)
    one = replace(encode_observation(observed()), latent_noise=None)
    assert one.context.is_agent[0, 1]
    many = repeat_batch(one, count)

    def spread(by: float, places: torch.Tensor) -> torch.Tensor:
        return places + by * torch.randn(count, one.yaw_rate.shape[1], generator=dice, dtype=torch.complex64)

    true = replace(many, position=many.position + spread(0.3, (torch.rand(count, 1, generator=dice) > 0.75).float()))

    def score(likely: float, by: float, second: float = 1.0) -> float:
        places = torch.cat([many.position + spread(by, torch.tensor(at)) for at in (0.0, 0.0, second, second)])
        four = replace(repeat_batch(many, 4), position=places)
        return float(compute_mixture_scores(four, true, torch.full(one.yaw_rate.shape, likely))[:, 1].mean())

    best = score(0.75, 0.3)
    assert best < min(score(likely, 0.3) for likely in (0.5, 0.65, 0.85, 1.0))
    assert best < min(score(0.75, by) for by in (0.0, 0.15, 0.6))
    assert best < min(score(0.75, 0.3, second) for second in (0.6, 1.4))


@pytest.mark.parametrize("blind", [False, True])
def test_what_people_do_tells_whether_they_see_the_robot(blind: bool) -> None:
    """Who sees it turns left in this world, and who does not goes straight on; nobody is believed before."""
    state = encode_observation(observed())
    state = replace(state, context=replace(state.context, present=torch.ones_like(state.context.present)))
    step = torch.tensor(0.1j) * state.context.unit[0]

    def imagine(then: PlanarState) -> PlanarState:
        assert then.latent_noise is not None
        return replace(then, velocity=then.velocity + step * (then.latent_noise[..., 0] < 0), latent_noise=None)

    rows, sight = tuple(range(state.yaw_rate.shape[1])), torch.full(state.yaw_rate.shape, 0.5)
    belief = update_belief(None, rows, state, sight, imagine)
    assert torch.equal(belief.attention, sight)
    for _ in range(5):
        state = replace(state, velocity=state.velocity + step * (not blind))
        belief = update_belief(belief, rows, state, sight, imagine)
    assert (belief.attention < 0.1).all() if blind else (belief.attention > 0.9).all()
    met = update_belief(belief, (0, 99, *rows[:1:-1]), state, sight, lambda then: then)
    assert met.attention[0, 1] == 0.5, "who is new is seen as it looks"
    assert torch.allclose(met.attention[0, 2:], belief.attention[0, 2:], atol=0.1), "nothing new was learned of the others"
    nobody = replace(state, context=replace(state.context, present=torch.zeros_like(state.context.present)))
    came = update_belief(replace(belief, state=nobody), rows, state, sight, lambda then: then)
    assert torch.equal(came.attention, sight), "who was not there is new, whatever its row"
    for _ in range(100):
        belief = update_belief(belief, rows, state, sight, lambda then: then)
    torch.testing.assert_close(belief.attention, sight, atol=0.05, rtol=0)


def test_an_intent_is_made_where_a_rollout_begins_and_lasts() -> None:
    model, state = restless(), encode_observation(observed())
    there = int(state.context.present.sum())
    noise = torch.nn.functional.pad(
        torch.randn(1, 1 + NUM_NEAREST_AGENTS, NOISE_SIZE - 2 * NUM_WAVES), (0, 2 * NUM_WAVES)
    )  # that stays: no waves
    noise = fix_attention(noise, torch.ones(1, 1 + NUM_NEAREST_AGENTS, dtype=torch.bool))

    def differs() -> torch.Tensor:
        """How far going on is from beginning anew in the middle."""
        along = model.imagine(replace(state, latent_noise=noise), plans(1))
        anew = model.imagine(replace(along[2], latent_noise=noise), plans(1)[:, 3:])
        return (along[-1].velocity - anew[-1].velocity).abs()[0, 1:there].max()

    with torch.inference_mode():
        assert differs() > 1e-5
        torch.nn.init.zeros_(model.intent.weight)
        assert differs() < 1e-6


def test_what_is_imagined_cannot_run_away() -> None:
    model = restless()
    with torch.no_grad():
        model.out.weight *= 1e3
    model.max_speed = torch.tensor([[0.5, 2.0], [1.0, 1.0], [0.4, 5.0], [0.3, 1.0]])
    state = encode_observation(observed())
    for one in model.predict_particles(state, plans(1)):
        most = (one.context.kind @ model.max_speed).unbind(-1)
        assert (one.velocity.abs() / one.context.unit[:, None] <= 1.001 * most[0]).all()
        assert (one.yaw_rate.abs() <= most[1]).all()
    assert (one.yaw_rate.abs() == most[1])[one.context.present.bool().expand(NUM_PARTICLES, -1)].any(), "nothing was held back"


@given(
    offset=st.tuples(st.floats(-3, 3), st.floats(-3, 3)).filter(lambda xy: np.hypot(*xy) > 0.3),
    own=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
    other=st.tuples(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5)),
)
def test_a_detour_is_half_of_what_two_who_avoid_each_other_share(
    offset: tuple[float, float], own: tuple[float, float], other: tuple[float, float]
) -> None:
    crowd = pyrvo.RVOSimulator(0.1, 10.0, 10, 1.5, 1.0, 0.4, 9.0)
    for agent, (at, velocity) in enumerate((((0.0, 0.0), own), (offset, other))):
        crowd.add_agent(at)
        crowd.set_agent_velocity(agent, velocity)
        crowd.set_agent_pref_velocity(agent, velocity)
    crowd.do_step()
    speed = torch.tensor(other, dtype=torch.float64) - torch.tensor(own, dtype=torch.float64)
    detour = compute_avoidance(torch.tensor(offset, dtype=torch.float64), speed, torch.tensor(0.8), torch.tensor(1.5))
    change = np.array(crowd.get_agent_velocity(0).to_tuple()) - own
    expected = detour.normal.numpy() * max(0.0, float(detour.length)) / 2
    assert np.linalg.norm(change) == pytest.approx(np.linalg.norm(expected), abs=2e-3)
    if (
        abs(float(compute_cross_product(torch.tensor(offset, dtype=torch.float64), speed))) > 1e-4
    ):  # who comes straight on can be passed on either side, and rounding decides
        np.testing.assert_allclose(change, expected, atol=2e-3)


@given(
    others=st.lists(
        st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.floats(-1, 1), st.floats(-1, 1)).filter(
            lambda row: np.hypot(*row[:2]) > 1
        ),
        min_size=1,
        max_size=3,
    ),
    own=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
    wish=st.tuples(st.floats(-1, 1), st.floats(-1, 1)),
)
def test_who_gives_way_goes_as_near_to_its_wish_as_others_allow(
    others: list[tuple[float, ...]], own: tuple[float, float], wish: tuple[float, float]
) -> None:
    crowd = pyrvo.RVOSimulator(0.1, 10.0, 10, 1.5, 1.0, 0.4, 9.0)
    for agent, (x, y, *velocity) in enumerate([(0.0, 0.0, *own), *others]):
        crowd.add_agent((x, y))
        crowd.set_agent_velocity(agent, tuple(velocity))
        crowd.set_agent_pref_velocity(agent, tuple(velocity) if agent else wish)
    crowd.do_step()
    rows, mine = torch.tensor(others, dtype=torch.float64), torch.tensor(own, dtype=torch.float64)
    detours = compute_avoidance(rows[:, :2], rows[:, 2:] - mine, torch.tensor(0.8), torch.tensor(1.5))
    detours = detours._replace(length=0.5 * detours.length)
    kick = project_velocity_change(
        torch.tensor(wish)[None, None] - mine, AvoidanceConstraint(*(values[None, None] for values in detours))
    )[0, 0]
    lacking = detours.length - (detours.normal * kick).sum(-1)
    if len(others) == 1 and abs(float(compute_cross_product(rows[0, :2], rows[0, 2:] - mine))) > 1e-4:
        np.testing.assert_allclose(kick + mine, crowd.get_agent_velocity(0).to_tuple(), atol=2e-3)
    before = detours.length - (detours.normal * (torch.tensor(wish) - mine)).sum(-1)
    assert float(lacking.max()) <= max(0.0, float(before.max())) + 1e-6
    if (before <= 0).all():
        np.testing.assert_allclose(kick + mine, wish, atol=1e-6)


def test_futures_of_a_few_plans_stand_for_all() -> None:
    model, state, actions = restless(), encode_observation(observed()), plans(9)
    robot = model.rollout(state, actions).bodies.pose[0, :, :, ROBOT, :2].flatten(1)[None]
    picked, alike = choose_representatives(robot, 3)
    assert picked[0, 0] == 0
    away = torch.cdist(robot[0], robot[0, picked[0]])
    assert away.argmin(1).tolist() == alike[0].tolist()
    assert float(away.amin(1).max()) <= float(torch.pdist(robot[0, picked[0]]).min()), "a plan left out is nearer than those are"
    others = model.rollout(state, actions[:NUM_REPRESENTATIVES]).bodies.pose[..., 1:, :2]
    for plan in range(NUM_REPRESENTATIVES):
        own = model.rollout(state, actions[[plan, plan]]).bodies.pose[:, 0, :, 1:, :2]
        torch.testing.assert_close(others[:, plan], own, atol=1e-4, rtol=0)


def test_people_see_the_robot_from_afar() -> None:
    model = restless()
    for apart, gives_way in ((3.5, True), (5.5, False)):  # between centres [m]
        state = encode_observation(
            observed(replace(HALL, boxes=(), traffic=(AgentRoute(5, 4, 0, "person", 1.0, (Pose(1, 4),)),)))
        )
        at = state.position[:, 1:2] - apart
        seen, away = (replace(state, position=torch.cat([place, state.position[:, 1:]], 1)) for place in (at, at - 30))
        with torch.no_grad():
            ends = [model.imagine(one, torch.zeros(1, 1, 2))[0].position[0, 1] for one in (seen, away)]
        assert (float((ends[0] - ends[1]).abs()) > 1e-6) == gives_way


def test_who_is_not_there_changes_nothing() -> None:
    model, observation = restless(), observed()
    state = model.encode(observation)
    lonely = model.encode(observed(ALONE))
    assert state.yaw_rate.shape == lonely.yaw_rate.shape == (1, 1 + NUM_NEAREST_AGENTS)
    assert not lonely.context.is_agent.any()
    moved = replace(lonely, position=lonely.position + torch.tensor([0, *[0.3] * NUM_NEAREST_AGENTS]))
    robot, *others = (model.rollout(one, plans(3)).bodies.pose[..., ROBOT, :] for one in (lonely, moved, select_robot(lonely)))
    for other in others:
        torch.testing.assert_close(robot, other)


def test_bodies_say_what_each_mover_is() -> None:
    observation = observed()
    imagined = restless().rollout(encode_observation(observation), plans(2)).bodies
    there = imagined.present[0, 0, 0] > 0
    told = Bodies.from_observation(observation)
    assert imagined.kind[0, 0, 0][there].tolist() == told.kind[select_nearest_agents(told)][: int(there.sum())].tolist()
    assert set(DYNAMIC_KINDS) == {Kind.ROBOT, Kind.LOAD, Kind.PERSON, Kind.FORKLIFT}


@pytest.mark.parametrize("assumption", PREDICTION_BASELINES)
def test_assumed_traffic_stands_or_goes_on(assumption: str) -> None:
    model, observation = restless(), observed()
    assumed = PredictionBaseline(model, assumption)
    state = assumed.encode(observation)
    bodies = assumed.rollout(state, plans(3)).bodies
    speed = torch.view_as_real(state.velocity[0]) * (assumption == "constant-velocity")
    expected = torch.view_as_real(state.position[0]) + 0.6 * speed
    torch.testing.assert_close(bodies.pose[0, 1, -1, 1:, :2], expected[1:], atol=1e-5, rtol=0)
    torch.testing.assert_close(bodies.pose[0, :, :, ROBOT], model.rollout(state, plans(3)).bodies.pose[0, :, :, ROBOT])


def test_the_yardstick_for_models_is_what_planners_can_assume() -> None:
    assumed, observation = PredictionBaseline(restless(), "constant-velocity"), observed()
    state = assumed.encode(observation)
    state = replace(state, yaw_rate=torch.full_like(state.yaw_rate, 0.7))
    bodies = assumed.rollout(state, plans(1)).bodies
    for step, later in enumerate(ConstantVelocity().predict_particles(state, plans(1))):
        expected = bodies.pose[0, 0, step, 1:]
        torch.testing.assert_close(torch.view_as_real(later.position[0, 1:]), expected[:, :2], atol=1e-5, rtol=0)
        torch.testing.assert_close(later.heading[0, 1:].angle(), compute_yaw(expected[:, 3:]), atol=1e-5, rtol=0)


def test_a_guide_acts_on_imagined_observations_of_whom_the_model_minds() -> None:
    crowd = replace(HALL, boxes=(), traffic=tuple(replace(one, x=one.x + dx) for one in HALL.traffic for dx in (0.0, 0.7, 1.4)))
    env = GroundEnv(SCENE, layout=crowd)
    observation, _ = env.reset(seed=0)
    seen = np.flatnonzero(Bodies.from_observation(observation).is_dynamic)
    assert len(seen) > 1 + NUM_NEAREST_AGENTS
    told = []

    class Guide:
        def start_episode(self, start: object) -> None: ...

        def predict(self, observation: dict[str, np.ndarray], *args: object) -> tuple[np.ndarray, None]:
            told.append(observation["pose"].copy())
            return np.array([0.5, 0.2], np.float32), None

    for model in (restless(), SimulatorModel(SCENE)):
        told.clear()
        model.start_episode(env.make_episode_start(0))
        plan = Objective(model, env.scene.task).imagine_policy(Guide(), observation, 3)
        assert plan.tolist() == [[0.5, pytest.approx(0.2)]] * 3
        imagined = model.rollout(model.encode(observation), plan[None, :1].expand(2, -1, -1)).bodies.pose[0, 0, 0].numpy()
        rows = model.select_bodies(observation)
        np.testing.assert_allclose(told[1][rows], imagined, atol=1e-5)
        others = np.setdiff1d(seen, rows)
        np.testing.assert_array_equal(told[1][others], observation["pose"][others])
    env.close()


def test_a_plans_slope_is_its_own() -> None:
    """Futures are imagined beside few plans: those do not answer for what others would risk in them."""
    observation = observed()
    objective = Objective(restless(), scenes[SCENE].task)
    objective.observe(observation, 6)
    actions = plans(8).requires_grad_()
    costs = objective.evaluate(actions).costs
    for index in range(len(actions)):
        (slope,) = torch.autograd.grad(costs[index], actions, retain_graph=True)
        assert (slope[index] != 0).any()
        assert (slope[torch.arange(len(actions)) != index] == 0).all()


def test_the_true_simulators_traffic_does_not_wait_for_a_guide() -> None:
    with pytest.raises(GroundError, match="mixed cannot roll out its prior policy"):
        PlannerSpec(SCENE, "simulator", "mixed")()


def test_an_unknown_assumption_is_told_with_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'static'"):
        PlannerSpec(SCENE, "simulator", traffic_prediction="stati")


@given(offset=st.tuples(st.floats(-5, 5), st.floats(-5, 5)), velocity=st.tuples(st.floats(-2, 2), st.floats(-2, 2)))
def test_how_near_somebody_will_soon_be_is_the_least_distance_on_the_way(
    offset: tuple[float, float], velocity: tuple[float, float]
) -> None:
    way = np.array(offset) + np.linspace(0, NEAREST_WITHIN_S, 301)[:, None] * np.array(velocity)
    least = np.linalg.norm(way, axis=-1).min()
    assert compute_closest_approach(np.array(offset), np.array(velocity)) == pytest.approx(least, abs=0.01)
    assert float(compute_closest_approach(torch.tensor(offset), torch.tensor(velocity))) == pytest.approx(least, abs=0.01)


def test_who_comes_fast_from_afar_is_minded_before_those_who_stand_nearer() -> None:
    standing = [AgentRoute(4 + 0.1 * k, 6, 0, "person", 1.0, (Pose(9, 4),)) for k in range(NUM_NEAREST_AGENTS)]
    comer = AgentRoute(6.5, 4, np.pi, "person", 1.4, (Pose(1, 4),))
    layout = replace(HALL, boxes=(), traffic=(*standing, comer))
    bodies = Bodies.from_observation(observed(layout, steps=0))
    bodies.twist[1 + NUM_NEAREST_AGENTS, 0] = -1.4
    assert select_nearest_agents(bodies)[:2].tolist() == [ROBOT, 1 + NUM_NEAREST_AGENTS]
    bodies.twist[1 + NUM_NEAREST_AGENTS, 0] = 1.4
    assert 1 + NUM_NEAREST_AGENTS not in select_nearest_agents(bodies)


def test_windows_hold_the_robot_and_its_nearest(tmp_path: object) -> None:
    config = CollectConfig(SCENE, steps=600, shard_steps=600, split="shift-dense", layouts_per_shard=2)
    windows = PlanarWindows(collect(config, tmp_path, workers=1).episodes())  # type: ignore[arg-type]
    batch = windows.take(windows.find_starts(4)[0][:40], 4)
    assert batch.state.yaw_rate.shape[1] == 1 + NUM_NEAREST_AGENTS
    assert (batch.state.context.kind[:, 0, 0] == 1).all()
    assert (batch.state.context.is_agent[:, 1:].sum(1) == NUM_NEAREST_AGENTS).all()
    offset, velocity = map(torch.view_as_real, (batch.state.position - batch.state.position[:, :1], batch.state.velocity))
    assert (compute_closest_approach(offset, velocity)[:, 1:].diff(dim=1) >= 0).all(), "those who will soon be nearest come first"
    turned = augment_windows(batch, np.random.default_rng(0))
    people = batch.state.context.kind[..., DYNAMIC_KINDS.index(Kind.PERSON)] > 0
    same = (turned.state.heading - batch.state.heading).abs() < 1e-6
    flipped = (turned.state.heading - batch.state.heading.conj()).abs() < 1e-6
    assert (same | flipped)[people].all(), "people are not turned about"


def forked(size: int, steps: int) -> Batch:
    """Somebody before a standing robot who turns to the left thrice as often as to the right, and nothing tells when."""
    layout = replace(HALL, boxes=(), traffic=(AgentRoute(4, 4, 0, "person", 1.0, (Pose(9, 4),)),))
    state = repeat_batch(encode_observation(observed(layout, steps=0)), size)
    side = torch.where(torch.arange(size) % 4 > 0, 1.0, -1.0)
    others = torch.zeros(1 + NUM_NEAREST_AGENTS)
    others[1] = 1
    states = []
    for step in range(1, steps + 1):
        shift = torch.complex(0.1 * step * torch.ones(size), 0.1 * step * side)[:, None] * others
        velocity = torch.complex(torch.ones(size), side)[:, None] * others
        states.append(PlanarState(state.position + shift, state.heading, velocity, state.yaw_rate, state.context))
    first = replace(state, velocity=torch.complex(torch.ones(size), torch.zeros(size))[:, None] * others)
    return Batch(first, torch.zeros(size, steps, 2), states)


def test_where_ways_fork_there_are_futures_for_each_as_often_as_it_is_gone() -> None:
    torch.manual_seed(0)
    model, batch = GraphModel(hidden_size=64, edge_size=8), forked(32, 3)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    slower = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.01, 300)
    for _ in range(300):
        optimizer.zero_grad()
        model.compute_loss(batch).backward()
        optimizer.step()
        slower.step()
    with torch.no_grad():
        one = forked(200, 3).state
        ends = model.imagine(model.assign_particles(one, 200), torch.zeros(200, 3, 2))[-1].position[:, 1] - one.position[0, 1]
    assert ends.imag.max() > 0.2
    assert ends.imag.min() < -0.2
    assert abs(float((ends.imag > 0).float().mean()) - 0.75) < 0.15
    assert abs(float(ends.real.median()) - 0.3) < 0.15
