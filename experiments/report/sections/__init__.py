"""One file per measure that the report shows; this one says which there are, in their order."""

from collections.abc import Sequence

from experiments.report.measured import html_of
from experiments.report.sections import (
    aggregates,
    distance,
    efficiency,
    exploitation,
    foreseen,
    ledger,
    profiles,
    regret,
    variations,
)
from experiments.report.summary import Row, on_all_data


def sections(rows: Sequence[Row], command: str) -> list[str]:
    """The page's sections, of what the rows tell."""
    if not rows:
        return []
    whole = on_all_data(rows)
    shown = (
        regret.measured(rows),
        exploitation.measured(rows),
        distance.measured(whole),
        variations.measured(whole),
        ledger.measured(rows),
        efficiency.measured(rows),
        foreseen.measured(rows),
        profiles.measured(whole),
        aggregates.measured(whole),
    )
    return [html_of(measured, command) for measured in shown if measured is not None]
