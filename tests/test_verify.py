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
from experiments.evaluation.results import RESULTS_VERSION, read_episode, read_episode_results
from experiments.methods.method import Method, make_episode_specs
from sim.data.store import write_shard
from sim.scenes.scene import scenes

ARMS = ("scripted", "random")


def arms_of(scene: str) -> dict[str, Method]:
    return {name: Method(name, scenes[scene].behaviours[name]) for name in ARMS}


@pytest.fixture(scope="module", params=list(scenes))
def played(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A run of two arms in two spaces, one of them a space with physics that vary. Copy before changing."""
    scene, path = str(request.param), tmp_path_factory.mktemp("runs") / "run"
    split = scenes[scene].splits[-1]
    for name, arm in arms_of(scene).items():
        for where in ("test", split):
            evaluate(arm, make_episode_specs("run", scenes[scene], where, 1, seed=5), path / "results" / name, workers=1)
    (path / "config.json").write_text(json.dumps(asdict(ExperimentConfig("run", scene, models=(), baselines=()))))
    return scene, path


@pytest.fixture
def copy(played: tuple[str, Path], tmp_path: Path) -> Callable[[], tuple[str, Path]]:
    return lambda: (played[0], Path(shutil.copytree(played[1], tmp_path / "run")))


def verdicts(scene: str, path: Path, agents: tuple[str, ...] = ARMS) -> dict[tuple[str, str], tuple[str, ...]]:
    rows = [row for row in read_episode_results(path / "results") if row["agent"] in agents]
    return {(v.method_label, v.split): v.differences for v in verify_results(rows, arms_of(scene), path / "results", workers=1)}


def rewrite(file: Path, change: dict[str, Any]) -> None:
    row = pq.read_table(file).to_pylist()[0] | change
    pq.write_table(pa.Table.from_pylist([row]).replace_schema_metadata({"rows_version": str(RESULTS_VERSION)}), file)


def test_what_was_played_comes_out_the_same(played: tuple[str, Path]) -> None:
    found = verdicts(*played)
    assert len(found) == 4
    assert set(found.values()) == {()}


def test_a_row_that_was_changed_is_found(copy: Callable[[], tuple[str, Path]]) -> None:
    scene, path = copy()
    rewrite(path / "results" / "scripted" / "test-00000.row", {"total_cost": -1.0, "steps": 3})
    found = verdicts(scene, path, ("scripted",))
    assert sorted(fault.split()[0] for fault in found.pop(("scripted", "test"))) == ["steps", "total_cost"]
    assert set(found.values()) == {()}


def test_an_episode_that_was_changed_is_found(copy: Callable[[], tuple[str, Path]]) -> None:
    scene, path = copy()
    row = next(row for row in read_episode_results(path / "results" / "random") if row["split"] == "test")
    episode = read_episode(path / "results" / "random", row)
    other = replace(episode, action=np.roll(episode.action, 5, 0))
    write_shard(path / "results" / "random" / "test-00000.parquet", [other], 0, num_bodies=episode.pose.shape[1])
    (fault,) = verdicts(scene, path, ("random",))[("random", "test")]
    assert fault.startswith("the same actions end ")


def test_a_sample_takes_every_arm_in_turn() -> None:
    rows = [{"agent": name, "index": i} for name, count in (("a", 9), ("b", 2), ("c", 9)) for i in range(count)]
    known = {name: Method(name, scenes["logistics/tote-push"].behaviours["random"]) for name in "abc"}
    chosen = sample_results(rows, known, 10)
    assert [sum(row["agent"] == name for row in chosen) for name in "abc"] == [4, 2, 4]
    assert chosen == sample_results(rows, known, 10)
    assert len({(row["agent"], row["index"]) for row in chosen}) == 10
    assert len(sample_results(rows, known, 99)) == 20
    assert {row["agent"] for row in sample_results(rows, {"a": known["a"]}, 5)} == {"a"}


def test_the_command_says_what_it_found(copy: Callable[[], tuple[str, Path]], ground: type[Ground]) -> None:
    _, path = copy()
    code, out, err = ground("verify", path, "--workers", 1).finish()
    assert (code, err) == (0, "")
    assert "4 of 4 episodes came out the same (random 2, scripted 2)" in out
    rewrite(path / "results" / "random" / "test-00000.row", {"total_cost": 1.0})
    code, out, err = ground("verify", path, "--workers", 1).finish()
    assert code == 2
    assert "random in test/0: total_cost was 1.0, is" in out
    assert err.count("\n") == 1
    code, out, err = ground("compare", path, "--format", "csv", "--out", path / "report").finish()
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split(",")[:3] == ["split", "agent", "episodes"]
    code, _, err = ground("compare", path, "--format", "cvs").finish()
    assert (code, "did you mean 'csv'" in err, err.count("\n")) == (2, True, 1)
    code, _, err = ground("verify", path.parent / "nothing").finish()
    assert (code, err.count("\n")) == (2, 1)
