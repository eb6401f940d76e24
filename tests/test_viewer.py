import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import trimesh
from conftest import Ground
from hypothesis import given
from hypothesis import strategies as st

from agents.planning.search import SearchConfig
from agents.planning.spec import PlannerSpec
from experiments.config.experiment import ExperimentConfig
from experiments.evaluation.evaluate import evaluate
from experiments.methods.method import Method, make_episode_specs
from experiments.viewer import browser, looks
from experiments.viewer.export import check_recording_path
from experiments.viewer.library import ANY, SORT_KEYS, EpisodeIndex, EpisodeTab, format_table, format_title
from experiments.viewer.overlays import ARROW_SIZES_M, OVERLAY_DESCRIPTIONS, compute_edge_distances
from experiments.viewer.page import HUMAN_METHOD, Page
from experiments.viewer.panels import select_mark_labels
from experiments.viewer.player import Player, find_marks, recompute_plans
from experiments.viewer.plots import (
    COST_TITLE,
    DECISION_TIME_TITLE,
    ERROR_TITLE,
    PLOT_SERIES,
    PREDICTED_COST_TITLE,
    compute_series,
)
from experiments.viewer.runs import load_run_methods
from experiments.viewer.scenery import ReplayView
from experiments.viewer.serve import find_free_port
from experiments.viewer.stage import configure_lights_and_camera, run_server
from experiments.viewer.take import EpisodeSetup, PlannerTrace, Replay
from sim.bodies import LOAD
from sim.data.store import Dataset, append_episode
from sim.layout import Layout
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.scenes.tote_push.layouts import sample_layout
from sim.scenes.tote_push.task import PushTask
from sim.utils.errors import GroundError
from sim.variation import Variation

SCENE = "logistics/tote-push"

SIZES = st.tuples(st.floats(0.1, 3), st.floats(0.1, 3), st.floats(0.1, 1.5))


def until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.02)


WHEELS_M = 0.03  # of an AMR of the usual height reach this far below its chassis


@pytest.mark.parametrize("scene", list(scenes))
def test_links_are_drawn_where_physics_has_them(scene: str) -> None:
    take = Replay(
        "smooth-random", EpisodeSetup(scene, scenes[scene].sample_layout("test", 0)), scenes[scene].behaviours["smooth-random"]()
    )
    for _ in range(15):
        take.advance()
    take.close()
    links, tools = np.stack([frame.link_poses for frame in take.frames]), np.stack([frame.pose[0, :3] for frame in take.frames])
    assert links.shape == (16, len(take.visuals), 7)
    np.testing.assert_allclose(np.linalg.norm(links[..., 3:], axis=-1), 1)
    if len(take.visuals):
        assert np.ptp(tools[:, :2], 0).max() > 0.02, "it has to move"
        np.testing.assert_allclose(links[:, 0], links[:1, 0].repeat(16, 0))  # the base stays
        held = tools - links[:, -1, :3]  # the last link holds the tool
        np.testing.assert_allclose(held, held[:1].repeat(16, 0), atol=0.01)


@pytest.mark.parametrize("scene", list(scenes))
def test_a_link_has_few_faces_and_keeps_its_size(scene: str) -> None:
    for visual in scenes[scene].make_robot(Variation()).visuals:
        whole, mesh = trimesh.load_mesh(visual.mesh), looks.load_link_mesh(visual.mesh)
        np.testing.assert_allclose(mesh.bounds, whole.bounds, atol=0.005)
        assert len(mesh.faces) < 1.1 * looks.MAX_LINK_FACES
        assert mesh.visual.vertex_colors.shape == (len(mesh.vertices), 4)


@given(half=SIZES, seed=st.integers(0, 99))
@pytest.mark.parametrize("look", [looks.make_tote_mesh, looks.make_wall_mesh, looks.make_rack_mesh])
def test_what_is_drawn_is_as_large_as_what_is_hit(look: object, half: tuple[float, float, float], seed: int) -> None:
    mesh = looks.make_rack_mesh(np.array(half), seed) if look is looks.make_rack_mesh else look(np.array(half))  # type: ignore[operator]
    slack = 0.045  # thin parts of a very small body
    assert (np.abs(mesh.bounds) <= np.array(half) + slack).all()
    assert (np.abs(mesh.bounds) >= np.array(half) - slack).all()


def test_the_robot_stands_on_the_floor_and_shows_where_it_heads() -> None:
    half = np.array([0.3, 0.3, 0.125])
    mesh = looks.make_robot_mesh(half)
    np.testing.assert_allclose(mesh.bounds[0], (-0.3, -0.3, -0.125 - WHEELS_M), atol=0.01)
    np.testing.assert_allclose(mesh.bounds[1], half, atol=0.01)
    bright = mesh.vertices[(mesh.visual.vertex_colors[:, :3] > 240).all(-1)]
    assert bright[:, 0].mean() > 0.02
    assert abs(bright[:, 1].mean()) < 1e-6


