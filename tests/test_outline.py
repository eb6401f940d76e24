import numpy as np
import pytest

from sim.bodies import Shape
from sim.env import GroundEnv
from sim.geometry.gaps import TOUCH_M, compute_static_gaps
from sim.geometry.rotations import yaw_to_quaternion
from sim.scenes.scene import scenes

BOX = (2.0, 1.0, 0.5, 0.3)  # x, y, half width, half depth of the only static body


def observed(shape: Shape, pieces: list[tuple[float, ...]]) -> dict[str, np.ndarray]:
    """One mover of 0.2 × 0.1 m half extents, and one static box."""
    pose = np.zeros((2, 7))
    pose[:, 6], pose[1, :2] = 1, BOX[:2]
    given = np.zeros((2, 2, 4))
    given[0, : len(pieces)] = np.reshape(pieces, (-1, 4))
    return {
        "pose": pose, "half_extents": np.array([(0.2, 0.1, 0.1), (*BOX[2:], 1.0)]), "kind": np.array([1, 3]),
        "shape": np.array([shape, Shape.BOX]), "present": np.ones(2), "footprints": given,
    }  # fmt: skip


def at(x: float, y: float, yaw: float = 0.0) -> np.ndarray:
    return np.array([[x, y, 0, *yaw_to_quaternion(np.array(yaw))]])


@pytest.mark.parametrize(
    ("shape", "place", "gap"),
    [
        (Shape.CYLINDER, at(1.0, 1.0), 0.3),
        (Shape.BOX, at(1.0, 1.0), 0.3),
        (Shape.BOX, at(1.0, 1.0, np.pi / 2), 0.4),
        (Shape.BOX, at(1.2, 0.4), np.hypot(0.1, 0.2)),
        (Shape.BOX, at(2.0, 1.25), -0.15),  # half inside
        (Shape.BOX, at(1.5 - 0.1 * np.sqrt(2) - 0.1, 1.35, np.pi / 4), None),  # its side faces the other's corner
    ],
)
def test_known_distances(shape: Shape, place: np.ndarray, gap: float | None) -> None:
    (found,) = compute_static_gaps(observed(shape, []), place)
    if gap is None:  # against points all along the outline
        share = np.linspace(-1, 1, 400)[:, None]
        c, s = np.cos(np.pi / 4), np.sin(np.pi / 4)
        outline = np.concatenate([np.hstack([0.2 * share, np.full_like(share, side)]) for side in (-0.1, 0.1)])
        world = place[0, :2] + outline @ np.array([[c, s], [-s, c]])
        away = np.maximum(np.abs(world - BOX[:2]) - BOX[2:], 0)
        gap = float(np.linalg.norm(away, axis=1).min())
    assert found == pytest.approx(gap, abs=1e-3)


def test_a_body_of_pieces_is_not_its_bounding_box() -> None:
    place = at(1.4, 1.0)
    assert compute_static_gaps(observed(Shape.BOX, []), place)[0] < 0
    assert compute_static_gaps(observed(Shape.BOX, [(-0.15, 0.0, 0.05, 0.1)]), place)[0] == pytest.approx(0.2)


@pytest.mark.parametrize("name", list(scenes))
def test_who_drives_into_something_touches_it(name: str) -> None:
    env = GroundEnv(name, "test")
    observation, _ = env.reset(seed=0, options={"index": 0})
    movers = int(env.bodies.is_dynamic.sum())
    assert compute_static_gaps(observation, env.bodies.pose[:movers]).min() > TOUCH_M
    forces, nearest = [], []
    for _ in range(100):
        *_, info = env.step(np.array([1.0, 0.0]))
        forces.append(info["static_force_n"])
        nearest.append(compute_static_gaps(observation, env.bodies.pose[:movers]).min())
    hard = np.array(forces) > 50
    if hard.any():
        assert np.mean(np.array(nearest)[hard] < TOUCH_M) > 0.9
    env.close()
