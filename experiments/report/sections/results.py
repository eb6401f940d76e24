"""The tables of results: every arm on every split."""

from collections.abc import Sequence
from html import escape

from experiments.report.measured import file_of
from experiments.report.pieces import section, table
from experiments.report.summary import COLUMNS, COLUMNS_SAY, Row, is_oracle, summarise, summary_records


def results(rows: Sequence[Row], command: str) -> str:
    summaries = summarise(rows)
    tables = []
    for split in dict.fromkeys(summary.split for summary in summaries):
        cells = [summary.cells for summary in summaries if summary.split == split]
        tables.append(f'<h3>{escape(split)}</h3><div class="even">{table(COLUMNS, cells)}</div>')
    oracle = " The oracle plans on the true simulator and is the mark to measure by."
    says = COLUMNS_SAY + (oracle if any(is_oracle(summary.agent) for summary in summaries) else "")
    return section("Results", says, "".join(tables) + file_of("results", summary_records(rows), command))
