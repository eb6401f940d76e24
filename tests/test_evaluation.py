import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from agents.planning.objective import Objective
from agents.planning.search import SearchConfig
from agents.planning.spec import PlannerSpec
from experiments.evaluation import evaluate as evaluate_module
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.plan_audit import compute_violation_shares, sample_random_plans
from experiments.evaluation.replay import verify_results
from experiments.evaluation.results import EpisodeResult, read_episode, read_episode_results
from experiments.evaluation.specs import EpisodeSpec, make_custom_specs, make_episode_specs
from experiments.methods.method import Method
from experiments.report.measures.comparability import describe_unreadable_results
from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.utils.errors import BadLayout, GroundError, UnknownName
from sim.variation import Variation
from worldmodels.model import models
from worldmodels.simulator import SimulatorModel
from worldmodels.training.checkpoint import save_checkpoint

SCENE = scenes["logistics/tote-push"]
TIMING = ("decision_ms_p50", "decision_ms_p95", "decision_time_s")
SCRIPTED = Method("scripted", SCENE.behaviours["scripted"])


@pytest.fixture(scope="module")
def specs() -> list[EpisodeSpec]:
    return make_episode_specs("a run", SCENE, "test", 3, seed=10)


@pytest.fixture(scope="module")
def evaluated(specs: list[EpisodeSpec], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[EpisodeResult]]:
    """Evaluate the scripted expert. Copy the directory before changes."""
    path = tmp_path_factory.mktemp("results")
    return path, evaluate(SCRIPTED, specs, path, workers=1)


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Method:
    """Make a small search on an untrained graph model."""
    path = tmp_path_factory.mktemp("model")
    save_checkpoint(models["graph"](), path, "best", {"scene": SCENE.name})
    spec = PlannerSpec(SCENE.name, str(path), "mppi", SearchConfig(samples=8, iterations=1, horizon=4))
    return Method("graph+mppi", spec, "graph", "mppi", env_steps=1000, train_cpu_s=12.5)


