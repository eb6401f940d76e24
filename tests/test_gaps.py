import numpy as np
import pytest

from sim.bodies import Shape
from sim.env import GroundEnv
from sim.geometry.gaps import TOUCH_M, compute_static_gaps
from sim.geometry.rotations import yaw_to_quaternion
from sim.scenes.scene import scenes

BOX = (2.0, 1.0, 0.5, 0.3)  # x, y, half width, half depth of the only static body


def make_observation(shape: Shape, footprint: list[tuple[float, ...]]) -> dict[str, np.ndarray]:
    """Make an observation of a dynamic body of 0.2 × 0.1 m half extents and a static box."""
    pose = np.zeros((2, 7))
    pose[:, 6], pose[1, :2] = 1, BOX[:2]
    footprints = np.zeros((2, 2, 4))
    footprints[0, : len(footprint)] = np.reshape(footprint, (-1, 4))
    return {
        "pose": pose, "half_extents": np.array([(0.2, 0.1, 0.1), (*BOX[2:], 1.0)]), "kind": np.array([1, 3]),
        "shape": np.array([shape, Shape.BOX]), "present": np.ones(2), "footprints": footprints,
    }  # fmt: skip


def make_pose(x: float, y: float, yaw: float = 0.0) -> np.ndarray:
    return np.array([[x, y, 0, *yaw_to_quaternion(np.array(yaw))]])


@pytest.mark.parametrize(
    ("shape", "pose", "gap"),
    [
        (Shape.CYLINDER, make_pose(1.0, 1.0), 0.3),
        (Shape.BOX, make_pose(1.0, 1.0), 0.3),
        (Shape.BOX, make_pose(1.0, 1.0, np.pi / 2), 0.4),
        (Shape.BOX, make_pose(1.2, 0.4), np.hypot(0.1, 0.2)),
        (Shape.BOX, make_pose(2.0, 1.25), -0.15),  # half inside
        (Shape.BOX, make_pose(1.5 - 0.1 * np.sqrt(2) - 0.1, 1.35, np.pi / 4), None),  # its side faces a corner of the box
    ],
)
def test_gaps_equal_known_distances(shape: Shape, pose: np.ndarray, gap: float | None) -> None:
    (distance,) = compute_static_gaps(make_observation(shape, []), pose)
    if gap is None:  # distance of points along the outline
        share = np.linspace(-1, 1, 400)[:, None]
        c, s = np.cos(np.pi / 4), np.sin(np.pi / 4)
        outline = np.concatenate([np.hstack([0.2 * share, np.full_like(share, side)]) for side in (-0.1, 0.1)])
        world = pose[0, :2] + outline @ np.array([[c, s], [-s, c]])
        offset = np.maximum(np.abs(world - BOX[:2]) - BOX[2:], 0)
        gap = float(np.linalg.norm(offset, axis=1).min())
    assert distance == pytest.approx(gap, abs=1e-3)


def test_footprint_boxes_replace_the_bounding_box() -> None:
    pose = make_pose(1.4, 1.0)
    assert compute_static_gaps(make_observation(Shape.BOX, []), pose)[0] < 0
    assert compute_static_gaps(make_observation(Shape.BOX, [(-0.15, 0.0, 0.05, 0.1)]), pose)[0] == pytest.approx(0.2)


@pytest.mark.parametrize("name", [name for name in scenes if not scenes[name].make_world])  # others rest on static bodies
def test_hard_contacts_have_no_gap(name: str) -> None:
    env = GroundEnv(name, "test")
    observation, _ = env.reset(seed=0, options={"index": 0})
    num_dynamic = int(env.bodies.is_dynamic.sum())
    assert compute_static_gaps(observation, env.bodies.pose[:num_dynamic]).min() > TOUCH_M
    forces, gaps = [], []
    for _ in range(100):
        *_, info = env.step(np.array([1.0, 0.0]))
        forces.append(info["static_force_n"])
        gaps.append(compute_static_gaps(observation, env.bodies.pose[:num_dynamic]).min())
    is_hard = np.array(forces) > 50
    if is_hard.any():
        assert np.mean(np.array(gaps)[is_hard] < TOUCH_M) > 0.9
    env.close()
