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
from experiments.colours import get_method_colours
from experiments.config.experiment import ExperimentConfig
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.specs import make_episode_specs
from experiments.methods.method import Method
from experiments.viewer.drawing import browser
from experiments.viewer.drawing.layout_view import configure_lights_and_camera
from experiments.viewer.drawing.meshes import MAX_LINK_FACES, load_link_mesh, make_trimesh
from experiments.viewer.drawing.overlays import ARROW_SIZES_M, OVERLAY_DESCRIPTIONS, compute_edge_distances
from experiments.viewer.drawing.recording import check_recording_path, render_html
from experiments.viewer.drawing.replay_view import ReplayView
from experiments.viewer.drawing.server import run_server
from experiments.viewer.page.episode_tab import format_table
from experiments.viewer.page.panels import select_mark_labels
from experiments.viewer.page.plots import compute_series, list_series
from experiments.viewer.page.serve import Page, find_free_port
from experiments.viewer.replay.describe import describe_state
from experiments.viewer.replay.episode_index import ANY, SORT_KEYS, EpisodeIndex, format_title
from experiments.viewer.replay.human_policy import DriveCommand, HumanPolicy, list_drive_keys
from experiments.viewer.replay.methods import load_model_methods, load_run_methods
from experiments.viewer.replay.player import Player, find_marks, recompute_plans
from experiments.viewer.replay.replay import EpisodeSetup, PlannerTrace, Replay
from experiments.viewer.replay.session import HUMAN_METHOD, make_setup
from sim.actions import ActionSpec
from sim.bodies import LOAD, Kind
from sim.data.store import Dataset, append_episode
from sim.layout import Layout
from sim.policy import EpisodeStart
from sim.scenes.hall_visuals import make_mobile_robot, make_rack, make_wall
from sim.scenes.scene import scenes
from sim.scenes.tote_push.layouts import sample_layout
from sim.scenes.tote_push.visuals import make_tote
from sim.utils.errors import GroundError, UnknownName
from sim.variation import Variation
from sim.visuals import GOAL_COLOUR, Primitives, get_floor_area

SCENE = "logistics/tote-push"
JOINT_MODEL = Path(__file__).parents[1] / "experiments/results/models/joint"

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
    assert links.shape == (16, len(take.link_visuals), 7)
    np.testing.assert_allclose(np.linalg.norm(links[..., 3:], axis=-1), 1)
    if len(take.link_visuals):
        assert np.ptp(tools[:, :2], 0).max() > 0.02, "it has to move"
        np.testing.assert_allclose(links[:, 0], links[:1, 0].repeat(16, 0))  # the base stays
        held = tools - links[:, -1, :3]  # the last link holds the tool
        np.testing.assert_allclose(held, held[:1].repeat(16, 0), atol=0.01)


@pytest.mark.parametrize("scene", list(scenes))
def test_a_link_has_few_faces_and_keeps_its_size(scene: str) -> None:
    for visual in scenes[scene].make_robot(Variation()).visuals:
        whole, mesh = trimesh.load_mesh(visual.mesh), load_link_mesh(visual.mesh)
        np.testing.assert_allclose(mesh.bounds, whole.bounds, atol=0.005)
        assert len(mesh.faces) < 1.1 * MAX_LINK_FACES
        assert mesh.visual.vertex_colors.shape == (len(mesh.vertices), 4)


@given(half=SIZES, seed=st.integers(0, 99))
@pytest.mark.parametrize("make", [lambda half, _: make_tote(half), lambda half, _: make_wall(half), make_rack])
def test_meshes_are_as_large_as_their_bodies(
    make: Callable[..., Primitives], half: tuple[float, float, float], seed: int
) -> None:
    mesh = make_trimesh(make(np.array(half), seed))
    tolerance = 0.045  # thin parts of a very small body
    assert (np.abs(mesh.bounds) <= np.array(half) + tolerance).all()
    assert (np.abs(mesh.bounds) >= np.array(half) - tolerance).all()