@pytest.fixture
def short_episodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Limit episodes to 30 steps, because the planner is untrained (only in this process)."""
    make = partial(GroundEnv, replace(SCENE, episode_steps=30))
    evaluate_module._get_env.cache_clear()
    monkeypatch.setattr(evaluate_module, "GroundEnv", lambda scene, *args, **options: make(*args, **options))
    yield
    evaluate_module._get_env.cache_clear()


def remove_timing(results: list[EpisodeResult]) -> list[EpisodeResult]:
    return [replace(result, **dict.fromkeys(TIMING, 0.0)) for result in results]


def test_results_agree_with_their_episodes(evaluated: tuple[Path, list[EpisodeResult]], specs: list[EpisodeSpec]) -> None:
    path, results = evaluated
    assert [(result.index, result.seed, result.layout_id) for result in results] == [
        (spec.index, spec.seed, spec.layout.id) for spec in specs
    ]
    for result in results:
        episode = read_episode(path, result)
        assert result.method == episode.behaviour == "scripted"
        assert result.steps == len(episode) - 1
        assert result.total_cost == pytest.approx(float(episode.cost[1:].sum()), rel=1e-4)
        assert result.success is episode.success
        assert result.safe_success == (
            result.success
            and not any(
                result.violations[kind] for kind in ("robot_collision", "load_collision", "load_tipped", "robot_outside_hall")
            )
        )
        assert result.peak_force_n == pytest.approx(float(episode.static_force_n.max()))
        assert 0 < result.decision_ms_p50 <= result.decision_ms_p95
        assert result.predicted_cost is result.realised_cost is result.disagreement is None
        assert episode.layout.id == result.layout_id
    assert any(result.success for result in results)
    assert sorted(map(str, results)) == sorted(map(str, read_episode_results(path)))


@pytest.mark.usefixtures("short_episodes")
def test_results_of_a_planner_contain_predicted_and_realised_costs(
    planner: Method, specs: list[EpisodeSpec], tmp_path: Path
) -> None:
    (result,) = evaluate(planner, specs[:1], tmp_path, workers=1)
    assert (result.model, result.search, result.env_steps, result.train_cpu_s) == ("graph", "mppi", 1000, 12.5)
    assert result.predicted_cost > 0
    assert result.realised_cost > 0
    assert result.disagreement is result.random_disagreement is None
    assert result.random_predicted_cost > 0
    assert result.random_realised_cost > 0
    assert result.plans_checked == 3
    assert (
        result.plans["static_contact"].both
        <= min(result.plans["static_contact"].predicted, result.plans["static_contact"].realised)
        <= 3
    )


@pytest.mark.usefixtures("short_episodes")
def test_the_simulator_predicts_realised_costs_and_violations(specs: list[EpisodeSpec], tmp_path: Path) -> None:
    spec = PlannerSpec(SCENE.name, "simulator", "random", SearchConfig(samples=4, iterations=1, horizon=4))
    (result,) = evaluate(Method("oracle", spec, "simulator", "random"), specs[:1], tmp_path, workers=1)
    assert result.predicted_cost == pytest.approx(result.realised_cost, abs=0.01)
    assert result.random_predicted_cost == result.random_realised_cost
    assert (
        result.plans["static_contact"].both == result.plans["static_contact"].predicted == result.plans["static_contact"].realised
    )


def test_a_plan_that_drives_into_a_wall_has_a_predicted_contact(specs: list[EpisodeSpec]) -> None:
    spec = specs[0]
    env = GroundEnv(SCENE, "test")
    observation, _ = env.reset(seed=spec.seed, options={"layout": spec.layout})
    simulator = SimulatorModel(SCENE.name)
    simulator.start_episode(EpisodeStart(spec.seed, spec.layout, env.variation))
    objective = Objective(simulator, SCENE.task)
    objective.observe(observation)
    zero_actions, forward = torch.zeros(1, 20, 2), torch.tensor([1.0, 0.0]).expand(1, 150, 2)
    assert not compute_violation_shares(objective.evaluate(zero_actions), observation, SCENE.task)["static_contact"]
    assert compute_violation_shares(objective.evaluate(forward), observation, SCENE.task)["static_contact"]
    env.close()


def test_random_plans_depend_on_the_episode() -> None:
    plan = torch.zeros(25, 2)
    assert torch.equal(sample_random_plans(plan, 3, 11), sample_random_plans(plan, 3, 11))
    assert not torch.equal(sample_random_plans(plan, 3, 11), sample_random_plans(plan, 3, 21))
    assert sample_random_plans(plan, 3, 11).abs().max() <= 1


def test_results_do_not_depend_on_the_workers(specs: list[EpisodeSpec], planner: Method, tmp_path: Path) -> None:
    for method in (SCRIPTED, replace(planner, batch_episodes=2)):  # the last batch has one episode
        single, parallel = (evaluate(method, specs, tmp_path / method.name / str(workers), workers) for workers in (1, 2))
        assert remove_timing(single) == remove_timing(parallel)
        for result in single:
            episodes = [read_episode(tmp_path / method.name / str(workers), result) for workers in (1, 2)]
            assert np.array_equal(episodes[0].pose, episodes[1].pose)


def test_only_missing_episodes_are_run(specs: list[EpisodeSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indices: list[int] = []
    run_and_write = evaluate_module.run_and_write_batch

    def record_indices(method: Method, batch: list[EpisodeSpec], path: Path) -> Sequence[EpisodeSpec]:
        indices.extend(spec.index for spec in batch)
        return run_and_write(method, batch, path)

    monkeypatch.setattr(evaluate_module, "run_and_write_batch", record_indices)
    evaluate(SCRIPTED, specs[1:2], tmp_path, workers=1)
    progress: list[tuple[int, int]] = []
    first = evaluate(SCRIPTED, specs, tmp_path, workers=1, progress=lambda *args: progress.append(args))
    assert indices == [1, 0, 2]
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert evaluate(SCRIPTED, specs, tmp_path, workers=1) == first
    assert indices == [1, 0, 2]


@pytest.mark.usefixtures("short_episodes")
def test_a_batch_is_repeated_as_a_whole(planner: Method, specs: list[EpisodeSpec], tmp_path: Path) -> None:
    method, path = replace(planner, batch_episodes=2), tmp_path / planner.name
    results = evaluate(method, specs, path, workers=1)
    (path / "test-00001.result").unlink()
    inode = (path / "test-00002.result").stat().st_ino
    assert remove_timing(evaluate(method, specs, path, workers=1)) == remove_timing(results)
    assert (path / "test-00002.result").stat().st_ino == inode
    assert verify_results(results[1:], {method.name: method}, tmp_path, workers=1) == [[], []]


def test_episodes_of_a_batch_end_at_their_own_steps(
    planner: Method, specs: list[EpisodeSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_batch(batch: list[EpisodeSpec], *steps: int) -> list[np.ndarray]:
        lengths = iter(steps)
        monkeypatch.setattr(
            evaluate_module,
            "GroundEnv",
            lambda scene, *args, **options: GroundEnv(replace(SCENE, episode_steps=next(lengths)), *args, **options),
        )
        evaluate_module._get_env.cache_clear()
        return [episode.pose for _, episode in evaluate_module.run_method(replace(planner, batch_episodes=len(batch)), batch)]

    batched = run_batch(specs, 6, 14, 10)
    assert [len(pose) - 1 for pose in batched] == [6, 14, 10]
    for spec, pose in zip(specs, batched, strict=True):
        np.testing.assert_allclose(pose, run_batch([spec], len(pose) - 1)[0], atol=1e-4)
    evaluate_module._get_env.cache_clear()


def test_the_cache_content_of_an_episode_depends_on_its_batch(planner: Method, specs: list[EpisodeSpec]) -> None:
    single, pair, different_pair = (
        evaluate_module._describe_cache_content(planner, batch, specs[0]) for batch in (specs[:1], specs[:2], specs[::2])
    )
    assert "batch" not in single
    assert single != pair != different_pair != single
    assert [len(batch) for batch in evaluate_module.make_batches(replace(planner, batch_episodes=2), specs[1:])] == [1, 1]


@pytest.mark.parametrize("damage", ["truncated result", "empty result", "no result", "no episode", "another version"])
def test_damaged_episodes_are_run_again(
    damage: str, evaluated: tuple[Path, list[EpisodeResult]], specs: list[EpisodeSpec], tmp_path: Path
) -> None:
    source, expected = evaluated
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    result, episode = (tmp_path / f"test-00001.{ending}" for ending in ("result", "parquet"))
    if damage == "no result":
        result.unlink()
    elif damage == "no episode":
        episode.unlink()
    elif damage == "another version":
        pq.write_table(pq.read_table(result).replace_schema_metadata({"results_version": "0"}), result)
    else:
        result.write_bytes(b"" if damage == "empty result" else result.read_bytes()[:200])
    before = (tmp_path / "test-00000.result").stat().st_mtime_ns
    assert remove_timing(evaluate(SCRIPTED, specs, tmp_path, workers=1)) == remove_timing(expected)
    assert (tmp_path / "test-00000.result").stat().st_mtime_ns == before
    assert read_episode(tmp_path, expected[1]).layout.id == expected[1].layout_id
    assert len(read_episode_results(tmp_path)) == 3


def test_a_layout_seen_in_training_is_refused(specs: list[EpisodeSpec], tmp_path: Path) -> None:
    method = replace(SCRIPTED, seen_layouts=frozenset({specs[2].layout.id, "another layout"}))
    with pytest.raises(GroundError, match=f"{specs[2].layout.id} \\(test/2\\)"):
        evaluate(method, specs, tmp_path, workers=1)
    assert not list(tmp_path.iterdir())
    assert len(evaluate(method, specs[:2], tmp_path, workers=1)) == 2


def test_variations_reach_the_episodes(specs: list[EpisodeSpec], tmp_path: Path) -> None:
    varied = [replace(specs[0], variation=Variation(load_friction=0.8, observation_noise=0.02))]
    (result,) = evaluate(SCRIPTED, varied, tmp_path, workers=1)
    assert (result.variation.load_friction, result.variation.observation_noise, result.variation.load_mass_kg) == (0.8, 0.02, 6.0)


def test_specs_are_reproducible_and_exclude_training_layouts() -> None:
    assert make_episode_specs("r", SCENE, "test", 5) == make_episode_specs("r", SCENE, "test", 5)
    assert make_episode_specs("r", SCENE, "test", 5)[:3] == make_episode_specs("r", SCENE, "test", 3)
    assert make_episode_specs("r", SCENE, "test", 5)[3:] == make_episode_specs("r", SCENE, "test", 2, first_index=3)
    with pytest.raises(GroundError, match="have seen"):
        make_episode_specs("r", SCENE, "train", 3)
    with pytest.raises(UnknownName, match="did you mean 'test'"):
        make_episode_specs("r", SCENE, "tests", 3)


SCRIPT = """
from pathlib import Path
import sys
from experiments.methods.method import Method
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.specs import make_episode_specs
from sim.scenes.scene import scenes
if __name__ == "__main__":
    scene = scenes["logistics/tote-push"]
    specs = make_episode_specs("killed", scene, "test", 8)
    evaluate(Method("scripted", scene.behaviours["scripted"]), specs, Path(sys.argv[1]), workers=1)
