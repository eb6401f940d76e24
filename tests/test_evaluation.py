import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from agents.planning.objective import Objective
from agents.planning.search import SearchConfig
from agents.planning.spec import PlannerSpec
from experiments.evaluation import episodes as playing
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.evaluate import evaluate as evaluation
from experiments.evaluation.plan_audit import compute_violation_shares, sample_random_plans
from experiments.evaluation.replay import verify_results
from experiments.evaluation.results import read_episode, read_episode_results
from experiments.methods.method import EpisodeSpec, Method, make_episode_specs
from experiments.report.measures.comparability import describe_unreadable_results
from sim.env import GroundEnv
from sim.policy import EpisodeStart
from sim.scenes.scene import scenes
from sim.utils.errors import GroundError, UnknownName
from worldmodels.model import models
from worldmodels.simulator import SimulatorModel
from worldmodels.training.checkpoint import save_checkpoint

SCENE = scenes["logistics/tote-push"]
TIMING = ("decision_ms_p50", "decision_ms_p95", "decide_s")
SCRIPTED = Method("scripted", SCENE.behaviours["scripted"])


@pytest.fixture(scope="module")
def trials() -> list[EpisodeSpec]:
    return make_episode_specs("a run", SCENE, "test", 3, seed=10)


@pytest.fixture(scope="module")
def played(trials: list[EpisodeSpec], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What the scripted expert did. Copy before changing."""
    path = tmp_path_factory.mktemp("results")
    return path, evaluate(SCRIPTED, trials, path, workers=1)


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Method:
    """A small search on a graph model that was never trained."""
    path = tmp_path_factory.mktemp("model")
    save_checkpoint(models["graph"](), path, "best", {"scene": SCENE.name})
    spec = PlannerSpec(SCENE.name, str(path), "mppi", SearchConfig(samples=8, iterations=1, horizon=4))
    return Method("graph+mppi", spec, "graph", "mppi", env_steps=1000, train_cpu_s=12.5)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A planner that was never trained does not get to use up 250 steps (in this process)."""
    make = partial(GroundEnv, replace(SCENE, episode_steps=30))
    playing._get_env.cache_clear()
    monkeypatch.setattr(playing, "GroundEnv", lambda scene, *args, **more: make(*args, **more))
    yield
    playing._get_env.cache_clear()


def untimed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in TIMING} for row in rows]


def test_rows_say_what_happened(played: tuple[Path, list[dict[str, Any]]], trials: list[EpisodeSpec]) -> None:
    path, rows = played
    assert [(row["index"], row["seed"], row["layout_id"]) for row in rows] == [(t.index, t.seed, t.layout.id) for t in trials]
    for row in rows:
        episode = read_episode(path, row)
        assert row["agent"] == episode.behaviour == "scripted"
        assert row["steps"] == len(episode) - 1
        assert row["total_cost"] == pytest.approx(float(episode.cost[1:].sum()), rel=1e-4)
        assert row["success"] is episode.success
        assert row["clean"] == (
            row["success"]
            and not any(row[kind] for kind in ("robot_collision", "load_collision", "load_tipped", "robot_outside_hall"))
        )
        assert row["peak_force_n"] == pytest.approx(float(episode.static_force_n.max()))
        assert 0 < row["decision_ms_p50"] <= row["decision_ms_p95"]
        assert row["predicted_cost"] is row["realised_cost"] is row["disagreement"] is None
        assert episode.layout.id == row["layout_id"]
    assert any(row["success"] for row in rows)
    assert sorted(map(str, rows)) == sorted(map(str, read_episode_results(path)))


@pytest.mark.usefixtures("short")
def test_a_planner_tells_what_it_expected(planner: Method, trials: list[EpisodeSpec], tmp_path: Path) -> None:
    (row,) = evaluate(planner, trials[:1], tmp_path, workers=1)
    assert (row["model"], row["search"], row["env_steps"], row["train_cpu_s"]) == ("graph", "mppi", 1000, 12.5)
    assert row["predicted_cost"] > 0
    assert row["realised_cost"] > 0
    assert row["disagreement"] is row["random_disagreement"] is None
    assert row["random_predicted_cost"] > 0
    assert row["random_realised_cost"] > 0
    assert row["plans_checked"] == 3
    assert row["plans_touching_both"] <= min(row["plans_touching_predicted"], row["plans_touching_realised"]) <= 3


@pytest.mark.usefixtures("short")
def test_the_true_simulator_foresees_what_happens(trials: list[EpisodeSpec], tmp_path: Path) -> None:
    spec = PlannerSpec(SCENE.name, "simulator", "random", SearchConfig(samples=4, iterations=1, horizon=4))
    (row,) = evaluate(Method("oracle", spec, "simulator", "random"), trials[:1], tmp_path, workers=1)
    assert row["predicted_cost"] == pytest.approx(row["realised_cost"], abs=0.01)
    assert row["random_predicted_cost"] == row["random_realised_cost"]
    assert row["plans_touching_both"] == row["plans_touching_predicted"] == row["plans_touching_realised"]


