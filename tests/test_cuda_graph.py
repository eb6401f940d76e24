"""Gradients from a CUDA graph; most tests need a GPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import PLANAR_MODELS
from helpers import interrupt_at

from experiments.config.experiment import ModelTrainingConfig
from experiments.methods.training import train_model
from sim.data.collect import CollectConfig, collect
from sim.data.store import Dataset
from sim.utils.errors import GroundError
from sim.utils.files import read_json
from worldmodels.model import models
from worldmodels.planar.windows import PlanarWindows
from worldmodels.training.checkpoint import load_checkpoint
from worldmodels.training.cuda_graph import WARMUP_UPDATES, GradientComputer
from worldmodels.training.loop import TrainConfig

on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
CUDA = TrainConfig(updates=12, batch=16, lengths=(2, 4), validate_every=6, device="cuda")


@on_gpu
@pytest.mark.parametrize("scene", ["logistics/tote-push", "logistics/aisle-traffic"])
@pytest.mark.parametrize("name", PLANAR_MODELS)
def test_captured_gradients_equal_eager_gradients(name: str, scene: str, tmp_path: Path) -> None:
    data = collect(CollectConfig(scene, steps=600, shard_steps=600, seed=7), tmp_path / "data", workers=1)
    with torch.device("cuda"):
        windows, model = PlanarWindows(data.episodes()), models[name]()
        model.fit_normalisation(windows)
        for parameter in model.parameters():  # a new model has zero outputs and mostly zero gradients
            torch.nn.init.normal_(parameter, std=0.05)
        captured, eager = GradientComputer(model), GradientComputer(model)
        for update in range(2 * WARMUP_UPDATES + 2):
            batch = windows.sample(np.random.default_rng(update), 16, 3)
            results = []
            for gradients in (captured, lambda batch: eager._compute(batch)):
                torch.manual_seed(update)
                loss = gradients(batch)
                results.append(
                    [loss, *(parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None)]
                )
            torch.testing.assert_close(*results, rtol=1e-3, atol=1e-5)
    assert len(captured._graphs) == 1


@on_gpu
def test_a_training_on_the_gpu_resumes_and_plans_on_the_cpu(dataset: Dataset, validation: Dataset, tmp_path: Path) -> None:
    training = ModelTrainingConfig("graph", CUDA)
    with pytest.raises(InterruptedError):
        train_model(training, [dataset], [validation], tmp_path / "model", progress=interrupt_at(8))
    train_model(training, [dataset], [validation], tmp_path / "model")
    metadata = read_json(tmp_path / "model" / "best.json")
    assert (metadata["finished"], metadata["device"]) == (True, "cuda")
    assert {values.device.type for values in load_checkpoint(tmp_path / "model").parameters()} == {"cpu"}


def test_a_missing_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(GroundError, match="no GPU"):
        TrainConfig(device="cuda").make_device_context()
    with TrainConfig().make_device_context():
        assert torch.zeros(1).device.type == "cpu"
    with pytest.raises(GroundError, match="device is one of"):
        TrainConfig(device="tpu")
