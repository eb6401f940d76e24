import copy
import pickle
import re
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

from sim.actions import PLANAR_TWIST
from sim.bodies import LOAD, ROBOT, Bodies
from sim.env import GroundEnv
from sim.geometry.rotations import compute_yaw
from sim.layout import Box, Hall, Layout, Pose
from sim.scenes.scene import scenes
from sim.utils.errors import BadLayout, GroundError, UnknownName
from sim.variation import Variation, Variations
from sim.wrappers import FlatObservation

SCENE = "logistics/tote-push"
EMPTY = Layout(Hall(0, 0, 8, 8), Pose(2, 4), (Pose(4, 4),), Pose(6.5, 4))
SPLITS = [
    (scene, split) for scene in scenes for split in ("test", "shift-two-totes", "shift-physics") if split in scenes[scene].splits
]


def run_episode(scene: str, split: str, actions: np.ndarray, **settings: Any) -> list[tuple[Any, ...]]:
    """Run actions in a new environment and return everything it returns."""
    env = GroundEnv(scene, split, **settings)
    outputs: list[tuple[Any, ...]] = [env.reset(seed=3)]
    outputs += [env.step(action) for action in actions]
    env.close()
    return outputs


def as_bytes(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, dict):
        return {key: as_bytes(item) for key, item in value.items()}
    return [as_bytes(item) for item in value] if isinstance(value, tuple | list) else value


def sample_actions(scene: str, count: int) -> np.ndarray:
    """Sample actions; two, where each is a whole skill."""
    count = min(count, 2) if scenes[scene].is_skill else count
    return np.random.default_rng(1).uniform(-1, 1, (count, scenes[scene].action_spec.size)).astype(np.float32)


@pytest.mark.parametrize(("scene", "split"), SPLITS)
def test_same_seed_and_actions_give_the_same_bytes(scene: str, split: str) -> None:
    varied = Variations.parse(("observation_noise=0.01:0.05", "latency_steps=0:2", "load_mass_kg=3:12"))
    for settings in ({}, {"variations": varied}):
        first, second = (run_episode(scene, split, sample_actions(scene, 40), **settings) for _ in range(2))
        assert as_bytes(first) == as_bytes(second)


@pytest.mark.parametrize("scene", scenes)
def test_a_reset_removes_the_state_of_the_previous_episode(scene: str) -> None:
    env = GroundEnv(scene, "test")
    env.reset(seed=9)
    for action in sample_actions(scene, 30):
        env.step(action)
    repeated = [env.reset(seed=3), *(env.step(action) for action in sample_actions(scene, 30))]
    env.close()
    assert as_bytes(repeated) == as_bytes(run_episode(scene, "test", sample_actions(scene, 30)))


@pytest.mark.parametrize("scene", scenes)
def test_a_scene_does_not_change_the_physics_of_another(scene: str) -> None:
    """Bullet has one contact breaking threshold for all servers of a process."""
    actions = sample_actions(scene, 30)
    alone = run_episode(scene, "test", actions)
    env, others = GroundEnv(scene, "test"), [GroundEnv(other, "test") for other in scenes if not scenes[other].is_skill]

    def step_others() -> None:
        for other in others:
            other.step(np.zeros(other.action_space.shape, np.float32))

    for other in others:
        other.reset(seed=0)
    step_others()
    outputs: list[Any] = [env.reset(seed=3)]
    for action in actions:
        step_others()
        outputs.append(env.step(action))
    assert as_bytes(outputs) == as_bytes(alone)
    for closed in (env, *others):
        closed.close()


@pytest.mark.parametrize("scene", scenes)
def test_other_seeds_give_other_layouts(scene: str) -> None:
    env = GroundEnv(scene, "test")
    ids = set()
    for seed in range(6):
        env.reset(seed=seed)
        ids.add(env.layout.id)
    env.close()
    assert len(ids) >= 5


