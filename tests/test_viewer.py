import contextlib
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import trimesh
from conftest import Ground, limit_steps
from helpers import wait_until
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
from experiments.viewer.drawing.server import release_free_memory, run_server
from experiments.viewer.page import serve
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


WHEELS_M = 0.03  # height of the wheels below the chassis of an AMR


@pytest.mark.parametrize("scene", list(scenes))
def test_link_poses_follow_the_physics(scene: str) -> None:
    name = "random" if scenes[scene].is_skill else "smooth-random"
    replay = Replay(name, EpisodeSetup(scene, scenes[scene].sample_layout("test", 0)), scenes[scene].behaviours[name]())
    for _ in range(limit_steps(scene, 15)):
        replay.advance()
    replay.close()
    count = len(replay.frames)
    links, tools = (
        np.stack([frame.link_poses for frame in replay.frames]),
        np.stack([frame.pose[0, :3] for frame in replay.frames]),
    )
    assert links.shape == (count, len(replay.link_visuals), 7)
    np.testing.assert_allclose(np.linalg.norm(links[..., 3:], axis=-1), 1, rtol=1e-6)
    if len(replay.link_visuals):
        assert np.ptp(tools[:, :2], 0).max() > 0.02, "the tool did not move"
        np.testing.assert_allclose(links[:, 0], links[:1, 0].repeat(count, 0))  # the base is fixed
        offset = tools - links[:, -1, :3]  # the last link holds the tool
        np.testing.assert_allclose(offset, offset[:1].repeat(count, 0), atol=0.01)


@pytest.mark.parametrize("scene", list(scenes))
def test_a_link_has_few_faces_and_keeps_its_size(scene: str) -> None:
    for visual in scenes[scene].make_robot(Variation()).visuals:
        full, mesh = trimesh.load_mesh(visual.mesh), load_link_mesh(visual.mesh)
        np.testing.assert_allclose(mesh.bounds, full.bounds, atol=0.005)
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
            "equal bodies have different meshes"
        )
    for number, kind in enumerate(layout.static_bodies.kind):
        assert make_trimesh(visuals.make_static_body(Kind(int(kind)), half, number)).area > 0
    image, (x, y, width, depth) = visuals.draw_floor(layout), get_floor_area(layout)
    rows, columns = np.nonzero((image == GOAL_COLOUR).all(-1))
    goal_x, goal_y = x + (columns + 0.5) / image.shape[1] * width, y + depth - (rows + 0.5) / image.shape[0] * depth
    distance = np.hypot(goal_x - layout.goal.x, goal_y - layout.goal.y)
    boxes = np.zeros((1, 4)) if visuals.get_goal_boxes is None else visuals.get_goal_boxes(layout)
    assert distance.max() < visuals.goal_radius_m + np.abs(boxes).sum(1).max() + 0.01
    assert distance.min() < 0.1
    assert set(visuals.make_legend([layout])) >= {"goal", visuals.get_name(Kind.ROBOT)}


def test_a_replay_reproduces_its_episode_and_can_branch_at_any_step() -> None:
    setup = EpisodeSetup(SCENE, sample_layout("test", 0), seed=3)
    live = Replay("scripted", setup, scenes[SCENE].behaviours["scripted"]())
    for _ in range(12):
        live.advance()
    episode = live.make_episode()
    recorded = Replay.from_episode(SCENE, episode)
    assert (recorded.is_over, len(recorded.frames)) == (True, len(episode))
    assert recorded.deviation_m == 0
    assert recompute_plans(recorded, scenes[SCENE].behaviours["scripted"]()) < 1e-6
    shifted = replace(episode, pose=episode.pose + np.float32(0.01))
    assert Replay.from_episode(SCENE, shifted).deviation_m == pytest.approx(0.01, rel=1e-3)
    branched = live.branch(5, "random", scenes[SCENE].behaviours["random"]())
    assert all((a.pose == b.pose).all() for a, b in zip(live.frames[:6], branched.frames[:6], strict=True))
    for _ in range(7):
        branched.advance()
    assert not np.array_equal(branched.frames[-1].pose, live.frames[12].pose)
    assert len(branched.make_episode()) == len(episode)
    for replay in (live, recorded, branched):
        replay.close()


def test_recomputed_plans_equal_the_plans_of_the_live_planner() -> None:
    spec = PlannerSpec(SCENE, "simulator", config=SearchConfig(samples=4, iterations=1, horizon=3))
    setup = EpisodeSetup(SCENE, sample_layout("test", 1), seed=1)
    live = Replay("oracle", setup, spec())
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
    assert np.nanmax([frame.prediction_error_m for frame in live.frames]) < 0.01, "the simulator must predict the next state"
    assert np.isnan(recorded.frames[0].prediction_error_m)
    assert [frame.prediction_error_m for frame in recorded.frames[1:]] == [frame.prediction_error_m for frame in live.frames[1:]]
    episode = replace(live.make_episode(), action=-live.make_episode().action)
    changed = Replay.from_episode(SCENE, episode)
    assert recompute_plans(changed, spec()) > 1e-3
    assert np.isnan([frame.prediction_error_m for frame in changed.frames]).all(), (
        "actions of another policy are not an error of the plan"
    )
    live.close()
    recorded.close()


