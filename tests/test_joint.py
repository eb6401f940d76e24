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
def other(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The other scene's data, by split."""
    path = tmp_path_factory.mktemp("other")
    behaviours = (("poke", 1.0),)
    config = {split: CollectConfig(OTHER, 600, 5, split, behaviours, shard_steps=600) for split in ("train", "val")}
    return {split: collect(config[split], path / split, workers=1) for split in config}


@pytest.fixture(scope="module")
def joint(dataset: Dataset, other: dict[str, Dataset]) -> JointWindows:
    return JointWindows({SCENE: PlanarWindows(dataset.episodes()), OTHER: PlanarWindows(other["train"].episodes())})


def test_a_batch_is_of_one_scene_unpadded_and_every_scene_has_its_turn(joint: JointWindows) -> None:
    turns = []
    for update in range(200):
        batch, again = (joint.sample(np.random.default_rng([3, update]), 4, 2) for _ in range(2))
        assert torch.equal(batch.state.position, again.state.position)
        units = set(batch.state.context.unit.tolist())
        assert len(units) == 1
        turns.append(units.pop())
        alone = joint.parts[SCENE if turns[-1] == 1 else OTHER]
        movers, static = alone.take(np.arange(1), 1).state.yaw_rate.shape[1], alone._context.static_half.shape[1]
        assert (batch.state.yaw_rate.shape[1], batch.state.context.static_half.shape[1]) == (movers, static)
    assert 70 < turns.count(1) < 130


@pytest.mark.parametrize("name", list(models))
def test_a_joint_model_is_judged_in_every_scene_and_plans_in_each(
    name: str, dataset: Dataset, validation: Dataset, other: dict[str, Dataset], tmp_path: Path
) -> None:
    data, judging = [dataset, other["train"]], [validation, other["val"]]
    train_model(ModelTrainingConfig(name, PLAN), data, judging, tmp_path / "joint", is_joint=True)
    about = read_json(tmp_path / "joint" / "best.json")
    assert about["scene"] == sorted((SCENE, OTHER))
    errors = about["scenes_mm"]
    assert min(errors.values()) > 0
    assert about["validation_mm"] == pytest.approx((errors[SCENE] + errors[OTHER] / 0.2) / 2)
    assert set(about["layouts"]) >= dataset.layout_ids | other["train"].layout_ids | validation.layout_ids
    for held_out in judging:
        model = load_checkpoint(tmp_path / "joint", held_out.scene)
        if isinstance(model, PlanarModel):
            assert measure_open_loop_error(model, PlanarWindows(held_out.episodes()), count=50)[-1].body_mm_median > 0
    with pytest.raises(BadFile, match="was trained on scene"):
        load_checkpoint(tmp_path / "joint", "logistics/other")


def test_several_scenes_are_wanted_by_name_and_judged_alike(
    dataset: Dataset, validation: Dataset, other: dict[str, Dataset], tmp_path: Path
) -> None:
    data = [dataset, other["train"]]
    with pytest.raises(GroundError, match="--scene all takes several"):
        train_model(ModelTrainingConfig("graph", PLAN), data, [validation, other["val"]], tmp_path / "joint")
    with pytest.raises(GroundError, match="the same scenes are needed"):
        train_model(ModelTrainingConfig("graph", PLAN), data, [validation], tmp_path / "joint", is_joint=True)
    assert not (tmp_path / "joint").exists()