@pytest.mark.parametrize("scene", scenes)
def test_gymnasium_accepts_the_environment(scene: str) -> None:
    env = GroundEnv(scene)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*(unwrapped|spec|render|shape).*")
        check_env(env, skip_render_check=True)
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_stable_baselines_accepts_the_flat_environment(scene: str) -> None:
    env = FlatObservation(GroundEnv(scene))
    check_env_sb3(env, warn=True)
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_every_scene_has_its_gymnasium_id(scene: str) -> None:
    env = gymnasium.make(scenes[scene].gym_id)
    assert env.spec is not None
    assert env.spec.max_episode_steps == scenes[scene].episode_steps
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    env.close()


@pytest.mark.parametrize(("scene", "split"), SPLITS)
def test_observations_lie_in_the_space_and_reward_is_minus_cost(scene: str, split: str) -> None:
    env = GroundEnv(scene, split, variations=Variations.parse(("observation_noise=0.1",)))
    observation, info = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    assert info["success"] is False
    for action in sample_actions(scene, 30):
        observation, reward, success, truncated, info = env.step(action)
        assert env.observation_space.contains(observation)
        assert reward == -info["cost"]
        assert info["cost"] > 0
        assert (success, truncated) == (info["success"], False)
        assert env.action_space.contains(action)
        command, task = observation["action_twist"][PLANAR_TWIST] @ action, env.scene.task
        cost = task.compute_cost(env.bodies, command, observation["goal"], env.cost_field) + task.compute_violation_penalty(
            env.bodies, command, env.cost_field
        )
        assert cost == pytest.approx(info["cost"], rel=1e-4)
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_bodies_match_the_layout(scene: str) -> None:
    split = "shift-two-totes" if "shift-two-totes" in scenes[scene].splits else "test"
    env = GroundEnv(scene, split)
    observation, _ = env.reset(seed=0, options={"index": 4})
    layout, bodies = env.layout, Bodies.from_observation(observation)
    poses = np.array([(pose.x, pose.y, pose.yaw) for pose in (layout.robot, *layout.loads, *layout.traffic)])
    assert layout.id == env.scene.sample_layout(split, 4).id
    dynamic = np.flatnonzero(env.bodies.is_dynamic)
    poses = poses[env.bodies.present[: len(poses)] > 0]
    np.testing.assert_allclose(env.bodies.pose[dynamic, :2], poses[:, :2], atol=1e-4)
    np.testing.assert_allclose(compute_yaw(env.bodies.pose[dynamic, 3:]), poses[:, 2], atol=1e-4)
    observed = np.flatnonzero(bodies.is_dynamic)
    np.testing.assert_array_equal(bodies.pose[observed], env.bodies.pose[observed])
    static = np.flatnonzero(bodies.is_static)
    np.testing.assert_allclose(bodies.pose[static], layout.static_bodies.pose, atol=1e-5)
    np.testing.assert_allclose(bodies.half_extents[static], layout.static_bodies.half_extents, atol=1e-6)
    absent = bodies.present == 0
    assert absent.any()
    assert not bodies.twist[absent].any()
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_an_episode_is_truncated_after_its_steps(scene: str) -> None:
    steps = 2 if scenes[scene].is_skill else 5
    env = GroundEnv(replace(scenes[scene], episode_steps=steps), "test")
    env.reset(seed=0)
    ends = [env.step(np.zeros(env.action_space.shape))[3] for _ in range(steps)]
    env.close()
    assert ends == [False] * (steps - 1) + [True]


def test_success_is_the_load_at_the_goal() -> None:
    env = GroundEnv(SCENE, layout=EMPTY)
    for offset, success in ((0.1, True), (0.14, True), (0.16, False)):
        poses = np.array([(2, 2, 0), (EMPTY.goal.x + offset, EMPTY.goal.y, 0)])
        _, info = env.reset(seed=0, options={"poses": poses})
        assert info["success"] is success
        assert env.step(np.zeros(2))[2] is success
    env.close()


def test_pushing_straight_ahead_succeeds_in_an_empty_hall() -> None:
    env = GroundEnv(SCENE, layout=EMPTY)
    _, info = env.reset(seed=0)
    first = info["cost"]
    success, steps = False, 0
    while not success and steps < 100:
        _, _, success, _, info = env.step(np.array([1.0, 0.0]))
        steps += 1
    env.close()
    assert success
    assert info["cost"] < 0.2 < first
    assert not any(info["violations"].values())