def test_the_robot_stands_on_the_floor_and_shows_its_heading() -> None:
    half = np.array([0.3, 0.3, 0.125])
    mesh = make_trimesh(make_mobile_robot(half))
    np.testing.assert_allclose(mesh.bounds[0], (-0.3, -0.3, -0.125 - WHEELS_M), atol=0.01)
    np.testing.assert_allclose(mesh.bounds[1], half, atol=0.01)
    bright = mesh.vertices[(mesh.visual.vertex_colors[:, :3] > 240).all(-1)]
    assert bright[:, 0].mean() > 0.02
    assert abs(bright[:, 1].mean()) < 1e-6


@pytest.mark.parametrize("scene", list(scenes))
def test_scenes_draw_all_bodies_and_the_goal_at_its_position(scene: str) -> None:
    layout, visuals = scenes[scene].sample_layout("test", 0), scenes[scene].visuals
    half = np.array([0.1, 0.1, 0.1])
    for body in range(len(layout.dynamic_kinds)):
        assert visuals.make_body(layout, body, half) == visuals.make_body(layout, body, half.copy()), (
            "equal bodies are drawn as one"
        )
    for number, (*_, kind) in enumerate(layout.static_boxes):
        assert make_trimesh(visuals.make_static_body(Kind(int(kind)), half, number)).area > 0
    image, (x, y, width, depth) = visuals.draw_floor(layout), get_floor_area(layout)
    rows, columns = np.nonzero((image == GOAL_COLOUR).all(-1))
    goal_x, goal_y = x + (columns + 0.5) / image.shape[1] * width, y + depth - (rows + 0.5) / image.shape[0] * depth
    distance = np.hypot(goal_x - layout.goal.x, goal_y - layout.goal.y)
    boxes = np.zeros((1, 4)) if visuals.get_goal_boxes is None else visuals.get_goal_boxes(layout)
    assert distance.max() < visuals.goal_radius_m + np.abs(boxes).sum(1).max() + 0.01
    assert distance.min() < 0.1
    assert set(visuals.make_legend([layout])) >= {"goal", visuals.get_name(Kind.ROBOT)}


def test_a_take_follows_its_script_and_can_go_on_otherwise_from_any_step() -> None:
    setting = EpisodeSetup(SCENE, sample_layout("test", 0), seed=3)
    live = Replay("scripted", setting, scenes[SCENE].behaviours["scripted"]())
    for _ in range(12):
        live.advance()
    episode = live.make_episode()
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
    assert len(other.make_episode()) == len(episode)
    for take in (live, again, other):
        take.close()


def test_what_a_planner_thought_is_found_again() -> None:
    spec = PlannerSpec(SCENE, "simulator", config=SearchConfig(samples=4, iterations=1, horizon=3))
    setting = EpisodeSetup(SCENE, sample_layout("test", 1), seed=1)
    live = Replay("oracle", setting, spec())
    for _ in range(4):
        live.advance()
    recorded = Replay.from_episode(SCENE, live.make_episode())
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
    acted = replace(live.make_episode(), action=-live.make_episode().action)
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


def start(
    page: Page,
    method: str,
    scene: str = SCENE,
    layout: Layout | None = None,
    split: str = "test",
    seed: int = 0,
    physics: str = "",
    keep_shown: bool = False,
    play: bool = False,
) -> None:
    """Run a method live, by default in the first layout of a split."""
    setup = make_setup(scene, layout or scenes[scene].sample_layout(split, 0), split, seed, physics, layout is not None)
    page.session.start_live(setup, method, play, keep_shown)


@pytest.fixture
def page() -> Iterator[Page]:
    with run_server() as server:
        page = Page(server, {name: dict(scenes[name].behaviours) for name in scenes}, SCENE)
        yield page
        page.close()


