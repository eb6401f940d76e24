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

PACKAGES = ("torch", "numpy", "scipy", "pybullet", "pyrvo", "gymnasium", "stable-baselines3", "pillow", "pyarrow")
EVALUATION = ("methods/training.py", "methods/method.py", "evaluation")
SOURCES = ("sim", "worldmodels", "agents", *(f"experiments/{name}" for name in EVALUATION))
ENTRY = "entry.json"


class Cache:
    """A directory of entries; several runs may use it at once."""

    def __init__(self, path: Path, adds: bool = True) -> None:
        self._path, self._adds = path, adds

    def closed(self) -> "Cache":
        """The same, to which nothing is added."""
        return Cache(self._path, adds=False)

    def take(self, cell: Mapping[str, Any], place: Callable[[str], Path]) -> Any:
        """Puts a cell's files where `place` says by name, and gives its facts; None where it is not there, or damaged."""
        entry = self._entry(cell)
        try:
            about = read_json(entry / ENTRY)
            whole = all(hash_file(entry / name) == found for name, found in about["files"].items())
        except (BadFile, OSError, KeyError, TypeError, AttributeError):
            whole = False
        if not whole:
            shutil.rmtree(entry, ignore_errors=True)
            return None
        for name in about["files"]:
            _link(entry / name, place(name))
        return about["facts"]

    def fill(self, cell: Mapping[str, Any], directory: Path, ledger: Path) -> None:
        """A cell that is a directory, unless it is begun already; what it has cost goes to the ledger."""
        if directory.exists():
            return
        temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        cpu_s = self.take(cell, lambda name: temporary / name)
        if cpu_s is not None:
            write_json(ledger, cpu_s)
            temporary.rename(directory)

    def keep(self, cell: Mapping[str, Any], files: Mapping[str, Path], facts: Any) -> None:
        """Add a finished cell, unless it is there, or code was edited since this process began: workers that came later ran it.
        facts: anything that JSON can hold, but None."""
        entry = self._entry(cell)
        if entry.exists() or not self._adds or code() != ground()["code"]:
            return
        temporary = entry.with_name(f".{entry.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        for name, file in files.items():
            _link(file, temporary / name)
        content = {"files": {name: hash_file(temporary / name) for name in files}, "facts": facts, "cell": cell}
        write_json(temporary / ENTRY, content)
        try:
            temporary.rename(entry)
        except OSError:  # another run was faster
            shutil.rmtree(temporary)

    def _entry(self, cell: Mapping[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps([cell, ground()], sort_keys=True).encode()).hexdigest()[:32]
        return self._path / key[:2] / key


def files_in(directory: Path) -> dict[str, Path]:
    """What a finished cell's directory holds, by name; logs and locks aside."""
    found = {file.relative_to(directory): file for file in sorted(directory.rglob("*")) if file.is_file()}
    return {str(name): file for name, file in found.items() if not name.name.startswith(".") and "tensorboard" not in name.parts}


def _link(file: Path, to: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    to.parent.mkdir(parents=True, exist_ok=True)
    to.unlink(missing_ok=True)
    try:
        os.link(file, to)
    except OSError:
        shutil.copyfile(file, to)


@cache
def ground() -> dict[str, str]:
    """What every cell depends on: the code, the libraries, and the kind of machine."""
    libraries = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"code": code(), "python": sys.version.split()[0], "machine": platform.machine(), **libraries}


def code() -> str:
    """A digest of the sources as they are now."""
    root, found = Path(__file__).parents[1], hashlib.sha256()
    for source in SOURCES:
        for file in sorted((root / source).rglob("*.py")) or [root / source]:
            found.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return found.hexdigest()