def test_the_bay_is_painted_where_the_goal_is() -> None:
    layout: Layout = sample_layout("test", 0)
    picture, hall = looks.draw_floor_image(layout), layout.hall
    rows, columns = np.nonzero((picture == looks.GOAL_COLOUR).all(-1))
    x = hall.x + (columns + 0.5) / looks.PIXELS_PER_M
    y = hall.y + hall.depth - (rows + 0.5) / looks.PIXELS_PER_M
    assert np.hypot(x.mean() - layout.goal.x, y.mean() - layout.goal.y) < 0.02
    assert np.hypot(x - layout.goal.x, y - layout.goal.y).max() < PushTask.goal_radius_m


def test_a_take_follows_its_script_and_can_go_on_otherwise_from_any_step() -> None:
    setting = EpisodeSetup(SCENE, sample_layout("test", 0), seed=3)
    live = Replay("scripted", setting, scenes[SCENE].behaviours["scripted"]())
    for _ in range(12):
        live.advance()
    episode = live.to_episode()
    again = Replay.from_episode(SCENE, episode)
    assert (again.is_over, len(again.frames)) == (True, len(episode))
    assert again.deviation_m == 0
    assert recompute_plans(again, scenes[SCENE].behaviours["scripted"]()) < 1e-6
    elsewhere = replace(episode, pose=episode.pose + np.float32(0.01))
    assert Replay.from_episode(SCENE, elsewhere).deviation_m == pytest.approx(0.01, rel=1e-3)
    other = live.branch(5, "random", scenes[SCENE].behaviours["random"]())
    assert all((a.pose == b.pose).all() for a, b in zip(live.frames[:6], other.frames[:6], strict=True))
    for _ in range(7):
        other.advance()
    assert not np.array_equal(other.frames[-1].pose, live.frames[12].pose)
    assert len(other.to_episode()) == len(episode)
    for take in (live, again, other):
        take.close()


def test_what_a_planner_thought_is_found_again() -> None:
    spec = PlannerSpec(SCENE, "simulator", config=SearchConfig(samples=4, iterations=1, horizon=3))
    setting = EpisodeSetup(SCENE, sample_layout("test", 1), seed=1)
    live = Replay("oracle", setting, spec())
    for _ in range(4):
        live.advance()
    recorded = Replay.from_episode(SCENE, live.to_episode())
    assert all(frame.planner_trace is None for frame in recorded.frames)
    assert recompute_plans(recorded, spec()) < 1e-6
    for frame, before in zip(recorded.frames[:-1], live.frames[:-1], strict=True):
        assert frame.planner_trace is not None
        assert before.planner_trace is not None
        assert frame.planner_trace.plan_poses.shape == (3, 2, 7)
        assert (np.diff(frame.planner_trace.candidate_costs) >= 0).all()
        np.testing.assert_array_equal(frame.planner_trace.plan_poses, before.planner_trace.plan_poses)
    assert np.nanmax([frame.prediction_error_m for frame in live.frames]) < 0.01, "the true simulator knows the next state"
    assert np.isnan(recorded.frames[0].prediction_error_m)
    assert [frame.prediction_error_m for frame in recorded.frames[1:]] == [frame.prediction_error_m for frame in live.frames[1:]]
    acted = replace(live.to_episode(), action=-live.to_episode().action)
    other = Replay.from_episode(SCENE, acted)
    assert recompute_plans(other, spec()) > 1e-3
    assert np.isnan([frame.prediction_error_m for frame in other.frames]).all(), "what others did is no error of the plan"
    live.close()
    recorded.close()


def solved_by_the_expert() -> Layout:
    """The first test space that it solves on this machine: where contacts are many, rounding decides."""
    for index in range(10):
        take = Replay("scripted", EpisodeSetup(SCENE, sample_layout("test", index)), scenes[SCENE].behaviours["scripted"]())
        while not take.is_over:
            take.advance()
        if take.frames[-1].success:
            return take.setup.layout
    raise AssertionError("the expert solves none of ten spaces")


