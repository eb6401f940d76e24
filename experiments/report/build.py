"""From a run directory to its report: rows, fidelity, pictures of episodes, 3-D recordings of one success and one failure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.evaluation import episode_of, read_rows
from experiments.ledger import costs
from experiments.report.html import write_report
from experiments.report.summary import best_planner
from experiments.report.topdown import strip
from experiments.viewer.export import save
from experiments.viewer.player import think
from experiments.viewer.take import Take
from sim.dataset import Episode
from sim.errors import BadFile, GroundError
from sim.files import read_json
from sim.policy import PolicyFactory
from sim.scenes import USUAL, parted

STRIP = 8  # episodes in a strip
Arms = Mapping[str, PolicyFactory]


def build_report(path: Path, arms: Arms | None = None) -> Path:
    """Write `report/index.html` and its recordings from what a run directory holds; gives the page's path."""
    config = read_json(path / "config.json") if (path / "config.json").exists() else {}
    return compare([path], path / "report", arms=arms, protocol=config.get("protocol", USUAL))


def compare(
    paths: list[Path], out: Path, split: str | None = None, arms: Arms | None = None, protocol: str | None = None
) -> Path:
    """One report over several runs of the same scene, or over one split or protocol of them. Recordings show what `arms`
    imagined."""
    rows: list[dict[str, Any]] = []
    places: dict[int, Path] = {}
    fidelity: list[dict[str, Any]] = []
    facts: list[tuple[str, str]] = []
    for path in paths:
        if not (path / "config.json").exists():
            raise BadFile(f"{path} is no run directory (config.json is missing)")
        found = [row for row in rows_by(path, protocol) if split in (None, row["split"])]
        rows += found
        places |= {id(row): path / "results" / row["agent"] for row in found}
        fidelity += fidelity_of(path)
        facts += _facts(path)
    if not rows:
        raise GroundError(f"{', '.join(map(str, paths))}: no evaluated episodes yet: evaluate first")
    check_comparable(rows)
    planner = best_planner(rows)
    shown = [row for row in rows if row["agent"] == planner]
    strips = []
    for title, chosen in (
        ("failed", [row for row in shown if not row["success"]]),
        ("solved", [row for row in shown if row["success"]]),
    ):
        items = [(_name(row), _episode(places, row)) for row in chosen[:STRIP]]
        if items:
            strips.append((f"{planner}, {title}: {len(chosen)} of {len(shown)} episodes, the first {len(items)}", strip(items)))
    title = f"{rows[0]['scene']}: {', '.join(dict.fromkeys(row['run'] for row in rows))}"
    names = " ".join(map(str, paths))
    command = f"ground report {names}" if [out] == [path / "report" for path in paths] else f"ground compare {names} --out {out}"
    page = out / "index.html"
    write_report(page, title, rows, fidelity, strips, _recordings(shown, places, out, arms or {}), facts, command)
    return page


def rows_of(path: Path) -> list[dict[str, Any]]:
    """All rows of a run."""
    return read_rows(path / "results")


def fidelity_of(path: Path) -> list[dict[str, Any]]:
    """Open-loop errors of a run's models by horizon, if they were measured."""
    return list(read_json(path / "fidelity.json")) if (path / "fidelity.json").exists() else []


def rows_by(path: Path, protocol: str | None) -> list[dict[str, Any]]:
    """The rows of a run that were played by a protocol; None: all."""
    return [row for row in rows_of(path) if protocol in (None, protocol_of(row))]


def protocol_of(row: dict[str, Any]) -> str:
    return str(row.get("protocol", USUAL))


def check_comparable(rows: list[dict[str, Any]]) -> None:
    """Rows of one scene and one protocol, or an error."""
    scenes = sorted({parted(row["scene"])[0] for row in rows})
    if len(scenes) > 1:
        raise GroundError(f"runs of different scenes cannot be compared: {', '.join(scenes)}")
    protocols = sorted({protocol_of(row) for row in rows})
    if len(protocols) > 1:
        raise GroundError(f"episodes of different protocols cannot be compared: {', '.join(protocols)}; --protocol chooses one")


def _recordings(rows: list[dict[str, Any]], places: dict[int, Path], out: Path, arms: Arms) -> list[tuple[str, str]]:
    """One success and one failure as 3-D pages beside the report."""
    links = []
    for outcome in (True, False):
        row = next((row for row in rows if row["success"] == outcome), None)
        if row is not None:
            name = f"{'solved' if outcome else 'failed'}-{row['split']}-{row['index']}.html"
            take = Take.recorded(row["scene"], _episode(places, row))
            if row["agent"] in arms:
                think(take, arms[row["agent"]]())
            save([take], out / "recordings" / name, title=f"{row['agent']}, {_name(row)}")
            links.append((f"{row['agent']}, {_name(row)}", f"recordings/{name}"))
    return links


def _episode(places: dict[int, Path], row: dict[str, Any]) -> Episode:
    return episode_of(places[id(row)], row)


def _name(row: dict[str, Any]) -> str:
    return f"{row['split']}/{row['index']} {'solved' if row['success'] else 'failed'} in {row['steps']} steps"


def _facts(path: Path) -> list[tuple[str, str]]:
    config = read_json(path / "config.json")
    versions = read_json(path / "versions.json") if (path / "versions.json").exists() else {}
    facts = [("run", str(config.get("name"))), ("seed", str(config.get("seed")))]
    facts += [(name, str(value)) for name, value in versions.items()]
    return facts + [(f"{name}, CPU-seconds", f"{value:.0f}") for name, value in costs(path).items()]