@pytest.mark.parametrize("steps", [1, 3])
def test_latency_delays_actions_by_its_steps(steps: int) -> None:
    actions = np.array([(1.0, 0.3)] * 12)

    def drive(latency: int) -> np.ndarray:
        env = GroundEnv(SCENE, layout=EMPTY)
        env.reset(seed=0, options={"variation": Variation(latency_steps=latency)})
        poses = []
        for action in actions:
            env.step(action)
            poses.append(env.bodies.pose[ROBOT, :2].copy())
        env.close()
        return np.array(poses)

    direct, delayed = drive(0), drive(steps)
    np.testing.assert_allclose(delayed[:steps], [(2, 4)] * steps, atol=1e-4)
    np.testing.assert_allclose(delayed[steps:], direct[:-steps], atol=1e-4)
    assert np.linalg.norm(direct[0] - (2, 4)) > 0.005


def test_noise_disturbs_observations_and_not_the_state() -> None:
    observed, states = [], []
    for noise in (0.0, 0.05):
        env = GroundEnv(SCENE, layout=EMPTY)
        env.reset(seed=0, options={"variation": Variation(observation_noise=noise)})
        observations = [env.step(action)[0] for action in sample_actions(SCENE, 100)]
        num_dynamic = int(env.bodies.is_dynamic.sum())
        observed.append(observations)
        states.append(env.bodies.pose.tobytes())
        env.close()
    assert states[0] == states[1]
    noise_free, noisy = ({key: np.stack([observation[key] for observation in part]) for key in part[0]} for part in observed)
    error = (noisy["pose"] - noise_free["pose"])[:, :num_dynamic, :2]
    assert np.std(error) == pytest.approx(0.05, rel=0.15)
    assert abs(np.mean(error)) < 0.01
    turn = compute_yaw(noisy["pose"][:, :num_dynamic, 3:]) - compute_yaw(noise_free["pose"][:, :num_dynamic, 3:])
    assert np.std(np.sin(turn)) == pytest.approx(0.05, rel=0.2)
    np.testing.assert_allclose(np.linalg.norm(noisy["pose"][:, :num_dynamic, 3:], axis=-1), 1, atol=1e-5)
    assert np.std((noisy["twist"] - noise_free["twist"])[:, :num_dynamic]) == pytest.approx(0.05, rel=0.15)
    for name in noise_free:
        assert np.array_equal(noisy[name][:, num_dynamic:] if name in ("pose", "twist") else noisy[name],
                              noise_free[name][:, num_dynamic:] if name in ("pose", "twist") else noise_free[name])  # fmt: skip


@pytest.mark.parametrize(
    ("variation", "farther"),
    [(Variation(load_friction=0.05), True), (Variation(speed_limit_m_s=0.4), False), (Variation(load_mass_kg=60.0), False)],
)
def test_variations_change_the_motion_of_the_load(variation: Variation, farther: bool) -> None:
    ends = []
    for varied in (Variation(), variation):
        env = GroundEnv(SCENE, layout=EMPTY)
        env.reset(seed=0, options={"variation": varied})
        for step in range(40):
            env.step(np.array([1.0 if step < 25 else 0.0, 0.0]))
        ends.append(float(env.bodies.pose[LOAD, 0]))
        env.close()
    assert (ends[1] > ends[0] + 0.02) if farther else (ends[1] < ends[0] - 0.005)


def test_a_scaled_load_is_larger() -> None:
    env = GroundEnv(SCENE, layout=EMPTY)
    env.reset(seed=0, options={"variation": Variation(load_scale=1.5)})
    np.testing.assert_allclose(env.bodies.half_extents[LOAD], (0.375, 0.3, 0.15), atol=1e-6)
    env.close()