def test_another_arm_goes_on_beside_what_happened_and_both_can_be_kept(page: Page, tmp_path: Path) -> None:
    start(page, "scripted", seed=3)
    for _ in range(6):
        page.session.player.step()
    page.session.player.seek(4)
    page.session.branch("random")
    page.session.player.is_playing = False
    live, other = page.session.player.replays
    assert page.session.player.frame_index >= 4
    assert "rebuilt to within 0 mm" in page.session.message
    assert len(live.frames) >= 7
    while page.session.player.step() and len(other.frames) < 12:
        pass
    np.testing.assert_array_equal(live.frames[4].pose, other.frames[4].pose)
    assert not np.array_equal(live.frames[8].pose, other.frames[8].pose)
    assert len(live.frames) == len(other.frames), "what was not over goes on from where it was"
    assert np.abs(live.frames[-1].pose[0, :2] - live.frames[-2].pose[0, :2]).max() < 0.2, "and not from somewhere else"
    assert all(frame.planner_trace is None for frame in other.frames[:4])
    for number in (0, 1):
        page.session.selected_index = number
        path = page.session.save_episode(tmp_path)
        dataset = Dataset.open(path)
        kept = list(dataset.episodes())
        assert (len(kept), dataset.find_faults()) == (number + 1, [])
    assert [episode.behaviour for episode in kept] == ["scripted", "random from step 4"]
    np.testing.assert_array_equal(kept[1].pose, np.stack([frame.pose for frame in other.frames]).astype(np.float32))
    assert path == tmp_path / "test"
    with pytest.raises(GroundError, match="saved already"):
        page.session.save_episode(tmp_path)
    assert len(list(Dataset.open(page.session.save_episode(tmp_path / "elsewhere")).episodes())) == 1
    start(page, "random", split="train")
    page.session.player.step()
    with pytest.raises(GroundError, match="choose another directory"):
        append_episode(path, SCENE, "train", page.session.selected_replay.make_episode())


def test_a_take_is_kept_under_the_split_of_its_own_space(page: Page, tmp_path: Path) -> None:
    start(page, "random")
    start(page, "random", split="train", keep_shown=True)
    for _ in range(2):
        page.session.player.step()
    kept = []
    for number in (0, 1):
        page.session.selected_index = number
        kept.append(page.session.save_episode(tmp_path))
    assert kept == [tmp_path / "test", tmp_path / "train"]


def test_planners_mind_the_protocol_that_is_shown(page: Page) -> None:
    name = "factory/push-fixture"
    page.session.methods |= {scene: dict(scenes[scene].behaviours) for scene in scenes.list_with_protocols()}
    page.session.add_methods(name, {"graph+mppi": PlannerSpec(name, "somewhere")})
    planner = page.session.methods[f"{name}@pusht"]["graph+mppi"]
    assert isinstance(planner, PlannerSpec)
    assert planner.scene == f"{name}@pusht"


def test_who_goes_on_does_not_wait_for_thoughts(page: Page) -> None:
    start(page, "random")
    for _ in range(20):
        page.session.player.step()
    page.session.add_methods(SCENE, {"slow": Slow})
    page.session.show([Replay.from_episode(SCENE, replace(page.session.selected_replay.make_episode(), behaviour="slow"))])
    page.session.plan_recomputer.start(page.session.player.replays)
    assert page.session.player.num_ready_frames == 0
    page.session.player.seek(3)
    page.session.branch(HUMAN_METHOD)
    time.sleep(0.3)
    assert page.session.player.num_ready_frames is None


def test_a_person_drives(page: Page) -> None:
    start(page, HUMAN_METHOD)
    page.session.command.apply_key("forward")
    for _ in range(8):
        page.session.player.step()
    page.session.command.apply_key("forward")
    page.session.command.apply_key("left")
    for _ in range(8):
        page.session.player.step()
    way = np.linalg.norm(np.diff([frame.pose[0, :2] for frame in page.session.selected_replay.frames], axis=0), axis=-1)
    assert way[7] == pytest.approx(0.04, abs=0.01)
    assert way[-1] == pytest.approx(0.08, abs=0.01)
    assert page.session.selected_replay.make_episode().twist[-1, 0, 5] == pytest.approx(0.75, abs=0.1)
    assert "you drive: 100% forward, 50% left" in page.session.format_status()
    page.session.command.apply_key("stop")
    assert not any(page.session.command.speeds.values())
    for key in ("forward", "forward", "forward"):
        page.session.command.apply_key(key)
    assert page.session.command.speeds["forward"] == 1