def test_a_player_makes_frames_only_where_there_are_none() -> None:
    changes: list[int] = []
    player = Player(lambda: changes.append(1))
    take = Replay("scripted", EpisodeSetup(SCENE, solved_by_the_expert()), scenes[SCENE].behaviours["scripted"]())
    player.show([take])
    assert [player.step() for _ in range(3)] == [True] * 3
    player.seek(1)
    assert player.step()
    assert (player.frame_index, len(take.frames)) == (2, 4)
    player.seek(99)
    assert player.frame_index == 3
    player.speed, player.is_playing = 8.0, True
    deadline = time.monotonic() + 60
    while player.is_playing and time.monotonic() < deadline:
        time.sleep(0.05)
    assert take.frames[-1].success
    assert player.frame_index == len(take.frames) - 1
    names = [name for _, name in find_marks(take)]
    assert (names[0], names[-1]) == ("contact", "solved")
    assert len(changes) > 10
    player.close()
    assert not player._thread.is_alive()


def test_a_second_viewer_takes_another_port() -> None:
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        taken = first.getsockname()[1]
        assert find_free_port("127.0.0.1", taken) > taken
    wrong = (("127.0.0.1", 99999, "1 to 65535"), ("300.1.1.1", 8080, "no address"), ("192.0.2.1", 8080, "no address"))
    for host, port, said in wrong:
        with pytest.raises(GroundError, match=said):
            find_free_port(host, port)


@pytest.fixture
def page() -> Iterator[Page]:
    with run_server() as server:
        page = Page(server, {name: dict(scenes[name].behaviours) for name in scenes}, SCENE)
        yield page
        page.close()


def test_another_arm_goes_on_beside_what_happened_and_both_can_be_kept(page: Page, tmp_path: Path) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 3, "scripted", play=False)
    for _ in range(6):
        page.player.step()
    page.player.seek(4)
    page.branch("random")
    page.player.is_playing = False
    live, other = page.player.replays
    assert page.player.frame_index >= 4
    assert "rebuilt to within 0 mm" in page._message
    assert len(live.frames) >= 7
    while page.player.step() and len(other.frames) < 12:
        pass
    np.testing.assert_array_equal(live.frames[4].pose, other.frames[4].pose)
    assert not np.array_equal(live.frames[8].pose, other.frames[8].pose)
    assert len(live.frames) == len(other.frames), "what was not over goes on from where it was"
    assert np.abs(live.frames[-1].pose[0, :2] - live.frames[-2].pose[0, :2]).max() < 0.2, "and not from somewhere else"
    assert all(frame.planner_trace is None for frame in other.frames[:4])
    for number in (0, 1):
        page.selected_index = number
        path = page.save_episode(tmp_path)
        dataset = Dataset.open(path)
        kept = list(dataset.episodes())
        assert (len(kept), dataset.find_faults()) == (number + 1, [])
    assert [episode.behaviour for episode in kept] == ["scripted", "random from step 4"]
    np.testing.assert_array_equal(kept[1].pose, np.stack([frame.pose for frame in other.frames]).astype(np.float32))
    assert path == tmp_path / "test"
    with pytest.raises(GroundError, match="kept already"):
        page.save_episode(tmp_path)
    assert len(list(Dataset.open(page.save_episode(tmp_path / "elsewhere")).episodes())) == 1
    page.start_live(SCENE, sample_layout("train", 0), "train", 0, "random", play=False)
    page.player.step()
    with pytest.raises(GroundError, match="choose another directory"):
        append_episode(path, SCENE, "train", page.selected_replay.to_episode())


def test_a_take_is_kept_under_the_split_of_its_own_space(page: Page, tmp_path: Path) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "random", play=False)
    page.start_live(SCENE, sample_layout("train", 0), "train", 0, "random", play=False, keep_shown=True)
    for _ in range(2):
        page.player.step()
    kept = []
    for number in (0, 1):
        page.selected_index = number
        kept.append(page.save_episode(tmp_path))
    assert kept == [tmp_path / "test", tmp_path / "train"]


def test_planners_mind_the_protocol_that_is_shown(page: Page) -> None:
    name = "factory/push-fixture"
    page.methods |= {scene: dict(scenes[scene].behaviours) for scene in scenes.list_with_protocols()}
    page.add_methods(name, {"graph+mppi": PlannerSpec(name, "somewhere")})
    planner = page.methods[f"{name}@pusht"]["graph+mppi"]
    assert isinstance(planner, PlannerSpec)
    assert planner.scene == f"{name}@pusht"


def test_who_goes_on_does_not_wait_for_thoughts(page: Page) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "random", play=False)
    for _ in range(20):
        page.player.step()
    page.add_methods(SCENE, {"slow": Slow})
    page.show([Replay.from_episode(SCENE, replace(page.selected_replay.to_episode(), behaviour="slow"))])
    page.plan_recomputer.start(page.player.replays)
    assert page.player.num_ready_frames == 0
    page.player.seek(3)
    page.branch(HUMAN_METHOD)
    time.sleep(0.3)
    assert page.player.num_ready_frames is None


