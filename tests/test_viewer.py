import socket
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.build import PlannerSpec
from agents.search import SearchConfig
from experiments.viewer import looks
from experiments.viewer.player import Player, marks, one_step_errors, think, whole
from experiments.viewer.serve import free_port
from experiments.viewer.take import Setting, Take
from sim.layout import Layout
from sim.layouts.hall import draw
from sim.policy import BEHAVIOURS
from sim.task import PushTask

SCENE = "logistics/tote-push"

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


def test_a_take_follows_its_script_and_can_go_on_otherwise_from_any_step() -> None:
    setting = Setting(SCENE, draw("test", 0), seed=3)
    live = Take("scripted", setting, BEHAVIOURS["scripted"]())
    for _ in range(12):
        live.advance()
    episode = live.episode()
    again = Take.recorded(SCENE, episode, BEHAVIOURS["scripted"]())
    while len(again.frames) < len(episode):
        again.advance()
    assert again.deviation_m(episode) == 0
    assert again.own_actions_differ_by < 1e-6
    other = live.branch(5, "random", BEHAVIOURS["random"]())
    assert all((a.pose == b.pose).all() for a, b in zip(live.frames[:6], other.frames[:6], strict=True))
    for _ in range(7):
        other.advance()
    assert not np.array_equal(other.frames[-1].pose, live.frames[12].pose)
    assert len(other.episode()) == len(episode)
    for take in (live, again, other):
        take.close()


def test_what_a_planner_thought_is_found_again() -> None:
    spec = PlannerSpec(SCENE, "simulator", config=SearchConfig(samples=4, iterations=1, horizon=3))
    setting = Setting(SCENE, draw("test", 1), seed=1)
    live = Take("oracle", setting, spec())
    for _ in range(4):
        live.advance()
    recorded = whole(SCENE, live.episode())
    assert all(frame.thought is None for frame in recorded.frames)
    assert think(recorded, spec()) < 1e-6
    for frame, before in zip(recorded.frames[:-1], live.frames[:-1], strict=True):
        assert frame.thought is not None
        assert before.thought is not None
        assert frame.thought.plan.shape == (3, 2, 7)
        assert (np.diff(frame.thought.costs) >= 0).all()
        np.testing.assert_array_equal(frame.thought.plan, before.thought.plan)
    assert np.nanmax(one_step_errors(live)) < 0.01, "the true simulator knows the next state"
    live.close()
    recorded.close()


def test_a_player_makes_frames_only_where_there_are_none() -> None:
    changes: list[int] = []
    player = Player(lambda: changes.append(1))
    take = Take("scripted", Setting(SCENE, draw("test", 0)), BEHAVIOURS["scripted"]())
    player.show([take])
    assert [player.step() for _ in range(3)] == [True] * 3
    player.seek(1)
    assert player.step()
    assert (player.index, len(take.frames)) == (2, 4)
    player.seek(99)
    assert player.index == 3
    player.speed, player.playing = 8.0, True
    deadline = time.monotonic() + 60
    while player.playing and time.monotonic() < deadline:
        time.sleep(0.05)
    assert take.frames[-1].success
    assert player.index == len(take.frames) - 1
    names = [name for _, name in marks(take)]
    assert (names[0], names[-1]) == ("contact", "solved")
    assert len(changes) > 10
    player.close()
    assert not player._thread.is_alive()


def test_a_second_viewer_takes_another_port() -> None:
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        taken = first.getsockname()[1]
        assert free_port("127.0.0.1", taken) > taken
