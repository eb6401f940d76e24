"""The best arm against every other, in pairs."""

from collections.abc import Sequence
from typing import Any

from experiments.report.comparison import ALL_SPLITS, COMPARISON_COLUMNS, COMPARISON_NOTE, Comparison, compare_methods
from experiments.report.measured import render_download_link
from experiments.report.pieces import render_section, render_table
from experiments.report.summary import EpisodeResult


def render_differences_section(results: Sequence[EpisodeResult], command: str) -> str:
    """All splits together, the single ones a click away."""
    comparisons = compare_methods(results)
    if not comparisons:
        return ""
    overall_html, by_split_html = (
        f'<div class="compared">{render_table(COMPARISON_COLUMNS, [comparison.cells for comparison in comparisons if (comparison.split == ALL_SPLITS) == is_overall])}</div>'
        for is_overall in (True, False)
    )
    download_html = render_download_link(
        "differences", [_make_comparison_record(comparison) for comparison in comparisons], command
    )
    return render_section(
        "Differences",
        COMPARISON_NOTE,
        f"{overall_html}<details><summary>By split</summary>{by_split_html}</details>{download_html}",
    )


def _make_comparison_record(comparison: Comparison) -> dict[str, Any]:
    """In points."""
    record: dict[str, Any] = {
        "split": comparison.split,
        "agent": comparison.method_a,
        "other": comparison.method_b,
        "episodes": comparison.episodes,
    }
    for name, difference in (("clean", comparison.safe_success), ("success", comparison.success)):
        mean, low, high = difference.interval
        record |= {name: mean, f"{name}_low": low, f"{name}_high": high, f"{name}_smallest": difference.min_detectable}
        record |= {f"{name}_chance": difference.p_value, f"{name}_shown": difference.is_significant}
    return record
