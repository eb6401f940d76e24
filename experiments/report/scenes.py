"""Runs of several scenes in one table: what every arm does in each, and how far off its model is."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import rich.box
from rich.table import Table
from rich.text import Text

from experiments.report.summary import (
    SUMMARY_COLUMNS,
    EpisodeResult,
    Summary,
    format_csv,
    format_markdown_table,
    format_number,
    make_summary_record,
    summarise,
)
from sim.scenes.scene import scenes

ERROR_HORIZON_S = 2.0  # of the model's error
SCENE_COLUMNS = ("scene", *SUMMARY_COLUMNS, "model's error, 2 s")


@dataclass(frozen=True)
class SceneTableRow:
    """An arm in one split of one scene, and how far off its model is with what moved beside the robot (open loop, median); nan
    where it has none, or none that was measured."""

    scene: str
    summary: Summary
    error_mm: float
    displacement_mm: float  # how far that moved, median

    @property
    def cells(self) -> tuple[str, ...]:
        dynamic_noun = scenes[self.scene].dynamic_noun
        error = (
            ""
            if math.isnan(self.error_mm)
            else f"{dynamic_noun} {format_number(self.error_mm)} of {format_number(self.displacement_mm)} mm"
        )
        split = self.summary.split
        return (self.scene if split == "test" else f"{self.scene}, {split}", *self.summary.cells, error)

    @property
    def record(self) -> dict[str, Any]:
        error, displacement = (None if math.isnan(value) else value for value in (self.error_mm, self.displacement_mm))
        return {"scene": self.scene, **make_summary_record(self.summary), "error_mm": error, "moved_mm": displacement}


def select_first_split(results: Sequence[EpisodeResult]) -> list[EpisodeResult]:
    """Of a run's rows those of "test", or of what else comes first."""
    split = summarise(results)[0].split
    return [result for result in results if result["split"] == split]


def make_scene_rows(results: Sequence[EpisodeResult], errors: Sequence[EpisodeResult]) -> list[SceneTableRow]:
    """The arms of a run, from its rows of one split; `errors`: those of its models by horizon."""
    result_by_method = {str(result["agent"]): result for result in results}
    error_by_model = {
        str(result["model"]): (float(result["body_mm_median"]), 1e3 * float(result["moved_m_median"]))
        for result in errors
        if result["horizon_s"] == ERROR_HORIZON_S
    }
    unknown_error = math.nan, math.nan
    return [
        SceneTableRow(
            str(result_by_method[summary.method]["scene"]),
            summary,
            *error_by_model.get(_get_planning_model(result_by_method[summary.method]), unknown_error),
        )
        for summary in summarise(results)
    ]


def _get_planning_model(result: EpisodeResult) -> str:
    """The model that an arm plans with, where that is one of those measured: trained on all data."""
    name = str(result["agent"])
    return name.partition("+")[0] if name == result.get("method", name) else ""


def make_scenes_table(scene_rows: Sequence[Sequence[SceneTableRow]]) -> Table:
    """For a terminal, a rule between scenes."""
    table = Table(SCENE_COLUMNS[0], box=rich.box.SIMPLE)
    for column in SCENE_COLUMNS[1:]:
        table.add_column(column, justify="left" if column == "arm" else "right")
    for table_rows in scene_rows:
        for table_row in table_rows:
            scene, *cells = table_row.cells
            table.add_row("" if table_row is not table_rows[0] else Text(scene), *map(Text, cells))
        table.add_section()
    return table


def format_scenes(scene_rows: Sequence[Sequence[SceneTableRow]], output_format: str) -> str:
    """As md, csv or json."""
    table_rows = [table_row for rows_of_scene in scene_rows for table_row in rows_of_scene]
    if output_format == "md":
        return format_markdown_table(SCENE_COLUMNS, [table_row.cells for table_row in table_rows])
    records = [table_row.record for table_row in table_rows]
    return format_csv(records) if output_format == "csv" else json.dumps(records, indent=1)
