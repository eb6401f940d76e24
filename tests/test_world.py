from collections.abc import Iterator

import numpy as np
import pytest

from sim.bodies import LoadSpec
from sim.bullet.physics_check import compute_deviation, integrate_slide, simulate_push, simulate_slide
from sim.bullet.world import World
from sim.geometry.rotations import compute_yaw, make_upright_poses
from sim.layout import Box, Hall, Layout, Pose
from sim.policy import SimState
from sim.robots.differential_drive import DifferentialDrive, DriveLimits
from sim.scenes.scene import scenes

GRAVITY = 9.81
DT = 0.1
HALL = Layout(Hall(0, 0, 12, 12), Pose(2, 2), (Pose(6, 6),), Pose(9, 9))
ROBOT, LOAD = 0, 1


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def build_world(
    world: World, poses: list[tuple[float, float, float]], load: LoadSpec, layout: Layout = HALL, speed: float = 0.8
) -> None:
    """Build a world with the robot and loads at poses x, y, yaw."""
    world.build(DifferentialDrive(DriveLimits(speed_m_s=speed)), [load] * (len(poses) - 1), layout.static_boxes)
    heights = [0.0, *[load.half_extents[2]] * (len(poses) - 1)]
    world.set_state(SimState(make_upright_poses(np.array(poses), np.array(heights)), np.zeros((len(poses), 6))))


def make_load(friction: float = 0.5, mass_kg: float = 6.0) -> LoadSpec:
    return LoadSpec((0.25, 0.2, 0.15), mass_kg, friction)


@pytest.mark.parametrize("mass_kg", [2.0, 20.0])
@pytest.mark.parametrize("friction", [0.2, 0.5, 0.8])
@pytest.mark.parametrize("speed", [1.0, 1.5])  # at lower speeds, half a physics step matters
def test_sliding_distance_equals_coulomb_friction(world: World, speed: float, friction: float, mass_kg: float) -> None:
    build_world(world, [(2, 2, 0), (6, 6, 0.3)], make_load(friction, mass_kg))
    pose, _ = world.read_dynamic_bodies()
    twist = np.zeros((2, 6))
    twist[LOAD, 0] = speed
    world.set_state(SimState(np.array(pose), twist))
    for _ in range(30):
        world.step((0, 0), DT)
    final, velocity = world.read_dynamic_bodies()
    assert final[LOAD][0] - pose[LOAD][0] == pytest.approx(speed**2 / (2 * friction * GRAVITY), rel=0.05)
    assert np.linalg.norm(velocity[LOAD]) < 1e-3
    assert final[LOAD][1] == pytest.approx(6, abs=2e-3)


def test_spinning_tote_slides_farther_as_in_theory() -> None:
    load = make_load()
    distance, turn = integrate_slide(load, 0.8, 4.0)
    assert integrate_slide(load, 0.8, 0.0)[0] == pytest.approx(0.8**2 / (2 * 0.5 * GRAVITY), rel=1e-3)
    assert simulate_slide(load, 0.8, 4.0) == pytest.approx((distance, turn), rel=0.1)
    assert simulate_slide(load, 0.8, 4.0)[0] > 1.2 * simulate_slide(load, 0.8, 0.0)[0]
    assert abs(simulate_slide(load, 0.8, 4.0, maximal=True)[0] - distance) > abs(simulate_slide(load, 0.8, 4.0)[0] - distance)


def test_more_solver_iterations_or_steps_change_little() -> None:
    scene = scenes["logistics/tote-push"]
    reference = simulate_push(scene)
    for variant in (simulate_push(scene, solver_iterations=50), simulate_push(scene, physics_hz=480)):
        distance, turn = compute_deviation(reference, variant)
        assert distance < 0.03  # of 1.2 m
        assert turn < 0.06


