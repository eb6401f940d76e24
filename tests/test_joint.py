"""One model of several scenes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.config.experiment import ModelTrainingConfig
from experiments.methods.training import train_model
from sim.data.collect import CollectConfig, collect
from sim.data.store import Dataset
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import read_json
from worldmodels.assessment.open_loop import measure_open_loop_error
from worldmodels.model import models
from worldmodels.planar.model import PlanarModel
from worldmodels.planar.windows import PlanarWindows
from worldmodels.training.checkpoint import load_checkpoint
from worldmodels.training.loop import TrainConfig
from worldmodels.training.windows import JointWindows

SCENE, OTHER = "logistics/tote-push", "factory/push-fixture"
PLAN = TrainConfig(updates=6, batch=16, lengths=(2,), validate_every=3, threads=1)


@pytest.fixture(scope="module")
def other_data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """Collect data of the second scene, by split."""
    path = tmp_path_factory.mktemp("other")
    behaviours = (("poke", 1.0),)
    config = {split: CollectConfig(OTHER, 600, 5, split, behaviours, shard_steps=600) for split in ("train", "val")}
    return {split: collect(config[split], path / split, workers=1) for split in config}


@pytest.fixture(scope="module")
def joint(dataset: Dataset, other_data: dict[str, Dataset]) -> JointWindows:
    return JointWindows({SCENE: PlanarWindows(dataset.episodes()), OTHER: PlanarWindows(other_data["train"].episodes())})


def test_a_batch_is_of_one_scene_without_padding_and_scenes_alternate(joint: JointWindows) -> None:
    units_m = []
    for update in range(200):
        batch, repeated = (joint.sample(np.random.default_rng([3, update]), 4, 2) for _ in range(2))
        assert torch.equal(batch.state.position, repeated.state.position)
        units = set(batch.state.context.unit.tolist())
        assert len(units) == 1
        units_m.append(units.pop())
        part = joint.parts[SCENE if units_m[-1] == 1 else OTHER]
        num_dynamic, num_static = part.take(np.arange(1), 1).state.yaw_rate.shape[1], part._context.static_half.shape[1]
        assert (batch.state.yaw_rate.shape[1], batch.state.context.static_half.shape[1]) == (num_dynamic, num_static)
    assert 70 < units_m.count(1) < 130


@pytest.mark.parametrize("name", list(models))
def test_a_joint_model_is_validated_in_every_scene_and_loads_for_each(
    name: str, dataset: Dataset, validation: Dataset, other_data: dict[str, Dataset], tmp_path: Path
) -> None:
    data, validation_data = [dataset, other_data["train"]], [validation, other_data["val"]]
    train_model(ModelTrainingConfig(name, PLAN), data, validation_data, tmp_path / "joint", is_joint=True)
    metadata = read_json(tmp_path / "joint" / "best.json")
    assert metadata["scene"] == sorted((SCENE, OTHER))
    errors = metadata["scenes_mm"]
    assert min(errors.values()) > 0
    assert metadata["validation_mm"] == pytest.approx((errors[SCENE] + errors[OTHER] / 0.2) / 2)
    assert set(metadata["layouts"]) >= dataset.layout_ids | other_data["train"].layout_ids | validation.layout_ids
    for held_out in validation_data:
        model = load_checkpoint(tmp_path / "joint", held_out.scene)
        if isinstance(model, PlanarModel):
            assert measure_open_loop_error(model, PlanarWindows(held_out.episodes()), count=50)[-1].body_mm_median > 0
    with pytest.raises(BadFile, match="was trained on scene"):
        load_checkpoint(tmp_path / "joint", "logistics/other")


def test_joint_training_needs_its_option_and_validation_data_of_every_scene(
    dataset: Dataset, validation: Dataset, other_data: dict[str, Dataset], tmp_path: Path
) -> None:
    data = [dataset, other_data["train"]]
    with pytest.raises(GroundError, match="--scene all takes several"):
        train_model(ModelTrainingConfig("graph", PLAN), data, [validation, other_data["val"]], tmp_path / "joint")
    with pytest.raises(GroundError, match="the same scenes are needed"):
        train_model(ModelTrainingConfig("graph", PLAN), data, [validation], tmp_path / "joint", is_joint=True)
    assert not (tmp_path / "joint").exists()
