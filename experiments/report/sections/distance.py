"""Success by how far spaces are from those trained in."""

from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from experiments.report.kept import DISTANCE_KEY
from experiments.report.measured import RATES_NOTE, ReportSection, assign_method_colours
from experiments.report.sections.bins import bin_results, flatten_bin, make_rate_cells, make_rates_figure
from experiments.report.spaces import DESCRIPTOR_NOTE
from experiments.report.summary import EpisodeResult, is_known, summarise


def build_layout_distance_section(results: Sequence[EpisodeResult]) -> ReportSection | None:
    """Of rows that tell their distance."""
    results_with_distance = [result for result in results if is_known(result, DISTANCE_KEY)]
    bins = bin_results(results_with_distance, itemgetter(DISTANCE_KEY), "distance") if results_with_distance else []
    if not bins:
        return None
    figure = make_rates_figure(bins, assign_method_colours(results), "distance to the nearest training space")
    figure.update_xaxes(type="log", tickvals=[digit * 10**power for power in range(-1, 4) for digit in (1, 2, 5)])
    split_medians = []
    for split in dict.fromkeys(summary.split for summary in summarise(results)):
        values = {
            result["layout_id"]: result[DISTANCE_KEY] for result in results_with_distance if result["split"] == split
        }.values()
        if values:
            split_medians.append(f"{split} {np.median(list(values)):.1f}")
    caption = "Whether arms still succeed in spaces unlike those trained in: 1 is as far as training spaces are from each other."
    bins_note = "Bins hold equally many episodes. Of several runs each has its own training spaces."
    definitions = f"{DESCRIPTOR_NOTE} Medians: {', '.join(split_medians)}. {bins_note}"
    columns, cells = make_rate_cells(bins, "distance")
    records = [flatten_bin(rate_bin) for rate_bin in bins]
    return ReportSection(
        "distance",
        "New spaces",
        caption + RATES_NOTE,
        [figure],
        columns,
        cells,
        records,
        definitions,
        list(assign_method_colours(results)),
    )
