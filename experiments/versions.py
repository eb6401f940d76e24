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

from experiments.cache import PACKAGES, code
from experiments.config.experiment import ExperimentConfig, config_of
from sim.utils.errors import GroundError
from sim.utils.files import read_json, write_json

SINCE = "gone on with"  # in a run's versions: what changed each time that it was


def begin(config: ExperimentConfig, path: Path, console: Console) -> None:
    """Save what will be run, or check that it is what was begun here. Code and libraries can have changed since: a run of both is
    gone on with, but it says so, here and in its report."""
    file = path / "config.json"
    if file.exists():
        found, wanted = asdict(config_of(path)), asdict(config)
        other = sorted(key for key in wanted if found[key] != wanted[key])
        if other:
            raise GroundError(f"{path} was begun with another {', '.join(other)}: choose another --out, or remove it")
        go_on(path, console)
        return
    write_json(path / "versions.json", versions())
    write_json(file, asdict(config))


def go_on(path: Path, console: Console) -> None:
    """Note with what else than before a run goes on, or went on if it was changed meanwhile."""
    file = path / "versions.json"
    before = read_json(file) if file.exists() else {}
    since = before.get(SINCE, [])
    last = reduce(or_, since, before)
    now = {name: version for name, version in versions().items() if last.get(name) != version}
    if now.keys() - {"git"}:  # a commit that left the code as it was changes nothing
        write_json(file, {**before, SINCE: [*since, now]})
        changed = ", ".join(f"{name} {last.get(name, 'unknown')} before, {version} now" for name, version in now.items())
        console.print(
            f"[yellow]{path} was begun with other versions ({changed}): what is finished stays as it is[/]", soft_wrap=True
        )


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    try:
        revision = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        revision = "unknown"
    edits = code()[:12]  # tell what a revision does not
    return {"python": sys.version.split()[0], "machine": platform.machine(), "git": revision, "code": edits, **found}
