import ast
import json
import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import experiments.cache as cache_module
from experiments.cache import ENTRY_FILE, TRACKED_PACKAGES, Cache, list_files

CONTENT = {"what": "collect", "steps": 3}


def make_directory(path: Path) -> Path:
    (path / "at-3").mkdir(parents=True)
    (path / "weights").write_bytes(b"abc")
    (path / "at-3" / "weights").write_bytes(b"def")
    (path / ".lock").touch()
    return path


def test_a_stored_entry_is_restored_with_its_cost(tmp_path: Path) -> None:
    cache, directory = Cache(tmp_path / "cache"), make_directory(tmp_path / "step")
    cache.restore_directory(CONTENT, tmp_path / "other", tmp_path / "cost.json")
    assert not (tmp_path / "other").exists()
    cache.store(CONTENT, list_files(directory), 12.5)
    cache.store(CONTENT, list_files(directory), 99.0)  # stored already
    cache.restore_directory(CONTENT, tmp_path / "other", tmp_path / "cost.json")
    assert {name: file.read_bytes() for name, file in list_files(tmp_path / "other").items()} == {
        "weights": b"abc",
        "at-3/weights": b"def",
    }
    assert json.loads((tmp_path / "cost.json").read_text()) == 12.5
    cache.restore_directory({**CONTENT, "steps": 4}, tmp_path / "third", tmp_path / "cost.json")
    assert not (tmp_path / "third").exists()


def test_nothing_is_added_to_a_read_only_view(tmp_path: Path) -> None:
    cache, directory = Cache(tmp_path / "cache"), make_directory(tmp_path / "step")
    Cache(cache.path, is_writable=False).store(CONTENT, list_files(directory), 12.5)
    assert cache.restore(CONTENT, lambda name: tmp_path / name) is None
    cache.store(CONTENT, list_files(directory), 12.5)
    assert Cache(cache.path, is_writable=False).restore(CONTENT, lambda name: tmp_path / name) == 12.5


def test_an_existing_directory_is_left_as_it_is(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.store(CONTENT, list_files(make_directory(tmp_path / "step")), 1.0)
    (tmp_path / "begun").mkdir()
    cache.restore_directory(CONTENT, tmp_path / "begun", tmp_path / "cost.json")
    assert not list((tmp_path / "begun").iterdir())
    assert not (tmp_path / "cost.json").exists()


STORE = """
import pathlib, sys
from experiments import cache
link = cache._link
def link_and_wait(file, target):
    link(file, target)
    print(target.parent, flush=True)
    sys.stdin.read()
cache._link = link_and_wait
cache.Cache(pathlib.Path(sys.argv[1])).store({}, {"weights": pathlib.Path(sys.argv[2])}, 1.0)
"""


def test_entries_of_killed_processes_are_removed_beside_running_ones(tmp_path: Path) -> None:
    file = make_directory(tmp_path / "step") / "weights"
    cache = Cache(tmp_path / "cache")
    command = [sys.executable, "-c", STORE, str(cache.path), str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        temporary = Path(process.stdout.readline().strip())
        assert temporary.name.endswith(f".{process.pid}.tmp")
        cache.remove_abandoned_entries()
        assert list(temporary.iterdir())
        # A process of another machine: its lock is seen, its number is not.
        elsewhere = Path(temporary.rename(temporary.with_name(".entry.99999999.tmp")))
        cache.remove_abandoned_entries()
        assert list(elsewhere.iterdir())
        process.kill()
        process.wait()
    cache.remove_abandoned_entries()
    assert not elsewhere.exists()
    mine = temporary.with_name(f".entry.{os.getpid()}.tmp")
    mine.mkdir()
    cache.remove_abandoned_entries()
    assert mine.exists()
    assert file.read_bytes() == b"abc"  # entries are hard links


@pytest.mark.parametrize("damage", ["changed", "missing", "cut short", "no entry", "another content"])
def test_a_damaged_entry_is_ignored_and_replaced(tmp_path: Path, damage: str) -> None:
    cache, directory = Cache(tmp_path / "cache"), make_directory(tmp_path / "step")
    cache.store(CONTENT, list_files(directory), 1.0)
    (entry,) = (tmp_path / "cache").rglob(ENTRY_FILE)
    weights = entry.with_name("weights")
    weights.unlink()  # a link to the file of the step
    if damage != "missing":
        weights.write_bytes(b"abd" if damage == "changed" else b"abc")
    if damage in ("cut short", "another content"):
        entry.write_text('{"files": ' if damage == "cut short" else "[3]")
    if damage == "no entry":
        entry.unlink()
    cache.restore_directory(CONTENT, tmp_path / "other", tmp_path / "cost.json")
    assert not (tmp_path / "other").exists()
    cache.store(CONTENT, list_files(directory), 2.0)  # stored again
    cache.restore_directory(CONTENT, tmp_path / "other", tmp_path / "cost.json")
    assert len(list_files(tmp_path / "other")) == 2


def test_changed_code_has_different_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache")
    cache.store(CONTENT, list_files(make_directory(tmp_path / "step")), 1.0)
    monkeypatch.setattr("experiments.cache.describe_environment", lambda: {"code": "changed"})
    assert cache.restore(CONTENT, lambda name: tmp_path / "other" / name) is None


def test_nothing_is_stored_if_the_code_changes_during_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that start later import the changed code."""
    cache, directory = Cache(tmp_path / "cache"), make_directory(tmp_path / "step")
    initial = cache_module.describe_environment()["code"]
    monkeypatch.setattr("experiments.cache.hash_sources", lambda: "edited")
    cache.store(CONTENT, list_files(directory), 1.0)
    assert not list((tmp_path / "cache").rglob(ENTRY_FILE))
    monkeypatch.setattr("experiments.cache.hash_sources", lambda: initial)
    cache.store(CONTENT, list_files(directory), 1.0)
    assert list((tmp_path / "cache").rglob(ENTRY_FILE))


def test_every_library_that_affects_results_is_tracked() -> None:
    """Libraries that only handle files and settings are not tracked."""
    root, imported = Path(cache_module.__file__).parents[1], set[str]()
    for package in ("sim", "worldmodels", "agents"):
        for file in (root / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.partition(".")[0])
    imported -= {*sys.stdlib_module_names, "sim", "worldmodels", "agents", "experiments"}
    untracked = {"array-api-compat", "cattrs", "safetensors", "pyyaml"}
    names = {name for module in imported for name in packages_distributions()[module][:1]}
    packages = {name.lower().replace("_", "-").removesuffix("-arm64") for name in names}  # builds of PyBullet
    assert packages - untracked <= set(TRACKED_PACKAGES)
    assert set(TRACKED_PACKAGES) <= packages, "a tracked library is not imported"