def test_a_space_of_ones_own_has_a_splits_physics_and_is_kept_apart(page: Page, tmp_path: Path) -> None:
    layout = sample_layout("test", 0)
    start(page, "random", layout=layout, split="shift-physics", seed=3)
    assert page.session.selected_replay.setup.variation == scenes[SCENE].make_variations("shift-physics", ()).sample(
        np.random.default_rng(3)
    )
    assert page.session.selected_replay.setup.variation != scenes[SCENE].make_variations("test", ()).sample(
        np.random.default_rng(3)
    )
    page.session.player.step()
    assert page.session.save_episode(tmp_path) == tmp_path / f"own-{layout.id}"


def test_time_waits_for_who_drives(page: Page) -> None:
    start(page, "scripted")
    for _ in range(3):
        page.session.player.step()
    page.session.player.seek(2)
    page.session.branch(HUMAN_METHOD)
    time.sleep(0.3)
    assert (page.session.player.frame_index, page.session.player.is_playing) == (2, False)
    page.session.drive("forward")
    until(lambda: page.session.player.frame_index > 4)
    page.session.player.toggle_playing()
    page.session.player.seek(3)
    page.session.drive("forward")
    assert not page.session.player.is_playing, "who looks back does not drive"


@pytest.mark.parametrize(("scene", "forward"), [("factory/push-fixture", (0, 1)), ("logistics/aisle-traffic", None)])
def test_forward_is_ahead_of_an_amr_and_away_from_who_stands_at_a_table(
    page: Page, scene: str, forward: tuple[float, float] | None
) -> None:
    layout = scenes[scene].sample_layout("test", 0)
    start(page, HUMAN_METHOD, scene)
    page.session.command.apply_key("forward")
    for _ in range(6):
        page.session.player.step()
    way = page.session.selected_replay.frames[-1].pose[0, :2] - page.session.selected_replay.frames[0].pose[0, :2]
    yaw = layout.robot.yaw
    np.testing.assert_allclose(way / np.linalg.norm(way), forward or (np.cos(yaw), np.sin(yaw)), atol=0.15)


def test_physics_of_ones_own_and_mistakes_are_told(page: Page) -> None:
    start(page, "random", physics="load_mass_kg=9 load_friction=0.3:0.4")
    assert page.session.selected_replay.setup.variation.load_mass_kg == 9
    assert 0.3 <= page.session.selected_replay.setup.variation.load_friction <= 0.4
    assert "(load_mass_kg=9, load_friction=0.3" in page.session.format_status()
    with pytest.raises(GroundError, match="only one scene"):
        start(page, "random", "factory/push-fixture", keep_shown=True)
    page.session.run_action(lambda: start(page, "random", physics="mass=9"))
    assert "mass" in page.session.message
    with pytest.raises(GroundError, match="graph"):
        start(page, "graph+mppi")


def test_forces_are_drawn_above_the_bodies_that_would_hide_them() -> None:
    take = Replay("scripted", EpisodeSetup(SCENE, solved_by_the_expert()), scenes[SCENE].behaviours["scripted"]())
    while not take.frames[-1].contacts:
        take.advance()
    with run_server() as server:
        scenery = ReplayView(server, [take], {"contact forces"})
        scenery.draw_frame(len(take.frames) - 1)
        arrows = scenery._views[0][1]._handles["contact forces"].points  # type: ignore[attr-defined]
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
            take.frames[index] = replace(frame, planner_trace=replace(thought, disagreement_m=0.1))
    with run_server() as server:
        shown = {name}
        scenery = ReplayView(server, [take], shown)
        overlays = scenery._views[0][1]
        for index in range(len(take.frames)):
            scenery.draw_frame(index)
        drawn = {key.partition("/")[0] for key in overlays._handles}
        assert drawn <= {name}
        assert drawn == ({name} if name != "contact forces" or any(frame.contacts for frame in take.frames) else set())
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
            configure_lights_and_camera(server, scenes[SCENE].visuals.view, layout, 4 * layout.hall.width, window)
            away.append(np.linalg.norm(server.initial_camera.position - server.initial_camera.look_at))
    assert away[1] == pytest.approx(away[0] / 2)


