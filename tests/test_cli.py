import ast
import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from inspect import signature
from pathlib import Path
from typing import Any

import pytest

from experiments import cli
from experiments.cli import runs
from experiments.cli.console import CONSOLE
from sim.data.store import Dataset
from sim.layout import Layout
from sim.scenes.scene import scenes
from sim.utils.files import lock_directory, write_json
from worldmodels.model import models
from worldmodels.training.checkpoint import save_checkpoint

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    """Run `ground WORDS` in this process, in an empty directory: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(CONSOLE, "width", 200)

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["ground", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_ground_without_a_command_lists_all_commands(run: Run) -> None:
    for words in ((), ("--help",), ("-h",)):
        code, out, err = run(*words)
        assert (code, err) == (0, "")
        assert all(f"ground {name}" in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_a_help_text(name: str, run: Run) -> None:
    code, out, err = run(*name.split(), "--help")
    assert (code, err) == (0, "")
    assert f"ground {name}" in out
    assert cli.read_summary(name)[:40] in " ".join(out.split())


def test_short_scene_names_are_enough(run: Run, tmp_path: Path) -> None:
    assert run("layout", "new", "own.json", "--scene", "aisle-traffic")[0] == 0
    code, out, _ = run("layout", "check", "own.json")
    assert (code, "good for logistics/aisle-traffic" in out) == (0, True), "the scene is not found from the layout"
    code, out, _ = run("layout", "check", "own.json", "--scene", "tote-push")
    assert (code, "traffic is not part of this scene" in out) == (2, True)


def test_options_in_messages_exist() -> None:
    """Messages must not name options that no command has."""
    options = {"--help", "--short"}  # the second is an option of git
    for name in cli.COMMANDS:
        options |= {f"--{parameter.replace('_', '-')}" for parameter in signature(cli.load_command(name)).parameters}
    for file in (Path(cli.__file__).parents[1]).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "viewer" not in file.parts:
                unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", node.value)) - options
                assert not unknown, f"{file.name}: {unknown}"


def test_list_prints_all_names(run: Run) -> None:
    code, out, _ = run("list")
    assert code == 0
    assert "logistics/aisle-traffic\n  splits: train, val, test, shift-dense" in out
    for name in ("logistics/tote-push", "shift-two-totes", "graph", "mlp", "simulator", "mppi", "cem", "scripted", "demo"):
        assert name in out


EXPORT = str(Path(__file__).parents[1] / "experiments" / "results" / "demo")  # the export of a run
MISTAKES = [
    (("trian",), "did you mean 'ground train'"),
    (("xyzzy",), "unknown command 'xyzzy'"),
    (("layout",), "'ground layout' needs one of: check, draw, import, export, new"),
    (("layout", "nwe", "a.json"), "'ground layout' needs one of"),
    (("run", "tote-psh"), "did you mean 'tote-push'"),
    (("run", "missing.toml"), "missing.toml cannot be read"),
    (("layout", "new", "a.json", "--split", "tets"), "did you mean 'test'"),
    (("layout", "new", "a.json", "--scene", "logistics/tote-pus"), "did you mean 'logistics/tote-push'"),
    (("layout", "new", "a.json", "--index", "-1"), "layout number -1"),
    (("layout", "new", "a-file/own.json"), "a-file: File exists"),
    (("layout", "draw", "missing.json"), "missing.json: cannot be read"),
    (("layout", "draw", "."), ".: cannot be read"),
    (("layout", "new", ".", "--overwrite"), ". is a directory"),
    (("collect", "out", "--behaviours", "scriptd=1"), "did you mean 'scripted'"),
    (("collect", "out", "--behaviours", "random=much"), "write NAME or NAME=WEIGHT"),
    (("collect", "out", "--behaviours", "random=nan"), "positive weights"),
    (("collect", "out", "--vary", "load_mas=3"), "did you mean 'load_mass_kg'"),
    (("collect", "out", "--vary", "load_mass_kg=3:1"), "rising order"),
    (("collect", "out", "--split", "tets"), "did you mean 'test'"),
    (("collect", "out", "--steps", "-5"), "-5 steps"),
    (("collect", "out", "--cameras", "overhed"), "did you mean 'overhead'"),
    (("collect", "out", "--cameras", "overhead", "--image-size", "0", "9"), "4096 a side are allowed"),
    (("collect", "out", "--vary", "appearance=vared"), "did you mean 'varied'"),
    (("run", "push-fixture", "--protocol", "pusht2"), "did you mean 'pusht'"),
    (("bench", "--scenes", "logistics/tote-pus"), "did you mean 'logistics/tote-push'"),
    (("collect", "out", "--seed", "-1"), "seed -1"),
    (("collect", "out", "--scene", "logistics/tote-pus"), "did you mean 'logistics/tote-push'"),
    (("collect", "out", "--behaviours", "planner=1", "--planner", "no-model"), "no-model holds no trained model"),
    (("collect", "out", "--planner", "no-model"), "--behaviours planner=WEIGHT"),
    (("collect", "out", "--behaviours", "planner=1"), "--planner MODEL"),
    (("collect", "out", "--image-every", "3"), "name --cameras too"),
    (("collect", "a-file"), "a-file: File exists"),
    (("data", "info", "no-data"), "no-data is no dataset"),
    (("layout", "new", "\udcff.json"), "'\\udcff.json' is not UTF-8"),
    (("train", "no-data", "--validation", "no-data", "--out", "out"), "no-data is no dataset"),
    (("train", "no-data", "--validation", "no-data", "--out", "out", "--lengths"), "training needs positive updates"),
    (("eval-model", "no-model", "--data", "no-data"), "no-data is no dataset"),
    (("eval-model", "no-model", "--data", "no-data", "--windows", "-1"), "at least one"),
    (("evaluate", "no-run"), "no-run is no run directory"),
    (("evaluate", EXPORT, "--methods", "oracle"), "needs --oracle N too"),
    (("evaluate", EXPORT, "--first", "-1"), "layouts are counted from 0"),
    (("compare", EXPORT, "--first", "-1"), "layouts are counted from 0"),
    (("compare", EXPORT, "--first", "9999"), "no evaluated episodes from number 9999 on yet"),
    (("evaluate", EXPORT, "--first", "3", "--layout", "own.json"), "leave them out with --layout"),
    (("evaluate", EXPORT, "--split", "test", "--layout", "own.json"), "leave them out with --layout"),
    (("evaluate", EXPORT, "--threshold", "1"), "a rate between 0 and 1"),
    (("evaluate", EXPORT, "--models", "experiments/results/models/joint"), "is an export, without episodes"),
    (("verify", EXPORT), "is an export, without episodes"),
    (("view", "--start", "1", "1", "0"), "belong to one map"),
    (("view", "--method", "scriptd"), "did you mean 'scripted'"),
    (("view", "no-run", "--method", "graph+mppi"), "no-run is no run directory"),
    (("report", "no-run"), "no-run is no run directory"),
    (("compare", "no-run"), "no-run is no run directory"),
    (("compare",), "name at least one run directory"),
    (("view", EXPORT), "is an export, without episodes"),
    (("record", EXPORT, "--out", "one.html"), "is an export, without episodes"),
    (("compare", "no-run", "--scene", "al"), "'all' makes one table"),
    (("run", "demo", "--out", "a-file"), "a-file/demo: Not a directory"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES, ids=[" ".join(words).replace(EXPORT, "export") for words, _ in MISTAKES])
def test_a_mistake_is_reported_in_one_line_without_files(words: tuple[str, ...], message: str, run: Run, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("mine")
    code, out, err = run(*words)
    assert code == 2
    assert message in err
    assert "http" not in out, "a server was started"
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()} - {".lock"}
    assert left == {"a-file"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("layout", "new"), "Missing from ground layout new: PATH out (required)"),
        (("collect", "out", "--stepps", "5"), "did you mean --steps?"),
        (("train", "a", "--updates", "many"), "ground train"),
        (("bench", "x"), "Unrecognized options: x"),
        (("collect", "", "--steps", "300"), "an argument is empty"),
        (("evaluate", "run", "--start", "1", "2"), "Error parsing --start"),
    ],
)
def test_wrong_arguments_are_reported_in_one_line(words: tuple[str, ...], message: str, run: Run) -> None:
    code, _, err = run(*words)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err
    assert err.endswith("--help\n")


def test_mistakes_about_data_and_models_are_reported(run: Run, dataset: Dataset, validation: Dataset) -> None:
    for words, message in (
        (("train", dataset.path, "--validation", validation.path, "--out", "m", "--model", "grph"), "did you mean 'graph'"),
        (("train", dataset.path, "--validation", validation.path, "--out", "m", "--updates", 0), "positive updates"),
        (("train", validation.path, "--validation", validation.path, "--out", "m"), "models train on 'train' alone"),
        (("eval-model", "no-model", "--data", dataset.path), "collected in training layouts"),
        (("eval-model", "no-model", "--data", validation.path), "no-model holds no trained model"),
        (("collect", dataset.path, "--seed", 3), "holds a dataset with another"),
    ):
        code, _, err = run(*words)
        assert (code, err.count("\n")) == (2, 1), err
        assert message in err
    assert not Path("m").exists()


def test_a_model_is_not_added_to_a_run_without_test_data(run: Run, tmp_path: Path) -> None:
    write_json(tmp_path / "run" / "config.json", {"name": "run"})
    save_checkpoint(models["mlp"](), tmp_path / "model", "best", {"scene": "logistics/tote-push"})
    code, _, err = run("evaluate", "run", "--models", "model")
    assert code == 2
    assert "run/data/test is no dataset" in err
    assert not (tmp_path / "run" / "external_models.json").exists()


def test_a_custom_layout_from_file_to_image(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("layout", "new", "own.json", "--split", "shift-two-totes", "--index", 3)
    assert run("layout", "new", "own.json")[0] == 2, "an existing layout was overwritten"
    assert (code, out.strip()) == (0, "own.json")
    expected = replace(scenes["logistics/tote-push"].sample_layout("shift-two-totes", 3), name="own")
    assert Layout.load(tmp_path / "own.json") == expected
    code, out, err = run("layout", "check", "own.json")
    assert (code, out.strip(), err) == (0, f"own.json: good for logistics/tote-push, layout own ({expected.id[:8]})", "")
    for name in ("own.png", "other.svg"):
        code, out, _ = run("layout", "draw", "own.json", *(("--out", name) if name != "own.png" else ()))
        assert (code, out.strip()) == (0, name)
        assert (tmp_path / name).stat().st_size > 3000


def test_a_layout_with_an_unknown_part_is_not_drawn(run: Run, tmp_path: Path) -> None:
    replace(scenes["factory/push-fixture"].sample_layout("test", 0), part="x").save(tmp_path / "own.json")
    code, _, err = run("layout", "draw", "own.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "own.json: part is 'x'" in err
    assert not (tmp_path / "own.png").exists()


def test_export_to_a_map_and_import_do_not_overwrite_files(run: Run, tmp_path: Path) -> None:
    run("layout", "new", "plan.json")
    before = (tmp_path / "plan.json").read_bytes()
    assert run("layout", "export", "plan.json", "--out", "plan.yaml")[0] == 0
    for words in (("export", "plan.json", "--out", "plan.yaml"), ("import", "plan.yaml", "--out", "plan.json")):
        code, _, err = run("layout", *words)
        assert (code, err.count("\n")) == (2, 1), err
        assert f"{words[-1]} exists already" in err
    assert (tmp_path / "plan.json").read_bytes() == before
    for out in (("back.json",), ("plan.json", "--overwrite")):
        code, printed, err = run("layout", "import", "plan.yaml", "--out", *out)
        assert code == 0
        assert "cells free" in err
        assert printed.startswith(f"{out[0]}: layout ")
    assert Layout.load(tmp_path / "plan.json") == Layout.load(tmp_path / "back.json")


def test_every_fault_of_a_custom_layout_is_one_line(run: Run, tmp_path: Path) -> None:
    run("layout", "new", "own.json", "--overwrite")
    content = json.loads((tmp_path / "own.json").read_text())
    content["robot"]["x"] = -3.0
    content["goal"]["y"] = 40.0
    (tmp_path / "own.json").write_text(json.dumps(content))
    code, out, _ = run("layout", "check", "own.json")
    assert code == 2
    lines = out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("own.json: robot at (-3")
    assert lines[1].startswith("own.json: goal at (")
    assert run("layout", "draw", "own.json")[0] == 0, "a faulty layout cannot be drawn"
    code, _, err = run("view", "--layout", "own.json")
    assert (code, err.count("\n")) == (2, 1)
    assert "; " in err


def test_a_run_with_another_scene_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"scene": "logistics/tote-push"}))
    code, _, err = run("view", tmp_path, "--scene", "factory/push-fixture")
    assert code == 2
    assert f"{tmp_path} is of logistics/tote-push" in err


def test_a_dataset_is_described(run: Run, dataset: Dataset) -> None:
    code, out, err = run("data", "info", dataset.path)
    assert (code, err) == (0, "")
    assert "1200 readable steps in 3 shards" in out
    for name, _ in (("approach-and-push", 0), ("scripted-noisy", 0)):
        assert name in out


def test_open_loop_errors_in_training_or_selection_layouts_are_refused(run: Run, validation: Dataset, tmp_path: Path) -> None:
    model = models["graph"]()
    metadata = {"scene": validation.scene, "layouts": sorted(validation.layout_ids)[:1]}
    save_checkpoint(model, tmp_path / "mine", "best", metadata)
    code, _, err = run("eval-model", "mine", "--data", validation.path)
    assert code == 2
    assert "mine was trained or selected on 1 layouts" in err


@pytest.mark.parametrize("command", ["run", "collect", "train"])
def test_a_directory_in_use_is_refused(command: str, run: Run, dataset: Dataset, validation: Dataset, tmp_path: Path) -> None:
    words: dict[str, tuple[Any, ...]] = {
        "run": ("run", "demo", "--out", "."),
        "collect": ("collect", "demo"),
        "train": ("train", dataset.path, "--validation", validation.path, "--out", "demo"),
    }
    with lock_directory(tmp_path / "demo"):
        code, _, err = run(*words[command])
    assert code == 2
    assert "demo is in use by another process" in err
    assert err.count("\n") == 1
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [".lock"]


def test_a_run_in_use_is_not_evaluated(run: Run, tmp_path: Path) -> None:
    write_json(tmp_path / "demo" / "config.json", {"name": "demo"})
    with lock_directory(tmp_path / "demo"):
        code, _, err = run("evaluate", "demo")
    assert code == 2
    assert "demo is in use by another process" in err
    assert sorted(path.name for path in (tmp_path / "demo").iterdir()) == [".lock", "config.json"]


def test_a_run_is_not_resumed_with_another_configuration(run: Run, tmp_path: Path) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "config.json").write_text('{"name": "demo", "seed": 7}')
    code, _, err = run("run", "demo", "--out", ".")
    assert code == 2
    assert "was started with another" in err


@pytest.mark.parametrize("words", [("layout", "new", "own.json"), ("collect", "out", "--steps", "100", "--workers", "1")])
def test_a_full_disk_is_reported_in_one_line(
    words: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_no_space(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", raise_no_space)
    code, _, err = run(*words)
    assert code == 2
    assert "no space left to write" in err
    assert err.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_damaged_dataset_has_exit_code_2(run: Run, dataset: Dataset, tmp_path: Path) -> None:
    shutil.copytree(dataset.path, tmp_path / "copy")
    (tmp_path / "copy" / "shard-00001.parquet").write_bytes(b"PAR1")
    code, out, err = run("data", "info", "copy")
    assert code == 2
    assert "shard-00001.parquet" in out
    assert err.count("\n") == 1


def test_control_c_ends_with_a_message(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "load_experiment", raise_interrupt)
    code, _, err = run("run", "demo")
    assert code == 130
    assert err == "stopped; finished steps are stored, run the same command to resume\n"


def test_a_repeated_list_option_extends_the_list(run: Run, tmp_path: Path) -> None:
    base = ("collect", "data", "--steps", "100", "--workers", "1")
    options = ("--vary", "load_mass_kg=3", "--behaviours", "scripted=1", "--vary=load_friction=0.3", "--behaviours", "random=2")
    code, _, err = run(*base, *options)
    assert code == 0, err
    manifest = Dataset.open(tmp_path / "data").manifest
    assert manifest["variations"] == ["load_mass_kg=3", "load_friction=0.3"]
    assert manifest["behaviours"] == {"scripted": 1, "random": 2}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--steps", "50"), "--steps is given twice"),
        (("--vary", "load_mass_kg=3", "load_mass_kg=4"), "'load_mass_kg' is given twice"),
        (("--vary", "load_mass_kg=3", "--vary", "load_mass_kg=4"), "'load_mass_kg' is given twice"),
        (("--behaviours", "scripted=1", "--behaviours", "scripted=2"), "'scripted' is given twice"),
        (("--cameras", "robot", "robot"), "'robot' is given twice"),
    ],
)
def test_repeated_values_are_refused(run: Run, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    code, _, err = run("collect", "data", "--steps", "100", "--workers", "1", *words)
    assert (code, err.count("\n")) == (2, 1), err
    assert message in err
    assert not (tmp_path / "data").exists()
