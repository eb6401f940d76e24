"""Evaluation protocols: solvable layouts, the published success measure, and no mixing with other protocols."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from experiments.config.experiment import ExperimentConfig
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.specs import make_episode_specs
from experiments.methods.method import Method
from experiments.report.measures.comparability import check_comparable
from sim.env import GroundEnv
from sim.layout import Pose
from sim.scenes.scene import DEFAULT_PROTOCOL, Scene, make_scene_id, scenes, split_scene_id
from sim.utils.errors import GroundError, UnknownName

PROTOCOLS = [(name, protocol) for name in scenes for protocol in scenes[name].protocols]


@pytest.fixture(params=PROTOCOLS, ids=lambda pair: make_scene_id(*pair))
def scene(request: pytest.FixtureRequest) -> Scene:
    return scenes[make_scene_id(*request.param)]


def test_a_protocol_is_a_scene_with_a_separate_name(scene: Scene) -> None:
    base, protocol = split_scene_id(scene.name)
    assert (scenes[base].name, scenes[base].with_protocol(DEFAULT_PROTOCOL)) == (base, scenes[base])
    assert protocol in scenes[base].protocols
    assert scene.name not in list(scenes)
    assert not set(scene.splits) & set(scenes[base].splits)
    with pytest.raises(UnknownName, match=protocol):
        scenes[base + "@" + protocol[:-1]]


def test_layouts_are_reproducible_unsolved_at_the_start_and_solved_at_the_goal(scene: Scene) -> None:
    (split,) = scene.splits
    layouts = [scene.sample_layout(split, index) for index in range(3)]
    assert [scenes[scene.name].sample_layout(split, index).id for index in range(3)] == [layout.id for layout in layouts]
    env = GroundEnv(scene, split)
    for layout in layouts:
        _, info = env.reset(seed=0, options={"layout": layout})
        assert not info["success"]
        poses = np.array([(p.x, p.y, p.yaw) for p in (Pose(layout.hall.x, layout.hall.y), layout.goal)])
        _, info = env.reset(seed=0, options={"layout": layout, "poses": poses})
        assert info["success"]


def test_an_episode_has_the_protocols_steps_and_its_result_names_it(scene: Scene, tmp_path: Path) -> None:
    method = Method("random", scene.behaviours["random"])
    (result,) = evaluate(method, make_episode_specs("x", scene, scene.splits[0], 1), tmp_path, workers=1)
    assert result.steps == scene.episode_steps
    assert (result.scene, result.protocol) == (scene.name, split_scene_id(scene.name)[1])
    check_comparable({"a": [result], "b": [result]})
    with pytest.raises(GroundError, match=r"different protocols .* default, .*; --protocol"):
        check_comparable({"a": [result], "b": [replace(result, protocol=DEFAULT_PROTOCOL)]})


def test_pusht_has_the_published_success_measure() -> None:
    task = scenes["factory/push-fixture@pusht"].task
    env = GroundEnv("factory/push-fixture@pusht", "pusht", layouts=1)
    env.reset(seed=0)
    goal = env.layout.goal
    for offset, turn, solved in ((0.019, 0.0, True), (0.021, 0.0, False), (0.0, 19.0, True), (0.0, 21.0, False)):
        part = (goal.x + offset, goal.y, goal.yaw + np.deg2rad(turn))
        _, info = env.reset(seed=0, options={"index": 0, "poses": np.array([(0.35, -0.3, 0.0), part])})
        assert info["success"] == solved
        env.bodies.twist[1] = 0.2  # moving counts
        assert bool(task.is_success(env.bodies, np.array([goal.x, goal.y, goal.yaw]))) == solved


def test_a_config_names_its_protocol_and_its_layouts() -> None:
    config = ExperimentConfig("x", "factory/push-fixture").with_protocol("pusht")
    assert config.episodes == {"pusht": 50}
    assert config.with_protocol("pusht") is config
    with pytest.raises(UnknownName, match="split"):
        replace(config, episodes={"test": 3})
    with pytest.raises(UnknownName, match="protocol of logistics/tote-push"):
        ExperimentConfig("x", protocol="pusht", episodes={"pusht": 3})