def test_plots_show_what_was_known(page: Page) -> None:
    start(page, "scripted")
    page.session.player.step()
    for name, names in list_series(scenes[SCENE]).items():
        data = compute_series(name, page.session.selected_replay, 1)
        assert [len(column) for column in data] == [{"cost": 2, "action": 1}.get(name, 0)] * (1 + len(names))
    plan, sizes, paths = np.zeros((12, 2, 7)), np.zeros((2, 3)), np.zeros((1, 12, 2, 2))
    thought = PlannerTrace(plan, np.array([0, 1]), sizes, paths, np.zeros(1), np.arange(12.0), 0.05, 0.08, None)
    for _ in range(20):
        page.session.player.step()
    page.session.selected_replay.frames[5] = replace(page.session.selected_replay.frames[5], planner_trace=thought)
    steps, came, predicted = compute_series("prediction", page.session.selected_replay, 20)
    assert (steps.tolist(), predicted.tolist()) == ([15.0], [9.0]), "nothing is shown that was not predicted"
    assert came[0] == page.session.selected_replay.frames[15].cost
    assert [column.tolist() for column in compute_series("decision", page.session.selected_replay, 20)] == [[5.0], [50.0], [80.0]]


@pytest.mark.parametrize("scene", list(scenes))
def test_plots_call_things_as_their_scene_does(page: Page, scene: str) -> None:
    start(page, "scripted", scene)
    assert f"of the {scenes[scene].dynamic_noun} [" in str(page.panels._plots["error"].title)
    cost_m = page.session.selected_replay.frames[0].cost * scenes[scene].task.cost_unit_m
    assert f"cost {cost_m:.2f} m" in page.session.format_status()
    assert compute_series("cost", page.session.selected_replay, 0)[1].tolist() == [pytest.approx(cost_m)]


def test_a_bug_while_playing_is_told_and_the_next_episode_plays(page: Page) -> None:
    start(page, "scripted")
    page.session.selected_replay.policy.predict = None  # type: ignore[union-attr, method-assign, assignment]
    page.session.player.toggle_playing()
    until(lambda: "a bug" in page.session.message)
    assert not page.session.player.is_playing
    start(page, "scripted", play=True)
    until(lambda: len(page.session.selected_replay.frames) > 3)


def test_the_timeline_has_a_tick_at_each_mark(page: Page) -> None:
    start(page, "scripted")
    while not page.session.selected_replay.is_over:
        page.session.player.step()
    ticks = [tick.value for tick in page.panels._timeline._marks or ()]
    assert ticks == [index for index, _ in find_marks(page.session.selected_replay)]
    assert ticks[-1] == len(page.session.selected_replay.frames) - 1


def test_what_takes_long_is_done_one_at_a_time(page: Page) -> None:
    with page.session.acquire_action_lock():
        page.session.run_action(lambda: start(page, "scripted"))
    assert "busy" in page.session.message
    assert not page.session.player.replays


def test_reset_begins_anew_and_play_at_the_end_shows_it_again(page: Page) -> None:
    start(page, HUMAN_METHOD)
    for _ in range(3):
        page.session.player.step()
    page.session.player.reset()
    assert (page.session.player.frame_index, len(page.session.selected_replay.frames)) == (0, 1)
    page.session.player.step()
    recorded = Replay.from_episode(SCENE, page.session.selected_replay.make_episode())
    page.session.show([recorded])
    page.session.player.reset()
    assert len(recorded.frames) == 2
    assert page.session.player.step()
    assert not page.session.player.step()
    shown, changed = list[int](), page.session.player.on_change
    page.session.player.on_change = lambda: (shown.append(page.session.player.frame_index), changed())[1]
    page.session.player.toggle_playing()
    until(lambda: page.session.player.frame_index == 1 and not page.session.player.is_playing)
    assert shown[0] == 0


