import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.viewer import looks
from sim.layout import Layout
from sim.layouts.hall import draw
from sim.task import PushTask

SIZES = st.tuples(st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0.1, 1.5))
WHEELS_M = 0.03  # of an AMR of the usual height reach this far below its chassis


@given(half=SIZES, seed=st.integers(0, 99))
@pytest.mark.parametrize("look", [looks.tote, looks.wall, looks.rack])
def test_what_is_drawn_is_as_large_as_what_is_hit(look: object, half: tuple[float, float, float], seed: int) -> None:
    mesh = looks.rack(np.array(half), seed) if look is looks.rack else look(np.array(half))  # type: ignore[operator]
    slack = 0.045  # thin parts of a very small body
    assert (np.abs(mesh.bounds) <= np.array(half) + slack).all()
    assert (np.abs(mesh.bounds) >= np.array(half) - slack).all()


def test_the_robot_stands_on_the_floor_and_shows_where_it_heads() -> None:
    half = np.array([0.3, 0.3, 0.125])
    mesh = looks.robot(half)
    np.testing.assert_allclose(mesh.bounds[0], (-0.3, -0.3, -0.125 - WHEELS_M), atol=0.01)
    np.testing.assert_allclose(mesh.bounds[1], half, atol=0.01)
    bright = mesh.vertices[(mesh.visual.vertex_colors[:, :3] > 240).all(-1)]
    assert bright[:, 0].mean() > 0.02
    assert abs(bright[:, 1].mean()) < 1e-6


def test_the_bay_is_painted_where_the_goal_is() -> None:
    layout: Layout = draw("test", 0)
    picture, hall = looks.floor(layout), layout.hall
    rows, columns = np.nonzero((picture == looks.BAY).all(-1))
    x = hall.x + (columns + 0.5) / looks.PIXELS_PER_M
    y = hall.y + hall.depth - (rows + 0.5) / looks.PIXELS_PER_M
    assert np.hypot(x.mean() - layout.goal.x, y.mean() - layout.goal.y) < 0.02
    assert np.hypot(x - layout.goal.x, y - layout.goal.y).max() < PushTask.goal_radius_m
