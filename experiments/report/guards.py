"""What keeps rows from being compared, and what a reader must know where they are: one line each, with what to do."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from experiments.evaluation.results import unreadable
from experiments.report.pairs import ranked
from experiments.report.regret import budget_of
from experiments.report.summary import Episode, Row, key_of, known, number, protocol_of
from sim.scenes.scene import split_scene_id
from sim.utils.errors import GroundError
from sim.variation import Variation

ALIKE = 0.03  # relative difference of env steps that is none: learners stop at full batches


def check(runs: Mapping[str, Sequence[Row]]) -> None:
    """GroundError where runs, by name, cannot be compared: of other scenes, spaces or physics, or without a shared episode."""
    rows = [row for own in runs.values() for row in own]
    scenes: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        scene, _ = split_scene_id(row["scene"])
        scenes[scene] = list(dict.fromkeys([*scenes[scene], row["run"]]))
    if len(scenes) > 1:
        told = "; ".join(f"{', '.join(runs)} in {scene}" for scene, runs in sorted(scenes.items()))
        raise GroundError(f"runs of different scenes cannot be compared: {told}: name runs of one scene")
    protocols = sorted({protocol_of(row) for row in rows})
    if len(protocols) > 1:
        raise GroundError(f"episodes of different protocols cannot be compared: {', '.join(protocols)}; --protocol chooses one")
    _same_spaces(rows)
    _same_physics(rows)
    _shared(runs)


def _same_spaces(rows: Sequence[Row]) -> None:
    found: dict[tuple[str, int], Row] = {}
    for row in rows:
        first = found.setdefault((row["split"], row["index"]), row)
        if first["layout_id"] != row["layout_id"]:
            where = f"{row['split']}/{row['index']}"
            raise GroundError(
                f"{where} is another space for {row['agent']} in {row['run']} than for {first['agent']} in {first['run']}: "
                "the split was drawn differently in between: evaluate the older one again in a new run"
            )


def _same_physics(rows: Sequence[Row]) -> None:
    names = [field.name for field in fields(Variation)]
    found: dict[tuple[str, int], Row] = {}
    for row in rows:
        first = found.setdefault((row["layout_id"], row["seed"]), row)
        other = [name for name in names if known(row, name) and known(first, name) and row[name] != first[name]]
        if other:
            raise GroundError(
                f"{row['split']}/{row['index']} had another {', '.join(other)} for {row['agent']} in {row['run']} than for "
                f"{first['agent']} in {first['run']}: runs of different protocols cannot be compared: evaluate both with the "
                "same variations"
            )


def _shared(runs: Mapping[str, Sequence[Row]]) -> None:
    met = {run: set(map(key_of, rows)) for run, rows in runs.items() if rows}
    for run, episodes in met.items():
        others = set[Episode]().union(*(episodes for other, episodes in met.items() if other != run))
        if len(met) > 1 and not episodes & others:
            spaces = {layout for layout, _ in episodes} & {layout for layout, _ in others}
            why = "the same spaces, but with other seeds" if spaces else "no space in common"
            raise GroundError(
                f"{run} shares no episode with the other runs ({why}): evaluate all of them on the same splits "
                "(ground evaluate RUN --split SPLIT), of experiments with one seed"
            )


def notes(rows: Sequence[Row]) -> list[str]:
    """What was not equal between arms: search budgets, experience, episodes."""
    told = (_search_note(rows), _experience_note(rows), *_episode_notes(rows), _apart_note(rows))
    return [note for note in told if note]


def _search_note(rows: Sequence[Row]) -> str:
    sizes = {arm: " × ".join(map(str, budget[1:])) for arm in ranked(rows) if (budget := budget_of(rows, arm)) is not None}
    told = _unlike(sizes)
    return f"Search budgets differ (samples × iterations × horizon): {told}." if told else ""


def _experience_note(rows: Sequence[Row]) -> str:
    steps = {arm: max(float(row["env_steps"]) for row in rows if row["agent"] == arm) for arm in ranked(rows)}
    learners = {arm: value for arm, value in steps.items() if value > 0}
    if not learners or max(learners.values()) <= (1 + ALIKE) * min(learners.values()):
        return ""
    return f"Experience differs (env steps): {_unlike({arm: number(value) for arm, value in learners.items()})}."


def _unlike(values: Mapping[str, str]) -> str:
    """Which arms have which value; nothing where all have the same."""
    arms: dict[str, list[str]] = defaultdict(list)
    for arm, value in values.items():
        arms[value].append(arm)
    return "; ".join(f"{value}: {', '.join(own)}" for value, own in arms.items()) if len(arms) > 1 else ""


def _apart_note(rows: Sequence[Row]) -> str:
    """Arms that cannot be compared with the best one."""
    met = {arm: {key_of(row) for row in rows if row["agent"] == arm} for arm in ranked(rows)}
    best = next(iter(met), "")
    apart = [arm for arm, episodes in met.items() if not episodes & met[best]]
    return f"No episode is shared with {best} by {', '.join(apart)}: they cannot be compared." if apart else ""


def _episode_notes(rows: Sequence[Row]) -> list[str]:
    met: dict[tuple[str, str], set[Episode]] = defaultdict(set)
    for row in rows:
        met[str(row["split"]), str(row["agent"])].add(key_of(row))
    splits, arms = dict.fromkeys(split for split, _ in met), ranked(rows)
    counts = {split: {arm: len(met[split, arm]) for arm in arms} for split in splits}
    unequal: dict[str, list[str]] = defaultdict(list)
    for split, of in counts.items():
        most = max(of.values())
        if few := [f"{arm} {count}" for arm, count in of.items() if count < most]:
            unequal[f"{', '.join(few)} of {most}"].append(split)
    return [
        f"Not every arm played all episodes of {', '.join(splits)}: {told}. Differences are over shared episodes."
        for told, splits in unequal.items()
    ]


def left_out(run: Path) -> str:
    """What of a run's rows cannot be read, and what to do; nothing: ""."""
    files = unreadable(run / "results")
    if not files:
        return ""
    return (
        f"{len(files)} rows of {run} are damaged or of another version and left out (the first: {files[0].parent.name}/"
        f"{files[0].stem}): the command that evaluated them plays them again"
    )
