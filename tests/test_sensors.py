import numpy as np
import pytest

from sim.bodies import Bodies
from sim.env import GroundEnv
from sim.scenes.scene import scenes
from sim.sensors.lidar import LIDAR_HEIGHT_M, compute_bearings, measure_ranges

MAX_RANGE_M = 6.0


@pytest.mark.parametrize("scene", [name for name in scenes if not scenes[name].make_world])  # an arm has other shapes
@pytest.mark.parametrize("index", range(3))
def test_lidar_ranges_equal_bullets_ray_casts(scene: str, index: int) -> None:
    env = GroundEnv(scene, "test")
    env.reset(seed=index, options={"index": index})
    ranges = measure_ranges(env.bodies, rays=90, max_range_m=MAX_RANGE_M)
    x, y = env.bodies.pose[0, :2]
    yaw = 2 * np.arctan2(env.bodies.pose[0, 5], env.bodies.pose[0, 6])
    angles = yaw + compute_bearings(90)
    inner = float(env.bodies.half_extents[0, 0]) + 0.01  # rays begin outside the robot's hull
    ends = [[[x + r * np.cos(a), y + r * np.sin(a), LIDAR_HEIGHT_M] for a in angles] for r in (inner, MAX_RANGE_M)]
    assert env._world is not None
    hits = env._world._client.rayTestBatch(*ends)
    expected = [inner + hit[2] * (MAX_RANGE_M - inner) if hit[0] >= 0 else MAX_RANGE_M for hit in hits]
    env.close()
    np.testing.assert_allclose(np.maximum(ranges, inner), expected, atol=0.012)  # Bullet's boxes have a margin
    assert (ranges < MAX_RANGE_M).any() == (env.layout.table_top is None)  # bodies on a table are below the sensor


def test_lidar_ranges_of_circles_boxes_and_empty_space() -> None:
    half = np.array([[0.3, 0.3, 0.2], [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], [1, 1, 0.05], [1, 1, 1]])
    pose = np.zeros((5, 7))
    pose[:, 6] = 1
    pose[:, :3] = [(0, 0, 0.2), (2, 0, 0.5), (0, -3, 0.5), (-2, 0, 0.05), (0, 2, 1)]
    bodies = Bodies(pose, np.zeros((5, 6)), half, np.zeros(5), np.array([1, 1, 0, 0, 0]), np.array([1, 1, 1, 1, 0]))
    np.testing.assert_allclose(
        measure_ranges(bodies, rays=4), (1.5, 10.0, 10.0, 2.5), err_msg="low and absent bodies are not detected"
    )
    rotated = pose.copy()
    rotated[0, 5:] = np.sin(np.pi / 4), np.cos(np.pi / 4)
    bodies = Bodies(rotated, bodies.twist, half, bodies.kind, bodies.shape, bodies.present)
    np.testing.assert_allclose(measure_ranges(bodies, rays=4), (10.0, 10.0, 2.5, 1.5), atol=1e-9)