def test_driving_into_a_wall_is_a_violation() -> None:
    env = GroundEnv(SCENE, layout=replace(EMPTY, robot=Pose(1.5, 2, np.pi)))
    _, info = env.reset(seed=0)
    assert not any(info["violations"].values())
    assert info["static_force_n"] == 0
    has_collision, forces = False, []
    for _ in range(30):
        _, _, _, _, info = env.step(np.array([1.0, 0.0]))
        has_collision |= info["violations"]["robot_collision"]
        forces.append(info["static_force_n"])
        assert not info["violations"]["load_collision"]
    assert has_collision
    assert max(forces) > 50
    assert info["cost"] > env.cost_field.compute_cost_to_go(env.bodies.pose[LOAD, :2], env.bodies.pose[ROBOT, :2]) + 0.3
    env.close()


def test_pushing_the_load_into_a_rack_is_a_violation() -> None:
    layout = replace(EMPTY, robot=Pose(3, 4), boxes=(Box(5.5, 4, 0.6, 2),))
    env = GroundEnv(SCENE, layout=layout)
    env.reset(seed=0)
    infos = [env.step(np.array([1.0, 0.0]))[4] for _ in range(40)]
    env.close()
    assert any(info["violations"]["load_collision"] for info in infos)
    assert not any(info["violations"]["robot_collision"] for info in infos)
    assert any(info["touching"] for info in infos)


def test_a_tipped_load_and_a_robot_outside_are_violations() -> None:
    env = GroundEnv(SCENE, layout=EMPTY)
    env.reset(seed=0)
    pose = env.bodies.pose.copy()
    pose[LOAD, 3:] = (np.sin(0.5), 0, 0, np.cos(0.5))  # 57 degrees
    violations = env.scene.task.find_violations(replace(env.bodies, pose=pose), [], is_inside=False)
    env.close()
    assert violations == {"robot_collision": False, "load_collision": False, "load_tipped": True, "robot_outside_hall": True}


@pytest.mark.parametrize("scene", scenes)
def test_images_show_the_scene(scene: str) -> None:
    env = GroundEnv(scene, "test", render_mode="rgb_array", render_size=(96, 72))
    assert env.render() is None
    env.reset(seed=0)
    before = env.render()
    assert before is not None
    assert before.shape == (72, 96, 3)
    assert before.dtype == np.uint8
    assert len(np.unique(before.reshape(-1, 3), axis=0)) > 20
    for action in sample_actions(scene, 15):
        env.step(action)
    assert not np.array_equal(env.render(), before)
    env.close()
    assert GroundEnv(scene).render() is None


def test_a_layout_with_too_many_loads_is_refused() -> None:
    loads = tuple(Pose(1 + i, 7) for i in range(5))
    with pytest.raises(BadLayout, match="at most 3"):
        GroundEnv(SCENE, layout=replace(EMPTY, loads=loads)).reset(seed=0)
    with pytest.raises(UnknownName, match="did you mean 'logistics/tote-push'"):
        GroundEnv("logistics/tote-pull")
    with pytest.raises(UnknownName, match="split"):
        GroundEnv(SCENE, "tests").reset(seed=0)


def test_actions_beyond_the_limits_are_clipped() -> None:
    ends = []
    for size in (1.0, 50.0):
        env = GroundEnv(SCENE, layout=EMPTY)
        env.reset(seed=0)
        for _ in range(10):
            env.step(np.array([size, -size]))
        ends.append(env.bodies.pose.tobytes())
        env.close()
    assert ends[0] == ends[1]


@pytest.mark.parametrize("scene", [scene for scene in scenes if not scenes[scene].make_world])
def test_success_requires_that_the_goal_is_held(scene: str) -> None:
    env = GroundEnv(scene, "test")
    layout, hold_steps = env.scene.sample_layout("test", 0), env.scene.hold_steps
    poses = [layout.robot, *layout.loads]
    poses[LOAD if layout.loads else ROBOT] = layout.goal
    _, info = env.reset(seed=0, options={"layout": layout, "poses": np.array([(p.x, p.y, p.yaw) for p in poses])})
    solved = [info["success"], *(env.step(np.zeros(2))[4]["success"] for _ in range(hold_steps + 2))]
    assert solved == [step >= hold_steps for step in range(hold_steps + 3)]