def test_a_plan_that_drives_into_a_wall_is_seen_to_touch_it(trials: list[EpisodeSpec]) -> None:
    trial = trials[0]
    env = GroundEnv(SCENE, "test")
    observation, _ = env.reset(seed=trial.seed, options={"layout": trial.layout})
    simulator = SimulatorModel(SCENE.name)
    simulator.start_episode(EpisodeStart(trial.seed, trial.layout, env.variation))
    objective = Objective(simulator, SCENE.task)
    objective.observe(observation)
    stays, drives = torch.zeros(1, 20, 2), torch.tensor([1.0, 0.0]).expand(1, 150, 2)
    assert not compute_violation_shares(objective.evaluate(stays), observation, SCENE.task)["touching"]
    assert compute_violation_shares(objective.evaluate(drives), observation, SCENE.task)["touching"]
    env.close()


def test_random_plans_are_the_episodes_own() -> None:
    plan = torch.zeros(25, 2)
    assert torch.equal(sample_random_plans(plan, 3, 11), sample_random_plans(plan, 3, 11))
    assert not torch.equal(sample_random_plans(plan, 3, 11), sample_random_plans(plan, 3, 21))
    assert sample_random_plans(plan, 3, 11).abs().max() <= 1


def test_results_do_not_depend_on_the_workers(trials: list[EpisodeSpec], planner: Method, tmp_path: Path) -> None:
    for arm in (SCRIPTED, replace(planner, together=2)):  # the last one is alone
        one, two = (evaluate(arm, trials, tmp_path / arm.name / str(workers), workers) for workers in (1, 2))
        assert untimed(one) == untimed(two)
        for row in one:
            episodes = [read_episode(tmp_path / arm.name / str(workers), row) for workers in (1, 2)]
            assert np.array_equal(episodes[0].pose, episodes[1].pose)