def test_a_person_drives(page: Page) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, HUMAN_METHOD, play=False)
    page.human_policy.apply_key("forward")
    for _ in range(8):
        page.player.step()
    page.human_policy.apply_key("forward")
    page.human_policy.apply_key("left")
    for _ in range(8):
        page.player.step()
    way = np.linalg.norm(np.diff([frame.pose[0, :2] for frame in page.selected_replay.frames], axis=0), axis=-1)
    assert way[7] == pytest.approx(0.04, abs=0.01)
    assert way[-1] == pytest.approx(0.08, abs=0.01)
    assert page.selected_replay.frames[-1].twist[0, 5] == pytest.approx(0.75, abs=0.1)
    assert "you drive: 100% forward, 50% to the left" in page._format_status()
    page.human_policy.apply_key("stop")
    assert not page.human_policy.command.any()
    for key in ("forward", "forward", "forward"):
        page.human_policy.apply_key(key)
    assert page.human_policy.command[0] == 1


def test_a_space_of_ones_own_has_a_splits_physics_and_is_kept_apart(page: Page, tmp_path: Path) -> None:
    layout = sample_layout("test", 0)
    page.start_live(SCENE, layout, "shift-physics", 3, "random", play=False, is_custom_layout=True)
    assert page.selected_replay.setup.variation == scenes[SCENE].make_variations("shift-physics", ()).sample(
        np.random.default_rng(3)
    )
    assert page.selected_replay.setup.variation != scenes[SCENE].make_variations("test", ()).sample(np.random.default_rng(3))
    page.player.step()
    assert page.save_episode(tmp_path) == tmp_path / f"own-{layout.id}"


def test_time_waits_for_who_drives(page: Page) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "scripted", play=False)
    for _ in range(3):
        page.player.step()
    page.player.seek(2)
    page.branch(HUMAN_METHOD)
    time.sleep(0.3)
    assert (page.player.frame_index, page.player.is_playing) == (2, False)
    page.drive("forward")
    until(lambda: page.player.frame_index > 4)
    page.player.toggle_playing()
    page.player.seek(3)
    page.drive("forward")
    assert not page.player.is_playing, "who looks back does not drive"


@pytest.mark.parametrize(("scene", "forward"), [("factory/push-fixture", (0, 1)), ("logistics/aisle-traffic", None)])
def test_forward_is_ahead_of_an_amr_and_away_from_who_stands_at_a_table(
    page: Page, scene: str, forward: tuple[float, float] | None
) -> None:
    layout = scenes[scene].sample_layout("test", 0)
    page.start_live(scene, layout, "test", 0, HUMAN_METHOD, play=False)
    page.human_policy.apply_key("forward")
    for _ in range(6):
        page.player.step()
    way = page.selected_replay.frames[-1].pose[0, :2] - page.selected_replay.frames[0].pose[0, :2]
    yaw = layout.robot.yaw
    np.testing.assert_allclose(way / np.linalg.norm(way), forward or (np.cos(yaw), np.sin(yaw)), atol=0.15)


def test_physics_of_ones_own_and_mistakes_are_told(page: Page) -> None:
    page.start_live(
        SCENE, sample_layout("test", 0), "test", 0, "random", physics="load_mass_kg=9 load_friction=0.3:0.4", play=False
    )
    assert page.selected_replay.setup.variation.load_mass_kg == 9
    assert 0.3 <= page.selected_replay.setup.variation.load_friction <= 0.4
    assert "(load_mass_kg=9, load_friction=0.3" in page._format_status()
    with pytest.raises(GroundError, match="same scene alone"):
        page.start_live(
            "factory/push-fixture", scenes["factory/push-fixture"].sample_layout("test", 0), "test", 0, "random", keep_shown=True
        )
    page.panels.run_action(None, lambda: page.start_live(SCENE, sample_layout("test", 0), "test", 0, "random", physics="mass=9"))
    assert "mass" in page._message
    with pytest.raises(GroundError, match="graph"):
        page.start_live(SCENE, sample_layout("test", 0), "test", 0, "graph+mppi")


def test_forces_are_drawn_above_the_bodies_that_would_hide_them() -> None:
    take = Replay("scripted", EpisodeSetup(SCENE, solved_by_the_expert()), scenes[SCENE].behaviours["scripted"]())
    while not take.frames[-1].contacts:
        take.advance()
    with run_server() as server:
        scenery = ReplayView(server, [take], {"forces"})
        scenery.draw_frame(len(take.frames) - 1)
        arrows = scenery._overlays[0]._handles["forces"].points  # type: ignore[attr-defined]
    assert (arrows[..., 2] >= 2 * take.half_extents[LOAD, 2] - 0.01).all()
    lengths = np.linalg.norm(np.diff(arrows, axis=1)[:, 0], axis=-1)
    assert (lengths > ARROW_SIZES_M[-1]).all(), "more than a head"
    take.close()


