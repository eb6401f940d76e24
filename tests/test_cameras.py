from typing import Any

import numpy as np
import pytest
from conftest import limit_steps, make_action

from sim.bodies import LOAD, ROBOT, Kind
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.sensors.cameras import BACKGROUND, CAMERAS, FLOOR, place_overhead
from sim.utils.errors import GroundError, UnknownName
from sim.variation import Variation

SIZE = (96, 72)


def start_episode(scene: str) -> GroundEnv:
    env = GroundEnv(scene, "test")
    env.reset(seed=0, options={"index": 0})
    return env


@pytest.fixture(params=list(scenes))
def env(request: pytest.FixtureRequest) -> GroundEnv:
    return start_episode(request.param)


@pytest.fixture(params=[name for name in scenes if not scenes[name].make_world])
def hall_env(request: pytest.FixtureRequest) -> GroundEnv:
    """An environment whose robot and loads stand on the floor from the start."""
    return start_episode(request.param)


@pytest.mark.parametrize("camera", CAMERAS)
def test_every_camera_shows_the_scene_and_repeats_its_image(env: GroundEnv, camera: str) -> None:
    image, repeated = (env.render_camera(camera, *SIZE) for _ in range(2))
    assert image.rgb.shape == (72, 96, 3)
    assert image.rgb.dtype == np.uint8
    assert image.depth_m.shape == image.body.shape == (72, 96)
    for name in ("rgb", "depth_m", "body"):
        np.testing.assert_array_equal(getattr(image, name), getattr(repeated, name))
    visible = set(np.unique(image.body)) - {FLOOR, BACKGROUND}
    if camera != "robot" or not env.scene.make_world:
        assert len(visible) > (camera != "robot")  # its image may show a single body
    assert (env.bodies.present[list(visible)] > 0).all()
    assert (image.depth_m > 0).all()


@pytest.mark.parametrize("scene", [name for name in scenes if scenes[name].make_robot(Variation()).visuals])
def test_links_move_in_images_and_rendering_does_not_change_physics(scene: str) -> None:
    poses = []
    for is_rendered in (False, True):
        env = GroundEnv(scene, "test")
        env.reset(seed=0, options={"index": 0})
        before = env.render_camera("side", *SIZE) if is_rendered else None
        for _ in range(limit_steps(scene, 12)):
            env.step(make_action(scene, 1.0, -1.0))
        poses.append(env.bodies.pose.copy())
        if before is not None:
            after = env.render_camera("side", *SIZE)
            assert min((before.body == ROBOT).sum(), (after.body == ROBOT).sum()) > 0.02 * before.body.size
            assert ((before.body == ROBOT) != (after.body == ROBOT)).any(), "the arm has moved"
        env.close()
    np.testing.assert_array_equal(*poses)


def test_overhead_images_have_correct_positions_and_depths(hall_env: GroundEnv) -> None:
    env = hall_env
    width = height = 200
    image, hall = env.render_camera("overhead", width, height), env.layout.hall
    unit = env.scene.unit_m
    view = place_overhead(hall, (0, 0, 0), 0, unit)
    boxes = np.flatnonzero((env.bodies.kind >= Kind.RACK) & (env.bodies.present > 0))
    for body in (*([] if env.scene.make_robot(env.variation).visuals else [ROBOT]), LOAD, *boxes[:2]):  # the arm hides its tool
        rows, columns = np.nonzero(image.body == body)
        top = float(env.bodies.pose[body, 2] + env.bodies.half_extents[body, 2])
        distance = view.eye[2] - top
        depth = image.depth_m[rows, columns]
        assert depth.min() == pytest.approx(distance, abs=0.03 * unit)
        flat = np.abs(depth - distance) < 0.03 * unit  # the top, without the sides
        per_pixel = 2 * distance * np.tan(np.deg2rad(view.fov_deg / 2)) / height
        x = view.eye[0] + (columns[flat].mean() + 0.5 - width / 2) * per_pixel
        y = view.eye[1] - (rows[flat].mean() + 0.5 - height / 2) * per_pixel
        np.testing.assert_allclose((x, y), env.bodies.pose[body, :2], atol=0.06 * unit)
    floor = image.depth_m[image.body == FLOOR]
    assert np.median(floor) == pytest.approx(view.eye[2], abs=0.03 * unit)


def test_robot_camera_shows_the_load_ahead(hall_env: GroundEnv) -> None:
    env = hall_env
    x, y = env.bodies.pose[LOAD, :2].tolist()
    loads, distance = env.layout.loads, 1.2 * env.scene.unit_m
    for bearing in (0.0, 2.0) if "turn" in env.scene.action_spec.components else (0.0,):
        pose = (x - distance * np.cos(bearing), y - distance * np.sin(bearing), bearing)
        poses = np.array([pose, *[(load.x, load.y, load.yaw) for load in loads]])
        env.reset(seed=0, options={"index": 0, "poses": poses})
        image = env.render_camera("robot", *SIZE)
        rows, columns = np.nonzero(image.body == LOAD)
        assert len(rows) > 20
        assert abs(columns.mean() + 0.5 - SIZE[0] / 2) < 4
        assert not (image.body == ROBOT)[:40].any()


def test_pybullet_without_numpy_gives_the_same_image(env: GroundEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyBullet built without numpy returns flat tuples, as PyPI's pybullet-arm64 does on CPython 3.12."""
    expected = env.render_camera("side", *SIZE)
    assert env._world is not None
    client = env._world._client
    get_image = client.getCameraImage

    def get_tuples(*args: Any, **options: Any) -> tuple[Any, ...]:
        width, height, *images = get_image(*args, **options)
        return (width, height, *(tuple(np.ravel(image).tolist()) for image in images))

    monkeypatch.setattr(client, "getCameraImage", get_tuples)
    image = env.render_camera("side", *SIZE)
    assert (image.rgb.dtype, image.depth_m.dtype, image.body.dtype) == (np.uint8, np.float32, np.int16)
    np.testing.assert_array_equal(image.rgb, expected.rgb)
    np.testing.assert_array_equal(image.body, expected.body)
    np.testing.assert_allclose(image.depth_m, expected.depth_m, rtol=1e-4)


def test_unknown_cameras_and_sizes_are_refused(env: GroundEnv) -> None:
    with pytest.raises(UnknownName, match="overhead"):
        env.render_camera("overhad", *SIZE)
    with pytest.raises(GroundError, match="pixels"):
        env.render_camera("overhead", 0, 10)
