import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import PLANAR_MODELS
from helpers import interrupt_at
from safetensors.torch import load_file

from experiments.config.experiment import ModelTrainingConfig
from experiments.methods.training import train_model
from sim.data.store import Dataset
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import read_json, write_json
from worldmodels.model import LearnedModel, models
from worldmodels.planar.windows import PlanarWindows
from worldmodels.training.checkpoint import load_checkpoint
from worldmodels.training.loop import TrainConfig, ValidationResult, is_finished, train

TINY = TrainConfig(updates=20, batch=16, lengths=(2, 4), validate_every=5, threads=1)
METADATA = {"scene": "logistics/tote-push", "data": ["a digest"]}
COMMAND = TrainConfig(updates=20, validate_every=5, threads=1)


@pytest.fixture(scope="module")
def held_out(validation: Dataset) -> PlanarWindows:
    return PlanarWindows(validation.episodes())


def run_training(
    name: str, path: Path, data: PlanarWindows, held_out: PlanarWindows, config: TrainConfig = TINY, **settings: Any
) -> LearnedModel:
    torch.manual_seed(config.seed)
    return train(models[name](), data, held_out, config, path, METADATA, **settings)


def load_weights(path: Path, name: str = "last-20") -> dict[str, torch.Tensor]:
    return load_file(path / f"{name}.safetensors")


