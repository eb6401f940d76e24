"""Versions of code and libraries of a run, and their changes when it was resumed."""

import platform
import subprocess
import sys
from dataclasses import asdict
from functools import reduce
from operator import or_
from pathlib import Path

from rich.console import Console

from experiments.cache import TRACKED_PACKAGES, hash_sources, read_package_version
from experiments.config.experiment import ExperimentConfig, read_config
from sim.utils.errors import GroundError
from sim.utils.files import read_json, write_json

RESUMPTIONS_KEY = "gone on with"  # key in versions.json; its value lists the changes at each resumption


def start_or_resume(config: ExperimentConfig, path: Path, console: Console) -> None:
    """Save an experiment in a run directory, or check that the directory holds the same experiment.

    Code and libraries may have changed. Then the run resumes, and its report shows the changes.

    Raises:
        GroundError: the directory holds another experiment.
    """
    file = path / "config.json"
    if not file.exists():
        write_json(path / "versions.json", read_versions())
        write_json(file, asdict(config))
        return
    saved = asdict(read_config(path))
    if changed := sorted(key for key, value in asdict(config).items() if saved[key] != value):
        raise GroundError(f"{path} was started with another {', '.join(changed)}: choose another --out, or remove it")
    record_version_changes(path, console)


def record_version_changes(path: Path, console: Console) -> None:
    """Record in a run the versions that changed since it was started or last resumed."""
    file = path / "versions.json"
    initial = read_json(file, {RESUMPTIONS_KEY: [{}]}) if file.exists() else {}
    resumptions = initial.get(RESUMPTIONS_KEY, [])
    last = reduce(or_, resumptions, initial)
    changed = {name: version for name, version in read_versions().items() if last.get(name) != version}
    if changed.keys() - {"git"}:  # a commit alone may leave the code unchanged
        write_json(file, {**initial, RESUMPTIONS_KEY: [*resumptions, changed]})
        changes = ", ".join(f"{name} {last.get(name, 'unknown')} before, {version} now" for name, version in changed.items())
        message = f"{path} was started with other versions ({changes}): finished steps are not repeated"
        console.print(f"[yellow]{message}[/]", soft_wrap=True)


def read_versions() -> dict[str, str]:
    """Read the versions of Python, of the code and of the libraries that results depend on."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    try:
        process = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
        revision = process.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    return {
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "git": revision,
        "code": hash_sources()[:12],  # the revision does not show uncommitted changes
        **{name: read_package_version(name) for name in TRACKED_PACKAGES},
    }