@pytest.mark.parametrize("scene", list(scenes))
@pytest.mark.parametrize("name", list(OVERLAY_DESCRIPTIONS))
def test_every_overlay_draws_what_there_is_and_hides_what_there_is_not(scene: str, name: str) -> None:
    spec = PlannerSpec(scene, "simulator", config=SearchConfig(samples=4, iterations=1, horizon=3))
    take = Replay("oracle", EpisodeSetup(scene, scenes[scene].sample_layout("test", 1), seed=1), spec())
    while not take.frames[-1].contacts and len(take.frames) < 4:
        take.advance()
    thoughts = [(index, frame, frame.planner_trace) for index, frame in enumerate(take.frames)]
    for index, frame, thought in thoughts:  # the true simulator is one, and agrees with itself
        if thought is not None:
            take.frames[index] = replace(frame, thought=replace(thought, disagreement=0.1))
    with run_server() as server:
        shown = {name}
        scenery = ReplayView(server, [take], shown)
        overlays = scenery._overlays[0]
        for index in range(len(take.frames)):
            scenery.draw_frame(index)
        drawn = {key.partition("/")[0] for key in overlays._handles}
        assert drawn <= {name}
        assert drawn == ({name} if name != "forces" or any(frame.contacts for frame in take.frames) else set())
        shown.clear()
        scenery.draw_frame(0)
        assert not any(handle.visible for handle in overlays._handles.values())
    take.close()


def test_rays_end_at_the_edge_of_a_table() -> None:
    x, y, width, depth = table = (-0.4, 0.2, 1.0, 0.6)
    start = np.random.default_rng(0).uniform((x, y), (x + width, y + depth), (64, 2))
    angles = np.linspace(0, 2 * np.pi, 64)  # straight along the axes too
    towards = np.round(np.stack([np.cos(angles), np.sin(angles)], -1), 12)
    ends = start + compute_edge_distances(start, towards, table)[:, None] * towards
    share = (ends - (x, y)) / (width, depth)
    assert (share > -1e-9).all()
    assert (share < 1 + 1e-9).all()
    np.testing.assert_allclose(np.minimum(share, 1 - share).min(-1), 0, atol=1e-9)


def test_a_row_of_halls_is_looked_at_from_nearer_in_a_wider_window() -> None:
    layout = sample_layout("test", 0)
    away = []
    with run_server() as server:
        for window in ((1000, 1000), (2000, 1000)):
            configure_lights_and_camera(server, layout, 4 * layout.hall.width, window)
            away.append(np.linalg.norm(server.initial_camera.position - server.initial_camera.look_at))
    assert away[1] == pytest.approx(away[0] / 2)


def test_plots_show_what_was_known(page: Page) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "scripted", play=False)
    page.player.step()
    for name, names in PLOT_SERIES.items():
        data = compute_series(name, page.selected_replay, 1)
        assert [len(column) for column in data] == [2 if name == COST_TITLE else 0] * (1 + len(names))
    plan, sizes, paths = np.zeros((12, 2, 7)), np.zeros((2, 3)), np.zeros((1, 12, 2, 2))
    thought = PlannerTrace(plan, np.array([0, 1]), sizes, paths, np.zeros(1), np.arange(12.0), 0.05, 0.08, None)
    for _ in range(20):
        page.player.step()
    page.selected_replay.frames[5] = replace(page.selected_replay.frames[5], thought=thought)
    steps, came, predicted = compute_series(PREDICTED_COST_TITLE, page.selected_replay, 20)
    assert (steps.tolist(), predicted.tolist()) == ([15.0], [9.0]), "nothing is shown that was not predicted"
    assert came[0] == page.selected_replay.frames[15].cost
    assert [column.tolist() for column in compute_series(DECISION_TIME_TITLE, page.selected_replay, 20)] == [
        [5.0],
        [50.0],
        [80.0],
    ]


@pytest.mark.parametrize("scene", list(scenes))
def test_plots_call_things_as_their_scene_does(page: Page, scene: str) -> None:
    page.start_live(scene, scenes[scene].sample_layout("test", 0), "test", 0, "scripted", play=False)
    assert f"of the {scenes[scene].dynamic_noun} [" in str(page.panels._plots[ERROR_TITLE].title)
    cost_m = page.selected_replay.frames[0].cost * scenes[scene].task.cost_unit_m
    assert f"cost {cost_m:.2f} m" in page._format_status()
    assert compute_series(COST_TITLE, page.selected_replay, 0)[1].tolist() == [pytest.approx(cost_m)]


