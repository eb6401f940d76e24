"""What a run was made with: begun, gone on with, and told where code or libraries changed in between."""

import importlib.metadata
import platform
import subprocess
import sys
from dataclasses import asdict
from functools import reduce
from operator import or_
from pathlib import Path

from rich.console import Console

from experiments.cache import TRACKED_PACKAGES, hash_sources
from experiments.config.experiment import ExperimentConfig, read_config
from sim.utils.errors import GroundError
from sim.utils.files import read_json, write_json

RESUMPTIONS_KEY = "gone on with"  # in a run's versions: what changed each time that it was


def start_or_resume(config: ExperimentConfig, path: Path, console: Console) -> None:
    """Save what will be run, or check that it is what was begun here. Code and libraries can have changed since: a run of both is
    gone on with, but it says so, here and in its report."""
    file = path / "config.json"
    if file.exists():
        saved_config, new_config = asdict(read_config(path)), asdict(config)
        changed_keys = sorted(key for key in new_config if saved_config[key] != new_config[key])
        if changed_keys:
            raise GroundError(f"{path} was begun with another {', '.join(changed_keys)}: choose another --out, or remove it")
        record_version_changes(path, console)
        return
    write_json(path / "versions.json", read_versions())
    write_json(file, asdict(config))


def record_version_changes(path: Path, console: Console) -> None:
    """Note with what else than before a run goes on, or went on if it was changed meanwhile."""
    file = path / "versions.json"
    initial_versions = read_json(file) if file.exists() else {}
    resumptions = initial_versions.get(RESUMPTIONS_KEY, [])
    last_versions = reduce(or_, resumptions, initial_versions)
    changed_versions = {name: version for name, version in read_versions().items() if last_versions.get(name) != version}
    if changed_versions.keys() - {"git"}:  # a commit that left the code as it was changes nothing
        write_json(file, {**initial_versions, RESUMPTIONS_KEY: [*resumptions, changed_versions]})
        changes_text = ", ".join(
            f"{name} {last_versions.get(name, 'unknown')} before, {version} now" for name, version in changed_versions.items()
        )
        console.print(
            f"[yellow]{path} was begun with other versions ({changes_text}): what is finished stays as it is[/]", soft_wrap=True
        )


def read_versions() -> dict[str, str]:
    package_versions = {name: importlib.metadata.version(name) for name in TRACKED_PACKAGES}
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    source_hash = hash_sources()[:12]  # tell what a revision does not
    return {
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "git": revision,
        "code": source_hash,
        **package_versions,
    }
