"""Motion of people and forklifts, their visibility, and the task among them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from sim.bodies import Bodies, Kind
from sim.env import GroundEnv
from sim.geometry.boxes import compute_signed_distance
from sim.geometry.rotations import compute_yaw, rotate
from sim.layout import AgentRoute, Box, Hall, Layout, Pose
from sim.scenes.aisle_traffic.task import ABSENT_GAP_M, CrossingTask
from sim.scenes.scene import scenes
from sim.traffic.simulation import PIVOT_RATE_RAD_S, PROFILES, TrafficSimulation
from sim.utils.errors import BadLayout

SCENE = "logistics/aisle-traffic"
HALL = Layout(
    Hall(0, 0, 10, 8),
    Pose(2, 4),
    (),
    Pose(9, 7),
    (Box(5, 4, 0.6, 4),),
    traffic=(
        AgentRoute(4, 1, 0, "person", 1.2, (Pose(8, 1), Pose(1, 7))),
        AgentRoute(7, 4, np.pi, "person", 1.0, (Pose(1, 1), Pose(9, 7))),
        AgentRoute(2, 6.5, 0, "forklift", 1.0, (Pose(8.5, 6.8), Pose(2, 1.5))),
    ),
)


def make_traffic(layout: Layout, seed: int = 0) -> TrafficSimulation:
    return TrafficSimulation(layout.traffic, layout.static_boxes, 0.3, seed)


def simulate(traffic: TrafficSimulation, steps: int, robot: tuple[float, float] = (2.0, 4.0)) -> np.ndarray:
    """Simulate the agents around a robot at rest: poses (steps, K, 3)."""
    poses = []
    for _ in range(steps):
        traffic.choose_velocities(robot, (0.0, 0.0))
        traffic.advance(0.1)
        poses.append(traffic.state.pose)
    return np.array(poses)


def test_same_seed_gives_the_same_motion_and_states_restore() -> None:
    first, repeated, different = simulate(make_traffic(HALL), 200), make_traffic(HALL), simulate(make_traffic(HALL, 1), 200)
    first_half = simulate(repeated, 100)
    state = repeated.state
    np.testing.assert_array_equal(np.concatenate([first_half, simulate(repeated, 100)]), first)
    repeated.set_full_state(state)
    np.testing.assert_allclose(simulate(repeated, 100), first[100:], atol=1e-5)
    assert not np.array_equal(first, different)


@pytest.mark.parametrize("split", scenes[SCENE].splits)
def test_agents_avoid_boxes_and_keep_their_speed_limits(split: str) -> None:
    for index in range(4):
        layout = scenes[SCENE].sample_layout(split, index)
        traffic = make_traffic(layout)
        poses = simulate(traffic, 250, (layout.robot.x, layout.robot.y))
        distance = compute_signed_distance(poses[..., :2], layout.static_boxes)
        minimum = np.array([0.6 * min(profile.half_extents[:2]) for profile in traffic.profiles])
        assert (distance > minimum).all()
        speed = np.linalg.norm(np.diff(poses[..., :2], axis=0), axis=-1) / 0.1
        assert (speed <= 1.25 * np.array([route.speed_m_s for route in layout.traffic])).all()


def test_agents_visit_all_their_stops() -> None:
    poses = simulate(make_traffic(replace(HALL, traffic=HALL.traffic[:1])), 500)
    stops = np.array([(stop.x, stop.y) for stop in HALL.traffic[0].stops])
    is_at_stop = np.linalg.norm(poses[:, 0, None, :2] - stops, axis=-1) < 0.8
    assert is_at_stop[:, 0].any()
    assert is_at_stop[np.argmax(is_at_stop[:, 0]) :, 1].any()


def test_people_avoid_each_other() -> None:
    people = (AgentRoute(1, 2, 0, "person", 1.2, (Pose(9, 2),)), AgentRoute(9, 2, 0, "person", 1.2, (Pose(1, 2),)))
    poses = simulate(make_traffic(replace(HALL, boxes=(), traffic=people)), 120, (5.0, 7.0))
    distance = np.linalg.norm(poses[:, 0, :2] - poses[:, 1, :2], axis=-1)
    assert distance[-1] > 4  # they passed
    assert distance.min() > 2 * PROFILES[Kind.PERSON].radius_m - 0.05


def test_forklifts_do_not_slide_sideways_and_have_a_turning_radius() -> None:
    traffic, radius_m = make_traffic(HALL), PROFILES[Kind.FORKLIFT].turn_radius_m
    for _ in range(150):
        traffic.choose_velocities((2.0, 4.0), (0.0, 0.0))
        (*velocity, turn), yaw = traffic.state.velocity[2].tolist(), traffic.state.pose[2, 2]
        assert abs(float(rotate(np.array([velocity]), np.array([-yaw]))[0, 1])) < 0.05
        assert abs(turn) <= max(np.hypot(*velocity) / radius_m, PIVOT_RATE_RAD_S) + 1e-9
        traffic.advance(0.1)


def test_updating_only_near_agents_does_not_change_physics(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_episode() -> tuple[np.ndarray, list[object]]:
        env = GroundEnv(SCENE, "shift-dense")
        observation, _ = env.reset(seed=0, options={"index": 1})
        poses, contacts = [], list[object]()
        rush = scenes[SCENE].behaviours["rush"]()
        rush.start_episode(env.make_episode_start(3))
        for _ in range(150):
            observation, *_ = env.step(rush.predict(observation)[0])
            poses.append(env.bodies.pose.copy())
            contacts.append([contact for contact in env.read_contacts() if not contact.is_static])
        env.close()
        return np.stack(poses), contacts

    poses, contacts = run_episode()
    assert any(contacts), "the episode must have a contact with an agent"
    monkeypatch.setattr(TrafficSimulation, "find_near", lambda self, xy: range(len(self.profiles)))
    all_poses, all_contacts = run_episode()
    np.testing.assert_array_equal(poses, all_poses)
    assert contacts == all_contacts


def test_hidden_and_distant_agents_are_not_observed() -> None:
    far = AgentRoute(9.5, 7, 0, "person", 1.0, (Pose(9, 7),))
    visible = AgentRoute(2.5, 6, 0, "person", 1.0, (Pose(1, 7),))
    hidden = AgentRoute(7, 4, 0, "person", 1.0, (Pose(1, 1),))
    env = GroundEnv(SCENE, layout=replace(HALL, traffic=(far, visible, hidden)))
    observation, _ = env.reset(seed=0)
    np.testing.assert_array_equal(observation["present"][:5], [1, 0, 1, 0, 0])
    assert env.bodies.present[:4].all()
    for name in ("pose", "twist", "half_extents", "kind"):
        assert (observation[name][1] == observation[name][4]).all(), "hidden agents equal absent agents"
    env.close()


def test_lidar_is_an_optional_part_of_the_observation() -> None:
    env = GroundEnv(SCENE, layout=HALL, lidar_rays=36)
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert observation["lidar"][0] == pytest.approx(5 - 0.3 - 2.0, abs=1e-3)  # the rack ahead
    env.close()


def make_bodies(turn: float, shift: tuple[float, float]) -> Bodies:
    """Make a robot with a person 1.3 m ahead and the side of a forklift 2 m to the left, in any frame."""
    local = np.array([(0, 0), (1.3, 0), (0, 2.0)], float)
    yaw = np.array([0.0, 1.0, 0.0]) + turn
    pose = np.zeros((3, 7))
    pose[:, :2] = rotate(local, np.full(3, turn)) + shift
    pose[:, 5], pose[:, 6] = np.sin(yaw / 2), np.cos(yaw / 2)
    half = np.array([(0.3, 0.3, 0.12), PROFILES[Kind.PERSON].half_extents, PROFILES[Kind.FORKLIFT].half_extents])
    kinds = np.array([Kind.ROBOT, Kind.PERSON, Kind.FORKLIFT])
    return Bodies(pose, np.zeros((3, 6)), half, kinds, np.array([1, 1, 0]), np.ones(3))


@pytest.mark.parametrize(("turn", "shift"), [(0.0, (0.0, 0.0)), (0.7, (3.0, -2.0)), (-2.5, (100.0, 5.0))])
def test_gaps_are_edge_distances_in_any_frame(turn: float, shift: tuple[float, float]) -> None:
    bodies = make_bodies(turn, shift)
    for gaps in (CrossingTask().compute_agent_gaps(bodies), CrossingTask().compute_agent_gaps(bodies.map(torch.as_tensor))):
        people, forklifts = (np.asarray(values) for values in gaps)
        np.testing.assert_allclose(people, [ABSENT_GAP_M, 1.3 - 0.3 - 0.25, ABSENT_GAP_M], atol=1e-6)
        np.testing.assert_allclose(forklifts, [ABSENT_GAP_M, ABSENT_GAP_M, 2.0 - 0.3 - 0.42], atol=1e-6)


def test_violation_penalty_rises_near_the_personal_distance() -> None:
    env = GroundEnv(SCENE, layout=replace(HALL, boxes=(), traffic=()))
    env.reset(seed=0)
    task, field = CrossingTask(), env.cost_field
    for gap_in_ramps, share in ((0.51, 0.0), (0.0, 0.25), (-0.5, 1.0)):
        bodies = make_bodies(0.0, (4.0, 4.0))
        bodies.pose[1, 0] = 4.0 + 0.3 + 0.25 + task.personal_distance_m + gap_in_ramps * task.penalty_ramp_m
        assert task.compute_violation_penalty(bodies, np.zeros(3), field) == pytest.approx(
            share * task.violation_cost_m, abs=1e-6
        )
    env.close()


def test_small_distance_to_people_costs_and_is_a_violation() -> None:
    env = GroundEnv(SCENE, layout=replace(HALL, traffic=(AgentRoute(3, 4, 0, "person", 1.0, (Pose(9, 7),)),)))
    costs, near = [], []
    for x in (3.9, 3.3, 3.0):
        env.reset(seed=0, options={"poses": np.array([(2, 4, 0), (x, 4, 0)])})
        _, info = env.reset(seed=0, options={"poses": np.array([(2, 4, 0), (x, 4, 0)])})
        costs.append(info["cost"])
        near.append(info["violations"]["person_too_close"])
    assert near == [False, False, True]
    assert costs[0] <= costs[1] < costs[2]
    assert float(compute_yaw(env.bodies.pose[1, 3:])) == 0
    env.close()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"traffic": (replace(HALL.traffic[0], kind="horse"),)}, "horse"),
        ({"traffic": (replace(HALL.traffic[0], speed_m_s=9.0),)}, "speed"),
        ({"traffic": (replace(HALL.traffic[0], stops=()),)}, "stops"),
        ({"traffic": (replace(HALL.traffic[0], x=5.0, y=4.0),)}, "overlaps"),
        ({"loads": (Pose(1, 1),)}, "loads"),
        ({"goal": Pose(2.1, 4)}, "starts at the goal"),
        ({"traffic": (replace(HALL.traffic[0], x=2.9, y=4.0),)}, "starts 0.35 m from the robot"),
        ({"boxes": (Box(5, 4, 0.6, 8),), "traffic": ()}, "no route"),
    ],
)
def test_layout_faults_are_reported(change: dict[str, object], fault: str) -> None:
    faults = scenes[SCENE].find_faults(replace(HALL, **change))  # type: ignore[arg-type]
    assert any(fault in line for line in faults), faults
    with pytest.raises(BadLayout, match=r"travellers|agents"):
        GroundEnv(SCENE, layout=replace(HALL, traffic=HALL.traffic * 4)).reset(seed=0)


@pytest.mark.parametrize("name", [name for name in scenes if scenes[name].indicators])
def test_scene_computes_the_indicators_that_it_describes(name: str) -> None:
    env, indicators = GroundEnv(name, "test"), scenes[name].indicators
    env.reset(seed=0)
    states = env.bodies.map(lambda values: np.broadcast_to(values, (3, *values.shape)))
    assert indicators is not None
    values = indicators.compute(states, env.cost_field, 1.0, scenes[name].control_dt_s)
    assert list(values) == list(indicators.descriptions)
    assert all(np.isfinite(value) for value in values.values())
