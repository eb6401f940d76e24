"""Runs of several scenes in one table: what every arm does in each, and how far off its model is."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rich.box
from rich.table import Table
from rich.text import Text

from experiments.report.summary import COLUMNS, Row, Summary, csv_of, markdown, number, record_of, summarise
from sim.scenes.scene import scenes

HORIZON_S = 2.0  # of the model's error
HEADING = ("scene", *COLUMNS, "model's error, 2 s")


@dataclass(frozen=True)
class Line:
    """An arm in one split of one scene, and how far off its model is with what moved beside the robot (open loop, median); nan
    where it has none, or none that was measured."""

    scene: str
    summary: Summary
    error_mm: float
    moved_mm: float  # how far that moved, median

    @property
    def cells(self) -> tuple[str, ...]:
        other = scenes[self.scene].dynamic_noun
        error = "" if math.isnan(self.error_mm) else f"{other} {number(self.error_mm)} of {number(self.moved_mm)} mm"
        split = self.summary.split
        return (self.scene if split == "test" else f"{self.scene}, {split}", *self.summary.cells, error)

    @property
    def record(self) -> dict[str, Any]:
        error, moved = (None if math.isnan(value) else value for value in (self.error_mm, self.moved_mm))
        return {"scene": self.scene, **record_of(self.summary), "error_mm": error, "moved_mm": moved}


def of_first_split(rows: Sequence[Row]) -> list[Row]:
    """Of a run's rows those of "test", or of what else comes first."""
    split = summarise(rows)[0].split
    return [row for row in rows if row["split"] == split]


def lines_of(rows: Sequence[Row], errors: Sequence[Row]) -> list[Line]:
    """The arms of a run, from its rows of one split; `errors`: those of its models by horizon."""
    of = {str(row["agent"]): row for row in rows}
    off = {
        str(row["model"]): (float(row["load_mm_median"]), 1e3 * float(row["moved_m_median"]))
        for row in errors
        if row["horizon_s"] == HORIZON_S
    }
    unknown = math.nan, math.nan
    return [Line(str(of[arm.agent]["scene"]), arm, *off.get(_foresees(of[arm.agent]), unknown)) for arm in summarise(rows)]


def _foresees(row: Row) -> str:
    """The model that an arm plans with, where that is one of those measured: trained on all data."""
    name = str(row["agent"])
    return name.partition("+")[0] if name == row.get("method", name) else ""


def scenes_table(runs: Sequence[Sequence[Line]]) -> Table:
    """For a terminal, a rule between scenes."""
    table = Table(HEADING[0], box=rich.box.SIMPLE)
    for column in HEADING[1:]:
        table.add_column(column, justify="left" if column == "arm" else "right")
    for lines in runs:
        for line in lines:
            scene, *cells = line.cells
            table.add_row("" if line is not lines[0] else Text(scene), *map(Text, cells))
        table.add_section()
    return table


def scenes_text(runs: Sequence[Sequence[Line]], form: str) -> str:
    """As md, csv or json."""
    lines = [line for run in runs for line in run]
    if form == "md":
        return markdown(HEADING, [line.cells for line in lines])
    records = [line.record for line in lines]
    return csv_of(records) if form == "csv" else json.dumps(records, indent=1)
