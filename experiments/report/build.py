"""From a run directory to its report: rows, fidelity, pictures of episodes, some of them recorded in 3-D."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import Any

from agents.planning.spec import PlannerSpec
from experiments.compute_costs import costs
from experiments.evaluation.results import episode_file, episode_of, read_rows
from experiments.methods.method import arm_of, label
from experiments.report.failures import SHOWN, worst
from experiments.report.failures import section as failures
from experiments.report.guards import check, left_out, notes
from experiments.report.html import write_report
from experiments.report.kept import DISTANCE, is_kept, keep, kept_rows
from experiments.report.regret import budget_of
from experiments.report.sections import sections
from experiments.report.spaces import TrainingSpaces
from experiments.report.summary import Row, best_planner, key_of, known, method_of, on_all_data, protocol_of
from experiments.report.topdown import colours_say, strip
from experiments.viewer.export import save
from experiments.viewer.player import think
from experiments.viewer.take import Take
from sim.data.store import Dataset, Episode
from sim.layout import Layout
from sim.policy import Policy, PolicyFactory
from sim.scenes.scene import DEFAULT_PROTOCOL
from sim.utils.errors import BadFile, GroundError
from sim.utils.files import read_json

STRIP = 8  # episodes in a strip
FAILURES = 2  # recordings that show what was imagined too
THINKING_S = 15.0  # at most, for a recording: what was imagined is shown until then
PARTS = 100  # of a recording, in the progress that is told
PARTS_SAY = "Plots over arms leave out those that learned from a part of the data: Results and Sample efficiency have them."
Arms = Mapping[str, PolicyFactory]
Told = Callable[[int, int], None]


def build_report(path: Path, arms: Arms | None = None, told: Told = lambda done, total: None, out: Path | None = None) -> Path:
    """Write `report/index.html` and its recordings from what a run directory holds; gives the page's path."""
    config = read_json(path / "config.json") if (path / "config.json").exists() else {}
    return compare(read([path], protocol=config.get("protocol", DEFAULT_PROTOCOL)), out or path / "report", arms, told)


def keep_run(path: Path, out: Path) -> Path:
    """Keep what a report is made of, without episodes, data and models; gives the file of its rows."""
    found = read([path], comparable=False)
    return keep(path, _placed(found), out)


@dataclass(frozen=True)
class Found:
    """What runs of one scene hold, read once: what a terminal prints and what a page shows cannot differ."""

    paths: tuple[Path, ...]
    rows: list[dict[str, Any]]
    places: dict[int, Path]  # of a row, by its id: the directory of its episode
    skipped: list[str]  # what could not be read
    asked: Mapping[str, str]  # options that chose among the rows


def read(
    paths: Sequence[Path], split: str | None = None, protocol: str | None = None, first: int = 0, comparable: bool = True
) -> Found:
    """The rows of runs of one scene, or those of one split or protocol, or of spaces from number `first` on; GroundError where
    they must be comparable and are not."""
    held: dict[Path, list[dict[str, Any]]] = {}
    for path in paths:
        if not (path / "config.json").exists():
            raise BadFile(f"{path} is no run directory (config.json is missing)")
        held[path] = [row for row in rows_by(path, protocol) if split in (None, row["split"]) and row["index"] >= first]
    places = {id(row): path / "results" / row["agent"] for path, found in held.items() for row in found}
    names = dict(zip(held, names_of(list(held)), strict=True))
    rows = _told_apart({names[path]: found for path, found in held.items()})
    skipped = [note for path in paths if (note := left_out(path))]
    asked = {what: str(name) for what, name in (("split", split), ("protocol", protocol), ("first", first)) if name}
    if not rows:
        which = "".join(f" of {what} '{name}'" for what, name in asked.items() if what != "first")
        which += f" from number {first} on" if first else ""
        told = f"{', '.join(map(str, paths))}: no evaluated episodes{which} yet: evaluate first"
        raise GroundError("; ".join(skipped) or told)
    if comparable:
        check({names[path]: found for path, found in held.items()})
    skipped += [f"Of {path} rows alone were kept: its episodes cannot be shown." for path in paths if is_kept(path)]
    return Found(tuple(paths), rows, places, skipped, asked)


