"""The tables of results: every arm on every split."""

from collections.abc import Sequence
from html import escape

from experiments.report.measured import render_download_link
from experiments.report.pieces import render_section, render_table
from experiments.report.summary import SUMMARY_COLUMNS, SUMMARY_NOTE, EpisodeResult, is_oracle, make_summary_records, summarise


def render_results_section(results: Sequence[EpisodeResult], command: str) -> str:
    summaries = summarise(results)
    tables = []
    for split in dict.fromkeys(summary.split for summary in summaries):
        cells = [summary.cells for summary in summaries if summary.split == split]
        tables.append(f'<h3>{escape(split)}</h3><div class="even">{render_table(SUMMARY_COLUMNS, cells)}</div>')
    oracle_note = " The oracle plans on the true simulator and is the mark to measure by."
    caption = SUMMARY_NOTE + (oracle_note if any(is_oracle(summary.method) for summary in summaries) else "")
    return render_section(
        "Results", caption, "".join(tables) + render_download_link("results", make_summary_records(results), command)
    )