def test_gymnasium_makes_an_environment_without_a_call_of_the_project() -> None:
    code = "import gymnasium; print(gymnasium.make('sim.env:ground/TotePush-v0').unwrapped.scene.name)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "logistics/tote-push"


def start_episode(scene: str, steps: int = 12) -> tuple[GroundEnv, np.random.Generator]:
    env = GroundEnv(scene, "test", variations=Variations.parse(("observation_noise=0.01", "latency_steps=1")))
    env.reset(seed=4)
    rng = np.random.default_rng(0)
    for _ in range(1 if scenes[scene].is_skill else steps):
        env.step(rng.uniform(-1, 1, env.action_space.shape))
    return env, rng


@pytest.mark.parametrize("scene", scenes)
@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))], ids=["copy", "pickle"])
def test_a_copy_of_an_environment_is_independent_and_continues_alike(
    scene: str, make_copy: Callable[[GroundEnv], GroundEnv]
) -> None:
    env, rng = start_episode(scene)
    duplicate = make_copy(env)
    action = rng.uniform(-1, 1, env.action_space.shape)
    outcomes = [some_env.step(action) for some_env in (env, duplicate)]
    for name, values in outcomes[0][0].items():
        np.testing.assert_array_equal(values, outcomes[1][0][name], err_msg=name)
    assert outcomes[0][1] == outcomes[1][1]
    pose = env.bodies.pose.copy()
    duplicate.step(action)
    duplicate.reset(seed=9)
    np.testing.assert_array_equal(env.bodies.pose, pose)
    env.step(action)
    for some_env in (env, duplicate):
        some_env.close()


def test_a_copy_has_the_options_that_the_reset_had(tmp_path: Path) -> None:
    env = GroundEnv("logistics/tote-push", "test")
    env.scene.sample_layout("test", 5).save(tmp_path / "hall.json")
    poses, variation = np.array([(0.8, 0.8, 0.0)]), {"load_mass_kg": 3}
    options = {"layout": tmp_path / "hall.json", "poses": poses, "variation": variation}
    env.reset(seed=4, options=options)
    layout, start = env.layout, env.bodies.pose.copy()
    poses[:], variation["load_mass_kg"], options["index"] = 9.0, 50, 3
    (tmp_path / "hall.json").unlink()
    duplicate = copy.deepcopy(env)
    assert duplicate.layout == layout
    assert duplicate.variation == env.variation
    np.testing.assert_array_equal(duplicate.bodies.pose, start)
    duplicate.close()
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("test", "reset options are 'test'; a dictionary is needed"),
        ({"index": "3"}, "index is '3'; a whole number from 0"),
        ({"index": 1.5}, "index is 1.5"),
        ({"index": -1}, "index is -1"),
        ({"split": ["test"]}, "the name of a split"),
        ({"layout": {"hall": 1}}, "a Layout or the path"),
        ({"layout": ""}, "cannot be read"),
        ({"poses": [[0, 0]]}, "rows x, y, yaw"),
        ({"poses": [[np.nan, 0, 0]]}, "rows x, y, yaw"),
        ({"poses": [[1e9, 0, 0]]}, "at most 1000 each"),
        ({"poses": "x"}, "rows x, y, yaw"),
        ({"poses": [[1, 1, 0]] * 9}, "9 rows; the layout has 2 dynamic bodies"),
        ({"variation": [1]}, "a dictionary of the values"),
        ({"variation": {"load_mass_kg": np.nan}}, "load_mass_kg=nan"),
        ({"variation": Variation(load_mass_kg=np.nan)}, "finite values"),
    ],
)
def test_an_option_of_the_wrong_kind_is_refused_in_one_line(options: Any, message: str, tote_env: GroundEnv) -> None:
    with pytest.raises(GroundError, match=re.escape(message)):
        tote_env.reset(seed=0, options=options)
    tote_env.reset(seed=0, options={"index": None, "poses": None})


