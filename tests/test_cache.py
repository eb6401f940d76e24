import ast
import json
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import experiments.cache as cache_module
from experiments.cache import ENTRY_FILE, TRACKED_PACKAGES, Cache, list_files

CELL = {"what": "collect", "steps": 3}


def made(path: Path) -> Path:
    (path / "at-3").mkdir(parents=True)
    (path / "weights").write_bytes(b"abc")
    (path / "at-3" / "weights").write_bytes(b"def")
    (path / ".lock").touch()
    return path


def test_what_was_kept_is_taken_with_its_cost(tmp_path: Path) -> None:
    cache, cell = Cache(tmp_path / "cache"), made(tmp_path / "cell")
    cache.restore_directory(CELL, tmp_path / "other", tmp_path / "ledger.json")
    assert not (tmp_path / "other").exists()
    cache.store(CELL, list_files(cell), 12.5)
    cache.store(CELL, list_files(cell), 99.0)  # it is there
    cache.restore_directory(CELL, tmp_path / "other", tmp_path / "ledger.json")
    assert {name: file.read_bytes() for name, file in list_files(tmp_path / "other").items()} == {
        "weights": b"abc",
        "at-3/weights": b"def",
    }
    assert json.loads((tmp_path / "ledger.json").read_text()) == 12.5
    cache.restore_directory({**CELL, "steps": 4}, tmp_path / "third", tmp_path / "ledger.json")
    assert not (tmp_path / "third").exists()


def test_nothing_is_added_to_a_closed_cache(tmp_path: Path) -> None:
    cache, cell = Cache(tmp_path / "cache"), made(tmp_path / "cell")
    cache.make_read_only_view().store(CELL, list_files(cell), 12.5)
    assert cache.restore(CELL, lambda name: tmp_path / name) is None
    cache.store(CELL, list_files(cell), 12.5)
    assert cache.make_read_only_view().restore(CELL, lambda name: tmp_path / name) == 12.5


def test_what_is_begun_is_left_as_it_is(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.store(CELL, list_files(made(tmp_path / "cell")), 1.0)
    (tmp_path / "begun").mkdir()
    cache.restore_directory(CELL, tmp_path / "begun", tmp_path / "ledger.json")
    assert not list((tmp_path / "begun").iterdir())
    assert not (tmp_path / "ledger.json").exists()


@pytest.mark.parametrize("damage", ["changed", "missing", "cut short", "no entry", "another content"])
def test_a_damaged_entry_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    cache, cell = Cache(tmp_path / "cache"), made(tmp_path / "cell")
    cache.store(CELL, list_files(cell), 1.0)
    (entry,) = (tmp_path / "cache").rglob(ENTRY_FILE)
    weights = entry.with_name("weights")
    weights.unlink()  # a link: what is written into it would be written into the cell
    if damage != "missing":
        weights.write_bytes(b"abd" if damage == "changed" else b"abc")
    if damage in ("cut short", "another content"):
        entry.write_text('{"files": ' if damage == "cut short" else "[3]")
    if damage == "no entry":
        entry.unlink()
    cache.restore_directory(CELL, tmp_path / "other", tmp_path / "ledger.json")
    assert not (tmp_path / "other").exists()
    cache.store(CELL, list_files(cell), 2.0)  # made again
    cache.restore_directory(CELL, tmp_path / "other", tmp_path / "ledger.json")
    assert len(list_files(tmp_path / "other")) == 2


def test_other_code_is_another_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path / "cache")
    cache.store(CELL, list_files(made(tmp_path / "cell")), 1.0)
    monkeypatch.setattr("experiments.cache.ground", lambda: {"code": "changed"})
    assert cache.restore(CELL, lambda name: tmp_path / "other" / name) is None


def test_code_that_is_edited_meanwhile_adds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers that begin later run what is there by then."""
    cache, cell = Cache(tmp_path / "cache"), made(tmp_path / "cell")
    begun = cache_module.describe_environment()["code"]
    monkeypatch.setattr("experiments.cache.code", lambda: "edited")
    cache.store(CELL, list_files(cell), 1.0)
    assert not list((tmp_path / "cache").rglob(ENTRY_FILE))
    monkeypatch.setattr("experiments.cache.code", lambda: begun)
    cache.store(CELL, list_files(cell), 1.0)
    assert list((tmp_path / "cache").rglob(ENTRY_FILE))


def test_every_library_that_results_come_from_is_part_of_a_cell() -> None:
    """Those that only carry files and settings are not."""
    root, imported = Path(cache_module.__file__).parents[1], set[str]()
    for room in ("sim", "worldmodels", "agents"):
        for file in (root / room).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.partition(".")[0])
    imported -= {*sys.stdlib_module_names, "sim", "worldmodels", "agents", "experiments"}
    carrying = {"array-api-compat", "cattrs", "safetensors", "pyyaml"}
    found = {name.lower().replace("_", "-") for module in imported for name in packages_distributions()[module][:1]}
    assert found - carrying <= set(TRACKED_PACKAGES)
    assert set(TRACKED_PACKAGES) <= found, "a library that nobody imports"