def _told_apart(held: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows of several runs, by name, as of one: arms that each run trained for itself, or gave a budget of its own, get its
    name, on all of their data and on parts; an episode that an arm of several runs played in each counts once."""
    if len(held) == 1:
        return list(chain(*held.values()))
    ways: dict[str, set[Any]] = defaultdict(set)
    for name, found in held.items():
        for row in found:
            ways[method_of(row)].add((name if row["env_steps"] else None, budget_of([row], row["agent"])))
    rows, met = list[dict[str, Any]](), set[tuple[str, Any]]()
    for name, found in held.items():
        once = set(met)
        for row in found:
            if len(ways[method_of(row)]) > 1:
                row |= {"agent": f"{row['agent']} ({name})", "method": f"{method_of(row)} ({name})"}
            elif (episode := (row["agent"], key_of(row))) in once:
                continue
            else:
                met.add(episode)
            rows.append(row)
    return rows


def _models_told_apart(held: Mapping[Path, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Models' errors in several runs: those of one name get their runs', unless they are the same."""
    found: dict[str, list[tuple[str, list[dict[str, Any]]]]] = defaultdict(list)
    for run, rows in zip(names_of(list(held)), held.values(), strict=True):
        for model in dict.fromkeys(row["model"] for row in rows):
            found[model].append((run, [row for row in rows if row["model"] == model]))
    told = list[dict[str, Any]]()
    for model, runs in found.items():
        same = all(rows == runs[0][1] for _, rows in runs)
        for run, rows in runs[:1] if same else runs:
            told += [{**row, "model": model if same else f"{model} ({run})"} for row in rows]
    return told


def names_of(paths: Sequence[Path]) -> list[str]:
    """Of directories: their last names, with as many before them as tells all apart."""
    whole = [path.resolve().parts for path in paths]
    deep = next(n for n in count(1) if len({parts[-n:] for parts in whole}) == len(set(whole)))
    return ["/".join(parts[-deep:]) for parts in whole]


def compare(found: Found, out: Path, arms: Arms | None = None, told: Told = lambda done, total: None) -> Path:
    """One report over what was read. Recordings show what `arms` imagined; `told` is how far they are."""
    paths, rows, places = found.paths, found.rows, found.places
    planner = best_planner(rows)
    own = [row for row in rows if row["agent"] == planner]
    shown = [row for row in own if episode_file(places[id(row)], row).exists()]
    solved = [row for row in shown if row["clean"]]
    items = [(_name(row), _episode(places, row)) for row in solved[:STRIP]]
    heading = f"{planner}, solved without violation: {len(solved)} of {len(shown)} episodes, the first {len(items)}"
    names = " ".join(map(str, paths))
    options = "".join(f" --{what} {name}" for what, name in found.asked.items())
    usual = [out] == [path / "report" for path in paths]
    command = f"ground report {names}" if usual else f"ground compare {names}{options} --out {out}"
    bad = worst(shown)[:SHOWN]
    filmed, thought = [*bad, *solved[:1]], [*bad[:FAILURES], *solved[:1]]
    thinkers, silent = _thinkers(thought, arms or {})
    recorded = _recordings(filmed, set(map(id, thought)), places, out, thinkers, told)
    links = {id(row): address for row, (_, address) in recorded}
    page = out / "index.html"
    write_report(
        page,
        f"{rows[0]['scene']}: {', '.join(dict.fromkeys(row['run'] for row in rows))}",
        rows,
        _models_told_apart({path: fidelity_of(path) for path in paths}),
        [(heading, strip(items))] if items else [],
        [link for _, link in recorded],
        [fact for path in paths for fact in _facts(path)],
        command,
        measures=sections(_placed(found), command),
        notes=[*notes(rows), *([PARTS_SAY] if len(on_all_data(rows)) < len(rows) else []), *found.skipped, *silent],
        failures=failures(planner, shown, rows, lambda row: _episode(places, row), links),
        colours=colours_say(episode.layout for _, episode in items),
    )
    return page


def _placed(found: Found) -> list[dict[str, Any]]:
    """The rows, with how far each one's space is from those that its own run trained in; not where that has no data any more."""
    spaces = {path: _training_spaces(path) for path in found.paths}
    far: dict[tuple[Path, str], float] = {}
    for row in found.rows:
        run, layout = found.places[id(row)].parents[1], row["layout_id"]
        if not known(row, DISTANCE) and (trained := spaces[run]) is not None:
            if (run, layout) not in far:
                far[run, layout] = trained.distance(_episode(found.places, row).layout)
            row[DISTANCE] = far[run, layout]
    return found.rows


def _training_spaces(path: Path) -> TrainingSpaces | None:
    trained: dict[str, Layout] = {}
    for manifest in sorted((path / "data").glob("*/manifest.json")):
        dataset = Dataset.open(manifest.parent)
        if dataset.manifest["split"] == "train":
            trained |= {episode.layout.id: episode.layout for episode in dataset.episodes([])}
    return TrainingSpaces(trained.values()) if trained else None


def rows_of(path: Path) -> list[dict[str, Any]]:
    """All rows of a run, or those that were kept of it."""
    return kept_rows(path) or read_rows(path / "results")


def fidelity_of(path: Path) -> list[dict[str, Any]]:
    """Open-loop errors of a run's models by horizon, if they were measured."""
    return list(read_json(path / "fidelity.json")) if (path / "fidelity.json").exists() else []


def rows_by(path: Path, protocol: str | None) -> list[dict[str, Any]]:
    """The rows of a run that were played by a protocol; None: all."""
    return [row for row in rows_of(path) if protocol in (None, protocol_of(row))]


def _recordings(
    rows: list[Row], thought: set[int], places: dict[int, Path], out: Path, thinkers: Mapping[str, Policy], told: Told
) -> list[tuple[Row, tuple[str, str]]]:
    """These episodes as 3-D pages beside the report: the row, and what its link says and leads to. `thought`: ids of the rows
    that show what was imagined."""
    links = []
    for number, row in enumerate(rows):
        training = label("", row.get("train_seed"))
        name = f"{'solved' if row['success'] else 'failed'}-{row['split']}-{row['index']}{training}.html"
        take = Take.recorded(row["scene"], _episode(places, row), row["split"])
        if id(row) in thought and (policy := thinkers.get(arm_of(row))) is not None:
            late = partial(_late, time.monotonic() + THINKING_S)
            think(take, policy, late, partial(_part, told, number, len(rows)))
        title = f"{arm_of(row)}, {_name(row)}"
        save([take], out / "recordings" / name, title)
        told((number + 1) * PARTS, len(rows) * PARTS)
        links.append((row, (title, f"recordings/{name}")))
    return links


def _thinkers(rows: list[Row], arms: Arms) -> tuple[dict[str, Policy], list[str]]:
    """The policies that can think again along these episodes; and which cannot, and why."""
    found, missing = dict[str, Policy](), list[str]()
    for name in dict.fromkeys(arm_of(row) for row in rows if arm_of(row) in arms):
        try:
            found[name] = _uncompiled(arms[name])()
        except GroundError as error:
            missing.append(f"Recordings of {name} show what happened, not what it imagined: {error}.")
    return found, missing


def _uncompiled(factory: PolicyFactory) -> PolicyFactory:
    """For a few episodes compilation takes longer than it saves."""
    return replace(factory, is_compiled=False) if isinstance(factory, PlannerSpec) else factory


def _late(until_s: float) -> bool:
    return time.monotonic() > until_s


def _part(told: Told, number: int, of: int, done: int, total: int) -> None:
    """Of one recording, as a part of all."""
    told(number * PARTS + PARTS * done // total, of * PARTS)


def _episode(places: dict[int, Path], row: Row) -> Episode:
    return episode_of(places[id(row)], row)


def _name(row: Row) -> str:
    return f"{row['split']}/{row['index']} {'solved' if row['success'] else 'failed'} in {row['steps']} steps"


def _facts(path: Path) -> list[tuple[str, str]]:
    config = read_json(path / "config.json")
    versions = read_json(path / "versions.json") if (path / "versions.json").exists() else {}
    facts = [("run", str(config.get("name"))), ("seed", str(config.get("seed")))]
    facts += [(name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)) for name, value in versions.items()]
    return facts + [(f"{name}, CPU-seconds", f"{value:.0f}") for name, value in costs(path).items()]