def test_a_bug_while_playing_is_told_and_the_next_episode_plays(page: Page) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "scripted", play=False)
    page.selected_replay.policy.predict = None  # type: ignore[union-attr, method-assign, assignment]
    page.player.toggle_playing()
    until(lambda: "a bug" in page._message)
    assert not page.player.is_playing
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "scripted")
    until(lambda: len(page.selected_replay.frames) > 3)


def test_the_timeline_has_a_tick_at_each_mark(page: Page) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "scripted", play=False)
    while not page.selected_replay.is_over:
        page.player.step()
    ticks = [tick.value for tick in page.panels._timeline._marks or ()]
    assert ticks == [index for index, _ in find_marks(page.selected_replay)]
    assert ticks[-1] == len(page.selected_replay.frames) - 1


def test_what_takes_long_is_done_one_at_a_time(page: Page) -> None:
    with page.acquire_action_lock():
        page.panels.run_action(None, lambda: page.start_live(SCENE, sample_layout("test", 0), "test", 0, "scripted"))
    assert "busy" in page._message
    assert not page.player.replays


def test_reset_begins_anew_and_play_at_the_end_shows_it_again(page: Page) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, HUMAN_METHOD, play=False)
    for _ in range(3):
        page.player.step()
    page.player.reset()
    assert (page.player.frame_index, len(page.selected_replay.frames)) == (0, 1)
    page.player.step()
    recorded = Replay.from_episode(SCENE, page.selected_replay.to_episode())
    page.show([recorded])
    page.player.reset()
    assert len(recorded.frames) == 2
    assert page.player.step()
    assert not page.player.step()
    shown, changed = list[int](), page.player.on_change
    page.player.on_change = lambda: (shown.append(page.player.frame_index), changed())[1]
    page.player.toggle_playing()
    until(lambda: page.player.frame_index == 1 and not page.player.is_playing)
    assert shown[0] == 0


