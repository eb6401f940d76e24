"""Finished cells of experiments by content: what another experiment has made already is taken over instead of made again.

A cell is named by everything that it depends on: its configuration, digests of its inputs, the code, versions of libraries.
Its files are hard links, which costs no space; nothing in a run is ever changed in place. A damaged entry is as good as none.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sim.utils.errors import BadFile
from sim.utils.files import hash_file, read_json, write_json

TRACKED_PACKAGES = ("torch", "numpy", "scipy", "pybullet", "pyrvo", "gymnasium", "stable-baselines3", "pillow", "pyarrow")
EVALUATION_MODULES = ("methods/training.py", "methods/method.py", "evaluation")
SOURCE_PATHS = ("sim", "worldmodels", "agents", *(f"experiments/{name}" for name in EVALUATION_MODULES))
ENTRY_FILE = "entry.json"


class Cache:
    """A directory of entries; several runs may use it at once."""

    def __init__(self, path: Path, is_writable: bool = True) -> None:
        self._path, self._is_writable = path, is_writable

    def make_read_only_view(self) -> "Cache":
        """The same, to which nothing is added."""
        return Cache(self._path, is_writable=False)

    def restore(self, content: Mapping[str, Any], get_target: Callable[[str], Path]) -> Any:
        """Puts a cell's files where `place` says by name, and gives its facts; None where it is not there, or damaged."""
        entry = self._get_entry_path(content)
        try:
            manifest = read_json(entry / ENTRY_FILE)
            is_intact = all(hash_file(entry / name) == expected_hash for name, expected_hash in manifest["files"].items())
        except (BadFile, OSError, KeyError, TypeError, AttributeError):
            is_intact = False
        if not is_intact:
            shutil.rmtree(entry, ignore_errors=True)
            return None
        for name in manifest["files"]:
            _link(entry / name, get_target(name))
        return manifest["facts"]

    def restore_directory(self, content: Mapping[str, Any], directory: Path, cost_file: Path) -> None:
        """A cell that is a directory, unless it is begun already; what it has cost goes to the ledger."""
        if directory.exists():
            return
        temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        cpu_s = self.restore(content, lambda name: temporary / name)
        if cpu_s is not None:
            write_json(cost_file, cpu_s)
            temporary.rename(directory)

    def store(self, content: Mapping[str, Any], files: Mapping[str, Path], metadata: Any) -> None:
        """Add a finished cell, unless it is there, or code was edited since this process began: workers that came later ran it.
        facts: anything that JSON can hold, but None."""
        entry = self._get_entry_path(content)
        if entry.exists() or not self._is_writable or hash_sources() != describe_environment()["code"]:
            return
        temporary = entry.with_name(f".{entry.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        for name, file in files.items():
            _link(file, temporary / name)
        manifest = {"files": {name: hash_file(temporary / name) for name in files}, "facts": metadata, "cell": content}
        write_json(temporary / ENTRY_FILE, manifest)
        try:
            temporary.rename(entry)
        except OSError:  # another run was faster
            shutil.rmtree(temporary)

    def _get_entry_path(self, content: Mapping[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps([content, describe_environment()], sort_keys=True).encode()).hexdigest()[:32]
        return self._path / key[:2] / key


def list_files(directory: Path) -> dict[str, Path]:
    """What a finished cell's directory holds, by name; logs and locks aside."""
    paths = {file.relative_to(directory): file for file in sorted(directory.rglob("*")) if file.is_file()}
    return {str(name): file for name, file in paths.items() if not name.name.startswith(".") and "tensorboard" not in name.parts}


def _link(file: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


@cache
def describe_environment() -> dict[str, str]:
    """What every cell depends on: the code, the libraries, and the kind of machine."""
    libraries = {name: importlib.metadata.version(name) for name in TRACKED_PACKAGES}
    return {"code": hash_sources(), "python": sys.version.split()[0], "machine": platform.machine(), **libraries}


def hash_sources() -> str:
    """A digest of the sources as they are now."""
    root, source_hash = Path(__file__).parents[1], hashlib.sha256()
    for source in SOURCE_PATHS:
        for file in sorted((root / source).rglob("*.py")) or [root / source]:
            source_hash.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return source_hash.hexdigest()