@pytest.mark.parametrize("direction", [1.0, -1.0])
@pytest.mark.parametrize("limit", [0.3, 0.8])
def test_robot_reaches_but_does_not_exceed_its_speed_limit(world: World, limit: float, direction: float) -> None:
    build_world(world, [(6, 6, 0.7), (1, 1, 0)], make_load(), speed=limit)
    speeds = []
    for _ in range(20):
        world.step((direction, 0), DT)
        (pose, *_), (twist, *_) = world.read_dynamic_bodies()
        speeds.append(direction * (twist[0] * np.cos(0.7) + twist[1] * np.sin(0.7)))
        assert compute_yaw(np.array(pose[3:])) == pytest.approx(0.7, abs=1e-3)
    speeds = [0.0, *speeds]
    assert max(speeds) <= limit * 1.001
    assert speeds[-1] == pytest.approx(limit, rel=0.01)
    assert max(np.diff(speeds)) <= DriveLimits().acceleration_m_s2 * DT * 1.001
    assert speeds[1] > 0.9 * min(limit, DriveLimits().acceleration_m_s2 * DT)


def test_robot_turns_on_the_spot_within_its_limits(world: World) -> None:
    build_world(world, [(6, 6, 0), (1, 1, 0)], make_load())
    rates = [0.0]
    for _ in range(10):
        world.step((0, 1), DT)
        poses, twists = world.read_dynamic_bodies()
        rates.append(twists[ROBOT][5])
    assert max(rates) <= DriveLimits().turn_rad_s * 1.001
    assert rates[-1] == pytest.approx(DriveLimits().turn_rad_s, rel=0.01)
    assert max(np.diff(rates)) <= DriveLimits().turn_acceleration_rad_s2 * DT * 1.001
    assert poses[ROBOT][:2] == pytest.approx((6, 6), abs=1e-3)


def test_the_robot_does_not_slide_sideways(world: World) -> None:
    build_world(world, [(4, 6, 0), (1, 1, 0)], make_load())
    for step in range(30):
        world.step((1, 0.6 * np.sin(step / 5)), DT)
        poses, twists = world.read_dynamic_bodies()
        yaw = compute_yaw(np.array(poses[ROBOT][3:]))
        assert abs(twists[ROBOT][1] * np.cos(yaw) - twists[ROBOT][0] * np.sin(yaw)) < 0.05


def test_a_tote_is_not_pushed_through_a_rack(world: World) -> None:
    rack = Box(7.5, 6, 0.6, 2)
    layout = Layout(HALL.hall, HALL.robot, HALL.loads, HALL.goal, (rack,))
    build_world(world, [(6, 6, 0), (6.7, 6, 0)], make_load(), layout)
    has_contact = False
    for _ in range(50):
        world.step((1, 0), DT)
        poses, _ = world.read_dynamic_bodies()
        assert poses[LOAD][0] + 0.25 < 7.2 + 0.01
        assert poses[ROBOT][0] < poses[LOAD][0]
        has_contact |= any(contact.first == LOAD and contact.second >= 2 for contact in world.read_contacts())
    assert has_contact
    assert poses[LOAD][0] + 0.25 > 7.2 - 0.01


def test_the_robot_does_not_pass_the_outer_wall(world: World) -> None:
    build_world(world, [(10.5, 6, 0), (1, 1, 0)], make_load())
    for _ in range(40):
        world.step((1, 0), DT)
        assert world.read_dynamic_bodies()[0][ROBOT][0] + 0.3 < 12.01
    forces = [contact.force_n for contact in world.read_contacts() if contact.first == ROBOT]
    assert forces
    assert max(forces) < 2 * DriveLimits().force_n


def test_bodies_at_rest_stay_in_place(world: World) -> None:
    build_world(world, [(3, 3, 0.4), (6, 6, 1.0)], make_load())
    before = np.array(world.read_dynamic_bodies()[0])
    for _ in range(20):
        world.step((0, 0), DT)
    np.testing.assert_allclose(np.array(world.read_dynamic_bodies()[0]), before, atol=2e-3)


def test_rebuilt_world_gives_the_same_bytes(world: World) -> None:
    results = []
    for _ in range(2):
        build_world(world, [(5.2, 6, 0), (6, 6, 0), (7, 6.2, 0.5)], make_load())
        for step in range(20):
            world.step((1, 0.3 * np.sin(step)), DT)
        results.append(np.array(world.read_dynamic_bodies()[0]).tobytes())
    assert results[0] == results[1]


def test_a_closed_world_can_be_closed_again() -> None:
    world = World()
    world.close()
    world.close()