def test_live_arms_run_side_by_side(page: Page) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "scripted", play=False)
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "random", play=False, keep_shown=True)
    for _ in range(5):
        page.player.step()
    assert [(take.name, len(take.frames)) for take in page.player.replays] == [("scripted", 6), ("random", 6)]
    text = page.export_html()
    assert "__VISER_EMBED_DATA__=" in text
    assert "scripted beside random" in text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms in two spaces; one row is damaged, and there are no models."""
    path = tmp_path_factory.mktemp("runs") / "unfinished"
    trials = make_episode_specs("unfinished", scenes[SCENE], "test", 2)
    for name in ("scripted", "random", "smooth-random"):
        evaluate(Method(name, scenes[SCENE].behaviours[name]), trials, path / "results" / name, workers=1)
    (path / "results" / "random" / "test-00001.row").write_bytes(b"PAR1 half of a file")
    (path / "config.json").write_text(json.dumps(asdict(ExperimentConfig("unfinished"))))
    return path


def test_a_library_filters_sorts_and_shows_arms_beside_each_other_in_the_order_asked_for(run: Path) -> None:
    library = EpisodeIndex(run)
    assert (len(library.results), library.num_unreadable) == (5, 1)
    assert {row["agent"] for row in library.select(method="scripted")} == {"scripted"}
    assert all(row["success"] for row in library.select(outcome="solved"))
    assert not any(row["success"] for row in library.select(outcome="failed"))
    costs = [row["total_cost"] for row in library.select(order="highest cost first")]
    assert costs == sorted(costs, reverse=True)
    for order in SORT_KEYS:
        assert len(library.select(order=order)) == 5
    row = library.find("test", 0, "scripted")
    takes = library.make_replays(row, ["smooth-random", "random"])
    assert [take.name for take in takes] == ["scripted", "smooth-random", "random"]
    assert max(take.deviation_m or 0 for take in takes) < 1e-6
    assert len(takes[0].frames) - 1 == row["steps"]
    with pytest.raises(GroundError, match="there are scripted, smooth-random"):
        library.find("test", 1, "random")
    html = format_table(library.results, 5, 1)
    assert html.count("<tr>") == 5
    assert "1 damaged" in html


def test_trainings_of_one_agent_are_told_apart(tmp_path: Path, page: Page) -> None:
    policies = {"agent": "scripted", "agent@1": "random", "agent@10": "smooth-random"}
    factories = {arm: scenes[SCENE].behaviours[name] for arm, name in policies.items()}
    trials = make_episode_specs("seeds", scenes[SCENE], "test", 1)
    for seed, factory in zip((0, 1, 10), factories.values(), strict=True):
        evaluate(Method("agent", factory, train_seed=seed), trials, tmp_path / "results" / "agent", workers=1)
    library = EpisodeIndex(tmp_path)
    assert len({format_title(row) for row in library.results}) == 3
    for arm in policies:
        assert f"<td>{arm}</td>" in format_table(library.select(method=arm), 3, 0)
        assert library.find("test", 0, arm) == library.select(method=arm)[0]
    takes = library.make_replays(library.find("test", 0, "agent@1"), ["agent@10", "agent"])
    assert [take.name for take in takes] == ["agent@1", "agent@10", "agent"]
    for take in takes:
        assert recompute_plans(take, factories[take.name]()) < 1e-6, "these are its own actions"
        take.close()
    page.add_methods(SCENE, factories)
    shelf = EpisodeTab(library, page)
    assert shelf._method_dropdown.options == (ANY, *policies)
    shelf._method_dropdown.value = "agent@10"
    shelf.update_list()
    shelf._method_checkboxes["agent@1"].value = True
    shelf.show_selected()
    assert [take.name for take in page.player.replays] == ["agent@10", "agent@1"]


def test_an_agent_by_its_name_alone_is_its_first_training(run: Path) -> None:
    library = EpisodeIndex(run)
    row = library.find("test", 0, "scripted")
    library.results = [{**row, "train_seed": seed} for seed in (10, 3)]
    assert library.find("test", 0, "scripted")["train_seed"] == 3
    assert library.find("test", 0, "scripted@10")["train_seed"] == 10
    with pytest.raises(GroundError, match="there are scripted@10, scripted@3"):
        library.find("test", 0, "scripted@4")


def test_the_page_of_an_unfinished_run_shows_what_there_is(run: Path, page: Page) -> None:
    arms, missing = load_run_methods(run)
    assert "oracle" in arms
    assert "graph+mppi" not in arms
    assert "holds no trained model yet" in missing["graph+mppi"]
    page.add_methods(SCENE, arms)
    shelf = EpisodeTab(EpisodeIndex(run), page)
    shelf.show_selected()
    assert page.selected_replay.name == "random"
    until(lambda: page.player.frame_index > 2)
    shelf.show_best_planner("test", 1)
    assert page.selected_replay.name == "scripted"
    assert page.selected_replay.setup.layout.id == sample_layout("test", 1).id
    assert "there is no episode" not in page._message
    shelf.show_best_planner("test", 99)
    assert page.selected_replay.setup.layout.id == sample_layout("test", 0).id, "the first one where that space was not played"
    assert "no episode of scripted in test 99" in page._message
    shelf._episode_dropdown.value = shelf._episode_dropdown.options[-1]
    shelf._order_dropdown.value = "longest first"
    shelf.update_list()
    assert shelf._episode_dropdown.value == shelf._episode_dropdown.options[0]
    places = []
    for steps in (1, -1, -1, 1):
        shelf.move_selection(steps)
        places.append(shelf._episode_dropdown.options.index(shelf._episode_dropdown.value))
        row = shelf._listed_results[shelf._episode_dropdown.value]
        assert (page.selected_replay.name, page.selected_replay.setup.layout.id) == (row["agent"], row["layout_id"])
    assert places == [1, 0, len(shelf._episode_dropdown.options) - 1, 0]
    shelf._episode_index.results = []
    with pytest.raises(GroundError, match="no episode to show yet"):
        shelf.show_best_planner("test", 0)


def test_arms_of_any_run_can_be_chosen_by_its_name(run: Path, page: Page, tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="is no run directory"):
        page.add_run_methods(tmp_path)
    page.add_run_methods(run)
    name = f"{run.name}: oracle"
    assert name in page.methods[SCENE]
    assert name not in page.methods["factory/push-fixture"]
    assert name in page._message
    assert "graph+mppi cannot be played: " in page._message
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, name, play=False)
    page.player.step()
    assert len(page.selected_replay.frames) == 2
    other = tmp_path / run.name
    shutil.copytree(run, other)
    page.add_run_methods(other)
    page.add_run_methods(other)
    assert {name, f"{other}: oracle"} == {arm for arm in page.methods[SCENE] if arm.endswith("oracle")}


def test_playing_waits_for_what_is_still_being_thought() -> None:
    player = Player()
    take = Replay("scripted", EpisodeSetup(SCENE, solved_by_the_expert()), scenes[SCENE].behaviours["scripted"]())
    player.show([take], play=True)
    player.num_ready_frames = 3
    until(lambda: player.frame_index == 2)
    time.sleep(0.3)
    assert (player.frame_index, player.is_playing) == (2, True), "the fourth frame's thoughts are not known"
    player.seek(0)
    until(lambda: player.frame_index == 2)
    player.num_ready_frames = None
    until(lambda: player.frame_index > 4)
    player.close()


def test_who_is_behind_catches_up_before_time_goes_on() -> None:
    player = Player()
    one, other = (
        Replay(name, EpisodeSetup(SCENE, sample_layout("test", 0)), scenes[SCENE].behaviours["random"]())
        for name in ("one", "other")
    )
    for _ in range(6):
        one.advance()
    player.show([one, other])
    player.seek(4)
    for frames in (2, 3, 4, 5):
        assert player.step()
        assert (player.frame_index, len(one.frames), len(other.frames)) == (4, 7, frames)
    assert player.step()
    assert (player.frame_index, len(one.frames), len(other.frames)) == (5, 7, 6)
    player.close()


class Slow:
    """Acts at random, and takes its time."""

    def __init__(self) -> None:
        self._policy = scenes[SCENE].behaviours["random"]()

    def start_episode(self, start: EpisodeStart) -> None:
        self._policy.start_episode(start)

    def predict(self, *args: object, **named: object) -> tuple[np.ndarray, object]:
        time.sleep(0.05)
        return self._policy.predict(*args, **named)  # type: ignore[arg-type]


def test_what_is_saved_waits_for_all_thoughts_and_the_end_does_not(page: Page) -> None:
    page.start_live(SCENE, sample_layout("test", 0), "test", 0, "random", play=False)
    for _ in range(20):
        page.player.step()
    page.add_methods(SCENE, {"slow": Slow})
    said, say = list[str](), page.plan_recomputer._on_status
    page.plan_recomputer._on_status = lambda note: (said.append(note), say(note))[1]
    for _ in range(2):
        page.show([Replay.from_episode(SCENE, replace(page.selected_replay.to_episode(), behaviour="slow"))])
        page.plan_recomputer.start(page.player.replays)
    page.show_message("what a person asked for")
    page.plan_recomputer.wait()
    assert said[-1] == "slow thought again: it takes the same actions"
    for line in (said[-1], "what a person asked for"):
        assert line in page._format_status(), "one does not overwrite the other"
    assert page.player.num_ready_frames is None
    page.plan_recomputer.start(page.player.replays)
    until(lambda: "thinks again" in said[-1])
    page.plan_recomputer.close()
    assert "slow thinks again: " in said[-1], "it has not gone on to the end"
    assert not any(thread.is_alive() for thread in page.plan_recomputer._threads)


@given(marks=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["contact", "solved"])), max_size=6))
def test_names_of_marks_do_not_overlap(marks: list[tuple[int, str]]) -> None:
    named = select_mark_labels(marks, 100)
    assert [at for at, _ in named] == sorted(at for at, _ in marks)
    assert (np.diff([at for at, name in named if name]) >= 20).all()
    assert not marks or named[0][1]


def test_playing_waits_until_somebody_looks() -> None:
    player = Player()
    player.is_waiting_for_client = True
    take = Replay("scripted", EpisodeSetup(SCENE, solved_by_the_expert()), scenes[SCENE].behaviours["scripted"]())
    player.show([take], play=True)
    time.sleep(0.3)
    assert (player.frame_index, player.is_playing) == (0, True)
    player.is_waiting_for_client = False
    until(lambda: player.frame_index > 1)
    player.close()


def test_an_episode_that_is_over_has_no_branches(page: Page) -> None:
    take = Replay("scripted", EpisodeSetup(SCENE, solved_by_the_expert()), scenes[SCENE].behaviours["scripted"]())
    while not take.is_over:
        take.advance()
    page.show([take])
    page.player.seek(len(take.frames) - 1)
    with pytest.raises(GroundError, match="over here"):
        page.branch("random")


def test_a_recording_is_checked_before_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GroundError, match=r"an \.html or an \.mp4 file"):
        check_recording_path(tmp_path / "a.gif")
    monkeypatch.setattr(browser, "found", lambda: None)
    with pytest.raises(GroundError, match="drawn by Chromium"):
        check_recording_path(tmp_path / "a.mp4")


def test_two_viewers_run_beside_each_other_and_end_with_their_terminal() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    viewers = [Ground("view", "--port", port, group=True)]
    first = viewers[0].process.stdout.readline()
    viewers.append(Ground("view", "--port", port, group=True))
    second = viewers[1].process.stdout.readline()
    assert f"http://127.0.0.1:{port}" in first
    assert f"http://127.0.0.1:{port + 1} (port {port} is taken)" in second
    for viewer in viewers:
        os.killpg(viewer.process.pid, signal.SIGHUP)
        assert viewer.process.wait(timeout=30) == -signal.SIGHUP