"""


def test_a_killed_evaluation_resumes(tmp_path: Path) -> None:
    path = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)], stderr=subprocess.PIPE, text=True)
    while not list(path.glob("*.result")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    _, err = process.communicate()
    before = {file.name: file.read_bytes() for file in path.glob("*.result")}
    assert 0 < len(before) < 8, err
    specs = make_episode_specs("killed", SCENE, "test", 8)
    results = evaluate(SCRIPTED, specs, path, workers=1)
    assert {name: (path / name).read_bytes() for name in before} == before
    assert [result.index for result in results] == list(range(8))
    assert remove_timing(results) == remove_timing(evaluate(SCRIPTED, specs, tmp_path / "uninterrupted", workers=2))


@pytest.mark.parametrize("name", list(scenes))
def test_episodes_in_a_custom_layout_vary_and_follow_from_the_seed(name: str) -> None:
    scene = scenes[name]
    layout = scene.sample_layout("test", 5)
    specs = make_custom_specs("run", scene, layout, 5, seed=3)
    assert specs == make_custom_specs("run", scene, layout, 5, seed=3)
    assert specs[:3] == make_custom_specs("run", scene, layout, 3, seed=3)
    assert (specs[0].layout, specs[0].variation, specs[0].seed) == (layout, None, 3)
    assert {spec.split for spec in specs} == {f"own-{layout.id}"}
    for values in ([spec.layout.id for spec in specs], [spec.seed for spec in specs], [spec.variation for spec in specs]):
        assert len(set(values)) == len(specs)
    for spec in specs:
        assert (spec.layout.hall, spec.layout.boxes, spec.layout.traffic) == (layout.hall, layout.boxes, layout.traffic)
        assert scene.find_faults(spec.layout) == []
    assert make_custom_specs("run", scene, layout, 2, seed=4)[1].layout != specs[1].layout


def test_a_custom_layout_is_evaluated_and_replayed(tmp_path: Path) -> None:
    layout = replace(SCENE.sample_layout("shift-two-totes", 0), name="my hall")
    specs = make_custom_specs("run", SCENE, layout, 3)
    results = evaluate(SCRIPTED, specs, tmp_path / "scripted", workers=1)
    assert {result.split_label for result in results} == {f"my hall ({layout.id[:8]})"}
    assert [read_episode(tmp_path / "scripted", result).layout for result in results] == [spec.layout for spec in specs]
    assert results[1].variation == specs[1].variation
    assert verify_results(results, {"scripted": SCRIPTED}, tmp_path, workers=1) == [[], [], []]


def test_a_hall_without_free_poses_is_refused() -> None:
    layout = SCENE.sample_layout("test", 0)
    crowded = replace(SCENE, make_task=None, sample_near_start=lambda layout, rng: None)
    with pytest.raises(BadLayout, match="no free poses"):
        make_custom_specs("run", crowded, layout, 2)


def test_unreadable_results_are_reported(evaluated: tuple[Path, list[EpisodeResult]], tmp_path: Path) -> None:
    source, _ = evaluated
    results = tmp_path / "results" / "scripted"
    results.mkdir(parents=True)
    for file in source.iterdir():
        (results / file.name).write_bytes(file.read_bytes())
    assert describe_unreadable_results(tmp_path) == ""
    result = results / "test-00002.result"
    record = pq.read_table(result).to_pylist()[0]
    for column in ("success", "steps", "scene", "violation/robot_collision", "variation/load_mass_kg"):
        with pytest.raises(TypeError, match=f"{column} is of another type"):
            EpisodeResult.from_record({**record, column: [record[column]]})
    pq.write_table(pq.read_table(result).replace_schema_metadata({"results_version": "0"}), result)
    assert describe_unreadable_results(tmp_path).startswith(
        f"1 results of {tmp_path} are damaged or of another version and left out (the first: scripted/"
    )
