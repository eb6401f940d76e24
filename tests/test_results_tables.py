"""The tables in the documents are those that their commands print, from rows that are kept with the project."""

import re
import shlex
from pathlib import Path

import pytest

from experiments.evaluation.open_loop_errors import read_open_loop_errors
from experiments.report.loading import read_runs
from experiments.report.measures.summary import format_summary_markdown, select_first_split
from experiments.report.scene_table import format_scenes, make_scene_rows
from sim.scenes.scene import scenes
from worldmodels.training.checkpoint import load_checkpoint

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "experiments" / "results"
MODELS = RESULTS / "models"
TABLE = re.compile(r"^    ground compare (.*)--format md$\n\n((?:^\|.*\n)+)", re.MULTILINE)
FIGURES = TABLE.findall((RESULTS / "README.md").read_text(encoding="utf-8"))


def test_every_experiment_has_its_figures() -> None:
    kept = {str(path.relative_to(ROOT)) for path in RESULTS.iterdir() if path.is_dir() and path != MODELS}
    assert {word for words, _ in FIGURES for word in words.split() if word.startswith("experiments/")} == kept


@pytest.mark.parametrize(("words", "table"), FIGURES)
def test_a_table_is_what_its_command_prints(words: str, table: str) -> None:
    said = shlex.split(words)
    end = next((position for position, word in enumerate(said) if word.startswith("--")), len(said))
    runs, options = [ROOT / word for word in said[:end]], said[end:]
    chosen = dict(zip(options[::2], options[1::2], strict=True))
    split, protocol, scene = (chosen.pop(name, None) for name in ("--split", "--protocol", "--scene"))
    number = int(chosen.pop("--first", 0))
    assert not chosen
    if scene:
        held = {
            run: select_first_split(read_runs([run], split, protocol, number, must_be_comparable=False).results) for run in runs
        }
        lines = [make_scene_rows(rows, read_open_loop_errors(run)) for run, rows in held.items()]
        assert table == format_scenes(lines, "md")
    else:
        assert table == format_summary_markdown(read_runs(runs, split, protocol, number).results)


@pytest.mark.parametrize("scene", scenes)
def test_the_joint_model_that_comes_along_is_of_every_scene(scene: str) -> None:
    assert not load_checkpoint(MODELS / "joint", scene).training