def find_solved_layout() -> Layout:
    """Find the first test layout that the expert solves on this machine: rounding decides with many contacts."""
    for index in range(10):
        replay = Replay("scripted", EpisodeSetup(SCENE, sample_layout("test", index)), scenes[SCENE].behaviours["scripted"]())
        while not replay.is_over:
            replay.advance()
        if replay.frames[-1].success:
            return replay.setup.layout
    raise AssertionError("the expert solves none of ten layouts")


def test_a_player_computes_only_missing_frames() -> None:
    changes: list[int] = []
    player = Player(lambda: changes.append(1))
    replay = Replay("scripted", EpisodeSetup(SCENE, find_solved_layout()), scenes[SCENE].behaviours["scripted"]())
    player.show([replay])
    assert [player.step() for _ in range(3)] == [True] * 3
    player.seek(1)
    assert player.step()
    assert (player.frame_index, len(replay.frames)) == (2, 4)
    player.seek(99)
    assert player.frame_index == 3
    player.speed, player.is_playing = 8.0, True
    deadline = time.monotonic() + 60
    while player.is_playing and time.monotonic() < deadline:
        time.sleep(0.05)
    assert replay.frames[-1].success
    assert player.frame_index == len(replay.frames) - 1
    names = [name for _, name in find_marks(replay)]
    assert (names[0], names[-1]) == ("contact", "solved")
    assert len(changes) > 10
    player.close()
    assert not player._thread.is_alive()


def test_a_second_viewer_takes_another_port() -> None:
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        used_port = first.getsockname()[1]
        assert find_free_port("127.0.0.1", used_port) > used_port
    invalid = (("127.0.0.1", 99999, "1 to 65535"), ("300.1.1.1", 8080, "no address"), ("192.0.2.1", 8080, "no address"),
               ("\udcff", 8080, "no address"))  # fmt: skip
    for host, port, message in invalid:
        with pytest.raises(GroundError, match=message):
            find_free_port(host, port)


