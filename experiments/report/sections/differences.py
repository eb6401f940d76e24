"""The best arm against every other, in pairs."""

from collections.abc import Sequence
from typing import Any

from experiments.report.comparison import ALL, COMPARED, COMPARED_SAY, Comparison, comparisons
from experiments.report.measured import file_of
from experiments.report.pieces import section, table
from experiments.report.summary import Row


def differences(rows: Sequence[Row], command: str) -> str:
    """All splits together, the single ones a click away."""
    found = comparisons(rows)
    if not found:
        return ""
    together, single = (
        f'<div class="compared">{table(COMPARED, [one.cells for one in found if (one.split == ALL) == wanted])}</div>'
        for wanted in (True, False)
    )
    file = file_of("differences", [_record(one) for one in found], command)
    return section("Differences", COMPARED_SAY, f"{together}<details><summary>By split</summary>{single}</details>{file}")


def _record(one: Comparison) -> dict[str, Any]:
    """In points."""
    record: dict[str, Any] = {"split": one.split, "agent": one.arm, "other": one.other, "episodes": one.episodes}
    for name, found in (("clean", one.clean), ("success", one.success)):
        mean, low, high = found.interval
        record |= {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_smallest": found.smallest}
        record |= {f"{name}_chance": found.chance, f"{name}_shown": found.shown}
    return record