@pytest.mark.parametrize("action", ["x", [1j, 0], [10**400, 0], np.array(["a", "b"])])
def test_an_action_without_numbers_is_refused(action: Any, tote_env: GroundEnv) -> None:
    tote_env.reset(seed=0)
    with pytest.raises(GroundError, match="numbers are needed"):
        tote_env.step(action)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layouts": 0}, "layouts is 0; a whole number from 1"),
        ({"lidar_rays": 1.5}, "lidar_rays is 1.5"),
        ({"layout": "hall.json"}, "a Layout of sim.layout"),
        ({"variations": {"load_mass_kg": 3}}, "a Variations of sim.variation"),
        ({"render_mode": "rgb"}, "did you mean 'rgb_array'"),
    ],
)
def test_an_argument_of_the_wrong_kind_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(GroundError, match=message):
        GroundEnv("tote-push", **arguments)


@pytest.fixture(scope="module")
def tote_env() -> Iterator[GroundEnv]:
    env = GroundEnv("logistics/tote-push", "test")
    yield env
    env.close()


@pytest.mark.parametrize("scene", scenes)
def test_a_nan_in_an_action_is_refused_and_infinity_is_clipped(scene: str) -> None:
    env = GroundEnv(scene, "test")
    env.reset(seed=0)
    pose = env.bodies.pose.copy()
    action = np.ones(env.action_space.shape)
    with pytest.raises(GroundError, match="holds a NaN"):
        env.step(np.where(np.arange(len(action)) == 0, np.nan, action))
    np.testing.assert_array_equal(env.bodies.pose, pose)
    env.step(action * np.inf)
    clipped = env.bodies.pose.copy()
    env.reset(seed=0)
    env.step(action)
    np.testing.assert_array_equal(env.bodies.pose, clipped)
    env.close()


def test_reset_options_select_split_index_layout_and_variation(tmp_path: Path) -> None:
    env = GroundEnv("logistics/tote-push", "train")
    env.reset(seed=0, options={"split": "test", "index": 3})
    assert env.layout.name == "test/3"
    layout = env.layout
    layout.save(tmp_path / "hall.json")
    env.reset(seed=0, options={"layout": tmp_path / "hall.json", "variation": {"load_mass_kg": 3, "load_friction": "0.3:0.4"}})
    assert env.layout.id == layout.id
    assert env.variation.load_mass_kg == 3
    assert 0.3 <= env.variation.load_friction <= 0.4
    fixed = GroundEnv("logistics/tote-push", layout=layout)
    fixed.reset(seed=0, options={"index": 5})
    assert fixed.layout.name == "train/5"
    for options, message in (
        ({"Index": 3}, "unknown reset option 'Index': did you mean 'index'"),
        ({"split": "tset"}, "did you mean 'test'"),
        ({"variation": {"mass": 3}}, "did you mean 'load_mass_kg'"),
        ({"variation": {"load_mass_kg": 3000}}, "values from 0.1 to 100"),
        ({"layout": tmp_path / "gone.json"}, "cannot be read"),
    ):
        with pytest.raises(GroundError, match=message):
            env.reset(seed=0, options=options)
    env.close()


@pytest.mark.parametrize("display", [None, ":4077"])
def test_a_window_without_a_display_is_refused_in_words(monkeypatch: pytest.MonkeyPatch, display: str | None) -> None:
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)
    with pytest.raises(GroundError, match=r"DISPLAY|libX11.*rgb_array.*ground view"):
        GroundEnv("logistics/tote-push", render_mode="human").reset(seed=0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_varied_appearances_do_not_fill_the_memory() -> None:
    env = GroundEnv("logistics/tote-push", variations=Variations.parse(("appearance=varied",)), layouts=2)

    def measure_after(resets: int) -> float:
        for seed in range(resets):
            env.reset(seed=seed)
            env.render_camera("overhead", 32, 32)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6

    before = measure_after(100)
    assert measure_after(150) - before < 5  # Bullet's cache of files grows by 0.12 MB a reset
    env.close()
