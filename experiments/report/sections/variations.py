"""Success by the physics that episodes drew."""

from collections.abc import Sequence
from dataclasses import fields
from operator import itemgetter

from experiments.report.measured import RATES_SAY, Measured, colours_of
from experiments.report.plots import label
from experiments.report.sections.bins import binned, flat_bin, rate_cells, rates_figure
from experiments.report.summary import Row, known, summarise
from sim.variation import Variation


def measured(rows: Sequence[Row]) -> Measured | None:
    """Each varied quantity, in each split that varies it."""
    plots, cells, records = [], [], []
    for split in dict.fromkeys(summary.split for summary in summarise(rows)):
        own = [row for row in rows if row["split"] == split]
        drawn = {field.name: [row for row in own if known(row, field.name)] for field in fields(Variation)}
        varied = [name for name, told in drawn.items() if len({row[name] for row in told}) > 1]
        for name in varied:
            others = [_plain(other) for other in varied if other != name]
            alone = f"with {', '.join(others)}" if others else "alone"
            bins = binned(drawn[name], itemgetter(name), f"{split}: {_plain(name)}, {alone}")
            plots.append(rates_figure(bins, colours_of(rows), f"{_plain(name)}<br>{label(split)}, {alone}"))
            cells += [(*line[:1], f"{_plain(name)} {line[1]}", split, *line[2:]) for line in rate_cells(bins, "range")[1]]
            records += [flat_bin(one) for one in bins]
    if not plots:
        return None
    says = "Whether arms still succeed where the physics is not what it was."
    how = (
        "Values that episodes drew, in ranges that hold equally many. Where a split varies several, each plot is over the others."
    )
    columns = ("arm", "range", "split", "episodes", "without violation", "success")
    return Measured("variations", "Other physics", says + RATES_SAY, plots, columns, cells, records, how, list(colours_of(rows)))


def _plain(name: str) -> str:
    """A variation's name as words."""
    for unit, short in (("_kg", " [kg]"), ("_m_s", " [m/s]"), ("_steps", " [steps]")):
        name = name.replace(unit, short)
    return name.replace("_", " ")