def test_live_arms_run_side_by_side(page: Page) -> None:
    start(page, "scripted")
    start(page, "random", keep_shown=True)
    for _ in range(5):
        page.session.player.step()
    assert [(take.name, len(take.frames)) for take in page.session.player.replays] == [("scripted", 6), ("random", 6)]
    text = render_html(page.session.player.replays, "scripted, random")
    assert "__VISER_EMBED_DATA__=" in text
    assert "scripted, random" in text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms in two spaces; one row is damaged, and there are no models."""
    path = tmp_path_factory.mktemp("runs") / "unfinished"
    trials = make_episode_specs("unfinished", scenes[SCENE], "test", 2)
    for name in ("scripted", "random", "smooth-random"):
        evaluate(Method(name, scenes[SCENE].behaviours[name]), trials, path / "results" / name, workers=1)
    (path / "results" / "random" / "test-00001.result").write_bytes(b"PAR1 half of a file")
    (path / "config.json").write_text(json.dumps(asdict(ExperimentConfig("unfinished"))))
    return path


def test_a_library_filters_sorts_and_shows_arms_beside_each_other_in_the_order_asked_for(run: Path) -> None:
    library = EpisodeIndex(run)
    assert (len(library.results), library.num_unreadable) == (5, 1)
    assert {row.method for row in library.select(method="scripted")} == {"scripted"}
    assert all(row.success for row in library.select(outcome="solved"))
    assert not any(row.success for row in library.select(outcome="failed"))
    costs = [row.total_cost for row in library.select(order="highest cost first")]
    assert costs == sorted(costs, reverse=True)
    for order in SORT_KEYS:
        assert len(library.select(order=order)) == 5
    row = library.find("test", 0, "scripted")
    takes = library.make_replays(row, ["smooth-random", "random"])
    assert [take.name for take in takes] == ["scripted", "smooth-random", "random"]
    assert max(take.deviation_m or 0 for take in takes) < 1e-6
    assert len(takes[0].frames) - 1 == row.steps
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
    page.session.add_methods(SCENE, factories)
    shelf = page.add_episode_tab(library)
    assert shelf._method_dropdown.options == (ANY, *policies)
    shelf._method_dropdown.value = "agent@10"
    shelf.update_list()
    shelf._method_checkboxes["agent@1"].value = True
    shelf.show_selected()
    assert [take.name for take in page.session.player.replays] == ["agent@10", "agent@1"]


def test_an_agent_by_its_name_alone_is_its_first_training(run: Path) -> None:
    library = EpisodeIndex(run)
    row = library.find("test", 0, "scripted")
    library.results = [replace(row, train_seed=seed) for seed in (10, 3)]
    assert library.find("test", 0, "scripted").train_seed == 3
    assert library.find("test", 0, "scripted@10").train_seed == 10
    with pytest.raises(GroundError, match="there are scripted@10, scripted@3"):
        library.find("test", 0, "scripted@4")


def test_the_page_of_an_unfinished_run_shows_what_there_is(run: Path, page: Page) -> None:
    arms, missing = load_run_methods(run)
    assert "oracle" in arms
    assert "graph+mppi" not in arms
    assert "holds no trained model yet" in missing["graph+mppi"]
    page.session.add_methods(SCENE, arms)
    shelf = page.add_episode_tab(EpisodeIndex(run))
    shelf.show_selected()
    assert page.session.selected_replay.name == "random"
    until(lambda: page.session.player.frame_index > 2)
    shelf.show_best_planner("test", 1)
    assert page.session.selected_replay.name == "scripted"
    assert page.session.selected_replay.setup.layout.id == sample_layout("test", 1).id
    assert "there is no episode" not in page.session.message
    shelf.show_best_planner("test", 99)
    assert page.session.selected_replay.setup.layout.id == sample_layout("test", 0).id, (
        "the first one where that space was not played"
    )
    assert "no episode of scripted in test 99" in page.session.message
    shelf._episode_dropdown.value = shelf._episode_dropdown.options[-1]
    shelf._order_dropdown.value = "longest first"
    shelf.update_list()
    assert shelf._episode_dropdown.value == shelf._episode_dropdown.options[0]
    places = []
    for steps in (1, -1, -1, 1):
        shelf.move_selection(steps)
        places.append(shelf._episode_dropdown.options.index(shelf._episode_dropdown.value))
        row = shelf._listed_results[shelf._episode_dropdown.value]
        assert (page.session.selected_replay.name, page.session.selected_replay.setup.layout.id) == (row.method, row.layout_id)
    assert places == [1, 0, len(shelf._episode_dropdown.options) - 1, 0]
    shelf._episode_index.results = []
    with pytest.raises(GroundError, match="no episode to show yet"):
        shelf.show_best_planner("test", 0)


def test_arms_of_any_run_can_be_chosen_by_its_name(run: Path, page: Page, tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="is no run directory"):
        page.session.add_run_methods(tmp_path)
    page.session.add_run_methods(run)
    name = f"{run.name}: oracle"
    assert name in page.session.methods[SCENE]
    assert name not in page.session.methods["factory/push-fixture"]
    assert name in page.session.message
    assert "graph+mppi is missing: " in page.session.message
    start(page, name)
    page.session.player.step()
    assert len(page.session.selected_replay.frames) == 2
    other = tmp_path / run.name
    shutil.copytree(run, other)
    page.session.add_run_methods(other)
    page.session.add_run_methods(other)
    assert {name, f"{other}: oracle"} == {arm for arm in page.session.methods[SCENE] if arm.endswith("oracle")}


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
    start(page, "random")
    for _ in range(20):
        page.session.player.step()
    page.session.add_methods(SCENE, {"slow": Slow})
    said, say = list[str](), page.session.plan_recomputer._on_status
    page.session.plan_recomputer._on_status = lambda note: (said.append(note), say(note))[1]
    for _ in range(2):
        page.session.show([Replay.from_episode(SCENE, replace(page.session.selected_replay.make_episode(), behaviour="slow"))])
        page.session.plan_recomputer.start(page.session.player.replays)
    page.session.show_message("what a person asked for")
    page.session.plan_recomputer.wait()
    assert said[-1] == "plans of slow recomputed: same actions"
    for line in (said[-1], "what a person asked for"):
        assert line in page.session.format_status(), "one does not overwrite the other"
    assert page.session.player.num_ready_frames is None
    page.session.plan_recomputer.start(page.session.player.replays)
    until(lambda: "recomputing" in said[-1])
    page.session.plan_recomputer.close()
    assert "recomputing the plans of slow: " in said[-1], "it has not gone on to the end"
    assert not any(thread.is_alive() for thread in page.session.plan_recomputer._threads)


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
    page.session.show([take])
    page.session.player.seek(len(take.frames) - 1)
    with pytest.raises(GroundError, match="over at this frame"):
        page.session.branch("random")


def test_a_recording_is_checked_before_it_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GroundError, match=r"an \.html or an \.mp4 file"):
        check_recording_path(tmp_path / "a.gif")
    monkeypatch.setattr(browser, "find_chromium", lambda: None)
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


class Lift:
    """An action spec and controls with a third component."""

    action_spec = ActionSpec(("forward", "left", "up"), (0.5, 0.5, 0.2))
    visuals = replace(scenes["push-fixture"].visuals)


def test_keys_drive_every_component_that_a_robot_has() -> None:
    command = DriveCommand()
    policy = HumanPolicy(Lift, command)  # type: ignore[arg-type]
    for key in ("forward", "right", "up", "up", "down", "down", "down"):
        command.apply_key(key)
    np.testing.assert_array_equal(policy.predict({})[0], (0.5, 0.5, -0.5))  # at a table, right is along x
    assert str(command) == "50% forward, 50% right, 50% down"
    assert list_drive_keys(Lift) == ["forward", "back", "left", "right", "up", "down", "stop"]  # type: ignore[arg-type]
    assert list_drive_keys(scenes[SCENE]) == ["forward", "back", "left", "right", "stop"]


def test_keys_of_other_robots_change_nothing(page: Page) -> None:
    start(page, HUMAN_METHOD)
    page.session.drive("up")
    assert "no speed" in page.session.format_status()
    assert not page.session.player.is_playing


@pytest.mark.parametrize("scene", list(scenes))
def test_actions_are_plotted_by_the_names_of_their_components(page: Page, scene: str) -> None:
    start(page, "random", scene)
    for _ in range(3):
        page.session.player.step()
    components = scenes[scene].action_spec.components
    labels = [series["label"] for series in page.panels._plots["action"].series]
    assert labels == ["step", *components]
    data = np.array(compute_series("action", page.session.selected_replay, 3))
    np.testing.assert_allclose(data[1:].T, page.session.selected_replay.actions, atol=1e-6)


def test_a_custom_layout_is_shown_by_its_name(page: Page) -> None:
    layout = replace(sample_layout("test", 0), name="hall")
    start(page, "random", layout=layout)
    assert f"**random** in hall ({layout.id[:8]})" in page.session.format_status()
    start(page, "random")
    assert "**random** in test/0" in page.session.format_status()


def test_a_label_tells_method_time_outcome_and_violations() -> None:
    take = Replay("random", EpisodeSetup(SCENE, sample_layout("test", 0)), scenes[SCENE].behaviours["random"]())
    for _ in range(4):
        take.advance()
    take.frames[2] = replace(take.frames[2], violations=("robot_collision",))
    take.frames[4] = replace(take.frames[4], success=True)
    assert describe_state(take, 1)[0].startswith("step 1, 0.1 s · cost ")
    assert describe_state(take, 4) == ["step 4, 0.4 s · solved", "robot collision"]
    with run_server() as server:
        view = ReplayView(server, [take], set())
        view.draw_frame(99)
        assert view._views[0][2].text == "random\nstep 4, 0.4 s · solved\nrobot collision"
    take.close()


@pytest.mark.parametrize("scene", list(scenes))
def test_the_shipped_joint_model_can_be_watched_in_every_scene(page: Page, scene: str) -> None:
    methods = load_model_methods([JOINT_MODEL], scene)
    assert list(methods) == ["joint+mppi"]
    page.session.add_methods(scene, methods)
    start(page, "joint+mppi", scene)
    page.session.player.step()
    assert page.session.selected_replay.frames[0].planner_trace is not None


def test_a_name_behind_the_slash_is_enough_for_a_scene() -> None:
    assert scenes["tote-push"].name == scenes.resolve_name("tote-push") == SCENE
    assert scenes.resolve_name("push-fixture@pusht") == "factory/push-fixture@pusht"
    with pytest.raises(UnknownName, match="did you mean 'logistics/tote-push'"):
        scenes.resolve_name("tot-push")


@pytest.mark.parametrize("scene", list(scenes))
def test_a_layout_tells_its_scene(scene: str) -> None:
    for split in scenes[scene].splits:
        layout = scenes[scene].sample_layout(split, 0)
        assert scenes.find_by_layout(layout).name == scene
        assert len(scenes[scene].get_footprints(layout)) == len(layout.dynamic_kinds)


def test_a_method_has_one_colour() -> None:
    names = ["graph+mppi", "scripted", "new", "newer", "oracle"]
    colours = get_method_colours(names)
    assert len(set(colours.values())) == len(names)
    assert get_method_colours(["graph+mppi@2", "demo: graph+mppi", "graph+mppi from step 12", "graph+mppi-10k"]) == dict.fromkeys(
        ["graph+mppi@2", "demo: graph+mppi", "graph+mppi from step 12", "graph+mppi-10k"], colours["graph+mppi"]
    )
    assert get_method_colours(["newer"])["newer"] == colours["newer"]