def assert_equal_weights(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def read_metadata(path: Path, name: str) -> dict[str, Any]:
    return {key: value for key, value in json.loads((path / name).read_text()).items() if key not in ("seconds", "cpu_s")}


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_a_resumed_training_equals_an_uninterrupted_one(
    name: str, tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows
) -> None:
    run_training(name, tmp_path / "uninterrupted", windows, held_out)
    for update in (3, 12, 18):  # 3: before the first checkpoint
        with pytest.raises(InterruptedError):
            run_training(name, tmp_path / "interrupted", windows, held_out, progress=interrupt_at(update))
    reached: list[int] = []
    run_training(name, tmp_path / "interrupted", windows, held_out, progress=lambda done, total, check: reached.append(done))
    assert reached == [16, 17, 18, 19, 20]
    assert_equal_weights(load_weights(tmp_path / "interrupted"), load_weights(tmp_path / "uninterrupted"))
    assert_equal_weights(load_weights(tmp_path / "interrupted", "best"), load_weights(tmp_path / "uninterrupted", "best"))
    for file in ("best.json", "last.json"):
        assert read_metadata(tmp_path / "interrupted", file) == read_metadata(tmp_path / "uninterrupted", file)
    assert [file.name for file in (tmp_path / "interrupted").glob("last-*")] == ["last-20.safetensors"]


@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_training_changes_the_weights_and_depends_on_the_seed(
    name: str, tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows
) -> None:
    torch.manual_seed(TINY.seed)
    fresh = models[name]().state_dict()
    for path, config in (("a", TINY), ("b", TINY), ("c", replace(TINY, seed=1))):
        run_training(name, tmp_path / path, windows, held_out, config)
    assert_equal_weights(load_weights(tmp_path / "a"), load_weights(tmp_path / "b"))
    first, different = load_weights(tmp_path / "a"), load_weights(tmp_path / "c")
    assert any(not torch.equal(value, different[key]) for key, value in first.items())
    assert any(not torch.equal(value, fresh[key.removeprefix("model.")]) for key, value in first.items() if key[:6] == "model.")


def test_a_finished_training_is_not_repeated(tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows) -> None:
    model = run_training("graph", tmp_path, windows, held_out)
    before = (tmp_path / "best.safetensors").stat().st_mtime_ns
    loaded = run_training("graph", tmp_path, windows, held_out, progress=interrupt_at(1))
    assert_equal_weights(model.state_dict(), loaded.state_dict())
    assert (tmp_path / "best.safetensors").stat().st_mtime_ns == before


def test_the_checkpoint_with_the_least_validation_error_is_saved(
    tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows
) -> None:
    checks: list[ValidationResult] = []
    model = run_training(
        "graph", tmp_path, windows, held_out, progress=lambda done, total, check: checks.append(check) if check else None
    )
    assert [check.update for check in checks] == [5, 10, 15, 20]
    best = min(checks, key=lambda check: check.validation_mm)
    metadata = read_metadata(tmp_path, "best.json")
    assert (metadata["update"], metadata["validation_mm"], metadata["finished"]) == (best.update, best.validation_mm, True)
    assert not model.training
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("change", [{"updates": 40}, {"seed": 3}])
def test_a_finished_training_with_other_settings_is_refused(
    change: dict[str, Any], tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows
) -> None:
    run_training("graph", tmp_path, windows, held_out)
    with pytest.raises(GroundError, match="another model, settings or data"):
        run_training("graph", tmp_path, windows, held_out, replace(TINY, **change))
    with pytest.raises(GroundError, match="another model, settings or data"):
        run_training("mlp", tmp_path, windows, held_out)


def test_a_finished_training_on_other_data_is_refused(tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows) -> None:
    metadata = {**METADATA, "validation": ["a validation digest"], "env_steps": 1200}
    train(models["graph"](), windows, held_out, TINY, tmp_path, metadata)
    assert json.loads((tmp_path / "best.json").read_text())["cpu_s"] > 0
    for change in ({"data": ["another"]}, {"validation": ["another"]}, {"env_steps": 600}):
        with pytest.raises(GroundError, match="another model, settings or data"):
            train(models["graph"](), windows, held_out, TINY, tmp_path, {**metadata, **change})
    assert is_finished(tmp_path, "graph", TINY, metadata)
    for name in ("best.json", "last.json"):
        earlier = {key: value for key, value in read_metadata(tmp_path, name).items() if key != "validation"}
        (tmp_path / name).write_text(json.dumps(earlier))
    assert is_finished(tmp_path, "graph", TINY, metadata), "checkpoints of older versions do not name their validation data"


def test_windows_longer_than_all_episodes_are_refused_at_the_start(
    tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows
) -> None:
    with pytest.raises(GroundError, match="no episode has 9000 steps"):
        run_training("graph", tmp_path, windows, held_out, replace(TINY, lengths=(2, 9000)))
    assert not (tmp_path / "last.json").exists()


def test_a_training_without_its_best_checkpoint_is_resumed_only_with_the_same_settings(
    tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows
) -> None:
    with pytest.raises(InterruptedError):
        run_training("graph", tmp_path, windows, held_out, progress=interrupt_at(6))
    (tmp_path / "best.json").unlink()
    for name, config in (("graph", replace(TINY, seed=3)), ("mlp", TINY)):
        with pytest.raises(GroundError, match="another model, settings or data"):
            run_training(name, tmp_path, windows, held_out, config)
    assert read_metadata(tmp_path, "last.json")["update"] == 5


def test_training_without_resume_starts_over(tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows) -> None:
    run_training("graph", tmp_path, windows, held_out)
    reached: list[int] = []
    run_training("graph", tmp_path, windows, held_out, resume=False, progress=lambda done, total, check: reached.append(done))
    assert reached == list(range(1, 21))


@pytest.mark.parametrize("change", [{"updates": 40}, {"seed": 3}, {"learning_rate": 1e-4}, {"lengths": (2,)}])
def test_an_interrupted_training_with_other_settings_is_refused(
    change: dict[str, Any], tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows
) -> None:
    with pytest.raises(InterruptedError):
        run_training("graph", tmp_path, windows, held_out, progress=interrupt_at(6))
    with pytest.raises(GroundError, match="another model, settings or data"):
        run_training("graph", tmp_path, windows, held_out, replace(TINY, **change))


def test_a_damaged_checkpoint_is_named(tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows) -> None:
    with pytest.raises(InterruptedError):
        run_training("graph", tmp_path, windows, held_out, progress=interrupt_at(6))
    file = tmp_path / "last-5.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(BadFile, match=r"last-5\.safetensors"):
        run_training("graph", tmp_path, windows, held_out)


@pytest.mark.parametrize(
    ("name", "changes"),
    [("best", {"layouts": 3}), ("best", {"config": {"hidden_size": 10**9}}), ("best", {"config": {"hidden_size": 10**30}}),
     ("best", {"config": {"hidden_size": "x"}}), ("best", {"config": []}), ("best", {"seconds": "x"}), ("last", {"update": "x"}),
     ("last", {"weights": None}), ("last", {"weights": "best.safetensors"})],
)  # fmt: skip
def test_a_damaged_description_of_a_checkpoint_is_refused(
    name: str, changes: dict[str, Any], tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows
) -> None:
    with pytest.raises(InterruptedError):
        run_training("mlp", tmp_path, windows, held_out, progress=interrupt_at(6))
    write_json(tmp_path / f"{name}.json", {**read_json(tmp_path / f"{name}.json"), **changes})
    with pytest.raises(BadFile) as caught:
        load_checkpoint(tmp_path) if name == "best" else run_training("mlp", tmp_path, windows, held_out)
    assert str(tmp_path) in str(caught.value)


def test_divergence_is_reported(
    tmp_path: Path, windows: PlanarWindows, held_out: PlanarWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models["mlp"], "compute_loss", lambda self, *_: sum(p.sum() for p in self.parameters()) * float("nan"))
    with pytest.raises(GroundError, match="diverged at update 5"):
        run_training("mlp", tmp_path, windows, held_out)
    assert not (tmp_path / "best.json").exists()


@pytest.mark.parametrize(
    "change", [{"updates": 0}, {"batch": 0}, {"lengths": (0,)}, {"validate_every": 0}, {"learning_rate": 0.0}, {"threads": 0}]
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(GroundError):
        replace(TINY, **change)


def test_lengths_and_learning_rates_follow_their_schedules() -> None:
    config = TrainConfig(updates=4000, lengths=(4, 8, 8, 12))
    assert [config.get_length(update) for update in (0, 999, 1000, 2999, 3000, 3999)] == [4, 4, 8, 8, 12, 12]
    rates = [config.get_learning_rate(update) for update in range(4000)]
    assert max(rates) <= config.learning_rate
    assert rates[0] < 0.01 * config.learning_rate
    assert rates[-1] < 0.03 * config.learning_rate
    assert rates[200:] == sorted(rates[200:], reverse=True)


def test_the_validation_error_is_zero_for_a_perfect_model(windows: PlanarWindows, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, model = windows.take(windows.find_starts(10)[0], 10), models["graph"]()
    initial = model.compute_validation_error(batch)
    monkeypatch.setattr(model, "predict_particles", lambda state, actions: batch.targets)
    assert model.compute_validation_error(batch) == 0
    monkeypatch.setattr(model, "predict_particles", lambda state, actions: [batch.state] * 10)
    assert model.compute_validation_error(batch) > 100  # a load that moved 0.1 m is predicted as static
    assert initial > 0
    unmoved = replace(batch, targets=[batch.state] * 10)
    assert math.isnan(model.compute_validation_error(unmoved))


def test_particles_on_both_sides_of_the_target_have_a_smaller_error_than_on_one_side(
    windows: PlanarWindows, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, model = windows.take(windows.find_starts(10)[0], 10), models["graph"]()
    monkeypatch.setattr(model, "count_particles", lambda state: 2)

    def compute_error(*offsets_m: float) -> float:
        last = batch.targets[-1]
        positions = torch.cat([last.position + offset for offset in offsets_m])
        monkeypatch.setattr(model, "predict_particles", lambda state, actions: [replace(last, position=positions)])
        return model.compute_validation_error(batch)

    assert compute_error(0.2, 0.2) == pytest.approx(200, abs=0.1)
    assert compute_error(0.2, -0.2) == pytest.approx(0, abs=0.1)
    assert compute_error(0.2, 0.0) == pytest.approx(0, abs=0.1)
    assert compute_error(0.3, 0.1) == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(
    ("data", "match"), [("validation", "models train on 'train' alone"), ("other", "is of logistics/other, not of")]
)
def test_data_of_other_splits_and_scenes_are_refused(
    data: str, match: str, dataset: Dataset, validation: Dataset, tmp_path: Path
) -> None:
    other_scene = replace(dataset, manifest={**dataset.manifest, "scene": "logistics/other"})
    invalid = validation if data == "validation" else other_scene
    with pytest.raises(GroundError, match=match):
        train_model(ModelTrainingConfig("graph", TINY), [dataset, invalid], [validation], tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_killed_command_resumes(tmp_path: Path, dataset: Dataset, validation: Dataset, ground: Callable[..., Any]) -> None:
    path = tmp_path / "killed"
    words = ("train", dataset.path, "--validation", validation.path, "--out", path)
    words += ("--updates", 20, "--validate-every", 5, "--threads", 1)
    command = ground(*words)
    command.wait_for((path / "last.json").exists)
    command.kill()
    assert 5 <= read_metadata(path, "last.json")["update"] < 20
    code, out, err = ground(*words).finish()
    assert code == 0, err
    assert f"trained model in {path}" in out.replace("\n", " ")
    assert read_metadata(path, "last.json")["finished"] is True
    train_model(ModelTrainingConfig("graph", COMMAND), [dataset], [validation], tmp_path / "uninterrupted")
    assert_equal_weights(load_weights(path, "last-20"), load_weights(tmp_path / "uninterrupted", "last-20"))
    assert_equal_weights(load_checkpoint(path).state_dict(), load_checkpoint(tmp_path / "uninterrupted").state_dict())
