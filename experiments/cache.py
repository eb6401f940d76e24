"""Cache of finished steps and episodes, which several runs share.

The key of an entry is a hash of everything that it depends on: configuration, hashes of inputs,
code, versions of libraries. Files are hard links, as nothing in a run is ever changed in place. A
damaged entry is removed.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sim.utils.errors import BadFile
from sim.utils.files import hash_file, lock_path, read_json, remove_abandoned, write_json

TRACKED_PACKAGES = (
    "torch",
    "numpy",
    "scipy",
    "shapely",
    "pybullet",
    "pyrvo",
    "gymnasium",
    "stable-baselines3",
    "pillow",
    "pyarrow",
)
EXPERIMENT_SOURCES = ("methods/training.py", "methods/method.py", "evaluation")
SOURCE_PATHS = ("sim", "worldmodels", "agents", *(f"experiments/{name}" for name in EXPERIMENT_SOURCES))
ENTRY_FILE = "entry.json"


@cache
def read_package_version(name: str) -> str:
    """Read the version of an installed package; PyBullet may be installed as pybullet-arm64."""
    if name == "pybullet":
        name = importlib.metadata.packages_distributions()[name][0]
    return importlib.metadata.version(name)


@dataclass(frozen=True)
class Cache:
    """A directory of entries; several runs may use it at once."""

    path: Path
    is_writable: bool = True  # otherwise nothing is stored

    def restore(self, content: Mapping[str, Any], get_target: Callable[[str], Path]) -> Any:
        """Restore the files of an entry.

        Args:
            content: all that the entry depends on, beside the environment.
            get_target: path for each file, by its name in the entry.

        Returns:
            The metadata that were stored with it; None where there is no intact entry.
        """
        entry = self._get_entry_path(content)
        try:
            manifest = read_json(entry / ENTRY_FILE)
            is_intact = all(hash_file(entry / name) == expected for name, expected in manifest["files"].items())
        except (BadFile, OSError, KeyError, TypeError, AttributeError):
            is_intact = False
        if not is_intact:
            shutil.rmtree(entry, ignore_errors=True)
            return None
        for name in manifest["files"]:
            _link(entry / name, get_target(name))
        return manifest["metadata"]

    def restore_directory(self, content: Mapping[str, Any], directory: Path, cost_file: Path) -> None:
        """Restore an entry as a directory, and its metadata as costs, unless that exists."""
        if directory.exists():
            return
        temporary = directory.with_name(f".{directory.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        cpu_s = self.restore(content, lambda name: temporary / name)
        if cpu_s is not None:
            write_json(cost_file, cpu_s)
            temporary.rename(directory)

    def store(self, content: Mapping[str, Any], files: Mapping[str, Path], metadata: Any) -> None:
        """Store an entry, unless it exists.

        Nothing is stored after the code was edited: workers may have run the new code.

        Args:
            files: by their names in the entry.
            metadata: anything that JSON can hold, except None.
        """
        entry = self._get_entry_path(content)
        if entry.exists() or not self.is_writable or hash_sources() != describe_environment()["code"]:
            return
        temporary = entry.with_name(f".{entry.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        with lock_path(temporary, f"{temporary} is in use by another process"):
            for name, file in files.items():
                _link(file, temporary / name)
            hashes = {name: hash_file(temporary / name) for name in files}
            write_json(temporary / ENTRY_FILE, {"files": hashes, "metadata": metadata, "content": content})
            try:
                temporary.rename(entry)
            except OSError:  # another run was faster
                shutil.rmtree(temporary)

    def remove_abandoned_entries(self) -> None:
        """Remove what killed processes stored in part; other processes may use the cache meanwhile."""
        remove_abandoned(self.path.glob("*/.*.tmp"))

    def _get_entry_path(self, content: Mapping[str, Any]) -> Path:
        key = hashlib.sha256(json.dumps([content, describe_environment()], sort_keys=True).encode()).hexdigest()[:32]
        return self.path / key[:2] / key


def list_files(directory: Path) -> dict[str, Path]:
    """List the files of a finished step, by name; without logs and locks."""
    paths = {file.relative_to(directory): file for file in sorted(directory.rglob("*")) if file.is_file()}
    return {str(name): file for name, file in paths.items() if not name.name.startswith(".") and "tensorboard" not in name.parts}


def _link(file: Path, target: Path) -> None:
    """Link a file, or copy it where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


@cache
def describe_environment() -> dict[str, str]:
    """Describe what every entry depends on: code, libraries, kind of machine."""
    libraries = {name: read_package_version(name) for name in TRACKED_PACKAGES}
    return {"code": hash_sources(), "python": sys.version.split()[0], "machine": platform.machine(), **libraries}


def hash_sources() -> str:
    """Compute a hash of the present source files that results depend on."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in (root / name for name in SOURCE_PATHS):
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return digest.hexdigest()