def test_only_what_is_missing_is_played(trials: list[EpisodeSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    indices: list[int] = []
    play = evaluation.play_and_write

    def counted(arm: Method, batch: list[EpisodeSpec], path: Path) -> Sequence[EpisodeSpec]:
        indices.extend(trial.index for trial in batch)
        return play(arm, batch, path)

    monkeypatch.setattr(evaluation, "play_and_write", counted)
    evaluate(SCRIPTED, trials[1:2], tmp_path, workers=1)
    progress: list[tuple[int, int]] = []
    first = evaluate(SCRIPTED, trials, tmp_path, workers=1, progress=lambda *args: progress.append(args))
    assert indices == [1, 0, 2]
    assert progress == [(1, 3), (2, 3), (3, 3)]
    assert evaluate(SCRIPTED, trials, tmp_path, workers=1) == first
    assert indices == [1, 0, 2]


@pytest.mark.usefixtures("short")
def test_episodes_that_are_played_together_are_played_again_together(
    planner: Method, trials: list[EpisodeSpec], tmp_path: Path
) -> None:
    arm, path = replace(planner, together=2), tmp_path / planner.name
    rows = evaluate(arm, trials, path, workers=1)
    (path / "test-00001.row").unlink()
    alone = (path / "test-00002.row").stat().st_ino
    assert untimed(evaluate(arm, trials, path, workers=1)) == untimed(rows)
    assert (path / "test-00002.row").stat().st_ino == alone
    assert [verdict.differences for verdict in verify_results(rows[1:], {arm.name: arm}, tmp_path, workers=1)] == [(), ()]


def test_episodes_that_are_played_together_end_each_in_its_time(
    planner: Method, trials: list[EpisodeSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    def played(batch: list[EpisodeSpec], *steps: int) -> list[np.ndarray]:
        lengths = iter(steps)
        monkeypatch.setattr(
            playing,
            "GroundEnv",
            lambda scene, *args, **more: GroundEnv(replace(SCENE, episode_steps=next(lengths)), *args, **more),
        )
        playing._get_env.cache_clear()
        return [episode.pose for _, episode in playing.run_method(replace(planner, together=len(batch)), batch)]

    together = played(trials, 6, 14, 10)
    assert [len(pose) - 1 for pose in together] == [6, 14, 10]
    for trial, pose in zip(trials, together, strict=True):
        np.testing.assert_allclose(pose, played([trial], len(pose) - 1)[0], atol=1e-4)
    playing._get_env.cache_clear()


def test_cells_of_episodes_depend_on_what_is_played_with_them(planner: Method, trials: list[EpisodeSpec]) -> None:
    alone, two, other = (evaluation._cell(planner, batch, trials[0]) for batch in (trials[:1], trials[:2], trials[::2]))
    assert "together" not in alone
    assert alone != two != other != alone
    assert [len(batch) for batch in evaluation.batches(replace(planner, together=2), trials[1:])] == [1, 1]


@pytest.mark.parametrize("damage", ["truncated row", "empty row", "no row", "no episode", "another version"])
def test_what_is_damaged_is_played_again(
    damage: str, played: tuple[Path, list[dict[str, Any]]], trials: list[EpisodeSpec], tmp_path: Path
) -> None:
    source, expected = played
    for file in source.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    row, episode = (tmp_path / f"test-00001.{ending}" for ending in ("row", "parquet"))
    if damage == "no row":
        row.unlink()
    elif damage == "no episode":
        episode.unlink()
    elif damage == "another version":
        pq.write_table(pq.read_table(row).replace_schema_metadata({"rows_version": "0"}), row)
    else:
        row.write_bytes(b"" if damage == "empty row" else row.read_bytes()[:200])
    kept = (tmp_path / "test-00000.row").stat().st_mtime_ns
    assert untimed(evaluate(SCRIPTED, trials, tmp_path, workers=1)) == untimed(expected)
    assert (tmp_path / "test-00000.row").stat().st_mtime_ns == kept
    assert read_episode(tmp_path, expected[1]).layout.id == expected[1]["layout_id"]
    assert len(read_episode_results(tmp_path)) == 3


def test_a_space_that_was_seen_is_refused(trials: list[EpisodeSpec], tmp_path: Path) -> None:
    arm = replace(SCRIPTED, seen=frozenset({trials[2].layout.id, "another"}))
    with pytest.raises(GroundError, match=f"{trials[2].layout.id} \\(test/2\\)"):
        evaluate(arm, trials, tmp_path, workers=1)
    assert not list(tmp_path.iterdir())
    assert len(evaluate(arm, trials[:2], tmp_path, workers=1)) == 2


def test_variations_reach_the_episodes(trials: list[EpisodeSpec], tmp_path: Path) -> None:
    varied = [replace(trial, variations=("load_friction=0.8", "observation_noise=0.02")) for trial in trials[:1]]
    (row,) = evaluate(SCRIPTED, varied, tmp_path, workers=1)
    assert (row["load_friction"], row["observation_noise"], row["load_mass_kg"]) == (0.8, 0.02, 6.0)


def test_trials_are_the_same_for_every_arm_and_never_training_spaces() -> None:
    assert make_episode_specs("r", SCENE, "test", 5) == make_episode_specs("r", SCENE, "test", 5)
    assert make_episode_specs("r", SCENE, "test", 5)[:3] == make_episode_specs("r", SCENE, "test", 3)
    assert make_episode_specs("r", SCENE, "test", 5)[3:] == make_episode_specs("r", SCENE, "test", 2, first_index=3)
    with pytest.raises(GroundError, match="were seen"):
        make_episode_specs("r", SCENE, "train", 3)
    with pytest.raises(UnknownName, match="did you mean 'test'"):
        make_episode_specs("r", SCENE, "tests", 3)


SCRIPT = """
from pathlib import Path
import sys
from experiments.methods.method import Arm, trials_of
from experiments.evaluation.evaluate import evaluate
from sim.scenes.scene import scenes
if __name__ == "__main__":
    trials = trials_of("killed", scenes["logistics/tote-push"], "test", 8)
    evaluate(Arm("scripted", scenes["logistics/tote-push"].behaviours["scripted"]), trials, Path(sys.argv[1]), workers=1)
"""


def test_a_killed_evaluation_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)], stderr=subprocess.PIPE, text=True)
    while not list(path.glob("*.row")) and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    _, err = process.communicate()
    kept = {file.name: file.read_bytes() for file in path.glob("*.row")}
    assert 0 < len(kept) < 8, err
    trials = make_episode_specs("killed", SCENE, "test", 8)
    rows = evaluate(SCRIPTED, trials, path, workers=1)
    assert {name: (path / name).read_bytes() for name in kept} == kept
    assert [row["index"] for row in rows] == list(range(8))
    assert untimed(rows) == untimed(evaluate(SCRIPTED, trials, tmp_path / "unbroken", workers=2))


def test_a_space_of_the_users_own_can_be_played(trials: list[EpisodeSpec], tmp_path: Path) -> None:
    own = replace(trials[0], split="own-hall")
    (row,) = evaluate(SCRIPTED, [own], tmp_path, workers=1)
    assert (row["split"], row["layout_id"]) == ("own-hall", own.layout.id)
    assert read_episode(tmp_path, row).layout == own.layout


def test_rows_that_cannot_be_read_are_named(played: tuple[Path, list[dict[str, Any]]], tmp_path: Path) -> None:
    source, _ = played
    results = tmp_path / "results" / "scripted"
    results.mkdir(parents=True)
    for file in source.iterdir():
        (results / file.name).write_bytes(file.read_bytes())
    assert describe_unreadable_results(tmp_path) == ""
    row = results / "test-00002.row"
    pq.write_table(pq.read_table(row).replace_schema_metadata({"rows_version": "0"}), row)
    assert describe_unreadable_results(tmp_path).startswith(
        f"1 rows of {tmp_path} are damaged or of another version and left out (the first: scripted/"
    )
