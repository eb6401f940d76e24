import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Ground

from experiments.config.experiment import ExperimentConfig
from experiments.evaluation.evaluate import evaluate
from experiments.evaluation.replay import sample_results, verify_results
from experiments.evaluation.results import RESULTS_VERSION, EpisodeResult, read_episode, read_episode_results
from experiments.evaluation.specs import make_episode_specs
from experiments.methods.method import Method
from sim.data.store import write_shard
from sim.scenes.scene import scenes

METHODS = ("scripted", "random")


def make_methods(scene: str) -> dict[str, Method]:
    return {name: Method(name, scenes[scene].behaviours[name]) for name in METHODS}


CHEAP_SCENE = "logistics/tote-push"


@pytest.fixture(scope="module", params=[name for name in scenes if not scenes[name].is_skill])  # skills take seconds
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """Evaluate two methods in two layouts, one of a split with varied physics. Copy the run before changes."""
    scene, path = str(request.param), tmp_path_factory.mktemp("runs") / "run"
    split = scenes[scene].splits[-1]
    for name, method in make_methods(scene).items():
        for split_name in ("test", split):
            evaluate(method, make_episode_specs("run", scenes[scene], split_name, 1, seed=5), path / "results" / name, workers=1)
    (path / "config.json").write_text(json.dumps(asdict(ExperimentConfig("run", scene, models=(), baselines=()))))
    return scene, path


@pytest.fixture
def copy(recorded: tuple[str, Path], tmp_path: Path) -> Callable[[], tuple[str, Path]]:
    return lambda: (recorded[0], Path(shutil.copytree(recorded[1], tmp_path / "run")))


def compute_verdicts(scene: str, path: Path, names: tuple[str, ...] = METHODS) -> dict[tuple[str, str], tuple[str, ...]]:
    results = [result for result in read_episode_results(path / "results") if result.method in names]
    verdicts = verify_results(results, make_methods(scene), path / "results", workers=1)
    return {(r.method_label, r.split): tuple(texts) for r, texts in zip(results, verdicts, strict=True)}


def edit_result(file: Path, change: dict[str, Any]) -> None:
    result = pq.read_table(file).to_pylist()[0] | change
    pq.write_table(pa.Table.from_pylist([result]).replace_schema_metadata({"results_version": str(RESULTS_VERSION)}), file)


def test_unchanged_results_replay_equally(recorded: tuple[str, Path]) -> None:
    verdicts = compute_verdicts(*recorded)
    assert len(verdicts) == 4
    assert set(verdicts.values()) == {()}


def test_a_changed_result_is_detected(copy: Callable[[], tuple[str, Path]]) -> None:
    scene, path = copy()
    edit_result(path / "results" / "scripted" / "test-00000.result", {"total_cost": -1.0, "steps": 3})
    verdicts = compute_verdicts(scene, path, ("scripted",))
    assert sorted(fault.split()[0] for fault in verdicts.pop(("scripted", "test"))) == ["steps", "total_cost"]
    assert set(verdicts.values()) == {()}


def test_a_changed_episode_is_detected(copy: Callable[[], tuple[str, Path]]) -> None:
    scene, path = copy()
    result = next(result for result in read_episode_results(path / "results" / "random") if result.split == "test")
    episode = read_episode(path / "results" / "random", result)
    changed = replace(episode, action=np.roll(episode.action, 5, 0))
    write_shard(path / "results" / "random" / "test-00000.parquet", [changed], 0, num_bodies=episode.pose.shape[1])
    (fault,) = compute_verdicts(scene, path, ("random",))[("random", "test")]
    assert fault.startswith("the same actions end ")


def make_result(method: str, index: int) -> EpisodeResult:
    times = dict.fromkeys(("total_cost", "peak_force_n", "decision_ms_p50", "decision_ms_p95", "decision_time_s"), 0.0)
    outcome = {"success": True, "violations": {}, "steps": 1, **times}
    return EpisodeResult(
        run="run",
        scene="logistics/tote-push",
        split="test",
        index=index,
        seed=index,
        layout_id=f"{index}",
        method=method,
        **outcome,
    )


def test_a_sample_contains_every_method_in_turn() -> None:
    results = [make_result(name, i) for name, count in (("a", 9), ("b", 2), ("c", 9)) for i in range(count)]
    methods = {name: Method(name, scenes["logistics/tote-push"].behaviours["random"]) for name in "abc"}
    sample = sample_results(results, methods, 10)
    assert [sum(result.method == name for result in sample) for name in "abc"] == [4, 2, 4]
    assert sample == sample_results(results, methods, 10)
    assert len({(result.method, result.index) for result in sample}) == 10
    assert len(sample_results(results, methods, 99)) == 20
    assert {result.method for result in sample_results(results, {"a": methods["a"]}, 5)} == {"a"}


@pytest.mark.parametrize("recorded", [CHEAP_SCENE], indirect=True)
def test_the_command_reports_replay_differences(copy: Callable[[], tuple[str, Path]], ground: type[Ground]) -> None:
    _, path = copy()
    code, out, err = ground("verify", path, "--workers", 1).finish()
    assert (code, err) == (0, "")
    assert "4 of 4 episodes replay equally (random 2, scripted 2)" in out
    edit_result(path / "results" / "random" / "test-00000.result", {"total_cost": 1.0})
    code, out, err = ground("verify", path, "--workers", 1).finish()
    assert code == 2
    assert "random in test/0: total_cost was 1.0, is" in out
    assert err.count("\n") == 1
    code, out, err = ground("compare", path, "--format", "csv", "--out", path / "report").finish()
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split(",")[:3] == ["split", "method", "episodes"]
    code, _, err = ground("compare", path, "--format", "cvs").finish()
    assert (code, "did you mean 'csv'" in err, err.count("\n")) == (2, True, 1)
    code, _, err = ground("verify", path.parent / "nothing").finish()
    assert (code, err.count("\n")) == (2, 1)
