"""Runs of several scenes in one table: every method in each scene, and the error of its model."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import rich.box
from rich.table import Table
from rich.text import Text

from experiments.report.measures.formats import format_csv, format_markdown_table, format_number, replace_nan
from experiments.report.measures.summary import SUMMARY_COLUMNS, Results, Summary, get_base_method, make_summary_record, summarise
from sim.scenes.scene import scenes

ERROR_HORIZON_S = 2.0  # of the model's error
SCENE_COLUMNS = ("scene", *SUMMARY_COLUMNS, "open-loop error, 2 s")


@dataclass(frozen=True)
class SceneTableRow:
    """A method in one split of a scene, and the median open-loop error of its model.

    Nan where there is none.
    """

    scene: str
    summary: Summary
    error_mm: float  # of the bodies that move beside the robot
    displacement_mm: float  # how far they moved, median

    @property
    def cells(self) -> tuple[str, ...]:
        """Text for SCENE_COLUMNS."""
        noun = scenes[self.scene].dynamic_noun
        error = f"{noun} {format_number(self.error_mm)} of {format_number(self.displacement_mm)} mm"
        scene = self.scene if self.summary.split == "test" else f"{self.scene}, {self.summary.split}"
        return (scene, *self.summary.cells, "" if math.isnan(self.error_mm) else error)

    @property
    def record(self) -> dict[str, Any]:
        errors = replace_nan({"error_mm": self.error_mm, "moved_mm": self.displacement_mm})
        return {"scene": self.scene, **make_summary_record(self.summary), **errors}


def make_scene_rows(results: Results, errors: Sequence[Mapping[str, Any]]) -> list[SceneTableRow]:
    """Make the rows of a run.

    Args:
        results: of one split.
        errors: open-loop errors of the run's models, by horizon.
    """
    result_by_method = {result.method: result for result in results}
    shown = [error for error in errors if error["horizon_s"] == ERROR_HORIZON_S]
    error_by_model = {error["model"]: (error["body_mm_median"], 1e3 * error["moved_m_median"]) for error in shown}
    rows = []
    for summary in summarise(results):
        result = result_by_method[summary.method]
        is_measured = result.method == get_base_method(result)  # models are measured on all data
        model = result.method.partition("+")[0] if is_measured else ""
        rows.append(SceneTableRow(result.scene, summary, *error_by_model.get(model, (math.nan, math.nan))))
    return rows


def make_scenes_table(rows_by_run: Sequence[Sequence[SceneTableRow]]) -> Table:
    """Make the table for a terminal, with a rule between scenes."""
    table = Table(SCENE_COLUMNS[0], box=rich.box.SIMPLE)
    for column in SCENE_COLUMNS[1:]:
        table.add_column(column, justify="left" if column == "method" else "right")
    for rows in rows_by_run:
        for row in rows:
            scene, *cells = row.cells
            table.add_row("" if row is not rows[0] else Text(scene), *map(Text, cells))
        table.add_section()
    return table


def format_scenes(rows_by_run: Sequence[Sequence[SceneTableRow]], output_format: str) -> str:
    """Format the table as md, csv or json."""
    rows = list(chain(*rows_by_run))
    if output_format == "md":
        return format_markdown_table(SCENE_COLUMNS, [row.cells for row in rows])
    records = [row.record for row in rows]
    return format_csv(records) if output_format == "csv" else json.dumps(records, indent=1)
