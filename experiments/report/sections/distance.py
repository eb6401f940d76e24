"""Success by how far spaces are from those trained in."""

from collections.abc import Sequence
from operator import itemgetter

import numpy as np

from experiments.report.kept import DISTANCE
from experiments.report.measured import RATES_SAY, Measured, colours_of
from experiments.report.sections.bins import binned, flat_bin, rate_cells, rates_figure
from experiments.report.spaces import DESCRIPTOR_SAYS
from experiments.report.summary import Row, known, summarise


def measured(rows: Sequence[Row]) -> Measured | None:
    """Of rows that tell their distance."""
    near = [row for row in rows if known(row, DISTANCE)]
    bins = binned(near, itemgetter(DISTANCE), "distance") if near else []
    if not bins:
        return None
    figure = rates_figure(bins, colours_of(rows), "distance to the nearest training space")
    figure.update_xaxes(type="log", tickvals=[digit * 10**power for power in range(-1, 4) for digit in (1, 2, 5)])
    tiers = []
    for split in dict.fromkeys(summary.split for summary in summarise(rows)):
        values = {row["layout_id"]: row[DISTANCE] for row in near if row["split"] == split}.values()
        if values:
            tiers.append(f"{split} {np.median(list(values)):.1f}")
    says = "Whether arms still succeed in spaces unlike those trained in: 1 is as far as training spaces are from each other."
    bins_say = "Bins hold equally many episodes. Of several runs each has its own training spaces."
    how = f"{DESCRIPTOR_SAYS} Medians: {', '.join(tiers)}. {bins_say}"
    columns, cells = rate_cells(bins, "distance")
    records = [flat_bin(one) for one in bins]
    return Measured("distance", "New spaces", says + RATES_SAY, [figure], columns, cells, records, how, list(colours_of(rows)))