def start_live(
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


def test_a_branch_runs_beside_its_replay_and_both_can_be_saved(page: Page, tmp_path: Path) -> None:
    start_live(page, "scripted", seed=3)
    for _ in range(6):
        page.session.player.step()
    page.session.player.seek(4)
    page.session.branch("random")
    page.session.player.is_playing = False
    live, branched = page.session.player.replays
    assert page.session.player.frame_index >= 4
    assert "rebuilt to within 0 mm" in page.session.message
    assert len(live.frames) >= 7
    while page.session.player.step() and len(branched.frames) < 12:
        pass
    np.testing.assert_array_equal(live.frames[4].pose, branched.frames[4].pose)
    assert not np.array_equal(live.frames[8].pose, branched.frames[8].pose)
    assert len(live.frames) == len(branched.frames), "the unfinished replay must continue with the branch"
    assert np.abs(live.frames[-1].pose[0, :2] - live.frames[-2].pose[0, :2]).max() < 0.2, "the continued replay must not jump"
    assert all(frame.planner_trace is None for frame in branched.frames[:4])
    for number in (0, 1):
        page.session.selected_index = number
        path = page.session.save_episode(tmp_path)
        dataset = Dataset.open(path)
        saved = list(dataset.episodes())
        assert (len(saved), dataset.find_faults()) == (number + 1, [])
    assert [episode.behaviour for episode in saved] == ["scripted", "random from step 4"]
    np.testing.assert_array_equal(saved[1].pose, np.stack([frame.pose for frame in branched.frames]).astype(np.float32))
    assert path == tmp_path / "test"
    with pytest.raises(GroundError, match="saved already"):
        page.session.save_episode(tmp_path)
    assert len(list(Dataset.open(page.session.save_episode(tmp_path / "elsewhere")).episodes())) == 1
    start_live(page, "random", split="train")
    page.session.player.step()
    with pytest.raises(GroundError, match="choose another directory"):
        append_episode(path, SCENE, "train", page.session.selected_replay.make_episode())


def test_a_replay_is_saved_under_the_split_of_its_layout(page: Page, tmp_path: Path) -> None:
    start_live(page, "random")
    start_live(page, "random", split="train", keep_shown=True)
    for _ in range(2):
        page.session.player.step()
    saved = []
    for number in (0, 1):
        page.session.selected_index = number
        saved.append(page.session.save_episode(tmp_path))
    assert saved == [tmp_path / "test", tmp_path / "train"]


def test_planners_use_the_protocol_of_the_scene(page: Page) -> None:
    name = "factory/push-fixture"
    page.session.methods |= {scene: dict(scenes[scene].behaviours) for scene in scenes.list_with_protocols()}
    page.session.add_methods(name, {"graph+mppi": PlannerSpec(name, "somewhere")})
    planner = page.session.methods[f"{name}@pusht"]["graph+mppi"]
    assert isinstance(planner, PlannerSpec)
    assert planner.scene == f"{name}@pusht"


def test_a_branch_does_not_wait_for_recomputed_plans(page: Page) -> None:
    start_live(page, "random")
    for _ in range(20):
        page.session.player.step()
    page.session.add_methods(SCENE, {"slow": SlowPolicy})
    page.session.show([Replay.from_episode(SCENE, replace(page.session.selected_replay.make_episode(), behaviour="slow"))])
    page.session.plan_recomputer.start(page.session.player.replays)
    assert page.session.player.num_ready_frames == 0
    page.session.player.seek(3)
    page.session.branch(HUMAN_METHOD)
    time.sleep(0.3)
    assert page.session.player.num_ready_frames is None


def test_keys_drive_the_robot(page: Page) -> None:
    start_live(page, HUMAN_METHOD)
    page.session.command.apply_key("forward")
    for _ in range(8):
        page.session.player.step()
    page.session.command.apply_key("forward")
    page.session.command.apply_key("left")
    for _ in range(8):
        page.session.player.step()
    displacement = np.linalg.norm(np.diff([frame.pose[0, :2] for frame in page.session.selected_replay.frames], axis=0), axis=-1)
    assert displacement[7] == pytest.approx(0.04, abs=0.01)
    assert displacement[-1] == pytest.approx(0.08, abs=0.01)
    assert page.session.selected_replay.make_episode().twist[-1, 0, 5] == pytest.approx(0.75, abs=0.1)
    assert "you drive: 100% forward, 50% left" in page.session.format_status()
    page.session.command.apply_key("stop")
    assert not any(page.session.command.speeds.values())
    for key in ("forward", "forward", "forward"):
        page.session.command.apply_key(key)
    assert page.session.command.speeds["forward"] == 1


def test_a_custom_layout_has_the_physics_of_a_split_and_a_separate_directory(page: Page, tmp_path: Path) -> None:
    layout = sample_layout("test", 0)
    start_live(page, "random", layout=layout, split="shift-physics", seed=3)
    assert page.session.selected_replay.setup.variation == scenes[SCENE].make_variations("shift-physics", ()).sample(
        np.random.default_rng(3)
    )
    assert page.session.selected_replay.setup.variation != scenes[SCENE].make_variations("test", ()).sample(
        np.random.default_rng(3)
    )
    page.session.player.step()
    assert page.session.save_episode(tmp_path) == tmp_path / f"own-{layout.id}"


def test_time_stops_until_a_key_is_pressed(page: Page) -> None:
    start_live(page, "scripted")
    for _ in range(3):
        page.session.player.step()
    page.session.player.seek(2)
    page.session.branch(HUMAN_METHOD)
    time.sleep(0.3)
    assert (page.session.player.frame_index, page.session.player.is_playing) == (2, False)
    page.session.drive("forward")
    wait_until(lambda: page.session.player.frame_index > 4)
    page.session.player.toggle_playing()
    page.session.player.seek(3)
    page.session.drive("forward")
    assert not page.session.player.is_playing, "a key at an earlier frame must not start the replay"


@pytest.mark.parametrize(("scene", "forward"), [("factory/push-fixture", (0, 1)), ("logistics/aisle-traffic", None)])
def test_forward_is_the_heading_of_an_amr_and_away_from_the_user_at_a_table(
    page: Page, scene: str, forward: tuple[float, float] | None
) -> None:
    layout = scenes[scene].sample_layout("test", 0)
    start_live(page, HUMAN_METHOD, scene)
    page.session.command.apply_key("forward")
    for _ in range(6):
        page.session.player.step()
    displacement = page.session.selected_replay.frames[-1].pose[0, :2] - page.session.selected_replay.frames[0].pose[0, :2]
    yaw = layout.robot.yaw
    np.testing.assert_allclose(displacement / np.linalg.norm(displacement), forward or (np.cos(yaw), np.sin(yaw)), atol=0.15)


def test_custom_physics_apply_and_mistakes_are_reported(page: Page) -> None:
    start_live(page, "random", physics="load_mass_kg=9 load_friction=0.3:0.4")
    assert page.session.selected_replay.setup.variation.load_mass_kg == 9
    assert 0.3 <= page.session.selected_replay.setup.variation.load_friction <= 0.4
    assert "(load_mass_kg=9, load_friction=0.3" in page.session.format_status()
    with pytest.raises(GroundError, match="only one scene"):
        start_live(page, "random", "factory/push-fixture", keep_shown=True)
    page.session.run_action(lambda: start_live(page, "random", physics="mass=9"))
    assert "mass" in page.session.message
    with pytest.raises(GroundError, match="graph"):
        start_live(page, "graph+mppi")


def test_forces_are_drawn_above_the_bodies_that_would_hide_them() -> None:
    replay = Replay("scripted", EpisodeSetup(SCENE, find_solved_layout()), scenes[SCENE].behaviours["scripted"]())
    while not replay.frames[-1].contacts:
        replay.advance()
    with run_server() as server:
        view = ReplayView(server, [replay], {"contact forces"})
        view.draw_frame(len(replay.frames) - 1)
        arrows = view._views[0][1]._handles["contact forces"].points  # type: ignore[attr-defined]
    assert (arrows[..., 2] >= 2 * replay.half_extents[LOAD, 2] - 0.01).all()
    lengths = np.linalg.norm(np.diff(arrows, axis=1)[:, 0], axis=-1)
    assert (lengths > ARROW_SIZES_M[-1] - 1e-6).all(), "an arrow is shorter than its head"
    replay.close()


@lru_cache
def run_oracle(scene: str) -> Replay:
    """Run a small oracle for a few steps."""
    is_skill = scenes[scene].is_skill
    config = SearchConfig(samples=2, iterations=1, horizon=1) if is_skill else SearchConfig(samples=4, iterations=1, horizon=3)
    spec = PlannerSpec(scene, "simulator", config=config)
    replay = Replay("oracle", EpisodeSetup(scene, scenes[scene].sample_layout("test", 1), seed=1), spec())
    while not replay.frames[-1].contacts and replay.num_steps < limit_steps(scene, 3):
        replay.advance()
    traces = [(index, frame, frame.planner_trace) for index, frame in enumerate(replay.frames)]
    for index, frame, trace in traces:  # a single simulator has no disagreement
        if trace is not None:
            replay.frames[index] = replace(frame, planner_trace=replace(trace, disagreement_m=0.1))
    return replay


@pytest.mark.parametrize("scene", list(scenes))
@pytest.mark.parametrize("name", list(OVERLAY_DESCRIPTIONS))
def test_every_overlay_draws_available_data_and_can_be_hidden(scene: str, name: str) -> None:
    replay = run_oracle(scene)
    has_data = {
        "contact forces": any(frame.contacts for frame in replay.frames),
        "cost-to-go field": hasattr(replay.cost_field, "min_cost"),
    }
    with run_server() as server:
        overlay_names = {name}
        view = ReplayView(server, [replay], overlay_names)
        overlays = view._views[0][1]
        for index in range(len(replay.frames)):
            view.draw_frame(index)
        drawn_names = {key.partition("/")[0] for key in overlays._handles}
        assert drawn_names <= {name}
        assert drawn_names == ({name} if has_data.get(name, True) else set())
        overlay_names.clear()
        view.draw_frame(0)
        assert not any(handle.visible for handle in overlays._handles.values())


def test_rays_end_at_the_edge_of_a_table() -> None:
    x, y, width, depth = table = (-0.4, 0.2, 1.0, 0.6)
    origins = np.random.default_rng(0).uniform((x, y), (x + width, y + depth), (64, 2))
    angles = np.linspace(0, 2 * np.pi, 64)  # includes the axes
    directions = np.round(np.stack([np.cos(angles), np.sin(angles)], -1), 12)
    ends = origins + compute_edge_distances(origins, directions, table)[:, None] * directions
    share = (ends - (x, y)) / (width, depth)
    assert (share > -1e-9).all()
    assert (share < 1 + 1e-9).all()
    np.testing.assert_allclose(np.minimum(share, 1 - share).min(-1), 0, atol=1e-9)


def test_the_camera_is_nearer_to_a_row_of_halls_in_a_wider_window() -> None:
    layout = sample_layout("test", 0)
    distances = []
    with run_server() as server:
        for window in ((1000, 1000), (2000, 1000)):
            configure_lights_and_camera(server, scenes[SCENE].visuals.view, layout, 4 * layout.hall.width, window)
            distances.append(np.linalg.norm(server.initial_camera.position - server.initial_camera.look_at))
    assert distances[1] == pytest.approx(distances[0] / 2)


def test_plots_contain_recorded_and_predicted_data(page: Page) -> None:
    start_live(page, "scripted")
    page.session.player.step()
    for name, names in list_series(scenes[SCENE]).items():
        data = compute_series(name, page.session.selected_replay, 1)
        assert [len(column) for column in data] == [{"cost": 2, "action": 1}.get(name, 0)] * (1 + len(names))
    plan, sizes, paths = np.zeros((12, 2, 7)), np.zeros((2, 3)), np.zeros((1, 12, 2, 2))
    trace = PlannerTrace(plan, np.array([0, 1]), sizes, paths, np.zeros(1), np.arange(12.0), 0.05, 0.08, None)
    for _ in range(20):
        page.session.player.step()
    page.session.selected_replay.frames[5] = replace(page.session.selected_replay.frames[5], planner_trace=trace)
    steps, realised, predicted = compute_series("prediction", page.session.selected_replay, 20)
    assert (steps.tolist(), predicted.tolist()) == ([15.0], [9.0]), "a value is shown without a prediction"
    assert realised[0] == page.session.selected_replay.frames[15].cost
    assert [column.tolist() for column in compute_series("decision", page.session.selected_replay, 20)] == [[5.0], [50.0], [80.0]]


@pytest.mark.parametrize("scene", list(scenes))
def test_plots_use_the_names_and_units_of_the_scene(page: Page, scene: str) -> None:
    start_live(page, "scripted", scene)
    assert f"of the {scenes[scene].dynamic_noun} [" in str(page.panels._plots["error"].title)
    cost_m = page.session.selected_replay.frames[0].cost * scenes[scene].task.cost_unit_m
    assert f"cost {cost_m:.2f} m" in page.session.format_status()
    assert compute_series("cost", page.session.selected_replay, 0)[1].tolist() == [pytest.approx(cost_m)]


def test_a_bug_in_playback_is_reported_and_the_next_episode_plays(page: Page) -> None:
    start_live(page, "scripted")
    page.session.selected_replay.policy.predict = None  # type: ignore[union-attr, method-assign, assignment]
    page.session.player.toggle_playing()
    wait_until(lambda: "a bug" in page.session.message)
    assert not page.session.player.is_playing
    start_live(page, "scripted", play=True)
    wait_until(lambda: len(page.session.selected_replay.frames) > 3)


def test_the_timeline_has_a_tick_at_each_mark(page: Page) -> None:
    start_live(page, "scripted")
    while not page.session.selected_replay.is_over:
        page.session.player.step()
    ticks = [tick.value for tick in page.panels._timeline._marks or ()]
    assert ticks == [index for index, _ in find_marks(page.session.selected_replay)]
    assert ticks[-1] == len(page.session.selected_replay.frames) - 1


def test_a_second_action_is_refused_during_a_long_action(page: Page) -> None:
    with page.session.acquire_action_lock():
        page.session.run_action(lambda: start_live(page, "scripted"))
    assert "busy" in page.session.message
    assert not page.session.player.replays


def test_reset_restarts_an_episode_and_play_at_the_end_repeats_it(page: Page) -> None:
    start_live(page, HUMAN_METHOD)
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
    frames, on_change = list[int](), page.session.player.on_change
    page.session.player.on_change = lambda: (frames.append(page.session.player.frame_index), on_change())[1]
    page.session.player.toggle_playing()
    wait_until(lambda: page.session.player.frame_index == 1 and not page.session.player.is_playing)
    assert frames[0] == 0


def test_live_methods_run_side_by_side(page: Page) -> None:
    start_live(page, "scripted")
    start_live(page, "random", keep_shown=True)
    for _ in range(5):
        page.session.player.step()
    assert [(replay.name, len(replay.frames)) for replay in page.session.player.replays] == [("scripted", 6), ("random", 6)]
    text = render_html(page.session.player.replays, "scripted, random")
    assert "__VISER_EMBED_DATA__=" in text
    assert "scripted, random" in text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evaluate three methods in two layouts; one result is damaged, and there are no models."""
    path = tmp_path_factory.mktemp("runs") / "unfinished"
    specs = make_episode_specs("unfinished", scenes[SCENE], "test", 2)
    for name in ("scripted", "random", "smooth-random"):
        evaluate(Method(name, scenes[SCENE].behaviours[name]), specs, path / "results" / name, workers=1)
    (path / "results" / "random" / "test-00001.result").write_bytes(b"PAR1 half of a file")
    (path / "config.json").write_text(json.dumps(asdict(ExperimentConfig("unfinished"))))
    return path


def test_an_episode_index_filters_sorts_and_makes_replays_in_the_given_order(run: Path) -> None:
    index = EpisodeIndex(run)
    assert (len(index.results), index.num_unreadable) == (5, 1)
    assert {result.method for result in index.select(method="scripted")} == {"scripted"}
    assert all(result.success for result in index.select(outcome="solved"))
    assert not any(result.success for result in index.select(outcome="failed"))
    costs = [result.total_cost for result in index.select(order="highest cost first")]
    assert costs == sorted(costs, reverse=True)
    for order in SORT_KEYS:
        assert len(index.select(order=order)) == 5
    result = index.find("test", 0, "scripted")
    replays = index.make_replays(result, ["smooth-random", "random"])
    assert [replay.name for replay in replays] == ["scripted", "smooth-random", "random"]
    assert max(replay.deviation_m or 0 for replay in replays) < 1e-6
    assert len(replays[0].frames) - 1 == result.steps
    with pytest.raises(GroundError, match="there are scripted, smooth-random"):
        index.find("test", 1, "random")
    html = format_table(index.results, 5, 1)
    assert html.count("<tr>") == 5
    assert "1 damaged" in html


def test_trainings_of_one_agent_have_different_labels(tmp_path: Path, page: Page) -> None:
    policies = {"agent": "scripted", "agent@1": "random", "agent@10": "smooth-random"}
    factories = {method: scenes[SCENE].behaviours[name] for method, name in policies.items()}
    specs = make_episode_specs("seeds", scenes[SCENE], "test", 1)
    for seed, factory in zip((0, 1, 10), factories.values(), strict=True):
        evaluate(Method("agent", factory, train_seed=seed), specs, tmp_path / "results" / "agent", workers=1)
    index = EpisodeIndex(tmp_path)
    assert len({format_title(result) for result in index.results}) == 3
    for method in policies:
        assert f"<td>{method}</td>" in format_table(index.select(method=method), 3, 0)
        assert index.find("test", 0, method) == index.select(method=method)[0]
    replays = index.make_replays(index.find("test", 0, "agent@1"), ["agent@10", "agent"])
    assert [replay.name for replay in replays] == ["agent@1", "agent@10", "agent"]
    for replay in replays:
        assert recompute_plans(replay, factories[replay.name]()) < 1e-6, "the actions are not those of this training"
        replay.close()
    page.session.add_methods(SCENE, factories)
    tab = page.add_episode_tab(index)
    assert tab._method_dropdown.options == (ANY, *policies)
    tab._method_dropdown.value = "agent@10"
    tab.update_list()
    tab._method_checkboxes["agent@1"].value = True
    tab.show_selected()
    assert [replay.name for replay in page.session.player.replays] == ["agent@10", "agent@1"]


def test_an_agent_without_a_seed_is_its_first_training(run: Path) -> None:
    index = EpisodeIndex(run)
    result = index.find("test", 0, "scripted")
    index.results = [replace(result, train_seed=seed) for seed in (10, 3)]
    assert index.find("test", 0, "scripted").train_seed == 3
    assert index.find("test", 0, "scripted@10").train_seed == 10
    with pytest.raises(GroundError, match="there are scripted@10, scripted@3"):
        index.find("test", 0, "scripted@4")


def test_the_page_of_an_unfinished_run_shows_available_methods_and_episodes(run: Path, page: Page) -> None:
    methods, missing = load_run_methods(run)
    assert "oracle" in methods
    assert "graph+mppi" not in methods
    assert "holds no trained model yet" in missing["graph+mppi"]
    page.session.add_methods(SCENE, methods)
    tab = page.add_episode_tab(EpisodeIndex(run))
    tab.show_selected()
    assert page.session.selected_replay.name == "random"
    wait_until(lambda: page.session.player.frame_index > 2)
    tab.show_best_planner("test", 1)
    assert page.session.selected_replay.name == "scripted"
    assert page.session.selected_replay.setup.layout.id == sample_layout("test", 1).id
    assert "there is no episode" not in page.session.message
    tab.show_best_planner("test", 99)
    assert page.session.selected_replay.setup.layout.id == sample_layout("test", 0).id, (
        "the first episode is shown where that layout was not evaluated"
    )
    assert "no episode of scripted in test 99" in page.session.message
    tab._episode_dropdown.value = tab._episode_dropdown.options[-1]
    tab._order_dropdown.value = "longest first"
    tab.update_list()
    assert tab._episode_dropdown.value == tab._episode_dropdown.options[0]
    positions = []
    for steps in (1, -1, -1, 1):
        tab.move_selection(steps)
        positions.append(tab._episode_dropdown.options.index(tab._episode_dropdown.value))
        result = tab._listed_results[tab._episode_dropdown.value]
        assert (page.session.selected_replay.name, page.session.selected_replay.setup.layout.id) == (
            result.method,
            result.layout_id,
        )
    assert positions == [1, 0, len(tab._episode_dropdown.options) - 1, 0]
    tab._episode_index.results = []
    with pytest.raises(GroundError, match="no episode to show yet"):
        tab.show_best_planner("test", 0)


def test_methods_of_any_run_can_be_added(run: Path, page: Page, tmp_path: Path) -> None:
    with pytest.raises(GroundError, match="is no run directory"):
        page.session.add_run_methods(tmp_path)
    page.session.add_run_methods(run)
    name = f"{run.name}: oracle"
    assert name in page.session.methods[SCENE]
    assert name not in page.session.methods["factory/push-fixture"]
    assert name in page.session.message
    assert "graph+mppi is missing: " in page.session.message
    start_live(page, name)
    page.session.player.step()
    assert len(page.session.selected_replay.frames) == 2
    copy = tmp_path / run.name
    shutil.copytree(run, copy)
    page.session.add_run_methods(copy)
    page.session.add_run_methods(copy)
    assert {name, f"{copy}: oracle"} == {method for method in page.session.methods[SCENE] if method.endswith("oracle")}


def test_playback_waits_for_recomputed_plans() -> None:
    player = Player()
    replay = Replay("scripted", EpisodeSetup(SCENE, find_solved_layout()), scenes[SCENE].behaviours["scripted"]())
    player.show([replay], play=True)
    player.num_ready_frames = 3
    wait_until(lambda: player.frame_index == 2)
    time.sleep(0.3)
    assert (player.frame_index, player.is_playing) == (2, True), "the plan of the fourth frame is not computed yet"
    player.seek(0)
    wait_until(lambda: player.frame_index == 2)
    player.num_ready_frames = None
    wait_until(lambda: player.frame_index > 4)
    player.close()


def test_a_shorter_replay_catches_up_before_the_next_frame() -> None:
    player = Player()
    ahead, behind = (
        Replay(name, EpisodeSetup(SCENE, sample_layout("test", 0)), scenes[SCENE].behaviours["random"]())
        for name in ("ahead", "behind")
    )
    for _ in range(6):
        ahead.advance()
    player.show([ahead, behind])
    player.seek(4)
    for frames in (2, 3, 4, 5):
        assert player.step()
        assert (player.frame_index, len(ahead.frames), len(behind.frames)) == (4, 7, frames)
    assert player.step()
    assert (player.frame_index, len(ahead.frames), len(behind.frames)) == (5, 7, 6)
    player.close()


class SlowPolicy:
    """A random policy with a delay."""

    def __init__(self) -> None:
        self._policy = scenes[SCENE].behaviours["random"]()

    def start_episode(self, start: EpisodeStart) -> None:
        self._policy.start_episode(start)

    def predict(self, *args: object, **options: object) -> tuple[np.ndarray, object]:
        time.sleep(0.05)
        return self._policy.predict(*args, **options)  # type: ignore[arg-type]


def test_saving_waits_for_recomputed_plans_and_closing_does_not(page: Page) -> None:
    start_live(page, "random")
    for _ in range(20):
        page.session.player.step()
    page.session.add_methods(SCENE, {"slow": SlowPolicy})
    messages, on_status = list[str](), page.session.plan_recomputer._on_status
    page.session.plan_recomputer._on_status = lambda note: (messages.append(note), on_status(note))[1]
    for _ in range(2):
        page.session.show([Replay.from_episode(SCENE, replace(page.session.selected_replay.make_episode(), behaviour="slow"))])
        page.session.plan_recomputer.start(page.session.player.replays)
    page.session.show_message("a message of an action")
    page.session.plan_recomputer.wait()
    assert messages[-1] == "plans of slow recomputed: same actions"
    for line in (messages[-1], "a message of an action"):
        assert line in page.session.format_status(), "a message overwrote another"
    assert page.session.player.num_ready_frames is None
    page.session.plan_recomputer.start(page.session.player.replays)
    wait_until(lambda: "recomputing" in messages[-1])
    page.session.plan_recomputer.close()
    assert "recomputing the plans of slow: " in messages[-1], "the recomputation must stop"
    assert not any(thread.is_alive() for thread in page.session.plan_recomputer._threads)


@given(marks=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["contact", "solved"])), max_size=6))
def test_names_of_marks_do_not_overlap(marks: list[tuple[int, str]]) -> None:
    labels = select_mark_labels(marks, 100)
    assert [frame for frame, _ in labels] == sorted(frame for frame, _ in marks)
    assert (np.diff([frame for frame, name in labels if name]) >= 20).all()
    assert not marks or labels[0][1]


def test_playback_waits_for_a_client() -> None:
    player = Player()
    player.is_waiting_for_client = True
    replay = Replay("scripted", EpisodeSetup(SCENE, find_solved_layout()), scenes[SCENE].behaviours["scripted"]())
    player.show([replay], play=True)
    time.sleep(0.3)
    assert (player.frame_index, player.is_playing) == (0, True)
    player.is_waiting_for_client = False
    wait_until(lambda: player.frame_index > 1)
    player.close()


def test_an_episode_that_is_over_has_no_branches(page: Page) -> None:
    replay = Replay("scripted", EpisodeSetup(SCENE, find_solved_layout()), scenes[SCENE].behaviours["scripted"]())
    while not replay.is_over:
        replay.advance()
    page.session.show([replay])
    page.session.player.seek(len(replay.frames) - 1)
    with pytest.raises(GroundError, match="over at this frame"):
        page.session.branch("random")


def test_a_recording_path_is_checked_before_rendering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GroundError, match=r"an \.html or an \.mp4 file"):
        check_recording_path(tmp_path / "a.gif")
    monkeypatch.setattr(browser, "find_chromium", lambda: None)
    with pytest.raises(GroundError, match="a video needs Chromium"):
        check_recording_path(tmp_path / "a.mp4")


def find_two_free_ports() -> int:
    """Find a port that is free, as is the next one; below the ports that the system gives to others."""
    for port in range(20_000 + os.getpid() % 5_000, 32_000, 2):
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
    raise AssertionError("no free ports")


def test_two_viewers_use_different_ports_and_end_with_their_terminal() -> None:
    port = find_two_free_ports()
    viewers = [Ground("view", "--port", port, group=True)]
    first = viewers[0].process.stdout.readline()
    viewers.append(Ground("view", "--port", port, group=True))
    second = viewers[1].process.stdout.readline()
    assert f"http://127.0.0.1:{port}" in first
    assert f"http://127.0.0.1:{port + 1} (port {port} is taken)" in second
    for viewer in viewers:
        os.killpg(viewer.process.pid, signal.SIGHUP)
        assert viewer.process.wait(timeout=30) == -signal.SIGHUP


class LiftScene:
    """An action spec and controls with a third component."""

    action_spec = ActionSpec(("forward", "left", "up"), (0.5, 0.5, 0.2))
    visuals = replace(scenes["push-fixture"].visuals)


def test_keys_drive_every_action_component_of_a_robot() -> None:
    command = DriveCommand()
    policy = HumanPolicy(LiftScene, command)  # type: ignore[arg-type]
    for key in ("forward", "right", "up", "up", "down", "down", "down"):
        command.apply_key(key)
    np.testing.assert_array_equal(policy.predict({})[0], (0.5, 0.5, -0.5))  # at a table, right is along x
    assert str(command) == "50% forward, 50% right, 50% down"
    assert list_drive_keys(LiftScene) == ["forward", "back", "left", "right", "up", "down", "stop"]  # type: ignore[arg-type]
    assert list_drive_keys(scenes[SCENE]) == ["forward", "back", "left", "right", "stop"]


def test_keys_without_an_action_component_are_ignored(page: Page) -> None:
    start_live(page, HUMAN_METHOD)
    page.session.drive("up")
    assert "no speed" in page.session.format_status()
    assert not page.session.player.is_playing


@pytest.mark.parametrize("scene", list(scenes))
def test_actions_are_plotted_by_the_names_of_their_components(page: Page, scene: str) -> None:
    start_live(page, "random", scene)
    for _ in range(3):
        page.session.player.step()
    components = scenes[scene].action_spec.components
    labels = [series["label"] for series in page.panels._plots["action"].series]
    assert labels == ["step", *components]
    data = np.array(compute_series("action", page.session.selected_replay, 3))
    np.testing.assert_allclose(data[1:].T, page.session.selected_replay.actions, atol=1e-6)


def test_a_custom_layout_is_labelled_by_its_name(page: Page) -> None:
    layout = replace(sample_layout("test", 0), name="hall")
    start_live(page, "random", layout=layout)
    assert f"**random** in hall ({layout.id[:8]})" in page.session.format_status()
    start_live(page, "random")
    assert "**random** in test/0" in page.session.format_status()


def test_a_label_contains_method_time_outcome_and_violations() -> None:
    replay = Replay("random", EpisodeSetup(SCENE, sample_layout("test", 0)), scenes[SCENE].behaviours["random"]())
    for _ in range(4):
        replay.advance()
    replay.frames[2] = replace(replay.frames[2], violations=("robot_collision",))
    replay.frames[4] = replace(replay.frames[4], success=True)
    assert describe_state(replay, 1)[0].startswith("step 1, 0.1 s · cost ")
    assert describe_state(replay, 4) == ["step 4, 0.4 s · solved", "robot collision"]
    with run_server() as server:
        view = ReplayView(server, [replay], set())
        view.draw_frame(99)
        assert view._views[0][2].text == "random\nstep 4, 0.4 s · solved\nrobot collision"
    replay.close()


@pytest.mark.parametrize("scene", [name for name in scenes if not scenes[name].make_world])
def test_the_exported_joint_model_runs_live_in_every_scene(page: Page, scene: str) -> None:
    methods = load_model_methods([JOINT_MODEL], scene)
    assert list(methods) == ["joint+mppi"]
    page.session.add_methods(scene, methods)
    start_live(page, "joint+mppi", scene)
    page.session.player.step()
    assert page.session.selected_replay.frames[0].planner_trace is not None


def test_scene_names_without_their_group_are_resolved() -> None:
    assert scenes["tote-push"].name == scenes.resolve_name("tote-push") == SCENE
    assert scenes.resolve_name("push-fixture@pusht") == "factory/push-fixture@pusht"
    with pytest.raises(UnknownName, match="did you mean 'logistics/tote-push'"):
        scenes.resolve_name("tot-push")


@pytest.mark.parametrize("scene", list(scenes))
def test_the_scene_of_a_layout_is_found(scene: str) -> None:
    for split in scenes[scene].splits:
        layout = scenes[scene].sample_layout(split, 0)
        assert scenes.find_by_layout(layout).name == scene
        assert len(scenes[scene].get_footprints(layout)) == len(layout.dynamic_kinds)


def test_memory_is_returned_when_a_page_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([0, 1, 2, 1, 1, 0, 0])  # of open pages
    calls = []

    class Server:
        def get_clients(self) -> dict[int, str]:
            return dict.fromkeys(range(next(numbers)), "")

    def release() -> None:
        release_free_memory()
        calls.append(1)

    monkeypatch.setattr(serve.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(serve, "release_free_memory", release)
    with pytest.raises(StopIteration):
        serve._wait_until_closed(Server(), keep_serving=True)  # type: ignore[arg-type]
    assert len(calls) == 2


def test_a_method_has_one_colour() -> None:
    names = ["graph+mppi", "scripted", "new", "newer", "oracle"]
    colours = get_method_colours(names)
    assert len(set(colours.values())) == len(names)
    assert get_method_colours(["graph+mppi@2", "demo: graph+mppi", "graph+mppi from step 12", "graph+mppi-10k"]) == dict.fromkeys(
        ["graph+mppi@2", "demo: graph+mppi", "graph+mppi from step 12", "graph+mppi-10k"], colours["graph+mppi"]
    )
    assert get_method_colours(["newer"])["newer"] == colours["newer"]
