"""The exported results of the project are listed and readable, and the included model plans in every scene."""

import re
from pathlib import Path

import pytest

from experiments.report.loading import read_runs
from experiments.report.measures.summary import format_summary_markdown
from sim.scenes.scene import scenes
from worldmodels.training.checkpoint import load_checkpoint

RESULTS = Path(__file__).parent.parent / "experiments" / "results"
MODELS = RESULTS / "models"
EXPORTS = sorted(path.name for path in RESULTS.iterdir() if path.is_dir() and path != MODELS)


def test_every_export_is_listed() -> None:
    names = {
        name
        for row in re.findall(r"^\| (`.+?) \|", (RESULTS / "README.md").read_text("utf-8"), re.M)
        for name in re.findall("`(.+?)`", row)
    }
    assert {*EXPORTS, "models/joint"} <= names


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_is_readable(name: str) -> None:
    loaded = read_runs([RESULTS / name], split="test")
    assert "| scripted |" in format_summary_markdown(loaded.results)


@pytest.mark.parametrize("scene", [name for name in scenes if not scenes[name].make_world])
def test_the_included_joint_model_covers_every_scene(scene: str) -> None:
    assert not load_checkpoint(MODELS / "joint", scene).training
