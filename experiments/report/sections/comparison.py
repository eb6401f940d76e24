"""The best method against every other, in pairs."""

from collections.abc import Sequence
from typing import Any

from experiments.evaluation.results import EpisodeResult
from experiments.report.measures.comparison import ALL_SPLITS, COMPARISON_COLUMNS, COMPARISON_NOTE, Comparison, compare_methods
from experiments.report.measures.formats import make_interval_record
from experiments.report.sections.elements import render_download_link, render_section, render_table


def render_differences_section(results: Sequence[EpisodeResult], command: str) -> str:
    """Render the differences over all splits, and those of each split in a table that opens."""
    comparisons = compare_methods(results)
    if not comparisons:
        return ""
    pooled, by_split = (
        [comparison.cells for comparison in comparisons if (comparison.split == ALL_SPLITS) == is_pooled]
        for is_pooled in (True, False)
    )
    details = f"<details><summary>By split</summary>{_render_comparisons(by_split)}</details>"
    link = render_download_link("differences", list(map(_make_comparison_record, comparisons)), command)
    return render_section("Differences", COMPARISON_NOTE, _render_comparisons(pooled) + details + link)


def _render_comparisons(cells: Sequence[Sequence[str]]) -> str:
    return f'<div class="compared">{render_table(COMPARISON_COLUMNS, cells)}</div>'


def _make_comparison_record(comparison: Comparison) -> dict[str, Any]:
    """Make plain values, in percentage points."""
    methods = {"method": comparison.method_a, "other": comparison.method_b}
    record: dict[str, Any] = {"split": comparison.split, **methods, "episodes": comparison.episodes}
    for name, difference in (("safe_success", comparison.safe_success), ("success", comparison.success)):
        record |= make_interval_record(name, difference.interval)
        record |= {f"{name}_min_detectable": difference.min_detectable, f"{name}_p_value": difference.p_value}
        record |= {f"{name}_is_significant": difference.is_significant}
    return record
